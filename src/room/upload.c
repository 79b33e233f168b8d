#include <errno.h>
#include <limits.h>
#include <sha2.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "room/room_impl.h"

/*
 * Large writes: pieces to a hidden file in the VM, several in flight, each at
 * its offset, so that order and repetition do not matter; then one command
 * (room_write.c) that verifies the whole and puts it in place.
 */

/* Compression is tried on so much at once, at best. */
#define STAGE_TRY ((size_t)1024 * 1024)
/* Pieces of one file under way at once: one waits, so that no connection does.
 */
#define STAGE_FLIGHT 8
#define STAGE_LEAST  ((size_t)1024) /* of data in a piece */
/* And of all files: each takes memory, and a thread. */
#define STAGE_FLIGHT_ALL 24
#define STAGE_ZEROS	 ((size_t)64 * 1024)

struct pieces {
	struct room *room; /* its lock guards what changes */
	const struct room_write *write;
	const char *token;
	bool verify; /* each piece */
	unsigned under_way;
	int error; /* the first */
};

struct piece {
	struct job job;
	struct pieces *all;
	uint64_t offset;
	size_t len;
	char *data;
};

static void
pieces_count(struct pieces *all, int by, int error)
{
	struct room *r = all->room;

	pthread_mutex_lock(&r->lock);
	all->under_way += by;
	r->pieces += by;
	if (error != 0 && all->error == 0)
		all->error = error;
	pthread_cond_broadcast(&r->piece_done);
	pthread_mutex_unlock(&r->lock);
}

static void
piece_run(struct job *job)
{
	struct piece *p = (struct piece *)job;
	struct pieces *all = p->all;
	struct script_change item = {.op = SCRIPT_PIECE,
	    .path = all->write->path,
	    .token = all->token,
	    .offset = p->offset,
	    .data = p->data,
	    .data_len = p->len,
	    .verify = all->verify};
	struct script_result result = {0};
	int error;

	error = room_send_piece(all->room, all->write->cancel, &item, &result);
	if (error == 0)
		error = result.error;
	if (error == 0)
		stats_transfer_add(
		    all->room->stats, all->write->transfer, p->len);
	pieces_count(all, -1, error);
}

static void
piece_free(struct job *job)
{
	struct piece *p = (struct piece *)job;

	free(p->data);
	free(p);
}

/*
 * Wait until fewer than `most` of this file's are under way, and (if there are
 * to be more) few enough of all files'; the first error so far.
 */
static int
pieces_wait(struct pieces *all, unsigned most, unsigned most_of_all)
{
	struct room *r = all->room;
	int error;

	pthread_mutex_lock(&r->lock);
	while (all->under_way >= most || r->pieces >= most_of_all)
		pthread_cond_wait(&r->piece_done, &r->lock);
	error = all->error;
	pthread_mutex_unlock(&r->lock);
	return error;
}

/* Send len bytes, which become the job's. */
static int
piece_send(struct pieces *all, uint64_t offset, char *data, size_t len)
{
	struct piece *p;
	int error;

	if ((error = pieces_wait(all, STAGE_FLIGHT, STAGE_FLIGHT_ALL)) != 0 ||
	    (p = calloc(1, sizeof *p)) == NULL) {
		free(data);
		return error != 0 ? error : -ENOMEM;
	}
	p->all = all;
	p->offset = offset;
	p->data = data;
	p->len = len;
	p->job.run = piece_run;
	p->job.free = piece_free;
	job_init(all->room->pool, &p->job);
	pieces_count(all, 1, 0);
	if ((error = job_start(&p->job)) != 0)
		pieces_count(all, -1, error);
	job_put(&p->job);
	return error;
}

/*
 * How many of these bytes one command carries: more when they compress.  The
 * estimate is made by compressing, so that a second look is rarely needed.
 */
static size_t
piece_fit(struct room *r, struct pieces *all, uint64_t offset, const char *data,
    size_t len, size_t plain)
{
	struct script_change item = {.op = SCRIPT_PIECE,
	    .path = all->write->path,
	    .token = all->token,
	    .offset = offset,
	    .data = data};
	uLongf packed = compressBound(plain);
	Bytef *scratch;
	size_t guess = plain;

	if (len <= plain || !script_may_compress(data, plain) ||
	    (scratch = malloc(packed)) == NULL)
		return len < plain ? len : plain;
	if (compress2(scratch, &packed, (const Bytef *)data, plain, 6) ==
		Z_OK &&
	    packed < plain - plain / 20)
		guess = (uint64_t)plain * plain / (packed + 1) * 9 / 10;
	free(scratch);
	for (; guess > plain; guess = guess / 4 * 3) {
		item.data_len = guess < len ? guess : len;
		if (room_changes_fit(r, &item, 1))
			return item.data_len;
	}
	return plain;
}

/* The bytes [at, at + len) of the new whole file: zeros between the ranges. */
static int
whole_read(const struct room_write *w, const struct intervals *set, uint64_t at,
    char *buf, size_t len)
{
	uint64_t end = at + len;
	struct interval part;
	int error;

	memset(buf, 0, len);
	for (; intervals_first(set, at, end, &part); at = part.end)
		if ((error = w->read(w->arg, part.start,
			 buf + (len - (end - part.start)),
			 part.end - part.start)) != 0)
			return error;
	return 0;
}

/* Is nothing but zeros to be sent from here on?  How far? */
static uint64_t
whole_zeros(
    const struct room_write *w, const struct intervals *set, uint64_t at)
{
	struct interval part;

	return (intervals_first(set, at, w->size, &part) ? part.start
							 : w->size) -
	    at;
}

/* Up to where, of the next `max` bytes, is more than a hole to be sent? */
static uint64_t
whole_data(const struct intervals *set, uint64_t at, uint64_t max)
{
	uint64_t end = at;
	struct interval part;

	while (intervals_first(set, end, at + max, &part) &&
	    part.start - end <= STAGE_ZEROS)
		end = part.end;
	return end - at;
}

/* The next piece, which begins at `at`; how long it is, or -errno. */
static int64_t
stage_next(struct pieces *all, const struct intervals *set, uint64_t at,
    size_t plain, SHA2_CTX *hash)
{
	const struct room_write *w = all->write;
	size_t want = w->size - at < STAGE_TRY ? w->size - at : STAGE_TRY, len;
	char *data;
	int error;

	if (all->verify)
		want = whole_data(set, at, want);
	if (want == 0) /* a hole, which stage_skip() has taken */
		return -EINVAL;
	if ((data = malloc(want)) == NULL)
		return -ENOMEM;
	if ((error = whole_read(w, set, at, data, want)) != 0) {
		free(data);
		return error;
	}
	len = piece_fit(all->room, all, at, data, want, plain);
	if (!all->verify)
		SHA256Update(hash, (u_int8_t *)data, len);
	error = piece_send(all, at, data, len);
	return error != 0 ? error : (int64_t)len;
}

/* Holes need not be sent.  Their sum is wanted if that of the whole is. */
static uint64_t
stage_skip(struct pieces *all, const struct intervals *set, uint64_t at,
    SHA2_CTX *hash)
{
	static u_int8_t zero[STAGE_ZEROS];
	const struct room_write *w = all->write;
	uint64_t len = whole_zeros(w, set, at);

	if (len <= STAGE_ZEROS && !(all->verify && at + len == w->size))
		return 0;
	if (!all->verify)
		SHA256Update(hash, zero, len = STAGE_ZEROS);
	stats_transfer_add(all->room->stats, w->transfer, len);
	return len;
}

/* How much data one command carries, whatever it is. */
static size_t
stage_plain(struct room *r, const struct script_change *item)
{
	enum script_tools tools = room_tools(r);
	bool toolkit = room_has_toolkit(r);
	size_t n = script_data_max(tools, item, toolkit, room_command_max(r));

	/* With a path so long it is carried, whatever its data is. */
	return n >= STAGE_LEAST
	    ? n
	    : script_data_max(tools, item, toolkit, SCRIPT_MAX);
}

int
room_stage(struct room *r, const struct room_write *w, const char *token,
    bool verify, char sha256[65])
{
	const struct intervals set = {
	    (struct interval *)w->ranges, w->nranges, w->nranges, 0};
	struct pieces all = {r, w, token, verify, .error = 0};
	struct script_change item = {.op = SCRIPT_PIECE,
	    .path = w->path,
	    .token = token,
	    .offset = w->size};
	SHA2_CTX hash;
	uint64_t at, hole;
	size_t plain;
	int64_t len;
	int error = 0;

	if (stage_plain(r, &item) < STAGE_LEAST)
		return -ENAMETOOLONG;
	SHA256Init(&hash);
	for (at = 0; at < w->size && error == 0; at += len) {
		if (cancel_is_set(w->cancel)) {
			error = -ECANCELED;
			break;
		}
		/* A refusal may have made it less meanwhile. */
		plain = stage_plain(r, &item);
		if ((hole = stage_skip(&all, &set, at, &hash)) > 0)
			len = hole;
		else if ((len = stage_next(&all, &set, at, plain, &hash)) < 0)
			error = len;
	}
	if (pieces_wait(&all, 1, UINT_MAX) != 0 && error == 0)
		error = all.error;
	SHA256End(&hash, sha256);
	return error;
}
