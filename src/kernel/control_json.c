#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/control_json.h"

/* In a string's text the quotes around it would have backslashes. */
static const char key[] = "\"public_url\"";

/* Behind the quote that begins a path, from `at` on; NULL: there is no more. */
static const char *
next_path(const char *at, const char *end)
{
	while ((at = memmem(at, (size_t)(end - at), key, sizeof key - 1)) !=
	    NULL) {
		at += sizeof key - 1;
		while (at < end && strchr(" \t\r\n", *at) != NULL)
			at++;
		if (at >= end || *at++ != ':')
			continue;
		while (at < end && strchr(" \t\r\n", *at) != NULL)
			at++;
		if (end - at > 2 && at[0] == '"' && at[1] == '/')
			return at + 1;
	}
	return NULL;
}

void
control_json_absolute(
    char *json, size_t len, const char *base, char **out, size_t *out_len)
{
	const char *at = json, *end = json + len, *next;
	size_t n = strlen(base), more = 0;
	char *to;

	*out = json;
	*out_len = len;
	while ((at = next_path(at, end)) != NULL)
		more += n;
	if (more == 0 || (to = malloc(len + more + 1)) == NULL)
		return;
	*out = to;
	*out_len = len + more;
	for (at = json; (next = next_path(at, end)) != NULL; at = next) {
		memcpy(to, at, (size_t)(next - at));
		to += next - at;
		memcpy(to, base, n);
		to += n;
	}
	memcpy(to, at, (size_t)(end - at));
	to[end - at] = '\0';
	free(json);
}
