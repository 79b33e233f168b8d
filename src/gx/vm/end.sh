# shellcheck shell=sh disable=SC2015,SC2034,SC2154
# K JOB	end it (N or t.TOKEN), and what may be left of one that is dead, and keep
#	one from starting that has not begun: its state before
# H TOKEN	it is to be kept, and to have a number; T without any output
K() {
	j=$d/$1
	G "$j"
	case $s$1 in
	gonet.*)
		mkdir -p "$d"
		mkdir "$j" && echo 143 >"$j/exit" && true >"$j/out" && true >"$j/err"
		G "$j"
		;;
	esac
	echo "$s"
	q=3
	case $s in
	running) read -r k x <"$j/pid" ;;
	dead) k='' ;;
	*) return ;;
	esac
	E "$(cd -P "$j" && echo "${PWD##*/t.}")" "$k"
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
H() {
	j=$d/t.$1
	true >"$j/keep"
	N
	T 0 0 0
}
