#ifndef BASE_WAIT_H
#define BASE_WAIT_H

#include <pthread.h>
#include <stdbool.h>

#include <sys/queue.h>

/*
 * Waiting for work that goes on elsewhere, so that a user's Ctrl-C ends the
 * wait and not the work.  A `job` is the work, run by a pool of threads; any
 * number of callers wait for it.
 */

/* One caller's patience.  On its stack; wait_interrupt() from any thread. */
struct wait {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool interrupted; /* under lock */
	bool woken; /* under lock */
	unsigned limit_ms; /* longest wait: -ETIMEDOUT after it; 0: none */
	/* When set: asked now and then whether to give up after all. */
	bool (*give_up)(void *arg); /* under lock */
	void *arg;
};

void wait_init(struct wait *);
void wait_destroy(struct wait *);
void wait_interrupt(struct wait *);
bool wait_interrupted(struct wait *);
/* Let some milliseconds pass; 0, or -EINTR at once when interrupted. */
int wait_pause(struct wait *, unsigned ms);
/* Something came that may or may not be a reason to stop waiting: ask. */
void wait_watch(struct wait *, bool (*give_up)(void *arg), void *arg);

struct job {
	void (*run)(struct job *); /* on a thread of the pool */
	void (*free)(struct job *); /* when nobody refers to it any more */
	/* private */
	struct pool *pool;
	bool done; /* under pool's lock, as all below */
	unsigned refs; /* the pool's, while it runs, and each holder's */
	TAILQ_HEAD(, waiter) waiters;
	TAILQ_ENTRY(job) link;
};

struct pool;
int pool_open(struct pool **);
/* No more than so many threads; what they do must not wait for another of the
 * pool's jobs.  0, as at first: any number. */
void pool_limit(struct pool *, unsigned threads);
void pool_close(struct pool *); /* waits for every job's end */

/* Make a job, with run and free set, ready to be waited for; the caller holds
 * one reference, to be given up by job_put(). */
void job_init(struct pool *, struct job *);
/* Have it run.  0 or -ENOMEM. */
int job_start(struct job *);
/* Or it is done by other means: held for these, and given up by finish(). */
void job_finish(struct job *);
void job_hold(struct job *);
void job_put(struct job *);

/* From now on nobody's wait lasts; the jobs go on.  (Waits without a struct
 * wait are our own and are not ended.) */
void pool_interrupt(struct pool *);

/* 0 when the job is done; -EINTR when the wait was interrupted first,
 * -ETIMEDOUT when its limit came first. */
int job_wait(struct job *, struct wait *);

#endif
