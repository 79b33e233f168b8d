#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

/* What the service answers: any bytes, no crash, and no half-filled result. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_command(const char *json, size_t len)
{
	struct api_answer a;
	char *text;
	size_t n;

	if (api_parse_command(json, len, &a) != 0) {
		assert(a.output == NULL && a.changes.items == NULL);
		return;
	}
	assert(a.output[a.len] == '\0' && strlen(a.instance) <= 36);
	for (size_t i = 0; i < a.changes.count; i++) {
		assert(a.changes.items[i].path[0] == '/');
		assert(a.changes.items[i].size >= -1);
	}
	text = change_format(a.output, a.len, a.cut, a.exit_code, &a.changes,
	    "https://host", &n);
	assert(text != NULL && text[n - 1] == '\n');
	/* One line for each change, whatever is in it. */
	size_t lines = 0;

	for (size_t i = a.len; i < n; i++)
		lines += text[i] == '\n';
	assert(lines ==
	    a.changes.count + 1 + (a.len > 0 && a.output[a.len - 1] != '\n'));
	free(text);
	api_answer_free(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Not terminated, so that reading past the end shows. */
	char *json = malloc(size + (size == 0));
	struct api_error e;
	struct api_file f;

	if (json == NULL)
		return 0;
	if (size > 0)
		memcpy(json, data, size);
	check_command(json, size);
	if (api_parse_file(json, size, &f) == 0) {
		assert(f.path[0] != '\0' && f.content[f.len] == '\0');
		api_file_free(&f);
	}
	if (api_parse_error(json, size, &e) == 0) {
		assert(strlen(e.error) < sizeof e.error);
		assert(strlen(e.message) < sizeof e.message);
	}
	free(json);
	return 0;
}
