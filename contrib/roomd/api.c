/*
 * Which endpoint a request is for, who may use it, and which fault hits it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fdpass.h"
#include "server.h"

/* An error as the documents show them. */
void
answer_error(
    struct answer *a, int status, const char *error, const char *message)
{
	a->status = status;
	a->type = "application/json";
	buf_free(&a->body);
	buf_puts(&a->body, "{\"error\":");
	buf_put_json_str(&a->body, error);
	buf_puts(&a->body, ",\"message\":");
	buf_put_json_str(&a->body, message);
	buf_puts(&a->body, "}");
}

static const char *
status_word(int status)
{
	switch (status) {
	case 400:
		return "bad_request";
	case 401:
		return "unauthorized";
	case 403:
		return "forbidden";
	case 404:
		return "not_found";
	case 409:
		return "conflict";
	case 413:
		return "payload_too_large";
	case 429:
		return "rate_limited";
	case 502:
		return "bad_gateway";
	case 503:
		return "service_unavailable";
	case 504:
		return "gateway_timeout";
	default:
		return status >= 500 ? "internal_error" : "error";
	}
}

/* The length of the path's first component; *next is what follows it. */
static size_t
component(const char *p, const char **next)
{
	size_t len = strcspn(p, "/");

	*next = p + len;
	return len;
}

/* Find the endpoint and take the uri apart. */
void
api_classify(struct request *req)
{
	const char *p = req->uri;

	req->log.kind = KIND_OTHER;
	if (strncmp(p, "/_control", 9) == 0 && (p[9] == '\0' || p[9] == '/')) {
		req->log.kind = KIND_CONTROL;
		req->rest = p + 9;
	} else if (strncmp(p, "/vm/", 4) == 0) {
		req->name = p + 4;
		req->name_len = component(req->name, &p);
		if (strncmp(p, "/file/", 6) == 0) {
			req->rest = p + 6;
			req->log.kind = KIND_RAW;
		}
	} else if (strncmp(p, "/api/profile/", 13) == 0) {
		req->profile = p + 13;
		req->profile_len = component(req->profile, &p);
		if (strncmp(p, "/room/", 6) != 0)
			return;
		req->name = p + 6;
		req->name_len = component(req->name, &p);
		if (*p == '\0' && req->name_len > 0)
			req->log.kind = KIND_CREATE;
		else if (strcmp(p, "/command") == 0)
			req->log.kind = KIND_COMMAND;
		else if (strncmp(p, "/file/", 6) == 0) {
			req->rest = p + 6;
			req->log.kind = KIND_FILE;
		}
	}
}

static bool
authorized(struct request *req)
{
	const char *h = MHD_lookup_connection_value(
	    req->conn, MHD_HEADER_KIND, "Authorization");

	unsigned char diff = 0;
	size_t i;

	if (h == NULL || strncasecmp(h, "Bearer ", 7) != 0 ||
	    strlen(h + 7) != KEY_LEN - 1)
		return false;
	for (i = 0; i < KEY_LEN - 1; i++) /* in the same time for any key */
		diff |= (unsigned char)(h[7 + i] ^ req->server->key[i]);
	return diff == 0;
}

static bool
method_fits(struct request *req, struct answer *a)
{
	bool post =
	    req->log.kind == KIND_COMMAND || req->log.kind == KIND_CREATE;

	if (strcmp(req->method, "POST") == 0 ? post
					     : !post &&
		    (strcmp(req->method, "GET") == 0 ||
			strcmp(req->method, "HEAD") == 0))
		return true;
	answer_error(a, 405, "method_not_allowed",
	    "This endpoint does not know that method");
	a->allow = post ? "POST" : "GET, HEAD";
	return false;
}

/* Take a token of the rate limit, or tell after how long to come again. */
static int
rate_limited(struct request *req)
{
	struct server *srv = req->server;
	double rate = req->sw->rate_limit, now = clock_now(), most;
	int wait = 0;

	if (rate <= 0)
		return 0;
	most = rate > 1 ? rate : 1;
	(void)pthread_mutex_lock(&srv->lock);
	srv->tokens += (now - srv->tokens_at) * rate;
	srv->tokens_at = now;
	if (srv->tokens > most)
		srv->tokens = most;
	if (srv->tokens >= 1)
		srv->tokens -= 1;
	else
		wait = (int)((1 - srv->tokens) / rate) + 1;
	(void)pthread_mutex_unlock(&srv->lock);
	return wait;
}

/* Decode the room's name and compare; encoded forms are as good as any. */
static bool
is_room(struct request *req)
{
	const char *want = req->server->room.name, *p = req->name;
	const char *end = p + req->name_len;
	char hex[3] = "", *stop;
	int c;

	for (; p < end; p++, want++) {
		c = (unsigned char)*p;
		if (c == '%' && end - p >= 3) {
			memcpy(hex, p + 1, 2);
			c = (int)strtol(hex, &stop, 16);
			if (*stop != '\0')
				return false;
			p += 2;
		}
		if (c == 0 || c != (unsigned char)*want)
			return false;
	}
	return *want == '\0';
}

static void
no_instance(struct request *req, struct answer *a)
{
	struct buf text = {0};

	if (req->log.kind == KIND_RAW)
		buf_printf(&text, "No instance found with id %.*s",
		    (int)req->name_len, req->name);
	else
		buf_printf(&text,
		    "No instance found for profile %.*s and room %.*s",
		    (int)req->profile_len, req->profile, (int)req->name_len,
		    req->name);
	answer_error(
	    a, 404, "instance_not_found", text.data != NULL ? text.data : "");
	buf_free(&text);
}

/* What a starting instance passes through, as far as it has come. */
static const char *
boot_status(double progress)
{
	static const char *const steps[] = {"active", "network_allocated",
	    "ftap_created", "image_generated", "vm_started", "vm_booted"};

	/* A sixth of a number of polls is not exact. */
	return progress >= 1 ? "ready" : steps[(int)(progress * 6 + 1e-9)];
}

static bool
not_ready(struct request *req, struct answer *a)
{
	if (room_progress(&req->server->room) >= 1)
		return false;
	(void)strlcpy(req->log.fault, "not_ready", sizeof(req->log.fault));
	if (req->sw->boot_refuse == BOOT_REFUSE_404)
		no_instance(req, a);
	else
		answer_error(a, 503, "instance_not_ready",
		    "The instance is not ready, retry after a short delay");
	return true;
}

static void
create_answer(struct request *req, struct answer *a)
{
	struct room *room = &req->server->room;
	struct instance *in;
	struct buf *b = &a->body;
	char why[ROOM_WHY];
	const char *id;
	bool fresh;
	double progress;

	if (room_create(room, &in, &fresh, why) != 0) {
		answer_error(a, 503, "no_host_available", why);
		return;
	}
	req->log.ran = fresh;
	if (fresh && req->sw->boot > 0)
		room_set_not_ready(room, req->sw->boot);
	if (fresh && req->sw->boot_polls > 0)
		room_set_polls(room, req->sw->boot_polls * 6);
	progress = room_poll(room);
	id = req->fault.instance_id != NULL ? req->fault.instance_id : in->id;
	if (progress < 1 && req->sw->boot_answer == BOOT_ANSWER_503) {
		a->status = 503;
		buf_puts(b,
		    "{\"error\":\"instance_not_ready\",\"message\":"
		    "\"The instance is not ready, retry after a "
		    "short delay\",");
	} else {
		buf_puts(b, "{");
	}
	if (req->fault.json == FAULT_JSON_MISSING_FIELDS)
		buf_puts(b, "\"host\":{}}");
	else if (req->fault.json == FAULT_JSON_WRONG_TYPES)
		buf_puts(b, "\"instance_id\":7,\"status\":[],\"host\":\"\"}");
	else {
		buf_puts(b, "\"instance_id\":");
		buf_put_json_str(b, id);
		buf_printf(
		    b, ",\"profile_id\":\"%s\",\"room_id\":", room->profile);
		buf_put_json_str(b, room->name);
		buf_printf(b,
		    ",\"status\":\"%s\",\"host\":{\"id\":\"%s\",\"name\":"
		    "\"localhost\"},\"profile\":{\"id\":\"%s\",\"name\":"
		    "\"local room\"}}",
		    boot_status(progress), room->host_id, room->profile);
	}
	instance_unref(in);
}

/* The endpoint itself, faults and delays left out. */
static void
endpoint_answer(struct request *req, struct answer *a)
{
	struct room *room = &req->server->room;
	struct instance *in;

	if (req->log.kind != KIND_RAW) {
		if (!uuid_valid(req->profile, req->profile_len)) {
			answer_error(
			    a, 400, "bad_request", "profile_id is not a UUID");
			return;
		}
		if (strncasecmp(
			req->profile, room->profile, req->profile_len) != 0 ||
		    !is_room(req)) {
			if (req->log.kind == KIND_CREATE)
				answer_error(a, 503, "no_host_available",
				    "No host is free for another room");
			else
				no_instance(req, a);
			return;
		}
	}
	if (req->log.kind == KIND_CREATE) {
		create_answer(req, a);
		return;
	}
	in = room_get(room);
	if (in == NULL ||
	    (req->log.kind == KIND_RAW &&
		(req->name_len != UUID_LEN - 1 ||
		    strncasecmp(req->name, in->id, UUID_LEN - 1) != 0)))
		no_instance(req, a);
	else if (!not_ready(req, a)) {
		if (req->log.kind == KIND_COMMAND)
			command_answer(req, in, a);
		else if (req->log.kind == KIND_FILE)
			file_answer(req, in, a);
		else
			raw_answer(req, in, a);
	}
	instance_unref(in);
}

/* An answer that a fault makes up. */
static void
fault_answer(struct request *req, struct answer *a)
{
	struct fault *f = &req->fault;
	char text[160];

	if (a->fd != -1)
		fdpass_close(&a->fd);
	if (f->has_body) {
		a->status = f->status;
		buf_free(&a->body);
		buf_put(&a->body, f->body.data, f->body.len);
	} else if (f->html) {
		a->status = f->status;
		a->type = "text/html; charset=utf-8";
		buf_free(&a->body);
		buf_printf(&a->body,
		    "<html>\r\n<head><title>%d</title></head>\r\n<body>\r\n"
		    "<center><h1>%d %s</h1></center>\r\n<hr><center>nginx"
		    "</center>\r\n</body>\r\n</html>\r\n",
		    f->status, f->status, status_word(f->status));
	} else {
		(void)snprintf(text, sizeof(text),
		    "The service answers with status %d", f->status);
		answer_error(a, f->status, status_word(f->status), text);
	}
	a->retry_after = f->retry_after;
	a->location = f->redirect;
}

/* Spoil a proper answer. */
static void
spoil_json(struct request *req, struct answer *a)
{
	if (req->fault.json == FAULT_JSON_CUT) {
		if (a->fd != -1)
			a->length /= 2;
		else
			a->body.len /= 2;
	} else if (req->fault.json == FAULT_JSON_MALFORMED && a->fd == -1 &&
	    a->body.len > 0) {
		a->body.data[a->body.len - 1] = ']';
		buf_puts(&a->body, "}\",");
	}
}

/* What the fault rules look at besides the kind. */
static const char *
fault_text(const struct request *req)
{
	if (req->log.command != NULL)
		return req->log.command;
	return req->log.path != NULL ? req->log.path : req->uri;
}

static void
faulty_answer(struct request *req, struct answer *a)
{
	struct fault *f = &req->fault;

	faults_match(&req->server->faults, req_kind_names[req->log.kind],
	    fault_text(req), f);
	(void)strlcpy(req->log.fault, f->name, sizeof(req->log.fault));
	if (f->hang > 0 && http_wait(req, f->hang, false) != 0)
		a->end = ANSWER_CLOSE;
	if (!f->skip)
		endpoint_answer(req, a);
	if (f->status != 0)
		fault_answer(req, a);
	if (f->json != FAULT_JSON_NONE)
		spoil_json(req, a);
	switch (f->end) {
	case FAULT_END_ANSWER:
		break;
	case FAULT_END_CLOSE:
		a->end = ANSWER_CLOSE;
		break;
	case FAULT_END_RESET:
		a->end = ANSWER_RESET;
		break;
	case FAULT_END_RESET_MIDDLE:
		a->end = ANSWER_RESET_MIDDLE;
		break;
	case FAULT_END_HANG:
		(void)http_wait(req, -1, true);
		a->end = ANSWER_CLOSE;
		break;
	}
}

/* Answer a request whose body is complete. */
void
api_answer(struct request *req, struct answer *a)
{
	double delay = req->sw->latency_ms / 1000;
	int wait;

	if (req->log.kind == KIND_CONTROL) {
		if (authorized(req))
			control_answer(req, a);
		else
			answer_error(a, 401, "unauthorized",
			    "Missing or invalid API key");
		return;
	}
	if (req->log.kind == KIND_CREATE)
		req->log.path = strndup(req->name, req->name_len);
	if (req->new_conn && req->sw->latency_connect && delay > 0)
		(void)http_wait(req, delay, false);
	wait = rate_limited(req);
	if (wait > 0) {
		answer_error(a, 429, "rate_limited", "Too many requests");
		a->retry_after = wait;
		(void)strlcpy(
		    req->log.fault, "rate_limit", sizeof(req->log.fault));
	} else if (req->log.kind == KIND_OTHER) {
		answer_error(a, 404, "not_found", "No such endpoint");
	} else if (req->log.kind != KIND_RAW && !authorized(req)) {
		answer_error(
		    a, 401, "unauthorized", "Missing or invalid API key");
		a->authenticate = true;
	} else if (method_fits(req, a) &&
	    (req->log.kind != KIND_COMMAND || command_parse(req, a) == 0) &&
	    (req->rest == NULL || file_path(req, a) == 0)) {
		faulty_answer(req, a);
	}
	if (a->end == ANSWER_SEND && delay > 0)
		(void)http_wait(req, delay, false);
}
