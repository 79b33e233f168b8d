#ifndef BASE_INTERVAL_H
#define BASE_INTERVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A set of bytes of a file, as disjoint, sorted, never touching intervals
 * [start, end).  Pure; no locking.  A zeroed struct is the empty set.
 */
struct interval {
	uint64_t start, end;
};

struct intervals {
	struct interval *v; /* owned */
	size_t count, room;
	uint64_t bytes; /* in all of them */
};

void intervals_free(struct intervals *);

/* 0 or -ENOMEM, the set unchanged then.  What cuts off the end of the set needs
 * no memory. */
int intervals_add(struct intervals *, uint64_t start, uint64_t end);
int intervals_remove(struct intervals *, uint64_t start, uint64_t end);

/* Room for one more: the next call that adds or removes needs no memory. */
int intervals_reserve(struct intervals *);

/* Are all of [start, end) in the set?  The empty interval is. */
bool intervals_cover(const struct intervals *, uint64_t start, uint64_t end);

/* The first maximal interval outside the set within [start, end). */
bool intervals_first_gap(const struct intervals *, uint64_t start, uint64_t end,
    struct interval *gap);

/* The first maximal interval of the set within [start, end). */
bool intervals_first(const struct intervals *, uint64_t start, uint64_t end,
    struct interval *out);

uint64_t intervals_bytes(const struct intervals *);

#endif
