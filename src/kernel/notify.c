#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/fuse_api.h"
#include "base/log.h"
#include "kernel/notify.h"
#include "base/thread.h"

#include <sys/queue.h>

#define NOTIFY_DRAIN_S 10

enum notice_kind { NOTICE_INODE, NOTICE_ENTRY, NOTICE_DELETED };

struct notice {
	TAILQ_ENTRY(notice) link;
	enum notice_kind kind;
	uint64_t id; /* the inode, or the name's parent */
	uint64_t child;
	char name[];
};

struct notify {
	struct fuse_session *session;
	pthread_t thread;
	pthread_mutex_t lock; /* innermost; guards all below */
	pthread_cond_t queued, sent;
	TAILQ_HEAD(, notice) queue;
	uint64_t in, out; /* how many were queued, were sent */
	bool closing;
};

static void
notify_send(struct notify *n, const struct notice *t)
{
	int error = 0;

	switch (t->kind) {
	case NOTICE_INODE:
		error =
		    fuse_lowlevel_notify_inval_inode(n->session, t->id, 0, 0);
		break;
	case NOTICE_ENTRY:
		error = fuse_lowlevel_notify_inval_entry(
		    n->session, t->id, t->name, strlen(t->name));
		break;
	case NOTICE_DELETED:
		error = fuse_lowlevel_notify_delete(
		    n->session, t->id, t->child, t->name, strlen(t->name));
		/* A directory in use or with children it keeps: expire it. */
		if (error != 0 && error != -ENOENT)
			error = fuse_lowlevel_notify_inval_entry(
			    n->session, t->id, t->name, strlen(t->name));
		break;
	}
	/* The kernel may have forgotten it: then there is nothing to do. */
	if (error != 0 && error != -ENOENT)
		log_debug("notice to the kernel: %s", strerror(-error));
}

static void *
notify_thread(void *arg)
{
	struct notify *n = arg;
	struct notice *t;

	pthread_mutex_lock(&n->lock);
	for (;;) {
		while (TAILQ_EMPTY(&n->queue) && !n->closing)
			pthread_cond_wait(&n->queued, &n->lock);
		if (n->closing)
			break;
		t = TAILQ_FIRST(&n->queue);
		TAILQ_REMOVE(&n->queue, t, link);
		pthread_mutex_unlock(&n->lock);
		notify_send(n, t);
		free(t);
		pthread_mutex_lock(&n->lock);
		n->out++;
		pthread_cond_broadcast(&n->sent);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

int
notify_open(struct notify **out, struct fuse_session *session)
{
	pthread_condattr_t monotonic;
	struct notify *n;
	int error;

	if ((n = calloc(1, sizeof *n)) == NULL)
		return -ENOMEM;
	n->session = session;
	TAILQ_INIT(&n->queue);
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->queued, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&n->sent, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if ((error = thread_create(&n->thread, NULL, notify_thread, n))) {
		free(n);
		return error;
	}
	*out = n;
	return 0;
}

void
notify_stop(struct notify *n)
{
	bool stopped;

	pthread_mutex_lock(&n->lock);
	stopped = n->closing;
	n->closing = true;
	pthread_cond_signal(&n->queued);
	pthread_cond_broadcast(&n->sent);
	pthread_mutex_unlock(&n->lock);
	if (!stopped)
		pthread_join(n->thread, NULL);
}

void
notify_close(struct notify *n)
{
	struct notice *t;

	if (n == NULL)
		return;
	notify_stop(n);
	while ((t = TAILQ_FIRST(&n->queue)) != NULL) {
		TAILQ_REMOVE(&n->queue, t, link);
		free(t);
	}
	pthread_cond_destroy(&n->sent);
	pthread_cond_destroy(&n->queued);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static void
notify_queue(struct notify *n, enum notice_kind kind, uint64_t id,
    uint64_t child, const char *name)
{
	struct notice *t;
	size_t len = strlen(name);

	/*
	 * Out of memory loses a notice: the kernel then trusts what it has
	 * until its own timeout, as if the change had come a little later.
	 */
	if ((t = malloc(sizeof *t + len + 1)) == NULL)
		return;
	t->kind = kind;
	t->id = id;
	t->child = child;
	memcpy(t->name, name, len + 1);
	pthread_mutex_lock(&n->lock);
	TAILQ_INSERT_TAIL(&n->queue, t, link);
	n->in++;
	pthread_cond_signal(&n->queued);
	pthread_mutex_unlock(&n->lock);
}

void
notify_inode(struct notify *n, uint64_t id)
{
	notify_queue(n, NOTICE_INODE, id, 0, "");
}

void
notify_entry(struct notify *n, uint64_t parent, const char *name)
{
	notify_queue(n, NOTICE_ENTRY, parent, 0, name);
}

void
notify_deleted(
    struct notify *n, uint64_t parent, uint64_t child, const char *name)
{
	notify_queue(n, NOTICE_DELETED, parent, child, name);
}

void
notify_drain(struct notify *n)
{
	struct timespec until;
	uint64_t goal;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += NOTIFY_DRAIN_S;
	pthread_mutex_lock(&n->lock);
	goal = n->in;
	while (n->out < goal && !n->closing)
		if (pthread_cond_timedwait(&n->sent, &n->lock, &until) != 0)
			break;
	pthread_mutex_unlock(&n->lock);
}
