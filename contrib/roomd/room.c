/*
 * The room and its instance's comings and goings.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "room.h"
#include "tree.h"

/* Seconds of the monotonic clock. */
double
clock_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void
room_init(struct room *room, const struct vm_spec *spec, struct spawner *sp)
{
	(void)pthread_mutex_init(&room->lock, NULL);
	room->spec = spec;
	room->spawner = sp;
	uuid_make(room->host_id);
}

/* The present instance with a reference of the caller's, or NULL. */
struct instance *
room_get(struct room *room)
{
	struct instance *in;

	(void)pthread_mutex_lock(&room->lock);
	in = room->current;
	if (in != NULL)
		(void)instance_ref(in);
	(void)pthread_mutex_unlock(&room->lock);
	return in;
}

/* The instance, made when there is none.  `why` has ROOM_WHY bytes. */
int
room_create(struct room *room, struct instance **out, bool *fresh, char *why)
{
	int error = 0;

	*fresh = false;
	(void)pthread_mutex_lock(&room->lock);
	if (room->closed) {
		(void)strlcpy(why, "the server is going down", ROOM_WHY);
		error = -ESHUTDOWN;
	} else if (room->current == NULL) {
		error = instance_new(
		    room->spec, room->spawner, &room->current, why, ROOM_WHY);
		*fresh = error == 0;
	}
	if (error == 0)
		*out = instance_ref(room->current);
	(void)pthread_mutex_unlock(&room->lock);
	return error;
}

/* End the instance, and have a fresh tree ready for the next one. */
int
room_expire(struct room *room, char *why)
{
	struct instance *in;
	int error = 0;

	(void)pthread_mutex_lock(&room->lock);
	in = room->current;
	room->current = NULL;
	if (in != NULL) {
		instance_end(in);
		error = tree_renew(room->spec, in->id);
		if (error != 0)
			(void)snprintf(why, ROOM_WHY,
			    "cannot make a fresh tree: %s", strerror(-error));
	}
	(void)pthread_mutex_unlock(&room->lock);
	instance_unref(in);
	return error;
}

/* Answer 503 for so long. */
void
room_set_not_ready(struct room *room, double seconds)
{
	(void)pthread_mutex_lock(&room->lock);
	room->ready_from = clock_now();
	room->ready_at = room->ready_from + seconds;
	(void)pthread_mutex_unlock(&room->lock);
}

/* So many create requests are answered before the one that says "ready". */
void
room_set_polls(struct room *room, double polls)
{
	(void)pthread_mutex_lock(&room->lock);
	room->polls = polls;
	room->polls_left = polls > 0 ? polls + 1 : 0;
	(void)pthread_mutex_unlock(&room->lock);
}

/* A create request is being answered: what room_progress() is for that. */
double
room_poll(struct room *room)
{
	double p = -1;

	(void)pthread_mutex_lock(&room->lock);
	if (room->polls_left > 0)
		p = 1 - --room->polls_left / room->polls;
	(void)pthread_mutex_unlock(&room->lock);
	return p < 0 ? room_progress(room) : p;
}

/* How far the start has come: from 0 to 1, where 1 is ready. */
double
room_progress(struct room *room)
{
	double now = clock_now(), p = 1;

	(void)pthread_mutex_lock(&room->lock);
	if (room->polls_left > 0)
		p = 0;
	else if (now < room->ready_at)
		p = (now - room->ready_from) /
		    (room->ready_at - room->ready_from);
	(void)pthread_mutex_unlock(&room->lock);
	return p;
}

/* Kill what runs; no instance comes after this. */
void
room_close(struct room *room)
{
	(void)pthread_mutex_lock(&room->lock);
	room->closed = true;
	if (room->current != NULL)
		instance_end(room->current);
	(void)pthread_mutex_unlock(&room->lock);
}

void
room_destroy(struct room *room)
{
	instance_unref(room->current);
	free(room->name);
	(void)pthread_mutex_destroy(&room->lock);
}
