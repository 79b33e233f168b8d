# shellcheck shell=sh disable=SC1090,SC2154,SC3013 # as keep.sh; they are set before
# What a command begins with that finds its programs in the VM: the toolkit, the
# file toolkit, left there by keep.sh.  It is read only if it is ours alone:
#	- its directory and itself are not links, and belong to our user;
#	- nobody else has written to it: its time lies in the future, where only
#	  its owner can put it; each write, whatever the modes are by then, and
#	  each other file of ours that somebody links there, has a time of the
#	  past.
# All of it by the shell itself, without a process.  Otherwise nothing is done
# but to print the mark "none N", on a line of its own.
if [ -O "${toolkit%/*}" ] && [ ! -L "${toolkit%/*}" ] && [ -f "$toolkit" ] && [ -O "$toolkit" ] &&
	[ ! -L "$toolkit" ] && [ "$toolkit" -nt /proc/self ]; then
	. "$toolkit"
else
	printf '\n%s%s %s>\n' '<gfs-' none "$nonce"
	exit
fi
