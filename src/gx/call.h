#ifndef CALL_H
#define CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "answer.h"
#include "place.h"

/*
 * One exchange with the control file: a command in, its answer out.  A child
 * process waits for it, deaf to the terminal's signals, so that Ctrl-C and
 * Ctrl-Z are for us to decide about, and a wait can be given up at any time.
 */
#define CALL_MAX 4 /* at the same time */

struct call {
	pid_t pid; /* 0: none */
	int fd;
	char *data;
	size_t len, size;
	bool done;
};

/* Signals that end a wait: from now on they come by call_wait() only.  With a
 * terminal in the VM its size is followed, too. */
void call_catch_signals(bool terminal);
/* As they were before. */
void call_release_signals(void);

/* dir: where the control file is.  0 or -errno. */
int call_start(struct call *, const struct place *, int dir,
    const char *command, size_t len);
/*
 * Wait until the call (which may be NULL) is done, or for so many
 * milliseconds, -1: for ever.  1 when it is done, 0 when the time is over,
 * -EINTR: a signal came, which is in *signal.
 */
int call_wait(struct call *, int timeout, int *signal);
/*
 * The same for several calls, those with a pid and not done, and a descriptor
 * that can be read, -1: none.  Also 1 when the terminal has another size.
 */
int call_wait_any(struct call *const *, size_t n, int fd, bool *readable,
    int timeout, int *signal);
/* Since it was asked last. */
bool call_resized(void);
/* As call_wait(), until bytes can be written there. */
int call_wait_output(int fd, int *signal);
/* Take the answer of a call that is done.  0, or -errno with why. */
int call_finish(
    struct call *, const struct place *, struct answer *, char why[PLACE_WHY]);
/* Give it up, if there is one: what was sent may go on in the VM. */
void call_abandon(struct call *);

#endif
