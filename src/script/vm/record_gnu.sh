# shellcheck shell=sh disable=SC2154
# What is known of a file, by GNU find.  A record is
#	TYPE MODE NLINK UID GID SIZE BLOCKS DEV INO ATIME MTIME CTIME "\0"
#	NAME "\0" TARGET "\0"
# TYPE: a letter (find's %y), with a "u" before for a directory that can't be
# read or searched; MODE octal; times in seconds with a fraction; NAME: the path
# below ".", empty for "." itself, with "./" by show_directories, or the path as
# it was given to show_paths; TARGET: empty, but for symlinks.
# shellcheck disable=SC2034 # used by those that come after it
kind=G by=''
format='%y %m %n %U %G %s %b %D %i %A@ %T@ %C@'
show_paths() { find "$@" -maxdepth 0 -printf "$format\\0%H\\0%l\\0"; }
# shellcheck disable=SC2086 # removal is several words
show_attributes() { $by find "$@" -maxdepth 0 $removal -printf "$format\\n"; }
