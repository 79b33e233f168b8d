# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# What a change leaves in the VM for its own repeat, for X of change.sh.
#	Fg TOKEN...		forget the evidence for repeats; not by X
#	Ff			now at the latest; after the last X
# The evidence: TOKEN in a directory of our own holds what a first run did, so
# that a repeat, even one at the same time, knows its own work from somebody
# else's.
# Who is this?  Without a process, where that works.
u=''
while read -r _f _ u _ && [ "$_f" != Uid: ]; do
	:
done </proc/self/status
case $u in
'' | *[!0-9]*) u=$(id -u) ;;
esac
t=${TMPDIR:-/tmp}/.gentilityfs-$u
# The token whose evidence goes with the next file to be removed.
_F=''
# Add the word $2 to the evidence under token $1.
N() {
	[ -d "$t" ] || mkdir "$t"
	[ -L "$t" ] || [ ! -O "$t" ] || printf '%s ' "$2" >>"$t/$1"
}
# Did a run with token $1 create the file $2?
Ev() {
	[ -s "$t/$1" ] && case " $(nn "$1")" in
	*" $(i "$2") "*) ;;
	*) false ;;
	esac
}
# Print the evidence.
nn() { [ -L "$t" ] || [ ! -O "$t" ] || cat "$t/$1"; }
# Remove a hidden file of our own, and what is to be forgotten; find does it on
# the way to the records, and prints none of these if it can't.
rr() {
	if [ "$K" = G ]; then
		_G=$1 _H=${_F:+$t/$_F}
		_R="( -name ${1##*/} ${_F:+-o -name $_F} ) ( -delete -o -true ) -o"
	else
		rm -f "$1" ${_F:+"$t/$_F"}
	fi
	_F=''
}
Fg() {
	for _f; do
		Ff
		_F=$_f
	done
}
Ff() { [ -z "$_F" ] || rm -f "$t/$_F"; }
