#ifndef API_PACE_H
#define API_PACE_H

#include <stdint.h>

/*
 * How fast all requests of a mount may go together.  Pure: the caller has the
 * lock and the clock (monotonic milliseconds).  "Too many requests" closes the
 * gate for everybody; afterwards they go one by one, with a gap that shrinks
 * with every answer that is none.  Zero-initialised: no limit.
 */
struct api_pace {
	uint64_t hold_until;
	uint64_t next; /* when the gap after the last request is over */
	uint64_t struck; /* when the last slow-down began */
	unsigned gap_ms;
	unsigned strikes; /* slow-downs in a row */
};

/* When a request may go at the earliest: now, or later. */
uint64_t api_pace_when(const struct api_pace *, uint64_t now);

/* A request goes now. */
void api_pace_take(struct api_pace *, uint64_t now);

/* An answer came to a request that went at `began`. */
void api_pace_answer(struct api_pace *, uint64_t now, uint64_t began,
    long status, unsigned retry_after_s, unsigned random);

#endif
