#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"
#include "script/script.h"

/* Decodes to that, or does not. */
static void
check(const char *text, const char *bytes)
{
	char buf[64];
	ssize_t n;

	strcpy(buf, text);
	n = base64_decode(buf, strlen(text));
	if (bytes == NULL) {
		assert_int_equal(n, -EPROTO);
		return;
	}
	assert_int_equal(n, strlen(bytes));
	assert_memory_equal(buf, bytes, n);
}

static void
test_the_rfcs_examples(void **state)
{
	static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="},
	    {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
	    {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
	    {"\xfb\xff\xbf", "+/+/"}};
	size_t i, len;
	char *text;

	(void)state;
	for (i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		text = base64_encode(pairs[i][0], strlen(pairs[i][0]), &len);
		assert_string_equal(text, pairs[i][1]);
		assert_int_equal(len, strlen(text));
		check(text, pairs[i][0]);
		free(text);
	}
}

static void
test_space_is_skipped_anywhere(void **state)
{
	(void)state;
	check(" Zm\n9v\r\nYg =\t=\n", "foob");
	check(" \n", "");
}

static void
test_what_is_cut_or_spoilt_is_refused(void **state)
{
	(void)state;
	check("Z", NULL);
	check("Zg", NULL);
	check("Zg=", NULL);
	check("Zg===", NULL);
	check("Zm9v=", NULL);
	check("=", NULL);
	check("Zg==Zg==", NULL);
	check("Zm-v", NULL);
	check("Zm\xc3v", NULL);
	/* Bits left over: not what any encoder wrote. */
	check("Zh==", NULL);
	check("Zm9=", NULL);
}

static void
test_a_nul_is_not_an_end(void **state)
{
	char text[] = "Zm9v\0Zm9v";

	(void)state;
	assert_int_equal(base64_decode(text, 9), -EPROTO);
}

static void
test_what_does_not_compress_is_seen(void **state)
{
	size_t len = 100000, i;
	char *data = malloc(len);
	uint32_t x = 1;

	(void)state;
	assert_non_null(data);
	for (i = 0; i < len; i++)
		data[i] = (x = x * 1664525 + 1013904223) >> 24;
	assert_false(script_may_compress(data, len));
	/* Half of it is enough. */
	memset(data + len / 2, 'a', len / 2);
	assert_true(script_may_compress(data, len));
	free(data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_the_rfcs_examples),
	    cmocka_unit_test(test_space_is_skipped_anywhere),
	    cmocka_unit_test(test_what_is_cut_or_spoilt_is_refused),
	    cmocka_unit_test(test_a_nul_is_not_an_end),
	    cmocka_unit_test(test_what_does_not_compress_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
