#include <stdlib.h>

#include "store_impl.h"

/*
 * A program that reads a large file here and there waits a round trip for each
 * block.  Once it has waited for half as long as all of the rest would take to
 * come, the rest is fetched beside, for as long as the program goes on: it
 * then never waits three times as long as if we had known.  What all of it
 * takes, one piece shows; a slow one may have been chance, and is tried again.
 */

#define FILL_PIECE ((uint64_t)4 * 1024 * 1024)
#define FILL_JOBS  4 /* at once: connections are left for the reader */
#define FILL_WAITS 8 /* so few reads mean nothing, */
#define FILL_LOST  500 /* nor so few milliseconds, */
#define FILL_TRIP  10 /* nor round trips so short (ms) */
#define FILL_PAUSE 1000 /* ms: then nobody reads any more */

/* How long the rest would take, if a piece takes so long; in milliseconds. */
static uint64_t
fill_estimate(const struct blob *b, uint64_t piece_ms)
{
	uint64_t rest = b->version.size - intervals_bytes(&b->present);
	uint64_t pieces = rest / FILL_PIECE + 1, trips, moving = 0;

	/* Several at once share the round trips, but not the bandwidth. */
	trips = pieces * piece_ms / FILL_JOBS;
	if (piece_ms > b->fill.trip_ms)
		moving = pieces * (piece_ms - b->fill.trip_ms);
	return trips > moving ? trips : moving;
}

/* How many pieces may be on their way. */
static unsigned
fill_may(struct blob *b)
{
	struct fill *f = &b->fill;
	struct store *s = b->store;
	uint64_t estimate;

	if (f->until != 0)
		return room_now() < f->until ? FILL_JOBS : 0;
	if (s->broken || b->version.size > s->limit / 2 ||
	    !room_has_raw(s->room) || f->waits < FILL_WAITS ||
	    f->lost_ms < FILL_LOST || f->trip_ms < FILL_TRIP)
		return 0;
	estimate = fill_estimate(b, f->piece_ms);
	if (f->piece_ms != 0 && f->lost_ms * 2 >= estimate) {
		f->until = room_now() + estimate * 2;
		return FILL_JOBS;
	}
	/* See how long one takes, if that could be short enough. */
	return f->lost_ms >= f->next_ms &&
	    f->lost_ms * 2 >= fill_estimate(b, f->trip_ms);
}

/* The first bytes that neither are here nor on their way. */
static bool
fill_next(const struct blob *b, struct interval *piece)
{
	uint64_t at, size = b->version.size;
	struct interval gap;
	struct fetch *f;

	for (at = 0; intervals_first_gap(&b->present, at, size, &gap);) {
		if ((f = blob_find_fetch(b, gap.start)) == NULL) {
			piece->start = gap.start;
			piece->end = size - gap.start < FILL_PIECE
			    ? size
			    : gap.start + FILL_PIECE;
			return true;
		}
		at = f->offset + f->len;
	}
	return false;
}

void
fill_go_on(struct blob *b, const char *path, const struct attr *attr)
{
	struct fill *f = &b->fill;
	struct interval piece;
	struct fetch *fetch;

	while (b->stream == NULL && f->jobs < fill_may(b)) {
		if (stream_start(b, path, attr, 0) || !fill_next(b, &piece) ||
		    fetch_start(b, path, attr, &piece, &fetch) != 0)
			return;
		fetch->fill = true;
		f->jobs++;
		/* Not before we unlock does it run to its end. */
		job_put(&fetch->job);
	}
}

void
fill_waited(struct blob *b, uint64_t ms, bool trip)
{
	struct fill *f = &b->fill;

	f->read_at = room_now();
	f->lost_ms += ms;
	f->waits++;
	if (trip && (f->trip_ms == 0 || ms < f->trip_ms))
		f->trip_ms = ms;
}

void
fill_came(struct fetch *fetch)
{
	struct blob *b = fetch->blob;
	struct fill *f = &b->fill;
	uint64_t took = room_now() - fetch->began + 1;

	f->jobs--;
	if (fetch->error != 0 || !fetch->stored) {
		f->until = 1; /* never again */
		return;
	}
	if (f->piece_ms == 0 || took < f->piece_ms)
		f->piece_ms = took;
	f->next_ms = f->lost_ms * 3 / 2;
	if (room_now() - f->read_at < FILL_PAUSE)
		fill_go_on(b, fetch->path, &fetch->attr);
}
