# shellcheck shell=sh disable=SC2119,SC2120,SC2015,SC2034,SC2046,SC2086,SC2154
# Jobs: each command of gx is one, and goes on in the VM by itself.  Each has a
# directory t.TOKEN in $d, the token being its name for ever, with the files
#	cmd, env	the command's text, and what goes before it
#	out, err	what it wrote
#	exit	its exit code, at the end	pid	its runner: number, start, boot
#	n	its number, a link to the directory: for those that take longer
#	keep	it stays until --clean		got	all of it was fetched
#	w	a pipe: the end is told there	seen	somebody asked of late
#	in.1, in.2 ... in.end	input, and how many parts it has; fed: how many of
#		them were taken; wake: a pipe, to be told of the next
#	tty	its terminal
# Each request is composed of this and what else it needs.  Defines
#	M WHERE	print a mark: begin or end of the answer, for the request $r
#	G DIR	set s to the state of that job
#	N	give the job $j a number, if it has none
#	T O E MAX	what is to be told of the job $j: a line
#			TOKEN NUMBER OUT ERR FED SIDE STATE
#		(number 0: none; sizes; side: 1 if commands are known to run side by
#		side), up to MAX bytes of out from O on, in base64, a line with a
#		dot, and what is left of MAX of err from E on.  q becomes 3 when the
#		job is over: then files may have changed.
#	P TOKEN O E MAX STEPS PAUSE FED
#		wait for output beyond O or E, the end, or until so many parts of
#		input were taken: STEPS * 0.1 s at most; then for PAUSE more; T
# STATE is "running", "exit CODE", "dead" (it ended without leaving a code: it
# was killed from outside, or the VM was restarted) or "gone" (no such job).
#
# Where a service runs commands one after the other, waiting holds the others
# up.  So P gives up after a second, unless $d/side says that it has run beside
# another, which that other notes (Q).
set +exuvC +f
u=$(umask)
umask 077
exec 2>/dev/null </dev/null
q=0
if [ -n "${HOME-}" ] && [ -d "$HOME" ] && [ -w "$HOME" ]; then
	d=$HOME/.cache/gentility-jobs
else
	d=/tmp/gentility-jobs-$(id -u)
fi
M() { printf '\n<gx-%s %s>\n' "$1" "$r"; }
b() {
	if command -v base64 >/dev/null; then
		base64 "$@"
	else
		openssl base64 "$@"
	fi
}
I() {
	x='' y=''
	read -r x <"/proc/$1/stat"
	read -r y </proc/sys/kernel/random/boot_id
	set -- "$1" ${x##*) }
	[ "${2-}" != Z ] || set -- "$1"
	echo "$1 ${21:-0} $y"
}
A() {
	read -r p x <"$1/pid" && kill -0 "$p" && [ "$(I "$p")" = "$p $x" ]
}
G() {
	s=gone
	[ -d "$1" ] || return 0
	s=running
	if [ ! -f "$1/exit" ] && ! A "$1" && [ ! -f "$1/exit" ]; then
		s=dead
	fi
	! read -r x <"$1/exit" || s="exit $x"
}
N() {
	[ ! -f "$j/n" ] || return 0
	n=1
	for x in "$d"/[0-9]*; do
		x=${x##*/}
		case $x in
		*[!0-9]*) ;;
		*) [ "$x" -lt "$n" ] || n=$((x + 1)) ;;
		esac
	done
	i=0
	until ln -sn "${j##*/}" "$d/$n"; do
		n=$((n + 1)) i=$((i + 1))
		[ $i -lt 1000 ] || return 1
	done
	echo "$n" >"$j/n"
}
z() {
	o=0 e=0
	[ ! -s "$j/out" ] || o=$(wc -c <"$j/out")
	[ ! -s "$j/err" ] || e=$(wc -c <"$j/err")
	o=$((o)) e=$((e))
}
c() {
	if [ "$2" = 0 ]; then
		head -c "$3" "$1"
	elif [ "$2" -gt 9999999 ] &&
		dd if=/dev/null iflag=skip_bytes,count_bytes count=0; then
		dd if="$1" bs=65536 iflag=skip_bytes,count_bytes skip="$2" count="$3"
	else
		tail -c "+$(($2 + 1))" "$1" | head -c "$3"
	fi | b
}
T() {
	G "$j"
	[ "$s" != gone ] || { echo "- 0 0 0 0 0 gone"; return; }
	z
	n=0 f=0 t=0
	read -r n <"$j/n"
	read -r f <"$j/fed"
	[ ! -f "$d/side" ] || t=1
	[ "$s" = running ] || q=3
	x=$((o - $1)) y=$3
	if [ $x -gt $y ]; then
		x=$y y=0
	else
		[ $x -ge 0 ] || x=0
		y=$((y - x))
	fi
	k=$((e - $2))
	[ $k -ge 0 ] || k=0
	if [ $k -gt $y ]; then
		k=$y
	elif [ "$s" != running ] && [ $(($1 + x)) -ge "$o" ]; then
		true >"$j/got"
	fi
	# A name of its own as long as the link is.
	echo "$(cd -P "$j" && echo "${PWD##*/t.}") $n $o $e $f $t $s"
	[ $x = 0 ] || c "$j/out" "$1" $x
	echo .
	[ $k = 0 ] || c "$j/err" "$2" $k
}
P() {
	j=$d/$1 i=0 f=0
	# Not ":", whose failed redirection would end the shell.
	true >"$j/seen"
	true >"$j/wait"
	while :; do
		if [ -f "$j/exit" ] || [ $((i % 20)) = 0 ]; then
			G "$j"
		fi
		[ "$s" = running ] || break
		z
		[ "$o" -le "$2" ] && [ "$e" -le "$3" ] && [ $i -lt "$5" ] || break
		[ $i -lt 10 ] || [ -f "$d/side" ] || break
		read -r f <"$j/fed"
		[ "$f" -lt "$7" ] || break
		i=$((i + 1))
		sleep 0.1 || { i=$((i + 9)); sleep 1; }
	done
	[ "$6" = 0 ] || [ "$s" != running ] || sleep "$6" || sleep 1
	rm -f "$j/wait"
	true >"$j/seen"
	T "$2" "$3" "$4"
}
