#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/store_impl.h"

/* How a blob's missing bytes are fetched: how many at once, and ahead. */

#define STORE_SMALL  ((uint64_t)1024 * 1024) /* is fetched whole */
#define STORE_PIECE  ((uint64_t)2 * 1024 * 1024) /* one request's share */
#define STORE_WINDOW ((uint64_t)24 * 1024 * 1024) /* read ahead at most */
/* So long (ms) after a read the reader is still there. */
#define STORE_READING 500

static void blob_go_ahead(
    struct blob *b, const char *path, const struct attr *attr);

bool
blob_put_bytes(struct blob *b, uint64_t offset, const void *data, size_t len)
{
	struct store *s = b->store;
	struct file *file;
	uint64_t base, before;
	bool stored = false;
	char why[128];
	ssize_t n;
	int error;

	/* Somebody else has brought it meanwhile. */
	if (intervals_cover(&b->present, offset, offset + len))
		return true;
	if (!store_make_room(s, b, len) ||
	    !store_place(s, b, offset == 0 && len == b->version.size))
		return false;
	file = b->file;
	base = b->base;
	file->refs++;
	s->used += len; /* before the lock is dropped: others see it */
	pthread_mutex_unlock(&s->lock);
	n = pwrite(file->fd, data, len, base + offset);
	error = errno;
	pthread_mutex_lock(&s->lock);
	s->used -= len;
	if (n == (ssize_t)len && b->file == file && b->base == base) {
		before = intervals_bytes(&b->present);
		if (intervals_add(&b->present, offset, offset + len) == 0) {
			if (!file->pack)
				s->used +=
				    intervals_bytes(&b->present) - before;
			stored = true;
		}
	} else if (n != (ssize_t)len && b->file == file) {
		snprintf(why, sizeof why, "cache: %s",
		    n == -1 ? strerror(error) : "short write");
		/* Only once, by the first of those who met it. */
		if (file->place == s->place && !s->broken)
			place_next(s, why);
		blob_empty(b);
	}
	file_put(file);
	return stored;
}

void
blob_came(struct blob *b, uint64_t began)
{
	if (b->parts++ == 0 || began < b->began)
		b->began = began;
	b->came = room_now();
}

bool
blob_is_doubtful(struct blob *b, uint64_t checked, unsigned ms, bool whole)
{
	struct store *s = b->store;
	bool doubtful;

	pthread_mutex_lock(&s->lock);
	doubtful = b->parts > 1 && b->came >= checked &&
	    b->came - b->began >= ms &&
	    (!whole || intervals_cover(&b->present, 0, b->version.size));
	pthread_mutex_unlock(&s->lock);
	return doubtful;
}

void
blob_forget(struct blob *b)
{
	struct store *s = b->store;

	pthread_mutex_lock(&s->lock);
	blob_empty(b);
	b->torn = true;
	pthread_mutex_unlock(&s->lock);
}

bool
blob_is_torn(struct blob *b)
{
	bool torn;

	pthread_mutex_lock(&b->store->lock);
	torn = b->torn;
	pthread_mutex_unlock(&b->store->lock);
	return torn;
}

static void
fetch_run(struct job *job)
{
	struct fetch *f = (struct fetch *)job;
	struct store *s = f->blob->store;
	struct stats *stats = room_stats(s->room);

	f->began = room_now();
	f->error = room_read(s->room, NULL, f->path, &f->attr, f->offset,
	    f->len, f->buf, &f->got);
	pthread_mutex_lock(&s->lock);
	if (f->error == 0 && f->got > 0) {
		f->stored = blob_put_bytes(f->blob, f->offset, f->buf, f->got);
		blob_came(f->blob, f->began);
	}
	stats_transfer_set(
	    stats, f->transfer, intervals_bytes(&f->blob->present));
	TAILQ_REMOVE(&f->blob->fetches, f, link);
	f->blob->aheads -= f->ahead;
	s->aheads -= f->ahead;
	/* The reader may wait for another, and his next read comes late. */
	if (f->ahead && f->error == 0 &&
	    room_now() < f->blob->read_at + STORE_READING)
		blob_go_ahead(f->blob, f->path, &f->attr);
	if (f->fill)
		fill_came(f);
	pthread_mutex_unlock(&s->lock);
	stats_transfer_end(stats, f->transfer);
}

static void
fetch_free(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	blob_put(f->blob);
	free(f->buf);
	free(f->path);
	free(f);
}

/* One more fetch of the blob, without what it takes to run; lock held. */
static struct fetch *
fetch_new(struct blob *b, const struct interval *what)
{
	struct fetch *f;

	if ((f = calloc(1, sizeof *f)) == NULL)
		return NULL;
	f->len = what->end - what->start;
	f->offset = what->start;
	f->blob = b;
	f->job.free = fetch_free;
	b->refs++;
	TAILQ_INSERT_TAIL(&b->fetches, f, link);
	job_init(b->store->pool, &f->job);
	return f;
}

/* It does not come about; the caller has the blob, too. */
static void
fetch_drop(struct fetch *f)
{
	TAILQ_REMOVE(&f->blob->fetches, f, link);
	f->blob->refs--;
	free(f->path);
	free(f->buf);
	free(f);
}

/* What the stream of the blob is to bring, with the lock held. */
static int
fetch_promise(struct blob *b, const struct interval *what, struct fetch **out)
{
	if ((*out = fetch_new(b, what)) == NULL)
		return -ENOMEM;
	job_hold(&(*out)->job); /* the stream's, until it has come */
	return 0;
}

int
fetch_start(struct blob *b, const char *path, const struct attr *attr,
    const struct interval *what, struct fetch **out)
{
	struct stats *stats = room_stats(b->store->room);
	struct fetch *f;
	int error;

	if ((f = fetch_new(b, what)) == NULL)
		return -ENOMEM;
	f->attr = *attr;
	f->path = strdup(path);
	f->buf = malloc(f->len + 1);
	f->job.run = fetch_run;
	if (f->path == NULL || f->buf == NULL) {
		fetch_drop(f);
		return -ENOMEM;
	}
	f->transfer = stats_transfer_begin(stats, false, path, b->version.size);
	if ((error = job_start(&f->job)) != 0) {
		stats_transfer_end(stats, f->transfer);
		fetch_drop(f);
		return error;
	}
	*out = f;
	return 0;
}

static struct fetch *
blob_find_fetch(const struct blob *b, uint64_t at)
{
	struct fetch *f;

	TAILQ_FOREACH (f, &b->fetches, link)
		if (f->offset <= at && at < f->offset + f->len)
			return f;
	return NULL;
}

bool
blob_next_gap(
    const struct blob *b, uint64_t at, uint64_t end, struct interval *gap)
{
	struct fetch *f;

	while (intervals_first_gap(&b->present, at, end, gap)) {
		if ((f = blob_find_fetch(b, gap->start)) == NULL)
			return true;
		at = f->offset + f->len;
	}
	return false;
}

/* How far around a missing byte to fetch. */
static void
blob_plan(struct blob *b, uint64_t offset, uint64_t end, struct interval *out)
{
	uint64_t size = b->version.size;

	/* What is not kept should not be more than is asked for. */
	if (size <= STORE_SMALL && !b->store->broken) {
		*out = (struct interval){0, size};
		return;
	}
	out->start = offset / STORE_BLOCK * STORE_BLOCK;
	out->end = (end + STORE_BLOCK - 1) / STORE_BLOCK * STORE_BLOCK;
	if (out->end > size)
		out->end = size;
}

/* Where does the reader go on? */
static void
blob_note_read(struct blob *b, uint64_t offset, uint64_t end)
{
	if (b->version.size <= STORE_SMALL)
		return;
	b->read_at = room_now();
	/* The kernel's own read-ahead comes in any order. */
	if (offset > b->next + STORE_PIECE || offset + STORE_PIECE < b->next)
		b->window = 0; /* a seek */
	else if (end > b->next)
		b->window = b->window == 0	   ? 2 * STORE_BLOCK
		    : b->window * 2 > STORE_WINDOW ? STORE_WINDOW
						   : b->window * 2;
	if (end > b->next || b->window == 0)
		b->next = end;
}

/*
 * Ask for what a sequential reader will want next, unless it is there.  Only
 * what can go at once, or one piece: so who seeks, or reads something else,
 * does not wait behind bytes that nobody has asked for, and after a seek those
 * are not asked for any more.  With the lock held.
 */
static void
blob_go_ahead(struct blob *b, const char *path, const struct attr *attr)
{
	uint64_t size = b->version.size, at, stop;
	struct store *s = b->store;
	struct interval gap;
	struct fetch *f;

	if (b->window == 0 || b->stream != NULL || s->broken)
		return;
	stop = b->next + b->window < size ? b->next + b->window : size;
	for (at = b->next; blob_next_gap(b, at, stop, &gap); at = gap.end) {
		if (stream_start(b, path, attr, b->next) ||
		    (b->aheads > 0 &&
			s->aheads + s->fills > room_spare_connections(s->room)))
			break;
		gap.start = gap.start / STORE_BLOCK * STORE_BLOCK;
		/* Whole pieces, or each read would fetch its own sliver. */
		if (gap.end - gap.start > STORE_PIECE)
			gap.end = gap.start + STORE_PIECE;
		else if (gap.end == stop && stop < size &&
		    gap.end - gap.start < STORE_PIECE &&
		    b->window >= STORE_PIECE * 2)
			break;
		if (gap.end < size)
			gap.end = gap.end / STORE_BLOCK * STORE_BLOCK;
		if (gap.end <= gap.start ||
		    fetch_start(b, path, attr, &gap, &f) != 0)
			break;
		f->ahead = true;
		b->aheads++;
		s->aheads++;
		job_put(&f->job); /* it can't end before we unlock */
	}
}

/* Take the asked bytes out of a fetch that could not be stored. */
static int
span_from_fetch(
    struct span *span, const struct fetch *f, uint64_t offset, size_t len)
{
	if ((span->buf = malloc(len + 1)) == NULL)
		return -ENOMEM;
	memcpy(span->buf, f->buf + (offset - f->offset), len);
	span->len = len;
	return 0;
}

/* What a reader wants of a blob. */
struct want {
	struct wait *wait;
	const char *path;
	const struct attr *attr;
	uint64_t offset, end;
	bool again; /* a fetch of somebody else's has failed him once */
};

/* The fetch that brings the first byte of a gap, held; *others: it was under
 * way before.  0 or -errno. */
static int
want_fetch(struct blob *b, const struct want *w, const struct interval *gap,
    struct fetch **f, bool *others)
{
	struct interval plan;
	bool broken = b->store->broken;

	*f = blob_find_fetch(b, gap->start);
	*others = *f != NULL;
	if (*others) {
		job_hold(&(*f)->job);
		return 0;
	}
	if (stream_brings(b, gap->start))
		return fetch_promise(b, gap, f);
	blob_plan(b, broken ? w->offset : gap->start,
	    broken ? w->end : gap->end, &plan);
	return fetch_start(b, w->path, w->attr, &plan, f);
}

/*
 * Wait for a fetch, without the lock: 0 to look again, 1 when the span has its
 * bytes because the cache took none, or -errno.
 */
static int
want_wait(struct blob *b, struct want *w, struct fetch *f, bool others,
    struct span *span)
{
	struct store *s = b->store;
	uint64_t contact = room_contact(s->room);
	uint64_t size = b->version.size;
	int error;

	error = job_wait(&f->job, w->wait);
	if (error == 0 && f->fill && (f->error != 0 || !f->stored))
		return 0; /* nobody needs all of that: ask for our part */
	if (error == 0)
		error = f->error;
	if (error == -ECANCELED && f->buf == NULL)
		return 0; /* the stream ended: another way, then */
	/* It began before we came, and the service before it was back. */
	if (error == -ETIMEDOUT && others && !w->again &&
	    room_contact(s->room) != contact) {
		w->again = true;
		return 0;
	}
	if (error == 0 && f->got < f->len && f->offset + f->got < size)
		error = -EAGAIN; /* it has become shorter */
	if (error != 0 || f->stored)
		return error;
	if (f->offset <= w->offset && w->end <= f->offset + f->got) {
		error = span_from_fetch(span, f, w->offset, w->end - w->offset);
		return error == 0 ? 1 : error;
	}
	/* Not kept: have the next one bring it whole. */
	pthread_mutex_lock(&s->lock);
	if (!s->broken)
		log_warn("cache: no room; contents are not cached");
	s->broken = true;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int
blob_read(struct blob *b, struct wait *wait, const char *path,
    const struct attr *attr, uint64_t offset, size_t len, struct span *span)
{
	struct store *s = b->store;
	uint64_t size = b->version.size, began;
	struct want want = {wait, path, attr, offset, offset, false};
	struct interval gap;
	struct fetch *f;
	bool others, hit;
	int error = 0;

	*span = (struct span){.fd = -1, .offset = offset};
	if (offset >= size || len == 0)
		return 0;
	want.end = len < size - offset ? offset + len : size;
	pthread_mutex_lock(&s->lock);
	if (b->saved)
		disk_load(b);
	blob_note_read(b, offset, want.end);
	blob_go_ahead(b, path, attr);
	hit = !intervals_first_gap(&b->present, offset, want.end, &gap);
	stats_look(room_stats(s->room), STATS_BYTES, hit, want.end - offset);
	if (hit && b->window == 0)
		fill_go_on(b, path, attr);
	while (intervals_first_gap(&b->present, offset, want.end, &gap)) {
		error = want_fetch(b, &want, &gap, &f, &others);
		if (error != 0)
			goto out;
		if (b->window == 0)
			fill_go_on(b, path, attr);
		pthread_mutex_unlock(&s->lock);
		began = room_now();
		error = want_wait(b, &want, f, others, span);
		job_put(&f->job);
		pthread_mutex_lock(&s->lock);
		if (error != 0)
			goto out;
		if (b->window == 0)
			fill_waited(b, began, !others);
	}
	span->file = b->file;
	span->file->refs++;
	span->fd = span->file->fd;
	span->offset = b->base + offset;
	span->len = want.end - offset;
out:
	pthread_mutex_unlock(&s->lock);
	return error < 0 ? error : 0;
}
