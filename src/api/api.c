#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

enum { API_CONNECT_MS = 10000 };

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

	*out = NULL;
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
	atomic_init(&api->body_max, SIZE_MAX);
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
