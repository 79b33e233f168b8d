# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Staging, for X of change.sh: the bytes of a file lie in a hidden file beside
# it, .gentilityfs-TOKEN, or in the temporary directory when its own can't be
# written.
#	Pc PATH TOKEN OFFSET SIZE SUM FORM DATA
#			a piece of a staged file, in any order; SIZE and SUM
#			(SHA-256) are the piece's.  FORM z: DATA is gzipped
#			before base64, r: only base64
#	Ab PATH TOKEN	remove what is staged
# Set g to the staged file for path $1 and token $2.
j() {
	d=${1%/*}
	g=$d/.gentilityfs-$2
	[ -w "${d:-/}" ] && [ -x "${d:-/}" ] || g=${TMPDIR:-/tmp}/.gentilityfs-$2
}
# Decode $2 of form $1.
a() {
	printf %s "$2" | if h base64; then
		base64 -d
	elif h openssl; then
		openssl base64 -d -A
	elif h python3; then
		python3 -c 'import sys,base64 as b;b.decode(sys.stdin.buffer,sys.stdout.buffer)'
	else
		perl -MMIME::Base64 -0777 -ne 'print decode_base64($_)'
	fi | case $1 in
	z) gzip -dc ;;
	*) cat ;;
	esac
}
# SHA-256 of standard input.
H() {
	if h sha256sum; then
		o=$(sha256sum)
		o=${o%% *}
	else
		o=$(openssl dgst -sha256)
		o=${o##* }
	fi
	printf %s "$o"
}
# Is there space for $1 more bytes beside the target?
O() {
	[ "$1" -gt 0 ] || return 0
	d=${p%/*}
	# shellcheck disable=SC2046 # three words: available, free, unit
	set -- "$1" $(stat -f -c '%a %f %S' "${d:-/}")
	[ $# = 4 ] || return 0
	[ $(($2 * $4)) -ge "$1" ] ||
	    { [ "$(id -u)" = 0 ] && [ $(($3 * $4)) -ge "$1" ]; }
}
Pc() {
	j "$1" "$2"
	o=$( { a "$6" "$7" | dd of="$g" bs=65536 seek="$3" oflag=seek_bytes \
	    conv=notrunc; } 2>&1) || To "$o"
	[ "$(dd if="$g" bs=65536 iflag=skip_bytes,count_bytes skip="$3" \
	    count="$4" | H)" = "$5" ] || {
		[ "$e" != OK ] || e=EIO
		O "$4" || e=ENOSPC
	}
}
Ab() {
	rm -f "${1%/*}/.gentilityfs-$2" "${TMPDIR:-/tmp}/.gentilityfs-$2"
}
