/*
 * script_unwrap(): any output, and a true frame with noise around it, of
 * which the payload must come back, in base64 or plain.  The first byte
 * chooses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "script/script.h"

#define NONCE "0123456789abcdef"

static void
fuzz_frame(const unsigned char *data, size_t size)
{
	size_t cut = size / 2, len, out_len;
	char *text, *output = NULL, *payload;
	int n, error;

	if ((text = base64_encode(data, cut, &len)) == NULL)
		return;
	/* The rest is noise before, unless it has a mark. */
	n = asprintf(&output,
	    "%.*s\n<gfs-begin " NONCE "\n%s\n<gfs-end " NONCE " %zu>",
	    (int)(size - cut), data + cut, text, len);
	if (n == -1)
		abort();
	if (memmem(data + cut, size - cut, "<gfs-", 5) == NULL) {
		error = script_unwrap(
		    output, n, NONCE, 1 << 20, &payload, &out_len);
		if (cut >= 2 && data[0] == 0x1f && data[1] == 0x8b)
			;
		else if (error != 0 || out_len != cut ||
		    memcmp(payload, data, cut) != 0)
			abort();
		free(payload);
	}
	free(text);
	free(output);
}

static void
fuzz_plain(const unsigned char *data, size_t size)
{
	size_t out_len;
	char *output = NULL, *payload;
	int n;

	/* What is not trimmed, and is not a mark. */
	if (size == 0 || memchr(data, '\r', size) != NULL ||
	    memchr(data, '\0', size) != NULL ||
	    strchr(" \t\n\v\f", data[size - 1]) != NULL ||
	    memmem(data, size, "<gfs-", 5) != NULL)
		return;
	n = asprintf(&output,
	    "\n<gfs-begin " NONCE "\r\n=%.*s\r\n<gfs-end " NONCE " %zu>",
	    (int)size, data, size);
	if (n == -1 ||
	    script_unwrap(output, n, NONCE, 1 << 20, &payload, &out_len) != 0 ||
	    out_len != size || memcmp(payload, data, size) != 0)
		abort();
	free(payload);
	/* Any byte less, and it is not whole. */
	if (script_unwrap(
		output + 1, n - 2, NONCE, 1 << 20, &payload, &out_len) == 0)
		abort();
	free(output);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	char *output, *payload;
	size_t len;

	if (size == 0)
		return 0;
	if (data[0] % 4 != 1) {
		(data[0] % 4 == 3 ? fuzz_plain : fuzz_frame)(
		    data + 1, size - 1);
		return 0;
	}
	if ((output = malloc(size)) == NULL)
		return 0;
	memcpy(output, data + 1, size - 1);
	if (script_unwrap(output, size - 1, NONCE, 4096, &payload, &len) == 0 &&
	    (len > 4096 || payload[len] != '\0'))
		abort();
	free(payload);
	free(output);
	return 0;
}
