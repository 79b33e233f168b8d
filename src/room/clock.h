#ifndef ROOM_CLOCK_H
#define ROOM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What time it is in the VM, as far as its answers tell.  Pure; times are
 * nanoseconds, the VM's since 1970, ours of a clock that does not jump.
 *
 * The answer is never later than it is there, and never earlier than anything
 * that an answer has shown: what is done here and gets its time from this
 * stands, by its time, between what the VM did before and does after.
 */
struct vm_clock {
	bool known;
	int64_t offset; /* to be added to ours */
};

/* An answer that was asked for at `began` and came at `ended` shows that it was
 * `there` in the VM, or later.  within: it was so in between. */
void vm_clock_note(struct vm_clock *, int64_t there, int64_t began,
    int64_t ended, bool within);

/* fallback: as long as nothing is known. */
int64_t vm_clock_now(const struct vm_clock *, int64_t ours, int64_t fallback);

#endif
