# shellcheck shell=sh disable=SC2154,SC3013 # private: of evidence.sh; a shell
# without -nt keeps nothing
# Leaving the toolkit in the VM, for load.sh.
#	keep_toolkit ID HASH TEXT CLEAN
#		keep TEXT as the file toolkit-HASH in a directory that is ours
#		alone: .cache/gentilityfs in the home directory, else that of
#		evidence.sh.  Prints the mark "kept ID FILE", on a line of its
#		own; FILE is "-" when there is no such place.  CLEAN is not
#		empty: those of other versions go
#	find_toolkit ID HASH
#		prints the same mark and changes nothing.  FILE is a directory,
#		with a slash at its end, where it would be kept
# Is this directory ours, and can nobody else write there?
is_ours() {
	[ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] &&
	    [ -n "$(find "$1" -maxdepth 0 ! -perm -020 ! -perm -002)" ]
}
# Is it so, once it is made?
make_ours() {
	[ -d "$1" ] || mkdir "$1"
	is_ours "$1"
}
# Will load.sh take this file, which nobody else can write?
is_toolkit() {
	[ -f "$1" ] && [ -O "$1" ] && [ ! -L "$1" ] && [ -e /proc/self ] &&
	    [ "$1" -nt /proc/self ] &&
	    [ -n "$(find "$1" -maxdepth 0 -perm 600)" ]
}
# Set home to the home directory's cache directory, if the home is ours.
find_home() {
	home=''
	case ${HOME:-} in
	/*)
		! is_ours "$HOME/." || home=${HOME%/}/.cache ;;
	esac
}
# Put the text $2 into the file $1: as a whole, or not at all.
put_toolkit() {
	new=${1%/*}/.gentilityfs-$$
	rm -f "$new"
	# The time is the one that load.sh wants, and that 32 bits can hold.
	if printf %s "$2" >"$new" && chmod 600 "$new" &&
	    touch -t 203712312359 "$new" && mv -fT "$new" "$1"; then
		is_toolkit "$1"
	else
		rm -f "$new"
		false
	fi
}
# Keep it in directory $1: hash, text, clean.  Sets kept to the file, or to "-".
keep_in() {
	kept=-
	# The name stands in each command.
	case $1 in
	*[!A-Za-z0-9/._+-]*) return 1 ;;
	esac
	[ ${#1} -lt 160 ] && make_ours "$1" && chmod 700 "$1" || return
	set -- "$1" "$1/toolkit-$2" "$3" "$4"
	if ! is_toolkit "$2" || [ "$(cat "$2")" != "$3" ]; then
		put_toolkit "$2" "$3" || return
	fi
	kept=$2
	[ -z "$4" ] || find "$1" -mindepth 1 -maxdepth 1 -type f \
	    -name 'toolkit-*' ! -name "${2##*/}" -exec rm -f {} + || true
}
say_kept() { printf '\n%s%s %s %s>\n' '<gfs-' kept "$1" "$2"; }
keep_toolkit() {
	kept=-
	find_home
	if [ -z "$home" ] || ! make_ours "$home" ||
	    ! keep_in "$home/gentilityfs" "$2" "$3" "$4"; then
		keep_in "$private" "$2" "$3" "$4"
	fi
	say_kept "$1" "$kept"
}
find_toolkit() {
	kept=-
	find_home
	for candidate in ${home:+"$home/gentilityfs"} "$private"; do
		if is_ours "$candidate" && is_toolkit "$candidate/toolkit-$2"; then
			kept=$candidate/toolkit-$2
			break
		fi
		# What exists of it decides.
		above_it=$candidate
		while [ ! -e "$above_it" ] && [ ! -L "$above_it" ]; do
			above_it=${above_it%/*}
			above_it=${above_it:-/}
		done
		if [ "$kept" = - ] && [ -d "$above_it" ] && [ -w "$above_it" ]; then
			case $above_it in
			"$candidate" | "$home") ! is_ours "$above_it" || kept=$candidate/ ;;
			*) kept=$candidate/ ;;
			esac
		fi
	done
	say_kept "$1" "$kept"
}
