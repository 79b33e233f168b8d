#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that grow.  A failed allocation shows in `failed`, not before. */
struct text {
	char *data; /* with a NUL after it, once anything was added */
	size_t len, size;
	bool failed;
};

void text_free(struct text *);
void text_add(struct text *, const void *data, size_t len);
void text_puts(struct text *, const char *s);
void text_printf(struct text *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* s as one word for sh: in single quotes, whatever its bytes are. */
void text_quote(struct text *, const char *s);
/* argv as one line of words. */
void text_quote_words(struct text *, char *const *argv);
/* s on one line of a terminal: control characters as \ooo. */
void text_escape(struct text *, const char *s, size_t len);

#endif
