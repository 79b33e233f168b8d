# shellcheck shell=sh
# The functions that list.sh wants, by busybox find and stat.  stat can't
# print a NUL, so a record begins with a double slash, which no path that find
# prints has inside, and which follows a newline:
#	// MODE NLINK UID GID SIZE BLOCKS DEV INO ATIME MTIME CTIME NAME "\n"
# MODE: hexadecimal, with a "u" before for a directory that may not be
# readable and was left out; times as "YYYY-MM-DD HH:MM:SS.fraction +0000".
# NAME: "." or the path with "./", or as it was given to s.  Records of
# symlinks, and all those of s, have after NAME a double slash and stat's %N:
# for a symlink 'NAME' -> 'TARGET' with either kind of quotes or none, and
# nothing escaped; nothing at all when the link could not be read.
# shellcheck disable=SC2034,SC2016 # used by list.sh and read.sh; a script
K=B _x=''
f='%f %h %u %g %s %b %d %i %x %y %z'
# What vanishes meanwhile must not make find leave out the rest.
each='stat -c "$0" "$@"; :'
c() {
	n=$(find . -xdev -mindepth 1 -maxdepth "$1" -print0 | tr -dc '\000' |
	    head -c $((B + 1)) | wc -c)
}
# Only directories that are readable for sure, by owner and mode, are gone
# into; no process for each directory.
l() {
	[ "$1" = 1 ] || u=$(id -u)
	set -- "$1" -type l -exec sh -c "$each" "//$f %n//%N" {} + \
	    -o -exec sh -c "$each" "//$f %n" {} +
	D=$1
	shift
	[ "$D" = 1 ] || [ "$u" = 0 ] || set -- -type d \
	    ! \( -user "$u" -perm -500 -o ! -user "$u" -perm -55 \) \
	    -exec sh -c "$each" "//u$f %n" {} + -prune -o "$@"
	stat -c "//$f %n" . && find . -xdev -mindepth 1 -maxdepth "$D" "$@"
}
t() {
	u=$(id -u)
	set -- "$@" -xdev -maxdepth 1
	[ "$u" = 0 ] || set -- "$@" -type d \
	    ! \( -user "$u" -perm -500 -o ! -user "$u" -perm -55 \) \
	    -exec sh -c "$each" "//u$f %n" {} + -prune -o
	find "$@" -type l -exec sh -c "$each" "//$f %n//%N" {} + \
	    -o -exec sh -c "$each" "//$f %n" {} +
}
s() { stat -c "//$f %n//%N" "$@"; }
v() { $_x stat -c "$f" "$@"; }
