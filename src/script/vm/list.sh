# shellcheck shell=sh disable=SC2154
# Listing, parts that both kinds of tools share.  Expects, of record_*.sh and
# list_*.sh for the tools:
#	kind	G or B: the form of the records, see there
#	count_below D
#		set count to how many entries there are down to D levels below
#		".", but to no number above $bound + 1
#	show_below D
#		print the records of "." and D levels below; never across a
#		file system's border
#	show_paths P...
#		print the records of these paths
#	show_directories P...
#		print the records of these directories and of what is in them,
#		named by P as it was given
#	show_attributes P...
#		print the records of these paths without names and targets, a
#		line each; by=exec: by this process
# The answers; a "\0" is a NUL:
#	list_tree N BOUND PATH
#		"#N OK K D\0", records, "#. END\0"
#	list_many N PATH...
#		for many directories: "#I ERRNO\0" for each path that is
#		missing (I counts from N), "#N OK K COUNT\0", records, "#.
#		END\0".  Names begin at "/".
#	stat_many N PATH...
#		"#I ERRNO\0" for each path that is missing (I counts from N),
#		"#N OK K COUNT\0", records, "#. 0\0"
#	stat_fs N PATH
#		"#N OK\0BSIZE FRSIZE BLOCKS BFREE BAVAIL FILES FFREE
#		NAMEMAX\n\0"
#	instead of "#N OK...", when it failed: "#N ERRNO\0"
# END is 0; 1: something went wrong below, only the directory itself is sure (of
# list_many: nothing is complete for sure); or the errno's name when the
# directory could not be read to its end. D: the deepest level, at least 1,
# whose entries and all above are no more than BOUND.

# Set depth to D: for a tree that fits the most that there is, so that the
# directories of its last level are known to be empty.
find_depth() {
	bound=$1 depth=12
	count_below 12
	[ "$count" -gt "$bound" ] || return 0
	depth=1
	while [ "$depth" -lt 11 ]; do
		count_below $((depth + 1))
		[ "$count" -le "$bound" ] || return 0
		depth=$((depth + 1))
	done
}
# Set error to EIO when "." can't be read to its end, else to 1: complaints are
# about what is in it ("./NAME", in /proc a process that ended meanwhile).
list_error() {
	error=1
	[ -z "$(find . -maxdepth 1 -name '' 2>&1 |
	    while read -r said; do printf %s "${said##*./*}"; done)" ] || error=EIO
}
list_tree() {
	if [ ! -L "$3" ] && cd -P "$3" && [ -r . ] && [ -e ./. ]; then
		depth=1
		[ "$2" -eq 0 ] || find_depth "$2"
		printf '#%s OK %s %s\0' "$1" "$kind" "$depth"
		error=0
		show_below "$depth" || list_error
		printf '#. %s\0' "$error"
		return
	elif [ -L "$3" ]; then
		error=ENOTDIR
	elif [ -d "$3" ]; then
		error=EACCES
	elif [ -e "$3" ]; then
		error=ENOTDIR
	else
		path_error "$3"
	fi
	printf '#%s %s\0' "$1" "$error"
}
list_many() {
	first=$1 position=$1
	shift
	count=$#
	for place; do
		shift
		if [ -d "$place" ]; then
			set -- "$@" "./${place#/}"
		else
			error=ENOTDIR
			[ -L "$place" ] || [ -e "$place" ] || path_error "$place"
			printf '#%s %s\0' "$position" "$error"
		fi
		position=$((position + 1))
	done
	printf '#%s OK %s %s\0' "$first" "$kind" "$count"
	error=0
	[ $# = 0 ] || { cd / && show_directories "$@"; } || error=1
	printf '#. %s\0' "$error"
}
stat_many() {
	first=$1 position=$1
	shift
	for place; do
		[ -L "$place" ] || [ -e "$place" ] || {
			path_error "$place"
			printf '#%s %s\0' "$position" "$error"
		}
		position=$((position + 1))
	done
	printf '#%s OK %s %s\0' "$first" "$kind" $#
	show_paths "$@"
	printf '#. 0\0'
}
stat_fs() {
	if said=$(stat -f -c '%s %S %b %f %a %c %d %l' "$2"); then
		printf '#%s OK\0%s\n\0' "$1" "$said"
	else
		path_error "$2"
		[ "$error" != ENOENT ] || [ ! -e "$2" ] || error=EIO
		printf '#%s %s\0' "$1" "$error"
	fi
}
