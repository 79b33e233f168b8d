# shellcheck shell=sh
# The functions that list.sh wants, by busybox find and stat; with
# record_busybox.sh.
# shellcheck disable=SC2016,SC2034,SC2154 # a script; f is of the records, n for
# list.sh
# What vanishes meanwhile must not make find leave out the rest.
each='stat -c "$0" "$@"; :'
count_below() {
	count=$(find . -xdev -mindepth 1 -maxdepth "$1" -print0 | tr -dc '\000' |
	    head -c $((bound + 1)) | wc -c)
}
# Only directories that are readable for sure, by owner and mode, are gone
# into; no process for each directory.
show_below() {
	[ "$1" = 1 ] || uid=$(id -u)
	set -- "$1" -type l -exec sh -c "$each" "//$format %n//%N" {} + \
	    -o -exec sh -c "$each" "//$format %n" {} +
	depth=$1
	shift
	[ "$depth" = 1 ] || [ "$uid" = 0 ] || set -- -type d \
	    ! \( -user "$uid" -perm -500 -o ! -user "$uid" -perm -55 \) \
	    -exec sh -c "$each" "//u$format %n" {} + -prune -o "$@"
	stat -c "//$format %n" . && find . -xdev -mindepth 1 -maxdepth "$depth" "$@"
}
show_directories() {
	uid=$(id -u)
	set -- "$@" -xdev -maxdepth 1
	[ "$uid" = 0 ] || set -- "$@" -type d \
	    ! \( -user "$uid" -perm -500 -o ! -user "$uid" -perm -55 \) \
	    -exec sh -c "$each" "//u$format %n" {} + -prune -o
	find "$@" -type l -exec sh -c "$each" "//$format %n//%N" {} + \
	    -o -exec sh -c "$each" "//$format %n" {} +
}
