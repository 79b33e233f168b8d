# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# More of write.sh, for change of change.sh.
#	create_file PATH HOW MODE TOKEN OWNER
#		a new empty file
#	commit_file PATH HOW MODE TOKEN SIZE SUM ATIME MTIME OWNER SPACE PARTS
#		the staged file is complete: as write_file from there; EAGAIN:
#		not all pieces are there.  SUM may be "-": each piece was
#		verified, and outside of PARTS (offsets and lengths) all is a
#		hole; "+": all of it is one
#	clean_directory PATH
#		remove what is older than an hour, of PATH (a directory) and
#		of the temporary directory; what may be open somewhere once it
#		is a week old
create_file() {
	find_staged "$1" "$4"
	staged=$staged.$$
	if [ "$2" = c ] && [ -f "$1" ] && [ ! -L "$1" ]; then
		return
	elif [ "$2" = x ] && has_created "$4" "$1"; then
		return
	fi
	staged_size=0 taken_space=0 has_holes=''
	! open_staged "$3" || put_staged "$1" "$2" "$3" "$4"
	[ "$error" != OK ] || [ -z "$5" ] || try chown -h "$5" "$1" || rm -f "$1"
	remove_own "$staged"
}
# Is what is staged complete?  Sets error when not.
is_complete() {
	case $2 in
	+) open_staged "$3" || return ;;
	-) [ -f "$staged" ] ;;
	*) [ -f "$staged" ] && has_sum "$2" "$staged" ;;
	esac || {
		error=EAGAIN
		return
	}
	[ -n "$has_holes" ] || return 0
	try dd of="$staged" bs=1 seek="$1" count=0 || return
	# Holes take no space.
	said=$(stat -c %b "$staged")
	staged_size=$((${said:-0} * 512))
}
commit_file() {
	find_staged "$1" "$4"
	mode_done='' has_holes='' staged_size=$5 taken_space=${10} whole_size=$5 parts=${11}
	case $6 in
	[-+]) has_holes=1 ;;
	esac
	if [ "$again" = 0 ] || ! is_done "$1" "$2" "$4" "$5" "$6"; then
		is_complete "$5" "$6" "$3" && [ "$error" = OK ] && put_staged "$1" "$2" "$3" "$4"
	fi
	finish_write "$@"
	# Else it stays for the next attempt.
	[ "$error" != OK ] || remove_own "$staged"
}
clean_directory() {
	[ -L "$private" ] || [ ! -O "$private" ] ||
	    find "$private" -type f -mmin +60 -exec rm -f {} +
	# Only files that are ours by name and owner.
	for item in "$1" "${TMPDIR:-/tmp}"; do
		find "$item" -mindepth 1 -maxdepth 1 -type f \
		    -name '.gentilityfs-[0-9a-f][0-9a-f]*' -user "$uid" \
		    -mmin +60 -exec rm -f {} +
		find "$item" -mindepth 1 -maxdepth 1 -type f \
		    -name '.gentilityfs-open-*' -user "$uid" \
		    -ctime +6 -exec rm -f {} +
	done
}
