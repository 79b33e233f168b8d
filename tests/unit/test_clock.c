#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "room/clock.h"

#define S     INT64_C(1000000000)
#define THERE (INT64_C(1700000000) * S)

/* Asked at `began`, answered at `ended`, and there it was `at` of our clock. */
static void
note(struct vm_clock *c, int64_t began, int64_t at, int64_t ended)
{
	vm_clock_note(c, THERE + at, began, ended, true);
}

static void
test_nothing_is_known_at_first(void **state)
{
	struct vm_clock c = {false, 0};

	(void)state;
	assert_true(vm_clock_now(&c, 5 * S, 77) == 77);
	/* What is just somewhere there may be of any time. */
	vm_clock_note(&c, THERE, S, 2 * S, false);
	assert_true(vm_clock_now(&c, 5 * S, 77) == 77);
}

static void
test_it_is_never_later_than_there_and_never_before_what_was_seen(void **state)
{
	struct vm_clock c = {false, 0};
	int64_t began, at, ended = 0, now;
	int i;

	(void)state;
	srand(1);
	for (i = 0; i < 1000; i++) {
		began = ended + rand() % S;
		at = began + rand() % S;
		ended = at + rand() % S;
		note(&c, began, at, ended);
		now = vm_clock_now(&c, ended, 0);
		assert_true(now <= THERE + ended);
		assert_true(now >= THERE + at);
	}
}

static void
test_a_listing_shows_what_time_it_is(void **state)
{
	struct vm_clock c = {false, 0};

	(void)state;
	note(&c, 10 * S, 10 * S, 11 * S);
	vm_clock_note(&c, THERE + 20 * S, 19 * S, 20 * S + S / 2, false);
	assert_true(vm_clock_now(&c, 21 * S, 0) == THERE + 20 * S + S / 2);
	/* Old files say nothing; nor do those of the future. */
	vm_clock_note(&c, THERE - 1000 * S, 21 * S, 22 * S, false);
	vm_clock_note(&c, THERE + 1000 * S, 21 * S, 22 * S, false);
	vm_clock_note(&c, INT64_MAX - 5, 21 * S, 22 * S, false);
	vm_clock_note(&c, -5, 21 * S, 22 * S, false);
	assert_true(vm_clock_now(&c, 21 * S, 0) == THERE + 20 * S + S / 2);
}

static void
test_a_clock_that_was_put_is_followed(void **state)
{
	struct vm_clock c = {false, 0};

	(void)state;
	note(&c, 10 * S, 10 * S, 11 * S);
	/* An hour forward, and back again. */
	note(&c, 20 * S, 3620 * S, 21 * S);
	assert_true(vm_clock_now(&c, 21 * S, 0) == THERE + 3620 * S);
	note(&c, 30 * S, 30 * S, 31 * S);
	assert_true(vm_clock_now(&c, 31 * S, 0) == THERE + 30 * S);
	/* Times there may be some milliseconds old. */
	note(&c, 40 * S, 40 * S - S / 100, 40 * S);
	assert_true(vm_clock_now(&c, 40 * S, 0) == THERE + 40 * S - S / 100);
	note(&c, 50 * S, 50 * S - S / 50, 50 * S + 1);
	assert_true(vm_clock_now(&c, 50 * S, 0) == THERE + 50 * S - S / 100);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nothing_is_known_at_first),
	    cmocka_unit_test(
		test_it_is_never_later_than_there_and_never_before_what_was_seen),
	    cmocka_unit_test(test_a_listing_shows_what_time_it_is),
	    cmocka_unit_test(test_a_clock_that_was_put_is_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
