# shellcheck shell=sh
# Paths that are too long for one system call.
#	open_deep N PART...
#		open a directory as descriptor N; each PART is relative to the
#		one before.  If that can't be done N is closed, so that what
#		is below it does not exist
open_deep() {
	descriptor=$1 above=
	shift
	eval "exec $descriptor<&-"
	for part; do
		part=$above$part
		if [ ! -d "$part" ] || [ ! -r "$part" ]; then
			eval "exec $descriptor<&-"
			return
		fi
		eval "exec $descriptor<\"\$part\""
		above=/proc/self/fd/$descriptor/
	done
}
