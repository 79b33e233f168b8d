#include "json.h"

/* How many bytes the character has that begins here; 0: it is none. */
static size_t
utf8_length(const unsigned char *p, size_t len)
{
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2, i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n > len ||
	    (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	for (i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool
json_is_text(const char *data, size_t len)
{
	const unsigned char *p = (const unsigned char *)data;
	size_t n;

	for (; len > 0; p += n, len -= n)
		if ((n = utf8_length(p, len)) == 0)
			return false;
	return true;
}

void
json_write(FILE *f, const char *data, size_t len)
{
	const unsigned char *p = (const unsigned char *)data;
	size_t n;

	putc('"', f);
	for (; len > 0; p += n, len -= n) {
		if ((n = utf8_length(p, len)) == 0) {
			fputs("\\ufffd", f);
			n = 1;
		} else if (*p < ' ' || *p == 0x7f) {
			fprintf(f, "\\u%04x", *p);
		} else {
			if (*p == '"' || *p == '\\')
				putc('\\', f);
			fwrite(p, 1, n, f);
		}
	}
	putc('"', f);
}
