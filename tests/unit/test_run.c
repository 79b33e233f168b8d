#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/run.h"

/* A mount's directory in the cache directory. */
struct run {
	char *path;
	int dir, lock;
};

static char cache[64];
static int at;
static void (*before_lock)(void); /* what another mount does just then */

/* In the place of the C library's. */
int
flock(int fd, int how)
{
	void (*hook)(void) = before_lock;

	before_lock = NULL;
	if (hook != NULL)
		hook();
	return (int)syscall(SYS_flock, fd, how);
}

static struct run
begin(void)
{
	struct run r = {.dir = -1, .lock = -1};

	run_sweep(cache, at, "room");
	assert_int_equal(run_make(cache, &r.path, &r.dir, &r.lock), 0);
	return r;
}

/* As a killed one: its locks go, its directory stays. */
static void
end(struct run *r)
{
	close(r->dir);
	close(r->lock);
	free(r->path);
}

static int
set_up(void **state)
{
	(void)state;
	strcpy(cache, "/tmp/gentilityfs-test-run-XXXXXX");
	if (mkdtemp(cache) == NULL)
		return -1;
	at = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return at == -1;
}

static int
tear_down(void **state)
{
	(void)state;
	before_lock = NULL;
	run_sweep(cache, at, "room");
	close(at);
	return rmdir(cache);
}

static struct run other;

static void
another_begins(void)
{
	other = begin();
}

static void
test_another_mount_sweeps_before_the_lock_is_held(void **state)
{
	struct run first;

	(void)state;
	before_lock = another_begins;
	first = begin();
	assert_int_equal(access(first.path, F_OK), 0);
	assert_int_equal(access(other.path, F_OK), 0);
	assert_string_not_equal(first.path, other.path);
	end(&first);
	end(&other);
}

static void
test_what_a_dead_mount_left_is_swept(void **state)
{
	struct run dead, alive, next;
	char path[128];

	(void)state;
	dead = begin();
	alive = begin();
	snprintf(path, sizeof path, "%s", dead.path);
	end(&dead);
	next = begin();
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(alive.path, F_OK), 0);
	end(&alive);
	end(&next);
}

static void
test_what_was_never_finished_goes_when_it_is_old(void **state)
{
	const struct timespec old[2] = {{1, 0}, {1, 0}};
	struct run r;

	(void)state;
	assert_int_equal(mkdirat(at, "new-young", 0700), 0);
	assert_int_equal(mkdirat(at, "new-old", 0700), 0);
	close(openat(at, "new-old/lock", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(utimensat(at, "new-old", old, 0), 0);
	r = begin();
	assert_int_equal(faccessat(at, "new-old", F_OK, 0), -1);
	assert_int_equal(faccessat(at, "new-young", F_OK, 0), 0);
	assert_int_equal(unlinkat(at, "new-young", AT_REMOVEDIR), 0);
	end(&r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    TEST(test_another_mount_sweeps_before_the_lock_is_held),
	    TEST(test_what_a_dead_mount_left_is_swept),
	    TEST(test_what_was_never_finished_goes_when_it_is_old),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
