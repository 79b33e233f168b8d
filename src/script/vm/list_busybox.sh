# shellcheck shell=sh
# The functions that list.sh wants, by busybox find and stat; with
# record_busybox.sh.
# shellcheck disable=SC2016,SC2034,SC2154 # a script; f is of the records, n for
# list.sh
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
