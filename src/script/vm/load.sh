# shellcheck shell=sh disable=SC1090,SC2154,SC3013 # as keep.sh; k and N are set
# What a command begins with that finds its programs in the VM: the toolkit, the
# file k, left there by keep.sh.  It is read only if it is ours alone:
#	- its directory and itself are not links, and belong to our user;
#	- nobody else has written to it: its time lies in the future, where only
#	  its owner can put it; each write, whatever the modes are by then, and
#	  each other file of ours that somebody links there, has a time of the
#	  past.
# All of it by the shell itself, without a process.  Otherwise nothing is done
# but to print the mark "none N", on a line of its own.
if [ -O "${k%/*}" ] && [ ! -L "${k%/*}" ] && [ -f "$k" ] && [ -O "$k" ] &&
	[ ! -L "$k" ] && [ "$k" -nt /proc/self ]; then
	. "$k"
else
	printf '\n%s%s %s>\n' '<gfs-' none "$N"
	exit
fi
