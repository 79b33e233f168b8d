#include <string.h>

#include "base/json_text.h"
#include "base/utf8.h"

void
json_write_string(FILE *out, const char *text)
{
	const char *p = text, *end;
	size_t n;

	if (text == NULL) {
		fputs("null", out);
		return;
	}
	putc('"', out);
	end = p + strlen(p);
	for (; *p != '\0'; p += n) {
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
