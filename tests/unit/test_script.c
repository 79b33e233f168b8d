/* Commands for the VM, and the frame around their answers. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "script/listing.h"
#include "script/script.h"

#define NONCE "0123456789abcdef"

static void
check_quote(const char *text, const char *expected)
{
	char *quoted = script_quote(text);

	assert_non_null(quoted);
	assert_string_equal(quoted, expected);
	free(quoted);
}

static void
quoting(void **state)
{
	(void)state;
	check_quote("", "''");
	check_quote("a b$`\\\"", "'a b$`\\\"'");
	check_quote("it's", "'it'\\''s'");
	check_quote("\xc3\xa4\n", "'\xc3\xa4\n'");
	/* Not UTF-8: JSON could not carry it. */
	check_quote("a\xff\xfe"
		    "b",
	    "'a'\"$(printf '\\377\\376')\"'b'");
	check_quote("\xff\n", "''\"$(printf '\\377')\"'\n'");
	check_quote("\xed\xa0\x80", "''\"$(printf '\\355\\240\\200')\"''");
	check_quote("\xc3", "''\"$(printf '\\303')\"''");
}

static void
sizes(void **state)
{
	struct script_item items[200];
	char path[600], *text;
	size_t n, len, sum;

	(void)state;
	memset(path, '\xff', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	for (n = 0; n < 200; n++)
		items[n] = (struct script_item){n % 3 == 0 ? SCRIPT_LIST
			: n % 3 == 1			   ? SCRIPT_STAT
							   : SCRIPT_STATFS,
		    path, UINT32_MAX};
	/* What is said to fit does, and is never longer than said. */
	sum = script_base_size(SCRIPT_TOOLS_UNKNOWN);
	for (n = 0; sum + script_item_size(&items[n]) <= SCRIPT_MAX; n++)
		sum += script_item_size(&items[n]);
	text = script_compose_probe(NONCE, items, n, &len);
	assert_non_null(text);
	assert_int_equal(strlen(text), len);
	assert_true(len <= sum);
	free(text);
	assert_null(script_compose(SCRIPT_TOOLS_GNU, NONCE, items, 200, &len));
	/* The part that every command carries. */
	assert_true(script_base_size(SCRIPT_TOOLS_GNU) < 6144);
	assert_null(script_compose(SCRIPT_TOOLS_GNU, "$(id)", items, 1, &len));
	assert_null(script_compose(SCRIPT_TOOLS_GNU, "", items, 1, &len));
}

static int
unwrap(const char *output, size_t max, char **payload, size_t *len)
{
	size_t n = strlen(output);
	char *copy = malloc(n + 1);
	int error;

	assert_non_null(copy);
	memcpy(copy, output, n);
	/* Not ended by a NUL. */
	copy[n] = 'x';
	error = script_unwrap(copy, n, NONCE, max, payload, len);
	free(copy);
	return error;
}

#define BEGIN "\n<gfs-begin " NONCE "\n"
#define END   "\n<gfs-end " NONCE

static void
frames(void **state)
{
	static const struct {
		const char *output;
		int error;
	} cases[] = {{BEGIN "YWJj" END " 4>", 0},
	    {"noise" BEGIN "YWJj" END " 4>\nnoise" BEGIN "AAAA", 0},
	    {"\r\n<gfs-begin " NONCE "\r\nYWJj\r\n<gfs-end " NONCE " 4>\r\n",
		0},
	    {BEGIN "YW\nJj" END " 4>", 0}, {BEGIN END " 0>", 0},
	    {BEGIN "!" END " 0>", -ENOTSUP}, {BEGIN "YWJj" END " 8>", -EAGAIN},
	    {BEGIN "YWJjYWJj" END " 4>", -EPROTO},
	    {BEGIN "YWJj" END " 4", -EAGAIN}, {BEGIN "YWJj" END " ", -EAGAIN},
	    {BEGIN "YWJj" END, -EAGAIN}, {BEGIN "YWJj" END " x>", -EPROTO},
	    {BEGIN "YWJj" END " -4>", -EPROTO},
	    {BEGIN "YWJj" END " 99999999999999999999>", -EPROTO},
	    {BEGIN "YWJj", -EAGAIN}, {BEGIN "YW?j" END " 4>", -EPROTO},
	    {BEGIN "YWJ" END " 3>", -EPROTO}, {"YWJj" END " 4>", -EAGAIN},
	    {"<gfs-begin " NONCE "\nYWJj" END " 4>", 0},
	    {"x<gfs-begin " NONCE "\nYWJj" END " 4>", -EAGAIN},
	    {"\n<gfs-begin 0123456789abcdee\nYWJj" END " 4>", -EAGAIN},
	    {"sh: syntax error", -EPROTO}, {"", -EPROTO},
	    {BEGIN "H4sI" END " 4>", -EPROTO},
	    /* Of base64 in lines the length is that with them. */
	    {BEGIN "YW\nJj" END " 5>", 0}, {BEGIN "YW\r\nJj\r" END " 5>", 0},
	    {"<gfs-begin " NONCE " \n\nYW\nJj\n" END " 5>", 0},
	    {BEGIN "YW\nJj" END " 6>", -EAGAIN},
	    {BEGIN "YW\nJj" END " 3>", -EPROTO},
	    {BEGIN "YW\nJ" END " 5>", -EAGAIN},
	    /* Plain text. */
	    {BEGIN "=abc" END " 3>", 0}, {BEGIN "=abc\r" END " 3>\r\n", 0},
	    {BEGIN "=abc" END " 4>", -EAGAIN},
	    {BEGIN "=abc" END " 2>", -EPROTO}, {BEGIN "=abc", -EAGAIN},
	    {BEGIN "=a bc" END " 3>", -EPROTO},
	    {BEGIN "=ab\nc" END " 3>", -EPROTO}, {BEGIN "=" END " 1>", -EAGAIN},
	    {BEGIN "=" END " 0>", 0}};
	char *payload;
	size_t i, len;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(unwrap(cases[i].output, 100, &payload, &len),
		    cases[i].error);
		if (cases[i].error == 0) {
			assert_int_equal(len == 0,
			    i == 4 ||
				i == sizeof(cases) / sizeof(cases[0]) - 1);
			assert_string_equal(payload, len == 0 ? "" : "abc");
		} else
			assert_null(payload);
		free(payload);
	}
	assert_int_equal(
	    unwrap(BEGIN "=a b\n\xff \r\nc" END " 8>", 9, &payload, &len), 0);
	assert_int_equal(len, 8);
	assert_string_equal(payload, "a b\n\xff \nc");
	free(payload);
	assert_int_equal(
	    unwrap(BEGIN "=abc" END " 3>", 2, &payload, &len), -EFBIG);
	assert_int_equal(
	    unwrap(BEGIN "YWJj" END " 4>", 2, &payload, &len), -EFBIG);
	assert_int_equal(unwrap(BEGIN "YWJj" END " 4>", 3, &payload, &len), 0);
	free(payload);
	/* How much of a cut one there was. */
	assert_int_equal(unwrap(BEGIN "YWJjY", 9, &payload, &len), -EAGAIN);
	assert_int_equal(len, 5);
}

/* 1,000 zero bytes, gzipped. */
static void
compressed(void **state)
{
	static const unsigned char gz[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00,
	    0x00, 0x00, 0x02, 0x03, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14,
	    0x0c, 0x77, 0x00, 0x00, 0x80, 0x17, 0x0b, 0x06, 0xe8, 0x03, 0x00,
	    0x00};
	char *text, *payload, output[256];
	size_t len, max;
	int error;

	(void)state;
	text = base64_encode(gz, sizeof(gz), &len);
	assert_non_null(text);
	snprintf(output, sizeof(output), BEGIN "%s" END " %zu>", text, len);
	for (max = 990; max < 1010; max++) {
		error = unwrap(output, max, &payload, &len);
		assert_int_equal(error, max < 1000 ? -EFBIG : 0);
		assert_true(error != 0 || len == 1000);
		free(payload);
	}
	free(text);
}

#define REC "f 644 1 0 0 3 8 7 2 1.0 2.0 3.0"

static int
parse_read(const char *payload, size_t len, const char **data, size_t *n)
{
	struct attr before, after;

	return script_parse_read(payload, len, data, n, &before, &after);
}
#define READ(text) parse_read(text, sizeof(text) - 1, &data, &n)

static void
reads(void **state)
{
	const char *data;
	size_t n;

	(void)state;
	assert_int_equal(READ("#0 OK G\0" REC "\0a\0b\0" REC), 0);
	assert_int_equal(n, 3);
	assert_memory_equal(data, "a\0b", 3);
	assert_int_equal(READ("#0 OK G\0" REC "\0\0" REC), 0);
	assert_int_equal(n, 0);
	assert_int_equal(READ("#0 OK G\0" REC "\0ab\0!EIO"), -EIO);
	assert_int_equal(READ("#0 OK G\0\0\0!ENOENT"), -ENOENT);
	assert_int_equal(READ("#0 EACCES\0"), -EACCES);
	assert_int_equal(READ("#0 OK G\0" REC "\0"), -EPROTO);
	assert_int_equal(READ("#0 OK G\0" REC), -EPROTO);
	assert_int_equal(READ("#0 OK G\0"), -EPROTO);
	assert_int_equal(READ("#0 OK G"), -EPROTO);
	assert_int_equal(READ("#1 EIO\0"), -EPROTO);
	assert_int_equal(READ("#0 OK G\0" REC "\0ab\0" REC " "), -EPROTO);
	assert_int_equal(READ("#0 OK X\0" REC "\0ab\0" REC), -EPROTO);
	assert_int_equal(READ(""), -EPROTO);
}

static void
stages(void **state)
{
	uint64_t size;

	(void)state;
	assert_int_equal(script_parse_stage("123\n", &size), 0);
	assert_int_equal(size, 123);
	assert_int_equal(script_parse_stage("", &size), -EIO);
	assert_int_equal(script_parse_stage("-1\n", &size), -EIO);
	assert_int_equal(script_parse_stage("12x\n", &size), -EIO);
}

/* What script_data_max() says fits does, for data that can't be packed. */
static void
data_fits(void **state)
{
	static const enum script_change_op with_data[] = {
	    SCRIPT_WRITE, SCRIPT_RANGES, SCRIPT_APPEND, SCRIPT_PIECE};
	struct attr expect = {
	    .ino = UINT64_MAX, .size = UINT64_MAX, .mtime = -1};
	struct script_range range = {.offset = UINT64_MAX / 2};
	struct script_change c = {.path = "/home/user/it's",
	    .token = NONCE,
	    .mode = 0644,
	    .expect = &expect,
	    .ranges = &range,
	    .nranges = 1,
	    .set_times = 1,
	    .atime = INT64_MIN + 2,
	    .mtime = INT64_MAX,
	    .size = UINT64_MAX};
	unsigned char *data = malloc(SCRIPT_MAX);
	size_t i, max, len;
	char *text;

	(void)state;
	assert_non_null(data);
	for (i = 0; i < SCRIPT_MAX; i++)
		data[i] = i == 0 ? 1 : (data[i - 1] * 75 + 74 + i / 251) % 251;
	c.data = data;
	for (i = 0; i < sizeof(with_data) / sizeof(with_data[0]); i++) {
		c.op = with_data[i];
		max = script_data_max(
		    SCRIPT_TOOLS_BUSYBOX, &c, false, SCRIPT_MAX);
		assert_true(max > 60 * 1024);
		c.data_len = range.len = max;
		text = script_compose_changes(
		    SCRIPT_TOOLS_BUSYBOX, NONCE, &c, 1, &len);
		assert_non_null(text);
		assert_int_equal(strlen(text), len);
		free(text);
	}
	free(data);
}

static void
invalid_changes(void **state)
{
	static const struct script_change cases[] = {
	    {.op = SCRIPT_MKDIR, .path = "relative"},
	    {.op = SCRIPT_MKDIR, .path = NULL},
	    {.op = SCRIPT_RENAME, .path = "/a"},
	    {.op = SCRIPT_CREATE, .path = "/a", .token = NULL},
	    {.op = SCRIPT_CREATE, .path = "/a", .token = "../../x"},
	    {.op = SCRIPT_CREATE, .path = "/a", .token = "abc"},
	    {.op = SCRIPT_COMMIT, .path = "/a", .token = NONCE},
	    {.op = SCRIPT_MKNOD, .path = "/a", .mode = S_IFREG | 0644},
	    {.op = SCRIPT_RANGES,
		.path = "/a",
		.token = NONCE,
		.data = "x",
		.data_len = 1},
	    {.op = (enum script_change_op)99, .path = "/a"}};
	struct script_change good = {.op = SCRIPT_UNLINK, .path = "/a"};
	size_t i, len;
	char *text;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_null(script_compose_changes(
		    SCRIPT_TOOLS_GNU, NONCE, &cases[i], 1, &len));
	assert_null(script_compose_changes(
	    SCRIPT_TOOLS_UNKNOWN, NONCE, &good, 1, &len));
	text = script_compose_changes(SCRIPT_TOOLS_GNU, NONCE, &good, 1, &len);
	assert_non_null(text);
	free(text);
}

static void
results(void **state)
{
	static const struct script_change c[] = {
	    {.op = SCRIPT_RENAME, .path = "/d/a", .to = "/b"},
	    {.op = SCRIPT_MKDIR, .path = "/d"}};
	struct script_result r[2];
	static const char good[] =
	    "#0 EXDEV G 1101;" REC "\n" REC "\n" REC ";#. 0 0;"
	    "#1 OK G 10;" REC ";#. 3 17;";
	static const char *const bad[] = {"#1 OK G 00;;#. 0 0;",
	    "#0 OK;;#. 0 0;", "#0 OK G;;#. 0 0;", "#0 OK X 0000;;#. 0 0;",
	    "OK G 0000;;#. 0 0;", "#0 OK G 00;;#. 0 0;",
	    "#0 OK G 00000;;#. 0 0;", "#0 OK G 1000;;#. 0 0;",
	    "#0 OK G 0000;" REC ";#. 0 0;", "#0 OK G 1000;" REC "\n;#. 0 0;",
	    "#0 OK G 1000;" REC "\n" REC ";#. 0 0;",
	    "#0 OK G 1200;" REC "\n" REC ";#. 0 0;",
	    "#0 OK G 1100;" REC " " REC ";#. 0 0;", "#0 OK G 0000;;#. 4 0;",
	    "#0 OK G 0000;;#. 0;", "#0 OK G 0000;;", "#0 OK G 0000;;#. 0 0;x"};
	size_t i;

	(void)state;
	assert_int_equal(
	    script_parse_changes(good, sizeof(good) - 1, c, 2, r), 0);
	assert_int_equal(r[0].error, -EXDEV);
	/* "to" is missing; its directory is there. */
	assert_int_equal(r[0].found,
	    1 << SCRIPT_RESULT_PATH | 1 << SCRIPT_RESULT_DIR |
		1 << SCRIPT_RESULT_TO_DIR);
	assert_int_equal(r[1].error, 0);
	assert_int_equal(r[1].found, 1 << SCRIPT_RESULT_PATH);
	assert_int_equal(r[1].attr[SCRIPT_RESULT_PATH].ino, 2);
	assert_true(r[1].whole_seconds && r[1].replaced);
	assert_int_equal(r[1].number, 17);
	for (i = 0; i < sizeof(good) - 1; i++)
		assert_int_equal(
		    script_parse_changes(good, i, c, 2, r), -EPROTO);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    script_parse_changes(bad[i], strlen(bad[i]), c, 1, r),
		    -EPROTO);
	/* Nothing was looked at. */
	assert_int_equal(
	    script_parse_changes("#0 EIO B ;;#. 0 0;", 18, c, 1, r), 0);
	assert_true(r[0].error == -EIO && r[0].found == 0);
}

static void
sums(void **state)
{
	char sum[65];

	(void)state;
	script_sha256("abc", 3, sum);
	assert_string_equal(sum,
	    "ba7816bf8f01cfea414140de5dae2223b00361a39617"
	    "7a9cb410ff61f20015ad");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(quoting),
	    cmocka_unit_test(sizes),
	    cmocka_unit_test(frames),
	    cmocka_unit_test(compressed),
	    cmocka_unit_test(reads),
	    cmocka_unit_test(stages),
	    cmocka_unit_test(data_fits),
	    cmocka_unit_test(invalid_changes),
	    cmocka_unit_test(results),
	    cmocka_unit_test(sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
