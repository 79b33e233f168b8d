/* What a mount counts, its percentiles, and the forms it is told in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/json_text.h"
#include "base/stats.h"
#include "base/stats_text.h"

static void
test_every_value_has_a_bucket_that_is_near(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < 39; bit++) {
		for (int step = -1; step <= 1; step++) {
			uint64_t us = ((uint64_t)1 << bit) + (uint64_t)step;
			struct histogram h = {0};

			histogram_add(&h, us);
			histogram_add(&h, (uint64_t)1 << 50);
			/* Not below it, and not a quarter above it. */
			assert_true(histogram_percentile(&h, 0.5) >= us);
			assert_true(
			    histogram_percentile(&h, 0.5) <= us + us / 4);
		}
	}
}

static void
test_percentiles_of_a_known_row(void **state)
{
	struct histogram h = {0};

	(void)state;
	assert_int_equal(histogram_percentile(&h, 0.5), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		histogram_add(&h, us * 100);
	assert_in_range(histogram_percentile(&h, 0.5), 50000, 62500);
	assert_in_range(histogram_percentile(&h, 0.9), 90000, 100000);
	assert_in_range(histogram_percentile(&h, 0.99), 99000, 100000);
	assert_int_equal(histogram_percentile(&h, 1), 100000);
	assert_in_range(histogram_percentile(&h, 0), 100, 125);
	assert_int_equal(h.count, 1000);
	assert_int_equal(h.max_us, 100000);
	/* One slow one among many is not the 99 of 100. */
	histogram_add(&h, 60000000);
	assert_in_range(histogram_percentile(&h, 0.99), 99000, 125000);
	assert_int_equal(histogram_percentile(&h, 1), 60000000);
}

static void
test_what_is_below_an_octave_is_exact(void **state)
{
	struct histogram h = {0}, all = {0};

	(void)state;
	for (uint64_t us = 0; us < 5000; us++)
		histogram_add(&h, us);
	for (unsigned octave = 0; octave <= 12; octave++)
		assert_int_equal(
		    histogram_below(&h, octave), (uint64_t)1 << octave);
	assert_int_equal(histogram_below(&h, 13), 5000);
	histogram_merge(&all, &h);
	histogram_merge(&all, &h);
	assert_int_equal(all.count, 10000);
	assert_int_equal(histogram_below(&all, 5), 64);
	histogram_add(&h, UINT64_MAX); /* no bucket is so large */
	assert_int_equal(h.max_us, UINT64_MAX);
	assert_true(histogram_percentile(&h, 1) == UINT64_MAX);
}

static void
request(struct stats *s, enum stats_kind kind, bool again, bool failed)
{
	stats_begin(s, kind);
	stats_end(s,
	    &(struct stats_request){
		.kind = kind,
		.again = again,
		.failed = failed,
		.us = 2000,
		.out = 10,
		.in = 100,
	    });
}

static void
test_counting(void **state)
{
	struct stats_snapshot t;
	struct stats *s;

	(void)state;
	assert_int_equal(stats_open(&s), 0);
	request(s, STATS_RAW, false, true);
	request(s, STATS_RAW, true, false);
	stats_begin(s, STATS_EXEC);
	stats_give_up(s);
	stats_look(s, STATS_BYTES, true, 7);
	stats_look(s, STATS_BYTES, false, 9);
	assert_int_equal(stats_take(s, &t), 0);
	assert_int_equal(t.kinds[STATS_RAW].requests, 2);
	assert_int_equal(t.kinds[STATS_RAW].retries, 1);
	assert_int_equal(t.kinds[STATS_RAW].errors, 1);
	assert_int_equal(t.kinds[STATS_RAW].under_way, 0);
	assert_int_equal(t.kinds[STATS_RAW].out, 20);
	assert_int_equal(t.kinds[STATS_RAW].in, 200);
	assert_int_equal(t.kinds[STATS_RAW].latency.count, 2);
	assert_int_equal(t.kinds[STATS_EXEC].requests, 0);
	assert_int_equal(t.kinds[STATS_EXEC].under_way, 1);
	assert_int_equal(t.given_up, 1);
	assert_int_equal(t.caches[STATS_BYTES].hits, 1);
	assert_int_equal(t.caches[STATS_BYTES].misses, 1);
	assert_int_equal(t.caches[STATS_BYTES].bytes, 7);
	stats_snapshot_free(&t);
	stats_close(s);
	/* Nobody counts. */
	request(NULL, STATS_RAW, false, false);
	stats_look(NULL, STATS_NAMES, true, 1);
	assert_null(stats_transfer_begin(NULL, true, "/x", 1));
	stats_transfer_add(NULL, NULL, 1);
	stats_transfer_end(NULL, NULL);
}

static void
test_all_who_work_on_a_file_have_one_transfer(void **state)
{
	struct stats_transfer *one, *two, *other;
	struct stats_snapshot t;
	struct stats *s;

	(void)state;
	assert_int_equal(stats_open(&s), 0);
	one = stats_transfer_begin(s, false, "/x", 100);
	two = stats_transfer_begin(s, false, "/x", 100);
	other = stats_transfer_begin(s, true, "/x", 100);
	assert_ptr_equal(one, two);
	assert_ptr_not_equal(one, other);
	stats_transfer_add(s, one, 30);
	stats_transfer_end(s, one);
	stats_transfer_add(s, two, 30);
	stats_transfer_add(s, other, 1000); /* no more than all */
	assert_int_equal(stats_take(s, &t), 0);
	assert_int_equal(t.transfers, 2);
	assert_int_equal(t.shown, 2);
	assert_string_equal(t.progress[0].path, "/x");
	assert_false(t.progress[0].upload);
	assert_int_equal(t.progress[0].done, 60);
	assert_int_equal(t.progress[1].done, 100);
	stats_snapshot_free(&t);
	stats_transfer_end(s, two);
	stats_transfer_end(s, other);
	assert_int_equal(stats_take(s, &t), 0);
	assert_int_equal(t.transfers, 0);
	stats_snapshot_free(&t);
	stats_close(s);
}

/* However many and long the names are, the text keeps to its bound. */
static void
test_a_text_keeps_to_its_bound(void **state)
{
	struct stats_transfer *all[100];
	struct stats_snapshot t;
	struct stats_view v = {.counts = &t,
	    .version = "1",
	    .source = "s",
	    .mountpoint = "/m",
	    .url = "u",
	    .root = "/",
	    .instance = "i",
	    .contact_ms = UINT64_MAX};
	struct stats *s;
	char path[4001], *text;
	size_t len, i;

	(void)state;
	memset(path, '\xff', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	assert_int_equal(stats_open(&s), 0);
	for (i = 0; i < 100; i++) {
		path[0] = (char)(i + 1);
		all[i] = stats_transfer_begin(s, true, path, i);
	}
	assert_int_equal(stats_take(s, &t), 0);
	assert_int_equal(t.transfers, 100);
	for (i = STATS_LINES; i <= STATS_PROMETHEUS; i++) {
		assert_int_equal(
		    stats_format(&v, (enum stats_form)i, 65536, &text, &len),
		    0);
		assert_true(len <= 65536);
		assert_int_equal(strlen(text), len);
		assert_int_equal(text[len - 1], '\n');
		free(text);
	}
	stats_snapshot_free(&t);
	for (i = 0; i < 100; i++)
		stats_transfer_end(s, all[i]);
	stats_close(s);
}

static void
assert_json(const char *text, const char *expected)
{
	char *out;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	assert_non_null(f);
	json_write_string(f, text);
	fclose(f);
	assert_string_equal(out, expected);
	free(out);
}

static void
test_json_strings_are_utf8_whatever_they_were(void **state)
{
	(void)state;
	assert_json(NULL, "null");
	assert_json("", "\"\"");
	assert_json("a\"b\\c\n\x7f", "\"a\\\"b\\\\c\\u000a\\u007f\"");
	assert_json("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
	    "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
	assert_json("\xff", "\"\\ufffd\"");
	assert_json("x\xc3", "\"x\\ufffd\""); /* cut */
	assert_json("\xe2\x82", "\"\\ufffd\\ufffd\"");
	assert_json("\xc0\xaf", "\"\\ufffd\\ufffd\""); /* too long a form */
	assert_json("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");
	assert_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_value_has_a_bucket_that_is_near),
	    cmocka_unit_test(test_percentiles_of_a_known_row),
	    cmocka_unit_test(test_what_is_below_an_octave_is_exact),
	    cmocka_unit_test(test_counting),
	    cmocka_unit_test(test_all_who_work_on_a_file_have_one_transfer),
	    cmocka_unit_test(test_a_text_keeps_to_its_bound),
	    cmocka_unit_test(test_json_strings_are_utf8_whatever_they_were),
	};

	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
