#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree/symlink.h"

static const struct symlink_place whole = {"/m/p", "/"};
static const struct symlink_place part = {"/m/p", "/home/u/proj"};

/* An absolute target reads as `expected`, and that is made the target again. */
static void
shown(const struct symlink_place *p, const char *target, const char *expected)
{
	char *got = symlink_show(p, target), *back;
	bool lost;

	assert_non_null(got);
	assert_string_equal(got, expected);
	back = symlink_target(p, got, &lost);
	assert_non_null(back);
	assert_string_equal(back, target);
	assert_int_equal(lost, strstr(expected, "outside") != NULL);
	free(got);
	free(back);
}

static void
test_what_is_in_the_mount_reads_as_there(void **state)
{
	(void)state;
	shown(&whole, "/etc/passwd", "/m/p/etc/passwd");
	shown(&whole, "//etc///passwd/", "/m/p//etc///passwd/");
	shown(&whole, "/m/p/x", "/m/p/m/p/x");
	shown(&part, "/home/u/proj/x", "/m/p/x");
	shown(&part, "/home/u/proj", "/m/p");
	shown(&part, "/home/u/proj//", "/m/p//");
	shown(&part, "/home/u/proj/home/u/proj", "/m/p/home/u/proj");
}

static void
test_the_root_itself(void **state)
{
	(void)state;
	shown(&whole, "/", "/m/p");
	shown(&whole, "//", "/m/p/");
	shown(&whole, "///", "/m/p//");
}

static void
test_what_is_outside_has_a_name_that_leads_nowhere(void **state)
{
	(void)state;
	shown(&part, "/etc/passwd", "/m/p/.outside-of-the-mount/etc/passwd");
	shown(&part, "/", "/m/p/.outside-of-the-mount/");
	/* A name that only begins like the root. */
	shown(&part, "/home/u/project",
	    "/m/p/.outside-of-the-mount/home/u/project");
}

/* Whatever leads nowhere keeps its text, and there is no way up in it. */
static void
lost(const struct symlink_place *p, const char *target)
{
	char *got = symlink_show_lost(p, target), *back;
	bool is_lost;

	assert_non_null(got);
	assert_false(symlink_climbs(got));
	assert_int_equal(strncmp(got, "/m/p/.", 6), 0);
	back = symlink_target(p, got, &is_lost);
	assert_non_null(back);
	assert_string_equal(back, target);
	assert_true(is_lost);
	free(got);
	free(back);
}

static void
test_a_way_out_is_none(void **state)
{
	static const char *const targets[] = {"..", "../..", "../x", "/..",
	    "/../x/", "a/../../..", "...", ".../../...//....", "./.././x",
	    "//..//x", "..x/.y/..", "/.../..", "../", "a/.."};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof targets / sizeof *targets; i++) {
		lost(&whole, targets[i]);
		lost(&part, targets[i]);
	}
}

static void
test_other_texts_are_not_of_the_mount(void **state)
{
	static const char *const texts[] = {"/etc/passwd", "/", "m/p", "",
	    "/m/pp", "/m", "../m/p/x", "/m/p/.above-the-mount/../x",
	    "/m/p/.outside-of-the-mount/../x"};
	bool is_lost;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_null(symlink_target(&whole, texts[i], &is_lost));
}

static void
test_which_targets_climb(void **state)
{
	(void)state;
	assert_true(symlink_climbs(".."));
	assert_true(symlink_climbs("/a//../b"));
	assert_true(symlink_climbs("a/.."));
	assert_false(symlink_climbs(""));
	assert_false(symlink_climbs("..a/b../.../.."
				    "c"));
}

static void
test_a_mount_on_the_root(void **state)
{
	static const struct symlink_place p = {"/", "/home/u"};

	(void)state;
	shown(&p, "/home/u/x", "/x");
	shown(&p, "/etc", "/.outside-of-the-mount/etc");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_is_in_the_mount_reads_as_there),
	    cmocka_unit_test(test_the_root_itself),
	    cmocka_unit_test(
		test_what_is_outside_has_a_name_that_leads_nowhere),
	    cmocka_unit_test(test_a_way_out_is_none),
	    cmocka_unit_test(test_other_texts_are_not_of_the_mount),
	    cmocka_unit_test(test_which_targets_climb),
	    cmocka_unit_test(test_a_mount_on_the_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
