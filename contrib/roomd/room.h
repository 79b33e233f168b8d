/* The room: at most one instance at a time, which may expire and come back. */
#ifndef ROOMD_ROOM_H
#define ROOMD_ROOM_H

#include <pthread.h>
#include <stdbool.h>

#include "instance.h"

#define ROOM_WHY 256

struct room {
	const struct vm_spec *spec;
	struct spawner *spawner;
	char profile[UUID_LEN];
	char *name;
	char host_id[UUID_LEN];

	pthread_mutex_t lock; /* guards what follows */
	struct instance *current;
	double ready_from; /* not ready between these two, monotonic */
	double ready_at;
	double polls; /* create requests until one is told that it is ready */
	double polls_left;
	bool closed;
};

double clock_now(void);

void room_init(
    struct room *room, const struct vm_spec *spec, struct spawner *sp);
struct instance *room_get(struct room *room);
int room_create(
    struct room *room, struct instance **out, bool *fresh, char *why);
int room_expire(struct room *room, char *why);
void room_set_not_ready(struct room *room, double seconds);
void room_set_polls(struct room *room, double polls);
double room_poll(struct room *room);
double room_progress(struct room *room);
void room_close(struct room *room);
void room_destroy(struct room *room);

#endif
