#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/attr.h"

static void
round_trip(int64_t sec, long ns, bool whole)
{
	long got;
	int64_t time = attr_time(sec, ns);

	assert_true(attr_time_split(time, &got) == sec);
	assert_int_equal(got, whole ? 0 : ns);
}

static void
test_times_come_back(void **state)
{
	static const int64_t secs[] = {0, 1, -1, -2, 1700000000, INT32_MAX,
	    INT32_MIN, ATTR_TIME_SEC - 1, -ATTR_TIME_SEC};
	static const int64_t far[] = {ATTR_TIME_SEC, 9223372036, 9223372037,
	    9999999999, INT64_C(2000000000000), -ATTR_TIME_SEC - 1, -9223372037,
	    -INT64_C(2000000000000)};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof secs / sizeof *secs; i++) {
		round_trip(secs[i], 0, false);
		round_trip(secs[i], 1, false);
		round_trip(secs[i], 999999999, false);
	}
	for (i = 0; i < sizeof far / sizeof *far; i++)
		round_trip(far[i], 999999999, true);
}

static void
test_times_compare_as_they_are(void **state)
{
	static const int64_t secs[] = {INT64_MIN, -INT64_C(2000000000000),
	    -9223372037, -ATTR_TIME_SEC - 1, -ATTR_TIME_SEC, -1, 0, 1,
	    ATTR_TIME_SEC - 1, ATTR_TIME_SEC, ATTR_TIME_SEC + 1, 9223372037,
	    INT64_C(2000000000000)};
	size_t i;

	(void)state;
	for (i = 1; i < sizeof secs / sizeof *secs; i++)
		assert_true(
		    attr_time(secs[i - 1], 999999999) < attr_time(secs[i], 0));
	/* These mean other things where times are set. */
	assert_true(attr_time(INT64_MAX, 0) < INT64_MAX);
	assert_true(attr_time(INT64_MIN, 0) > INT64_MIN + 1);
	assert_true(attr_time(INT64_MAX, 0) > attr_time(2000000000000, 0));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_times_come_back),
	    cmocka_unit_test(test_times_compare_as_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
