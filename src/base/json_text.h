#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include <stddef.h>
#include <stdio.h>

/*
 * A string as JSON has it, with its quotes.  Any bytes: what is not UTF-8
 * becomes U+FFFD, one for each byte.  NULL: null.  Pure but for the stream.
 */
void json_write_string(FILE *, const char *);
/* The same of so many bytes, which may be NULs, too. */
void json_write_bytes(FILE *, const char *, size_t len);

#endif
