#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answer.h"
#include "compose.h"
#include "json.h"
#include "text.h"

static struct json
json_of(const char *text)
{
	return (struct json){text, text + strlen(text)};
}

static void
check_string(const char *json, const char *want, size_t want_len)
{
	size_t len;
	char *s = json_string(json_of(json), &len);

	assert_non_null(s);
	assert_int_equal(len, want_len);
	assert_memory_equal(s, want, want_len);
	free(s);
}

static void
test_strings_come_as_bytes(void **state)
{
	check_string("\"\"", "", 0);
	check_string(" \"a b\" ", "a b", 3);
	check_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
	check_string("\"a\\u0000b\"", "a\0b", 3);
	check_string("\"\\u00e9\\u20ac\\ud83d\\ude00\"",
	    "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
	/* Half a pair. */
	check_string("\"\\ud83dx\"", "\xef\xbf\xbdx", 4);
	check_string("\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd", 6);
	check_string("\"\xff\xfe\"", "\xff\xfe", 2);
}

static void
test_wrong_strings_are_none(void **state)
{
	static const char *const wrong[] = {"", "\"", "\"a", "\"\\\"", "x",
	    "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "1", "{}", "\"\\"};
	size_t i, len;

	for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_null(json_string(json_of(wrong[i]), &len));
}

static void
test_members_are_found(void **state)
{
	struct json all = json_of("{\"a\": {\"x\": \"}\", \"b\": 1}, "
				  "\"l\": [1, [2, 3], \"]\"], \"b\":-12 ,"
				  "\"c\":true}"),
		    v, e;
	int n = 0;

	assert_int_equal(json_find_number(all, "b", 0), -12);
	assert_int_equal(json_find_number(all, "c", 7), 7);
	assert_int_equal(json_find_number(all, "none", 7), 7);
	assert_true(json_find(all, "a", &v));
	assert_int_equal(json_find_number(v, "b", 0), 1);
	assert_true(json_find(all, "l", &v));
	while (json_next(&v, &e))
		n++;
	assert_int_equal(n, 3);
}

/* Any part of an answer: nothing is read beyond its end (sanitizers see). */
static void
test_cut_documents_end(void **state)
{
	static const char whole[] =
	    "{\"result\":{\"output\":\"a\\u0041\\\\\",\"exit_code\":0,"
	    "\"files_changed\":[{\"path\":\"/a b\",\"status\":\"created\","
	    "\"size\":3,\"mime_type\":\"text/plain\"},{\"path\":\"/\\n\","
	    "\"status\":\"deleted\"}]},\"error\":\"x\",\"z\":[{},[]]}";
	struct answer a;
	size_t len, n;
	char *copy, *list;

	for (len = 0; len < sizeof whole; len++) {
		copy = malloc(len == 0 ? 1 : len);
		memcpy(copy, whole, len);
		if (answer_parse(&a, copy, len) == 0) {
			list = answer_changes(&a, &n);
			assert_non_null(list);
			free(list);
		}
		answer_free(&a);
	}
}

static void
test_garbage_ends(void **state)
{
	static const char bytes[] = "{}[]\",:\\u0 1a\0";
	unsigned seed = 1;
	char *text;
	size_t i, n;
	struct answer a;

	for (n = 0; n < 20000; n++) {
		text = malloc(24);
		memcpy(text, "{\"result\":", 10);
		for (i = n % 2 ? 10 : 0; i < 24; i++)
			text[i] = bytes[rand_r(&seed) % (sizeof bytes - 1)];
		answer_parse(&a, text, 24);
		answer_free(&a);
	}
}

static struct answer
answer_of(const char *json)
{
	struct answer a;

	assert_int_equal(answer_parse(&a, strdup(json), strlen(json)), 0);
	return a;
}

static void
test_the_mark_is_cut_out(void **state)
{
	static const struct {
		const char *json, *want;
		bool found;
	} cases[] = {
	    {"{\"result\":{\"output\":\"x\\n<m>\"}}", "x\n", true},
	    {"{\"result\":{\"output\":\"x <m> \\n\"}}", "x ", true},
	    {"{\"result\":{\"output\":\"<m>\"}}", "", true},
	    {"{\"result\":{\"output\":\"<m><m>\"}}", "<m>", true},
	    {"{\"result\":{\"output\":\"x<m>later\\n\"}}", "xlater\n", true},
	    {"{\"result\":{\"output\":\"x\"}}", "x", false},
	};
	struct answer a;
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		a = answer_of(cases[i].json);
		assert_int_equal(answer_cut_mark(&a, "<m>"), cases[i].found);
		assert_string_equal(a.output, cases[i].want);
		assert_int_equal(a.len, strlen(cases[i].want));
		answer_free(&a);
	}
}

static void
test_failures_have_a_fate(void **state)
{
	struct answer a;

	a = answer_of("{\"error\": \"EACCES\", \"message\": \"no\", "
		      "\"fate\": \"not_run\"}");
	assert_int_equal(a.fate, ANSWER_NOT_RUN);
	assert_string_equal(a.why, "no");
	answer_free(&a);
	a = answer_of("{\"error\": \"EIO\", \"fate\": \"unknown\"}");
	assert_int_equal(a.fate, ANSWER_UNKNOWN);
	assert_string_equal(a.why, "EIO");
	answer_free(&a);
}

static void
test_words_are_quoted(void **state)
{
	char *words[] = {
	    "make", "-j4", "", "a b", "it's", "\n", "\xff", "x=1", NULL};
	struct text t = {0};

	text_quote_words(&t, words);
	assert_string_equal(
	    t.data, "make -j4 '' 'a b' 'it'\\''s' '\n' '\xff' 'x=1'");
	text_free(&t);
}

static int
frame(const char *output, char *body)
{
	char *copy = strdup(output), *found = NULL;
	int error = compose_frame(copy, strlen(copy), "abc", &found);

	strcpy(body, error == 0 ? found : "");
	free(copy);
	return error;
}

static void
test_frames(void **state)
{
	char body[64];

	assert_int_equal(
	    frame("noise\n<gx-begin abc>\n1 2\nx\n\n<gx-end abc>", body), 0);
	assert_string_equal(body, "1 2\nx\n");
	assert_int_equal(
	    frame("<gx-begin abc>\n\n<gx-end abc>\nmore", body), 0);
	assert_string_equal(body, "");
	assert_int_equal(frame("<gx-begin abc>\n1 2\n<gx-end", body), -EAGAIN);
	assert_int_equal(frame("<gx-begin abcd>\n", body), -EPROTO);
	assert_int_equal(frame("sh: cd: no such file", body), -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_strings_come_as_bytes),
	    cmocka_unit_test(test_wrong_strings_are_none),
	    cmocka_unit_test(test_members_are_found),
	    cmocka_unit_test(test_cut_documents_end),
	    cmocka_unit_test(test_garbage_ends),
	    cmocka_unit_test(test_the_mark_is_cut_out),
	    cmocka_unit_test(test_failures_have_a_fate),
	    cmocka_unit_test(test_words_are_quoted),
	    cmocka_unit_test(test_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
