#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "json.h"
#include "text.h"

/* Is it one of the driver's own files in the VM? */
static bool
is_own(const char *path)
{
	return strstr(path, "/.gentilityfs-") != NULL ||
	    strstr(path, "/.cache/gentilityfs/toolkit-") != NULL;
}

void
answer_free(struct answer *a)
{
	free(a->why);
	free(a->error);
	free(a->output);
	free(a->json);
	*a = (struct answer){0};
}

int
answer_parse(struct answer *a, char *json, size_t len)
{
	struct json all = {json, json + len}, result;
	char *fate;

	*a = (struct answer){.json = json, .json_len = len};
	if (json_find(all, "result", &result)) {
		a->output = json_find_string(result, "output", &a->len);
		a->exit_code = (int)json_find_number(result, "exit_code", -1);
		if (a->output != NULL)
			return 0;
		return -EPROTO;
	}
	if ((a->error = json_find_string(all, "error", NULL)) == NULL)
		return -EPROTO;
	a->why = json_find_string(all, "message", NULL);
	if (a->why == NULL && (a->why = strdup(a->error)) == NULL)
		return -ENOMEM;
	fate = json_find_string(all, "fate", NULL);
	a->fate = fate != NULL && strcmp(fate, "not_run") == 0 ? ANSWER_NOT_RUN
							       : ANSWER_UNKNOWN;
	free(fate);
	return 0;
}

bool
answer_cut_mark(struct answer *a, const char *mark)
{
	size_t n = strlen(mark), i, rest;
	char *at = NULL, *p = a->output, *end = a->output + a->len;

	while ((p = memmem(p, (size_t)(end - p), mark, n)) != NULL)
		at = p++;
	if (at == NULL)
		return false;
	rest = (size_t)(end - at) - n;
	for (i = 0; i < rest && isspace((unsigned char)at[n + i]); i++)
		continue;
	if (i == rest)
		rest = 0;
	memmove(at, at + n, rest);
	a->len = (size_t)(at - a->output) + rest;
	a->output[a->len] = '\0';
	return true;
}

/* One column; "-" when there is nothing. */
static void
put_column(struct text *t, char *s, size_t len, int width, bool spaces)
{
	struct text escaped = {0};
	size_t i;

	for (i = 0; !spaces && s != NULL && i < len; i++)
		if (s[i] == ' ')
			s[i] = '_';
	if (s != NULL)
		text_escape(&escaped, s, len);
	text_printf(t, "%-*s", width, escaped.len == 0 ? "-" : escaped.data);
	text_free(&escaped);
}

static void
put_change(struct text *t, struct json change)
{
	size_t path_len, status_len = 0, mime_len = 0, url_len = 0;
	char *path, *status, *mime, *url;
	long long size = json_find_number(change, "size", -1);
	char number[32] = "-";
	bool gone;

	if ((path = json_find_string(change, "path", &path_len)) == NULL)
		return;
	if (is_own(path)) {
		free(path);
		return;
	}
	status = json_find_string(change, "status", &status_len);
	mime = json_find_string(change, "mime_type", &mime_len);
	url = json_find_string(change, "public_url", &url_len);
	gone = status != NULL && strcmp(status, "deleted") == 0;
	if (!gone && size >= 0)
		snprintf(number, sizeof number, "%lld", size);
	put_column(t, status, status_len, 8, false);
	text_printf(t, "  %8s  ", number);
	put_column(t, gone ? NULL : mime, mime_len, 24, false);
	text_puts(t, "  ");
	put_column(t, path, path_len, 0, true);
	if (!gone && url != NULL && *url != '\0') {
		text_puts(t, "   ");
		put_column(t, url, url_len, 0, false);
	}
	text_puts(t, "\n");
	free(path);
	free(status);
	free(mime);
	free(url);
}

char *
answer_changes(const struct answer *a, size_t *len)
{
	struct json all = {a->json, a->json + a->json_len}, at, change;
	struct text t = {0};

	text_puts(&t, "");
	if (json_find(all, "result", &at) &&
	    json_find(at, "files_changed", &at))
		while (json_next(&at, &change))
			put_change(&t, change);
	if (t.failed)
		text_free(&t);
	*len = t.len;
	return t.data;
}
