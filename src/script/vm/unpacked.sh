# shellcheck shell=sh disable=SC2154 # they are set before
# Has toolkit the whole text, length bytes?  If not, nothing here can unpack it,
# and nothing is done but to print the mark "none N", on a line of its own.
[ ${#toolkit} = "$length" ] || {
	printf '\n%s%s %s>\n' '<gfs-' none "$nonce"
	exit
}
