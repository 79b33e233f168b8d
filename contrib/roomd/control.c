/*
 * The control endpoint: tests throw the switches here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server.h"

static const char *const actions[] = {
    "defaults", "faults", "expire", "renew", "not_ready", "log_reset", NULL};

static bool
is_action(const char *name)
{
	int i;

	for (i = 0; actions[i] != NULL; i++) {
		if (strcmp(actions[i], name) == 0)
			return true;
	}
	return false;
}

/* All that can be known about the server, the key left out. */
static void
put_state(struct server *srv, struct buf *b)
{
	const struct vm_spec *spec = srv->room.spec;
	struct instance *in = room_get(&srv->room);
	struct switches *sw;

	(void)pthread_mutex_lock(&srv->lock);
	sw = switches_ref(srv->switches);
	(void)pthread_mutex_unlock(&srv->lock);
	buf_puts(b, "{");
	switches_put(sw, b);
	switches_unref(sw);
	buf_puts(b, ",\"faults\":");
	faults_put(&srv->faults, b);
	buf_puts(b, ",\"instance_id\":");
	if (in != NULL)
		buf_put_json_str(b, in->id);
	else
		buf_puts(b, "null");
	buf_puts(b, ",\"root\":");
	if (spec->kind == VM_ROOTFS)
		buf_put_json_str(b, spec->data);
	else if (in != NULL && spec->kind == VM_DIR)
		buf_printf(b, "\"/proc/%d/root\"", (int)in->pid);
	else
		buf_puts(b, "\"\"");
	instance_unref(in);
	buf_printf(b, ",\"ready\":%s",
	    room_progress(&srv->room) >= 1 ? "true" : "false");
	(void)pthread_mutex_lock(&srv->log.lock);
	buf_printf(b, ",\"inflight\":%d,\"arrived\":%lu}", srv->log.inflight,
	    srv->log.next_seq - 1);
	(void)pthread_mutex_unlock(&srv->log.lock);
}

static bool
wants(const cJSON *json, const char *name)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, name));
}

/* Nothing is changed unless everything can be. */
static int
check(const cJSON *json, char *why, size_t why_len)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, json) {
		if (!switches_known(item->string) && !is_action(item->string)) {
			(void)snprintf(
			    why, why_len, "unknown switch '%s'", item->string);
			return -EINVAL;
		}
	}
	item = cJSON_GetObjectItemCaseSensitive(json, "faults");
	if (item != NULL && faults_check(item, why, why_len) != 0)
		return -EINVAL;
	item = cJSON_GetObjectItemCaseSensitive(json, "not_ready");
	if (item != NULL && (!cJSON_IsNumber(item) || item->valuedouble < 0)) {
		(void)snprintf(why, why_len, "bad value for 'not_ready'");
		return -EINVAL;
	}
	return 0;
}

/* All as at the start, but for the instance and the log. */
static int
set_defaults(struct server *srv)
{
	struct switches *sw = switches_default(), *old;
	cJSON *none = cJSON_CreateArray();
	int error = -ENOMEM;

	if (sw != NULL && none != NULL) {
		(void)pthread_mutex_lock(&srv->lock);
		old = srv->switches;
		srv->switches = sw;
		(void)pthread_mutex_unlock(&srv->lock);
		sw = old;
		room_set_not_ready(&srv->room, 0);
		room_set_polls(&srv->room, 0);
		error = faults_set(&srv->faults, none);
	}
	switches_unref(sw);
	cJSON_Delete(none);
	return error;
}

static int
change(struct server *srv, const cJSON *json, char *why, size_t why_len)
{
	struct switches *sw, *old;
	struct instance *in;
	const cJSON *item;
	bool fresh;
	int error;

	error = check(json, why, why_len);
	if (error == 0 && wants(json, "defaults"))
		error = set_defaults(srv);
	if (error != 0)
		return error;
	(void)pthread_mutex_lock(&srv->lock);
	error = switches_change(srv->switches, json, &sw, why, why_len);
	if (error == 0) {
		old = srv->switches;
		srv->switches = sw;
		switches_unref(old);
		if (cJSON_HasObjectItem(json, "rate_limit"))
			srv->tokens = sw->rate_limit > 1 ? sw->rate_limit : 1;
	}
	(void)pthread_mutex_unlock(&srv->lock);
	if (error != 0)
		return error;
	item = cJSON_GetObjectItemCaseSensitive(json, "faults");
	if (item != NULL)
		error = faults_set(&srv->faults, item);
	if (error == 0 && (wants(json, "expire") || wants(json, "renew")))
		error = room_expire(&srv->room, why);
	if (error == 0 && wants(json, "renew")) {
		error = room_create(&srv->room, &in, &fresh, why);
		if (error == 0)
			instance_unref(in);
	}
	item = cJSON_GetObjectItemCaseSensitive(json, "not_ready");
	if (error == 0 && item != NULL)
		room_set_not_ready(&srv->room, item->valuedouble);
	if (wants(json, "log_reset"))
		reqlog_reset(&srv->log);
	return error;
}

static void
control_post(struct request *req, struct answer *a)
{
	struct server *srv = req->server;
	char why[ROOM_WHY] = "out of memory";
	cJSON *json;
	int error;

	json = cJSON_ParseWithLength(
	    req->body.data != NULL ? req->body.data : "", req->body.len);
	if (!cJSON_IsObject(json)) {
		cJSON_Delete(json);
		answer_error(a, 400, "bad_request", "not a JSON object");
		return;
	}
	error = change(srv, json, why, sizeof(why));
	cJSON_Delete(json);
	if (error != 0)
		answer_error(a, error == -EINVAL ? 400 : 500,
		    error == -EINVAL ? "bad_request" : "internal_error", why);
	else
		put_state(srv, &a->body);
}

/* Anything under /_control; the key has been checked. */
void
control_answer(struct request *req, struct answer *a)
{
	struct server *srv = req->server;
	bool get = strcmp(req->method, "GET") == 0;

	if (req->rest[0] == '\0' && strcmp(req->method, "POST") == 0)
		control_post(req, a);
	else if (req->rest[0] == '\0' && get)
		put_state(srv, &a->body);
	else if (strcmp(req->rest, "/log") == 0 && get)
		reqlog_put(&srv->log, &a->body);
	else if (strcmp(req->rest, "/count") == 0 && get)
		reqlog_put_counts(&srv->log, &a->body);
	else
		answer_error(a, 404, "not_found", "No such endpoint");
}
