#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/interval.h"

#define MODEL 64

static void
is(const struct intervals *s, const struct interval *expected, size_t count)
{
	size_t i;

	assert_int_equal(s->count, count);
	for (i = 0; i < count; i++) {
		assert_int_equal(s->v[i].start, expected[i].start);
		assert_int_equal(s->v[i].end, expected[i].end);
	}
}

static void
test_the_empty_set(void **state)
{
	struct intervals s = {0};
	struct interval found;

	(void)state;
	assert_int_equal(intervals_bytes(&s), 0);
	assert_true(intervals_cover(&s, 5, 5));
	assert_false(intervals_cover(&s, 5, 6));
	assert_false(intervals_first(&s, 0, UINT64_MAX, &found));
	assert_true(intervals_first_gap(&s, 3, 9, &found));
	assert_int_equal(found.start, 3);
	assert_int_equal(found.end, 9);
	assert_int_equal(intervals_add(&s, 7, 7), 0);
	assert_int_equal(intervals_remove(&s, 0, UINT64_MAX), 0);
	is(&s, NULL, 0);
	intervals_free(&s);
}

static void
test_neighbours_become_one(void **state)
{
	static const struct interval apart[] = {{0, 10}, {20, 30}};
	static const struct interval whole[] = {{0, 30}};
	struct intervals s = {0};

	(void)state;
	assert_int_equal(intervals_add(&s, 20, 30), 0);
	assert_int_equal(intervals_add(&s, 0, 10), 0);
	is(&s, apart, 2);
	assert_int_equal(intervals_add(&s, 10, 20), 0);
	is(&s, whole, 1);
	assert_int_equal(intervals_add(&s, 5, 25), 0);
	is(&s, whole, 1);
	intervals_free(&s);
}

static void
test_removing_from_the_middle_leaves_two(void **state)
{
	static const struct interval left[] = {{0, 10}, {20, 30}};
	struct intervals s = {0};

	(void)state;
	assert_int_equal(intervals_add(&s, 0, 30), 0);
	assert_int_equal(intervals_remove(&s, 10, 20), 0);
	is(&s, left, 2);
	assert_int_equal(intervals_remove(&s, 10, 20), 0);
	is(&s, left, 2);
	assert_int_equal(intervals_remove(&s, 0, UINT64_MAX), 0);
	is(&s, NULL, 0);
	intervals_free(&s);
}

static void
test_the_end_of_the_number_range(void **state)
{
	struct intervals s = {0};
	struct interval found;

	(void)state;
	assert_int_equal(intervals_add(&s, UINT64_MAX - 1, UINT64_MAX), 0);
	assert_true(intervals_cover(&s, UINT64_MAX - 1, UINT64_MAX));
	assert_true(intervals_first(&s, 0, UINT64_MAX, &found));
	assert_int_equal(found.start, UINT64_MAX - 1);
	assert_int_equal(intervals_bytes(&s), 1);
	intervals_free(&s);
}

/* Compare every question about [start, end) with the model's answer. */
static void
compare(
    const struct intervals *s, const bool *has, unsigned start, unsigned end)
{
	struct interval found;
	unsigned i, stop;

	for (i = start; i < end && has[i]; i++)
		;
	assert_int_equal(intervals_cover(s, start, end), i >= end);
	assert_int_equal(intervals_first_gap(s, start, end, &found), i < end);
	if (i < end) {
		for (stop = i; stop < end && !has[stop]; stop++)
			;
		assert_int_equal(found.start, i);
		assert_int_equal(found.end, stop);
	}
	for (i = start; i < end && !has[i]; i++)
		;
	assert_int_equal(intervals_first(s, start, end, &found), i < end);
	if (i < end) {
		for (stop = i; stop < end && has[stop]; stop++)
			;
		assert_int_equal(found.start, i);
		assert_int_equal(found.end, stop);
	}
}

static void
test_random_changes_agree_with_a_model(void **state)
{
	struct intervals s = {0};
	bool has[MODEL] = {false};
	unsigned seed, i, start, end, bytes;

	(void)state;
	srand(1);
	for (seed = 0; seed < 20000; seed++) {
		start = rand() % MODEL;
		end = start + rand() % (MODEL + 1 - start);
		if (rand() % 2 == 0) {
			assert_int_equal(intervals_add(&s, start, end), 0);
			memset(has + start, true, end - start);
		} else {
			assert_int_equal(intervals_remove(&s, start, end), 0);
			memset(has + start, false, end - start);
		}
		for (i = 1; i < s.count; i++)
			assert_true(s.v[i - 1].end < s.v[i].start);
		for (i = bytes = 0; i < MODEL; i++)
			bytes += has[i];
		assert_int_equal(intervals_bytes(&s), bytes);
		start = rand() % MODEL;
		compare(&s, has, start, start + rand() % (MODEL + 1 - start));
		compare(&s, has, 0, MODEL);
	}
	intervals_free(&s);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_the_empty_set),
	    cmocka_unit_test(test_neighbours_become_one),
	    cmocka_unit_test(test_removing_from_the_middle_leaves_two),
	    cmocka_unit_test(test_the_end_of_the_number_range),
	    cmocka_unit_test(test_random_changes_agree_with_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
