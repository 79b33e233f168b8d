#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"

char *
base64_encode(const void *data, size_t len, size_t *out_len)
{
	size_t size = (len + 2) / 3 * 4 + 1;
	char *text;
	int n;

	if ((text = malloc(size)) == NULL)
		return NULL;
	if ((n = b64_ntop(data, len, text, size)) == -1) {
		free(text);
		return NULL;
	}
	*out_len = n;
	return text;
}

ssize_t
base64_decode(char *text, size_t len)
{
	int n;

	/* A NUL inside would end b64_pton() early, as if all were well. */
	if (len > INT_MAX || strlen(text) != len)
		return -EPROTO;
	/* In place is safe: it writes three bytes after reading four. */
	if ((n = b64_pton(text, (unsigned char *)text, len)) == -1)
		return -EPROTO;
	return n;
}
