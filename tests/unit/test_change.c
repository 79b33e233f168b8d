#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/change_list.h"

#define BASE "https://api.gentility.ai"
#define VM   "/vm/550e8400-e29b-41d4-a716-446655440000/file"

static void
check(const char *output, int exit_code, struct change *items, size_t count,
    const char *expected)
{
	struct change_list list = {count, items};
	size_t len;
	char *text = change_format(
	    output, strlen(output), false, exit_code, &list, BASE, &len);

	assert_non_null(text);
	assert_string_equal(text, expected);
	assert_int_equal(len, strlen(expected));
	free(text);
}

static void
test_documented_form(void **state)
{
	struct change items[] = {
	    {CHANGE_CREATED, 12485, (char *)"/tmp/chart.png",
		(char *)"image/png", (char *)VM "/tmp/chart.png"},
	    {CHANGE_DELETED, -1, (char *)"/tmp/old.txt", NULL, NULL},
	};

	(void)state;
	check("done\n", 0, items, 2,
	    "done\n"
	    "--- exit 0, 2 files changed\n"
	    "created   12485  image/png   /tmp/chart.png   " BASE VM
	    "/tmp/chart.png\n"
	    "deleted       -  -           /tmp/old.txt\n");
}

static void
test_output_ends_with_a_newline(void **state)
{
	(void)state;
	check("", 0, NULL, 0, "--- exit 0, 0 files changed\n");
	check("a", 127, NULL, 0, "a\n--- exit 127, 0 files changed\n");
	check("a\n\n", -1, NULL, 0, "a\n\n--- exit -1, 0 files changed\n");
}

static void
test_output_is_verbatim(void **state)
{
	struct change_list list = {0};
	size_t len;
	char *text = change_format("a\0b\xff", 4, false, 0, &list, BASE, &len);

	(void)state;
	assert_non_null(text);
	assert_int_equal(len, 5 + strlen("--- exit 0, 0 files changed\n"));
	assert_memory_equal(text, "a\0b\xff\n---", 8);
	free(text);
}

static void
test_columns_are_aligned(void **state)
{
	struct change items[] = {
	    {CHANGE_MODIFIED, 5, (char *)"/a", (char *)"text/plain",
		(char *)VM "/a"},
	    {CHANGE_CREATED, INT64_MAX, (char *)"/b b", (char *)"x/y", NULL},
	    {CHANGE_CREATED, -1, (char *)"/c", NULL, (char *)""},
	};

	(void)state;
	check("", 1, items, 3,
	    "--- exit 1, 3 files changed\n"
	    "modified                    5  text/plain   /a   " BASE VM "/a\n"
	    "created   9223372036854775807  x/y          /b b\n"
	    "created                     -  -            /c\n");
}

static void
test_one_is_also_files(void **state)
{
	struct change items[] = {
	    {CHANGE_DELETED, 9, (char *)"/a", NULL, (char *)VM "/a"},
	};

	(void)state;
	check("", 0, items, 1,
	    "--- exit 0, 1 files changed\n"
	    "deleted   -  -   /a\n");
}

static void
test_hostile_text_stays_on_its_line(void **state)
{
	struct change items[] = {
	    {CHANGE_CREATED, 0, (char *)"/a\nb\\c\t\x7f\xc3\xa9",
		(char *)"x y\n", (char *)"vm/a b\n\xc3\xa9"},
	    {CHANGE_CREATED, 0, (char *)"/x", (char *)"x",
		(char *)"https://other/x"},
	};

	(void)state;
	check("", 0, items, 2,
	    "--- exit 0, 2 files changed\n"
	    "created   0  x\\040y\\012   /a\\012b\\\\c\\011\\177\xc3\xa9  "
	    " " BASE "/vm/a%20b%0A%C3%A9\n"
	    "created   0  x            /x   https://other/x\n");
}

static void
test_free_is_complete(void **state)
{
	struct change_list list = {1, calloc(1, sizeof *list.items)};

	(void)state;
	assert_non_null(list.items);
	list.items[0].path = strdup("/a");
	list.items[0].mime = strdup("a");
	list.items[0].url = strdup("/b");
	change_list_free(&list);
	assert_null(list.items);
	assert_int_equal(list.count, 0);
	change_list_free(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_documented_form),
	    cmocka_unit_test(test_output_ends_with_a_newline),
	    cmocka_unit_test(test_output_is_verbatim),
	    cmocka_unit_test(test_columns_are_aligned),
	    cmocka_unit_test(test_one_is_also_files),
	    cmocka_unit_test(test_hostile_text_stays_on_its_line),
	    cmocka_unit_test(test_free_is_complete),
	};

	return cmocka_run_group_tests_name("change", tests, NULL, NULL);
}
