/*
 * script_quote(): what it writes is UTF-8, and a shell reads it as one word
 * with exactly the bytes given.  The shell here knows only what may occur.
 */
#include <stdlib.h>
#include <string.h>

#include "script/script.h"

/* One octal escape of printf's. */
static unsigned char
octal(const char *p)
{
	int i, n = 0;

	for (i = 1; i < 4; i++) {
		if (p[0] != '\\' || p[i] < '0' || p[i] > '7')
			abort();
		n = n * 8 + p[i] - '0';
	}
	/* A newline at the end of $(...) would be lost. */
	if (n < 0x80 || n > 0xff)
		abort();
	return n;
}

static size_t
unquote(const char *p, char *out)
{
	static const char open_raw[] = "\"$(printf '", close_raw[] = "')\"";
	size_t n = 0;

	while (*p != '\0') {
		if (strncmp(p, open_raw, sizeof(open_raw) - 1) == 0) {
			p += sizeof(open_raw) - 1;
			for (; *p != '\''; p += 4)
				out[n++] = octal(p);
			if (strncmp(p, close_raw, sizeof(close_raw) - 1) != 0)
				abort();
			p += sizeof(close_raw) - 1;
		} else if (*p == '\'') {
			for (p++; *p != '\''; p++) {
				if (*p == '\0')
					abort();
				out[n++] = *p;
			}
			p++;
		} else if (p[0] == '\\' && p[1] == '\'') {
			out[n++] = '\'';
			p += 2;
		} else
			abort();
	}
	return n;
}

/* Strictly: Unicode's table 3-7. */
static void
check_utf8(const unsigned char *s)
{
	static const unsigned char first[][4] = {{0xc2, 0xdf, 0x80, 0xbf},
	    {0xe0, 0xe0, 0xa0, 0xbf}, {0xe1, 0xec, 0x80, 0xbf},
	    {0xed, 0xed, 0x80, 0x9f}, {0xee, 0xef, 0x80, 0xbf},
	    {0xf0, 0xf0, 0x90, 0xbf}, {0xf1, 0xf3, 0x80, 0xbf},
	    {0xf4, 0xf4, 0x80, 0x8f}};
	size_t i, n;

	while (*s != '\0') {
		if (*s < 0x80) {
			s++;
			continue;
		}
		for (i = 0; i < 8; i++)
			if (*s >= first[i][0] && *s <= first[i][1])
				break;
		if (i == 8 || s[1] < first[i][2] || s[1] > first[i][3])
			abort();
		n = *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
		for (i = 2; i < n; i++)
			if ((s[i] & 0xc0) != 0x80)
				abort();
		s += n;
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct script_item item = {.op = SCRIPT_STAT};
	char *text, *quoted, *back;

	if ((text = malloc(size + 1)) == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if ((quoted = script_quote(text)) == NULL ||
	    (back = malloc(strlen(quoted) + 1)) == NULL)
		abort();
	check_utf8((unsigned char *)quoted);
	if (unquote(quoted, back) != strlen(text) ||
	    memcmp(back, text, strlen(text)) != 0)
		abort();
	item.path = text;
	if (script_item_size(&item) < strlen(quoted))
		abort();
	free(back);
	free(quoted);
	free(text);
	return 0;
}
