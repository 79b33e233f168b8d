#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/base64.h"

static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum { OTHER = 64, SPACE, PAD };

/* A digit's value, or what else an ASCII byte is. */
/* clang-format off */
static const uint8_t values[128] = {
	64, 64, 64, 64, 64, 64, 64, 64, 64, 65, 65, 65, 65, 65, 64, 64,
	64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
	65, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 62, 64, 64, 64, 63,
	52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 64, 64, 64, 66, 64, 64,
	64, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
	15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 64, 64, 64, 64, 64,
	64, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
	41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 64, 64, 64, 64, 64,
};
/* clang-format on */

static unsigned
value_of(char c)
{
	return (unsigned char)c < 128 ? values[(unsigned char)c] : OTHER;
}

char *
base64_encode(const void *data, size_t len, size_t *out_len)
{
	const unsigned char *p = data;
	char *text, *to;
	uint32_t bits;

	if (len > SIZE_MAX / 2 ||
	    (text = to = malloc((len + 2) / 3 * 4 + 1)) == NULL)
		return NULL;
	for (; len >= 3; len -= 3, p += 3) {
		bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = digits[bits >> 6 & 63];
		*to++ = digits[bits & 63];
	}
	if (len > 0) {
		bits =
		    (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = len == 2 ? digits[bits >> 6 & 63] : '=';
		*to++ = '=';
	}
	*to = '\0';
	*out_len = to - text;
	return text;
}

ssize_t
base64_decode(char *text, size_t len)
{
	const char *from = text, *end = text + len;
	unsigned char *to = (unsigned char *)text;
	unsigned value, have = 0, pads = 0;
	uint32_t bits = 0;

	/* In place is safe: it writes three bytes after reading four. */
	for (; from < end; from++) {
		if ((value = value_of(*from)) < 64 && pads == 0) {
			bits = bits << 6 | value;
			if (++have < 4)
				continue;
			*to++ = bits >> 16;
			*to++ = bits >> 8;
			*to++ = bits;
			have = 0;
			bits = 0;
		} else if (value == PAD && have >= 2 && have + pads < 4) {
			pads++;
		} else if (value != SPACE) {
			return -EPROTO;
		}
	}
	if (have == 0)
		return to - (unsigned char *)text;
	/* The last ones: padded to four, and no bits left over. */
	if (have + pads != 4 || (bits & (have == 2 ? 0xf : 0x3)) != 0)
		return -EPROTO;
	bits >>= have == 2 ? 4 : 2;
	if (have == 3)
		*to++ = bits >> 8;
	*to++ = bits;
	return to - (unsigned char *)text;
}
