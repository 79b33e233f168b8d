/*
 * Growing byte buffers, and the few encodings an answer needs.  A buffer that
 * ran out of memory stays failed: callers check once, at the end.
 */
#ifndef ROOMD_BUF_H
#define ROOMD_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* owned; always followed by a NUL */
	size_t len;
	size_t cap;
	bool failed;
};

/* What becomes of bytes that a JSON string cannot hold. */
enum json_bad {
	JSON_BAD_REPLACE, /* U+FFFD for each bad byte */
	JSON_BAD_DROP,
	JSON_BAD_RAW, /* as they are: not JSON any more */
};
enum json_nul { JSON_NUL_ESCAPE, JSON_NUL_DROP };

bool buf_reserve(struct buf *b, size_t more);
void buf_put(struct buf *b, const void *p, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buf_free(struct buf *b);
void buf_put_base64(struct buf *b, const void *p, size_t len);
void buf_put_json(struct buf *b, const void *p, size_t len, enum json_bad bad,
    enum json_nul nul);
void buf_put_json_str(struct buf *b, const char *s);

size_t utf8_sequence(const void *p, size_t len);
bool utf8_valid(const void *p, size_t len);

#endif
