# shellcheck shell=sh
# Changes: what all of them share.  Expects list_gnu.sh or list_busybox.sh.
#	X N OP PATH ARGUMENT...
# runs the function OP with the rest, and prints
#	"#N E K\0", records, "#. FLAGS NUMBER\0"
# E: OK or the errno's name.  The records (s of list_*.sh; a path that does
# not exist has none): PATH, its directory, and for an OP with two paths the
# other and its directory; as they are now, however it went.  FLAGS, a sum: 1:
# times were set to whole seconds only; 2: the file was replaced instead of
# written in place, it has a new inode.  NUMBER: an OP's own.
# The composer sets A=1 before an X that repeats a command whose answer was
# lost: then the state that the first run leaves is success.
# For the OPs: e is OK; w and y are the flags and the number; q is for the
# other path; U is the umask of m; the number of N is in n.
# shellcheck disable=SC2034 # some are for other files
A=0
X() {
	n=$1 e=OK w=0 y=0 q='' U=077 p=$3
	shift
	"$@"
	printf '#%s %s %s\0' "$n" "$e" "$K"
	d=${p%/*} o=${q%/*}
	if [ -z "$q" ]; then
		s "$p" "${d:-/}"
	else
		s "$p" "${d:-/}" "$q" "${o:-/}"
	fi
	printf '#. %s %s\0' "$w" "$y"
}
# Does it exist, a dangling symlink included?
x() { [ -e "$1" ] || [ -L "$1" ]; }
# A directory, not a symlink to one?
r() { [ -d "$1" ] && [ ! -L "$1" ]; }
# Device and inode, or nothing.
i() { stat -c %d:%i "$1"; }
# Is nothing in the directory?
k() { [ -z "$(find "$1" -mindepth 1 -maxdepth 1 | head -c 1)" ]; }
# Run a tool; when it fails, set e by its message (the kernel's own reason),
# or by tests when that says nothing.
m() {
	o=$(umask "$U"; "$@" 2>&1 >/dev/null) && return
	T "$o"
	d=${p%/*}
	if [ "$e" = EIO ] && [ ! -w "${d:-/}" ]; then
		E "$p"
		case $e in
		ENOENT) e=EACCES ;;
		esac
	fi
	return 1
}
# As T, for a shell's message about a redirection to the path: "nonexistent"
# may also mean ENOTDIR or ELOOP.
To() {
	T "$1"
	[ "$e" != ENOENT ] || E "$p"
}
# On a repeat: is errno $1 what a successful first run would lead to?
R() { [ "$A" = 1 ] && [ "$e" = "$1" ]; }
