#include <string.h>

#include "base/json_cut.h"

/* One byte within an escape, behind its backslash. */
static void
escape_byte(struct json_cut *c, char byte)
{
	if (c->escape == 5) { /* what kind it is */
		c->escape = byte == 'u' ? 4 : 0;
		c->digit = '\0';
		c->pair = false;
		return;
	}
	/* \ud8.. to \udb.. are the first halves. */
	if (c->escape == 4)
		c->digit = byte;
	else if (c->escape == 3)
		c->pair = (c->digit == 'd' || c->digit == 'D') &&
		    byte != '\0' && strchr("89abAB", byte) != NULL;
	c->escape--;
}

/* May the string end before this byte? */
static bool
is_boundary(const struct json_cut *c, char byte)
{
	return c->escape == 0 && ((unsigned char)byte & 0xc0) != 0x80 &&
	    !(c->pair && byte == '\\');
}

/* One byte within a string; is it passed on? */
static bool
string_byte(struct json_cut *c, char byte)
{
	if (c->escape > 0) {
		escape_byte(c, byte);
	} else if (byte == '"') {
		c->in_string = c->dropping = c->pair = false;
		return true;
	} else {
		if (c->len >= c->max && is_boundary(c, byte))
			c->dropping = c->cut = true;
		if (byte == '\\')
			c->escape = 5;
		else
			c->pair = false;
	}
	c->len++;
	return !c->dropping;
}

size_t
json_cut(struct json_cut *c, char *out, const char *in, size_t n)
{
	char *to = out;
	const char *p, *end = in + n;

	if (c->max == 0) {
		memcpy(out, in, n);
		return n;
	}
	for (p = in; p < end; p++) {
		if (c->in_string) {
			if (string_byte(c, *p))
				*to++ = *p;
			continue;
		}
		if (*p == '"') {
			c->in_string = true;
			c->len = 0;
		}
		*to++ = *p;
	}
	return (size_t)(to - out);
}
