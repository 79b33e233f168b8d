#include <errno.h>
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
#define STAGE_ZEROS  ((size_t)64 * 1024)

struct pieces {
	struct room *room;
	const struct room_write *write;
	const char *token;
	bool verify; /* each piece */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t done;
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

	error =
	    room_send_changes(all->room, API_PIECE, false, &item, 1, &result);
	if (error == 0)
		error = result.error;
	if (error == 0)
		stats_transfer_add(
		    all->room->stats, all->write->transfer, p->len);
	pthread_mutex_lock(&all->lock);
	if (error != 0 && all->error == 0)
		all->error = error;
	all->under_way--;
	pthread_cond_signal(&all->done);
	pthread_mutex_unlock(&all->lock);
}

static void
piece_free(struct job *job)
{
	struct piece *p = (struct piece *)job;

	free(p->data);
	free(p);
}

/* Wait until fewer than `most` are under way; the first error so far. */
static int
pieces_wait(struct pieces *all, unsigned most)
{
	int error;

	pthread_mutex_lock(&all->lock);
	while (all->under_way >= most)
		pthread_cond_wait(&all->done, &all->lock);
	error = all->error;
	pthread_mutex_unlock(&all->lock);
	return error;
}

/* Send len bytes, which become the job's. */
static int
piece_send(struct pieces *all, uint64_t offset, char *data, size_t len)
{
	struct piece *p;
	int error;

	if ((error = pieces_wait(all, STAGE_FLIGHT)) != 0 ||
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
	pthread_mutex_lock(&all->lock);
	all->under_way++;
	pthread_mutex_unlock(&all->lock);
	if ((error = job_start(&p->job)) != 0) {
		pthread_mutex_lock(&all->lock);
		all->under_way--;
		pthread_mutex_unlock(&all->lock);
	}
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
whole_read(const struct room_write *w, uint64_t at, char *buf, size_t len)
{
	uint64_t start, end;
	size_t i;
	int error;

	memset(buf, 0, len);
	for (i = 0; i < w->nranges; i++) {
		start = w->ranges[i].start > at ? w->ranges[i].start : at;
		end = w->ranges[i].end < at + len ? w->ranges[i].end : at + len;
		if (start < end &&
		    (error = w->read(
			 w->arg, start, buf + (start - at), end - start)) != 0)
			return error;
	}
	return 0;
}

/* Is nothing but zeros to be sent from here on?  How far? */
static uint64_t
whole_zeros(const struct room_write *w, uint64_t at)
{
	uint64_t end = w->size;
	size_t i;

	for (i = 0; i < w->nranges; i++)
		if (w->ranges[i].start <= at && at < w->ranges[i].end)
			return 0;
		else if (w->ranges[i].start > at && w->ranges[i].start < end)
			end = w->ranges[i].start;
	return end - at;
}

int
room_stage(struct room *r, const struct room_write *w, const char *token,
    bool verify, char sha256[65])
{
	struct pieces all = {r, w, token, verify, .error = 0};
	struct script_change item = {.op = SCRIPT_PIECE,
	    .path = w->path,
	    .token = token,
	    .offset = w->size};
	SHA2_CTX hash;
	uint64_t at, zeros;
	size_t plain, want, len;
	char *data, *zero = NULL;
	int error = 0;

	plain = script_data_max(room_tools(r), &item, room_has_toolkit(r));
	if (plain < 1024)
		return -ENAMETOOLONG;
	if ((zero = calloc(1, STAGE_ZEROS)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&all.lock, NULL);
	pthread_cond_init(&all.done, NULL);
	SHA256Init(&hash);
	for (at = 0; at < w->size && error == 0; at += len) {
		/* Holes need not be sent, but for a last byte. */
		if ((zeros = whole_zeros(w, at)) > STAGE_ZEROS) {
			len = at + STAGE_ZEROS < w->size ? STAGE_ZEROS
							 : w->size - at - 1;
			SHA256Update(&hash, (u_int8_t *)zero, len);
			stats_transfer_add(r->stats, w->transfer, len);
			continue;
		}
		want = w->size - at < STAGE_TRY ? w->size - at : STAGE_TRY;
		if ((data = malloc(want)) == NULL) {
			error = -ENOMEM;
			break;
		}
		if ((error = whole_read(w, at, data, want)) != 0) {
			free(data);
			break;
		}
		len = piece_fit(r, &all, at, data, want, plain);
		SHA256Update(&hash, (u_int8_t *)data, len);
		error = piece_send(&all, at, data, len);
	}
	if (pieces_wait(&all, 1) != 0 && error == 0)
		error = all.error;
	pthread_cond_destroy(&all.done);
	pthread_mutex_destroy(&all.lock);
	free(zero);
	SHA256End(&hash, sha256);
	return error;
}
