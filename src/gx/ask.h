#ifndef ASK_H
#define ASK_H

#include "call.h"
#include "text.h"

/* What a request of ours came to. */
struct reply {
	struct answer answer;
	char *body; /* what is between the marks, in answer */
	char why[PLACE_WHY];
	bool final; /* asking again is of no use */
	bool vm_gone;
	bool not_run; /* certainly */
};

void reply_free(struct reply *);

/*
 * The answer of a call that is done.  0; -EAGAIN: it was cut; else it failed,
 * and r->why tells the user why.
 */
int reply_take(
    struct reply *, struct call *, const struct place *, const char *nonce);

/* Ask the VM, from the mount's root, and complain.  0, or gx's exit code. */
int ask_once(const struct place *, const struct text *, const char *nonce,
    struct reply *);

#endif
