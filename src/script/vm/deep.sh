# shellcheck shell=sh
# Paths that are too long for one system call.
#	Gd N PART...	open a directory as descriptor N; each PART is relative
#			to the one before.  If that can't be done N is closed,
#			so that what is below it does not exist
Gd() {
	_n=$1 _p=
	shift
	eval "exec $_n<&-"
	for _f; do
		_f=$_p$_f
		if [ ! -d "$_f" ] || [ ! -r "$_f" ]; then
			eval "exec $_n<&-"
			return
		fi
		eval "exec $_n<\"\$_f\""
		_p=/proc/self/fd/$_n/
	done
}
