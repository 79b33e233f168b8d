#include <stdlib.h>
#include <string.h>

#include "store/store_impl.h"

/*
 * A program that reads a large file here and there waits a round trip for each
 * block.  Once it has waited for half as long as all of the rest would take to
 * come, the rest is fetched beside, a few pieces with each read: so at worst it
 * waits some three times as long as if we had known.  What the rest takes, a
 * piece of it shows; a slow one may have been chance, and is tried again with
 * a larger one.
 */

#define FILL_MIB   ((uint64_t)1024 * 1024)
#define FILL_TRIAL (1 * FILL_MIB)
#define FILL_PIECE (4 * FILL_MIB)
#define FILL_JOBS  4 /* at once, of all files */
#define FILL_WAITS 8 /* so few reads mean nothing, */
#define FILL_LOST  500 /* nor so few milliseconds, */
#define FILL_TRIP  10 /* nor round trips so short (ms) */
#define FILL_SLOW  500 /* ms for a MiB: then a small trial does */

static unsigned
fill_jobs(struct store *s)
{
	unsigned spare = room_spare_connections(s->room);

	return spare < FILL_JOBS ? spare : FILL_JOBS;
}

/* How long the rest would take, if a MiB takes so long besides the round trip;
 * in milliseconds. */
static uint64_t
fill_estimate(const struct blob *b, uint64_t rest, uint64_t mib_ms)
{
	uint64_t moving = rest / FILL_MIB * mib_ms;
	uint64_t trips = (rest / FILL_PIECE + 1) * b->fill.trip_ms;

	/* Several at once save round trips, but perhaps no bandwidth. */
	trips = (trips + moving) / fill_jobs(b->store);
	return trips > moving ? trips : moving;
}

/* How large a piece may be asked for now?  0: none. */
static uint64_t
fill_may(struct blob *b)
{
	struct fill *f = &b->fill;
	struct store *s = b->store;
	uint64_t here, rest, estimate;

	if (f->off || s->broken || b->version.size > s->limit / 2 ||
	    f->waits < FILL_WAITS || f->lost_ms < FILL_LOST ||
	    f->trip_ms < FILL_TRIP || s->fills >= fill_jobs(s) ||
	    !room_has_ranges(s->room))
		return 0;
	here = intervals_bytes(&b->present);
	rest = b->version.size - here;
	if (here < f->here) {
		f->off = true; /* the cache had to let go of it */
		return 0;
	}
	f->here = here;
	if (f->until != 0) {
		if (room_now() < f->until)
			return FILL_PIECE;
		/* That was wrong: count anew. */
		memset(f, 0, sizeof *f);
		return 0;
	}
	if (f->tried) {
		estimate = fill_estimate(b, rest, f->mib_ms);
		if (f->lost_ms * 2 >= estimate) {
			f->until = room_now() + estimate * 2;
			return FILL_PIECE;
		}
	}
	/* See how long it takes, if that could be short enough. */
	if (f->trial != NULL || f->lost_ms < f->next_ms ||
	    f->lost_ms * 2 < fill_estimate(b, rest, 0))
		return 0;
	return f->tried && f->mib_ms < FILL_SLOW ? FILL_PIECE : FILL_TRIAL;
}

void
fill_go_on(struct blob *b, const char *path, const struct attr *attr)
{
	uint64_t len, size = b->version.size;
	struct fill *f = &b->fill;
	struct interval piece;
	struct fetch *fetch;

	/* A file without a name can't be asked for. */
	while (*path != '\0' && (len = fill_may(b)) > 0 &&
	    blob_next_gap(b, 0, size, &piece)) {
		piece.start = piece.start / STORE_BLOCK * STORE_BLOCK;
		piece.end = size - piece.start < len ? size : piece.start + len;
		if (fetch_start(b, path, attr, &piece, &fetch) != 0)
			return;
		fetch->fill = true;
		b->store->fills++;
		if (f->until == 0)
			f->trial = fetch;
		job_put(&fetch->job); /* it can't end before we unlock */
	}
}

void
fill_waited(struct blob *b, uint64_t since, bool trip)
{
	struct fill *f = &b->fill;
	uint64_t now = room_now();

	if (trip && (f->trip_ms == 0 || now - since < f->trip_ms))
		f->trip_ms = now - since;
	/* Several who waited at the same time lost it once. */
	f->lost_ms += now - (since > f->read_at ? since : f->read_at);
	f->read_at = now;
	f->waits++;
}

void
fill_came(struct fetch *fetch)
{
	struct fill *f = &fetch->blob->fill;
	uint64_t took = room_now() - fetch->began, mib_ms;

	fetch->blob->store->fills--;
	if (fetch->error != 0) {
		memset(f, 0, sizeof *f); /* not now: count anew */
		return;
	}
	if (!fetch->stored)
		f->off = true;
	if (f->trial != fetch)
		return;
	f->trial = NULL;
	f->next_ms = f->lost_ms * 5 / 4;
	mib_ms = took > f->trip_ms ? took - f->trip_ms : 0;
	mib_ms = mib_ms * FILL_MIB / fetch->len;
	if (!f->tried || mib_ms < f->mib_ms) {
		f->mib_ms = mib_ms;
		f->tried = true;
	}
}
