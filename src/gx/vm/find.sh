# shellcheck shell=sh disable=SC2046,SC2086 # numbers are meant to split
# Who belongs to a command, and what ends it.  Sets
#	F TOKEN		p to the processes of the command: those that have
#			GX_RUN=TOKEN in their environment, or in their arguments,
#			as the shell has that was given the command
#	E TOKEN [GROUP]	end them: TERM, and KILL for those that are left; n is the
#			number of them; also, if it is given, the process group
# The search must not find itself: it looks for [t]oken.
F() {
	p='' w="GX_RUN=[${1%"${1#?}"}]${1#?}"
	if printf 'a\0b\0' | grep -qzx b; then
		set -- $(grep -lzs "$w" /proc/[0-9]*/environ /proc/[0-9]*/cmdline)
	else
		for x in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
			tr '\0' '\n' <"$x" | grep -q "$w" && set -- "$@" "$x"
		done
		shift
	fi
	# Parents first: they shall not go on when their children have ended.
	p=$(printf '%s\n' "$@" | sed 's,^/proc/,,; s,/.*,,' | sort -nu)
}
E() {
	F "$1"
	n=0
	for x in $p; do
		n=$((n + 1))
	done
	kill -TERM $p
	[ -z "${2-}" ] || kill -TERM -- "-$2"
	i=0
	while F "$1" && [ -n "$p" ] && [ $i -lt 20 ]; do
		i=$((i + 1))
		sleep 0.1 || { i=$((i + 9)); sleep 1; }
	done
	[ -z "$p" ] || kill -KILL $p
}
