# shellcheck shell=sh disable=SC1091,SC2016
# sh -c INNER gx-run DIR UMASK SHELL TOKEN FLAGS ROWS COLUMNS: become the job.
if [ -n "$6" ]; then
	stty rows "$6" cols "$7" 2>/dev/null
	tty >"$1/tty"
fi
umask "$2"
GX_RUN=$4
export GX_RUN
[ ! -s "$1/env" ] || . "$1/env"
case $5 in
*f*) exec "$3" -c 'gx_cmd=$1; shift; . "$gx_cmd"' "$3" "$1/cmd" ;;
*) exec "$3" -c -- "$(cat "$1/cmd")" "$3" ;;
esac
