#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"

/* Starting the room's instance, and waiting until it is ready. */

enum {
	API_CREATE_MS = 300000, /* an image that is made first takes its time */
	API_CREATE_POLL_MS = 1000,
	API_CREATE_PROBE = 3 /* polls after which a command is tried, too */
};

int
api_revive(struct api *api, const char *begin, char detail[256])
{
	char now[37];
	int error;

	detail[0] = '\0';
	if (!api->create) {
		snprintf(detail, 256,
		    "the room has no instance: it expired, "
		    "or the room's name is not right; -o create starts one");
		if (!atomic_exchange(&api->absent, true))
			log_error("%s", detail);
		return -ENODEV;
	}
	if ((error = api_create(api, detail)) != 0)
		return error;
	api_get_instance(api, now);
	if (begin != NULL && begin[0] != '\0' && strcmp(begin, now) != 0) {
		snprintf(detail, 256, "the room has a new instance");
		return -ESTALE;
	}
	return 0;
}

static int
parse_create(void *arg, const struct http_response *res)
{
	return api_parse_create(res->body, res->len, arg);
}

/*
 * Ask for the instance once, with the retries that go with it.  That no host
 * is free, or it is not ready, is no error: *creation says what.
 */
static int
create_poll(struct api *api, unsigned limit_ms, struct api_creation *creation,
    char detail[256])
{
	struct api_job job = {
	    .kind = RETRY_SAFE,
	    .count = STATS_CREATE,
	    .limit_ms = limit_ms,
	    .unready_is_final = true,
	    .parse = parse_create,
	    .arg = creation,
	    .req =
		{
		    .method = "POST",
		    .target = api->room_path,
		    .body = "{}",
		    .body_len = 2,
		    .lane = HTTP_META,
		    .stall_ms = api->stall_ms,
		    .max_body = API_FILE_MAX,
		},
	};
	int error;

	*creation = (struct api_creation){0};
	error = api_run(api, &job);
	memcpy(detail, job.detail, sizeof job.detail);
	if (error == 0 && creation->instance[0] != '\0')
		api_note_instance(api, job.generation, creation->instance);
	if (error == -EIO && api_job_is_unready(&job)) {
		snprintf(creation->status, sizeof creation->status, "%.31s",
		    job.error.error);
		error = 0;
	}
	api_job_free(&job);
	return error;
}

/* A status that is not documented may be as good as "ready". */
static int
create_probe(struct api *api)
{
	const struct api_command nothing = {
	    .kind = API_META, .body = "{\"command\":\":\"}"};
	struct api_answer answer;
	int error = api_send_command(api, &nothing, &answer);

	api_answer_free(&answer);
	return error;
}

static int
create_and_wait(struct api *api, char detail[256])
{
	unsigned limit =
	    api->limit_ms > API_CREATE_MS ? api->limit_ms : API_CREATE_MS;
	uint64_t start = api_now(), elapsed;
	struct api_creation creation;
	char told[sizeof creation.status] = "";
	unsigned pause;
	int error;

	for (unsigned n = 1; (elapsed = api_now() - start) < limit; n++) {
		error = create_poll(
		    api, limit - (unsigned)elapsed, &creation, detail);
		if (error != 0 || creation.ready)
			return error;
		if (strcmp(told, creation.status) != 0)
			log_notice("the room's VM is starting: %s",
			    creation.status[0] != '\0' ? creation.status
						       : "no status yet");
		memcpy(told, creation.status, sizeof told);
		if (n % API_CREATE_PROBE == 0) {
			error = create_probe(api);
			if (error == 0 || error == -ECANCELED)
				return error;
		}
		pause = retry_backoff_ms(n, arc4random());
		if (pause > API_CREATE_POLL_MS)
			pause = API_CREATE_POLL_MS;
		if ((error = api_wait_until(api, api_now() + pause)) != 0)
			return error;
	}
	snprintf(detail, 256,
	    "the room's VM was not ready after %u s (status \"%s\")",
	    limit / 1000, told);
	return -ETIMEDOUT;
}

int
api_create(struct api *api, char detail[256])
{
	unsigned seen;
	bool mine;
	int error;

	/* Many may find the instance gone at once: one of them asks. */
	pthread_mutex_lock(&api->lock);
	seen = api->creations;
	mine = !api->creating;
	if (mine)
		api->creating = true;
	else
		while (api->creations == seen)
			pthread_cond_wait(&api->wake, &api->lock);
	error = api->create_result;
	memcpy(detail, api->create_detail, sizeof api->create_detail);
	pthread_mutex_unlock(&api->lock);
	if (!mine)
		return error;

	log_notice("the room has no VM: starting one");
	detail[0] = '\0';
	error = create_and_wait(api, detail);

	pthread_mutex_lock(&api->lock);
	api->creating = false;
	api->creations++;
	api->create_result = error;
	memcpy(api->create_detail, detail, sizeof api->create_detail);
	pthread_cond_broadcast(&api->wake);
	pthread_mutex_unlock(&api->lock);
	return error;
}
