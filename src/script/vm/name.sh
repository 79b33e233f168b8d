# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Changes of names, for change of change.sh.  UMASK makes the new mode out of
# the tool's default; MODE is set besides, if it is not empty. OWNER: UID:GID,
# or empty.
#	make_directory PATH UMASK MODE OWNER
#		mkdir
#	remove_directory PATH
#		rmdir
#	unlink_path PATH KEEP
#		unlink; KEEP: a name that is new in the same directory, which
#		a file gets that is open, or empty
#	move_path FROM TO INO FLAG KEEP
#		rename; INO: of the source as the driver knows it, for
#		repeats; FLAG n: TO must not exist; KEEP: as above, for what
#		TO was
#	make_symlink PATH TARGET OWNER
#		symlink
#	make_link FROM TO
#		link
#	make_node PATH UMASK MODE TYPE MAJOR MINOR OWNER
#		mknod; without numbers: p, a fifo; s, a socket
# Is it what a first run has made: our own, or already given to its owner?
is_made_here() {
	[ -O "$1" ] || [ "$(stat -c %u:%g "$1")" = "$2" ]
}
# Owner and mode of something just made, which goes if it can't have them.
give_away() {
	[ "$error" = OK ] || return
	# The owner first: it clears setuid.
	{ [ -z "$2" ] || try chown -h "$2" "$1"; } &&
	    { [ -z "$3" ] || try chmod "$3" "$1"; } && return
	if is_directory "$1"; then
		rmdir "$1"
	else
		rm -f "$1"
	fi
}
make_directory() {
	mask=$2
	try mkdir "$1" || ! is_repeat EEXIST || ! is_directory "$1" || ! is_made_here "$1" "$4" ||
	    ! is_empty "$1" || error=OK
	give_away "$1" "$4" "$3"
}
remove_directory() {
	try rmdir "$1" || ! is_repeat ENOENT || error=OK
}
unlink_path() {
	# Without -f, so that a missing one is an error; it never asks, since
	# standard input is no terminal.
	if is_directory "$1"; then
		error=EISDIR
	elif [ -n "$2" ]; then
		kept_file=${1%/*}/$2
		try mv -fT "$1" "$kept_file" || ! is_repeat ENOENT || error=OK
	else
		try rm "$1" || ! is_repeat ENOENT || error=OK
	fi
}
move_path() {
	other=$2
	if [ -n "$5" ]; then
		kept_file=${2%/*}/$5
		if [ "$again" = 1 ] && [ -e "$kept_file" ]; then
			: # by the first run
		elif ! exists "$1" || is_directory "$1" || [ -L "$2" ] || [ ! -f "$2" ]; then
			kept_file='' # it fails, or what is there is no file
		else
			keep_file "$2" || return
		fi
	fi
	move_once "$@"
	# Another run of the same may have been faster.
	if is_repeat ENOENT; then
		to_inode=$(inode_of "$2")
		[ "${to_inode#*:}" != "$3" ] || error=OK
	fi
	[ -z "$kept_file" ] || { [ "$error" = OK ] && [ "$from_inode" != "$to_inode" ]; } || drop_kept "$2"
}
# Keep the file under kept_file, too: with one name more, so that it is never
# without one; where that can't be had (a file system without hard links,
# another user's file), with this name instead.
keep_file() {
	try ln -T "$1" "$kept_file" && return
	case $error in
	EPERM | ENOTSUP | EMLINK)
		error=OK
		try mv -fT "$1" "$kept_file" ;;
	*) false ;;
	esac
}
# Nothing was renamed: not kept, either.
drop_kept() {
	if exists "$1"; then
		rm -f "$kept_file"
	else
		mv -fT "$kept_file" "$1"
	fi
}
# Set from_inode, to_inode and to_place to device and inode of $1, $2 and the
# directory of $2, or to nothing; $3 and what follows are those of the ones that
# exist.
set_inodes() {
	from=$1 target=$2
	shift 2
	[ $# -eq $((${#from_inode} + ${#to_inode} + ${#to_place})) ] || {
		# One came or went in that moment.
		from_inode=$(inode_of "$from") to_inode=$(inode_of "$target") to_place=$(inode_of "$to_directory/.")
		return
	}
	[ -z "$from_inode" ] || { from_inode=$1; shift; }
	[ -z "$to_inode" ] || { to_inode=$1; shift; }
	[ -z "$to_place" ] || to_place=$1
}
move_once() {
	from_inode='' to_inode='' to_place='' to_directory=${2%/*}
	to_directory=${to_directory:-/}
	! exists "$1" || from_inode=1
	! exists "$2" || to_inode=1
	! [ -e "$to_directory/." ] || to_place=1
	# shellcheck disable=SC2046 # words
	set_inodes "$1" "$2" $(stat -c %d:%i ${from_inode:+"$1"} ${to_inode:+"$2"} ${to_place:+"$to_directory/."})
	if [ "$again" = 1 ] && [ "${to_inode#*:}" = "$3" ]; then
		if [ "$4" = n ] && [ "$from_inode" = "$to_inode" ]; then
			# Between ln and rm below.
			try rm "$1"
			return
		fi
		[ "${from_inode#*:}" = "$3" ] || return
	fi
	if [ -z "$from_inode" ]; then
		path_error "$1"
	elif [ -z "$to_place" ] || [ ${#2} -ge 4096 ]; then
		path_error "$2"
	elif [ "${from_inode%:*}" != "${to_place%:*}" ]; then
		# mv would copy.
		error=EXDEV
	elif [ "$4" = n ] && [ -n "$to_inode" ]; then
		error=EEXIST
	elif [ "$from_inode" = "$to_inode" ]; then
		# Two names of one file: rename(2) does nothing.
		return
	elif is_directory "$1"; then
		case $2/ in
		"$1"/*)
			error=EINVAL
			return ;;
		esac
		if [ "$4" = n ]; then
			# GNU mv has the kernel check again.
			try mv -nT "$1" "$2" && exists "$1" && error=EEXIST
		elif [ -z "$to_inode" ]; then
			try mv -fT "$1" "$2"
		elif ! is_directory "$2"; then
			error=ENOTDIR
		elif ! is_empty "$2"; then
			error=ENOTEMPTY
		elif [ "$kind" = G ]; then
			try mv -fT "$1" "$2"
		else
			# busybox mv refuses every directory.
			try rmdir "$2" && { try mv -fT "$1" "$2" || mkdir "$2"; }
		fi
	elif is_directory "$2"; then
		error=EISDIR
	elif [ "$4" = n ]; then
		# link(2) fails when the name is there, in one step.
		if try ln -T "$1" "$2"; then
			try rm "$1"
			return
		fi
		case $error in
		EPERM | ENOTSUP | EMLINK)
			error=OK
			try mv -nT "$1" "$2" && exists "$1" && error=EEXIST ;;
		esac
	elif [ "$kind" = B ] && [ -L "$2" ]; then
		# busybox's -T looks behind the link.
		move_aside "$1" "$2"
	elif ! try mv -fT "$1" "$2" && [ "$error" = EIO ] && [ -L "$1" ]; then
		# GNU mv won't move a link over the file that it points to.
		error=OK
		move_aside "$1" "$2"
	fi
}
# Move what is in the way aside first.
move_aside() {
	aside=$to_directory/.gentilityfs-$$
	try mv -fT "$2" "$aside" || return
	if try mv -fT "$1" "$2"; then
		rm -f "$aside"
	else
		mv -fT "$aside" "$2"
	fi
}
make_symlink() {
	if exists "$1"; then
		error=EEXIST
	else
		try ln -sT -- "$2" "$1"
	fi
	# The x keeps newlines at the target's end.
	! is_repeat EEXIST || [ ! -L "$1" ] ||
	    [ "$(readlink "$1" && echo x)" != "$2$(printf '\nx')" ] || error=OK
	give_away "$1" "$3"
}
make_link() {
	other=$2
	if is_directory "$1"; then
		error=EPERM
	elif ! exists "$1"; then
		path_error "$1"
	elif exists "$2"; then
		error=EEXIST
		! is_repeat EEXIST || [ "$(inode_of "$1")" != "$(inode_of "$2")" ] || error=OK
	else
		try ln -T "$1" "$2"
	fi
}
make_node() {
	mask=$2
	if exists "$1"; then
		error=EEXIST
	elif [ "$4" = s ]; then
		make_socket "$1"
	else
		# shellcheck disable=SC2086 # no numbers for a fifo
		try mknod "$1" "$4" $5 $6
	fi
	! is_repeat EEXIST || ! is_made_here "$1" "$7" || case $4 in
	p) [ ! -p "$1" ] ;;
	s) [ ! -S "$1" ] ;;
	c) [ ! -c "$1" ] ;;
	b) [ ! -b "$1" ] ;;
	esac || error=OK
	give_away "$1" "$7" "$3"
}
