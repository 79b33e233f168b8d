# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh, write.sh
# Parts of existing files, for change of change.sh; with piece.sh and write.sh.
#	change_ranges PATH EXPECT NEWSIZE TOKEN SIZE SUM FORM DATA OFFSET LENGTH...
#		change these ranges in place, then set the size; DATA is all
#		ranges one after another, SIZE and SUM are its own.  EXPECT is
#		"INO SIZE MTIME" of the version that is changed (version_of
#		below), or what that begins with; when it is another by now:
#		ESTALE, unless the result stands
#	spread_staged PATH EXPECT NEWSIZE TOKEN SIZE SUM OFFSET LENGTH...
#		the same with the staged file (piece.sh) for DATA; EAGAIN: not
#		all of it is there
#	append_data PATH OLDSIZE TOKEN SIZE SUM FORM DATA
#		add to the end, whatever the size is now; the number in the
#		answer is the offset.  OLDSIZE is not used
#	copy_range FROM TO OFFSET TO-OFFSET LENGTH
#		copy bytes inside the VM; the number in the answer is how many
#		FROM had
version_of() {
	if [ "$kind" = G ]; then
		$by find "$1" -maxdepth 0 -printf '%i %s %T@'
	else
		$by stat -c '%i %s %y' "$1"
	fi
}
# The target must be a file that can be written.
is_target() {
	if ! exists "$1"; then
		path_error "$1"
	elif [ -L "$1" ]; then
		error=ESTALE
	elif [ -d "$1" ]; then
		error=EISDIR
	elif [ ! -f "$1" ]; then
		error=EINVAL
	else
		can_write "$1"
	fi
	[ "$error" = OK ]
}
# Print these ranges of the target, and end the shell.
show_ranges() {
	while [ $# -gt 3 ]; do
		dd if="$path" bs=65536 iflag=skip_bytes,count_bytes skip="$1" \
		    count="$2"
		shift 2
	done
	[ $# -lt 2 ] || exec dd if="$path" bs=65536 skip="$1" count="$2" \
	    iflag=skip_bytes,count_bytes
}
# Have they the sum?
ranges_match() {
	case $(show_ranges "$@" | sum_of) in
	*"$sum"*) ;;
	*) false ;;
	esac
}
# Is the target's size $1?
has_size() { [ "$(stat -L -c %s "$path")" -eq "$1" ]; }
# Write the ranges out of the staged file.
write_ranges() {
	done_bytes=0
	while [ $# -gt 1 ]; do
		said=$(dd if="$staged" of="$path" bs=65536 skip="$done_bytes" count="$2" \
		    iflag=skip_bytes,count_bytes seek="$1" \
		    oflag=seek_bytes conv=notrunc 2>&1) || {
			text_error "$said"
			return
		}
		done_bytes=$((done_bytes + $2))
		shift 2
	done
}
# The staged bytes into the ranges: expected, new_size, token, data_size and
# sum are EXPECT, NEWSIZE, TOKEN, SIZE and SUM.
put_ranges() {
	case $(by='exec'; version_of "$path") in
	"$expected"*) item=1 ;;
	*) item='' ;;
	esac
	if [ -z "$item" ] && has_size "$new_size" && ranges_match "$@"; then
		:
	elif [ -z "$item" ] && [ ! -s "$private/$token" ]; then
		error=ESTALE
	elif ! has_space "$data_size"; then
		error=ENOSPC
	else
		# From here on a repeat goes on where this one stopped.
		note_evidence "$token" begun
		write_ranges "$@"
		[ "$error" != OK ] || has_size "$new_size" || {
			set_size "$path" "$new_size"
			[ "$error" != OK ] || has_size "$new_size" || error=EIO
		}
		[ "$error" != OK ] || [ ! -r "$path" ] || ranges_match "$@" || error=EIO
	fi
}
change_ranges() {
	is_target "$1" || return
	find_staged "$1" "$4"
	staged=$staged.$$
	expected=$2 new_size=$3 token=$4 data_size=$5 sum=$6
	stage_data "$7" "$8" "$5" "$6" || return
	shift 8
	put_ranges "$@"
	remove_own "$staged"
}
spread_staged() {
	is_target "$1" || return
	find_staged "$1" "$4"
	expected=$2 new_size=$3 token=$4 data_size=$5 sum=$6
	[ -f "$staged" ] && has_sum "$6" "$staged" && mode_right=1 || mode_right=0
	shift 6
	if [ "$mode_right" = 1 ]; then
		put_ranges "$@"
	elif ! has_size "$new_size" || ! ranges_match "$@"; then
		error=EAGAIN
	fi
	# It is wanted again when another version was met.
	[ "$error" != OK ] || remove_own "$staged"
}
# Size $1 was added at number, or later if others wrote meanwhile; who has cut
# the file meanwhile is not our error.
check_append() {
	[ -r "$path" ] || return 0
	! ranges_match "$number" "$1" || return
	said=$(stat -L -c %s "$path")
	if ranges_match $((said - $1)) "$1"; then
		number=$((said - $1))
	elif [ "$said" -eq $((number + $1)) ]; then
		error=EIO
	fi
}
# Of size $1 not all could be added: take away what was, unless others' bytes
# follow, or another run of the same was here.
undo_append() {
	case $(show_evidence "$token") in
	*done*) return ;;
	esac
	rm -f "$private/$token"
	said=$(($(stat -L -c %s "$path") - number))
	if [ "$said" -gt 0 ] && [ "$said" -lt "$1" ] && [ "$(show_ranges "$number" "$said" | sum_of)" = \
	    "$(dd if="$staged" bs=65536 iflag=count_bytes count="$said" | sum_of)" ]; then
		dd of="$path" bs=1 seek="$number" count=0
	fi
}
append_data() {
	is_target "$1" || return
	find_staged "$1" "$3"
	token=$3 sum=$5
	staged=$staged.$$
	number=$(stat -L -c %s "$1")
	[ -d "$private" ] || mkdir "$private"
	# The offset as evidence, made by one run only; "done" follows.
	mode_right=0
	if [ -O "$private" ] && [ ! -L "$private" ]; then
		set -C
		printf '%s ' "$number" >"$private/$3" || mode_right=1
		set +C
	fi
	if [ "$mode_right" = 1 ] && [ -e "$private/$3" ]; then
		for item in 1 2 3 4 5 6 7 8 9 10; do
			said=$(show_evidence "$3")
			number=${said%% *}
			case $said in
			*done*) return ;;
			esac
			! ranges_match "$number" "$4" || return
			# The other run may be at it.
			sleep 0.3 || sleep 1
		done
		number=$(stat -L -c %s "$1")
	fi
	if ! stage_data "$6" "$7" "$4" "$5"; then
		rm -f "$private/$3"
	elif has_space "$4"; then
		if said=$(cat "$staged" 2>&1 >>"$1"); then
			check_append "$4"
		else
			text_error "$said"
			undo_append "$4"
		fi
		[ "$error" != OK ] || note_evidence "$3" "done"
	else
		error=ENOSPC
		rm -f "$private/$3"
	fi
	remove_own "$staged"
}
copy_range() {
	other=$2
	if [ ! -f "$1" ] || [ -L "$1" ]; then
		error=EINVAL
		exists "$1" || path_error "$1"
		return
	elif [ ! -r "$1" ]; then
		error=EACCES
		return
	fi
	path=$2
	if is_target "$2"; then
		path=$1
		number=$(($(stat -L -c %s "$1") - $3))
		[ "$number" -lt "$5" ] || number=$5
		[ "$number" -gt 0 ] || number=0
		try dd if="$1" of="$2" bs=1048576 skip="$3" seek="$4" \
		    count="$number" iflag=skip_bytes,count_bytes \
		    oflag=seek_bytes conv=notrunc
	fi
	path=$1
}
