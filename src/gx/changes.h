#ifndef CHANGES_H
#define CHANGES_H

#include <stdio.h>

#include "answer.h"

/* What some answers say of changed files, each file once; nothing of ours. */
struct changes {
	struct change *list;
	size_t count, size;
};

/* Without memory some are missing. */
void changes_add(struct changes *, const struct answer *);
/* One line each, as .exec has them. */
void changes_print(const struct changes *, FILE *);
/* As a JSON array. */
void changes_write_json(const struct changes *, FILE *);
void changes_free(struct changes *);

#endif
