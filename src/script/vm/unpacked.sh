# shellcheck shell=sh disable=SC2154 # k, L and N are set before
# Is k the whole toolkit, L bytes long?  If not, nothing here can unpack it, and
# nothing is done but to print the mark "none N", on a line of its own.
[ ${#k} = "$L" ] || {
	printf '\n%s%s %s>\n' '<gfs-' none "$N"
	exit
}
