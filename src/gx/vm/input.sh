# shellcheck shell=sh disable=SC2015,SC2034,SC2154
# W TOKEN PART LAST ROWS COLUMNS O E MAX STEPS
# Give the job what the function B prints as this part of its input; PART 0: no
# part.  LAST: the number of the last one, or "".  ROWS: the size of its
# terminal, or "".  Each once, however often it is asked for.  Then wait for
# output, STEPS * 0.02 s at most; T.
# Q: note that it ran beside one that waits.
Q() {
	[ ! -f "$j/wait" ] || true >"$d/side"
}
W() {
	j=$d/t.$1 f=0
	Q
	read -r f <"$j/fed"
	if [ "$2" -gt "$f" ] && [ ! -f "$j/in.$2" ]; then
		B >"$j/in.new" && mv "$j/in.new" "$j/in.$2"
	fi
	if [ -n "$3" ]; then
		echo "$3" >"$j/in.last" && mv "$j/in.last" "$j/in.end"
	fi
	[ -z "$4" ] || stty -F "$(cat "$j/tty")" rows "$4" cols "$5"
	[ ! -p "$j/wake" ] || echo 1<>"$j/wake"
	i=0
	while [ $i -lt "$9" ] && [ ! -f "$j/exit" ]; do
		z
		[ "$o" -le "$6" ] || break
		i=$((i + 1))
		sleep 0.02 || break
	done
	T "$6" "$7" "$8"
}
