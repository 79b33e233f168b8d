#!/bin/bash
# check.sh [PART...]   install what the tests need, build, and run all checks,
#                      or only some: unit lint mount sanitize fuzz dist
# Works in ./build-check.  The last line is "N passed, N failed[, N skipped]".
# Exit: 0 when nothing failed, else 1.
set -u

top=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$top" || exit 1
# shellcheck source=contrib/packages.sh
. contrib/packages.sh

out=$top/build-check
logs=$out/logs
counts=$out/counts
python=/usr/bin/python3
jobs=$(nproc)

# --- results ----------------------------------------------------------------

# count NAME PASSED FAILED SKIPPED
count()
{
	echo "$2 $3 $4" >"$counts/${1//[^A-Za-z0-9]/_}"
}

# report NAME STATUS SECONDS: one line, and of a failure the log's end
report()
{
	if [ "$2" = 0 ]; then
		printf 'ok    %s (%d s)\n' "$1" "$3"
		return
	fi
	printf 'FAIL  %s (%d s), %s:\n' "$1" "$3" "${logs#"$top"/}/$1.log"
	tail -n "${CHECK_LOG_LINES:-40}" "$logs/$1.log" | sed 's/^/      /'
}

# check NAME COMMAND...: one check, counted as such
check()
{
	local name=$1 start=$SECONDS status=0
	shift
	"$@" >"$logs/$name.log" 2>&1 </dev/null || status=$?
	if [ $status = 0 ]; then
		count "$name" 1 0 0
	else
		count "$name" 0 1 0
	fi
	report "$name" $status $((SECONDS - start))
	return $status
}

# Add up pytest's report; a run that ended without one has failed once.
count_junit()
{
	"$python" - "$1" <<'END' || echo '0 1 0'
import sys, xml.etree.ElementTree as tree
passed = failed = skipped = 0
for case in tree.parse(sys.argv[1]).iter('testcase'):
    kinds = {child.tag for child in case}
    if kinds & {'failure', 'error'}:
        failed += 1
    elif 'skipped' in kinds:
        skipped += 1
    else:
        passed += 1
print(passed, failed, skipped)
END
}

# run_pytest NAME BUILD SECONDS PATH...: counted test by test
run_pytest()
{
	local name=$1 build=$2 limit=$3 start=$SECONDS status=0
	shift 3
	rm -f "$logs/$name.xml"
	GENTILITYFS_BUILD=$build ROOMD=$build/gentility-roomd \
	    timeout -k 20 "$limit" "$python" -m pytest -q \
	    -rfEs -p no:cacheprovider --junitxml="$logs/$name.xml" "$@" \
	    >"$logs/$name.log" 2>&1 </dev/null || status=$?
	[ $status != 5 ] || status=0 # no tests there
	# shellcheck disable=SC2046 # three words
	count "$name" $(count_junit "$logs/$name.xml" 2>/dev/null)
	report "$name" $status $((SECONDS - start))
	sed -n 's/^SKIPPED/      skipped:/p' "$logs/$name.log"
}

# --- building ---------------------------------------------------------------

install_packages()
{
	local clang
	command -v apt-get >/dev/null 2>&1 || return 0
	# The sanitizers' runtime is versioned, and only recommended by clang.
	clang=$(apt-cache depends clang 2>/dev/null |
	    sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
	# shellcheck disable=SC2086 # words are meant to split
	packages_install $packages_build build-essential clang \
	    "libclang-rt-${clang:-14}-dev" libcmocka-dev busybox-static \
	    python3-pytest shellcheck mandoc clang-format git rsync openssl \
	    dash procps util-linux file
}

# build DIR [CONFIGURE ARGUMENT...]: all programs, those for tests too
build()
(
	dir=$out/$1
	shift
	mkdir -p "$dir" && cd "$dir" || exit
	"$top/configure" -q "$@" && make -j "$jobs" all &&
	    make -j "$jobs" check TESTS=
)

prepare()
{
	if [ -f "$top/config.status" ]; then
		echo "check.sh: built in the source directory:" \
		    "run \"make distclean\" first" >&2
		exit 1
	fi
	rm -rf "$counts" "$logs"
	mkdir -p "$counts" "$logs"
	check packages install_packages || return 1
	check autoreconf autoreconf -fi || return 1
	check build-gcc build gcc --enable-werror
}

# --- the parts --------------------------------------------------------------

unit()
{
	local log start=$SECONDS passed=0 failed=0 skipped=0 ran ok skip status
	make -C "$out/gcc" -k check >"$logs/unit.log" 2>&1 </dev/null
	status=$?
	# What ran and was neither ok nor skipped has failed or crashed.
	for log in "$out"/gcc/tests/unit/*.log; do
		[ -f "$log" ] || continue
		ran=$(grep -c '^\[ RUN ' "$log")
		ok=$(grep -c '^\[       OK \]' "$log")
		skip=$(grep -c '^\[  SKIPPED \] [a-z]' "$log")
		passed=$((passed + ok))
		skipped=$((skipped + skip))
		failed=$((failed + ran - ok - skip))
		[ $((ran - ok - skip)) = 0 ] || cat "$log" >>"$logs/unit.log"
	done
	[ $status = 0 ] || [ $failed != 0 ] || failed=1
	count unit $passed $failed $skipped
	report unit $status $((SECONDS - start))
}

# Below room.h nobody knows FUSE, above it nobody knows HTTP, JSON or shell.
storeys()
{
	local below above
	below=$(grep -lE '#include.*(<fuse|"fuse_api|"fs\.h|"node\.h|"notify\.h|"control\.h|"content\.h)' \
	    src/room*.[ch] src/api*.[ch] src/http*.[ch] src/listing*.[ch] \
	    src/retry*.[ch] src/script*.[ch] src/change*.[ch] 2>/dev/null)
	above=$(grep -lE '#include.*(<curl/|cJSON|"http|"api\.h|"script\.h|"retry\.h)' \
	    src/fs*.[ch] src/node*.[ch] src/content*.[ch] src/control*.[ch] \
	    src/notify*.[ch] src/store*.[ch] 2>/dev/null)
	[ -z "$below" ] || echo "FUSE below room.h: $below"
	[ -z "$above" ] || echo "HTTP, JSON or shell above room.h: $above"
	[ -z "$below$above" ]
}

# Releases of clang-format differ; the tree's form is that of 14.
formatted()
{
	local format
	format=$(command -v clang-format-14 || command -v clang-format)
	"$format" --version
	find src contrib tests -name '*.[ch]' ! -name vm_scripts.h \
	    -exec "$format" --dry-run --Werror {} +
}

shell_scripts()
{
	find contrib src tests .ci -name '*.sh' -exec shellcheck -x {} + &&
	    shellcheck .ci/run
}

manual()
{
	# Style includes which manuals are installed here: shown, not judged.
	mandoc -Tlint -W warning man/*.1 && mandoc man/*.1 >/dev/null
}

lint()
{
	check storeys storeys
	check format formatted
	check shellcheck shell_scripts
	check manual manual
}

mounts()
{
	local path
	for path in vm roomd mount; do
		[ ! -d "tests/$path" ] ||
		    run_pytest "$path" "$out/gcc" 900 "tests/$path"
	done
}

no_reports()
{
	local found
	found=$(find "$1" -type f -size +0)
	[ -z "$found" ] || head -n 60 "$(echo "$found" | head -n 1)"
	[ -z "$found" ]
}

# sanitized NAME: the tests again, and no process may have complained.  In a
# subshell, for its environment.
sanitized()
{
	local found=$out/reports-$1
	rm -rf "$found"
	mkdir -p "$found"
	chmod 1777 "$found"
	export ASAN_OPTIONS="log_path=$found/asan:detect_leaks=1"
	export UBSAN_OPTIONS="log_path=$found/ubsan:print_stacktrace=1"
	export TSAN_OPTIONS="log_path=$found/tsan:second_deadlock_stack=1"
	check "unit-$1" make -C "$out/$1" check
	# Slower, and beside each other.
	export GENTILITYFS_TEST_DEADLINE=60
	run_pytest "mount-$1" "$out/$1" 1200 tests/mount
	check "reports-$1" no_reports "$found"
}

build_sanitized()
{
	check build-address build address \
	    --enable-sanitizers=address,undefined CFLAGS='-g -O1'
	check build-thread build thread \
	    --enable-sanitizers=thread CFLAGS='-g -O1'
}

sanitize()
{
	[ -d tests/mount ] || return
	sanitized address &
	sanitized thread &
	wait
}

# Each target for some seconds; from its corpus if it has one.
fuzz()
{
	local target name corpus
	check build-fuzz make -C "$out/gcc" -j "$jobs" fuzz || return
	for target in "$out"/gcc/tests/fuzz/fuzz_*; do
		[ -x "$target" ] || continue
		name=$(basename "$target")
		corpus=$out/corpus/$name
		mkdir -p "$corpus"
		[ ! -d "tests/fuzz/corpus/$name" ] ||
		    cp -R "tests/fuzz/corpus/$name/." "$corpus"
		check "$name" "$target" -max_total_time=15 -timeout=10 \
		    -rss_limit_mb=1024 -print_final_stats=1 \
		    -artifact_prefix="$out/$name-" "$corpus"
	done
}

# Is all that git knows in the release?
complete()
{
	local missing
	git -C "$top" rev-parse --git-dir >/dev/null 2>&1 || return 0
	missing=$(comm -23 \
	    <(git -C "$top" ls-files -co --exclude-standard | grep -v '^\.' | sort) \
	    <(tar tzf "$out"/gcc/gentilityfs-*.tar.gz | sed 's,^[^/]*/,,' | sort))
	[ -z "$missing" ] || printf 'not in the release: %s\n' "$missing"
	[ -z "$missing" ]
}

dist()
{
	check distcheck make -C "$out/gcc" -j "$jobs" distcheck &&
	    check complete complete
}

# --- all of it --------------------------------------------------------------

summary()
{
	# An interrupted check must not pass for a good one.
	cat "$counts"/* 2>/dev/null | awk '
	    { passed += $1; failed += $2; skipped += $3 }
	    END {
		printf "%d passed, %d failed", passed, failed
		if (skipped)
			printf ", %d skipped", skipped
		print ""
		exit failed > 0 || passed == 0
	    }'
}

for part; do
	case $part in
	unit | lint | mount | sanitize | fuzz | dist) ;;
	*)
		echo "usage: check.sh [unit|lint|mount|sanitize|fuzz|dist]..." >&2
		exit 2
		;;
	esac
done

if ! prepare; then
	summary
	exit 1
fi
if [ $# -gt 0 ]; then
	for part; do
		case $part in
		mount) mounts ;;
		sanitize) build_sanitized && sanitize ;;
		*) $part ;;
		esac
	done
else
	lint
	unit
	# The compiler works beside the tests, at low priority.
	(
		renice -n 19 -p "$BASHPID" >/dev/null 2>&1
		check build-clang build clang CC=clang --enable-werror
		build_sanitized
	) &
	mounts
	wait
	sanitize
	fuzz
	dist
fi
summary
