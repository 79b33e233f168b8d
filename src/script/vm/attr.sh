# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Changes of attributes, for X of change.sh; the last component is never
# followed.
#	Cm PATH MODE		five octal digits: GNU chmod keeps a directory's
#				setgid bit otherwise
#	Co PATH OWNER		UID:GID, UID or :GID
#	Ut PATH ATIME MTIME	now, omit, or seconds with nine digits after
#				the point
#	Tr PATH SIZE
Cm() {
	if [ -L "$1" ]; then
		e=ENOTSUP
	else
		m chmod "$2" "$1"
	fi
}
Co() {
	[ "$2" = : ] || m chown -h "$2" "$1"
}
# One time, or both; $1: "", a or m.
M() {
	case $2 in
	omit) ;;
	now) m touch -hc"$1" "$p" ;;
	*) m touch -hc"$1" -d "@$2" "$p" ;;
	esac
}
# Both times, by a touch that knows fractions.
Uf() {
	if [ "$2" = "$3" ]; then
		M '' "$2"
	else
		M a "$2" && M m "$3"
	fi
}
# Are they whole seconds?  (But busybox takes -1 for an error.)
Uw() {
	for _f; do
		case $_f in
		-1.0*) return 1 ;;
		*.000000000 | now | omit) ;;
		*) return 1 ;;
		esac
	done
}
Ut() {
	x "$1" || {
		E "$1"
		return
	}
	if [ "$K" = G ]; then
		# Its touch is another one's, maybe.
		Uf "$@" || touch -cd @0.5 /.gentilityfs-none || e=NO
		[ "$e" = NO ] || return 0
		e=OK
	fi
	if ! Uw "$2" "$3"; then
		if [ "$K" = B ] && touch -cd @0.5 /.gentilityfs-none; then
			Uf "$@"
			return
		elif h python3; then
			m python3 -c 'import os,sys,time;from decimal import Decimal as D;sys.excepthook=lambda t,e,b:sys.stderr.write(": "+(getattr(e,"strerror",0)or"?"));p,a,m=sys.argv[1:];s=os.lstat(p);f=lambda x,o:o if x=="omit" else time.time_ns() if x=="now" else int(D(x)*10**9);os.utime(p,ns=(f(a,s.st_atime_ns),f(m,s.st_mtime_ns)),follow_symlinks=False)' "$1" "$2" "$3"
			return
		fi
		w=$((w | 1))
	fi
	# Towards the past, as all file systems do it.
	_t=
	for _f in "$2" "$3"; do
		case $_f in
		-*.000000000) _f=${_f%.*} ;;
		-*) _f=$((${_f%.*} - 1)) ;;
		*) _f=${_f%.*} ;;
		esac
		[ "$_f" != -1 ] || _f=0
		_t="$_t $_f"
	done
	# shellcheck disable=SC2086 # two words
	Uf "$1" $_t
}
Tr() {
	if ! x "$1"; then
		E "$1"
	elif r "$1"; then
		e=EISDIR
	elif [ ! -f "$1" ] || [ -L "$1" ]; then
		e=EINVAL
	elif h truncate; then
		m truncate -c -s "$2" "$1"
	else
		m dd of="$1" bs=1 seek="$2" count=0
	fi
}
