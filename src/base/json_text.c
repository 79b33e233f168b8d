#include <stdbool.h>
#include <string.h>

#include "base/json_text.h"

/* How many bytes the character has that begins here; 0: it is none. */
static size_t
utf8_length(const unsigned char *p)
{
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2, i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4 || (p[0] == 0xe0 && p[1] < 0xa0) ||
	    (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	/* The NUL at the end is no continuation, so it stops there. */
	for (i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

void
json_write_string(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	if (text == NULL) {
		fputs("null", out);
		return;
	}
	putc('"', out);
	for (; *p != '\0'; p += n) {
		if ((n = utf8_length(p)) == 0) {
			fputs("\\ufffd", out);
			n = 1;
		} else if (*p < ' ' || *p == 0x7f) {
			fprintf(out, "\\u%04x", *p);
		} else {
			if (*p == '"' || *p == '\\')
				putc('\\', out);
			fwrite(p, 1, n, out);
		}
	}
	putc('"', out);
}
