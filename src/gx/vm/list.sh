# shellcheck shell=sh disable=SC2012,SC2154
# J	for each job that has a number "N START TOKEN STATE", a newline, the
#	command in base64 on one line
# X	forget those that have ended: how many
J() {
	for j in "$d"/[0-9]*; do
		G "$j"
		[ "$s" != gone ] || { rm -f "$j"; continue; }
		[ -f "$j/keep" ] || [ ! -f "$j/got" ] || continue
		echo "${j##*/} $(date -r "$j/cmd" +%s) ${j##*/} $s"
		head -c 600 "$j/cmd" | b | tr -d '\n'
		echo
	done
}
X() {
	k=0
	for j in "$d"/t.*; do
		G "$j"
		case $s in
		exit* | dead)
			! read -r n <"$j/n" || rm -f "$d/$n"
			rm -rf "$j"
			k=$((k + 1))
			;;
		esac
	done
	rm -f "$d/side"
	echo $k
}
# Z	the programs of PATH, one a line
Z() {
	IFS=:
	for x in $PATH; do
		[ -d "$x" ] && ls "$x"
	done | sort -u
	unset IFS
}
