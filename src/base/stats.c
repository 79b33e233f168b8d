#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "base/stats.h"

struct stats_transfer {
	TAILQ_ENTRY(stats_transfer) link;
	unsigned refs;
	bool upload;
	uint64_t done, total, began_us;
	char path[];
};

/* What happened in one second, for the recent rates. */
struct second {
	uint64_t at, requests, out, in;
};

struct stats {
	pthread_mutex_t lock; /* innermost; guards all below */
	uint64_t began_us;
	struct stats_kind_count kinds[STATS_KINDS];
	uint64_t given_up;
	struct {
		uint64_t hits, misses, bytes;
	} caches[STATS_CACHES];
	struct second seconds[STATS_RECENT_S + 1];
	TAILQ_HEAD(, stats_transfer) transfers;
};

/* --- histograms ------------------------------------------------------------
 */

/* 0 to 3 have buckets of their own; then four to each power of 2. */
static unsigned
bucket_of(uint64_t us)
{
	unsigned octave, bucket;

	if (us < 4)
		return (unsigned)us;
	octave = 63 - (unsigned)__builtin_clzll(us);
	bucket = 4 * (octave - 1) + (unsigned)(us >> (octave - 2) & 3);
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The largest value that falls into it. */
static uint64_t
bucket_end(unsigned bucket)
{
	if (bucket < 4)
		return bucket;
	return (((uint64_t)4 + bucket % 4 + 1) << (bucket / 4 - 1)) - 1;
}

void
histogram_add(struct histogram *h, uint64_t us)
{
	h->count++;
	h->sum_us += us;
	if (us > h->max_us)
		h->max_us = us;
	h->buckets[bucket_of(us)]++;
}

void
histogram_merge(struct histogram *to, const struct histogram *from)
{
	to->count += from->count;
	to->sum_us += from->sum_us;
	if (from->max_us > to->max_us)
		to->max_us = from->max_us;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

uint64_t
histogram_percentile(const struct histogram *h, double share)
{
	uint64_t wanted, seen = 0, end;

	if (h->count == 0)
		return 0;
	wanted = (uint64_t)(share * (double)h->count);
	if ((double)wanted < share * (double)h->count)
		wanted++;
	if (wanted == 0)
		wanted = 1;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen < wanted)
			continue;
		end = bucket_end(i);
		return end < h->max_us && i < HISTOGRAM_BUCKETS - 1 ? end
								    : h->max_us;
	}
	return h->max_us;
}

uint64_t
histogram_below(const struct histogram *h, unsigned octave)
{
	unsigned end = octave < 2 ? 1u << octave : 4 * (octave - 1);
	uint64_t n = 0;

	for (unsigned i = 0; i < end && i < HISTOGRAM_BUCKETS; i++)
		n += h->buckets[i];
	return n;
}

/* --- counting --------------------------------------------------------------
 */

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int
stats_open(struct stats **out)
{
	struct stats *s;

	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	TAILQ_INIT(&s->transfers);
	s->began_us = now_us();
	*out = s;
	return 0;
}

void
stats_close(struct stats *s)
{
	struct stats_transfer *t;

	if (s == NULL)
		return;
	while ((t = TAILQ_FIRST(&s->transfers)) != NULL) {
		TAILQ_REMOVE(&s->transfers, t, link);
		free(t);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void
stats_begin(struct stats *s, enum stats_kind kind)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->kinds[kind].under_way++;
	pthread_mutex_unlock(&s->lock);
}

/* The slot of this second, emptied when it was another's. */
static struct second *
this_second(struct stats *s)
{
	uint64_t now = now_us() / 1000000;
	struct second *slot = &s->seconds[now % (STATS_RECENT_S + 1)];

	if (slot->at != now)
		*slot = (struct second){.at = now};
	return slot;
}

void
stats_end(struct stats *s, const struct stats_request *req)
{
	struct stats_kind_count *kind;
	struct second *slot;

	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	kind = &s->kinds[req->kind];
	kind->under_way--;
	kind->requests++;
	kind->retries += req->again;
	kind->errors += req->failed;
	kind->out += req->out;
	kind->in += req->in;
	histogram_add(&kind->latency, req->us);
	slot = this_second(s);
	slot->requests++;
	slot->out += req->out;
	slot->in += req->in;
	pthread_mutex_unlock(&s->lock);
}

void
stats_give_up(struct stats *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->given_up++;
	pthread_mutex_unlock(&s->lock);
}

void
stats_look(struct stats *s, enum stats_cache cache, bool hit, uint64_t bytes)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	if (hit) {
		s->caches[cache].hits++;
		s->caches[cache].bytes += bytes;
	} else
		s->caches[cache].misses++;
	pthread_mutex_unlock(&s->lock);
}

/* --- transfers -------------------------------------------------------------
 */

struct stats_transfer *
stats_transfer_begin(
    struct stats *s, bool upload, const char *path, uint64_t total)
{
	struct stats_transfer *t, *found = NULL;
	size_t size = strlen(path) + 1;

	if (s == NULL || (t = calloc(1, sizeof *t + size)) == NULL)
		return NULL;
	memcpy(t->path, path, size);
	t->upload = upload;
	t->total = total;
	t->began_us = now_us();
	t->refs = 1;
	pthread_mutex_lock(&s->lock);
	TAILQ_FOREACH (found, &s->transfers, link)
		if (found->upload == upload && found->total == total &&
		    strcmp(found->path, path) == 0)
			break;
	if (found != NULL)
		found->refs++;
	else
		TAILQ_INSERT_TAIL(&s->transfers, t, link);
	pthread_mutex_unlock(&s->lock);
	if (found == NULL)
		return t;
	free(t);
	return found;
}

void
stats_transfer_set(struct stats *s, struct stats_transfer *t, uint64_t done)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	t->done = done < t->total ? done : t->total;
	pthread_mutex_unlock(&s->lock);
}

void
stats_transfer_add(struct stats *s, struct stats_transfer *t, uint64_t more)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	t->done = more < t->total - t->done ? t->done + more : t->total;
	pthread_mutex_unlock(&s->lock);
}

void
stats_transfer_end(struct stats *s, struct stats_transfer *t)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	if (--t->refs == 0)
		TAILQ_REMOVE(&s->transfers, t, link);
	else
		t = NULL;
	pthread_mutex_unlock(&s->lock);
	free(t);
}

/* --- looking ---------------------------------------------------------------
 */

int
stats_take(struct stats *s, struct stats_snapshot *out)
{
	uint64_t now = now_us(), second = now / 1000000;
	struct stats_transfer *t;
	struct stats_progress *p;
	int error = 0;

	*out = (struct stats_snapshot){0};
	pthread_mutex_lock(&s->lock);
	out->us = now - s->began_us;
	memcpy(out->kinds, s->kinds, sizeof out->kinds);
	out->given_up = s->given_up;
	for (int i = 0; i < STATS_CACHES; i++) {
		out->caches[i].hits = s->caches[i].hits;
		out->caches[i].misses = s->caches[i].misses;
		out->caches[i].bytes = s->caches[i].bytes;
	}
	/* Whole seconds only, or the newest would count for too little. */
	for (int i = 0; i <= STATS_RECENT_S; i++)
		if (s->seconds[i].at < second &&
		    s->seconds[i].at + STATS_RECENT_S >= second) {
			out->recent.requests += s->seconds[i].requests;
			out->recent.out += s->seconds[i].out;
			out->recent.in += s->seconds[i].in;
		}
	TAILQ_FOREACH (t, &s->transfers, link) {
		if (out->transfers++ >= STATS_TRANSFERS)
			continue;
		p = &out->progress[out->shown];
		if ((p->path = strdup(t->path)) == NULL) {
			error = -ENOMEM;
			break;
		}
		out->shown++;
		p->upload = t->upload;
		p->done = t->done;
		p->total = t->total;
		p->us = now > t->began_us ? now - t->began_us : 0;
	}
	pthread_mutex_unlock(&s->lock);
	if (error != 0)
		stats_snapshot_free(out);
	return error;
}

void
stats_snapshot_free(struct stats_snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->shown; i++)
		free(snapshot->progress[i].path);
	*snapshot = (struct stats_snapshot){0};
}

const char *
stats_kind_name(enum stats_kind kind)
{
	static const char *const names[STATS_KINDS] = {
	    [STATS_METADATA] = "metadata",
	    [STATS_CONTENTS] = "contents",
	    [STATS_CHANGE] = "change",
	    [STATS_UPLOAD] = "upload",
	    [STATS_EXEC] = "exec",
	    [STATS_FILE] = "file",
	    [STATS_RAW] = "raw",
	    [STATS_CREATE] = "create",
	};

	return names[kind];
}
