#include <cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

enum {
	API_CONNECT_MS = 10000,
	API_CREATE_MS = 120000, /* a VM that boots may take so long */
	API_CREATE_PROBE = 3 /* polls after which a command is tried, too */
};

static int
set_room_path(struct api *api, const struct api_config *config)
{
	char *profile, *room = NULL;
	int error = -ENOMEM;

	if ((profile = api_encode_segment(config->profile)) == NULL ||
	    (room = api_encode_segment(config->room)) == NULL)
		goto out;
	if (asprintf(&api->room_path, "/api/profile/%s/room/%s", profile,
		room) < 0) {
		api->room_path = NULL;
		goto out;
	}
	error = 0;
out:
	free(profile);
	free(room);
	return error;
}

int
api_open(struct api **out, const struct api_config *config)
{
	struct http_config http = {
	    .base_url = config->base_url,
	    .key = config->key,
	    .cacert = config->cacert,
	    .agent = "gentilityfs/" PACKAGE_VERSION,
	    .max_connections = config->max_connections,
	    .connect_ms = API_CONNECT_MS,
	};
	pthread_condattr_t attr;
	struct api *api;
	size_t len;
	int error;

	if ((api = calloc(1, sizeof *api)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&api->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&api->wake, &attr);
	pthread_condattr_destroy(&attr);
	atomic_init(&api->file_form, API_FORM_UNKNOWN);
	atomic_init(&api->raw_form, API_FORM_UNKNOWN);
	atomic_init(&api->raw, API_RAW_UNKNOWN);
	api->stall_ms = config->stall_ms;
	api->limit_ms = config->limit_ms;
	api->create = config->create;
	api->replaced = config->replaced;
	api->replaced_arg = config->arg;
	api->stats = config->stats;
	error = -ENOMEM;
	if ((api->base_url = strdup(config->base_url)) == NULL)
		goto out;
	len = strlen(api->base_url);
	while (len > 0 && api->base_url[len - 1] == '/')
		api->base_url[--len] = '\0';
	if ((error = set_room_path(api, config)) != 0)
		goto out;
	error = http_open(&api->http, &http);
out:
	if (error != 0)
		api_close(api);
	else
		*out = api;
	return error;
}

void
api_shutdown(struct api *api)
{
	pthread_mutex_lock(&api->lock);
	api->closing = true;
	pthread_cond_broadcast(&api->wake);
	pthread_mutex_unlock(&api->lock);
	http_shutdown(api->http);
}

void
api_close(struct api *api)
{
	if (api == NULL)
		return;
	http_close(api->http);
	free(api->base_url);
	free(api->room_path);
	pthread_cond_destroy(&api->wake);
	pthread_mutex_destroy(&api->lock);
	free(api);
}

void
api_get_instance(struct api *api, char out[37])
{
	pthread_mutex_lock(&api->lock);
	memcpy(out, api->instance, sizeof api->instance);
	pthread_mutex_unlock(&api->lock);
}

const char *
api_base_url(const struct api *api)
{
	return api->base_url;
}

uint64_t
api_last_contact(struct api *api)
{
	uint64_t when;

	pthread_mutex_lock(&api->lock);
	when = api->last_contact;
	pthread_mutex_unlock(&api->lock);
	return when;
}

uint64_t
api_contact_age(struct api *api)
{
	uint64_t then = api_last_contact(api), now = api_now();

	return then == 0 ? UINT64_MAX : now > then ? now - then : 0;
}

void
api_get_contact(struct api *api, struct api_contact *out)
{
	pthread_mutex_lock(&api->lock);
	*out = api->contact;
	pthread_mutex_unlock(&api->lock);
}

bool
api_note_instance(struct api *api, unsigned generation, const char *id)
{
	char old[37];
	bool changed = false, current;

	atomic_store(&api->absent, false);
	pthread_mutex_lock(&api->lock);
	memcpy(old, api->instance, sizeof old);
	/*
	 * An answer to a request that went out before the last change may
	 * well be of the old instance: it must not bring that back.
	 */
	if (strcmp(old, id) != 0 &&
	    (old[0] == '\0' || generation == api->generation)) {
		snprintf(api->instance, sizeof api->instance, "%s", id);
		changed = old[0] != '\0';
		if (changed)
			api->generation++;
	}
	current = strcmp(api->instance, id) == 0;
	pthread_mutex_unlock(&api->lock);
	if (!changed)
		return current;
	/* Failures that the end of the old one explains are forgotten. */
	atomic_store(&api->file_misses, 0);
	atomic_store(&api->raw_misses, 0);
	if (api->replaced != NULL)
		api->replaced(api->replaced_arg, old, id);
	return true;
}

int
api_revive(struct api *api, const char *begin, char detail[256])
{
	char now[37];
	int error;

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

/* What a command's attempt parses into. */
static int
parse_command(void *arg, const struct http_response *res)
{
	struct api_answer *answer = arg;

	return api_parse_command(res->body, res->len, answer);
}

/* JSON can carry neither NULs nor what is not UTF-8. */
static bool
is_utf8(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;

	while (p < end) {
		unsigned c = *p++, min, more;

		if (c > 0 && c < 0x80)
			continue;
		if (c == 0 || (c >= 0x80 && c < 0xc2) || c > 0xf4)
			return false;
		more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		min = more == 0 ? 0
		    : more == 1 ? 0x80
		    : more == 2 ? 0x800
				: 0x10000;
		c &= more == 0 ? 0x7f : 0x3fu >> more;
		for (; more > 0; more--) {
			if (p == end || (*p & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*p++ & 0x3f);
		}
		if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
	}
	return true;
}

/* {"command": ...}; NULL: no memory. */
static char *
command_body(const char *command, size_t len)
{
	char *text, *body = NULL;
	cJSON *root;

	if ((text = strndup(command, len)) == NULL)
		return NULL;
	if ((root = cJSON_CreateObject()) != NULL &&
	    cJSON_AddStringToObject(root, "command", text) != NULL)
		body = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	free(text);
	return body;
}

static enum http_lane
kind_lane(enum api_kind kind)
{
	switch (kind) {
	case API_META:
	case API_CHANGE:
		return HTTP_META;
	case API_BULK:
	case API_PIECE:
		return HTTP_BULK;
	case API_USER:
		break;
	}
	return HTTP_EXEC;
}

static enum stats_kind
kind_count(enum api_kind kind)
{
	switch (kind) {
	case API_META:
		break;
	case API_BULK:
		return STATS_CONTENTS;
	case API_CHANGE:
		return STATS_CHANGE;
	case API_PIECE:
		return STATS_UPLOAD;
	case API_USER:
		return STATS_EXEC;
	}
	return STATS_METADATA;
}

/* Send the command until it is answered; see api_command(). */
static int
run_command(struct api *api, enum api_kind kind, const char *body,
    const char *again, unsigned limit_ms, const struct cancel *cancel,
    struct api_answer *answer)
{
	bool user = kind == API_USER;
	char target[strlen(api->room_path) + sizeof "/command"];
	struct api_job job = {
	    .kind = user ? RETRY_USER : RETRY_SAFE,
	    .count = kind_count(kind),
	    .limit_ms = limit_ms,
	    .again = again,
	    .cancel = cancel,
	    .parse = parse_command,
	    .arg = answer,
	    .req =
		{
		    .method = "POST",
		    .target = target,
		    .body = body,
		    .body_len = strlen(body),
		    .lane = kind_lane(kind),
		    .once = user || again != NULL,
		    .fresh = user,
		    .stall_ms = user ? 0 : api->stall_ms,
		    .max_body = API_COMMAND_MAX,
		},
	};
	int error;

	snprintf(target, sizeof target, "%s/command", api->room_path);
	error = api_run(api, &job);
	memcpy(answer->detail, job.detail, sizeof answer->detail);
	answer->status = job.res.status;
	answer->again = again != NULL && job.req.body == again;
	if (error == 0) {
		if (!api_note_instance(api, job.generation, answer->instance) &&
		    !user)
			error = -ESTALE;
		if (user) {
			answer->json = job.res.body;
			answer->json_len = job.res.len;
			job.res.body = NULL;
		}
	} else if (api_job_is(&job, "instance_not_found"))
		error = -ENODEV;
	api_job_free(&job);
	return error;
}

int
api_command(struct api *api, enum api_kind kind, const char *command,
    size_t len, struct api_answer *answer)
{
	return api_change(api, kind, command, len, NULL, 0, answer);
}

/* cancel: ends it; or NULL. */
static int
change(struct api *api, enum api_kind kind, const char *command, size_t len,
    const char *again, size_t again_len, const struct cancel *cancel,
    struct api_answer *answer)
{
	char begin[37], detail[256], *body, *again_body = NULL;
	int error;

	*answer = (struct api_answer){0};
	if (!is_utf8(command, len) || !is_utf8(again, again_len)) {
		snprintf(answer->detail, sizeof answer->detail, "%s",
		    "not run: a command must be UTF-8 without NULs");
		return -EINVAL;
	}
	if ((body = command_body(command, len)) == NULL ||
	    (again != NULL &&
		(again_body = command_body(again, again_len)) == NULL)) {
		free(body);
		return -ENOMEM;
	}
	api_get_instance(api, begin);
	error = run_command(
	    api, kind, body, again_body, api->limit_ms, cancel, answer);
	/*
	 * Without an instance it was surely not run, so that a user's command
	 * may be sent again, once; an internal one was meant for the old VM.
	 */
	if (error == -ENODEV) {
		error =
		    api_revive(api, kind == API_USER ? NULL : begin, detail);
		if (error == 0)
			error = run_command(api, kind, body, again_body,
			    api->limit_ms, cancel, answer);
		else
			snprintf(answer->detail, sizeof answer->detail,
			    "%s%.240s", kind == API_USER ? "not run: " : "",
			    detail);
	}
	free(body);
	free(again_body);
	if (error == 0 && kind != API_USER && begin[0] != '\0' &&
	    strcmp(begin, answer->instance) != 0)
		error = -ESTALE;
	if (error == -ESTALE)
		snprintf(answer->detail, sizeof answer->detail,
		    "the room has a new instance");
	return error;
}

int
api_change(struct api *api, enum api_kind kind, const char *command, size_t len,
    const char *again, size_t again_len, struct api_answer *answer)
{
	return change(api, kind, command, len, again, again_len, NULL, answer);
}

int
api_piece(struct api *api, const char *command, size_t len, const char *again,
    size_t again_len, const struct cancel *cancel, struct api_answer *answer)
{
	return change(
	    api, API_PIECE, command, len, again, again_len, cancel, answer);
}

struct creation {
	char instance[37];
	bool ready;
};

static int
parse_create(void *arg, const struct http_response *res)
{
	struct creation *creation = arg;

	return api_parse_create(
	    res->body, res->len, creation->instance, &creation->ready);
}

/* Ask for the instance once (with the retries that go with it). */
static int
create_poll(struct api *api, unsigned limit_ms, bool *ready, char detail[256])
{
	struct creation creation = {.ready = false};
	struct api_job job = {
	    .kind = RETRY_SAFE,
	    .count = STATS_CREATE,
	    .limit_ms = limit_ms,
	    .parse = parse_create,
	    .arg = &creation,
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
	int error = api_run(api, &job);

	memcpy(detail, job.detail, sizeof job.detail);
	if (error == 0)
		api_note_instance(api, job.generation, creation.instance);
	*ready = creation.ready;
	api_job_free(&job);
	return error;
}

static int
create_and_wait(struct api *api, char detail[256])
{
	unsigned limit =
	    api->limit_ms > API_CREATE_MS ? api->limit_ms : API_CREATE_MS;
	uint64_t start = api_now(), elapsed;
	struct api_answer answer;
	bool ready;
	int error;

	for (unsigned n = 1;; n++) {
		if ((elapsed = api_now() - start) >= limit)
			break;
		error =
		    create_poll(api, limit - (unsigned)elapsed, &ready, detail);
		if (error != 0 || ready)
			return error;
		/* A status that is not documented may be as good as "ready".*/
		if (n % API_CREATE_PROBE == 0) {
			error = run_command(api, API_META,
			    "{\"command\":\":\"}", NULL, 0, NULL, &answer);
			api_answer_free(&answer);
			if (error == 0 || error == -ECANCELED)
				return error;
		}
		error = api_wait_until(
		    api, api_now() + retry_backoff_ms(n, arc4random()));
		if (error != 0)
			return error;
	}
	snprintf(
	    detail, 256, "the instance was not ready after %u s", limit / 1000);
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

	log_info("starting the room's instance");
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
