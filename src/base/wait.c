#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/thread.h"
#include "base/wait.h"

/* An idle thread of the pool ends after this long without a job. */
#define POOL_IDLE_S 30
#define WATCH_MS    100

struct waiter {
	struct wait *wait;
	TAILQ_ENTRY(waiter) link; /* in the job */
	TAILQ_ENTRY(waiter) all; /* in the pool, if it can be interrupted */
};

/*
 * Threads come as jobs need them and go when idle: a job may wait for the
 * network for hours and must never keep another from starting.
 */
struct pool {
	pthread_mutex_t lock; /* before any wait's lock; guards all below */
	pthread_cond_t work; /* a job was queued, or the pool closes */
	pthread_cond_t idle; /* a thread ended */
	TAILQ_HEAD(, job) queue;
	TAILQ_HEAD(, waiter) waiters;
	unsigned threads, sleeping, queued;
	unsigned limit; /* of threads; 0: none */
	bool closing, interrupting;
};

void
wait_init(struct wait *w)
{
	pthread_condattr_t monotonic;

	*w = (struct wait){0};
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->cond, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void
wait_destroy(struct wait *w)
{
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
}

void
wait_interrupt(struct wait *w)
{
	pthread_mutex_lock(&w->lock);
	w->interrupted = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

bool
wait_interrupted(struct wait *w)
{
	bool yes;

	pthread_mutex_lock(&w->lock);
	yes = w->interrupted;
	pthread_mutex_unlock(&w->lock);
	return yes;
}

void
wait_watch(struct wait *w, bool (*give_up)(void *arg), void *arg)
{
	pthread_mutex_lock(&w->lock);
	w->give_up = give_up;
	w->arg = arg;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static struct timespec
time_after(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000L;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

int
wait_pause(struct wait *w, unsigned ms)
{
	struct timespec until = time_after(ms);
	bool interrupted;

	pthread_mutex_lock(&w->lock);
	while (!w->interrupted &&
	    pthread_cond_timedwait(&w->cond, &w->lock, &until) == 0)
		;
	interrupted = w->interrupted;
	pthread_mutex_unlock(&w->lock);
	return interrupted ? -EINTR : 0;
}

static bool
time_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec
				      : a->tv_nsec < b->tv_nsec;
}

/* Sleep until woken or interrupted, or until the limit. */
static void
wait_sleep(struct wait *w)
{
	struct timespec until, limit = time_after(w->limit_ms), now;

	pthread_mutex_lock(&w->lock);
	while (!w->woken && !w->interrupted) {
		if (w->limit_ms != 0) {
			now = time_after(0);
			if (!time_before(&now, &limit))
				break;
		}
		if (w->give_up == NULL && w->limit_ms == 0) {
			pthread_cond_wait(&w->cond, &w->lock);
			continue;
		}
		until = time_after(WATCH_MS);
		if (w->limit_ms != 0 &&
		    (w->give_up == NULL || time_before(&limit, &until)))
			until = limit;
		pthread_cond_timedwait(&w->cond, &w->lock, &until);
		if (!w->woken && w->give_up != NULL && w->give_up(w->arg))
			w->interrupted = true;
	}
	pthread_mutex_unlock(&w->lock);
}

/* Give a reference up; with the pool's lock held, which it drops. */
static void
job_put_unlock(struct job *job)
{
	struct pool *p = job->pool;
	bool last = --job->refs == 0;

	pthread_mutex_unlock(&p->lock);
	if (last)
		job->free(job);
}

void
job_finish(struct job *job)
{
	struct waiter *w;

	pthread_mutex_lock(&job->pool->lock);
	job->done = true;
	TAILQ_FOREACH (w, &job->waiters, link) {
		pthread_mutex_lock(&w->wait->lock);
		w->wait->woken = true;
		pthread_cond_signal(&w->wait->cond);
		pthread_mutex_unlock(&w->wait->lock);
	}
	job_put_unlock(job);
}

static void *
pool_thread(void *arg)
{
	struct pool *p = arg;
	struct timespec until;
	struct job *job;
	int error;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		if ((job = TAILQ_FIRST(&p->queue)) != NULL) {
			TAILQ_REMOVE(&p->queue, job, link);
			p->queued--;
			pthread_mutex_unlock(&p->lock);
			job->run(job);
			job_finish(job);
			pthread_mutex_lock(&p->lock);
			continue;
		}
		if (p->closing)
			break;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += POOL_IDLE_S;
		p->sleeping++;
		error = pthread_cond_timedwait(&p->work, &p->lock, &until);
		p->sleeping--;
		if (error == ETIMEDOUT && TAILQ_EMPTY(&p->queue))
			break;
	}
	p->threads--;
	pthread_cond_signal(&p->idle);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int
pool_open(struct pool **out)
{
	pthread_condattr_t monotonic;
	struct pool *p;

	if ((p = calloc(1, sizeof *p)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &monotonic);
	pthread_cond_init(&p->idle, NULL);
	pthread_condattr_destroy(&monotonic);
	TAILQ_INIT(&p->queue);
	TAILQ_INIT(&p->waiters);
	*out = p;
	return 0;
}

void
pool_limit(struct pool *p, unsigned threads)
{
	pthread_mutex_lock(&p->lock);
	p->limit = threads;
	pthread_mutex_unlock(&p->lock);
}

void
pool_close(struct pool *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads > 0)
		pthread_cond_wait(&p->idle, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_cond_destroy(&p->idle);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void
job_init(struct pool *p, struct job *job)
{
	job->pool = p;
	job->done = false;
	job->refs = 1;
	TAILQ_INIT(&job->waiters);
}

int
job_start(struct job *job)
{
	struct pool *p = job->pool;
	pthread_attr_t attr;
	pthread_t thread;
	int error = 0;

	pthread_mutex_lock(&p->lock);
	job->refs++;
	TAILQ_INSERT_TAIL(&p->queue, job, link);
	if (++p->queued > p->sleeping &&
	    (p->limit == 0 || p->threads < p->limit)) {
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, 512 * 1024);
		p->threads++;
		if ((error = thread_create(&thread, &attr, pool_thread, p)))
			p->threads--;
		pthread_attr_destroy(&attr);
		/* Without any thread nobody would ever run it. */
		if (error != 0 && p->threads == 0) {
			TAILQ_REMOVE(&p->queue, job, link);
			p->queued--;
			job->refs--;
			pthread_mutex_unlock(&p->lock);
			return -ENOMEM;
		}
	}
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

void
job_hold(struct job *job)
{
	pthread_mutex_lock(&job->pool->lock);
	job->refs++;
	pthread_mutex_unlock(&job->pool->lock);
}

void
job_put(struct job *job)
{
	pthread_mutex_lock(&job->pool->lock);
	job_put_unlock(job);
}

void
pool_interrupt(struct pool *p)
{
	struct waiter *w;

	pthread_mutex_lock(&p->lock);
	p->interrupting = true;
	TAILQ_FOREACH (w, &p->waiters, all)
		wait_interrupt(w->wait);
	pthread_mutex_unlock(&p->lock);
}

int
job_wait(struct job *job, struct wait *wait)
{
	struct pool *p = job->pool;
	struct waiter me;
	struct wait own;
	bool done, interrupted = true;

	if ((me.wait = wait) == NULL) {
		wait_init(&own);
		me.wait = &own;
	}
	pthread_mutex_lock(&p->lock);
	if (!job->done && (wait == NULL || !p->interrupting)) {
		me.wait->woken = false;
		TAILQ_INSERT_TAIL(&job->waiters, &me, link);
		if (wait != NULL)
			TAILQ_INSERT_TAIL(&p->waiters, &me, all);
		pthread_mutex_unlock(&p->lock);

		wait_sleep(me.wait);
		pthread_mutex_lock(&p->lock);
		TAILQ_REMOVE(&job->waiters, &me, link);
		if (wait != NULL)
			TAILQ_REMOVE(&p->waiters, &me, all);
	}
	done = job->done;
	if (!done && wait != NULL && !p->interrupting)
		interrupted = wait_interrupted(wait);
	pthread_mutex_unlock(&p->lock);
	if (wait == NULL)
		wait_destroy(&own);
	return done ? 0 : interrupted ? -EINTR : -ETIMEDOUT;
}
