#ifndef STREAM_IMPL_H
#define STREAM_IMPL_H

#include <stdint.h>

#include "ask.h"
#include "compose.h"
#include "input.h"
#include "stream.h"

/* What stream.c and stream_take.c share. */

/* One that is under way, if its call has a pid. */
struct request {
	struct call call;
	char nonce[COMPOSE_TOKEN];
	uint64_t out, err; /* where the output begins that it asks for */
	long long began;
	bool probe, gives; /* what a side request is for */
};

enum stream_phase { STARTING, FOLLOWING, OVER };

struct stream {
	const struct place *place;
	const struct stream_options *o;
	struct stream_result *r;
	enum stream_phase phase;
	char token[COMPOSE_TOKEN], job[COMPOSE_TOKEN + 8];
	uint64_t out, err; /* so much of its output is here */
	struct job_status status; /* the latest */
	unsigned long max; /* of output in an answer */
	struct input input;
	bool resized;

	struct request main; /* the start, then polls */
	struct request side; /* input, and whether commands run beside others */
	struct request end; /* what ends it, or keeps it */
	long long main_next, side_next, end_next; /* not before that (ms) */
	int delay, tries; /* after failures */
	bool lost;
	unsigned probes, busy;

	int signal; /* that asked for the end; 0: none */
	bool ending, leaving; /* end it in the VM; let it go on there */
	bool ended; /* somebody did end it */
	bool known; /* its start need not be sent again */
	long long asked; /* when */
	bool told, announced;
};

/* How long to wait before trying again. */
int stream_delay(struct stream *);
/* The answers of the three. */
void stream_take_main(struct stream *);
void stream_take_side(struct stream *);
void stream_take_end(struct stream *);
/* It is over for us; what there is to say is said. */
void stream_leave(struct stream *);
void stream_fail(struct stream *, enum stream_fate, int status, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

long long stream_now(void);

#endif
