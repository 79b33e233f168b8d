#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "kernel/trace.h"
#include "tree/node.h"

/* So many requests under way are remembered; of more, some are not shown. */
enum { TRACE_SLOTS = 1024, TRACE_KIND = 24 };

struct slot {
	uint64_t unique; /* the kernel's number of the request; 0: free */
	struct timespec began;
	char kind[TRACE_KIND];
	size_t size; /* of the request */
	char *path;
};

struct trace {
	struct tree *tree;
	pthread_mutex_t lock; /* guards the slots */
	struct slot slots[TRACE_SLOTS];
};

int
trace_open(struct trace **out, struct tree *tree)
{
	struct trace *t;

	*out = NULL;
	if ((t = calloc(1, sizeof *t)) == NULL)
		return -ENOMEM;
	t->tree = tree;
	pthread_mutex_init(&t->lock, NULL);
	*out = t;
	return 0;
}

void
trace_close(struct trace *t)
{
	size_t i;

	if (t == NULL)
		return;
	for (i = 0; i < TRACE_SLOTS; i++)
		free(t->slots[i].path);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* Where the node is now; NULL: not known.  The caller frees. */
static char *
path_of(struct trace *t, uint64_t id)
{
	struct node *n;
	char *path = NULL;

	tree_lock(t->tree);
	if ((n = tree_get(t->tree, id)) != NULL)
		path = tree_path(t->tree, n, NULL);
	tree_unlock(t->tree);
	return path;
}

static void
take_request(struct trace *t, const struct slot *begun, uint64_t id)
{
	struct slot *s = &t->slots[begun->unique / 2 % TRACE_SLOTS];
	char *path = path_of(t, id);

	pthread_mutex_lock(&t->lock);
	free(s->path);
	*s = *begun;
	s->path = path;
	pthread_mutex_unlock(&t->lock);
}

static void
take_answer(struct trace *t, uint64_t unique, int error, size_t size)
{
	struct slot *s = &t->slots[unique / 2 % TRACE_SLOTS], done = {0};
	struct timespec now;

	pthread_mutex_lock(&t->lock);
	if (s->unique == unique) {
		done = *s;
		*s = (struct slot){0};
	}
	pthread_mutex_unlock(&t->lock);
	if (done.unique == 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	log_debug("kernel: %s %s: %zu bytes in, %zu out, %.1f ms, %s",
	    done.kind, done.path != NULL ? done.path : "-", done.size, size,
	    (double)(now.tv_sec - done.began.tv_sec) * 1e3 +
		(double)(now.tv_nsec - done.began.tv_nsec) / 1e6,
	    error == 0 ? "ok" : strerror(error));
	free(done.path);
}

/*
 * unique: 2, opcode: LOOKUP (1), nodeid: 1, insize: 44, pid: 1000
 *    unique: 2, success, outsize: 144
 *    unique: 2, error: -2 (No such file or directory), outsize: 16
 */
void
trace_take(struct trace *t, const char *line)
{
	struct slot begun = {.unique = 0};
	uint64_t unique, id;
	const char *rest;
	size_t size;
	int error = 0, opcode;

	if (sscanf(line,
		"unique: %" SCNu64 ", opcode: %23s (%d), nodeid: %" SCNu64
		", insize: %zu",
		&begun.unique, begun.kind, &opcode, &id, &begun.size) == 5) {
		/* Nothing answers these. */
		if (strstr(begun.kind, "FORGET") != NULL)
			return;
		clock_gettime(CLOCK_MONOTONIC, &begun.began);
		take_request(t, &begun, id);
		return;
	}
	if (sscanf(line, " unique: %" SCNu64, &unique) != 1 ||
	    (rest = strstr(line, "outsize: ")) == NULL ||
	    sscanf(rest, "outsize: %zu", &size) != 1)
		return;
	if ((rest = strstr(line, "error: ")) != NULL)
		sscanf(rest, "error: %d", &error);
	take_answer(t, unique, -error, size);
}
