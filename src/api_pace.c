#include <stdbool.h>

#include "api_pace.h"
#include "retry.h"

enum {
	PACE_GAP_FIRST_MS = 50,
	PACE_GAP_MAX_MS = 2000,
	PACE_GAP_NONE_MS = 4, /* below that there is no gap any more */
	PACE_SHORT_MS = 10000, /* how long a gap counts as too short */
	PACE_HOLD_MAX_S = 3600, /* a longer Retry-After is a mistake */
	PACE_JITTER_MS = 100
};

uint64_t
api_pace_when(const struct api_pace *pace, uint64_t now)
{
	uint64_t when = now;

	if (pace->hold_until > when)
		when = pace->hold_until;
	if (pace->gap_ms > 0 && pace->next > when)
		when = pace->next;
	return when;
}

void
api_pace_take(struct api_pace *pace, uint64_t now)
{
	pace->next = now + pace->gap_ms;
}

/* The gap after one more good answer. */
static unsigned
pace_shrink(const struct api_pace *pace, uint64_t now)
{
	unsigned gap = pace->gap_ms, part = 8;

	if (gap <= pace->short_ms + pace->short_ms / 4 &&
	    now - pace->struck < PACE_SHORT_MS)
		part = 64;
	if (gap >= part)
		return gap - gap / part;
	return gap > PACE_GAP_NONE_MS ? gap - 1 : 0;
}

/*
 * What gap was too short?  A service that lets some go at once and then counts
 * bears short gaps for a while: so it is no shorter than what it has borne on
 * the whole since the last slow-down.
 */
static unsigned
pace_too_short(const struct api_pace *pace, uint64_t now)
{
	uint64_t since = now - pace->struck;
	unsigned mean = 0, most = pace->gap_ms * 4;

	if (most < PACE_GAP_FIRST_MS * 4)
		most = PACE_GAP_FIRST_MS * 4;
	if (pace->struck != 0 && since < PACE_SHORT_MS && pace->good > 0)
		mean = (unsigned)(since / pace->good);
	if (mean > most) /* nothing was wanted for a while */
		mean = most;
	return mean > pace->gap_ms ? mean : pace->gap_ms;
}

void
api_pace_answer(struct api_pace *pace, uint64_t now, uint64_t began,
    long status, unsigned retry_after_s, unsigned random)
{
	/* What went before the slow-down says nothing about the new pace. */
	bool stale = began < pace->struck;
	uint64_t until;

	if (status != 429 && !(status == 503 && retry_after_s > 0)) {
		if (status >= 500)
			return;
		pace->good++;
		if (stale)
			return;
		pace->strikes = 0;
		pace->gap_ms = pace_shrink(pace, now);
		return;
	}
	if (!stale) {
		pace->short_ms = pace_too_short(pace, now);
		pace->gap_ms = pace->short_ms == 0 ? PACE_GAP_FIRST_MS
						   : pace->short_ms * 3 / 2;
		pace->strikes++;
		pace->good = 0;
		pace->struck = now;
		if (pace->gap_ms > PACE_GAP_MAX_MS)
			pace->gap_ms = PACE_GAP_MAX_MS;
	}
	if (retry_after_s > PACE_HOLD_MAX_S)
		retry_after_s = PACE_HOLD_MAX_S;
	until = now +
	    (retry_after_s > 0 ? retry_after_s * 1000u + random % PACE_JITTER_MS
			       : retry_backoff_ms(pace->strikes, random));
	if (until > pace->hold_until)
		pace->hold_until = until;
}
