#!/bin/sh
# embed.sh [NAME=]FILE.sh ... > vm_scripts.h
#
# Turn the programs of vm/ into C strings: vm_NAME[] for each, NAME being the
# file's base name without .sh, .py or .pl unless it is given.  Lines that are only a
# comment, empty lines and indentation (but Python's) are left out, since the text travels
# with each command; so no script may have a quoted string or a here-document
# that goes on over a line's end.
# Exit: 0, or 1 when a file can't be read.
set -eu
LC_ALL=C
export LC_ALL

echo '/* Made by embed.sh from vm/ *.sh: do not edit. */'
for arg; do
	case $arg in
	*=*)
		name=${arg%%=*}
		file=${arg#*=} ;;
	*)
		file=$arg
		name=${file##*/}
		name=${name%.*} ;;
	esac
	[ -r "$file" ] || { echo "embed.sh: can't read $file" >&2; exit 1; }
	echo
	echo "static const char vm_${name}[] __attribute__((unused)) ="
	indent='s/^[ 	]*//'
	case $file in *.py) indent= ;; esac
	sed -e "$indent" -e '/^#/d' -e '/^$/d' \
	    -e 's/[\\"]/\\&/g' -e 's/.*/    "&\\n"/' "$file"
	echo '    ;'
done
