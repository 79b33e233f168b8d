#ifndef SCRIPT_RECORD_H
#define SCRIPT_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/*
 * One record of what vm/record_gnu.sh ('G') and vm/record_busybox.sh ('B')
 * print of a file, taken apart.  Part of listing.c's work; pure.
 */
struct record {
	const char *path; /* below the listed directory, "" for itself; or
			   * the item's path.  All inside the payload, */
	const char *target; /* and not ended by a NUL */
	size_t path_len, target_len;
	size_t name; /* where the last component begins */
	size_t order;
	struct attr attr;
	bool shut; /* a directory that was not looked into */
};

/* What is left to parse. */
struct cursor {
	const char *p, *end;
};

/*
 * Take one record off the front.  path: what it is named (records of s in
 * vm/list.sh), or NULL: it is named by its path below "." (records of l),
 * which is checked.  0 or -EPROTO.
 */
int record_parse(struct cursor *, char form, const char *path, struct record *);

/* Where the name begins in the next record, or NULL. */
const char *record_peek_name(const struct cursor *, char form);

/*
 * The part of the text that records of this form can be in: what comes after
 * them begins with '#' and ends with a NUL.  Take them off while some are
 * left; where the part's p is then, the rest goes on.
 */
struct cursor cursor_records(const struct cursor *, char form);
bool cursor_records_left(const struct cursor *, char form);

/* Text up to the next NUL; both are taken.  False when there is none. */
bool cursor_get_text(struct cursor *, const char **text, size_t *len);

/* A decimal number that is at most max. */
bool cursor_get_number(struct cursor *, uint64_t max, uint64_t *);
bool cursor_get_char(struct cursor *, char);

#endif
