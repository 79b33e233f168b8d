#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "script/bulk.h"
#include "script/toolkit.h"

#define LAST  "\nanswer_plain"
#define NONCE "0123456789abcdef"
#define PLACE "/home/it's/.cache/gentilityfs/toolkit-1"

static void
text(void **state)
{
	const char *hash, *kit = script_toolkit(&hash), *p, *last = NULL;
	char sum[65];

	(void)state;
	assert_non_null(kit);
	assert_true(strlen(kit) < 60000);
	script_sha256(kit, strlen(kit), sum);
	assert_string_equal(hash, sum);
	for (p = kit; *p != '\0'; p++)
		assert_true((*p >= ' ' && *p <= '~') || *p == '\n');
	/* What begins with the work comes last: see toolkit_make(). */
	for (p = kit; (p = strstr(p, "() {\n")) != NULL; p++)
		last = p - strlen(LAST);
	assert_int_equal(strncmp(last, LAST, strlen(LAST)), 0);
	assert_string_equal(kit + strlen(kit) - 2, "\n}");
}

/* The same calls in each form. */
static void
check_forms(char *command)
{
	size_t size, len;
	const char *calls;
	char *other;
	unsigned flags;

	assert_non_null(command);
	size = script_programs_size(command);
	assert_true(size > 1000 && size < 10000);
	calls = command + size;
	assert_int_equal(strncmp(calls, "calls() {\n", 10), 0);
	other =
	    script_with_toolkit(command, SCRIPT_TOOLS_GNU, NONCE, PLACE, &len);
	assert_non_null(other);
	assert_int_equal(strlen(other), len);
	assert_true(len <= strlen(calls) + SCRIPT_LOAD_MAX);
	assert_string_equal(other + len - strlen(calls), calls);
	assert_non_null(strstr(other, "toolkit='/home/it'\\''s/.cache/"));
	assert_int_equal(
	    strncmp(other, "kind=G nonce=" NONCE " toolkit=", 38), 0);
	free(other);
	for (flags = 0; flags < 4; flags++) {
		other = script_store_toolkit(
		    command, SCRIPT_TOOLS_UNKNOWN, NONCE, flags, &len);
		assert_non_null(other);
		assert_int_equal(strlen(other), len);
		assert_string_equal(other + len - strlen(calls), calls);
		assert_int_equal(strncmp(other, "kind= ", 6), 0);
		free(other);
	}
	free(command);
}

static void
forms(void **state)
{
	const struct script_item item = {SCRIPT_LIST, "/d", 100};
	const struct script_change change = {
	    .op = SCRIPT_UNLINK, .path = "/a\ncalls() {\n"};
	const char *const paths[] = {"/a"};
	size_t len;

	(void)state;
	check_forms(script_compose(SCRIPT_TOOLS_GNU, NONCE, &item, 1, &len));
	check_forms(
	    script_compose(SCRIPT_TOOLS_UNKNOWN, NONCE, &item, 1, &len));
	check_forms(script_compose_probe(NONCE, &item, 1, &len));
	check_forms(script_compose_changes(
	    SCRIPT_TOOLS_BUSYBOX, NONCE, &change, 1, &len));
	check_forms(script_compose_read(
	    SCRIPT_TOOLS_GNU, NONCE, "/f", 0, UINT64_MAX, false, &len));
	check_forms(
	    script_compose_bulk(SCRIPT_TOOLS_GNU, NONCE, paths, 1, &len));
}

/* As much data as is said to fit does, with the toolkit some more. */
static void
lengths(void **state)
{
	struct script_change c = {
	    .op = SCRIPT_PIECE, .path = "/home/user/file", .token = NONCE};
	size_t carry = script_data_max(SCRIPT_TOOLS_GNU, &c, false, SCRIPT_MAX);
	size_t kept = script_data_max(SCRIPT_TOOLS_GNU, &c, true, SCRIPT_MAX);
	unsigned char *data;
	uint32_t noise = 1;
	size_t i, len, whole;
	char *command, *other;

	(void)state;
	assert_true(carry + 1024 < kept);
	data = malloc(kept);
	assert_non_null(data);
	for (i = 0; i < kept; i++)
		data[i] = (noise = noise * 1103515245 + 12345) >> 16;
	c.data = data;
	c.data_len = kept;
	command =
	    script_compose_changes(SCRIPT_TOOLS_GNU, NONCE, &c, 1, &whole);
	assert_non_null(command);
	assert_true(whole > SCRIPT_MAX && whole < 128 * 1024);
	other =
	    script_with_toolkit(command, SCRIPT_TOOLS_GNU, NONCE, PLACE, &len);
	assert_non_null(other);
	assert_true(len <= SCRIPT_MAX);
	free(other);
	/* There is no room for all programs beside it. */
	assert_null(
	    script_store_toolkit(command, SCRIPT_TOOLS_GNU, NONCE, 0, &len));
	free(command);
	free(data);
}

static void
missed(void **state)
{
	static const char *const yes[] = {"<gfs-none " NONCE ">",
	    "noise\n<gfs-none " NONCE ">\n", "\r\n<gfs-none " NONCE ">\r\n"};
	static const char *const no[] = {"", "<gfs-none " NONCE,
	    "<gfs-none 0123456789abcdee>", "x<gfs-none " NONCE ">",
	    "\n<gfs-none " NONCE "0>", "\n<gfs-begin " NONCE "\n"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof yes / sizeof *yes; i++)
		assert_true(
		    script_toolkit_missed(yes[i], strlen(yes[i]), NONCE));
	for (i = 0; i < sizeof no / sizeof *no; i++)
		assert_false(
		    script_toolkit_missed(no[i], strlen(no[i]), NONCE));
	assert_false(script_toolkit_missed(NULL, 0, NONCE));
}

static void
check_place(const char *output, bool said, const char *want)
{
	char place[SCRIPT_PLACE_MAX];

	assert_int_equal(
	    script_toolkit_place(output, strlen(output), NONCE, place), said);
	assert_string_equal(place, want);
}

static void
places(void **state)
{
	char output[1024], longest[SCRIPT_PLACE_MAX + 1];
	size_t n;

	(void)state;
	check_place("\n<gfs-kept " NONCE " /a/b>\n", true, "/a/b");
	check_place("\n<gfs-kept " NONCE " ->\n", true, "");
	check_place("\n<gfs-kept " NONCE " a/b>\n", true, "");
	check_place("\n<gfs-kept " NONCE " >\n", true, "");
	check_place("\n<gfs-kept " NONCE " /a/b", false, "");
	check_place("\n<gfs-kept " NONCE, false, "");
	check_place("\n<gfs-kept 0 /a>\n", false, "");
	check_place("", false, "");
	for (n = SCRIPT_PLACE_MAX - 1; n <= SCRIPT_PLACE_MAX; n++) {
		memset(longest, 'x', n);
		longest[0] = '/';
		longest[n] = '\0';
		strcpy(output, "<gfs-kept " NONCE " ");
		strcat(strcat(output, longest), ">");
		check_place(output, true, n < SCRIPT_PLACE_MAX ? longest : "");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(text),
	    cmocka_unit_test(forms),
	    cmocka_unit_test(lengths),
	    cmocka_unit_test(missed),
	    cmocka_unit_test(places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
