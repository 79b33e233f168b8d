# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh, write.sh
# Parts of existing files, for X of change.sh; with piece.sh and write.sh.
#	Rg PATH EXPECT NEWSIZE TOKEN SIZE SUM FORM DATA OFFSET LENGTH...
#		change these ranges in place, then set the size; DATA is all
#		ranges one after another, SIZE and SUM are its own.  EXPECT is
#		"INO SIZE MTIME" of the version that is changed (yy below), or
#		what that begins with;
#		when it is another by now: ESTALE, unless the result stands
#	Sp PATH EXPECT NEWSIZE TOKEN SIZE SUM OFFSET LENGTH...
#		the same with the staged file (piece.sh) for DATA; EAGAIN: not
#		all of it is there
#	Ap PATH OLDSIZE TOKEN SIZE SUM FORM DATA
#		add to the end, whatever the size is now; the number in the
#		answer is the offset.  OLDSIZE is not used
#	Cp FROM TO OFFSET TO-OFFSET LENGTH
#		copy bytes inside the VM; the number in the answer is how many
#		FROM had
yy() {
	if [ "$K" = G ]; then
		$_x find "$1" -maxdepth 0 -printf '%i %s %T@'
	else
		$_x stat -c '%i %s %y' "$1"
	fi
}
# The target must be a file that can be written.
Wf() {
	if ! x "$1"; then
		E "$1"
	elif [ -L "$1" ]; then
		e=ESTALE
	elif [ -d "$1" ]; then
		e=EISDIR
	elif [ ! -f "$1" ]; then
		e=EINVAL
	else
		W "$1"
	fi
	[ "$e" = OK ]
}
# Print these ranges of the target, and end the shell.
Rr() {
	while [ $# -gt 3 ]; do
		dd if="$p" bs=65536 iflag=skip_bytes,count_bytes skip="$1" \
		    count="$2"
		shift 2
	done
	[ $# -lt 2 ] || exec dd if="$p" bs=65536 skip="$1" count="$2" \
	    iflag=skip_bytes,count_bytes
}
# Have they the sum S?
Rs() {
	case $(Rr "$@" | H) in
	*"$S"*) ;;
	*) false ;;
	esac
}
# Is the target's size $1?
Rl() { [ "$(stat -L -c %s "$p")" -eq "$1" ]; }
# Write the ranges out of the staged file.
Rw() {
	_z=0
	while [ $# -gt 1 ]; do
		o=$(dd if="$g" of="$p" bs=65536 skip="$_z" count="$2" \
		    iflag=skip_bytes,count_bytes seek="$1" \
		    oflag=seek_bytes conv=notrunc 2>&1) || {
			T "$o"
			return
		}
		_z=$((_z + $2))
		shift 2
	done
}
# The staged bytes into the ranges: X, M, G, Z and S are EXPECT, NEWSIZE,
# TOKEN, SIZE and SUM.
Rp() {
	case $(_x='exec'; yy "$p") in
	"$X"*) _f=1 ;;
	*) _f='' ;;
	esac
	if [ -z "$_f" ] && Rl "$M" && Rs "$@"; then
		:
	elif [ -z "$_f" ] && [ ! -s "$t/$G" ]; then
		e=ESTALE
	elif ! O "$Z"; then
		e=ENOSPC
	else
		# From here on a repeat goes on where this one stopped.
		N "$G" begun
		Rw "$@"
		[ "$e" != OK ] || Rl "$M" || {
			Tr "$p" "$M"
			[ "$e" != OK ] || Rl "$M" || e=EIO
		}
		[ "$e" != OK ] || [ ! -r "$p" ] || Rs "$@" || e=EIO
	fi
}
Rg() {
	Wf "$1" || return
	j "$1" "$4"
	g=$g.$$
	X=$2 M=$3 G=$4 Z=$5 S=$6
	Y "$7" "$8" "$5" "$6" || return
	shift 8
	Rp "$@"
	rr "$g"
}
Sp() {
	Wf "$1" || return
	j "$1" "$4"
	X=$2 M=$3 G=$4 Z=$5 S=$6
	[ -f "$g" ] && Hs "$6" "$g" && _v=1 || _v=0
	shift 6
	if [ "$_v" = 1 ]; then
		Rp "$@"
	elif ! Rl "$M" || ! Rs "$@"; then
		e=EAGAIN
	fi
	# It is wanted again when another version was met.
	[ "$e" != OK ] || rr "$g"
}
# Size $1 was added at y, or later if others wrote meanwhile; who has cut the
# file meanwhile is not our error.
Al() {
	[ -r "$p" ] || return 0
	! Rs "$y" "$1" || return
	o=$(stat -L -c %s "$p")
	if Rs $((o - $1)) "$1"; then
		y=$((o - $1))
	elif [ "$o" -eq $((y + $1)) ]; then
		e=EIO
	fi
}
# Of size $1 not all could be added: take away what was, unless others' bytes
# follow, or another run of the same was here.
Ax() {
	case $(nn "$G") in
	*done*) return ;;
	esac
	rm -f "$t/$G"
	o=$(($(stat -L -c %s "$p") - y))
	if [ "$o" -gt 0 ] && [ "$o" -lt "$1" ] && [ "$(Rr "$y" "$o" | H)" = \
	    "$(dd if="$g" bs=65536 iflag=count_bytes count="$o" | H)" ]; then
		dd of="$p" bs=1 seek="$y" count=0
	fi
}
Ap() {
	Wf "$1" || return
	j "$1" "$3"
	G=$3 S=$5
	g=$g.$$
	y=$(stat -L -c %s "$1")
	[ -d "$t" ] || mkdir "$t"
	# The offset as evidence, made by one run only; "done" follows.
	_v=0
	if [ -O "$t" ] && [ ! -L "$t" ]; then
		set -C
		printf '%s ' "$y" >"$t/$3" || _v=1
		set +C
	fi
	if [ "$_v" = 1 ] && [ -e "$t/$3" ]; then
		for _f in 1 2 3 4 5 6 7 8 9 10; do
			o=$(nn "$3")
			y=${o%% *}
			case $o in
			*done*) return ;;
			esac
			! Rs "$y" "$4" || return
			# The other run may be at it.
			sleep 0.3 || sleep 1
		done
		y=$(stat -L -c %s "$1")
	fi
	if ! Y "$6" "$7" "$4" "$5"; then
		rm -f "$t/$3"
	elif O "$4"; then
		if o=$(cat "$g" 2>&1 >>"$1"); then
			Al "$4"
		else
			T "$o"
			Ax "$4"
		fi
		[ "$e" != OK ] || N "$3" "done"
	else
		e=ENOSPC
		rm -f "$t/$3"
	fi
	rr "$g"
}
Cp() {
	q=$2
	if [ ! -f "$1" ] || [ -L "$1" ]; then
		e=EINVAL
		x "$1" || E "$1"
		return
	elif [ ! -r "$1" ]; then
		e=EACCES
		return
	fi
	p=$2
	if Wf "$2"; then
		p=$1
		y=$(($(stat -L -c %s "$1") - $3))
		[ "$y" -lt "$5" ] || y=$5
		[ "$y" -gt 0 ] || y=0
		m dd if="$1" of="$2" bs=1048576 skip="$3" seek="$4" \
		    count="$y" iflag=skip_bytes,count_bytes \
		    oflag=seek_bytes conv=notrunc
	fi
	p=$1
}
