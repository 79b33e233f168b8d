#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "changes.h"
#include "json.h"
#include "text.h"

struct change {
	char *path, *status, *mime, *url;
	size_t path_len;
	long long size; /* -1: not told */
};

static void
change_free(struct change *c)
{
	free(c->path);
	free(c->status);
	free(c->mime);
	free(c->url);
}

/* The driver's own files in the VM, and ours. */
static bool
is_own(const char *path)
{
	return strstr(path, "/.gentilityfs-") != NULL ||
	    strstr(path, "/.cache/gentilityfs/toolkit-") != NULL ||
	    strstr(path, "/.cache/gentility-jobs") != NULL ||
	    strncmp(path, "/tmp/gentility-jobs-", 20) == 0;
}

static bool
change_read(struct json from, struct change *c)
{
	*c = (struct change){.size = json_find_number(from, "size", -1)};
	c->path = json_find_string(from, "path", &c->path_len);
	if (c->path == NULL || is_own(c->path))
		return false;
	c->status = json_find_string(from, "status", NULL);
	c->mime = json_find_string(from, "mime_type", NULL);
	c->url = json_find_string(from, "public_url", NULL);
	return c->status != NULL;
}

static void
drop(struct changes *all, size_t i)
{
	change_free(&all->list[i]);
	memmove(&all->list[i], &all->list[i + 1],
	    (--all->count - i) * sizeof *all->list);
}

/* Takes c over. */
static void
add(struct changes *all, struct change *c)
{
	size_t i, size;
	struct change *list, *old;

	for (i = 0; i < all->count; i++)
		if (all->list[i].path_len == c->path_len &&
		    memcmp(all->list[i].path, c->path, c->path_len) == 0)
			break;
	if (i < all->count) {
		old = &all->list[i];
		/* What was made by it, and is gone again, was never there. */
		if (strcmp(c->status, "deleted") == 0 &&
		    strcmp(old->status, "created") == 0) {
			drop(all, i);
			change_free(c);
			return;
		}
		if (strcmp(old->status, "created") == 0 ||
		    (strcmp(old->status, "deleted") == 0 &&
			strcmp(c->status, "created") == 0)) {
			free(c->status);
			c->status = strdup(
			    *old->status == 'c' ? "created" : "modified");
		}
		change_free(old);
		*old = *c;
		if (old->status == NULL)
			drop(all, i);
		return;
	}
	if (all->count == all->size) {
		size = all->size * 2 + 16;
		list = reallocarray(all->list, size, sizeof *list);
		if (list == NULL) {
			change_free(c);
			return;
		}
		all->list = list;
		all->size = size;
	}
	all->list[all->count++] = *c;
}

void
changes_add(struct changes *all, const struct answer *a)
{
	struct json at = {a->json, a->json + a->json_len}, one;
	struct change c;

	if (!json_find(at, "result", &at) ||
	    !json_find(at, "files_changed", &at))
		return;
	while (json_next(&at, &one)) {
		if (change_read(one, &c))
			add(all, &c);
		else
			change_free(&c);
	}
}

/* One column; "-" when there is nothing. */
static void
put_column(struct text *t, const char *s, int width)
{
	struct text escaped = {0};
	size_t i;

	if (s != NULL)
		text_escape(&escaped, s, strlen(s));
	for (i = 0; i < escaped.len; i++)
		if (escaped.data[i] == ' ')
			escaped.data[i] = '_';
	text_printf(t, "%-*s", width, escaped.len == 0 ? "-" : escaped.data);
	text_free(&escaped);
}

static void
put_change(struct text *t, const struct change *c)
{
	bool gone = strcmp(c->status, "deleted") == 0;
	char number[32] = "-";

	if (!gone && c->size >= 0)
		snprintf(number, sizeof number, "%lld", c->size);
	put_column(t, c->status, 8);
	text_printf(t, "  %8s  ", number);
	put_column(t, gone ? NULL : c->mime, 24);
	text_puts(t, "  ");
	text_escape(t, c->path, c->path_len);
	if (!gone && c->url != NULL && *c->url != '\0') {
		text_puts(t, "   ");
		put_column(t, c->url, 0);
	}
	text_puts(t, "\n");
}

void
changes_print(const struct changes *all, FILE *f)
{
	struct text t = {0};
	size_t i;

	for (i = 0; i < all->count; i++)
		put_change(&t, &all->list[i]);
	if (!t.failed && t.len > 0)
		fwrite(t.data, 1, t.len, f);
	text_free(&t);
}

void
changes_write_json(const struct changes *all, FILE *f)
{
	const struct change *c;
	size_t i;

	putc('[', f);
	for (i = 0; i < all->count; i++) {
		c = &all->list[i];
		fputs(i == 0 ? "{\"path\": " : ", {\"path\": ", f);
		json_write_bytes(f, c->path, c->path_len);
		fputs(", \"status\": ", f);
		json_write_bytes(f, c->status, strlen(c->status));
		if (strcmp(c->status, "deleted") != 0) {
			if (c->size >= 0)
				fprintf(f, ", \"size\": %lld", c->size);
			if (c->mime != NULL) {
				fputs(", \"mime_type\": ", f);
				json_write_bytes(f, c->mime, strlen(c->mime));
			}
			if (c->url != NULL) {
				fputs(", \"public_url\": ", f);
				json_write_bytes(f, c->url, strlen(c->url));
			}
		}
		putc('}', f);
	}
	putc(']', f);
}

void
changes_free(struct changes *all)
{
	size_t i;

	for (i = 0; i < all->count; i++)
		change_free(&all->list[i]);
	free(all->list);
	*all = (struct changes){0};
}
