/*
 * script_unwrap(): any output, and a true frame with noise around it, of
 * which the payload must come back.  The first byte chooses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "script.h"

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

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	char *output, *payload;
	size_t len;

	if (size == 0)
		return 0;
	if (data[0] % 2 == 0) {
		fuzz_frame(data + 1, size - 1);
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
