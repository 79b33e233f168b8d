#ifndef BASE_CANCEL_H
#define BASE_CANCEL_H

#include <stdatomic.h>
#include <stdbool.h>

/*
 * A mark on work that nobody may want any more.  Whoever does the work looks
 * at it before each step that takes more than some milliseconds, and ends with
 * -ECANCELED once it is set; until the step after which there is no way back,
 * which is committed to.  A zeroed one is open; NULL is never set.
 */
enum cancel_state { CANCEL_OPEN, CANCEL_SET, CANCEL_COMMITTED };

struct cancel {
	atomic_int state; /* enum cancel_state */
};

/* False: the work is past that. */
static inline bool
cancel_set(struct cancel *c)
{
	int then = CANCEL_OPEN;

	return atomic_compare_exchange_strong(&c->state, &then, CANCEL_SET) ||
	    then == CANCEL_SET;
}

static inline bool
cancel_is_set(const struct cancel *c)
{
	return c != NULL && atomic_load(&c->state) == CANCEL_SET;
}

/* False: it is set. */
static inline bool
cancel_commit(struct cancel *c)
{
	int then = CANCEL_OPEN;

	return c == NULL ||
	    atomic_compare_exchange_strong(
		&c->state, &then, CANCEL_COMMITTED) ||
	    then == CANCEL_COMMITTED;
}

/* What was committed to did not happen. */
static inline void
cancel_reopen(struct cancel *c)
{
	int then = CANCEL_COMMITTED;

	atomic_compare_exchange_strong(&c->state, &then, CANCEL_OPEN);
}

#endif
