#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/base64.h"
#include "script/listing.h"
#include "script/script.h"

/*
 * The first `mark` with the nonce that stands at the start of a line.  That
 * may be the very first, when the service trims white space.
 */
static const char *
mark_find(const char *p, const char *end, const char *mark, const char *nonce,
    size_t *len)
{
	char line[128];
	int n;

	n = snprintf(line, sizeof(line), "\n<gfs-%s %s", mark, nonce);
	if (n < 0 || (size_t)n >= sizeof(line))
		return NULL;
	if (end - p >= n - 1 && memcmp(p, line + 1, n - 1) == 0) {
		*len = n - 1;
		return p;
	}
	*len = n;
	return memmem(p, end - p, line, n);
}

/* Decompress; `in` is binary.  The result is malloc'ed, with a NUL after. */
static int
gunzip(const unsigned char *in, size_t in_len, size_t max, char **out,
    size_t *out_len)
{
	z_stream z = {
	    .next_in = (unsigned char *)(uintptr_t)in, .avail_in = in_len};
	/* One byte more tells "just fits" from "too much". */
	size_t limit = max < SIZE_MAX / 2 ? max + 1 : max, size = 0, len = 0;
	char *buf = NULL, *p;
	int error = -ENOMEM, r = Z_OK;

	if (in_len > UINT_MAX || inflateInit2(&z, 15 + 16) != Z_OK)
		return -ENOMEM;
	do {
		if (len == size) {
			if (len == limit)
				break;
			size = size == 0 ? in_len * 4 + 1024 : size * 2;
			if (size > limit)
				size = limit;
			if ((p = realloc(buf, size + 1)) == NULL)
				goto out;
			buf = p;
		}
		z.next_out = (unsigned char *)buf + len;
		z.avail_out = size - len > UINT_MAX ? UINT_MAX : size - len;
		r = inflate(&z, Z_NO_FLUSH);
		len = (char *)z.next_out - buf;
	} while (r == Z_OK || (r == Z_BUF_ERROR && z.avail_out == 0));
	if (len > max) {
		error = -EFBIG;
		goto out;
	}
	if (r != Z_STREAM_END || z.avail_in != 0) {
		error = r == Z_MEM_ERROR ? -ENOMEM : -EPROTO;
		goto out;
	}
	buf[len] = '\0';
	*out = buf;
	*out_len = len;
	buf = NULL;
	error = 0;
out:
	inflateEnd(&z);
	free(buf);
	return error;
}

/*
 * What stands between the marks, without the white space that means nothing:
 * around it and carriage returns, which a terminal on the way may have added,
 * and in base64 all.  *newlines: how many of base64's lines were joined.
 */
static size_t
frame_strip(const char *p, const char *end, char *out, size_t *newlines)
{
	const char *start;
	size_t n = 0;
	bool plain;

	while (p < end && isspace((unsigned char)*p))
		p++;
	while (end > p && isspace((unsigned char)end[-1]))
		end--;
	plain = p < end && *p == '=';
	*newlines = 0;
	for (start = p; p < end; p++)
		if (plain ? *p != '\r' : !isspace((unsigned char)*p))
			out[n++] = *p;
		else if (*p == '\n' && p > start)
			++*newlines;
	out[n] = '\0';
	return n;
}

int
script_unwrap(const char *output, size_t output_len, const char *nonce,
    size_t max, char **payload, size_t *len)
{
	const char *end = output + output_len, *begin, *stop, *p;
	size_t mark, n_number, n, newlines;
	unsigned long long expected;
	char *text = NULL, *after;
	char number[32];
	ssize_t size;
	bool plain;
	int error = -EPROTO;

	*payload = NULL;
	*len = 0;
	begin = mark_find(output, end, "begin", nonce, &mark);
	if (begin == NULL) {
		/* The start may have been cut off. */
		return mark_find(output, end, "end", nonce, &mark) == NULL
		    ? -EPROTO
		    : -EAGAIN;
	}
	begin += mark;
	stop = mark_find(begin, end, "end", nonce, &mark);
	if ((text = malloc((stop == NULL ? end : stop) - begin + 1)) == NULL)
		return -ENOMEM;
	n = frame_strip(begin, stop == NULL ? end : stop, text, &newlines);
	plain = text[0] == '=';
	*len = n;
	if (stop == NULL) {
		error = -EAGAIN;
		goto out;
	}
	p = stop + mark;
	n_number = (size_t)(end - p) < sizeof(number) ? (size_t)(end - p)
						      : sizeof(number) - 1;
	memcpy(number, p, n_number);
	number[n_number] = '\0';
	errno = 0;
	expected = strtoull(number, &after, 10);
	if (*after == '\0' || strcmp(number, " ") == 0) {
		error = -EAGAIN;
		goto out;
	}
	if (number[0] != ' ' || !isdigit((unsigned char)number[1]) ||
	    *after != '>' || errno != 0)
		goto out;
	if (strcmp(text, "!") == 0) {
		error = -ENOTSUP;
		goto out;
	}
	/* Of base64 the length is that of what was printed, lines or not. */
	if (plain)
		n--;
	if (n != expected && (plain || n + newlines != expected)) {
		error = n + newlines < expected ? -EAGAIN : -EPROTO;
		goto out;
	}
	if (plain) {
		size = n;
		memmove(text, text + 1, n);
	} else if ((size = base64_decode(text, n)) < 0)
		goto out;
	if (!plain && size >= 2 && (unsigned char)text[0] == 0x1f &&
	    (unsigned char)text[1] == 0x8b) {
		error = gunzip((unsigned char *)text, size, max, payload, len);
		goto out;
	}
	if ((size_t)size > max) {
		error = -EFBIG;
		goto out;
	}
	/* Both forms are longer than what they stand for. */
	text[size] = '\0';
	*payload = text;
	*len = size;
	text = NULL;
	error = 0;
out:
	free(text);
	return error;
}

int
script_parse_read(const char *payload, size_t len, const char **data,
    size_t *data_len, struct attr *before, struct attr *after)
{
	const char *end = payload + len, *p, *q, *last;
	char form;
	bool shut;

	/* "#0 ", then "OK K" or an errno's name. */
	if (len < 4 || memcmp(payload, "#0 ", 3) != 0 ||
	    (p = memchr(payload, '\0', len)) == NULL)
		return -EPROTO;
	if (p - payload != 7 || memcmp(payload + 3, "OK ", 3) != 0)
		return listing_errno(payload + 3, p - payload - 3);
	form = payload[6];
	p++;
	/* No record has a NUL inside, so the last one ends the data. */
	if (p == end || (last = memrchr(p, '\0', end - p)) == NULL)
		return -EPROTO;
	if (last + 1 < end && last[1] == '!')
		return listing_errno(last + 2, end - last - 2);
	q = listing_parse_attr(form, last + 1, end, after, &shut);
	/* stat ends its line, find does not. */
	if (q != NULL && q < end && *q == '\n')
		q++;
	if (q != end)
		return -EPROTO;
	q = listing_parse_attr(form, p, end, before, &shut);
	if (q != NULL && q < end && *q == '\n')
		q++;
	if (q == NULL || q >= last || *q != '\0')
		return -EPROTO;
	*data = q + 1;
	*data_len = last - *data;
	return 0;
}

int
script_parse_stage(const char *payload, uint64_t *size)
{
	char *end;

	errno = 0;
	*size = strtoull(payload, &end, 10);
	if (!isdigit((unsigned char)payload[0]) || *end != '\n' || errno != 0)
		return -EIO;
	return 0;
}
