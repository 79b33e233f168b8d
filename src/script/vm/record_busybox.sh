# shellcheck shell=sh
# What is known of a file, by busybox find and stat.  stat can't
# print a NUL, so a record begins with a double slash, which no path that find
# prints has inside, and which follows a newline:
#	// MODE NLINK UID GID SIZE BLOCKS DEV INO ATIME MTIME CTIME NAME "\n"
# MODE: hexadecimal, with a "u" before for a directory that may not be readable
# and was left out; times as "YYYY-MM-DD HH:MM:SS.fraction +0000". NAME: "." or
# the path with "./", or as given to show_paths.  Records of symlinks, and all
# those of show_paths, have after NAME a double slash and stat's %N: for a
# symlink 'NAME' -> 'TARGET' with either kind of quotes or none, and nothing
# escaped; nothing at all when the link could not be read.
# shellcheck disable=SC2034 # used by those that come after it
kind=B by=''
format='%f %h %u %g %s %b %d %i %x %y %z'
show_paths() { stat -c "//$format %n//%N" "$@"; }
show_attributes() { $by stat -c "$format" "$@"; }
