#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree/symlink.h"

/* A link to `target` in `dir` of a mount of `root` is shown as `expected`. */
static void
shown(
    const char *target, const char *dir, const char *root, const char *expected)
{
	char *got = symlink_transform(target, dir, root);

	assert_non_null(got);
	assert_string_equal(got, expected);
	free(got);
}

static void
test_a_relative_target_stays(void **state)
{
	(void)state;
	shown("b", "/a", "/", "b");
	shown("../b", "/a", "/", "../b");
	shown("./x//y/", "/", "/", "./x//y/");
	shown("../../c", "/r/a/b", "/r", "../../c");
	shown("...", "/", "/", "...");
}

static void
test_an_absolute_target_stays_in_the_mount(void **state)
{
	(void)state;
	shown("/etc/passwd", "/", "/", "etc/passwd");
	shown("/etc/passwd", "/a/b", "/", "../../etc/passwd");
	shown("/r/x", "/r/a", "/r", "../x");
	shown("/", "/", "/", ".");
	shown("/", "/a", "/", "../");
	shown("/r", "/r", "/r", ".");
}

static void
test_dots_stop_at_the_root_of_the_room(void **state)
{
	(void)state;
	shown("../../etc", "/a", "/", "../etc");
	shown("/../../etc", "/a", "/", "../etc");
	shown("../../..", "/", "/", ".");
}

static void
test_what_is_outside_of_the_mount_does_not_exist(void **state)
{
	(void)state;
	shown("/etc", "/r/a", "/r", "../.outside-of-the-mount/etc");
	shown("../../etc", "/r/a", "/r", "../.outside-of-the-mount/etc");
	/* A name that only begins like the root. */
	shown("/room", "/r", "/r", ".outside-of-the-mount/room");
	shown("/r/../etc", "/r", "/r", ".outside-of-the-mount/etc");
	shown("..", "/r", "/r", ".outside-of-the-mount/");
}

static void
test_dots_that_come_back_into_the_mount(void **state)
{
	(void)state;
	shown("../r/x", "/r", "/r", "x");
	shown("/etc/../r/x", "/r/a", "/r", "../x");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_relative_target_stays),
	    cmocka_unit_test(test_an_absolute_target_stays_in_the_mount),
	    cmocka_unit_test(test_dots_stop_at_the_root_of_the_room),
	    cmocka_unit_test(test_what_is_outside_of_the_mount_does_not_exist),
	    cmocka_unit_test(test_dots_that_come_back_into_the_mount),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
