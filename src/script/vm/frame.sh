# shellcheck shell=sh
# How what a command says is sent: as one frame.  Defines
#	z	filter: gzip, or cat when there is none
#	b	filter: base64; prints "!" when no tool can do it
#		(both end the shell that they run in: for pipelines)
#	P ID SMALL	run the function I, print what it prints as one frame:
#		newline, mark "begin ID", newline, base64(gzip(output)), newline,
#		mark "end ID LENGTH>", newline; "!" stands for the base64 when
#		nothing here can make any.  LENGTH: of the base64 as printed.
#		SMALL is not empty: without gzip
# The marks are put together by printf, so that this text itself, echoed by a
# shell with -v, never looks like a frame.
if h gzip; then
	z() { exec gzip -1c; }
else
	z() { exec cat; }
fi
if h base64; then
	b() { exec base64; }
elif h openssl; then
	b() { exec openssl base64; }
elif h python3; then
	b() { exec python3 -c 'import sys,base64 as b;b.encode(sys.stdin.buffer,sys.stdout.buffer)'; }
elif h perl; then
	b() { exec perl -MMIME::Base64 -0777 -ne 'print encode_base64($_)'; }
else
	b() { printf '!'; }
fi
P() {
	if [ -n "$2" ]; then
		o=$(I | b)
	else
		o=$(I | z | b)
	fi
	printf '\n%s%s %s\n%s\n%s%s %s %s>\n' '<gfs-' begin "$1" "$o" \
	    '<gfs-' end "$1" "${#o}"
}
