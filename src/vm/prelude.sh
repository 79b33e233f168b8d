# shellcheck shell=sh disable=SC2034 # e is for the callers of T and E
# What every command begins with: a known environment, the coders of the
# frame, and how an error is named.  Defines
#	z	filter: gzip, or cat when there is none
#	b	filter: base64; prints "!" when no tool can do it
#		(both end the shell that they run in: for pipelines)
#	T TEXT	set e to the name of the errno that a tool's message means
#	E PATH	set e to the name of the errno with which lstat(2) of PATH fails
#	P ID SMALL	run the function I, print what it prints as one frame:
#		newline, mark "begin ID", newline, base64(gzip(output)), newline,
#		mark "end ID LENGTH>", newline; "!" stands for the base64 when
#		nothing here can make any.  LENGTH: of the base64 as printed.
#		SMALL is not empty: without gzip
# The marks are put together by printf, so that this text itself, echoed by a
# shell with -v, never looks like a frame.
set +exuvC -f
unset CDPATH GZIP POSIXLY_CORRECT IFS
# A function that some profile exports must not stand in for a tool.
unset -f cd find gzip base64 stat printf tr dd cat
PATH=${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The frame's length counts bytes; GNU stat would quote names otherwise.
export PATH LC_ALL=C TZ=UTC0 QUOTING_STYLE=literal
umask 077
exec 2>/dev/null </dev/null
h() { command -v "$1" >/dev/null; }
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
# glibc's and musl's words, and the shells' own for ENOENT.  Only what follows the last ": " counts, since
# what is before may be a name.
T() {
	case ${1##*: } in
	'No such file'* | *onexistent*) e=ENOENT ;;
	'Permission d'*) e=EACCES ;;
	'Not a dir'*) e=ENOTDIR ;;
	'Operation not permitted'*) e=EPERM ;;
	*'ame too long'*) e=ENAMETOOLONG ;;
	'Too many levels'* | *'link loop'*) e=ELOOP ;;
	'Stale '*) e=ESTALE ;;
	*' not connected'*) e=ENOTCONN ;;
	'No space'*) e=ENOSPC ;;
	*'uota exceeded'*) e=EDQUOT ;;
	'Read-only'*) e=EROFS ;;
	'File exists'*) e=EEXIST ;;
	'Directory not empty'*) e=ENOTEMPTY ;;
	'Is a directory'*) e=EISDIR ;;
	'Text file busy'*) e=ETXTBSY ;;
	*' busy'*) e=EBUSY ;;
	'File too large'*) e=EFBIG ;;
	'Too many links'*) e=EMLINK ;;
	'Invalid arg'*) e=EINVAL ;;
	*'ross-device'*) e=EXDEV ;;
	*'not supported'* | 'Not supported'* | 'Function not impl'*) e=ENOTSUP ;;
	*) e=EIO ;;
	esac
}
E() {
	e=ENAMETOOLONG _q='' _r=${1#/}
	[ ${#1} -lt 4096 ] || return 0
	while :; do
		_c=${_r%%/*}
		[ ${#_c} -lt 256 ] || return 0
		_q=$_q/$_c
		case $_r in
		*/*) _r=${_r#*/} ;;
		*) break ;;
		esac
		if [ -d "$_q" ]; then
			# Not -x: some shells go by the mode, also for root.
			[ -e "$_q/." ] || { e=EACCES; return; }
		elif [ -e "$_q" ]; then
			e=ENOTDIR
			return
		else
			T "$(stat -L "$_q" 2>&1 >/dev/null)"
			return
		fi
	done
	# It may have come into being since.
	e=ENOENT
	_m=$(stat "$1" 2>&1 >/dev/null) || T "$_m"
}
P() {
	if [ -n "$2" ]; then
		o=$(I | b)
	else
		o=$(I | z | b)
	fi
	printf '\n%s%s %s\n%s\n%s%s %s %s>\n' '<gfs-' begin "$1" "$o" \
	    '<gfs-' end "$1" "${#o}"
}
