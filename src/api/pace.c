#include <stdbool.h>

#include "api/pace.h"
#include "api/retry.h"

enum {
	PACE_GAP_FIRST_MS = 50,
	PACE_GAP_MAX_MS = 2000,
	PACE_GAP_NONE_MS = 4, /* below that there is no gap any more */
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

void
api_pace_answer(struct api_pace *pace, uint64_t now, uint64_t began,
    long status, unsigned retry_after_s, unsigned random)
{
	/* What went before the slow-down says nothing about the new pace. */
	bool stale = began < pace->struck;
	uint64_t until;

	if (status != 429 && !(status == 503 && retry_after_s > 0)) {
		if (stale || status >= 500)
			return;
		pace->strikes = 0;
		pace->gap_ms -= pace->gap_ms / 8;
		if (pace->gap_ms < 8)
			pace->gap_ms = pace->gap_ms > PACE_GAP_NONE_MS
			    ? pace->gap_ms - 1
			    : 0;
		return;
	}
	if (!stale) {
		pace->strikes++;
		pace->struck = now;
		pace->gap_ms =
		    pace->gap_ms == 0 ? PACE_GAP_FIRST_MS : pace->gap_ms * 2;
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
