/*
 * Growing byte buffers with JSON strings, base64 and UTF-8.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

/* Make room for that many more bytes and a NUL. */
bool
buf_reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 256;
	char *p;

	if (b->failed)
		return false;
	if (more >= SIZE_MAX / 2 - b->len) {
		b->failed = true;
		return false;
	}
	if (b->len + more + 1 <= b->cap)
		return true;
	while (cap < b->len + more + 1)
		cap *= 2;
	p = realloc(b->data, cap);
	if (p == NULL) {
		b->failed = true;
		return false;
	}
	b->data = p;
	b->cap = cap;
	return true;
}

void
buf_put(struct buf *b, const void *p, size_t len)
{
	if (!buf_reserve(b, len))
		return;
	if (len > 0)
		memcpy(b->data + b->len, p, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void
buf_puts(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !buf_reserve(b, (size_t)n)) {
		b->failed = true;
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

/* Free the contents; the buffer is empty and usable again. */
void
buf_free(struct buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

void
buf_put_base64(struct buf *b, const void *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = data;
	uint32_t v;
	char *out;

	if (!buf_reserve(b, (len + 2) / 3 * 4))
		return;
	out = b->data + b->len;
	for (; len >= 3; len -= 3, p += 3) {
		v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = digits[v >> 6 & 63];
		*out++ = digits[v & 63];
	}
	if (len > 0) {
		v = (uint32_t)p[0] << 16;
		if (len == 2)
			v |= (uint32_t)p[1] << 8;
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = len == 2 ? digits[v >> 6 & 63] : '=';
		*out++ = '=';
	}
	*out = '\0';
	b->len = (size_t)(out - b->data);
}

/* Length of the well-formed sequence at p, 0 when there is none. */
size_t
utf8_sequence(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint32_t cp;
	size_t n, i;

	if (len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (len < n)
		return 0;
	cp = p[0] & (0x7fU >> n);
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3fU);
	}
	if (n == 3 && (cp < 0x800 || (cp >= 0xd800 && cp <= 0xdfff)))
		return 0;
	if (n == 4 && (cp < 0x10000 || cp > 0x10ffff))
		return 0;
	return n;
}

bool
utf8_valid(const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t n;

	for (; len > 0; p += n, len -= n) {
		n = utf8_sequence(p, len);
		if (n == 0)
			return false;
	}
	return true;
}

/* One JSON string, quotes included, of any bytes. */
void
buf_put_json(struct buf *b, const void *data, size_t len, enum json_bad bad,
    enum json_nul nul)
{
	const unsigned char *p = data, *end = p + len, *run = p;
	size_t n;

	buf_put(b, "\"", 1);
	while (p < end) {
		if (*p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
			p++;
			continue;
		}
		n = utf8_sequence(p, (size_t)(end - p));
		if (n > 1) {
			p += n;
			continue;
		}
		buf_put(b, run, (size_t)(p - run));
		if (n == 0) {
			if (bad == JSON_BAD_REPLACE)
				buf_put(b, "\xef\xbf\xbd", 3);
			else if (bad == JSON_BAD_RAW)
				buf_put(b, p, 1);
		} else if (*p == '"') {
			buf_put(b, "\\\"", 2);
		} else if (*p == '\\') {
			buf_put(b, "\\\\", 2);
		} else if (*p == '\n') {
			buf_put(b, "\\n", 2);
		} else if (*p == '\t') {
			buf_put(b, "\\t", 2);
		} else if (*p == '\r') {
			buf_put(b, "\\r", 2);
		} else if (*p != 0 || nul == JSON_NUL_ESCAPE) {
			buf_printf(b, "\\u%04x", *p);
		}
		run = ++p;
	}
	buf_put(b, run, (size_t)(p - run));
	buf_put(b, "\"", 1);
}

void
buf_put_json_str(struct buf *b, const char *s)
{
	buf_put_json(b, s, strlen(s), JSON_BAD_REPLACE, JSON_NUL_ESCAPE);
}
