#!/bin/bash
# lint.sh [PART...]   what can be said of the source without building it:
#                     layers lists format shell manual; all by default
# Exit: 0 when nothing is found, 1 with the findings, 2 for an unknown part.
set -u
cd "$(dirname "$0")/.." || exit 1

# Does files.am list what is there?
lists()
{
	contrib/lists.sh | diff files.am -
}

# Releases of clang-format differ; the tree's form is that of 14.
format()
{
	local program
	program=$(command -v clang-format-14 || command -v clang-format) ||
	    { echo "no clang-format here"; return 1; }
	"$program" --version
	find src contrib tests -name '*.[ch]' ! -name vm_scripts.h \
	    ! -name gx_scripts.h \
	    -exec "$program" --dry-run --Werror --ferror-limit=1 {} +
}

shell()
{
	find contrib src tests .ci -name '*.sh' -exec shellcheck -x {} + &&
	    shellcheck .ci/run contrib/autofs/* contrib/completions/bash/*
}

manual()
{
	local page
	# Style includes which manuals are installed here: shown, not judged.
	for page in man/*.[1-9] contrib/roomd/*.[1-9]; do
		mandoc -Tlint -W warning "$page" || return
	done
}

layers()
{
	contrib/layers.sh
}

[ $# -gt 0 ] || set -- layers lists format shell manual
status=0
for part; do
	case $part in
	layers) layers || status=1 ;;
	lists) lists || status=1 ;;
	format) format || status=1 ;;
	shell) shell || status=1 ;;
	manual) manual || status=1 ;;
	*)
		sed -n '2,3s/^# //p' "$0" >&2
		exit 2 ;;
	esac
done
exit $status
