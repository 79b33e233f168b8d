# shellcheck shell=sh
# Listing, parts that both kinds of tools share.  Expects, of record_*.sh and
# list_*.sh for the tools:
#	K	G or B: the form of the records, see there
#	c D	set n to how many entries there are down to D levels below
#		".", but to no number above $B + 1
#	l D	print the records of "." and D levels below; never across a
#		file system's border
#	s P...	print the records of these paths
#	t P...	print the records of these directories and of what is in them,
#		named by P as it was given
#	v P...	print the records of these paths without names and targets, a
#		line each; _x=exec: by this process
# The answers; a "\0" is a NUL:
#	list_tree N BOUND PATH	"#N OK K D\0", records, "#. END\0"
#	list_many N PATH...	for many directories: "#I ERRNO\0" for each path that
#			is missing (I counts from N), "#N OK K COUNT\0",
#			records, "#. END\0".  Names begin at "/".
#	stat_many N PATH...	"#I ERRNO\0" for each path that is missing (I counts
#			from N), "#N OK K COUNT\0", records, "#. 0\0"
#	stat_fs N PATH	"#N OK\0BSIZE FRSIZE BLOCKS BFREE BAVAIL FILES FFREE
#			NAMEMAX\n\0"
#	instead of "#N OK...", when it failed: "#N ERRNO\0"
# END is 0; 1: something went wrong below, only the directory itself is sure
# (of M: nothing is complete for sure); or the errno's name when the directory could not be read to its end.
# D: the deepest level, at least 1, whose entries and all above are no more
# than BOUND.

# Set d to D: for a tree that fits the most that there is, so that the
# directories of its last level are known to be empty.
D() {
	B=$1 d=12
	c 12
	[ "$n" -gt "$B" ] || return 0
	d=1
	while [ "$d" -lt 11 ]; do
		c $((d + 1))
		[ "$n" -le "$B" ] || return 0
		d=$((d + 1))
	done
}
# Set e to EIO when "." can't be read to its end, else to 1: complaints are
# about what is in it ("./NAME", in /proc a process that ended meanwhile).
Le() {
	e=1
	[ -z "$(find . -maxdepth 1 -name '' 2>&1 |
	    while read -r o; do printf %s "${o##*./*}"; done)" ] || e=EIO
}
list_tree() {
	if [ ! -L "$3" ] && cd -P "$3" && [ -r . ] && [ -e ./. ]; then
		d=1
		[ "$2" -eq 0 ] || D "$2"
		printf '#%s OK %s %s\0' "$1" "$K" "$d"
		e=0
		l "$d" || Le
		printf '#. %s\0' "$e"
		return
	elif [ -L "$3" ]; then
		e=ENOTDIR
	elif [ -d "$3" ]; then
		e=EACCES
	elif [ -e "$3" ]; then
		e=ENOTDIR
	else
		E "$3"
	fi
	printf '#%s %s\0' "$1" "$e"
}
list_many() {
	N=$1 i=$1
	shift
	n=$#
	for p; do
		shift
		if [ -d "$p" ]; then
			set -- "$@" "./${p#/}"
		else
			e=ENOTDIR
			[ -L "$p" ] || [ -e "$p" ] || E "$p"
			printf '#%s %s\0' "$i" "$e"
		fi
		i=$((i + 1))
	done
	printf '#%s OK %s %s\0' "$N" "$K" "$n"
	e=0
	[ $# = 0 ] || { cd / && t "$@"; } || e=1
	printf '#. %s\0' "$e"
}
stat_many() {
	N=$1 i=$1
	shift
	for p; do
		[ -L "$p" ] || [ -e "$p" ] || {
			E "$p"
			printf '#%s %s\0' "$i" "$e"
		}
		i=$((i + 1))
	done
	printf '#%s OK %s %s\0' "$N" "$K" $#
	s "$@"
	printf '#. 0\0'
}
stat_fs() {
	if o=$(stat -f -c '%s %S %b %f %a %c %d %l' "$2"); then
		printf '#%s OK\0%s\n\0' "$1" "$o"
	else
		E "$2"
		[ "$e" != ENOENT ] || [ ! -e "$2" ] || e=EIO
		printf '#%s %s\0' "$1" "$e"
	fi
}
