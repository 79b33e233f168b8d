#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json_text.h"
#include "base/utf8.h"
#include "answer.h"
#include "changes.h"
#include "compose.h"
#include "json.h"
#include "term.h"
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
	struct changes all = {0};
	struct answer a;
	size_t len;
	char *copy;

	for (len = 0; len < sizeof whole; len++) {
		copy = malloc(len == 0 ? 1 : len);
		memcpy(copy, whole, len);
		if (answer_parse(&a, copy, len) == 0) {
			changes_add(&all, &a);
			changes_free(&all);
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

static char *
changes_text(const char *const *answers, size_t n)
{
	struct changes all = {0};
	char *text = NULL;
	size_t i, len;
	struct answer a;
	FILE *f = open_memstream(&text, &len);

	for (i = 0; i < n; i++) {
		a = answer_of(answers[i]);
		changes_add(&all, &a);
		answer_free(&a);
	}
	changes_write_json(&all, f);
	fclose(f);
	changes_free(&all);
	return text;
}

#define CHANGE(path, status)                                                \
	"{\"result\":{\"output\":\"\",\"files_changed\":[{\"path\":\"" path \
	"\",\"status\":\"" status "\"}]}}"

static void
test_changes_of_several_answers(void **state)
{
	static const struct {
		const char *answers[3], *want;
	} cases[] = {
	    {{CHANGE("/a", "created"), CHANGE("/a", "modified")},
		"[{\"path\": \"/a\", \"status\": \"created\"}]"},
	    {{CHANGE("/a", "created"), CHANGE("/a", "deleted")}, "[]"},
	    {{CHANGE("/a", "deleted"), CHANGE("/a", "created")},
		"[{\"path\": \"/a\", \"status\": \"modified\"}]"},
	    {{CHANGE("/a", "modified"), CHANGE("/a", "deleted")},
		"[{\"path\": \"/a\", \"status\": \"deleted\"}]"},
	    {{CHANGE("/h/.cache/gentility-jobs/t.1/out", "created"),
		 CHANGE("/tmp/.gentilityfs-1", "created"),
		 CHANGE("/b\\n", "created")},
		"[{\"path\": \"/b\\u000a\", \"status\": \"created\"}]"},
	};
	size_t i, n;
	char *text;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		n = cases[i].answers[2] == NULL ? 2 : 3;
		text = changes_text(cases[i].answers, n);
		assert_string_equal(text, cases[i].want);
		free(text);
	}
}

static void
test_a_job_s_status(void **state)
{
	char good[] = "abc 3 10 4 2 1 exit 7\nQUJD\n.\nRA==",
	     running[] = "abc 0 0 0 0 0 running\n.", bad[] = "abc 0 0",
	     worse[] = "abc 0 0 0 0 0 what", gone[] = "- 0 0 0 0 0 gone";
	struct job_status s;
	char *out, *err;

	assert_int_equal(compose_status(good, &s, &out, &err), 0);
	assert_string_equal(s.token, "abc");
	assert_int_equal(s.job, 3);
	assert_int_equal(s.out, 10);
	assert_int_equal(s.err, 4);
	assert_int_equal(s.fed, 2);
	assert_true(s.beside);
	assert_int_equal(s.state, JOB_EXIT);
	assert_int_equal(s.code, 7);
	assert_string_equal(out, "QUJD\n");
	assert_string_equal(err, "\nRA==");
	assert_int_equal(compose_status(running, &s, &out, &err), 0);
	assert_int_equal(s.state, JOB_RUNNING);
	assert_string_equal(out, "");
	assert_string_equal(err, "");
	assert_int_equal(compose_status(gone, &s, &out, &err), 0);
	assert_int_equal(s.state, JOB_GONE);
	assert_int_equal(compose_status(bad, &s, &out, &err), -EPROTO);
	assert_int_equal(compose_status(worse, &s, &out, &err), -EPROTO);
}

static void
test_the_way_out_of_a_terminal(void **state)
{
	static const struct {
		const char *keys, *want;
	} cases[] = {
	    {"ab~.c", "ab~.c"},
	    {"\r~~.", "\r~."},
	    {"\r~x", "\r~x"},
	    {"\r~", "\r"},
	    {".", NULL},
	};
	char keys[16];
	size_t i, len;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		len = strlen(cases[i].keys);
		memcpy(keys, cases[i].keys, len);
		assert_int_equal(
		    term_escape(keys, &len), cases[i].want != NULL);
		if (cases[i].want == NULL)
			continue;
		assert_int_equal(len, strlen(cases[i].want));
		assert_memory_equal(keys, cases[i].want, len);
	}
}

static void
test_strings_are_written_as_json(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	json_write_bytes(f, "a\"\\\n\0\xc3\xa9\xff\xe2\x82", 10);
	fclose(f);
	assert_string_equal(
	    text, "\"a\\\"\\\\\\u000a\\u0000\xc3\xa9\\ufffd\\ufffd\\ufffd\"");
	free(text);
	assert_true(utf8_is_valid("a\0\xc3\xa9", 4));
	assert_false(utf8_is_valid("\xc3", 1));
	assert_false(utf8_is_valid("\xed\xa0\x80", 3));
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
	    cmocka_unit_test(test_changes_of_several_answers),
	    cmocka_unit_test(test_a_job_s_status),
	    cmocka_unit_test(test_the_way_out_of_a_terminal),
	    cmocka_unit_test(test_strings_are_written_as_json),
	    cmocka_unit_test(test_failures_have_a_fate),
	    cmocka_unit_test(test_words_are_quoted),
	    cmocka_unit_test(test_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
