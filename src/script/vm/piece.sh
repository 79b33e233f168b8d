# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Staging, for X of change.sh: the bytes of a file lie in a hidden file beside
# it, .gentilityfs-TOKEN, or in the temporary directory when its own can't be
# written.
#	Pc PATH TOKEN OFFSET SIZE SUM
#			a piece of a staged file, in any order; SIZE and SUM
#			(SHA-256; "-": what takes up the whole verifies it)
#			are the piece's.  Its bytes are in _D, since a shell
#			hands long arguments on slowly: with _O=z gzipped
#			before base64, with _O=r only base64.  No records
#	Ab PATH TOKEN	remove what is staged
# Set g to the staged file for path $1 and token $2.
j() {
	d=${1%/*}
	g=$d/.gentilityfs-$2
	[ -w "${d:-/}" ] && [ -x "${d:-/}" ] || g=${TMPDIR:-/tmp}/.gentilityfs-$2
}
# Filter: base64 to bytes.  It ends the shell, as does H: for pipelines.
if h base64; then
	a() { exec base64 -d; }
elif h openssl; then
	a() { exec openssl base64 -d -A; }
elif h python3; then
	a() { exec python3 -c 'import sys,base64 as b;b.decode(sys.stdin.buffer,sys.stdout.buffer)'; }
else
	a() { exec perl -MMIME::Base64 -0777 -ne 'print decode_base64($_)'; }
fi
# Print a line that has the SHA-256 of standard input in it.
H() {
	! h sha256sum || exec sha256sum
	exec openssl dgst -sha256
}
# Has file $2 the sum $1?
Hs() {
	case $(H <"$2") in
	*"$1"*) ;;
	*) false ;;
	esac
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
	# One block, so that dd says whether all of it went there.
	_f="bs=$(($4 > 0 ? $4 : 1)) iflag=fullblock oflag=seek_bytes"
	_f="$_f conv=notrunc"
	# shellcheck disable=SC2086 # several words
	case $_O in
	z) o=$(printf %s "$_D" | a | gzip -dc |
	    dd $_f seek="$3" of="$g" 2>&1) ;;
	*) o=$(printf %s "$_D" | a | dd $_f seek="$3" of="$g" 2>&1) ;;
	esac || To "$o"
	if [ "$5" = - ]; then
		case $4/$o in
		0/* | *[!0-9]'1+0 records out'*) false ;;
		*' records out'*) ;;
		*) [ "$e" != OK ] ;;
		esac
	else
		case $(dd if="$g" bs=65536 iflag=skip_bytes,count_bytes \
		    skip="$3" count="$4" | H) in
		*"$5"*) false ;;
		esac
	fi && {
		[ "$e" != OK ] || e=EIO
		O "$4" || e=ENOSPC
	}
	p=
}
Ab() {
	rm -f "${1%/*}/.gentilityfs-$2" "${TMPDIR:-/tmp}/.gentilityfs-$2"
}
