# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Changes of names, for X of change.sh.  UMASK makes the new mode out of the
# tool's default; MODE is set besides, if it is not empty.
# OWNER: UID:GID, or empty.
#	Md PATH UMASK MODE OWNER	mkdir
#	Rd PATH			rmdir
#	Ul PATH KEEP		unlink; KEEP: a name that is new in the same
#				directory, which a file gets that is open, or
#				empty
#	Mv FROM TO INO FLAG KEEP	rename; INO: of the source as the driver
#				knows it, for repeats; FLAG n: TO must not
#				exist; KEEP: as above, for what TO was
#	Sl PATH TARGET OWNER	symlink
#	Ln FROM TO		link
#	Nd PATH UMASK MODE TYPE MAJOR MINOR OWNER	mknod; without numbers:
#				p, a fifo; s, a socket
# Is it what a first run has made: our own, or already given to its owner?
Mo() {
	[ -O "$1" ] || [ "$(stat -c %u:%g "$1")" = "$2" ]
}
# Owner and mode of something just made, which goes if it can't have them.
Mf() {
	[ "$e" = OK ] || return
	# The owner first: it clears setuid.
	{ [ -z "$2" ] || m chown -h "$2" "$1"; } &&
	    { [ -z "$3" ] || m chmod "$3" "$1"; } && return
	if r "$1"; then
		rmdir "$1"
	else
		rm -f "$1"
	fi
}
Md() {
	U=$2
	m mkdir "$1" || ! R EEXIST || ! r "$1" || ! Mo "$1" "$4" ||
	    ! k "$1" || e=OK
	Mf "$1" "$4" "$3"
}
Rd() {
	m rmdir "$1" || ! R ENOENT || e=OK
}
Ul() {
	# Without -f, so that a missing one is an error; it never asks, since
	# standard input is no terminal.
	if r "$1"; then
		e=EISDIR
	elif [ -n "$2" ]; then
		_K=${1%/*}/$2
		m mv -fT "$1" "$_K" || ! R ENOENT || e=OK
	else
		m rm "$1" || ! R ENOENT || e=OK
	fi
}
Mv() {
	q=$2
	if [ -n "$5" ]; then
		_K=${2%/*}/$5
		if [ "$A" = 1 ] && [ -e "$_K" ]; then
			: # by the first run
		elif ! x "$1" || r "$1" || [ -L "$2" ] || [ ! -f "$2" ]; then
			_K='' # it fails, or what is there is no file
		else
			Mk "$2" || return
		fi
	fi
	Mw "$@"
	# Another run of the same may have been faster.
	if R ENOENT; then
		G=$(i "$2")
		[ "${G#*:}" != "$3" ] || e=OK
	fi
	[ -z "$_K" ] || { [ "$e" = OK ] && [ "$F" != "$G" ]; } || Mn "$2"
}
# Keep the file under _K, too: with one name more, so that it is never without
# one; where that can't be had (a file system without hard links, another
# user's file), with this name instead.
Mk() {
	m ln -T "$1" "$_K" && return
	case $e in
	EPERM | ENOTSUP | EMLINK)
		e=OK
		m mv -fT "$1" "$_K" ;;
	*) false ;;
	esac
}
# Nothing was renamed: not kept, either.
Mn() {
	if x "$1"; then
		rm -f "$_K"
	else
		mv -fT "$_K" "$1"
	fi
}
# Set F, G and C to device and inode of $1, $2 and D, or nothing; $3 and what
# follows are those of the ones that exist.
Ms() {
	_f=$1 _t=$2
	shift 2
	[ $# -eq $((${#F} + ${#G} + ${#C})) ] || {
		# One came or went in that moment.
		F=$(i "$_f") G=$(i "$_t") C=$(i "$D/.")
		return
	}
	[ -z "$F" ] || { F=$1; shift; }
	[ -z "$G" ] || { G=$1; shift; }
	[ -z "$C" ] || C=$1
}
Mw() {
	F='' G='' C='' D=${2%/*}
	D=${D:-/}
	! x "$1" || F=1
	! x "$2" || G=1
	! [ -e "$D/." ] || C=1
	# shellcheck disable=SC2046 # words
	Ms "$1" "$2" $(stat -c %d:%i ${F:+"$1"} ${G:+"$2"} ${C:+"$D/."})
	if [ "$A" = 1 ] && [ "${G#*:}" = "$3" ]; then
		if [ "$4" = n ] && [ "$F" = "$G" ]; then
			# Between ln and rm below.
			m rm "$1"
			return
		fi
		[ "${F#*:}" = "$3" ] || return
	fi
	if [ -z "$F" ]; then
		E "$1"
	elif [ -z "$C" ] || [ ${#2} -ge 4096 ]; then
		E "$2"
	elif [ "${F%:*}" != "${C%:*}" ]; then
		# mv would copy.
		e=EXDEV
	elif [ "$4" = n ] && [ -n "$G" ]; then
		e=EEXIST
	elif [ "$F" = "$G" ]; then
		# Two names of one file: rename(2) does nothing.
		return
	elif r "$1"; then
		case $2/ in
		"$1"/*)
			e=EINVAL
			return ;;
		esac
		if [ "$4" = n ]; then
			# GNU mv has the kernel check again.
			m mv -nT "$1" "$2" && x "$1" && e=EEXIST
		elif [ -z "$G" ]; then
			m mv -fT "$1" "$2"
		elif ! r "$2"; then
			e=ENOTDIR
		elif ! k "$2"; then
			e=ENOTEMPTY
		elif [ "$K" = G ]; then
			m mv -fT "$1" "$2"
		else
			# busybox mv refuses every directory.
			m rmdir "$2" && { m mv -fT "$1" "$2" || mkdir "$2"; }
		fi
	elif r "$2"; then
		e=EISDIR
	elif [ "$4" = n ]; then
		# link(2) fails when the name is there, in one step.
		if m ln -T "$1" "$2"; then
			m rm "$1"
			return
		fi
		case $e in
		EPERM | ENOTSUP | EMLINK)
			e=OK
			m mv -nT "$1" "$2" && x "$1" && e=EEXIST ;;
		esac
	elif [ "$K" = B ] && [ -L "$2" ]; then
		# busybox's -T looks behind the link.
		Ma "$1" "$2"
	elif ! m mv -fT "$1" "$2" && [ "$e" = EIO ] && [ -L "$1" ]; then
		# GNU mv won't move a link over the file that it points to.
		e=OK
		Ma "$1" "$2"
	fi
}
# Move what is in the way aside first.
Ma() {
	a=$D/.gentilityfs-$$
	m mv -fT "$2" "$a" || return
	if m mv -fT "$1" "$2"; then
		rm -f "$a"
	else
		mv -fT "$a" "$2"
	fi
}
Sl() {
	if x "$1"; then
		e=EEXIST
	else
		m ln -sT -- "$2" "$1"
	fi
	# The x keeps newlines at the target's end.
	! R EEXIST || [ ! -L "$1" ] ||
	    [ "$(readlink "$1" && echo x)" != "$2$(printf '\nx')" ] || e=OK
	Mf "$1" "$3"
}
Ln() {
	q=$2
	if r "$1"; then
		e=EPERM
	elif ! x "$1"; then
		E "$1"
	elif x "$2"; then
		e=EEXIST
		! R EEXIST || [ "$(i "$1")" != "$(i "$2")" ] || e=OK
	else
		m ln -T "$1" "$2"
	fi
}
Nd() {
	U=$2
	if x "$1"; then
		e=EEXIST
	elif [ "$4" = s ]; then
		Ns "$1"
	else
		# shellcheck disable=SC2086 # no numbers for a fifo
		m mknod "$1" "$4" $5 $6
	fi
	! R EEXIST || ! Mo "$1" "$7" || case $4 in
	p) [ ! -p "$1" ] ;;
	s) [ ! -S "$1" ] ;;
	c) [ ! -c "$1" ] ;;
	b) [ ! -b "$1" ] ;;
	esac || e=OK
	Mf "$1" "$7" "$3"
}
