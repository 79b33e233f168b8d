# shellcheck shell=sh disable=SC2154
# Changes: what all of them share.  Expects record_*.sh.
#	change N OP PATH ARGUMENT...
# runs the function OP with the rest, and adds to answers
#	"#N E K EXIST;", records, ";#. FLAGS NUMBER;"
# E: OK or the errno's name.  The records (show_attributes of record_*.sh):
# PATH, its directory, for an OP with two paths the other and its directory, and
# what OP has kept (kept_file); as they are now, however it went.  EXIST has a
# digit for each: 1, or 0 for one that does not exist and has no record; it is
# empty when OP has emptied p.  FLAGS, a sum: 1: times were set to whole seconds
# only; 2: the file was replaced instead of written in place, it has a new
# inode.  NUMBER: an OP's own.
#	answer_plain ID
# runs the function calls, which has the changes in it, and prints answers as a
# frame (answer of frame.sh) of plain text: "=" stands for that before it, and
# the length is the text's.  It is ASCII without anything to be trimmed, and
# takes no process. The composer sets again=1 before a change that repeats a
# command whose answer was lost: then the state that the first run leaves is
# success.  It sets lent_right before one that writes for who might when he
# opened the file, though the mode has come to deny it: u-w, u-r or u-rw, see
# lend_mode of write.sh.  Where error, which the change before leaves, is not
# OK, one is left out that is meant only to follow it. For the OPs: error is OK;
# flags and number are those of the answer; other is for the other path; mask is
# the umask of try; index is N.  removal: what find is to do with our own files
# own_file and own_evidence (evidence.sh) before it prints the records.
# lent_file: the file whose mode lend_mode has changed, until restore_mode.
# shellcheck disable=SC2034 # some are for other files
again=0 lent_right='' kept_file='' removal='' own_file='' own_evidence='' lent_file=''
change() {
	index=$1 error=OK flags=0 number=0 other='' mask=077 path=$3
	shift
	"$@"
	[ -z "$lent_file" ] || restore_mode
	directory=${path%/*} said=${other%/*} existing=''
	set -- "$path" "${directory:-/}"
	[ -z "$other" ] || set -- "$@" "$other" "${said:-/}"
	[ -z "$kept_file" ] || set -- "$@" "$kept_file"
	[ -n "$path" ] || set --
	for item; do
		shift
		if exists "$item"; then
			existing=${existing}1
			set -- "$@" "$item"
		else
			existing=${existing}0
		fi
	done
	said=
	[ -z "$removal" ] || set -- "$own_file" ${own_evidence:+"$own_evidence"} "$@"
	[ $# = 0 ] || said=$(by='exec'; show_attributes "$@")
	answers="$answers#$index $error $kind $existing;$said;#. $flags $number;" kept_file='' removal='' own_evidence=''
}
# Does it exist, a dangling symlink included?  (Following a link changes its
# access time.)
exists() { [ -L "$1" ] || [ -e "$1" ]; }
# A directory, not a symlink to one?
is_directory() { [ ! -L "$1" ] && [ -d "$1" ]; }
# Device and inode, or nothing.
inode_of() { stat -c %d:%i "$1"; }
# Is nothing in the directory?
is_empty() { [ -z "$(find "$1" -mindepth 1 -maxdepth 1 | head -c 1)" ]; }
# Run a tool; when it fails, set error by its message (the kernel's own reason),
# or by tests when that says nothing.
try() {
	said=$(umask "$mask"; exec "$@" 2>&1 >/dev/null) && return
	text_error "$said"
	directory=${path%/*}
	if [ "$error" = EIO ] && [ ! -w "${directory:-/}" ]; then
		path_error "$path"
		case $error in
		ENOENT) error=EACCES ;;
		esac
	fi
	return 1
}
# As text_error, for a shell's message about a redirection to the path:
# "nonexistent" may also mean ENOTDIR or ELOOP.
redirect_error() {
	text_error "$1"
	[ "$error" != ENOENT ] || path_error "$path"
}
# On a repeat: is errno $1 what a successful first run would lead to?
is_repeat() { [ "$again" = 1 ] && [ "$error" = "$1" ]; }
answer_plain() {
	answers=''
	calls >/dev/null
	printf '\n%s%s %s\n=%s\n%s%s %s %s>\n' '<gfs-' begin "$1" "$answers" \
	    '<gfs-' end "$1" "${#answers}"
}
