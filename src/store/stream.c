#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_impl.h"

/*
 * A service without Range gives a large file at one go or not at all: then
 * one request brings the file in order, and readers wait for their part.
 */

/* What lies so far ahead of the stream comes sooner by a command. */
#define STREAM_AHEAD ((uint64_t)24 * 1024 * 1024)

struct stream {
	struct job job;
	struct blob *blob;
	char *path;
	struct attr attr;
	uint64_t at; /* so much has come; under the store's lock */
	struct stats_transfer *transfer;
};

TAILQ_HEAD(promises, fetch);

/* Take the promises out that end until `end`; with the lock held. */
static void
promises_take(struct blob *b, uint64_t end, struct promises *out)
{
	struct fetch *f, *next;

	TAILQ_INIT(out);
	for (f = TAILQ_FIRST(&b->fetches); f != NULL; f = next) {
		next = TAILQ_NEXT(f, link);
		if (f->buf != NULL || f->offset + f->len > end)
			continue;
		TAILQ_REMOVE(&b->fetches, f, link);
		TAILQ_INSERT_TAIL(out, f, link);
	}
}

/* Those who wait for them go on; without the lock. */
static void
promises_finish(struct promises *list, int error)
{
	struct fetch *f;

	while ((f = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, f, link);
		f->error = error;
		f->got = error == 0 ? f->len : 0;
		f->stored = error == 0;
		job_finish(&f->job);
	}
}

/* On the engine's thread. */
static int
stream_take(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct stream *s = arg;
	struct blob *b = s->blob;
	struct store *store = b->store;
	struct promises kept;
	int error = 0;

	TAILQ_INIT(&kept);
	pthread_mutex_lock(&store->lock);
	if (b->refs == 1)
		error = -ECANCELED; /* nobody has the file any more */
	else if (!blob_put_bytes(b, offset, data, len))
		error = -ENOSPC;
	if (error == 0) {
		s->at = offset + len;
		promises_take(b, s->at, &kept);
		stats_transfer_set(room_stats(store->room), s->transfer, s->at);
	}
	pthread_mutex_unlock(&store->lock);
	promises_finish(&kept, 0);
	return error;
}

static void
stream_run(struct job *job)
{
	struct stream *s = (struct stream *)job;
	struct blob *b = s->blob;
	struct store *store = b->store;
	struct promises left;
	uint64_t began = room_now();
	int error;

	error =
	    room_read_stream(store->room, s->path, &s->attr, stream_take, s);
	pthread_mutex_lock(&store->lock);
	b->stream = NULL;
	blob_came(b, began);
	if (error != 0 && b->refs > 1)
		b->unstreamable = true;
	promises_take(b, UINT64_MAX, &left);
	pthread_mutex_unlock(&store->lock);
	promises_finish(&left, error == -EAGAIN ? error : -ECANCELED);
	stats_transfer_end(room_stats(store->room), s->transfer);
}

static void
stream_free(struct job *job)
{
	struct stream *s = (struct stream *)job;

	blob_put(s->blob);
	free(s->path);
	free(s);
}

bool
stream_start(
    struct blob *b, const char *path, const struct attr *attr, uint64_t at)
{
	struct store *store = b->store;
	uint64_t size = b->version.size;
	struct stream *s;

	/* It can't be halted, so all of it has to find room. */
	if (b->unstreamable || store->broken || size > store->limit / 2 ||
	    at > size / 4 + STREAM_AHEAD || !room_can_stream(store->room) ||
	    (s = calloc(1, sizeof *s)) == NULL)
		return false;
	if ((s->path = strdup(path)) == NULL) {
		free(s);
		return false;
	}
	s->attr = *attr;
	s->blob = b;
	s->job.run = stream_run;
	s->job.free = stream_free;
	s->transfer =
	    stats_transfer_begin(room_stats(store->room), false, path, size);
	job_init(store->pool, &s->job);
	b->refs++;
	if (job_start(&s->job) != 0) {
		stats_transfer_end(room_stats(store->room), s->transfer);
		b->refs--; /* the caller has one, too */
		free(s->path);
		free(s);
		return false;
	}
	b->stream = s;
	job_put(&s->job); /* it can't end meanwhile: it needs our lock */
	return true;
}

bool
stream_brings(const struct blob *b, uint64_t at)
{
	return b->stream != NULL && at >= b->stream->at &&
	    at - b->stream->at <= STREAM_AHEAD;
}
