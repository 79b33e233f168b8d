# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# Whole files, for change of change.sh; with piece.sh and evidence.sh.  New
# bytes are first staged in a hidden file (piece.sh) and checked there by length
# and SHA-256; only then is the target touched. TOKEN: 16 hex digits or so, new
# for each file sent, the same on a repeat. HOW: x: the target must not exist;
# c: it may; m: it must.
#	write_file PATH HOW MODE TOKEN SIZE SUM ATIME MTIME OWNER SPACE FORM DATA
#		the whole contents.  MODE, OWNER: "" keeps an existing file's.
#		SPACE: bytes that an existing one is known to take.  FORM of
#		the DATA: t: as they are; r: in base64; z: gzipped before that
# An existing target is written in place, so it keeps inode, links and mode.
# When that fails half-way, the staged file takes its place as a whole.

# Not empty: what is staged has holes, and no sum.
has_holes=''
# Are two files the same?
is_same() {
	if has cmp; then
		cmp -s "$1" "$2"
	else
		[ "$(sum_of <"$1")" = "$(sum_of <"$2")" ]
	fi
}
# Has file $3 length $1 and sum $2?
has_bytes() {
	[ -f "$3" ] && [ "$(stat -L -c %s "$3")" -eq "$1" ] &&
	    { [ -n "$has_holes" ] || has_sum "$2" "$3"; }
}
# What the mode denies (V) the owner grants himself until L, to write and to
# check what was written.  (A first run may have been stopped before L.)
lend_mode() {
	[ -O "$1" ] && [ ! -L "$1" ] || return
	[ "$again" = 1 ] || [ ! -r "$1" ] || [ ! -w "$1" ] || return
	lent_file=$1
	trap 'restore_mode; exit 1' HUP INT TERM
	chmod "u+${lent_right#u-}" "$1"
}
# The mode as it was, but for what writing has cleared of it.
restore_mode() {
	chmod "$lent_right" "$lent_file"
	lent_file=''
	trap - HUP INT TERM
}
# Can the target be opened for writing?  Sets error when not.  (True, since a
# failed redirection of ":" would end the shell.)
can_write() {
	[ -z "$lent_right" ] || lend_mode "$1"
	true >>"$1" || {
		redirect_error "$( { : >>"$1"; } 2>&1)"
		return 1
	}
}
# Make the empty hidden file, with the mode $1 if the umask can.
open_staged() {
	# Decimal, but no digit borrows from the next.
	case $1 in
	006[0246][0246]) umask $((1777 - 1${1#00})) ;;
	esac
	if true >"$staged"; then
		umask 077
	else
		umask 077
		redirect_error "$( { : >"$staged"; } 2>&1)"
		return 1
	fi
}
# Print the bytes of form $1 and data $2.
show_data() {
	case $1 in
	z) printf %s "$2" | decode | gzip -dc ;;
	r) printf %s "$2" | decode ;;
	*) printf %s "$2" ;;
	esac
}
# Form $1, data $2, size $3, sum $4, mode $5 if that matters: stage it.
stage_data() {
	open_staged "$5" || return
	staged_size=$3
	[ "$staged_size" != 0 ] || [ -s "$staged" ] || return 0
	show_data "$1" "$2" >"$staged"
	# The sum says that the length is right, too.
	has_sum "$4" "$staged" || {
		# Once more, to hear the reason.
		said=$( { show_data "$1" "$2" | cat >"$staged"; } 2>&1)
		rm -f "$staged"
		if has_space "$3"; then
			redirect_error "$said"
		else
			error=ENOSPC
		fi
		return 1
	}
}
# The staged bytes into a file that is there.
copy_staged() {
	if [ -n "$has_holes" ]; then
		copy_parts "$1" && note_evidence "$token" "$(inode_of "$1")"
	else
		said=$(cat "$staged" 2>&1 >"$1") || return
		# What may be written but not read is checked by its length.
		if [ -r "$1" ]; then
			is_same "$staged" "$1"
		else
			[ "$(stat -c %s "$1")" = "$staged_size" ]
		fi
	fi
}
# The same, of whole_size bytes, with holes around the parts.
copy_parts() {
	item=$1
	# shellcheck disable=SC2086 # offsets and lengths
	set -- $parts
	said=$({ : >"$item"; } 2>&1) || return
	said=$(dd of="$item" bs=1 seek="$whole_size" count=0 2>&1) || return
	while [ $# -gt 1 ]; do
		said=$(dd if="$staged" of="$item" bs=65536 skip="$1" count="$2" \
		    seek="$1" iflag=skip_bytes,count_bytes \
		    oflag=seek_bytes conv=notrunc 2>&1) || return
		shift 2
	done
}
# The staged file's bytes, staged_size of them, into the existing target, which
# takes taken_space.
write_in_place() {
	can_write "$1" || return
	case $staged in
	"${1%/*}"/*) ;;
	*) taken_space=0 ;; # there is no way out, below: look
	esac
	if [ "$staged_size" -gt "$taken_space" ]; then
		said=$(stat -c %b "$1")
		has_space $((staged_size - ${said:-0} * 512)) || {
			error=ENOSPC
			return
		}
	fi
	copy_staged "$1" && return
	text_error "$said"
	# Not half of it: the whole file, if it lies beside.  (If not, because
	# the directory can't be written, the staged file is on another disk
	# maybe, and the space was checked.)
	case $staged in
	"${1%/*}"/*)
		chown "$(stat -c %u:%g "$1")" "$staged"
		chmod "$(stat -c %a "$1")" "$staged" && mv -fT "$staged" "$1" && {
			error=OK
			flags=$((flags | 2))
		} ;;
	esac
}
# The staged file becomes the target, which does not exist: path, how, mode,
# token.  1: now it does exist.
put_new() {
	# Of a new file it may be right already.
	said=$(stat -c '%a %d:%i' "$staged")
	mode_right=1
	[ $((0${said%% *})) -eq $((0$3)) ] || chmod "$3" "$staged" || mode_right=''
	# So that a repeat knows this file from one of somebody else.
	needs_evidence "$2" && note_evidence "$4" "${said#* }"
	case $staged in
	"${1%/*}"/*) try ln -T "$staged" "$1" && mode_done=$mode_right && return ;;
	esac
	exists "$1" && return 1
	# No hard links here, or the directory can't be written: then this
	# says why.  Exclusive, too, by -C.
	error=OK
	said=$( (set -C; : >"$1") 2>&1) || {
		exists "$1" && return 1
		redirect_error "$said"
		return 0
	}
	needs_evidence "$2" && note_evidence "$4" "$(inode_of "$1")"
	copy_staged "$1" && chmod "$3" "$1" && return
	rm -f "$1"
	error=ENOSPC
	! has_space "$staged_size" || error=EIO
}
# Put the staged file in place: path, how, mode, token.  mode_done: its mode is
# set.
put_staged() {
	token=$4
	if ! exists "$1"; then
		if [ "$2" = m ]; then
			path_error "$1"
			return
		fi
		put_new "$1" "$2" "${3:-00600}" "$4" && return
		error=OK
	fi
	if [ "$2" = x ]; then
		has_created "$4" "$1" || error=EEXIST
	elif [ -L "$1" ]; then
		error=ESTALE
	elif [ -d "$1" ]; then
		error=EISDIR
	elif [ ! -f "$1" ]; then
		error=EINVAL
	else
		write_in_place "$1"
	fi
}
# Does only evidence tell that it was us?  How.
needs_evidence() { [ "$1" = x ] || [ -n "$has_holes" ]; }
# Has the target these bytes already, and is it the one to have them?  Path,
# how, token, size, sum.
is_done() {
	[ -z "$lent_right" ] || lend_mode "$1"
	{ ! needs_evidence "$2" || has_created "$3" "$1"; } && [ ! -L "$1" ] && has_bytes "$4" "$5" "$1"
}
# The rest of write_file and commit_file.  When another run of the same was
# faster, something may have failed here, but the result counts.
finish_write() {
	[ "$error" = OK ] || ! is_done "$1" "$2" "$4" "$5" "$6" || error=OK
	[ -z "$lent_file" ] || restore_mode
	[ "$error" = OK ] || return
	# The owner first: it clears setuid.
	[ -z "$9" ] || try chown -h "$9" "$1" || return
	[ -z "$3" ] || { [ -n "$mode_done" ] && [ -z "$9" ]; } || try chmod "$3" "$1" ||
	    return
	[ "$7$8" = omitomit ] || set_times "$1" "$7" "$8"
}
write_file() {
	find_staged "$1" "$4"
	staged=$staged.$$ mode_done='' has_holes='' taken_space=${10}
	if [ "$again" = 0 ] || ! is_done "$1" "$2" "$4" "$5" "$6"; then
		if [ "$2" = x ] && exists "$1"; then
			error=EEXIST
		else
			stage_data "${11}" "${12}" "$5" "$6" "$3" &&
			    put_staged "$1" "$2" "$3" "$4"
		fi
	fi
	remove_own "$staged"
	finish_write "$@"
}
