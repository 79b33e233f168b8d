#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/change_list.h"

/* A column is no wider than this, so that one hostile entry can't blow it up.*/
#define CHANGE_COLUMN_MAX 64

void
change_list_free(struct change_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].path);
		free(list->items[i].mime);
		free(list->items[i].url);
	}
	free(list->items);
	*list = (struct change_list){0};
}

static const char *
kind_name(enum change_kind kind)
{
	switch (kind) {
	case CHANGE_CREATED:
		return "created";
	case CHANGE_MODIFIED:
		return "modified";
	case CHANGE_DELETED:
		break;
	}
	return "deleted";
}

static const char *
size_text(const struct change *c, char *buf, size_t len)
{
	if (c->kind == CHANGE_DELETED || c->size < 0)
		return "-";
	snprintf(buf, len, "%" PRId64, c->size);
	return buf;
}

static const char *
mime_text(const struct change *c)
{
	return c->mime == NULL || *c->mime == '\0' ? "-" : c->mime;
}

static bool
is_control(unsigned char byte)
{
	return byte < 0x20 || byte == 0x7f;
}

/* Write text so that it stays on its line; without stream, only count. */
static size_t
put_escaped(FILE *f, const char *text, bool space_too)
{
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0';
	     p++) {
		if (*p == '\\') {
			if (f != NULL)
				fputs("\\\\", f);
			n += 2;
		} else if (is_control(*p) || (space_too && *p == ' ')) {
			if (f != NULL)
				fprintf(f, "\\%03o", *p);
			n += 4;
		} else {
			if (f != NULL)
				fputc(*p, f);
			n++;
		}
	}
	return n;
}

/* A public address, absolute; what no address may hold is percent-encoded. */
static void
put_url(FILE *f, const char *base_url, const char *url)
{
	if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)
		fprintf(f, "%s%s", base_url, *url == '/' ? "" : "/");
	for (const unsigned char *p = (const unsigned char *)url; *p != '\0';
	     p++) {
		if (is_control(*p) || *p == ' ' || *p >= 0x80)
			fprintf(f, "%%%02X", *p);
		else
			fputc(*p, f);
	}
}

static size_t
column_width(size_t width, size_t now)
{
	if (now > CHANGE_COLUMN_MAX)
		now = CHANGE_COLUMN_MAX;
	return now > width ? now : width;
}

static void
put_list(FILE *f, const struct change_list *list, const char *base_url)
{
	size_t size_width = 0, mime_width = 0, n;
	char buf[32];

	for (size_t i = 0; i < list->count; i++) {
		const struct change *c = &list->items[i];

		size_width = column_width(
		    size_width, strlen(size_text(c, buf, sizeof buf)));
		mime_width = column_width(
		    mime_width, put_escaped(NULL, mime_text(c), true));
	}
	for (size_t i = 0; i < list->count; i++) {
		const struct change *c = &list->items[i];

		fprintf(f, "%-8s  %*s  ", kind_name(c->kind), (int)size_width,
		    size_text(c, buf, sizeof buf));
		n = put_escaped(f, mime_text(c), true);
		for (; n < mime_width; n++)
			fputc(' ', f);
		fputs("   ", f);
		put_escaped(f, c->path, false);
		if (c->kind != CHANGE_DELETED && c->url != NULL &&
		    *c->url != '\0') {
			fputs("   ", f);
			put_url(f, base_url, c->url);
		}
		fputc('\n', f);
	}
}

char *
change_format(const char *output, size_t output_len, bool cut, int exit_code,
    const struct change_list *list, const char *base_url, size_t *len)
{
	char *text = NULL;
	bool failed;
	FILE *f;

	*len = 0;
	if ((f = open_memstream(&text, len)) == NULL)
		return NULL;
	if (output_len > 0) {
		fwrite(output, 1, output_len, f);
		if (output[output_len - 1] != '\n')
			fputc('\n', f);
	}
	if (cut)
		fprintf(f, "--- output cut after %zu bytes\n", output_len);
	fprintf(f, "--- exit %d, %zu files changed\n", exit_code, list->count);
	put_list(f, list, base_url);
	failed = ferror(f);
	if (fclose(f) != 0 || failed) {
		free(text);
		*len = 0;
		return NULL;
	}
	return text;
}
