# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Staging, for change of change.sh: the bytes of a file lie in a hidden file
# beside it, .gentilityfs-TOKEN, or in the temporary directory when its own
# can't be written.
#	stage_piece PATH TOKEN OFFSET SIZE SUM
#		a piece of a staged file, in any order; SIZE and SUM (SHA-256;
#		"-": what takes up the whole verifies it) are the piece's.
#		Its bytes are in piece_data, since a shell hands long
#		arguments on slowly: with data_form=z gzipped before base64,
#		with data_form=r only base64.  No records
#	drop_staged PATH TOKEN
#		remove what is staged
# Set staged to the staged file for path $1 and token $2.
find_staged() {
	directory=${1%/*}
	staged=$directory/.gentilityfs-$2
	[ -w "${directory:-/}" ] && [ -x "${directory:-/}" ] || staged=${TMPDIR:-/tmp}/.gentilityfs-$2
}
# Filter: base64 to bytes.  It ends the shell, as does sum_of: for pipelines.
if has base64; then
	decode() { exec base64 -d; }
elif has openssl; then
	decode() { exec openssl base64 -d -A; }
elif has python3; then
	decode() { exec python3 -c 'import sys,base64 as b;b.decode(sys.stdin.buffer,sys.stdout.buffer)'; }
else
	decode() { exec perl -MMIME::Base64 -0777 -ne 'print decode_base64($_)'; }
fi
# Print a line that has the SHA-256 of standard input in it.
sum_of() {
	! has sha256sum || exec sha256sum
	exec openssl dgst -sha256
}
# Has file $2 the sum $1?
has_sum() {
	case $(sum_of <"$2") in
	*"$1"*) ;;
	*) false ;;
	esac
}
# Is there space for $1 more bytes beside the target?
has_space() {
	[ "$1" -gt 0 ] || return 0
	directory=${path%/*}
	# shellcheck disable=SC2046 # three words: available, free, unit
	set -- "$1" $(stat -f -c '%a %f %S' "${directory:-/}")
	[ $# = 4 ] || return 0
	[ $(($2 * $4)) -ge "$1" ] ||
	    { [ "$(id -u)" = 0 ] && [ $(($3 * $4)) -ge "$1" ]; }
}
stage_piece() {
	find_staged "$1" "$2"
	# One block, so that dd says whether all of it went there.
	item="bs=$(($4 > 0 ? $4 : 1)) iflag=fullblock oflag=seek_bytes"
	item="$item conv=notrunc"
	# shellcheck disable=SC2086 # several words
	case $data_form in
	z) said=$(printf %s "$piece_data" | decode | gzip -dc |
	    dd $item seek="$3" of="$staged" 2>&1) ;;
	*) said=$(printf %s "$piece_data" | decode | dd $item seek="$3" of="$staged" 2>&1) ;;
	esac || redirect_error "$said"
	if [ "$5" = - ]; then
		case $4/$said in
		0/* | *[!0-9]'1+0 records out'*) false ;;
		*' records out'*) ;;
		*) [ "$error" != OK ] ;;
		esac
	else
		case $(dd if="$staged" bs=65536 iflag=skip_bytes,count_bytes \
		    skip="$3" count="$4" | sum_of) in
		*"$5"*) false ;;
		esac
	fi && {
		[ "$error" != OK ] || error=EIO
		has_space "$4" || error=ENOSPC
	}
	path=
}
drop_staged() {
	rm -f "${1%/*}/.gentilityfs-$2" "${TMPDIR:-/tmp}/.gentilityfs-$2"
}
