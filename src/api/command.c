#include <cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"
#include "base/utf8.h"

/* The command endpoint, and how large a command it takes. */

enum {
	API_BODY_LEAST = 4096, /* a refusal of no more is not for its size */
	API_RESETS = 2, /* of larger ones: perhaps it is */
	API_REVIVALS = 5 /* ready, and then it has no instance all the same */
};

/* What a command's attempt parses into. */
static int
parse_command(void *arg, const struct http_response *res)
{
	struct api_answer *answer = arg;

	return api_parse_command(res->body, res->len, answer);
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

size_t
api_body_size(const char *command, size_t len)
{
	size_t size = sizeof "{\"command\":\"\"}" - 1, i;

	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)command[i];

		if (c == '"' || c == '\\' ||
		    (c >= '\b' && c <= '\r' && c != '\v'))
			size += 2;
		else
			size += c < ' ' ? 6 : 1;
	}
	return size;
}

size_t
api_body_max(struct api *api)
{
	return atomic_load(&api->body_max);
}

void
api_set_body_max(struct api *api, size_t max)
{
	atomic_store(&api->body_max, max);
}

size_t
api_body_proven(struct api *api)
{
	return atomic_load(&api->body_proven);
}

/* So large a body was taken. */
static void
body_taken(struct api *api, size_t len)
{
	size_t most = atomic_load(&api->body_proven);

	while (len > most &&
	    !atomic_compare_exchange_weak(&api->body_proven, &most, len))
		;
}

/* So large a body was refused: no other is as large from now on. */
static void
body_refused(struct api *api, size_t len, const char *why)
{
	size_t most = atomic_load(&api->body_max), max = API_BODY_LEAST;

	/* What services have for a limit is a power of two, as a rule. */
	while (max * 2 < len)
		max *= 2;
	while (max < most)
		if (atomic_compare_exchange_weak(&api->body_max, &most, max)) {
			log_info("the service refuses a command of %zu KiB "
				 "(%s): up to %zu KiB from now on",
			    len >> 10, why, max >> 10);
			return;
		}
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

/*
 * May it be for the body's size that the command failed, as it seems?  A
 * smaller one shows.
 */
static bool
is_too_large(struct api *api, const struct api_job *job, size_t len)
{
	if (len <= API_BODY_LEAST)
		return false;
	if (job->res.status == 413)
		return true;
	if (len <= api_body_proven(api))
		return false;
	return job->res.status == 400 || job->res.status == 422 ||
	    (job->resets_max > 0 && job->resets >= job->resets_max);
}

/* Has the VM's shell not got the command, since it is too long for the kernel
 * there?  Ours end with 0. */
static bool
is_too_long(struct api *api, const struct api_answer *a, size_t len)
{
	return a->exit_code == 126 && len > API_BODY_LEAST &&
	    len > api_body_proven(api);
}

/* Of what was received, in the whole answer: its end was left out. */
static int
mark_cut(struct api_answer *answer)
{
	static const char member[] = "\"output_cut\":true,";
	size_t n = sizeof member - 1;
	char *json, *at;

	if ((json = realloc(answer->json, answer->json_len + n + 1)) == NULL)
		return -ENOMEM;
	answer->json = json;
	answer->cut = true;
	at = strchr(json, '{') + 1;
	memmove(at + n, at, (size_t)(json + answer->json_len + 1 - at));
	memcpy(at, member, n);
	answer->json_len += n;
	return 0;
}

/* The command ran: take what is known of that besides the answer itself. */
static int
take_answer(struct api *api, const struct api_command *command,
    struct api_job *job, struct api_answer *answer)
{
	size_t len = strlen(command->body);
	bool user = command->kind == API_USER;

	if (!api_note_instance(api, job->generation, answer->instance) && !user)
		return -ESTALE;
	if (user) {
		answer->json = job->res.body;
		answer->json_len = job->res.len;
		job->res.body = NULL;
		return job->res.cut ? mark_cut(answer) : 0;
	}
	if (is_too_long(api, answer, len)) {
		answer->fate = FATE_NOT_RUN;
		body_refused(api, len, "argument list too long");
		return -E2BIG;
	}
	body_taken(api, len);
	return 0;
}

int
api_send_command(struct api *api, const struct api_command *command,
    struct api_answer *answer)
{
	bool user = command->kind == API_USER;
	size_t len = strlen(command->body);
	char target[strlen(api->room_path) + sizeof "/command"];
	struct api_job job = {
	    .kind = user ? RETRY_USER : RETRY_SAFE,
	    .count = kind_count(command->kind),
	    .limit_ms = command->limit_ms,
	    .again = command->again,
	    .cancel = command->cancel,
	    .unready_is_final = command->unready_is_absent,
	    .parse = parse_command,
	    .arg = answer,
	    .req =
		{
		    .method = "POST",
		    .target = target,
		    .body = command->body,
		    .body_len = len,
		    .lane = kind_lane(command->kind),
		    .once = user || command->again != NULL,
		    .fresh = user,
		    .stall_ms = user ? 0 : api->stall_ms,
		    .max_body = API_COMMAND_MAX,
		},
	};
	int error;

	*answer = (struct api_answer){0};
	if (user) {
		job.req.max_string = API_COMMAND_MAX;
		job.req.max_body += API_BESIDES_MAX;
	} else if (len > API_BODY_LEAST && len > api_body_proven(api))
		job.resets_max = API_RESETS;
	snprintf(target, sizeof target, "%s/command", api->room_path);
	error = api_run(api, &job);
	answer->fate = job.fate;
	answer->status = job.res.status;
	answer->again =
	    command->again != NULL && job.req.body == command->again;
	answer->unready = error == -EIO && api_job_is_unready(&job);
	memcpy(answer->detail, job.detail, sizeof answer->detail);
	if (error == 0) {
		error = take_answer(api, command, &job, answer);
	} else if (api_job_is(&job, "instance_not_found") ||
	    (command->unready_is_absent && api_job_is_unready(&job))) {
		error = -ENODEV;
	} else if (is_too_large(api, &job, len)) {
		body_refused(api, len, job.detail);
		error = -E2BIG;
	}
	api_job_free(&job);
	return error;
}

int
api_command(struct api *api, enum api_kind kind, const char *command,
    size_t len, struct api_answer *answer)
{
	return api_change(api, kind, command, len, NULL, 0, answer);
}

/*
 * Without an instance it was surely not run, so that a user's command may be
 * sent again; an internal one was meant for the old VM.
 */
static int
send_until_there(struct api *api, struct api_command *command,
    const char *begin, struct api_answer *answer)
{
	char detail[256];
	int error, tries;

	/* Nobody has seen it work yet: then it may be starting as well. */
	command->unready_is_absent = api->create && command->kind != API_USER &&
	    api_body_proven(api) == 0;
	for (tries = 0;; tries++) {
		error = api_send_command(api, command, answer);
		if (error != -ENODEV || tries == API_REVIVALS)
			return error;
		command->unready_is_absent = false;
		if (tries > 0 &&
		    (error = api_wait_until(api,
			 api_now() +
			     retry_backoff_ms(
				 (unsigned)tries, arc4random()))) != 0)
			return error;
		error = api_revive(
		    api, command->kind == API_USER ? NULL : begin, detail);
		if (error != 0) {
			snprintf(answer->detail, sizeof answer->detail, "%s",
			    detail);
			return error;
		}
	}
}

/* cancel: ends it; or NULL. */
static int
change(struct api *api, enum api_kind kind, const char *command, size_t len,
    const char *again, size_t again_len, const struct cancel *cancel,
    struct api_answer *answer)
{
	struct api_command c = {
	    .kind = kind, .limit_ms = api->limit_ms, .cancel = cancel};
	char begin[37], *body = NULL, *again_body = NULL;
	int error;

	*answer = (struct api_answer){0};
	if (!utf8_is_text(command, len) || !utf8_is_text(again, again_len)) {
		snprintf(answer->detail, sizeof answer->detail, "%s",
		    "a command must be UTF-8 without NULs");
		return -EINVAL;
	}
	error = -ENOMEM;
	if ((body = command_body(command, len)) == NULL ||
	    (again != NULL &&
		(again_body = command_body(again, again_len)) == NULL))
		goto out;
	c.body = body;
	c.again = again_body;
	api_get_instance(api, begin);
	error = send_until_there(api, &c, begin, answer);
	if (error == 0 && kind != API_USER && begin[0] != '\0' &&
	    strcmp(begin, answer->instance) != 0)
		error = -ESTALE;
	if (error == -ESTALE)
		snprintf(answer->detail, sizeof answer->detail,
		    "the room has a new instance");
out:
	free(body);
	free(again_body);
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
