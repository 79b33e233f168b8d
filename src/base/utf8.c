#include <string.h>

#include "base/utf8.h"

size_t
utf8_length(const char *text, size_t left)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n, i;

	if (left == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (n > left || p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	/* Not the shortest form, half of a surrogate pair, past U+10FFFF. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	for (i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool
utf8_is_valid(const char *text, size_t len)
{
	const char *end = text + len;
	size_t n;

	for (; text < end; text += n)
		if ((n = utf8_length(text, (size_t)(end - text))) == 0)
			return false;
	return true;
}

bool
utf8_is_text(const char *text, size_t len)
{
	return (len == 0 || memchr(text, '\0', len) == NULL) &&
	    utf8_is_valid(text, len);
}
