#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>
#include <sys/types.h>

/* RFC 4648 base64, without a call for each byte. */

/* malloc'ed text with its length, or NULL: out of memory. */
char *base64_encode(const void *data, size_t len, size_t *out_len);

/*
 * Decode text (white space is skipped) in place.  Returns the number of
 * bytes, or -EPROTO when it is not base64.
 */
ssize_t base64_decode(char *text, size_t len);

#endif
