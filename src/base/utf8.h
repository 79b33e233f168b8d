#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* How many bytes the character has that begins here; 0: it is none, or not
 * whole within the bytes that are left.  Pure. */
size_t utf8_length(const char *text, size_t left);
/* Is all of it UTF-8?  A NUL is. */
bool utf8_is_valid(const char *text, size_t len);
/* Can JSON carry it: is it UTF-8, without any NUL? */
bool utf8_is_text(const char *text, size_t len);

#endif
