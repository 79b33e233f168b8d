# shellcheck shell=sh
# Changes: what all of them share.  Expects record_*.sh.
#	X N OP PATH ARGUMENT...
# runs the function OP with the rest, and adds to _Z
#	"#N E K EXIST;", records, ";#. FLAGS NUMBER;"
# E: OK or the errno's name.  The records (v of record_*.sh): PATH, its
# directory, for an OP with two paths the other and its directory, and what OP
# has kept (_K); as they are now, however it went.  EXIST has a digit for each:
# 1, or 0 for one that does not exist and has no record; it is empty when OP has
# emptied p.  FLAGS, a sum: 1: times were set to whole seconds only; 2: the file
# was replaced instead of written in place, it has a new inode.  NUMBER: an OP's
# own.
#	p ID
# runs the function I, which has the Xs in it, and prints _Z as a frame (P of
# frame.sh) of plain text: "=" stands for that before it, and the length is
# the text's.  It is ASCII without anything to be trimmed, and takes no process.
# The composer sets A=1 before an X that repeats a command whose answer was
# lost: then the state that the first run leaves is success.  It sets V before
# one that writes for who might when he opened the file, though the mode has
# come to deny it: u-w, u-r or u-rw, see Ld of write.sh.  Where e, which the X
# before leaves, is not OK, one is left out that is meant only to follow it.
# For the OPs: e is OK; w and y are the flags and the number; q is for the
# other path; U is the umask of m; the number of N is in n.  _R: what find is
# to do with our own files _G and _H (evidence.sh) before it prints the records.
# _W: the file whose mode Ld has changed, until L.
# shellcheck disable=SC2034 # some are for other files
A=0 V='' _K='' _R='' _G='' _H='' _W=''
X() {
	n=$1 e=OK w=0 y=0 q='' U=077 p=$3
	shift
	"$@"
	[ -z "$_W" ] || L
	d=${p%/*} o=${q%/*} _k=''
	set -- "$p" "${d:-/}"
	[ -z "$q" ] || set -- "$@" "$q" "${o:-/}"
	[ -z "$_K" ] || set -- "$@" "$_K"
	[ -n "$p" ] || set --
	for _f; do
		shift
		if x "$_f"; then
			_k=${_k}1
			set -- "$@" "$_f"
		else
			_k=${_k}0
		fi
	done
	o=
	[ -z "$_R" ] || set -- "$_G" ${_H:+"$_H"} "$@"
	[ $# = 0 ] || o=$(_x='exec'; v "$@")
	_Z="$_Z#$n $e $K $_k;$o;#. $w $y;" _K='' _R='' _H=''
}
# Does it exist, a dangling symlink included?  (Following a link changes its
# access time.)
x() { [ -L "$1" ] || [ -e "$1" ]; }
# A directory, not a symlink to one?
r() { [ ! -L "$1" ] && [ -d "$1" ]; }
# Device and inode, or nothing.
i() { stat -c %d:%i "$1"; }
# Is nothing in the directory?
k() { [ -z "$(find "$1" -mindepth 1 -maxdepth 1 | head -c 1)" ]; }
# Run a tool; when it fails, set e by its message (the kernel's own reason),
# or by tests when that says nothing.
m() {
	o=$(umask "$U"; exec "$@" 2>&1 >/dev/null) && return
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
p() {
	_Z=''
	I >/dev/null
	printf '\n%s%s %s\n=%s\n%s%s %s %s>\n' '<gfs-' begin "$1" "$_Z" \
	    '<gfs-' end "$1" "${#_Z}"
}
