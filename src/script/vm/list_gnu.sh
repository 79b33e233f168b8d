# shellcheck shell=sh
# The functions that list.sh wants, by GNU find; with record_gnu.sh.
# shellcheck disable=SC2154 # f is of the records
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
