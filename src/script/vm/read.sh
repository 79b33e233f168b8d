# shellcheck shell=sh disable=SC2154
# read_part PATH OFFSET LENGTH LEND: part of a regular file.  LENGTH "all": all
# there is, at most 16 MiB, for files whose size lies (/proc).  LEND 1: its mode
# has come to deny reading it, though not to who opened it before; its owner
# grants it to himself until it is read, which changes the ctime.  Prints
#	"#0 OK K\0" RECORD "\0" DATA "\0" RECORD
# with the file's records before and after (show_attributes), or "#0 ERRNO\0";
# an error found out later stands as "!ERRNO" instead of the second record.
read_part() {
	error=
	if [ -L "$1" ]; then
		error=ESTALE
	elif [ -d "$1" ]; then
		error=EISDIR
	elif [ ! -e "$1" ]; then
		path_error "$1"
	elif [ ! -f "$1" ]; then
		error=EINVAL
	elif [ "$4" = 1 ] && [ -O "$1" ]; then
		lent_file=$1
		trap 'chmod u-r "$lent_file"; exit 1' HUP INT TERM
		chmod u+r "$1"
	elif [ ! -r "$1" ]; then
		error=EACCES
	fi
	[ -z "$error" ] || { printf '#0 %s\0' "$error"; return; }
	printf '#0 OK %s\0' "$kind"
	show_attributes "$1"
	printf '\0'
	if [ "$3" = all ]; then
		# Some files of /proc never end: what came in time is it.
		# (busybox's timeout holds the pipe open for a second.)
		limit=
		[ "$kind" = B ] || ! has timeout || limit='timeout 10'
		# shellcheck disable=SC2086 # two words or none
		result=$( { { $limit cat "$1" 2>&4; echo "+$?" >&4; } |
		    head -c 16777216 >&3; } 4>&1)
		# Killed: by timeout, or by head when it had enough.
		case ${result##*+} in
		0 | 124 | 137 | 141 | 143) ;;
		*) text_error "${result%+*}" ;;
		esac
	else
		message=$(dd if="$1" bs=131072 iflag=skip_bytes,count_bytes \
		    skip="$2" count="$3" 2>&1 >&3) || text_error "$message"
	fi 3>&1
	[ "$4" != 1 ] || [ ! -O "$1" ] || chmod u-r "$1"
	trap - HUP INT TERM
	printf '\0'
	if [ -n "$error" ]; then
		printf '!%s' "$error"
	else
		show_attributes "$1" || printf '!ENOENT'
	fi
}
