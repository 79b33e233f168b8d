/*
 * The command endpoint.
 */
#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server.h"

static const char *const change_words[] = {"created", "modified", "deleted"};

/*
 * Whether a JSON text has \u0000 in it: cJSON would end the string there, and
 * no command line can hold it anyway.
 */
static bool
has_nul_escape(const struct buf *b)
{
	size_t i;

	if (b->len == 0 || memchr(b->data, 0, b->len) != NULL)
		return b->len > 0;
	for (i = 0; i + 6 <= b->len; i++) {
		if (b->data[i] != '\\')
			continue;
		if (memcmp(b->data + i, "\\u0000", 6) == 0)
			return true;
		i++; /* whatever is escaped is no backslash of ours */
	}
	return false;
}

/* What happens to a command that is too large, or its body; -EINVAL. */
static int
refuse_size(struct request *req, struct answer *a)
{
	struct instance *in;

	(void)strlcpy(req->log.fault, "too_large", sizeof(req->log.fault));
	switch (req->sw->too_large) {
	case TOO_LARGE_400:
		answer_error(a, 400, "bad_request", "Invalid request");
		break;
	case TOO_LARGE_422:
		answer_error(a, 422, "unprocessable", "'command' is too long");
		break;
	case TOO_LARGE_HTML:
		a->status = 413;
		a->type = "text/html";
		buf_puts(&a->body,
		    "<html>\r\n<head><title>413 Request Entity Too Large"
		    "</title></head>\r\n</html>\r\n");
		break;
	case TOO_LARGE_RESET:
		a->end = ANSWER_RESET;
		break;
	case TOO_LARGE_E2BIG:
		in = room_get(&req->server->room);
		if (in != NULL) {
			buf_printf(&a->body,
			    "{\"instance_id\":\"%s\",\"command\":\"\","
			    "\"result\":"
			    "{\"output\":\"sh: Argument list too long\","
			    "\"exit_code\":126,\"files_changed\":[]},"
			    "\"status\":\"error\"}",
			    in->id);
			instance_unref(in);
			break;
		}
		/* FALLTHROUGH */
	default:
		answer_error(a, 413, "payload_too_large",
		    "The request body is too large");
	}
	return -EINVAL;
}

/* Take the command out of the body; -EINVAL with the answer made. */
int
command_parse(struct request *req, struct answer *a)
{
	const char *type = MHD_lookup_connection_value(
	    req->conn, MHD_HEADER_KIND, "Content-Type");
	cJSON *json;
	const char *s;

	if (req->body_too_large)
		return refuse_size(req, a);
	if (type == NULL || strncasecmp(type, "application/json", 16) != 0) {
		answer_error(a, 415, "unsupported_media_type",
		    "Content-Type has to be application/json");
		return -EINVAL;
	}
	json = req->body.failed || has_nul_escape(&req->body) ||
		!utf8_valid(req->body.data, req->body.len)
	    ? NULL
	    : cJSON_ParseWithLength(req->body.data, req->body.len);
	if (!cJSON_IsObject(json)) {
		cJSON_Delete(json);
		answer_error(
		    a, 400, "bad_request", "The body is not a JSON object");
		return -EINVAL;
	}
	s = cJSON_GetStringValue(
	    cJSON_GetObjectItemCaseSensitive(json, "command"));
	if (s != NULL && s[0] != '\0') {
		req->log.command = strdup(s);
		if (req->log.command != NULL)
			req->log.command_len = strlen(s);
	}
	cJSON_Delete(json);
	if (req->log.command != NULL && req->sw->command_limit > 0 &&
	    (double)req->log.command_len > req->sw->command_limit)
		return refuse_size(req, a);
	if (req->log.command != NULL)
		return 0;
	answer_error(a, 400, "bad_request",
	    "'command' is missing, empty or not a string");
	return -EINVAL;
}

/* The output as the switches want it shown. */
static void
shape_output(const struct switches *sw, const struct buf *in, struct buf *out)
{
	size_t limit = (size_t)sw->output_limit, head;
	static const char gap[] = "\n... truncated ...\n";

	buf_puts(out, sw->noise);
	buf_put(out, in->data, in->len);
	buf_puts(out, sw->noise_after);
	if (out->failed)
		return;
	if (sw->output_space == SPACE_TRIM) {
		while (out->len > 0 &&
		    isspace((unsigned char)out->data[out->len - 1]))
			out->len--;
	}
	if (limit == 0 || out->len <= limit)
		return;
	if (sw->output_cut == CUT_TAIL) {
		out->len = limit;
		return;
	}
	head = limit / 2;
	{
		struct buf cut = {0};

		buf_put(&cut, out->data, head);
		buf_puts(&cut, gap);
		buf_put(
		    &cut, out->data + out->len - (limit - head), limit - head);
		buf_free(out);
		*out = cut;
	}
}

static void
put_url_path(struct buf *b, const char *path)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~/";

	for (; *path != '\0'; path++) {
		if (strchr(plain, *path) != NULL)
			buf_put(b, path, 1);
		else
			buf_printf(b, "%%%02X", (unsigned char)*path);
	}
}

static void
put_changes(struct buf *b, const char *id, const struct track_changes *c)
{
	const struct track_change *ch;
	size_t i;

	buf_puts(b, "[");
	for (i = 0; i < c->count; i++) {
		ch = &c->list[i];
		buf_puts(b, i > 0 ? ",{\"path\":" : "{\"path\":");
		buf_put_json_str(b, ch->path);
		buf_printf(b, ",\"status\":\"%s\",\"size\":%lld",
		    change_words[ch->status], (long long)ch->size);
		if (ch->status != TRACK_DELETED) {
			buf_puts(b, ",\"mime_type\":");
			buf_put_json_str(b, ch->mime);
			buf_puts(b, ",\"public_url\":\"/vm/");
			buf_puts(b, id);
			buf_puts(b, "/file");
			put_url_path(b, ch->path);
			buf_puts(b, "\"");
		}
		buf_puts(b, "}");
	}
	buf_puts(b, "]");
}

/* Run the command and describe what it did. */
void
command_answer(struct request *req, struct instance *in, struct answer *a)
{
	const struct switches *sw = req->sw;
	struct run_options opts = {
	    .drop_stderr = sw->stderr_to == STDERR_DROP,
	    .track = sw->track,
	    .timeout_ms = (long)(sw->command_timeout * 1000),
	};
	struct run_result res;
	struct buf *b = &a->body, text = {0};
	const char *id =
	    req->fault.instance_id != NULL ? req->fault.instance_id : in->id;
	int error;

	if (sw->serial)
		(void)pthread_mutex_lock(&req->server->serial);
	error = instance_run(
	    in, req->log.command, req->log.command_len, &opts, &res);
	if (sw->serial)
		(void)pthread_mutex_unlock(&req->server->serial);
	if (error != 0) {
		req->log.ran = error == -EREMOTEIO;
		if (error == -ENOTCONN)
			answer_error(a, 404, "instance_not_found",
			    "The instance has just gone");
		else if (error == -EREMOTEIO)
			answer_error(a, 502, "bad_gateway",
			    "The instance went away while the command ran");
		else
			answer_error(
			    a, 500, "internal_error", strerror(-error));
		run_result_free(&res);
		return;
	}
	req->log.ran = true;
	req->log.has_exit = true;
	req->log.exit_code = res.exit_code;
	shape_output(sw, &res.output, &text);
	buf_puts(b, "{\"instance_id\":");
	buf_put_json_str(b, id);
	if (req->fault.json == FAULT_JSON_MISSING_FIELDS) {
		buf_puts(b, "}");
	} else if (req->fault.json == FAULT_JSON_WRONG_TYPES) {
		buf_puts(b,
		    ",\"command\":null,\"result\":{\"output\":42,"
		    "\"exit_code\":\"0\",\"files_changed\":"
		    "{\"path\":1}},\"status\":true}");
	} else {
		buf_puts(b, ",\"command\":");
		buf_put_json(b, req->log.command, req->log.command_len,
		    JSON_BAD_REPLACE, JSON_NUL_ESCAPE);
		buf_puts(b, ",\"result\":{\"output\":");
		buf_put_json(b, text.data, text.len,
		    (enum json_bad)sw->output_invalid,
		    (enum json_nul)sw->output_nul);
		buf_printf(
		    b, ",\"exit_code\":%d,\"files_changed\":", res.exit_code);
		put_changes(b, id, &res.changes);
		buf_printf(b, "},\"status\":\"%s\"}",
		    res.exit_code == 0 ? "success" : "error");
	}
	buf_free(&text);
	run_result_free(&res);
}
