#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/http_internal.h"
#include "base/log.h"

enum {
	HTTP_LANES = HTTP_EXEC + 1,
	HTTP_SPARE_EASY = 8, /* easy handles kept for the next requests */
	HTTP_LOOK_MS = 100, /* so often it is asked who still wants what */
	HTTP_STEP_MS = 1000, /* the longest time that one turn accounts for */
	HTTP_MS_A_BYTE = 5, /* slower than 200 bytes a second is not moving */
	HTTP_PASS_MAX = 8, /* HTTP_META ones that may pass a waiting BULK */
	/* Below the 118 s after which usual load balancers drop a connection.*/
	HTTP_MAX_AGE_S = 110,
	HTTP_SUSPEND_MS = 10000 /* a sleep that connections may not survive */
};

/* One lock; it is not held while calling libcurl, logging or waiting. */
struct http {
	struct http_setup setup; /* constant */
	unsigned max_connections;
	CURLM *multi; /* the engine's, but for curl_multi_wakeup() */
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t left; /* callers became 0 */
	unsigned callers; /* guarded by lock */
	bool closing; /* guarded by lock */
	struct http_transfers queue[HTTP_LANES]; /* guarded by lock */

	/* The engine thread's own. */
	struct http_transfers running;
	unsigned in_flight[HTTP_LANES];
	unsigned passed; /* HTTP_META ones that passed a waiting HTTP_BULK */
	CURL *spare[HTTP_SPARE_EASY];
	size_t spares;
	uint64_t turned_ms; /* the last turn of the loop */
	uint64_t slept_ms; /* how long the machine was suspended, so far */
	uint64_t stalled_ms; /* connections idle since then may be dead */
};

static uint64_t
clock_ms(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * One line per request.  Raw addresses need no key, so the instance id in
 * them is as good as a password: its first 8 characters must do.
 */
static void
log_transfer(const struct http_transfer *t, int error)
{
	const struct http_request *req = t->req;
	const char *target = req->target, *cut = "";
	int head = 0;

	if (!log_debug_enabled())
		return;
	if (strncmp(target, "/vm/", 4) == 0) {
		head = (int)strcspn(target + 4, "/");
		cut = target + 4 + head;
		head = 4 + (head > 8 ? 8 : head);
	}
	log_debug(
	    "%s: %s %.*s%s%s: sent %zu, got %zu bytes, %u ms, HTTP %ld%s%s",
	    req->kind != NULL ? req->kind : "request", req->method, head,
	    target, head > 0 ? "..." : "", head > 0 ? cut : target,
	    req->body_len, t->received, t->res->ms, t->res->status,
	    error != 0 ? ", " : "", error != 0 ? t->res->detail : "");
}

/* Hand the transfer back to its caller; it must not be touched after this. */
static void
transfer_end(struct http *http, struct http_transfer *t, int error)
{
	pthread_mutex_lock(&http->lock);
	t->error = error;
	t->done = true;
	pthread_cond_signal(&t->finished);
	pthread_mutex_unlock(&http->lock);
}

static CURL *
easy_get(struct http *http)
{
	if (http->spares > 0)
		return http->spare[--http->spares];
	return curl_easy_init();
}

static void
easy_put(struct http *http, CURL *easy)
{
	if (http->spares < HTTP_SPARE_EASY) {
		curl_easy_reset(easy); /* forgets the key's header list */
		http->spare[http->spares++] = easy;
	} else
		curl_easy_cleanup(easy);
}

/* How long a connection may have been idle to be used again; 0: not at all. */
static unsigned
connection_age(const struct http *http, uint64_t now)
{
	uint64_t age;

	if (http->stalled_ms == 0)
		return HTTP_MAX_AGE_S;
	/* Those that were idle when the network went silent are not trusted. */
	age = (now - http->stalled_ms) / 1000;
	if (age <= 1)
		return 0;
	return age - 1 < HTTP_MAX_AGE_S ? (unsigned)age - 1 : HTTP_MAX_AGE_S;
}

static void
transfer_start(struct http *http, struct http_transfer *t)
{
	uint64_t now = clock_ms(CLOCK_MONOTONIC);
	int error = -ENOMEM;

	t->began_ms = now;
	t->idle_ms = 0;
	if ((t->easy = easy_get(http)) == NULL)
		goto fail;
	error = http_easy_prepare(t, &http->setup, connection_age(http, now));
	if (error != 0)
		goto fail;
	if (curl_multi_add_handle(http->multi, t->easy) != CURLM_OK) {
		error = -ENOMEM;
		goto fail;
	}
	TAILQ_INSERT_TAIL(&http->running, t, entry);
	http->in_flight[t->req->lane]++;
	return;
fail:
	if (t->easy != NULL)
		easy_put(http, t->easy);
	snprintf(t->res->detail, sizeof t->res->detail, "%s", strerror(-error));
	transfer_end(http, t, error);
}

/* Take a running transfer off libcurl, whether it is through or not. */
static void
transfer_stop(struct http *http, struct http_transfer *t, CURLcode code)
{
	int error;

	/* What the handle knows is asked before it leaves the multi. */
	t->res->ms = (unsigned)(clock_ms(CLOCK_MONOTONIC) - t->began_ms);
	error = http_easy_finish(t, code);
	/* Connections tend to die together, idle ones unnoticed. */
	if (error == -ETIMEDOUT || error == -ECONNRESET)
		http->stalled_ms = clock_ms(CLOCK_MONOTONIC);
	TAILQ_REMOVE(&http->running, t, entry);
	http->in_flight[t->req->lane]--;
	curl_multi_remove_handle(http->multi, t->easy);
	easy_put(http, t->easy);
	log_transfer(t, error);
	transfer_end(http, t, error);
}

/* The next transfer that may start, taken off its queue; lock held. */
static struct http_transfer *
queue_take(struct http *http)
{
	struct http_transfer *meta, *bulk, *t;
	unsigned bulk_max =
	    http->max_connections > 2 ? http->max_connections - 2 : 1;

	if ((t = TAILQ_FIRST(&http->queue[HTTP_EXEC])) != NULL)
		goto take;
	if (http->in_flight[HTTP_META] + http->in_flight[HTTP_BULK] >=
	    http->max_connections)
		return NULL;
	meta = TAILQ_FIRST(&http->queue[HTTP_META]);
	bulk = TAILQ_FIRST(&http->queue[HTTP_BULK]);
	if (bulk != NULL && http->in_flight[HTTP_BULK] >= bulk_max)
		bulk = NULL;
	/* First comes META, but a storm of it must not starve BULK. */
	if (meta != NULL && bulk != NULL && http->in_flight[HTTP_BULK] == 0 &&
	    http->passed >= HTTP_PASS_MAX)
		meta = NULL;
	if ((t = meta != NULL ? meta : bulk) == NULL)
		return NULL;
	http->passed = t == meta && bulk != NULL ? http->passed + 1 : 0;
take:
	TAILQ_REMOVE(&http->queue[t->req->lane], t, entry);
	return t;
}

/* Start what may start.  Returns false when the engine shall end. */
static bool
engine_dispatch(struct http *http)
{
	struct http_transfer *t;
	bool closing;

	for (;;) {
		pthread_mutex_lock(&http->lock);
		closing = http->closing;
		t = closing ? NULL : queue_take(http);
		pthread_mutex_unlock(&http->lock);
		if (t == NULL)
			return !closing;
		transfer_start(http, t);
	}
}

/* Returns how many transfers ended. */
static unsigned
engine_collect(struct http *http)
{
	struct http_transfer *t;
	unsigned ended = 0;
	CURLMsg *msg;
	char *private;
	int left;

	while ((msg = curl_multi_info_read(http->multi, &left)) != NULL) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &private);
		t = (struct http_transfer *)(void *)private;
		transfer_stop(http, t, msg->data.result);
		ended++;
	}
	return ended;
}

/*
 * The time since the last turn.  A stopped process or a suspended machine
 * makes the clocks jump while no transfer had a chance to go on: a turn never
 * counts for more than it could have taken.
 */
static unsigned
engine_step(struct http *http)
{
	uint64_t now = clock_ms(CLOCK_MONOTONIC);
	uint64_t slept = clock_ms(CLOCK_BOOTTIME) - now;
	uint64_t step = now - http->turned_ms;

	/* CLOCK_MONOTONIC stands still in a suspend, CLOCK_BOOTTIME doesn't. */
	if (slept > http->slept_ms + HTTP_SUSPEND_MS)
		http->stalled_ms = now;
	http->slept_ms = slept;
	http->turned_ms = now;
	return step < HTTP_STEP_MS ? (unsigned)step : HTTP_STEP_MS;
}

/*
 * End the transfers on which hardly a byte moved for too long (libcurl's
 * LOW_SPEED options count neither the waiting for an answer nor the upload
 * well).
 * Returns in how many milliseconds to look again, 0: one was ended.
 */
static int
engine_check_stalls(struct http *http, unsigned step)
{
	struct http_transfer *t, *next;
	unsigned left, wait = INT_MAX;
	struct http_progress now;

	TAILQ_FOREACH_SAFE (t, &http->running, entry, next) {
		if (t->req->stall_ms == 0)
			continue;
		now = http_easy_progress(t->easy);
		if (now.stage != t->progress.stage ||
		    now.bytes - t->progress.bytes >=
			t->req->stall_ms / HTTP_MS_A_BYTE) {
			t->progress = now;
			t->idle_ms = 0;
		} else
			t->idle_ms += step;
		if (t->idle_ms >= t->req->stall_ms) {
			t->error = -ETIMEDOUT;
			snprintf(t->res->detail, sizeof t->res->detail,
			    "%s came for %u ms",
			    now.bytes == t->progress.bytes ? "no byte"
							   : "hardly a byte",
			    t->idle_ms);
			transfer_stop(http, t, CURLE_OPERATION_TIMEDOUT);
			wait = 0;
			continue;
		}
		left = t->req->stall_ms - t->idle_ms;
		if (left > HTTP_STEP_MS)
			left = HTTP_STEP_MS;
		if (left < wait)
			wait = left;
	}
	return (int)wait;
}

/*
 * End the transfers that nobody wants any more, before they begin: one under
 * way may arrive all the same, and whoever tidies up after it has to know when.
 * Returns in how many milliseconds to look again; INT_MAX: no need.
 */
static int
engine_check_wanted(struct http *http)
{
	struct http_transfer *t, *next;
	struct http_transfers gone = TAILQ_HEAD_INITIALIZER(gone);
	int wait = INT_MAX;

	pthread_mutex_lock(&http->lock);
	TAILQ_FOREACH_SAFE (t, &http->queue[HTTP_BULK], entry, next) {
		if (t->req->cancel != NULL)
			wait = HTTP_LOOK_MS;
		if (cancel_is_set(t->req->cancel)) {
			TAILQ_REMOVE(&http->queue[HTTP_BULK], t, entry);
			TAILQ_INSERT_TAIL(&gone, t, entry);
		}
	}
	pthread_mutex_unlock(&http->lock);
	while ((t = TAILQ_FIRST(&gone)) != NULL) {
		TAILQ_REMOVE(&gone, t, entry);
		transfer_end(http, t, -ECANCELED);
	}
	return wait;
}

static void
engine_cancel(struct http *http)
{
	struct http_transfer *t;

	while ((t = TAILQ_FIRST(&http->running)) != NULL) {
		t->error = -ECANCELED;
		transfer_stop(http, t, CURLE_ABORTED_BY_CALLBACK);
	}
	/* Nothing is queued any more once closing is set. */
	for (int lane = 0; lane < HTTP_LANES; lane++)
		for (;;) {
			pthread_mutex_lock(&http->lock);
			if ((t = TAILQ_FIRST(&http->queue[lane])) != NULL)
				TAILQ_REMOVE(&http->queue[lane], t, entry);
			pthread_mutex_unlock(&http->lock);
			if (t == NULL)
				break;
			snprintf(t->res->detail, sizeof t->res->detail, "%s",
			    strerror(ECANCELED));
			transfer_end(http, t, -ECANCELED);
		}
}

static void *
engine(void *arg)
{
	struct http *http = arg;
	int running, wait, look;

	http->turned_ms = clock_ms(CLOCK_MONOTONIC);
	http->slept_ms = clock_ms(CLOCK_BOOTTIME) - http->turned_ms;
	while (engine_dispatch(http)) {
		if (curl_multi_perform(http->multi, &running) != CURLM_OK)
			log_warn("libcurl: can't perform");
		if (engine_collect(http) > 0)
			continue;
		look = engine_check_wanted(http);
		wait = engine_check_stalls(http, engine_step(http));
		if (wait == 0)
			continue;
		if (look < wait)
			wait = look;
		if (curl_multi_poll(http->multi, NULL, 0, wait, NULL) !=
		    CURLM_OK) {
			log_warn("libcurl: can't poll");
			nanosleep(
			    &(struct timespec){.tv_nsec = 100000000}, NULL);
		}
	}
	engine_cancel(http);
	return NULL;
}

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_result;

static void
global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int
engine_create(struct http *http)
{
	sigset_t all, old;
	int error;

	/*
	 * Signals are for the other threads.  SIGPIPE too: CURLOPT_NOSIGNAL
	 * leaves it to us, and OpenSSL writes without MSG_NOSIGNAL.
	 */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&http->thread, NULL, engine, http);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0)
		pthread_setname_np(http->thread, "http");
	return -error;
}

int
http_open(struct http **out, const struct http_config *config)
{
	struct http *http;
	int error;

	pthread_once(&global_once, global_init);
	if (global_result != CURLE_OK)
		return -ENOMEM;
	if ((http = calloc(1, sizeof *http)) == NULL)
		return -ENOMEM;
	if ((error = http_setup_open(&http->setup, config)) != 0) {
		free(http);
		return error;
	}
	http->max_connections =
	    config->max_connections > 0 ? config->max_connections : 1;
	pthread_mutex_init(&http->lock, NULL);
	pthread_cond_init(&http->left, NULL);
	TAILQ_INIT(&http->running);
	for (int lane = 0; lane < HTTP_LANES; lane++)
		TAILQ_INIT(&http->queue[lane]);
	error = -ENOMEM;
	if ((http->multi = curl_multi_init()) == NULL)
		goto out;
	curl_multi_setopt(
	    http->multi, CURLMOPT_MAXCONNECTS, (long)http->max_connections + 4);
	error = engine_create(http);
out:
	if (error != 0) {
		curl_multi_cleanup(http->multi);
		pthread_cond_destroy(&http->left);
		pthread_mutex_destroy(&http->lock);
		http_setup_close(&http->setup);
		free(http);
		return error;
	}
	*out = http;
	return 0;
}

void
http_shutdown(struct http *http)
{
	pthread_mutex_lock(&http->lock);
	http->closing = true;
	pthread_mutex_unlock(&http->lock);
	curl_multi_wakeup(http->multi);
}

void
http_close(struct http *http)
{
	if (http == NULL)
		return;
	http_shutdown(http);
	pthread_join(http->thread, NULL);
	pthread_mutex_lock(&http->lock);
	while (http->callers > 0)
		pthread_cond_wait(&http->left, &http->lock);
	pthread_mutex_unlock(&http->lock);
	while (http->spares > 0)
		curl_easy_cleanup(http->spare[--http->spares]);
	curl_multi_cleanup(http->multi);
	http_setup_close(&http->setup);
	pthread_cond_destroy(&http->left);
	pthread_mutex_destroy(&http->lock);
	free(http);
}

int
http_perform(struct http *http, const struct http_request *req,
    struct http_response *res)
{
	struct http_transfer t = {.req = req, .res = res};

	*res = (struct http_response){.length = UINT64_MAX,
	    .range_first = UINT64_MAX,
	    .range_total = UINT64_MAX};
	pthread_mutex_lock(&http->lock);
	if (http->closing) {
		pthread_mutex_unlock(&http->lock);
		return -ECANCELED;
	}
	pthread_cond_init(&t.finished, NULL);
	http->callers++;
	TAILQ_INSERT_TAIL(&http->queue[req->lane], &t, entry);
	pthread_mutex_unlock(&http->lock);

	/* Safe without the lock: the multi stays while there are callers. */
	curl_multi_wakeup(http->multi);

	pthread_mutex_lock(&http->lock);
	while (!t.done)
		pthread_cond_wait(&t.finished, &http->lock);
	pthread_cond_destroy(&t.finished);
	if (--http->callers == 0)
		pthread_cond_signal(&http->left);
	pthread_mutex_unlock(&http->lock);
	return t.error;
}

void
http_response_free(struct http_response *res)
{
	free(res->body);
	res->body = NULL;
	res->len = 0;
}
