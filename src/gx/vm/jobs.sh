# shellcheck shell=sh disable=SC2015,SC2046,SC2154
# Jobs: commands that go on in the VM by themselves.  Each has a directory of
# its number in $d, with the files
#	cmd	the command's text		token	its name for ever
#	out	its output			start	when it began, by date +%s
#	exit	its exit code, at the end	pid	its runner: number, start, boot
# and, so that it is started once only, there is t.TOKEN.  Defines
#	M WHERE	print a mark: begin or end of the answer, for the request $r
#	S TOKEN		start the command that the function C prints, with $R, the
#			runner: "N"
#	P N TOKEN OFFSET MAX TRIES PAUSE
#			wait for output beyond OFFSET, TRIES * 0.2 s at most, and
#			once there is some for PAUSE more; "TOKEN SIZE STATE", then
#			up to MAX bytes of it in base64
#	J	for each job "N START TOKEN STATE", a newline, the command in base64
#		on one line
#	K N	end it, and what may be left of one that is dead: its state before
#	X	forget those that have ended: how many
# STATE is "running", "exit CODE", "dead" (it ended without leaving a code: it
# was killed from outside, or the VM was restarted) or "gone" (no such job).
set +exuvC +f
u=$(umask)
umask 077
exec 2>/dev/null </dev/null
if [ -n "${HOME-}" ] && [ -d "$HOME" ] && [ -w "$HOME" ]; then
	d=$HOME/.cache/gentility-jobs
else
	d=/tmp/gentility-jobs-$(id -u)
fi
M() { printf '\n<gx-%s %s>\n' "$1" "$r"; }
b() {
	if command -v base64 >/dev/null; then
		base64
	else
		openssl base64
	fi
}
I() {
	set -- "$1" $(cat "/proc/$1/stat")
	[ "${4-}" != Z ] || set -- "$1"
	echo "$1 ${23:-0} $(cat /proc/sys/kernel/random/boot_id)"
}
A() {
	read -r p x <"$1/pid" && kill -0 "$p" && [ "$(I "$p")" = "$p $x" ]
}
# Sets s to the state of the job in the directory $1.
G() {
	s=gone
	[ -d "$1" ] || return 0
	s=running
	if [ ! -f "$1/exit" ] && ! A "$1" && [ ! -f "$1/exit" ]; then
		s=dead
	fi
	[ ! -f "$1/exit" ] || s="exit $(cat "$1/exit")"
}
# Others could have made it, in /tmp.
D() {
	mkdir -p "$d"
	[ -d "$d" ] && [ ! -L "$d" ] && [ -O "$d" ] && chmod 700 "$d"
}
S() {
	D || { echo "$d is not a directory of our own"; return; }
	if mkdir "$d/t.$1"; then
		n=1
		for x in "$d"/[0-9]*; do
			x=${x##*/}
			case $x in
			*[!0-9]*) ;;
			*) [ "$x" -lt "$n" ] || n=$((x + 1)) ;;
			esac
		done
		i=0
		until mkdir "$d/$n"; do
			n=$((n + 1)) i=$((i + 1))
			[ $i -lt 1000 ] || { echo "cannot write to $d"; return; }
		done
		j=$d/$n
		I $$ >"$j/pid"
		date +%s >"$j/start"
		C >"$j/cmd"
		: >"$j/out"
		echo "$1" >"$j/token" || { echo "cannot write to $d"; return; }
		s='sh'
		[ -z "${BASH_VERSION-}" ] || s=bash
		set -- "$1" sh -c "$R" gx-job "$j" "$u" "$s"
		t=$1
		shift
		command -v setsid >/dev/null && set -- setsid "$@"
		"$@" </dev/null >/dev/null 2>&1 &
		i=0
		until [ -f "$j/run" ] || [ $i -ge 50 ]; do
			i=$((i + 1))
			sleep 0.1 || sleep 1
		done
		echo "$n" >"$d/t.$t/new"
		mv "$d/t.$t/new" "$d/t.$t/n"
		set -- "$t"
	fi
	i=0
	until [ -f "$d/t.$1/n" ] || [ $i -ge 50 ]; do
		i=$((i + 1))
		sleep 0.1 || sleep 1
	done
	cat "$d/t.$1/n"
}
P() {
	j=$d/$1 i=0 n=0
	[ -z "$2" ] || [ "$(cat "$j/token")" = "$2" ] || j=/nonexistent
	while :; do
		[ $((i % 5)) != 0 ] && [ ! -f "$j/exit" ] || G "$j"
		n=$(wc -c <"$j/out")
		[ "$s" = running ] && [ "$n" -le "$3" ] && [ $i -lt "$5" ] || break
		i=$((i + 1))
		sleep 0.2 || { i=$((i + 4)); sleep 1; }
	done
	if [ "$s" = running ] && [ "$n" -gt "$3" ] && [ "$6" != 0 ] &&
		[ $((n - $3)) -lt "$4" ]; then
		sleep "$6" || sleep 1
		G "$j"
	fi
	[ "$s" = gone ] && echo "- 0 gone" && return
	n=$(wc -c <"$j/out")
	echo "$(cat "$j/token") $((n)) $s"
	[ "$n" -gt "$3" ] || return
	if dd if=/dev/null bs=1 iflag=skip_bytes,count_bytes count=0; then
		dd if="$j/out" bs=65536 iflag=skip_bytes,count_bytes skip="$3" count="$4"
	else
		tail -c "+$(($3 + 1))" "$j/out" | head -c "$4"
	fi | b
}
J() {
	for j in "$d"/[0-9]*; do
		G "$j"
		[ "$s" != gone ] || continue
		echo "${j##*/} $(cat "$j/start") $(cat "$j/token") $s"
		head -c 600 "$j/cmd" | b | tr -d '\n'
		echo
	done
}
K() {
	j=$d/$1
	G "$j"
	echo "$s"
	case $s in
	running) read -r k x <"$j/pid" ;;
	dead) k='' ;;
	*) return ;;
	esac
	E "$(cat "$j/token")" "$k"
	[ -n "$k" ] || return
	i=0
	while [ ! -f "$j/exit" ] && A "$j" && [ $i -lt 20 ]; do
		i=$((i + 1))
		sleep 0.1 || { i=$((i + 9)); sleep 1; }
	done
	# Whoever did not have the token.
	kill -KILL -- "-$k"
	[ -f "$j/exit" ] || echo 137 >"$j/exit"
}
X() {
	c=0
	for j in "$d"/[0-9]*; do
		G "$j"
		case $s in
		exit* | dead)
			t=$(cat "$j/token")
			rm -rf "$j"
			[ -z "$t" ] || rm -rf "$d/t.$t"
			c=$((c + 1))
			;;
		esac
	done
	echo $c
}
