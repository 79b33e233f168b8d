#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wait.h"

#define MANY 50

/* A job that ends when it is told to. */
struct work {
	struct job job;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool may_end; /* under lock */
	atomic_int *freed;
	struct work *needs; /* waits for that one's end */
};

static void
work_run(struct job *job)
{
	struct work *w = (struct work *)job;

	if (w->needs != NULL)
		job_wait(&w->needs->job, NULL);
	pthread_mutex_lock(&w->lock);
	while (!w->may_end)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

static void
work_free(struct job *job)
{
	struct work *w = (struct work *)job;

	atomic_fetch_add(w->freed, 1);
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static struct work *
work_new(struct pool *p, atomic_int *freed)
{
	struct work *w = calloc(1, sizeof *w);

	assert_non_null(w);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
	w->freed = freed;
	w->job.run = work_run;
	w->job.free = work_free;
	job_init(p, &w->job);
	return w;
}

static void
work_let_end(struct work *w)
{
	pthread_mutex_lock(&w->lock);
	w->may_end = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

struct caller {
	pthread_t thread;
	struct wait wait;
	struct job *job;
	int result;
};

static void *
caller_run(void *arg)
{
	struct caller *c = arg;

	c->result = job_wait(c->job, &c->wait);
	return NULL;
}

static void
caller_start(struct caller *c, struct job *job)
{
	wait_init(&c->wait);
	c->job = job;
	assert_int_equal(pthread_create(&c->thread, NULL, caller_run, c), 0);
}

static int
caller_end(struct caller *c)
{
	pthread_join(c->thread, NULL);
	wait_destroy(&c->wait);
	return c->result;
}

static void
test_many_wait_for_one_job(void **state)
{
	struct caller callers[MANY];
	atomic_int freed = 0;
	struct pool *p;
	struct work *w;
	int i;

	(void)state;
	assert_int_equal(pool_open(&p), 0);
	w = work_new(p, &freed);
	assert_int_equal(job_start(&w->job), 0);
	for (i = 0; i < MANY; i++)
		caller_start(&callers[i], &w->job);
	/* One of them loses patience: the others don't notice. */
	wait_interrupt(&callers[7].wait);
	assert_int_equal(caller_end(&callers[7]), -EINTR);
	work_let_end(w);
	for (i = 0; i < MANY; i++)
		if (i != 7)
			assert_int_equal(caller_end(&callers[i]), 0);
	/* What is done stays done, also for one who was interrupted. */
	assert_int_equal(job_wait(&w->job, NULL), 0);
	job_put(&w->job);
	pool_close(p);
	assert_int_equal(freed, 1);
}

static void
test_an_interrupt_that_came_before_the_wait_counts(void **state)
{
	struct wait wait;
	atomic_int freed = 0;
	struct pool *p;
	struct work *w;

	(void)state;
	assert_int_equal(pool_open(&p), 0);
	w = work_new(p, &freed);
	assert_int_equal(job_start(&w->job), 0);
	wait_init(&wait);
	assert_false(wait_interrupted(&wait));
	wait_interrupt(&wait);
	assert_true(wait_interrupted(&wait));
	assert_int_equal(job_wait(&w->job, &wait), -EINTR);
	work_let_end(w);
	assert_int_equal(job_wait(&w->job, NULL), 0);
	/* A job that is done needs no waiting that could be interrupted. */
	assert_int_equal(job_wait(&w->job, &wait), 0);
	wait_destroy(&wait);
	job_put(&w->job);
	pool_close(p);
}

static bool
after_three(void *arg)
{
	return ++*(int *)arg >= 3;
}

static void
test_a_watch_is_asked_until_it_gives_up(void **state)
{
	struct wait wait;
	atomic_int freed = 0;
	int asked = 0;
	struct pool *p;
	struct work *w;

	(void)state;
	assert_int_equal(pool_open(&p), 0);
	w = work_new(p, &freed);
	assert_int_equal(job_start(&w->job), 0);
	wait_init(&wait);
	wait_watch(&wait, after_three, &asked);
	assert_int_equal(job_wait(&w->job, &wait), -EINTR);
	assert_int_equal(asked, 3);
	wait_destroy(&wait);
	work_let_end(w);
	job_put(&w->job);
	pool_close(p);
	assert_int_equal(freed, 1);
}

/* Long jobs never keep another from starting, even those that wait. */
static void
test_a_long_job_holds_up_nobody(void **state)
{
	struct work *works[MANY], *last;
	atomic_int freed = 0;
	struct pool *p;
	int i;

	(void)state;
	assert_int_equal(pool_open(&p), 0);
	last = work_new(p, &freed);
	for (i = 0; i < MANY; i++) {
		works[i] = work_new(p, &freed);
		works[i]->needs = last;
		works[i]->may_end = true;
		assert_int_equal(job_start(&works[i]->job), 0);
	}
	last->may_end = true;
	assert_int_equal(job_start(&last->job), 0);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(job_wait(&works[i]->job, NULL), 0);
		job_put(&works[i]->job);
	}
	job_put(&last->job);
	pool_close(p);
	assert_int_equal(freed, MANY + 1);
}

/* Jobs that nobody waits for are run, and freed once, before it closes. */
static void
test_closing_the_pool_waits_for_all_jobs(void **state)
{
	atomic_int freed = 0;
	struct pool *p;
	struct work *w;
	int i;

	(void)state;
	assert_int_equal(pool_open(&p), 0);
	for (i = 0; i < 500; i++) {
		w = work_new(p, &freed);
		w->may_end = true;
		job_hold(&w->job);
		assert_int_equal(job_start(&w->job), 0);
		job_put(&w->job);
		job_put(&w->job);
	}
	pool_close(p);
	assert_int_equal(freed, 500);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_many_wait_for_one_job),
	    cmocka_unit_test(
		test_an_interrupt_that_came_before_the_wait_counts),
	    cmocka_unit_test(test_a_watch_is_asked_until_it_gives_up),
	    cmocka_unit_test(test_a_long_job_holds_up_nobody),
	    cmocka_unit_test(test_closing_the_pool_waits_for_all_jobs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
