# shellcheck shell=sh
# The functions that list.sh wants, by GNU find.  A record is
#	TYPE MODE NLINK UID GID SIZE BLOCKS DEV INO ATIME MTIME CTIME "\0"
#	NAME "\0" TARGET "\0"
# TYPE: a letter (find's %y), with a "u" before for a directory that can't be
# read or searched; MODE octal; times in seconds with a fraction; NAME: the
# path below ".", empty for "." itself, with "./" by t, or the path as it was
# given to s; TARGET: empty, but for symlinks.
# shellcheck disable=SC2034 # used by list.sh and read.sh
K=G _x=''
f='%y %m %n %U %G %s %b %D %i %A@ %T@ %C@'
c() {
	n=$(find . -xdev -mindepth 1 -maxdepth "$1" -printf . |
	    head -c $((B + 1)))
	n=${#n}
}
l() {
	find . -ignore_readdir_race -xdev -maxdepth "$1" \
	    -type d \( ! -readable -o ! -executable \) \
	    -printf "u$f\\0%P\\0%l\\0" -prune -o -printf "$f\\0%P\\0%l\\0"
}
t() {
	find "$@" -ignore_readdir_race -xdev -maxdepth 1 \
	    -type d \( ! -readable -o ! -executable \) \
	    -printf "u$f\\0%p\\0%l\\0" -prune -o -printf "$f\\0%p\\0%l\\0"
}
s() { find "$@" -maxdepth 0 -printf "$f\\0%H\\0%l\\0"; }
v() { $_x find "$@" -maxdepth 0 -printf "$f\\n"; }
