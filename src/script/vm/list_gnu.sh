# shellcheck shell=sh
# The functions that list.sh wants, by GNU find; with record_gnu.sh.
# shellcheck disable=SC2154 # format is of the records
count_below() {
	count=$(find . -xdev -mindepth 1 -maxdepth "$1" -printf . |
	    head -c $((bound + 1)))
	count=${#count}
}
show_below() {
	find . -ignore_readdir_race -xdev -maxdepth "$1" \
	    -type d \( ! -readable -o ! -executable \) \
	    -printf "u$format\\0%P\\0%l\\0" -prune -o -printf "$format\\0%P\\0%l\\0"
}
show_directories() {
	find "$@" -ignore_readdir_race -xdev -maxdepth 1 \
	    -type d \( ! -readable -o ! -executable \) \
	    -printf "u$format\\0%p\\0%l\\0" -prune -o -printf "$format\\0%p\\0%l\\0"
}
