# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Changes of attributes, for change of change.sh; the last component is never
# followed.
#	set_mode PATH MODE
#		five octal digits: GNU chmod keeps a directory's setgid bit
#		otherwise
#	set_owner PATH OWNER
#		UID:GID, UID or :GID
#	set_times PATH ATIME MTIME
#		now, omit, or seconds with nine digits after the point
#	set_size PATH SIZE
set_mode() {
	if [ -L "$1" ]; then
		error=ENOTSUP
	else
		try chmod "$2" "$1"
	fi
}
set_owner() {
	[ "$2" = : ] || try chown -h "$2" "$1"
}
# One time, or both; $1: "", a or m.
set_time() {
	case $2 in
	omit) ;;
	now) try touch -hc"$1" "$path" ;;
	*) try touch -hc"$1" -d "@$2" "$path" ;;
	esac
}
# Both times, by a touch that knows fractions.
touch_exactly() {
	if [ "$2" = "$3" ]; then
		set_time '' "$2"
	else
		set_time a "$2" && set_time m "$3"
	fi
}
# Are they whole seconds?  (But busybox takes -1 for an error.)
are_whole() {
	for item; do
		case $item in
		-1.0*) return 1 ;;
		*.000000000 | now | omit) ;;
		*) return 1 ;;
		esac
	done
}
set_times() {
	exists "$1" || {
		path_error "$1"
		return
	}
	if [ "$kind" = G ]; then
		# Its touch is another one's, maybe.
		touch_exactly "$@" || touch -cd @0.5 /.gentilityfs-none || error=NO
		[ "$error" = NO ] || return 0
		error=OK
	fi
	if ! are_whole "$2" "$3"; then
		if [ "$kind" = B ] && touch -cd @0.5 /.gentilityfs-none; then
			touch_exactly "$@"
			return
		elif has python3; then
			try python3 -c 'import os,sys,time;from decimal import Decimal as D;sys.excepthook=lambda t,e,b:sys.stderr.write(": "+(getattr(e,"strerror",0)or"?"));p,a,m=sys.argv[1:];s=os.lstat(p);f=lambda x,o:o if x=="omit" else time.time_ns() if x=="now" else int(D(x)*10**9);os.utime(p,ns=(f(a,s.st_atime_ns),f(m,s.st_mtime_ns)),follow_symlinks=False)' "$1" "$2" "$3"
			return
		fi
		flags=$((flags | 1))
	fi
	# Towards the past, as all file systems do it.
	times=
	for item in "$2" "$3"; do
		case $item in
		-*.000000000) item=${item%.*} ;;
		-*) item=$((${item%.*} - 1)) ;;
		*) item=${item%.*} ;;
		esac
		[ "$item" != -1 ] || item=0
		times="$times $item"
	done
	# shellcheck disable=SC2086 # two words
	touch_exactly "$1" $times
}
set_size() {
	if ! exists "$1"; then
		path_error "$1"
	elif is_directory "$1"; then
		error=EISDIR
	elif [ ! -f "$1" ] || [ -L "$1" ]; then
		error=EINVAL
	elif has truncate; then
		try truncate -c -s "$2" "$1"
	else
		try dd of="$1" bs=1 seek="$2" count=0
	fi
}
