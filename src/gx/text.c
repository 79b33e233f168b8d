#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

void
text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}

void
text_add(struct text *t, const void *data, size_t len)
{
	size_t size = t->size;
	char *more;

	if (t->failed)
		return;
	if (t->len + len + 1 > size) {
		size = (t->len + len + 1) * 2;
		if ((more = realloc(t->data, size)) == NULL) {
			t->failed = true;
			return;
		}
		t->data = more;
		t->size = size;
	}
	if (len > 0)
		memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void
text_puts(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void
text_printf(struct text *t, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n == -1) {
		t->failed = true;
		return;
	}
	text_add(t, s, (size_t)n);
	free(s);
}

void
text_quote(struct text *t, const char *s)
{
	size_t n;

	text_puts(t, "'");
	for (;; s += n + 1) {
		n = strcspn(s, "'");
		text_add(t, s, n);
		if (s[n] == '\0')
			break;
		text_puts(t, "'\\''");
	}
	text_puts(t, "'");
}

void
text_quote_words(struct text *t, char *const *argv)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz"
				    "0123456789-_./,:@%+";
	size_t n;

	for (; *argv != NULL; argv++) {
		/* Only to be read more easily, in a list of jobs. */
		n = strlen(*argv);
		if (n > 0 && strspn(*argv, plain) == n)
			text_puts(t, *argv);
		else
			text_quote(t, *argv);
		if (argv[1] != NULL)
			text_puts(t, " ");
	}
}

void
text_escape(struct text *t, const char *s, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned char c = s[i];

		if (c == '\\')
			text_puts(t, "\\\\");
		else if (c < ' ' || c == 0x7f)
			text_printf(t, "\\%03o", c);
		else
			text_add(t, &s[i], 1);
	}
}
