/*
 * The file endpoint and the raw endpoint.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdpass.h"
#include "mime.h"
#include "server.h"

static int
hex_value(char c)
{
	const char *digits = "0123456789abcdef", *p;

	if (c >= 'A' && c <= 'F')
		c = (char)(c - 'A' + 'a');
	p = c != '\0' ? strchr(digits, c) : NULL;
	return p != NULL ? (int)(p - digits) : -1;
}

static int
percent_decode(const char *s, struct buf *out)
{
	char c;

	for (; *s != '\0'; s++) {
		c = *s;
		if (c == '%') {
			if (hex_value(s[1]) < 0 || hex_value(s[2]) < 0)
				return -EINVAL;
			c = (char)(hex_value(s[1]) << 4 | hex_value(s[2]));
			if (c == '\0')
				return -EINVAL;
			s += 2;
		}
		buf_put(out, &c, 1);
	}
	return 0;
}

/* Runs of slashes become one. */
static void
squeeze(char *s)
{
	char *to = s;

	for (; *s != '\0'; s++) {
		if (*s != '/' || to == s || to[-1] != '/')
			*to++ = *s;
	}
	*to = '\0';
}

/*
 * The absolute path in the VM that a wildcard means under the present rule,
 * into the request's log entry.  -EINVAL with the answer made.
 */
int
file_path(struct request *req, struct answer *a)
{
	const char *home = req->server->room.spec->home, *p = req->rest;
	struct buf plain = {0}, path = {0};
	bool absolute = true;

	if (req->sw->paths == PATHS_HOME_ENCODED) {
		absolute = strncasecmp(p, "%2f", 3) == 0;
		if (!absolute)
			p += strspn(p, "/");
	}
	buf_put(&plain, "", 0);
	if (percent_decode(p, &plain) != 0 || plain.failed) {
		buf_free(&plain);
		answer_error(
		    a, 400, "bad_request", "The path is not properly encoded");
		return -EINVAL;
	}
	if (req->sw->paths == PATHS_HOME)
		absolute = plain.data[0] == '/';
	if (!absolute)
		buf_puts(&path, home);
	if (plain.data[0] != '/')
		buf_puts(&path, "/");
	buf_puts(&path, plain.data);
	buf_free(&plain);
	if (path.failed) {
		buf_free(&path);
		answer_error(a, 500, "internal_error", "Out of memory");
		return -EINVAL;
	}
	squeeze(path.data);
	req->log.path = path.data;
	return 0;
}

/* Open what the request is for; -1 with the answer made. */
static int
open_path(struct request *req, struct instance *in, struct answer *a)
{
	struct buf text = {0};
	int error, fd;

	error = instance_open(in, req->log.path, &fd);
	req->log.ran = true;
	if (error == 0)
		return fd;
	if (error == -ENOTCONN || error == -EREMOTEIO) {
		answer_error(
		    a, 404, "instance_not_found", "The instance has just gone");
	} else {
		buf_printf(
		    &text, "File '%s' not found in instance", req->log.path);
		answer_error(a, 404, "file_not_found",
		    text.data != NULL ? text.data : "");
		buf_free(&text);
	}
	return -1;
}

/* All of a file, up to a limit: -EFBIG. */
static int
read_all(int fd, double limit, struct buf *out)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) == 0 && st.st_size > 0) {
		if ((double)st.st_size > limit)
			return -EFBIG;
		(void)buf_reserve(out, (size_t)st.st_size + 1);
	}
	for (;;) {
		if (!buf_reserve(out, 65536))
			return -ENOMEM;
		n = read(fd, out->data + out->len, out->cap - out->len - 1);
		if (n == 0)
			break;
		if (n == -1) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		out->len += (size_t)n;
		if ((double)out->len > limit)
			return -EFBIG;
	}
	out->data[out->len] = '\0';
	return 0;
}

static const char *
mime_of(const char *path, const char *head, size_t len)
{
	const char *type = mime_by_name(path);

	return type != NULL
	    ? type
	    : mime_by_head(head, len < MIME_HEAD ? len : MIME_HEAD);
}

/* Whether the service would call these contents text. */
static bool
is_text(const struct switches *sw, const char *path, const struct buf *data)
{
	switch (sw->base64) {
	case BASE64_ALWAYS:
		return false;
	case BASE64_NUL_IS_TEXT:
		return utf8_valid(data->data, data->len);
	case BASE64_LOSSY:
		return true;
	case BASE64_MIME:
		return strncmp(mime_of(path, data->data, data->len), "text/",
			   5) == 0;
	default:
		return memchr(data->data, 0, data->len) == NULL &&
		    utf8_valid(data->data, data->len);
	}
}

/* GET /api/profile/{p}/room/{r}/file/{path} */
void
file_answer(struct request *req, struct instance *in, struct answer *a)
{
	const char *id =
	    req->fault.instance_id != NULL ? req->fault.instance_id : in->id;
	struct buf data = {0}, *b = &a->body;
	int fd, error;

	fd = open_path(req, in, a);
	if (fd == -1)
		return;
	error = read_all(fd, req->sw->max_file, &data);
	(void)close(fd);
	if (error == -EFBIG) {
		answer_error(a, 413, "file_too_large",
		    "The file is too large for this endpoint");
	} else if (error != 0) {
		answer_error(a, 500, "internal_error", strerror(-error));
	} else if (req->fault.json == FAULT_JSON_MISSING_FIELDS) {
		buf_printf(b, "{\"instance_id\":\"%s\"}", id);
	} else if (req->fault.json == FAULT_JSON_WRONG_TYPES) {
		buf_puts(b,
		    "{\"file_path\":1,\"content\":{\"data\":[]},"
		    "\"instance_id\":null}");
	} else {
		buf_puts(b, "{\"file_path\":");
		buf_put_json_str(b,
		    req->sw->file_path == FILE_PATH_ECHO ? req->rest
							 : req->log.path);
		buf_puts(b, ",\"content\":");
		if (is_text(req->sw, req->log.path, &data)) {
			buf_put_json(b, data.data, data.len, JSON_BAD_REPLACE,
			    JSON_NUL_ESCAPE);
		} else {
			buf_puts(b, "\"");
			buf_put_base64(b, data.data, data.len);
			buf_puts(b, "\"");
		}
		buf_puts(b, ",\"instance_id\":");
		buf_put_json_str(b, id);
		buf_puts(b, "}");
	}
	buf_free(&data);
}

/*
 * One byte range.  1 when *first and *last are set, 0 when the header is to
 * be ignored (syntax, several ranges), -ERANGE when there is no such part.
 */
static int
parse_range(const char *s, long long size, long long *first, long long *last)
{
	char *end;

	if (strncasecmp(s, "bytes=", 6) != 0)
		return 0;
	s += 6;
	errno = 0;
	if (*s == '-') {
		*first = strtoll(s + 1, &end, 10);
		if (end == s + 1 || *end != '\0' || s[1] < '0' || s[1] > '9')
			return 0;
		if (*first == 0 || size == 0)
			return -ERANGE;
		*first = *first > size ? 0 : size - *first;
		*last = size - 1;
		return 1;
	}
	if (*s < '0' || *s > '9')
		return 0;
	*first = strtoll(s, &end, 10);
	if (*end != '-')
		return 0;
	s = end + 1;
	*last = size - 1;
	if (*s != '\0') {
		*last = strtoll(s, &end, 10);
		if (*s < '0' || *s > '9' || *end != '\0' || *last < *first)
			return 0;
		if (*last >= size)
			*last = size - 1;
	}
	return *first >= size ? -ERANGE : 1;
}

static bool
raw_refused(struct request *req, struct answer *a)
{
	switch (req->sw->raw) {
	case RAW_OFF:
		answer_error(a, 404, "not_found", "No such endpoint");
		return true;
	case RAW_ERROR:
		answer_error(a, 500, "internal_error", "Something went wrong");
		return true;
	case RAW_FORBIDDEN:
		answer_error(a, 403, "forbidden", "Access denied");
		return true;
	default:
		return false;
	}
}

/* Apply the client's Range to an answer that has the whole file. */
static void
apply_range(struct request *req, struct answer *a)
{
	const char *range = req->log.range;
	long long first, last, size = a->length;
	int r = 0;

	a->accept_ranges = true;
	/* There are no validators here that an If-Range could match. */
	if (range != NULL &&
	    MHD_lookup_connection_value(
		req->conn, MHD_HEADER_KIND, "If-Range") == NULL)
		r = parse_range(range, size, &first, &last);
	if (r == 0)
		return;
	if (r < 0) {
		fdpass_close(&a->fd);
		answer_error(a, 416, "range_not_satisfiable",
		    "The file has no such part");
		(void)snprintf(a->content_range, sizeof(a->content_range),
		    "bytes */%lld", size);
		return;
	}
	a->status = 206;
	a->offset = first;
	a->length = last - first + 1;
	(void)snprintf(a->content_range, sizeof(a->content_range),
	    "bytes %lld-%lld/%lld", first, last, size);
}

/* GET /vm/{instance_id}/file/{path} */
void
raw_answer(struct request *req, struct instance *in, struct answer *a)
{
	char head[MIME_HEAD];
	struct stat st;
	ssize_t n;
	int error;

	if (raw_refused(req, a))
		return;
	a->fd = open_path(req, in, a);
	if (a->fd == -1)
		return;
	n = pread(a->fd, head, sizeof(head), 0);
	a->type = mime_of(req->log.path, head, n > 0 ? (size_t)n : 0);
	if (fstat(a->fd, &st) == -1)
		st.st_size = 0;
	a->length = st.st_size;
	if (st.st_size == 0 && n > 0) {
		/* /proc and the like: the size is known after reading. */
		error = read_all(a->fd, req->sw->max_file, &a->body);
		fdpass_close(&a->fd);
		if (error != 0)
			answer_error(
			    a, 500, "internal_error", strerror(-error));
		return;
	}
	if (req->sw->raw == RAW_RANGE)
		apply_range(req, a);
}
