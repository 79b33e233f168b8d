# shellcheck shell=sh disable=SC2016,SC2046
# The process that a job lives under, in a session of its own.
#	sh -c RUNNER gx-job DIR UMASK SHELL
# runs DIR/cmd and leaves its exit code in DIR/exit; DIR/pid says who it is.
# A signal meant for the job must not keep it from that.
I() {
	set -- "$1" $(cat "/proc/$1/stat" 2>/dev/null)
	echo "$1 ${23:-0} $(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
}
trap : HUP INT TERM
I $$ >"$1/pid"
: >"$1/run"
t=$(cat "$1/token") s=$3
(
	umask "$2"
	GX_RUN=$t
	export GX_RUN
	exec "$s" -c 'gx_cmd=$1; shift; . "$gx_cmd"' "$s" "$1/cmd"
) </dev/null >"$1/out" 2>&1
x=$?
# Nor mv, which would not inherit the trap above.
trap '' HUP INT TERM
echo $x >"$1/exit.new"
mv "$1/exit.new" "$1/exit"
