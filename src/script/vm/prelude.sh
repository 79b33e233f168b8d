# shellcheck shell=sh disable=SC2034 # e is for the callers of T and E
# What every command begins with: a known environment, and how an error is
# named.  Defines
#	h TOOL	is there such a tool?
#	T TEXT	set e to the name of the errno that a tool's message means
#	E PATH	set e to the name of the errno with which lstat(2) of PATH fails
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
