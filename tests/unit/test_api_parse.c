#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/json_cut.h"
#include "api/pace.h"

#define ID "550e8400-e29b-41d4-a716-446655440000"

static int
parse(const char *json, struct api_answer *answer)
{
	return api_parse_command(json, strlen(json), answer);
}

/* A command's answer with this output (as JSON writes it between quotes). */
static int
parse_output(const char *output, struct api_answer *answer)
{
	char json[1024];

	snprintf(json, sizeof json,
	    "{\"instance_id\":\"" ID "\",\"command\":"
	    "\"x\",\"status\":\"success\",\"result\":{\"exit_code\":0,"
	    "\"output\":\"%s\"}}",
	    output);
	return parse(json, answer);
}

static void
test_documented_answer(void **state)
{
	struct api_answer a;

	(void)state;
	assert_int_equal(
	    parse("{ \"instance_id\": \"" ID "\", \"command\": \"x\",\n"
		  "  \"result\": { \"output\": \"a\\nb\", \"exit_code\": 2,\n"
		  "    \"files_changed\": [ { \"path\": \"/tmp/chart.png\",\n"
		  "      \"status\": \"created\", \"size\": 12485,\n"
		  "      \"mime_type\": \"image/png\", \"public_url\": "
		  "\"/vm/x\" },\n"
		  "      { \"path\": \"/b\", \"status\": \"deleted\",\n"
		  "        \"public_url\": \"/vm/b\" } ] },\n"
		  "  \"status\": \"error\" }\n",
		&a),
	    0);
	assert_int_equal(a.exit_code, 2);
	assert_false(a.success);
	assert_string_equal(a.output, "a\nb");
	assert_int_equal(a.len, 3);
	assert_string_equal(a.instance, ID);
	assert_int_equal(a.changes.count, 2);
	assert_int_equal(a.changes.items[0].kind, CHANGE_CREATED);
	assert_int_equal(a.changes.items[0].size, 12485);
	assert_string_equal(a.changes.items[0].path, "/tmp/chart.png");
	assert_string_equal(a.changes.items[0].mime, "image/png");
	assert_string_equal(a.changes.items[0].url, "/vm/x");
	assert_int_equal(a.changes.items[1].kind, CHANGE_DELETED);
	assert_int_equal(a.changes.items[1].size, -1);
	assert_null(a.changes.items[1].mime);
	assert_null(a.changes.items[1].url);
	api_answer_free(&a);
}

static void
test_output_keeps_every_byte(void **state)
{
	static const struct {
		const char *json;
		const char *bytes;
		size_t len;
	} cases[] = {
	    {"", "", 0},
	    {"a\\u0000b", "a\0b", 3},
	    {"\\u0000", "\0", 1},
	    {"\\u0000\\u0000x", "\0\0x", 3},
	    /* An escaped backslash before "u0000" is no NUL. */
	    {"\\\\u0000", "\\u0000", 6},
	    {"\\\\\\u0000", "\\\0", 2},
	    {"\\u00e9\\ud83d\\ude00", "\xc3\xa9\xf0\x9f\x98\x80", 6},
	    /* Half surrogate pairs */
	    {"\\ud83d", "\xef\xbf\xbd", 3},
	    {"\\ude00x", "\xef\xbf\xbdx", 4},
	    {"\\ud83d\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7},
	    {"\\ud83d\\u0041",
		"\xef\xbf\xbd"
		"A",
		4},
	    {"\\uD83Dx", "\xef\xbf\xbdx", 4},
	    /* The mark itself, alone and where it looks like a NUL's. */
	    {"\xff", "\xff", 1},
	    {"\xff"
	     "0\xff"
	     "F\xff\xff",
		"\xff"
		"0\xff"
		"F\xff\xff",
		6},
	    {"\xff\\u0000\xff", "\xff\0\xff", 3},
	    {"\xfe\x80", "\xfe\x80", 2},
	    {"\\\"\\/\\b\\f\\n\\r\\t", "\"/\b\f\n\r\t", 7},
	};
	struct api_answer a;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(parse_output(cases[i].json, &a), 0);
		assert_int_equal(a.len, cases[i].len);
		assert_memory_equal(a.output, cases[i].bytes, a.len + 1);
		api_answer_free(&a);
	}
}

#define HEAD "{\"instance_id\":\"" ID "\",\"status\":\"success\",\"result\":"

static void
test_malformed_answers(void **state)
{
	static const char *const cases[] = {
	    "",
	    " ",
	    "null",
	    "[]",
	    "\"x\"",
	    "{}",
	    "{",
	    "<html></html>",
	    HEAD "{\"output\":\"\",\"exit_code\":0}",
	    HEAD "{\"output\":\"\",\"exit_code\":0}} x",
	    HEAD "{\"output\":\"\",\"exit_code\":0}}{}",
	    HEAD "{\"output\":\"\"}}",
	    HEAD "{\"exit_code\":0}}",
	    HEAD "{\"output\":null,\"exit_code\":0}}",
	    HEAD "{\"output\":1,\"exit_code\":0}}",
	    HEAD "{\"output\":\"\",\"exit_code\":\"0\"}}",
	    HEAD "{\"output\":\"\",\"exit_code\":null}}",
	    HEAD "{\"output\":\"\",\"exit_code\":0.5}}",
	    HEAD "{\"output\":\"\",\"exit_code\":1e999}}",
	    HEAD "{\"output\":\"\",\"exit_code\":-1e999}}",
	    HEAD "{\"output\":\"\",\"exit_code\":4294967296}}",
	    HEAD "{\"output\":\"\",\"exit_code\":NaN}}",
	    HEAD "{\"output\":\"\",\"exit_code\":0,\"files_changed\":1}}",
	    HEAD "{\"output\":\"\\u12\",\"exit_code\":0}}",
	    HEAD "[]}",
	    HEAD "null}",
	    "{\"status\":\"success\",\"result\":"
	    "{\"output\":\"\",\"exit_code\":0}}",
	    "{\"instance_id\":7,\"result\":"
	    "{\"output\":\"\",\"exit_code\":0}}",
	    "{\"instance_id\":\"../../x\",\"result\":"
	    "{\"output\":\"\",\"exit_code\":0}}",
	    "{\"instance_id\":\"" ID "0\",\"result\":"
	    "{\"output\":\"\",\"exit_code\":0}}",
	    "{\"instance_id\":\"" ID "\",\"status\":1,\"result\":"
	    "{\"output\":\"\",\"exit_code\":0}}",
	};
	struct api_answer a;
	char *deep;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (parse(cases[i], &a) != -EPROTO)
			fail_msg("accepted: %s", cases[i]);
		assert_null(a.output);
		assert_null(a.changes.items);
	}
	assert_int_equal(api_parse_command(NULL, 0, &a), -EPROTO);
	assert_int_equal(api_parse_command("{\0}", 3, &a), -EPROTO);
	deep = malloc(100001);
	assert_non_null(deep);
	memset(deep, '[', 100000);
	deep[100000] = '\0';
	assert_int_equal(parse(deep, &a), -EPROTO);
	free(deep);
}

static void
test_tolerated_answers(void **state)
{
	struct api_answer a;

	(void)state;
	assert_int_equal(parse("{\"instance_id\":\"" ID "\",\"result\":"
			       "{\"output\":\"\",\"exit_code\":0}}",
			     &a),
	    0);
	assert_true(a.success);
	assert_int_equal(a.changes.count, 0);
	api_answer_free(&a);
	assert_int_equal(parse(HEAD "{\"output\":\"\",\"exit_code\":-2147483648"
				    ",\"files_changed\":null}}",
			     &a),
	    0);
	assert_int_equal(a.exit_code, INT_MIN);
	assert_true(a.success);
	api_answer_free(&a);
}

static void
test_bad_changes_are_skipped(void **state)
{
	struct api_answer a;

	(void)state;
	assert_int_equal(
	    parse(HEAD
		"{\"output\":\"\",\"exit_code\":0,"
		"\"files_changed\":[1,null,\"x\",[],{},{\"path\":\"/a\"},"
		"{\"path\":1,\"status\":\"created\"},"
		"{\"path\":\"relative\",\"status\":\"created\"},"
		"{\"path\":\"/nul\\u0000\",\"status\":\"created\"},"
		"{\"path\":\"\",\"status\":\"created\"},"
		"{\"path\":\"/b\",\"status\":\"moved\"},"
		"{\"path\":\"/d/.gentilityfs-1\",\"status\":\"created\"},"
		"{\"path\":\"/tmp/.gentilityfs-0/toolkit-1\","
		"\"status\":\"created\"},"
		"{\"path\":\"/root/.cache/gentilityfs/toolkit-1\","
		"\"status\":\"deleted\"},"
		"{\"path\":\"/1\",\"status\":\"modified\",\"size\":-5,"
		"\"mime_type\":3,\"public_url\":[]},"
		"{\"path\":\"/2\",\"status\":\"modified\",\"size\":1e300},"
		"{\"path\":\"/3\",\"status\":\"modified\",\"size\":\"7\"}]}}",
		&a),
	    0);
	assert_int_equal(a.changes.count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(a.changes.items[i].size, -1);
		assert_null(a.changes.items[i].mime);
		assert_null(a.changes.items[i].url);
	}
	assert_string_equal(a.changes.items[2].path, "/3");
	api_answer_free(&a);
}

static void
test_file_answer(void **state)
{
	static const char good[] = "{\"file_path\":\"/a\",\"content\":"
				   "\"x\\u0000y\",\"instance_id\":\"" ID "\"}";
	static const char *const bad[] = {
	    "{\"content\":\"\",\"instance_id\":\"" ID "\"}",
	    "{\"file_path\":\"/a\",\"instance_id\":\"" ID "\"}",
	    "{\"file_path\":\"/a\",\"content\":\"\"}",
	    "{\"file_path\":\"\",\"content\":\"\",\"instance_id\":\"x\"}",
	    ("{\"file_path\":\"/a\\u0000\",\"content\":\"\","
	     "\"instance_id\":\"x\"}"),
	    "{\"error\":\"file_not_found\"}",
	};
	struct api_file f;

	(void)state;
	assert_int_equal(api_parse_file(good, sizeof good - 1, &f), 0);
	assert_string_equal(f.path, "/a");
	assert_int_equal(f.len, 3);
	assert_memory_equal(f.content, "x\0y", 4);
	assert_string_equal(f.instance, ID);
	api_file_free(&f);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(
		    api_parse_file(bad[i], strlen(bad[i]), &f), -EPROTO);
		assert_null(f.path);
		assert_null(f.content);
	}
}

static void
test_error_answer(void **state)
{
	struct api_error e;
	char json[2000];

	(void)state;
	snprintf(json, sizeof json, "%s",
	    "{\"error\":\"file_not_found\","
	    "\"message\":\"File 'a\\nb\\u001b[1m'\"}");
	assert_int_equal(api_parse_error(json, strlen(json), &e), 0);
	assert_string_equal(e.error, "file_not_found");
	assert_string_equal(e.message, "File 'a b [1m'");
	snprintf(
	    json, sizeof json, "{\"error\":\"%0*d\",\"message\":7}", 1000, 1);
	assert_int_equal(api_parse_error(json, strlen(json), &e), 0);
	assert_int_equal(strlen(e.error), sizeof e.error - 1);
	assert_string_equal(e.message, "");
	/* Not cut inside of a character. */
	snprintf(json, sizeof json, "{\"error\":\"%062d\xc3\xa9\"}", 1);
	assert_int_equal(api_parse_error(json, strlen(json), &e), 0);
	assert_int_equal(strlen(e.error), 62);
	assert_int_equal(api_parse_error("{}", 2, &e), -EPROTO);
	assert_int_equal(api_parse_error("<html>", 6, &e), -EPROTO);
	assert_int_equal(api_parse_error(NULL, 0, &e), -EPROTO);
}

static void
check_content(
    const char *content, uint64_t size, int expected, const char *bytes)
{
	size_t len = strlen(content);
	char *text = strdup(content);

	assert_non_null(text);
	assert_int_equal(api_decode_content(text, &len, size), expected);
	if (expected == 0) {
		assert_int_equal(len, size);
		assert_memory_equal(text, bytes, len + 1);
	}
	free(text);
}

static void
test_text_or_base64_by_size(void **state)
{
	(void)state;
	check_content("", 0, 0, "");
	check_content("abc", 3, 0, "abc");
	check_content("YWJj", 3, 0, "abc");
	/* Text that looks like base64 */
	check_content("YWJj", 4, 0, "YWJj");
	check_content("YQ==", 1, 0, "a");
	check_content("YW\nJj\n", 3, 0, "abc");
	check_content("abc", 4, -EAGAIN, NULL);
	check_content("abcd", 2, -EAGAIN, NULL);
	check_content("abcde", 4, -EAGAIN, NULL);
	check_content("YWJj", 0, -EAGAIN, NULL);
	check_content("  ", 0, -EAGAIN, NULL);
	check_content("x", UINT64_MAX, -EAGAIN, NULL);
	check_content("?WJj", 3, -EAGAIN, NULL);

	char with_nul[] = "YWJj\0YWJj";
	size_t len = 9;

	assert_int_equal(api_decode_content(with_nul, &len, 3), -EAGAIN);
}

static void
test_paths_are_encoded(void **state)
{
	char *text = api_encode_path("/a b/\xff%?#&+~._-Z9\n\\:@");

	(void)state;
	assert_non_null(text);
	assert_string_equal(
	    text, "/a%20b/%FF%25%3F%23%26%2B~._-Z9%0A%5C%3A%40");
	free(text);
}

static void
test_pace_holds_everybody(void **state)
{
	struct api_pace p = {0};

	(void)state;
	assert_int_equal(api_pace_when(&p, 1000), 1000);
	api_pace_take(&p, 1000);
	assert_int_equal(api_pace_when(&p, 1000), 1000);
	api_pace_answer(&p, 1100, 1000, 200, 0, 0);
	assert_int_equal(api_pace_when(&p, 1100), 1100);

	api_pace_answer(&p, 2000, 1900, 429, 5, 0);
	assert_int_equal(api_pace_when(&p, 2000), 7000);
	/* Others that were under way too do not make it worse. */
	api_pace_answer(&p, 2001, 1950, 429, 0, 0);
	assert_int_equal(p.strikes, 1);
	assert_int_equal(api_pace_when(&p, 2001), 7000);
	/* Nor do their good answers open the gate. */
	api_pace_answer(&p, 2002, 1960, 200, 0, 0);
	assert_int_equal(p.strikes, 1);
	assert_int_equal(api_pace_when(&p, 2002), 7000);

	/* After it one by one, and faster with each answer. */
	api_pace_take(&p, 7000);
	assert_true(api_pace_when(&p, 7000) > 7000);
	for (int i = 0; i < 40; i++)
		api_pace_answer(&p, 7100, 7000, 200, 0, 0);
	assert_int_equal(p.gap_ms, 0);
	assert_int_equal(api_pace_when(&p, 7100), 7100);
}

static void
test_pace_without_retry_after(void **state)
{
	struct api_pace p = {0};

	(void)state;
	api_pace_answer(&p, 1000, 900, 503, 0, 0);
	assert_int_equal(api_pace_when(&p, 1000), 1000);
	api_pace_answer(&p, 1000, 900, 429, 0, 0);
	assert_int_equal(api_pace_when(&p, 1000), 1100);
	api_pace_answer(&p, 2000, 1900, 429, 0, 0);
	assert_int_equal(api_pace_when(&p, 2000), 2200);
	api_pace_answer(&p, 3000, 2900, 503, 2, 0);
	assert_int_equal(api_pace_when(&p, 3000), 5000);
	/* A bound even for nonsense. */
	api_pace_answer(&p, 6000, 5900, 503, UINT_MAX, UINT_MAX);
	assert_in_range(api_pace_when(&p, 6000), 3606000, 3606100);
}

/* The text through json_cut(), in pieces of this size. */
static void
cut(struct json_cut *c, size_t piece, const char *text, char *out)
{
	size_t len = strlen(text), at, n;

	for (at = 0; at < len; at += n) {
		n = len - at < piece ? len - at : piece;
		out += json_cut(c, out, text + at, n);
	}
	*out = '\0';
}

static void
test_long_strings_are_cut(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
	    {"{\"a\":\"1234\"}", NULL},
	    {"{\"a\":\"12345\",\"b\":[\"x\"]}",
		"{\"a\":\"1234\",\"b\":[\"x\"]}"},
	    {"[\"123456789\",\"\\\"\\\"\",123456]",
		"[\"1234\",\"\\\"\\\"\",123456]"},
	    /* Escapes, characters and surrogate pairs stay whole. */
	    {"[\"123\\n45\"]", "[\"123\\n\"]"},
	    {"[\"123\\u00e945\"]", "[\"123\\u00e9\"]"},
	    {"[\"1234\\\\\\\"5\"]", "[\"1234\"]"},
	    {"[\"123\xe2\x82\xac\xe2\x82\xac\"]", "[\"123\xe2\x82\xac\"]"},
	    {"[\"\\ud83d\\ude00\\ud83d\\ude00\"]", "[\"\\ud83d\\ude00\"]"},
	    {"[\"\\ud83dxyz\"]", "[\"\\ud83d\"]"},
	};
	char out[256];
	size_t i, piece;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (piece = 1; piece < 20; piece++) {
			struct json_cut c = {.max = 4};

			cut(&c, piece, cases[i].in, out);
			assert_string_equal(out,
			    cases[i].out == NULL ? cases[i].in : cases[i].out);
			assert_int_equal(c.cut, cases[i].out != NULL);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_documented_answer),
	    cmocka_unit_test(test_output_keeps_every_byte),
	    cmocka_unit_test(test_malformed_answers),
	    cmocka_unit_test(test_tolerated_answers),
	    cmocka_unit_test(test_bad_changes_are_skipped),
	    cmocka_unit_test(test_file_answer),
	    cmocka_unit_test(test_error_answer),
	    cmocka_unit_test(test_text_or_base64_by_size),
	    cmocka_unit_test(test_paths_are_encoded),
	    cmocka_unit_test(test_pace_holds_everybody),
	    cmocka_unit_test(test_pace_without_retry_after),
	    cmocka_unit_test(test_long_strings_are_cut),
	};

	return cmocka_run_group_tests_name("api_parse", tests, NULL, NULL);
}
