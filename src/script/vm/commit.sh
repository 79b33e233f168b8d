# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# More of write.sh, for X of change.sh.
#	Cr PATH HOW MODE TOKEN OWNER	a new empty file
#	Ct PATH HOW MODE TOKEN SIZE SUM ATIME MTIME OWNER SPACE PARTS
#				the staged file is complete: as Wr from there;
#				EAGAIN: not all pieces are there.  SUM may be
#				"-": each piece was verified, and outside of
#				PARTS (offsets and lengths) all is a hole; "+":
#				all of it is one
#	Cl PATH			remove what is older than an hour, of PATH (a
#				directory) and of the temporary directory; what
#				may be open somewhere once it is a week old
Cr() {
	j "$1" "$4"
	g=$g.$$
	if [ "$2" = c ] && [ -f "$1" ] && [ ! -L "$1" ]; then
		return
	elif [ "$2" = x ] && Ev "$4" "$1"; then
		return
	fi
	_s=0 _b=0 _h=''
	! Yo "$3" || In "$1" "$2" "$3" "$4"
	[ "$e" != OK ] || [ -z "$5" ] || m chown -h "$5" "$1" || rm -f "$1"
	rr "$g"
}
# Is what is staged complete?  Sets e when not.
Cs() {
	case $2 in
	+) Yo "$3" || return ;;
	-) [ -f "$g" ] ;;
	*) [ -f "$g" ] && Hs "$2" "$g" ;;
	esac || {
		e=EAGAIN
		return
	}
	[ -n "$_h" ] || return 0
	m dd of="$g" bs=1 seek="$1" count=0 || return
	# Holes take no space.
	o=$(stat -c %b "$g")
	_s=$((${o:-0} * 512))
}
Ct() {
	j "$1" "$4"
	_y='' _h='' _s=$5 _b=${10} _n=$5 _l=${11}
	case $6 in
	[-+]) _h=1 ;;
	esac
	if [ "$A" = 0 ] || ! B "$1" "$2" "$4" "$5" "$6"; then
		Cs "$5" "$6" "$3" && [ "$e" = OK ] && In "$1" "$2" "$3" "$4"
	fi
	Fn "$@"
	# Else it stays for the next attempt.
	[ "$e" != OK ] || rr "$g"
}
Cl() {
	[ -L "$t" ] || [ ! -O "$t" ] ||
	    find "$t" -type f -mmin +60 -exec rm -f {} +
	# Only files that are ours by name and owner.
	for _f in "$1" "${TMPDIR:-/tmp}"; do
		find "$_f" -mindepth 1 -maxdepth 1 -type f \
		    -name '.gentilityfs-[0-9a-f][0-9a-f]*' -user "$u" \
		    -mmin +60 -exec rm -f {} +
		find "$_f" -mindepth 1 -maxdepth 1 -type f \
		    -name '.gentilityfs-open-*' -user "$u" \
		    -ctime +6 -exec rm -f {} +
	done
}
