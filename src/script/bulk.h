#ifndef SCRIPT_BULK_H
#define SCRIPT_BULK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "script/script.h"

/* Many small files with one command (vm/bulk.sh).  Pure. */

struct bulk_file {
	bool good; /* it did not change while it was read */
	struct attr attr;
	const char *data; /* attr.size bytes inside the payload */
};

/* malloc'ed, NULL: no memory, or longer than SCRIPT_MAX without its programs.
 */
char *script_compose_bulk(enum script_tools, const char *nonce,
    const char *const *paths, size_t n, size_t *len);

/* How much a path adds to the command, at most. */
size_t script_bulk_size(const char *path);

/* out: n files.  0 or -EPROTO. */
int script_parse_bulk(const char *payload, size_t len, const char *const *paths,
    size_t n, struct bulk_file *out);

#endif
