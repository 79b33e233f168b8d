#!/bin/bash
# check.sh [PART...]   install what the tests need, build, and run all checks,
#                      or only some: lint unit mount users sanitize coverage
#                      fuzz load dist analyze (cppcheck, gcc's and clang's
#                      analyzers; on a slow machine not clang's, unless it is
#                      named), and packages (Debian's, with lintian), which is
#                      no part of all
# Works in ./build-check.  Every check runs, also when one before it failed; of
# a failure the log's end is shown.  Of tests that try much the same many times
# (marked slow) some are left out, and with the sanitizers one kind of room is
# tried; CHECK_LONG=1 tries all.
# How long this machine takes to start a program is measured first: where that
# is longer than usual, deadlines grow, and no test begins after its part's
# time is over; those are skipped and counted as such.
# A test that fails beside others is tried once more when they are done; if it
# passes then, its name is shown as unstable.
# The last line is "N passed, N failed, N skipped"; above it stands a line
# "failed: NAME" for each.
# Exit: 0 when nothing failed, else 1.
set -u

top=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$top" || exit 1
# shellcheck source=contrib/packages.sh
. contrib/packages.sh

out=$top/build-check
logs=$out/logs
counts=$out/counts
failures=$out/failures
python=/usr/bin/python3
jobs=$(nproc)
# The tests wait for answers most of the time: some at once for each processor.
workers=${CHECK_WORKERS:-$((jobs * 3))}

# --- results ----------------------------------------------------------------

# count NAME PASSED FAILED SKIPPED
count()
{
	echo "$2 $3 $4" >"$counts/${1//[^A-Za-z0-9]/_}"
}

# report NAME STATUS SECONDS: one line, and of a failure the log's end; at one
# go, since checks run beside each other
report()
{
	local text
	if [ "$2" = 0 ]; then
		printf 'ok    %s (%d s)\n' "$1" "$3"
		return
	fi
	text=$(printf 'FAIL  %s (%d s), %s:\n' "$1" "$3" \
	    "${logs#"$top"/}/$1.log"
	    tail -n "${CHECK_LOG_LINES:-60}" "$logs/$1.log" | sed 's/^/      /')
	printf '%s\n' "$text"
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
		echo "$name" >>"$failures"
	fi
	report "$name" $status $((SECONDS - start))
	return $status
}

# junit FILE...: "PASSED FAILED SKIPPED", then a line for each test that failed,
# as pytest takes it.  Of a test that stands in several files the last counts.
junit()
{
	"$python" - "$@" <<'END' || echo '0 1 0'
import sys, xml.etree.ElementTree as tree
results = {}
for path in sys.argv[1:]:
    for case in tree.parse(path).iter('testcase'):
        kinds = {child.tag for child in case}
        name = case.get('classname', '').replace('.', '/') + '.py::' + \
            case.get('name', '')
        kind = 'failed' if kinds & {'failure', 'error'} else \
            'skipped' if 'skipped' in kinds else 'passed'
        # An error of a fixture stands beside the test's own result.
        if path == results.get(name, [None])[0] and kind != 'failed':
            continue
        results[name] = [path, kind]
kinds = [kind for path, kind in results.values()]
print(*[kinds.count(kind) for kind in ('passed', 'failed', 'skipped')])
for name, (path, kind) in results.items():
    if kind == 'failed':
        print(name)
END
}

# In the background a shell has its children ignore SIGINT, at which pytest
# ends with a report of what it has.
run_interruptible='import signal, sys, pytest
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(pytest.main())'

# pytest_once LOG XML WORKERS ARGUMENT...
pytest_once()
{
	local log=$1 xml=$2 n=$3 parallel='' tmp
	# pytest closes its own directory there to all but its user; runs beside
	# each other must not do that to each other's rooms.
	tmp=${memory:-$scratch}/$(basename "$log" .log)
	mkdir -p "$tmp"
	chmod 1777 "$tmp"
	shift 3
	! "$python" -c 'import xdist' 2>/dev/null || parallel="-n $n"
	rm -f "$xml"
	# shellcheck disable=SC2086 # words are meant to split
	PYTHONDONTWRITEBYTECODE=1 TMPDIR=$tmp \
	    timeout -s INT -k 60 "$limit" "$python" -c "$run_interruptible" \
	    -q -rfEs --durations=15 -p no:cacheprovider $parallel \
	    --junitxml="$xml" "$@" >"$log" 2>&1 </dev/null
}

# time_left MOST END: the seconds until END after the start; MOST at most, 60 at
# least
time_left()
{
	local left=$(($2 - SECONDS))
	[ "$left" -lt "$1" ] || left=$1
	[ "$left" -gt 60 ] || left=60
	echo "$left"
}

# run_pytest NAME BUILD BUDGET WORKERS ARGUMENT...: counted test by test.  After
# BUDGET seconds no further test begins.
run_pytest()
{
	local name=$1 budget=$3 n=$4 start=$SECONDS status=0 limit
	local log=$logs/$1.log xml=$logs/$1.xml again=$logs/$1-again
	local passed failed skipped total
	local -a names=() left=()
	export GENTILITYFS_BUILD=$2 ROOMD=$2/gentility-roomd
	shift 4
	[ -z "${CHECK_LONG-}" ] || budget=$((budget * 10))
	export GENTILITYFS_TEST_BUDGET=$budget
	limit=$((budget + 300))
	pytest_once "$log" "$xml" "$n" "$@" || status=$?
	rm -f "$again.xml"
	{ read -r passed failed skipped && mapfile -t names; } \
	    < <(junit "$xml" 2>/dev/null)
	if [ ${#names[@]} != 0 ] && [ ${#names[@]} -le 12 ]; then
		limit=400
		GENTILITYFS_TEST_BUDGET=$limit \
		    pytest_once "$again.log" "$again.xml" 1 "${names[@]}"
		total=$((passed + failed + skipped))
		[ ! -s "$again.xml" ] ||
		    { read -r passed failed skipped && mapfile -t left; } \
			< <(junit "$xml" "$again.xml" 2>/dev/null)
		# A name that pytest did not find again keeps its failure.
		[ $((passed + failed + skipped)) = "$total" ] ||
		    failed=${#names[@]} left=("${names[@]}")
		[ "$failed" != 0 ] || status=0
		cat "$again.log" >>"$log"
		comm -23 <(printf '%s\n' "${names[@]}" | sort) \
		    <(printf '%s\n' "${left[@]}" | sort) |
		    sed 's/^/unstable: /' >>"$unstable"
		names=("${left[@]}")
	fi
	# Also when pytest itself ended badly, or no test was there.
	[ $status = 0 ] || [ "$failed" != 0 ] || failed=1 names=("$name")
	[ $((passed + failed)) != 0 ] || failed=1 names=("$name: no test ran")
	count "$name" "$passed" "$failed" "$skipped"
	[ "$failed" = 0 ] || printf '%s\n' "${names[@]:-$name}" >>"$failures"
	report "$name: $passed passed, $failed failed, $skipped skipped" \
	    0 $((SECONDS - start)) | if [ "$failed" = 0 ]; then cat; else
		sed 's/^ok   /FAIL /'
		# The names first, then how the last ones failed.
		printf '      %s\n' "${names[@]}" | head -n 40
		grep -v '^FAILED\|^ERROR\|^SKIPPED' "$log" |
		    tail -n "${CHECK_LOG_LINES:-60}" | sed 's/^/      /'
	fi
	sed -n 's/^SKIPPED/      skipped/p' "$log" | head -n 12
}

# --- building ---------------------------------------------------------------

install_packages()
{
	local clang
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "no apt-get here: what is missing will be missed"
		return
	fi
	# The sanitizers' runtime is versioned, and only recommended by clang.
	clang=$(apt-cache depends clang 2>/dev/null |
	    sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
	# shellcheck disable=SC2086,SC2154 # words are meant to split
	packages_install $packages_build $packages_check \
	    "libclang-rt-${clang:-14}-dev"
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

# For rooms and caches of most tests: some make and remove files by the ten
# thousand, after which a disk's file system may take milliseconds for each new
# one (ext4 without a journal does, for minutes).  The sanitizers' tests have
# theirs on the disk.
mount_memory()
{
	memory=$scratch/memory
	mkdir "$memory"
	! awk '/^MemAvailable/ { exit $2 < 12 * 1024 * 1024 }' /proc/meminfo ||
	    ! mount -t tmpfs -o mode=1777,size=8g gentilityfs-check "$memory" \
		2>/dev/null || return
	rmdir "$memory"
	memory=
}

# Starting a program takes a millisecond or less on most machines.
measure_slowness()
{
	local began
	began=$(date +%s%N)
	for _ in $(seq 200); do /bin/true; done
	GENTILITYFS_TEST_SLOWNESS=$("$python" -c "
took = ($(date +%s%N) - $began) / 200e6
print(round(min(4, max(1, took / 3)), 1))")
	export GENTILITYFS_TEST_SLOWNESS
	# What is skipped for want of time differs from commit to commit.
	GENTILITYFS_TEST_ORDER=$(git -c safe.directory="$top" rev-parse HEAD \
	    2>/dev/null || echo release)
	export GENTILITYFS_TEST_ORDER
	[ "$GENTILITYFS_TEST_SLOWNESS" = 1 ] ||
	    echo "a slow machine: deadlines are $GENTILITYFS_TEST_SLOWNESS times as long"
}

prepare()
{
	if [ -f "$top/config.status" ]; then
		echo "check.sh: built in the source directory:" \
		    "run \"make distclean\" first" >&2
		exit 1
	fi
	unstable=$out/unstable
	rm -rf "$counts" "$logs" "$failures" "$unstable"
	mkdir -p "$counts" "$logs" || exit 1
	: >"$failures"
	: >"$unstable"
	scratch=$(mktemp -d /tmp/gentilityfs-check.XXXXXX) || exit 1
	chmod 1777 "$scratch"
	memory=
	trap 'sweep >/dev/null 2>&1' EXIT
	trap 'exit 1' INT TERM HUP
	mount_memory
	check packages install_packages
	measure_slowness
	[ -c /dev/fuse ] || modprobe fuse 2>/dev/null ||
	    mknod -m 666 /dev/fuse c 10 229 2>/dev/null
	check autoreconf autoreconf -fi
	check build-gcc build gcc --enable-werror
}

# Is it a process of ours: a program out of this build directory, or one that
# the tests in our directory started?
is_ours()
{
	case $(readlink "/proc/$1/exe" 2>/dev/null) in
	"$out"/*) return 0 ;;
	esac
	grep -qz "^TMPDIR=$scratch" "/proc/$1/environ" 2>/dev/null
}

# End what the tests left behind, and say what it was.
sweep()
{
	local pid point found=0
	for pid in /proc/[0-9]*; do
		pid=${pid#/proc/}
		is_ours "$pid" || continue
		echo "left running: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
		kill -KILL "$pid" 2>/dev/null
		found=1
	done
	while read -r point; do
		[ "$point" != "$scratch/memory" ] || continue
		echo "left mounted: $point"
		umount -l "$point" 2>/dev/null || fusermount3 -uz "$point"
		found=1
	done < <(while read -r _ _ _ _ point _; do
		case $point in
		"$scratch"/*) printf '%b\n' "$point" ;;
		esac
	done </proc/self/mountinfo | sort -r)
	[ -z "$memory" ] || umount "$memory" || umount -l "$memory"
	memory=
	rm -rf --one-file-system "$scratch"
	return $found
}

# --- the parts --------------------------------------------------------------

# unit NAME BUILD: cmocka's tests, counted one by one
unit()
{
	local log start=$SECONDS passed=0 failed=0 skipped=0 ran ok skip status
	rm -f "$out/$2"/tests/unit/*.log
	timeout -k 20 600 make -C "$out/$2" -k -j "$jobs" check \
	    >"$logs/$1.log" 2>&1 </dev/null
	status=$?
	# What ran and was neither ok nor skipped has failed or crashed.
	for log in "$out/$2"/tests/unit/*.log; do
		[ -f "$log" ] || continue
		ran=$(grep -c '^\[ RUN ' "$log")
		ok=$(grep -c '^\[       OK \]' "$log")
		skip=$(grep -c '^\[  SKIPPED \] [a-z]' "$log")
		passed=$((passed + ok))
		skipped=$((skipped + skip))
		failed=$((failed + ran - ok - skip))
		[ $((ran - ok - skip)) = 0 ] ||
		    grep -v '^\[ RUN \|^\[       OK \]' "$log" >>"$logs/$1.log"
	done
	[ $status = 0 ] || [ $failed != 0 ] || failed=1
	[ $((passed + failed)) != 0 ] || failed=1 status=1
	count "$1" $passed $failed $skipped
	[ $failed = 0 ] || sed -n 's/^\[  FAILED  \] \([a-z].*\)/\1/p;s/^FAIL: /&/p' \
	    "$logs/$1.log" | sort -u | sed "s/^/$1: /" >>"$failures"
	report "$1" $status $((SECONDS - start))
}

# Is the program built so that mistakes are harder to exploit?
hardened()
{
	local program=$out/gcc/gentilityfs missing=
	readelf -hW "$program" | grep -q 'Type:.*DYN' || missing="$missing PIE"
	readelf -lW "$program" | grep -q GNU_RELRO || missing="$missing RELRO"
	readelf -dW "$program" | grep -q 'BIND_NOW\|FLAGS.*NOW' ||
	    missing="$missing BIND_NOW"
	readelf -sW "$program" | grep -q __stack_chk_fail ||
	    missing="$missing stack-protector"
	readelf -sW "$program" | grep -q '__[a-z]*_chk@' ||
	    missing="$missing fortify"
	readelf -lW "$program" | grep -q 'GNU_STACK.*RWE' &&
	    missing="$missing noexecstack"
	case $(uname -m) in
	# The system's own objects lack the mark for all of it.
	x86_64) objdump -d "$program" | grep -c endbr64 |
		grep -q '[0-9][0-9][0-9]' ||
	    missing="$missing control-flow-protection" ;;
	esac
	[ -z "$missing" ] || echo "built without:$missing"
	[ -z "$missing" ]
}

# gcc's and cppcheck take half a minute of a processor and belong to lint;
# clang's, some minutes, are on demand.  Left out, and why:
# - malloc-leak: gcc 12 does not see that a structure keeps a pointer; leaks
#   are the sanitizers' to find;
# - unix.Malloc of clang: it takes TAILQ_FIRST() after TAILQ_REMOVE() for the
#   element that was removed;
# - NullDereference of clang: it takes loops to end before their first turn;
# - valist: clang 14 takes va_start() of the system's headers for nothing;
# - insecureAPI: strcpy() into what was measured just before;
# - the other names are matters of taste.
analyze_gcc()
{
	find src -name '*.c' -print0 | xargs -0 -P "$jobs" -I{} sh -c \
	    "gcc -fanalyzer -Wno-analyzer-malloc-leak -Werror -c -O1 \
	    -D_GNU_SOURCE= -DPACKAGE_VERSION='\"0\"' -Isrc -I$out/gcc/src \
	    -I$out/gcc/src/gx \
	    $(pkg-config --cflags fuse3 libcurl libcjson libbsd-overlay zlib |
		tr '\n' ' ') {} -o /dev/null"
}

analyze_clang()
{
	local checks='-*,clang-analyzer-*,bugprone-*'
	local name
	for name in clang-analyzer-unix.Malloc \
	    clang-analyzer-security.insecureAPI.\* \
	    clang-analyzer-deadcode.DeadStores \
	    clang-analyzer-valist.Uninitialized \
	    clang-analyzer-core.NullDereference \
	    bugprone-easily-swappable-parameters bugprone-reserved-identifier \
	    bugprone-narrowing-conversions bugprone-branch-clone \
	    bugprone-implicit-widening-of-multiplication-result \
	    bugprone-assignment-in-if-condition bugprone-macro-parentheses \
	    bugprone-sizeof-expression; do
		checks=$checks,-$name
	done
	# shellcheck disable=SC2046 # words are meant to split
	find src -name '*.c' -print0 | xargs -0 -P "$jobs" -I{} clang-tidy \
	    --quiet --checks="$checks" --warnings-as-errors='*' {} -- \
	    -std=gnu11 -D_GNU_SOURCE= -DPACKAGE_VERSION='"0"' -Isrc \
	    -I"$out/gcc/src" -I"$out/gcc/src/gx" \
	    $(pkg-config --cflags fuse3 libcurl libcjson libbsd-overlay zlib)
}

# Left out: readdir() is safe for a DIR of one's own.  The C library's queue.h
# lacks a macro that libbsd's has.
analyze_cppcheck()
{
	echo '#define TAILQ_FOREACH_SAFE(v, h, f, t) for ((v) = TAILQ_FIRST(h);' \
	    '(v) != NULL && ((t) = TAILQ_NEXT(v, f), 1); (v) = (t))' \
	    >"$out/foreach.h"
	cppcheck -q -j "$jobs" --error-exitcode=1 --inline-suppr \
	    --enable=warning,portability,performance \
	    --suppress=readdirCalled \
	    --include="$out/foreach.h" \
	    --library=posix,gnu --std=c11 -D_GNU_SOURCE -D__linux__ \
	    -DPACKAGE_VERSION='"0"' \
	    --include="/usr/include/$(gcc -print-multiarch)/sys/queue.h" \
	    --include=/usr/include/bsd/sys/tree.h \
	    -Isrc -I"$out/gcc/src" -I"$out/gcc/src/gx" src contrib/roomd
}

analyze()
{
	check cppcheck analyze_cppcheck
	check analyze-gcc analyze_gcc
	! command -v clang-tidy >/dev/null || check analyze-clang analyze_clang
}

lint()
{
	local part
	for part in layers lists format shell manual; do
		check "$part" contrib/lint.sh "$part"
	done
	check hardened hardened
	check analyze-gcc analyze_gcc
	check cppcheck analyze_cppcheck
}

mounts()
{
	[ -n "${CHECK_LONG-}" ] || set -- -m 'not slow' \
	    -k 'not longer and not sparse_gigabyte and not test_load'
	run_pytest mount "$out/gcc" 600 "$workers" \
	    tests/vm tests/roomd tests/mount "$@"
}

# Some of them where the VM's user is not root, and with options for every mount:
# what works only for root, or only plainly mounted, shows nowhere else.
users()
{
	local t=tests/mount/test
	GENTILITYFS_TEST_USER=1000 \
	    run_pytest users-1000 "$out/gcc" 120 "$workers" -m 'not slow' \
	    ${t}_change.py ${t}_change_links.py ${t}_save.py ${t}_tools.py \
	    ${t}_write.py
	GENTILITYFS_TEST_OPTIONS=allow_other,default_permissions \
	    run_pytest users-permissions "$out/gcc" 90 "$workers" \
	    -m 'not slow' ${t}_browse.py ${t}_change_links.py \
	    ${t}_exec_effects.py ${t}_saving.py
	GENTILITYFS_TEST_OPTIONS=idmap=none \
	    run_pytest users-idmap "$out/gcc" 90 "$workers" -m 'not slow' \
	    ${t}_change_kinds.py ${t}_names.py ${t}_save.py ${t}_saving.py
}

no_reports()
{
	local found
	found=$(find "$1" -type f -size +0)
	[ -z "$found" ] || head -n 60 "$(echo "$found" | head -n 1)"
	[ -z "$found" ]
}

# sanitized NAME WORKERS ARGUMENT...: the tests again, and no process may have
# complained.  In a subshell, for its environment.
sanitized()
(
	name=$1 n=$2
	shift 2
	found=$out/reports-$name
	rm -rf "$found"
	mkdir -p "$found"
	chmod 1777 "$found"
	export ASAN_OPTIONS="log_path=$found/asan:detect_leaks=1"
	export UBSAN_OPTIONS="log_path=$found/ubsan:print_stacktrace=1"
	export TSAN_OPTIONS="log_path=$found/tsan:second_deadlock_stack=1"
	unit "unit-$name" "$name"
	# Slower, and beside each other.
	export GENTILITYFS_TEST_DEADLINE=120
	memory=
	run_pytest "mount-$name" "$out/$name" "$(time_left 270 1250)" "$n" "$@"
	check "reports-$name" no_reports "$found"
)

build_sanitized()
{
	check build-address build address \
	    --enable-sanitizers=address,undefined CFLAGS='-g -O1'
	check build-thread build thread \
	    --enable-sanitizers=thread CFLAGS='-g -O1'
}

# With the sanitizers, one kind of room, and what is about threads, memory and
# errors rather than about large amounts, for which they are too slow.
# CHECK_LONG=1: all.
fewer='not busybox and not one_bad_answer and not stays_bad
    and not answer_is_lost_is_still_right and not sparse and not 50000
    and not longer and not large'
address_tests='tests/mount/test_exec.py tests/mount/test_exec_effects.py
    tests/mount/test_browse.py tests/mount/test_names.py
    tests/mount/test_change.py tests/mount/test_write.py
    tests/mount/test_faults.py tests/mount/test_unmount.py
    tests/mount/test_saving.py tests/mount/test_gx.py'
thread_tests='tests/mount/test_exec_effects.py tests/mount/test_browse.py
    tests/mount/test_change.py tests/mount/test_unmount.py
    tests/mount/test_saving.py'

sanitize()
{
	[ -z "${CHECK_LONG-}" ] ||
	    fewer='' address_tests=tests/mount thread_tests=tests/mount
	fewer=$(echo "$fewer" | tr -s '\n ' ' ')
	# shellcheck disable=SC2086 # words are meant to split
	sanitized address "$workers" $address_tests -k "$fewer" &
	# shellcheck disable=SC2086 # words are meant to split
	sanitized thread "$((jobs * 2))" $thread_tests -k "$fewer" &
	wait
}

# load MS: 64 processes on one mount for five minutes, with faults.  The further
# off the room is, the less there is to do for the processor.
load()
(
	export GENTILITYFS_LOAD_SECONDS=${GENTILITYFS_LOAD_SECONDS:-$("$python" \
	    -c "print(int(300 / $GENTILITYFS_TEST_SLOWNESS))")}
	export GENTILITYFS_LOAD_LATENCY=${1:-100}
	run_pytest load "$out/gcc" 900 1 tests/mount/test_load.py
)

# How much of the code the unit tests and some of the mount tests run.
coverage_tests='tests/mount/test_browse.py tests/mount/test_contents.py
    tests/mount/test_change.py tests/mount/test_saving.py
    tests/mount/test_exec.py tests/mount/test_stream.py
    tests/mount/test_gx.py tests/mount/test_check.py
    tests/mount/test_stats.py tests/mount/test_cli.py'

coverage_figure()
{
	rm -f "$out"/coverage/a-conftest.*
	gcovr -r "$top" --object-directory "$out/coverage" \
	    -f "$top/src/" --print-summary --txt "$out/coverage.txt" |
	    grep -E '^(lines|functions|branches)'
}

coverage()
{
	check build-coverage build coverage \
	    CFLAGS='-g -O0 --coverage -fprofile-update=atomic'
	unit unit-coverage coverage
	# The room's own would leave its data in the room.
	cp "$out/gcc/gentility-roomd" "$out/coverage/gentility-roomd"
	# shellcheck disable=SC2086 # words are meant to split
	run_pytest mount-coverage "$out/coverage" 120 "$workers" \
	    $coverage_tests \
	    -m 'not slow' \
	    -k 'not busybox and not large and not another_user'
	check coverage coverage_figure
	sed 's/^/      /' "$logs/coverage.log" # the figure
}

# One target for some seconds; from its corpus if it has one.
fuzz_one()
{
	local name corpus
	name=$(basename "$1")
	corpus=$out/corpus/$name
	mkdir -p "$corpus"
	[ ! -d "tests/fuzz/corpus/$name" ] ||
	    cp -R "tests/fuzz/corpus/$name/." "$corpus"
	timeout -k 5 200 "$1" -max_total_time=30 -timeout=10 \
	    -rss_limit_mb=1024 -print_final_stats=1 \
	    -artifact_prefix="$out/$name-" "$corpus"
}

build_fuzz()
{
	check build-fuzz make -C "$out/gcc" -j "$jobs" fuzz
}

fuzz()
{
	local target
	for target in "$out"/gcc/tests/fuzz/fuzz_*; do
		[ ! -x "$target" ] ||
		    check "$(basename "$target")" fuzz_one "$target" &
	done
	wait
}

# Is all that git knows in the release?
complete()
{
	local missing git="git -c safe.directory=$top -C $top"
	$git rev-parse --git-dir >/dev/null 2>&1 || return 0
	missing=$(comm -23 \
	    <($git ls-files -co --exclude-standard | grep -v '^\.' | sort) \
	    <(tar tzf "$out"/gcc/gentilityfs-*.tar.gz |
		sed 's,^[^/]*/,,' | sort))
	[ -z "$missing" ] || printf 'not in the release:\n%s\n' "$missing"
	[ -z "$missing" ]
}

dist()
{
	rm -f "$out"/gcc/gentilityfs-*.tar.gz
	check distcheck make -C "$out/gcc" -j "$jobs" distcheck
	check complete complete
}

packages()
{
	check debian contrib/package-deb.sh "$out/deb"
}

# --- all of it --------------------------------------------------------------

summary()
{
	printf 'all of it in %d min %d s\n' $((SECONDS / 60)) $((SECONDS % 60))
	cat "$unstable"
	sed 's/^/failed: /' "$failures"
	# An interrupted check must not pass for a good one.
	cat "$counts"/* 2>/dev/null | awk '
	    { passed += $1; failed += $2; skipped += $3 }
	    END {
		printf "%d passed, %d failed, %d skipped\n", passed, failed,
		    skipped
		exit failed > 0 || passed == 0
	    }'
}

for part; do
	case $part in
	unit | lint | analyze | mount | users | load | sanitize | coverage | \
	    fuzz | dist | packages) ;;
	*)
		echo "usage: check.sh [lint|unit|mount|users|load|sanitize|coverage|fuzz|dist|packages|analyze]..." >&2
		exit 2
		;;
	esac
done

prepare
if [ $# -gt 0 ]; then
	for part; do
		case $part in
		unit) unit unit gcc ;;
		mount) mounts ;;
		sanitize) build_sanitized && sanitize ;;
		fuzz) build_fuzz && fuzz ;;
		*) $part ;;
		esac
	done
else
	lint
	unit unit gcc
	# The compiler works beside the tests, at low priority.
	(
		renice -n 19 -p "$BASHPID" >/dev/null 2>&1
		build_sanitized
		check build-clang build clang CC=clang --enable-werror
		build_fuzz
	) &
	load 400 &
	mounts
	users
	wait
	# What needs the processor beside what waits most of the time.
	(
		renice -n 10 -p "$BASHPID" >/dev/null 2>&1
		dist
		renice -n 19 -p "$BASHPID" >/dev/null 2>&1
		[ "$GENTILITYFS_TEST_SLOWNESS" != 1 ] ||
		    check analyze-clang analyze_clang
		fuzz
	) &
	sanitize
	# All of it is to take less than 25 minutes, on a slow machine, too.
	if [ $SECONDS -lt 960 ] || [ -n "${CHECK_LONG-}" ]; then
		coverage
	else
		echo "skipped: coverage, for want of time"
	fi
	wait
fi
check leftovers sweep
summary
