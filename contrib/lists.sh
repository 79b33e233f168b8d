#!/bin/sh
# lists.sh > files.am
#
# The lists of files that Makefile.am includes, made from what is in the tree:
# a new file is listed by running this again.  `contrib/check.sh lint' compares.
# Exit: 0, or 1 outside of the source tree.
set -eu
LC_ALL=C
export LC_ALL
cd "$(dirname "$0")/.."
[ -f src/main.c ] || exit 1

# list NAME < FILE...: one make variable
list()
{
	printf '\n%s =' "$1"
	while read -r file; do
		printf ' \\\n\t%s' "$file"
	done
	echo
}

# files DIRECTORY... -name PATTERN...
files()
{
	find "$@" -type f | sort
}

folders='src/ahead src/api src/base src/cli src/content src/http src/kernel
    src/room src/script src/store src/tree'

echo '# Made by contrib/lists.sh: do not edit.'
# shellcheck disable=SC2086 # words are meant to split
files $folders -name '*.c' | list MODULES
# shellcheck disable=SC2086
files $folders -name '*.h' ! -name vm_scripts.h | list HEADERS_USED
files src/script/vm -name '*.sh' | list VM_FILES
files src/gx/vm -name '*.*' | list GX_VM_FILES
{
	printf 'src/base/%s\n' base64.c base64.h json_text.c json_text.h \
	    utf8.c utf8.h
	files src/gx -name '*.[ch]' ! -name main.c ! -name gx_scripts.h
} | sort | list GX_MODULES
files contrib/roomd -name '*.[ch]' | list ROOMD_FILES
files tests/unit -name 'test_*.c' | sed 's/\.c$//' | list UNIT_TESTS
files tests/fuzz -name 'fuzz_*.c' | sed 's/\.c$//' | list FUZZ_TARGETS
{
	files contrib -type f ! -path 'contrib/roomd/*.[ch1]' \
	    ! -path 'contrib/completions/*' ! -path 'contrib/doc/*' \
	    ! -path 'contrib/systemd/*' ! -path 'contrib/autofs/*' \
	    ! -name '.*'
	files contrib/systemd -name '*.in'
	files tests -type f ! -name '*.c' ! -name '*.o' ! -name '*.pyc' \
	    ! -path '*/.*'
} | sort | list DISTRIBUTED

# Each unit test is one file, linked with all modules; gx's with its own.
echo
files tests/unit -name 'test_*.c' | sed 's/\.c$//' | while read -r test; do
	name=$(echo "$test" | tr / _)
	[ "$test" != tests/unit/test_gx ] || continue
	printf '%s_SOURCES = %s.c\n' "$name" "$test"
	# shellcheck disable=SC2016 # make expands it
	printf '%s_LDADD = $(UNIT_LIBS)\n' "$name"
done
