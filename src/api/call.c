#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_internal.h"
#include "base/log.h"

/* The one retry loop, and what holds all requests of a mount together. */

uint64_t
api_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Who waits looks so often (ms) whether anybody still wants that. */
#define CANCEL_LOOK 100

/* Wait on api->wake until then at the longest; lock held. */
static void
wait_locked(struct api *api, const struct cancel *cancel, uint64_t when)
{
	uint64_t look = api_now() + CANCEL_LOOK;
	struct timespec until;

	if (cancel != NULL && look < when)
		when = look;
	until = (struct timespec){
	    .tv_sec = (time_t)(when / 1000),
	    .tv_nsec = (long)(when % 1000) * 1000000,
	};
	pthread_cond_timedwait(&api->wake, &api->lock, &until);
}

static int
wait_until(struct api *api, const struct cancel *cancel, uint64_t when)
{
	bool ends;

	pthread_mutex_lock(&api->lock);
	while (
	    !(ends = api->closing || cancel_is_set(cancel)) && api_now() < when)
		wait_locked(api, cancel, when);
	pthread_mutex_unlock(&api->lock);
	return ends ? -ECANCELED : 0;
}

int
api_wait_until(struct api *api, uint64_t when)
{
	return wait_until(api, NULL, when);
}

/*
 * Wait for this mount's turn to send.  0, -ECANCELED, or -EIO: the service
 * asked for a longer pause than the request may last.
 */
static int
gate_enter(struct api *api, struct api_job *job, uint64_t deadline)
{
	uint64_t now, when;
	int error = 0;

	pthread_mutex_lock(&api->lock);
	for (;;) {
		now = api_now();
		when = api_pace_when(&api->pace, now);
		if (api->closing || cancel_is_set(job->cancel))
			error = -ECANCELED;
		else if (when > now && when > deadline)
			error = -EIO;
		else if (when > now) {
			wait_locked(api, job->cancel, when);
			continue;
		} else {
			api_pace_take(&api->pace, now);
			job->generation = api->generation;
		}
		break;
	}
	pthread_mutex_unlock(&api->lock);
	if (error == -ECANCELED)
		snprintf(job->detail, sizeof job->detail, "%s",
		    cancel_is_set(job->cancel)
			? "nobody wants it any more"
			: "the file system is being unmounted");
	else if (error != 0)
		snprintf(job->detail, sizeof job->detail,
		    "the service asked to wait for %llu s",
		    (unsigned long long)(when - now + 999) / 1000);
	return error;
}

/* Take note of what an attempt's outcome says about the service. */
static void
gate_leave(
    struct api *api, const struct api_job *job, int error, uint64_t began)
{
	uint64_t now = api_now();
	const struct http_contact *c = &job->res.contact;
	bool slowed;

	if (error != 0 && c->address[0] == '\0')
		return;
	pthread_mutex_lock(&api->lock);
	if (c->address[0] != '\0') {
		api->contact = (struct api_contact){
		    .name_us = c->name_us,
		    .connect_us = c->connect_us,
		    .tls_us = c->tls_us,
		};
		memcpy(api->contact.address, c->address, sizeof c->address);
	}
	if (error != 0) {
		pthread_mutex_unlock(&api->lock);
		return;
	}
	api->last_contact = now;
	api_pace_answer(&api->pace, now, began, job->res.status,
	    job->res.retry_after_s, arc4random());
	slowed = api->pace.struck == now;
	pthread_mutex_unlock(&api->lock);
	if (slowed)
		log_info("the service asks to slow down (HTTP %ld)",
		    job->res.status);
}

/* A refused key is worth a line in the log, but only one. */
static void
note_key(struct api *api, const struct api_job *job)
{
	long status = job->res.status;

	if (job->req.anonymous)
		return;
	/* 403 for a file may just be the file's own permissions. */
	if (status == 401 || (status == 403 && job->req.body != NULL)) {
		if (!atomic_exchange(&api->key_refused, true))
			log_error(
			    "the service refuses the key (HTTP %ld): "
			    "check that the key is valid and may use this "
			    "profile",
			    status);
	} else if (status >= 200 && status <= 299)
		atomic_store(&api->key_refused, false);
}

static bool
is_success(long status)
{
	return status >= 200 && status <= 299;
}

/* One attempt, as a case for retry.h. */
static struct retry_case
attempt(struct api *api, struct api_job *job, int *parse_error)
{
	struct retry_case c = {.kind = job->kind};
	uint64_t began = api_now();

	*parse_error = 0;
	http_response_free(&job->res);
	job->error = (struct api_error){0};
	if (job->begin != NULL)
		job->begin(job->arg);
	c.error = http_perform(api->http, &job->req, &job->res);
	gate_leave(api, job, c.error, began);
	c.status = job->res.status;
	c.sent = job->res.sent;
	c.stranger = api_last_contact(api) == 0;
	c.retry_after_s = job->res.retry_after_s;
	c.random = arc4random();
	if (c.error != 0)
		return c;
	if (!is_success(c.status))
		c.refused = api_parse_error(
				job->res.body, job->res.len, &job->error) == 0;
	else if (job->parse != NULL)
		*parse_error = job->parse(job->arg, &job->res);
	c.malformed = *parse_error == -EPROTO;
	note_key(api, job);
	return c;
}

/* Say in one line, for users, why the job failed. */
static void
describe(struct api_job *job, const struct retry_case *c)
{
	size_t size = sizeof job->detail;

	if (c->error != 0)
		snprintf(job->detail, size, "%s",
		    job->res.detail[0] != '\0' ? job->res.detail
					       : strerror(-c->error));
	else if (c->malformed || is_success(c->status))
		snprintf(job->detail, size,
		    "the answer can't be understood "
		    "(HTTP %ld, %zu bytes)",
		    c->status, job->res.len);
	else if (c->refused)
		snprintf(job->detail, size, "HTTP %ld, %s%s%.150s", c->status,
		    job->error.error, job->error.message[0] != '\0' ? ": " : "",
		    job->error.message);
	else
		snprintf(job->detail, size,
		    "HTTP %ld, not from the service itself", c->status);
}

/* Take note of what an attempt means for the next ones. */
static void
note_attempt(struct api_job *job, const struct retry_case *c)
{
	enum fate fate = retry_fate(c);

	if (fate != FATE_NOT_RUN) {
		job->fate = fate;
		if (job->again != NULL) {
			job->req.body = job->again;
			job->req.body_len = strlen(job->again);
		}
	}
	job->resets = c->error == -ECONNRESET && c->sent ? job->resets + 1 : 0;
}

/* Is there no sense in another attempt, whatever retry.h says? */
static bool
is_final(const struct api_job *job)
{
	return (job->resets_max > 0 && job->resets >= job->resets_max) ||
	    (job->unready_is_final && api_job_is_unready(job));
}

/* A service that is unwell, not one that knows no such file. */
static bool
is_failure(const struct api_job *job, const struct retry_case *c)
{
	if (c->error != 0 || c->malformed)
		return c->error != -ECANCELED;
	if (job->count == STATS_FILE || job->count == STATS_RAW)
		return !is_success(c->status) && c->status != 404 &&
		    c->status != 416;
	return !is_success(c->status);
}

/* An attempt, counted. */
static struct retry_case
counted_attempt(
    struct api *api, struct api_job *job, unsigned n, int *parse_error)
{
	struct retry_case c;

	job->req.kind = stats_kind_name(job->count);
	stats_begin(api->stats, job->count);
	c = attempt(api, job, parse_error);
	stats_end(api->stats,
	    &(struct stats_request){
		.kind = job->count,
		.again = n > 1,
		.failed = is_failure(job, &c),
		.us = job->res.us,
		.out = job->res.out,
		.in = job->res.in,
	    });
	return c;
}

int
api_run(struct api *api, struct api_job *job)
{
	uint64_t start = api_now(), deadline = start + job->limit_ms, elapsed;
	struct retry_case c;
	int delay = -1, error, parse_error;

	job->detail[0] = '\0';
	job->fate = FATE_NOT_RUN;
	job->resets = 0;
	job->req.cancel = job->cancel;
	for (unsigned n = 1;; n++) {
		if ((error = gate_enter(api, job, deadline)) != 0)
			break;
		c = counted_attempt(api, job, n, &parse_error);
		if (c.error == 0 && is_success(c.status) && !c.malformed) {
			job->fate = FATE_RAN;
			if (parse_error != 0)
				describe(job, &c);
			return parse_error;
		}
		note_attempt(job, &c);
		elapsed = api_now() - start;
		c.attempt = n;
		c.elapsed_ms =
		    elapsed < UINT_MAX ? (unsigned)elapsed : UINT_MAX;
		c.limit_ms = job->limit_ms;
		if (is_final(job) || (delay = retry_delay_ms(&c)) < 0) {
			if (is_failure(job, &c))
				stats_give_up(api->stats);
			describe(job, &c);
			return retry_errno(&c);
		}
		log_debug("again in %d ms (attempt %u: HTTP %ld%s%s)", delay, n,
		    c.status, job->res.detail[0] != '\0' ? ", " : "",
		    job->res.detail);
		error =
		    wait_until(api, job->cancel, api_now() + (unsigned)delay);
		if (error != 0)
			break;
	}
	if (job->detail[0] == '\0')
		snprintf(
		    job->detail, sizeof job->detail, "%s", strerror(-error));
	return error;
}

void
api_job_free(struct api_job *job)
{
	http_response_free(&job->res);
}

bool
api_job_is(const struct api_job *job, const char *code)
{
	return job->res.status == 404 && strcmp(job->error.error, code) == 0;
}

bool
api_job_is_unready(const struct api_job *job)
{
	return job->res.status == 503 && job->error.error[0] != '\0';
}
