#ifndef KERNEL_CONTROL_LAST_H
#define KERNEL_CONTROL_LAST_H

#include <stddef.h>
#include <sys/queue.h>

/* What a finished command left to be read. Immutable; counted. */
struct result {
	unsigned refs; /* under control->lock */
	int error; /* of close(); 0 or -errno */
	char *text, *json;
	size_t text_len, json_len;
};

/*
 * The last results of all control files with an id: of a few hundred, the
 * latest.  All with the lock of struct control held.
 */
struct last;
TAILQ_HEAD(lasts, last);

void result_put(struct result *); /* NULL: nothing */
/* Not held for the caller; NULL: there is none. */
struct result *lasts_find(struct lasts *, const char *dir, const char *id);
/* Without memory the old one stays. */
void lasts_set(
    struct lasts *, const char *dir, const char *id, struct result *);
void lasts_free(struct lasts *);

#endif
