# shellcheck shell=sh disable=SC2034,SC2154 # variables of change.sh
# What a change leaves in the VM for its own repeat, for change of change.sh.
#	forget TOKEN...
#		forget the evidence for repeats; not by change
#	forget_now
#		now at the latest; after the last change
# The evidence: TOKEN in a directory of our own holds what a first run did, so
# that a repeat, even one at the same time, knows its own work from somebody
# else's.
# Who is this?  Without a process, where that works.
uid=''
while read -r item _ uid _ && [ "$item" != Uid: ]; do
	:
done </proc/self/status
case $uid in
'' | *[!0-9]*) uid=$(id -u) ;;
esac
private=${TMPDIR:-/tmp}/.gentilityfs-$uid
# The token whose evidence goes with the next file to be removed.
forgotten=''
# Add the word $2 to the evidence under token $1.
note_evidence() {
	[ -d "$private" ] || mkdir "$private"
	[ -L "$private" ] || [ ! -O "$private" ] || printf '%s ' "$2" >>"$private/$1"
}
# Did a run with token $1 create the file $2?
has_created() {
	[ -s "$private/$1" ] && case " $(show_evidence "$1")" in
	*" $(inode_of "$2") "*) ;;
	*) false ;;
	esac
}
# Print the evidence.
show_evidence() { [ -L "$private" ] || [ ! -O "$private" ] || cat "$private/$1"; }
# Remove a hidden file of our own, and what is to be forgotten; find does it on
# the way to the records, and prints none of these if it can't.
remove_own() {
	if [ "$kind" = G ]; then
		own_file=$1 own_evidence=${forgotten:+$private/$forgotten}
		removal="( -name ${1##*/} ${forgotten:+-o -name $forgotten} ) ( -delete -o -true ) -o"
	else
		rm -f "$1" ${forgotten:+"$private/$forgotten"}
	fi
	forgotten=''
}
forget() {
	for item; do
		forget_now
		forgotten=$item
	done
}
forget_now() { [ -z "$forgotten" ] || rm -f "$private/$forgotten"; }
