# shellcheck shell=sh disable=SC2030,SC2031,SC2015,SC2016,SC2086
# The process that a job lives under, in a session of its own.
#	sh -c RUNNER gx-job DIR UMASK SHELL TOKEN FLAGS TIMEOUT IDLE ROWS COLUMNS \
#		INNER PYTHON PERL
# runs DIR/cmd, by INNER, and leaves its exit code in DIR/exit; DIR/pid says who
# it is.  FLAGS are those of start.sh; TIMEOUT: seconds until it is ended, IDLE:
# how long it may be that nobody asks for its output; 0: for ever.  Both need E.
I() {
	x='' y=''
	read -r x <"/proc/$1/stat"
	read -r y </proc/sys/kernel/random/boot_id
	set -- "$1" ${x##*) }
	echo "$1 ${21:-0} $y"
}
# A signal meant for the job must not keep us from telling its end.
trap : HUP INT TERM
I $$ >"$1/pid"
j=$1 t=$4 f=$5 w='' i=/dev/null
if [ "$6" != 0 ]; then
	(
		trap 'kill $x; exit' TERM
		sleep "$6" & x=$!
		wait $x
		trap '' TERM
		true >"$j/over"
		E "$t" $$
	) &
	w="$w $!"
fi
if [ "$7" != 0 ]; then
	(
		trap 'kill $x; exit' TERM
		true >"$j/seen"
		while rm "$j/seen"; do
			sleep "$7" & x=$!
			wait $x
		done
		trap '' TERM
		E "$t" $$
	) &
	w="$w $!"
fi
# Parts of input come as files; a pipe tells when to look.
parts() {
	exec 3<>"$j/wake"
	n=1
	while :; do
		while [ -f "$j/in.$n" ]; do
			cat "$j/in.$n" || exit
			rm -f "$j/in.$n"
			echo $n >"$j/fed"
			n=$((n + 1))
		done
		x=''
		read -r x <"$j/in.end" && [ $n -gt "$x" ] && exit
		read -r x <&3
	done
}
py=${11} pl=${12}
set -- "$j" "$2" "$3" "$t" "$f" "$8" "$9" "${10}"
case $f in *p*)
	GX_inner=$8
	export GX_inner
	if command -v python3; then
		f=p
		set -- python3 -c "$py" "$@"
	elif command -v perl; then
		f=p
		set -- perl -e "$pl" "$@"
	else
		f=sip
		export GX_j="$j" GX_u="$2" GX_s="$3" GX_t="$t" GX_r="$6" GX_c="$7"
		set -- script -q -e -f -c 'exec sh -c "$GX_inner" gx-run "$GX_j" "$GX_u" "$GX_s" "$GX_t" p "$GX_r" "$GX_c"' /dev/null
	fi ;;
*)
	f=s$f
	set -- sh -c "$8" gx-run "$@" ;;
esac
# Shells have what they start with & ignore two signals, and none can undo it.
x='env --default-signal=INT,QUIT'
case $f in s*) ! $x true || set -- $x "$@" ;; esac
case $f in
*i*)
	i=$j/in
	mkfifo "$i"
	parts >"$i" &
	w="$w $!"
	;;
*E*) [ ! -f "$j/in.1" ] || i=$j/in.1 ;;
esac
# In a subshell: else our own word on what killed it would stand there, too.
case $f in
*[mp]*) (exec "$@" <"$i" >>"$j/out" 2>&1) ;;
*) (exec "$@" <"$i" >>"$j/out" 2>>"$j/err") ;;
esac
x=$?
# Nor mv, which would not inherit the trap above.
trap '' HUP INT TERM
[ -z "$w" ] || kill $w
[ ! -f "$j/over" ] || x=124
echo $x >"$j/exit.new"
mv "$j/exit.new" "$j/exit"
echo 1<>"$j/w"
