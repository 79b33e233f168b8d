# shellcheck shell=sh disable=SC2034 # error is for the callers
# What every command begins with: a known environment, and how an error is
# named.  Defines
#	has TOOL
#		is there such a tool?
#	text_error TEXT
#		set error to the name of the errno that a tool's message means
#	path_error PATH
#		set error to the name of the errno with which lstat(2) of PATH
#		fails
set +exuvC -f
unset CDPATH GZIP POSIXLY_CORRECT IFS
# A function that some profile exports must not stand in for a tool.
unset -f cd find gzip base64 stat printf tr dd cat
PATH=${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The frame's length counts bytes; GNU stat would quote names otherwise.
export PATH LC_ALL=C TZ=UTC0 QUOTING_STYLE=literal
umask 077
exec 2>/dev/null </dev/null
has() { command -v "$1" >/dev/null; }
# glibc's and musl's words, and the shells' own for ENOENT.  Only what follows
# the last ": " counts, since what is before may be a name.
text_error() {
	case ${1##*: } in
	'No such file'* | *onexistent*) error=ENOENT ;;
	'Permission d'*) error=EACCES ;;
	'Not a dir'*) error=ENOTDIR ;;
	'Operation not permitted'*) error=EPERM ;;
	*'ame too long'*) error=ENAMETOOLONG ;;
	'Too many levels'* | *'link loop'*) error=ELOOP ;;
	'Stale '*) error=ESTALE ;;
	*' not connected'*) error=ENOTCONN ;;
	'No space'*) error=ENOSPC ;;
	*'uota exceeded'*) error=EDQUOT ;;
	'Read-only'*) error=EROFS ;;
	'File exists'*) error=EEXIST ;;
	'Directory not empty'*) error=ENOTEMPTY ;;
	'Is a directory'*) error=EISDIR ;;
	'Text file busy'*) error=ETXTBSY ;;
	*' busy'*) error=EBUSY ;;
	'File too large'*) error=EFBIG ;;
	'Too many links'*) error=EMLINK ;;
	'Invalid arg'*) error=EINVAL ;;
	*'ross-device'*) error=EXDEV ;;
	*'not supported'* | 'Not supported'* | 'Function not impl'*) error=ENOTSUP ;;
	*) error=EIO ;;
	esac
}
path_error() {
	error=ENAMETOOLONG so_far='' rest=${1#/}
	[ ${#1} -lt 4096 ] || return 0
	while :; do
		component=${rest%%/*}
		[ ${#component} -lt 256 ] || return 0
		so_far=$so_far/$component
		case $rest in
		*/*) rest=${rest#*/} ;;
		*) break ;;
		esac
		if [ -d "$so_far" ]; then
			# Not -x: some shells go by the mode, also for root.
			[ -e "$so_far/." ] || { error=EACCES; return; }
		elif [ -e "$so_far" ]; then
			error=ENOTDIR
			return
		else
			text_error "$(stat -L "$so_far" 2>&1 >/dev/null)"
			return
		fi
	done
	# It may have come into being since.
	error=ENOENT
	message=$(stat "$1" 2>&1 >/dev/null) || text_error "$message"
}
