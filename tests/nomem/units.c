/* clang-format off: cmocka needs the first four. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nomem.h"

/*
 * A unit test run as often as it allocates, and each time another allocation
 * fails: the test may fail then, and may stumble over what it did not get
 * itself; the modules may neither crash nor hang.  NOMEM_MAX: so many runs of
 * each test at most, evenly spread; else all.  NOMEM_SKIP: not this test, which
 * waits for what then never happens.
 */

#define UNITS_LIMIT_S 60
#define UNITS_RUNS    8 /* at a time: some wait for most of it */
#define UNITS_CRASH   99

extern const char __executable_start[], _start[], etext[]; /* the linker's */
int __real__cmocka_run_group_tests(const char *, const struct CMUnitTest *const,
    const size_t, CMFixtureFunction, CMFixtureFunction);
int __wrap__cmocka_run_group_tests(const char *, const struct CMUnitTest *const,
    const size_t, CMFixtureFunction, CMFixtureFunction);

struct units_run {
	const struct CMUnitTest *test;
	pid_t pid; /* 0: none */
	uint64_t n; /* which allocation fails; 0: none */
	time_t began;
	struct nomem *nomem;
	FILE *said;
};

struct units {
	const char *group;
	CMFixtureFunction setup, teardown;
	struct units_run runs[UNITS_RUNS];
	unsigned long done;
	int problems;
};

static CMUnitTestFunction units_function;

/*
 * Whose crash is it?  The test's own code lies between the program's start and
 * this file's code, as it is linked in that order; libraries crash for whoever
 * called them.
 */
static void
units_crash(int number)
{
	/* Tests abort in what lies before that, too; modules never do. */
	uintptr_t from =
	    (uintptr_t)(number == SIGABRT ? __executable_start : _start);
	uintptr_t end = (uintptr_t)etext, at;
	uintptr_t to = (uintptr_t)__wrap__cmocka_run_group_tests;
	void *frames[64];
	int i, n;

	n = backtrace(frames, 64);
	for (i = 2; i < n; i++) {
		at = (uintptr_t)frames[i];
		if (at > from && at < to)
			_exit(1);
		if (at > from && at < end)
			break;
	}
	dprintf(STDERR_FILENO, "%s\n", strsignal(number));
	backtrace_symbols_fd(frames, n, STDERR_FILENO);
	_exit(UNITS_CRASH);
}

/* The test, with our handlers in place of cmocka's. */
static void
units_test(void **state)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	size_t i;

	for (i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], units_crash);
	units_function(state);
}

/* In a process of its own. */
static void
units_child(struct units *u, struct units_run *run)
{
	struct CMUnitTest test = *run->test;
	sigset_t none;
	void *frames[1];
	int status;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(fileno(run->said), STDOUT_FILENO);
	dup2(fileno(run->said), STDERR_FILENO);
	backtrace(frames, 1); /* loads what the handler must not */
	nomem = run->nomem;
	units_function = test.test_func;
	test.test_func = units_test;
	status = __real__cmocka_run_group_tests(
	    u->group, &test, 1, u->setup, u->teardown);
	fflush(stdout);
	_exit(status == 0 ? 0 : 1);
}

static void
units_start(struct units *u, struct units_run *run,
    const struct CMUnitTest *test, uint64_t n)
{
	run->test = test;
	run->n = n;
	run->began = time(NULL);
	*run->nomem = (struct nomem){.from = n, .to = n == 0 ? 0 : n + 1};
	rewind(run->said);
	fflush(stdout);
	if (ftruncate(fileno(run->said), 0) == -1 || (run->pid = fork()) == -1)
		abort();
	if (run->pid == 0)
		units_child(u, run);
}

/* Judge how it ended, and tell what is wrong. */
static void
units_end(struct units *u, struct units_run *run, int status, bool hung)
{
	const char *what = NULL;
	char line[1024];

	run->pid = 0;
	u->done++;
	if (hung)
		what = "hangs";
	else if (WIFSIGNALED(status))
		what = strsignal(WTERMSIG(status));
	else if (WEXITSTATUS(status) > 1)
		what = "crashes";
	else if (run->n == 0 && status != 0)
		what = "fails anyway";
	if (what == NULL)
		return;
	u->problems++;
	printf("%s: allocation %llu failing at 0x%llx: %s\n", run->test->name,
	    (unsigned long long)run->n, (unsigned long long)run->nomem->where,
	    what);
	rewind(run->said);
	while (fgets(line, sizeof line, run->said) != NULL)
		printf("    %s", line);
}

/* Wait until no more than so many are under way. */
static void
units_wait(struct units *u, int most)
{
	struct timespec pause = {.tv_nsec = 2000000};
	struct units_run *run;
	int busy, status;

	for (;;) {
		busy = 0;
		for (run = u->runs; run < u->runs + UNITS_RUNS; run++) {
			if (run->pid == 0)
				continue;
			if (waitpid(run->pid, &status, WNOHANG) != 0) {
				units_end(u, run, status, false);
			} else if (time(NULL) > run->began + UNITS_LIMIT_S) {
				kill(run->pid, SIGKILL);
				waitpid(run->pid, &status, 0);
				units_end(u, run, status, true);
			} else {
				busy++;
			}
		}
		if (busy <= most)
			return;
		nanosleep(&pause, NULL);
	}
}

static void
units_sweep(struct units *u, const struct CMUnitTest *test, uint64_t max)
{
	struct units_run *run = u->runs;
	uint64_t all, step, n;

	units_start(u, run, test, 0);
	units_wait(u, 0);
	all = run->nomem->count;
	step = max == 0 || all <= max ? 1 : all / max;
	for (n = 1; n <= all; n += step) {
		units_wait(u, UNITS_RUNS - 1);
		for (run = u->runs; run->pid != 0; run++)
			;
		units_start(u, run, test, n);
	}
	units_wait(u, 0);
}

int
__wrap__cmocka_run_group_tests(const char *group,
    const struct CMUnitTest *const tests, const size_t count,
    CMFixtureFunction setup, CMFixtureFunction teardown)
{
	struct units u = {.group = group, .setup = setup, .teardown = teardown};
	const char *max = getenv("NOMEM_MAX"), *skip = getenv("NOMEM_SKIP");
	struct nomem *shared;
	size_t i;

	shared = mmap(NULL, UNITS_RUNS * sizeof *shared, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	for (i = 0; i < UNITS_RUNS; i++) {
		u.runs[i].nomem = &shared[i];
		if ((u.runs[i].said = tmpfile()) == NULL)
			return 2;
	}
	for (i = 0; i < count; i++)
		if (skip == NULL || strcmp(tests[i].name, skip) != 0)
			units_sweep(&u, &tests[i],
			    max == NULL ? 0 : strtoull(max, NULL, 10));
	printf("%zu tests, %lu runs, %d problems\n", count, u.done, u.problems);
	return u.problems == 0 ? 0 : 1;
}
