#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/retry.h"

static struct retry_case
status_case(long status)
{
	return (struct retry_case){
	    .status = status, .sent = true, .attempt = 1, .limit_ms = 60000};
}

static struct retry_case
error_case(int error)
{
	return (struct retry_case){
	    .error = error, .attempt = 1, .limit_ms = 60000};
}

static void
test_what_may_pass_is_repeated(void **state)
{
	static const long statuses[] = {
	    408, 425, 429, 500, 502, 503, 504, 520, 529};
	static const int errors[] = {
	    -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH, -ECONNRESET, -EPROTO};

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		struct retry_case c = status_case(statuses[i]);

		assert_true(retry_delay_ms(&c) > 0);
		assert_int_equal(retry_errno(&c), -EIO);
	}
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		struct retry_case c = error_case(errors[i]);

		assert_true(retry_delay_ms(&c) > 0);
		c.sent = true;
		assert_true(retry_delay_ms(&c) > 0);
	}
	struct retry_case c = status_case(200);

	assert_int_equal(retry_delay_ms(&c), -1);
	c.malformed = true;
	assert_true(retry_delay_ms(&c) > 0);
	assert_int_equal(retry_errno(&c), -EIO);
}

static void
test_what_can_not_pass_is_not(void **state)
{
	static const long statuses[] = {
	    301, 302, 400, 401, 403, 404, 409, 413, 416, 501, 505};
	static const int errors[] = {
	    -EKEYREJECTED, -EFBIG, -ENOMEM, -ECANCELED, -EINVAL, -EAGAIN};

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		struct retry_case c = status_case(statuses[i]);

		assert_int_equal(retry_delay_ms(&c), -1);
		assert_int_equal(retry_errno(&c),
		    statuses[i] == 401 || statuses[i] == 403 ? -EACCES : -EIO);
	}
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		struct retry_case c = error_case(errors[i]);

		assert_int_equal(retry_delay_ms(&c), -1);
		assert_int_equal(retry_errno(&c), errors[i]);
	}
}

static void
test_user_command_only_if_nothing_was_sent(void **state)
{
	static const int errors[] = {
	    -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH, -ECONNRESET};

	(void)state;
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		struct retry_case c = error_case(errors[i]);

		c.kind = RETRY_USER;
		assert_true(retry_delay_ms(&c) > 0);
		assert_int_not_equal(retry_errno(&c), -EREMOTEIO);
		c.sent = true;
		assert_int_equal(retry_delay_ms(&c), -1);
		assert_int_equal(retry_errno(&c), -EREMOTEIO);
	}
	for (long status = 100; status < 600; status++) {
		struct retry_case c = status_case(status);

		c.kind = RETRY_USER;
		c.malformed = status >= 200 && status < 300;
		for (int sent = 0; sent < 2; sent++) {
			c.sent = sent;
			assert_int_equal(retry_delay_ms(&c), -1);
			c.retry_after_s = 1;
			assert_int_equal(retry_delay_ms(&c), -1);
		}
	}
}

static void
test_fate_of_a_user_command(void **state)
{
	static const long not_run[] = {400, 404, 409, 429, 503};
	static const long unknown[] = {200, 302, 408, 500, 502, 504};
	struct retry_case c;

	(void)state;
	for (size_t i = 0; i < sizeof not_run / sizeof not_run[0]; i++) {
		c = status_case(not_run[i]);
		c.kind = RETRY_USER;
		/* A gateway's page says nothing about the command. */
		assert_int_equal(retry_errno(&c), -EREMOTEIO);
		c.refused = true;
		assert_int_equal(retry_errno(&c), -EIO);
	}
	for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
		c = status_case(unknown[i]);
		c.kind = RETRY_USER;
		c.malformed = unknown[i] == 200;
		c.refused = true;
		assert_int_equal(retry_errno(&c), -EREMOTEIO);
	}
	c = status_case(401);
	c.kind = RETRY_USER;
	assert_int_equal(retry_errno(&c), -EACCES);
	c = error_case(-EFBIG);
	c.kind = RETRY_USER;
	c.sent = true;
	c.status = 200;
	assert_int_equal(retry_errno(&c), -EFBIG);
	assert_int_equal(retry_fate(&c), FATE_RAN);
	c.error = -ENOMEM;
	assert_int_equal(retry_fate(&c), FATE_RAN);
	c.status = 502;
	assert_int_equal(retry_errno(&c), -EREMOTEIO);
	/* Too large for whoever says so. */
	c = status_case(413);
	c.kind = RETRY_USER;
	assert_int_equal(retry_fate(&c), FATE_NOT_RUN);
	assert_int_equal(retry_errno(&c), -EIO);
}

static void
test_delays_grow_with_jitter(void **state)
{
	static const int most[] = {
	    200, 200, 400, 800, 1600, 3200, 6400, 8000, 8000, 8000};
	struct retry_case c = error_case(-ECONNRESET);

	(void)state;
	for (unsigned n = 0; n < 10; n++) {
		c.attempt = n;
		for (unsigned random = 0; random < 10000; random += 7) {
			int delay;

			c.random = random;
			delay = retry_delay_ms(&c);
			assert_in_range(delay, most[n] / 2, most[n]);
		}
	}
	c.attempt = UINT_MAX;
	c.random = UINT_MAX;
	assert_in_range(retry_delay_ms(&c), 4000, 8000);
}

static void
test_retry_after_is_obeyed(void **state)
{
	struct retry_case c = status_case(429);

	(void)state;
	c.retry_after_s = 5;
	c.random = UINT_MAX;
	assert_in_range(retry_delay_ms(&c), 5000, 5250);
	c.attempt = 9;
	assert_in_range(retry_delay_ms(&c), 5000, 5250);
	/* Not shortened to fit the limit: given up. */
	c.elapsed_ms = 55001;
	assert_int_equal(retry_delay_ms(&c), -1);
	c.elapsed_ms = 0;
	c.retry_after_s = UINT_MAX;
	assert_int_equal(retry_delay_ms(&c), -1);
	c.limit_ms = UINT_MAX;
	assert_int_equal(retry_delay_ms(&c), -1);
}

static void
test_nothing_begins_after_the_limit(void **state)
{
	struct retry_case c = error_case(-ECONNRESET);

	(void)state;
	c.limit_ms = 1000;
	c.elapsed_ms = 950;
	assert_int_equal(retry_delay_ms(&c), -1);
	c.elapsed_ms = UINT_MAX;
	assert_int_equal(retry_delay_ms(&c), -1);
	c.limit_ms = 0;
	c.elapsed_ms = 0;
	assert_int_equal(retry_delay_ms(&c), -1);
}

static void
test_nobody_there_is_soon_believed(void **state)
{
	static const int certain[] = {-ECONNREFUSED, -EHOSTUNREACH};
	struct retry_case c;

	(void)state;
	for (size_t i = 0; i < sizeof certain / sizeof certain[0]; i++) {
		c = error_case(certain[i]);
		c.stranger = true;
		assert_true(retry_delay_ms(&c) > 0);
		c.elapsed_ms = 3000;
		assert_int_equal(retry_delay_ms(&c), -1);
		/* Who answered before may come back. */
		c.stranger = false;
		assert_true(retry_delay_ms(&c) > 0);
	}
	c = error_case(-ETIMEDOUT); /* may be slow to start */
	c.stranger = true;
	c.elapsed_ms = 3000;
	assert_true(retry_delay_ms(&c) > 0);
	c = status_case(503);
	c.stranger = true;
	c.elapsed_ms = 3000;
	assert_true(retry_delay_ms(&c) > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_may_pass_is_repeated),
	    cmocka_unit_test(test_what_can_not_pass_is_not),
	    cmocka_unit_test(test_user_command_only_if_nothing_was_sent),
	    cmocka_unit_test(test_fate_of_a_user_command),
	    cmocka_unit_test(test_delays_grow_with_jitter),
	    cmocka_unit_test(test_retry_after_is_obeyed),
	    cmocka_unit_test(test_nothing_begins_after_the_limit),
	    cmocka_unit_test(test_nobody_there_is_soon_believed),
	};

	return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
