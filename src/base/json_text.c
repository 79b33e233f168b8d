#include <string.h>

#include "base/json_text.h"
#include "base/utf8.h"

void
json_write_bytes(FILE *out, const char *text, size_t len)
{
	const char *p = text, *end = text + len;
	size_t n;

	putc('"', out);
	for (; p < end; p += n) {
		if ((n = utf8_length(p, (size_t)(end - p))) == 0) {
			fputs("\\ufffd", out);
			n = 1;
		} else if ((unsigned char)*p < ' ' || *p == 0x7f) {
			fprintf(out, "\\u%04x", *p);
		} else {
			if (*p == '"' || *p == '\\')
				putc('\\', out);
			fwrite(p, 1, n, out);
		}
	}
	putc('"', out);
}

void
json_write_string(FILE *out, const char *text)
{
	if (text == NULL)
		fputs("null", out);
	else
		json_write_bytes(out, text, strlen(text));
}
