# shellcheck shell=sh disable=SC2115,SC2209,SC2015,SC2034,SC2046,SC2086,SC2154
# S TOKEN WAIT MAX FLAGS TIMEOUT IDLE ROWS COLUMNS
# Start the command that the function C prints, by $R, the runner, and $T_, its inner part, after what
# V prints; once, however often this is asked for.  Then wait so many seconds
# for its end at most, and T.  Or a line that begins with "!": why not.  FLAGS:
#	k	it is to be kept
#	i	it gets input, of which the function B has the first part, if there
#		are parts, or E: all of it
#	m	its errors go where its output goes
#	p	it gets a terminal, by $Y in Python or $L in Perl
#	f	the text is too long for an argument
# Others could have made the directory, in /tmp.
D() {
	mkdir -p "$d"
	[ -d "$d" ] && [ ! -L "$d" ] && [ -O "$d" ] && chmod 700 "$d"
}
# Forget what was fetched.
O() {
	set -- "$d"/t.*/got
	[ $# -gt 8 ] || return 0
	for x in $(cd "$d" && find . -maxdepth 2 -name got -mmin +1); do
		x=${x#./} x=${x%/got}
		[ -f "$d/$x/keep" ] || { read -r n <"$d/$x/n" && rm -f "$d/$n"
			rm -rf "$d/$x"; }
	done
}
S() {
	D || { echo "!$d is not a directory of our own"; return; }
	x=python3
	case $4 in *p*)
		x=$(command -v python3 || command -v perl || command -v script) ;;
	esac
	[ -n "$x" ] || {
		echo "!the VM has none of python3, perl and script, one of which a" \
			"terminal needs"
		return
	}
	j=$d/t.$1
	if mkdir "$j"; then
		O
		mkfifo "$j/w"
		C >"$j/cmd"
		true >"$j/out"
		true >"$j/err" || { echo "!cannot write to $d"; return; }
		V >"$j/env"
		case $4 in *[iEp]*)
			mkfifo "$j/wake"
			echo 0 >"$j/fed"
			B >"$j/in.1"
			[ -s "$j/in.1" ] || rm -f "$j/in.1"
			case $4 in *E*)
				[ -f "$j/in.1" ]
				echo $((1 - $?)) >"$j/in.end" ;;
			esac ;;
		esac
		case $4 in *k*)
			true >"$j/keep"
			N ;;
		esac
		exec 3<>"$j/w"
		x=sh
		[ -z "${BASH_VERSION-}" ] || x=bash
		set -- "$@" sh -c "$R" gx-job "$j" "$u" $x "$1" "$4" "$5" "$6" \
			"$7" "$8" "$T_" "${Y-}" "${L-}"
		k="$2 $3"
		shift 8
		command -v setsid >/dev/null && set -- setsid "$@"
		"$@" </dev/null >/dev/null 2>&1 3>&- &
		[ -f "$j/pid" ] || I $! >"$j/pid"
		set -- $k
		if [ "$1" != 0 ]; then
			(sleep "$1"; echo >&3) </dev/null >/dev/null 2>&1 &
			p=$!
			read -r x <&3
			kill $p
		fi
		exec 3>&-
		[ -f "$j/exit" ] || N
		set -- 0 "$@"
	else
		# Another of the same is at work, or was.
		i=0
		until [ -f "$j/pid" ] || [ $i -ge 20 ]; do
			i=$((i + 1))
			sleep 0.1 || sleep 1
		done
	fi
	T 0 0 "$3"
}
