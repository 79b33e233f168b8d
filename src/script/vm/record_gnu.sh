# shellcheck shell=sh
# What is known of a file, by GNU find.  A record is
#	TYPE MODE NLINK UID GID SIZE BLOCKS DEV INO ATIME MTIME CTIME "\0"
#	NAME "\0" TARGET "\0"
# TYPE: a letter (find's %y), with a "u" before for a directory that can't be
# read or searched; MODE octal; times in seconds with a fraction; NAME: the
# path below ".", empty for "." itself, with "./" by t, or the path as it was
# given to s; TARGET: empty, but for symlinks.
# shellcheck disable=SC2034 # used by those that come after it
K=G _x=''
f='%y %m %n %U %G %s %b %D %i %A@ %T@ %C@'
s() { find "$@" -maxdepth 0 -printf "$f\\0%H\\0%l\\0"; }
# shellcheck disable=SC2086 # _R is several words
v() { $_x find "$@" -maxdepth 0 $_R -printf "$f\\n"; }
