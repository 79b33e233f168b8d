#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/base64.h"

/*
 * Text or base64: the first byte chooses the size that the file is said to
 * have; a result has exactly that size, and what was encoded comes back.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
copy_of(const void *data, size_t size)
{
	char *copy = malloc(size + 1);

	assert(copy != NULL);
	memcpy(copy, data, size);
	copy[size] = '\0';
	return copy;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *content, *encoded;
	uint64_t wanted;
	size_t len;

	if (size < 1)
		return 0;
	wanted = data[0];
	data++;
	size--;
	if (wanted == 255)
		wanted = UINT64_MAX;
	else if (wanted > 128)
		wanted = size * 3 / 4 - (wanted - 129) % 4;

	content = copy_of(data, size);
	len = size;
	if (api_decode_content(content, &len, wanted) == 0)
		assert(len == wanted && content[len] == '\0');
	free(content);

	content = copy_of(data, size);
	len = size;
	assert(api_decode_content(content, &len, size) == 0);
	assert(len == size && memcmp(content, data, size) == 0);
	free(content);

	encoded = base64_encode(data, size, &len);
	assert(encoded != NULL);
	assert(api_decode_content(encoded, &len, size) == 0);
	assert(len == size && memcmp(encoded, data, size) == 0);
	free(encoded);
	return 0;
}
