#include "room/clock.h"

/*
 * A file system's times may be so coarse; and a clock that only seems to go
 * back is not put back.
 */
#define CLOCK_COARSE 100000000

/* What is so much ahead was not made just now. */
#define CLOCK_BELIEVED 2000000000

void
vm_clock_note(struct vm_clock *c, int64_t there, int64_t began, int64_t ended,
    bool within)
{
	int64_t least, most;

	/* Nobody's clock is there. */
	if (there < 0 || there > INT64_MAX / 2 || ended < began)
		return;
	least = there - ended;
	most = there - began;
	if (!within) {
		if (c->known && least > c->offset &&
		    least - c->offset < CLOCK_BELIEVED)
			c->offset = least;
		return;
	}
	/* It went forward, was slower than ours, or was put back. */
	if (!c->known || least > c->offset || c->offset > most + CLOCK_COARSE)
		c->offset = least;
	c->known = true;
}

int64_t
vm_clock_now(const struct vm_clock *c, int64_t ours, int64_t fallback)
{
	return c->known ? ours + c->offset : fallback;
}
