#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "room/room_impl.h"
#include "script/bulk.h"

#define READ_WHOLE   ((uint64_t)1024 * 1024) /* by the file endpoint */
#define READ_COMMAND ((size_t)1024 * 1024) /* by one command */
#define READ_PSEUDO  ((size_t)16 * 1024 * 1024)
#define READ_BULK    ((size_t)64 * 1024 * 1024)
/* What a bulk command has besides paths, at most. */
#define BULK_PROGRAM ((size_t)16 * 1024)

/*
 * Does its mode deny the VM's user, whose file it is, to read it?  Whoever does
 * has opened it when he might; nobody can open it now.
 */
static bool
is_denied(struct room *r, const struct attr *attr)
{
	const struct probe *p = room_probe(r);

	return p->uid != 0 && attr->uid == p->uid && (attr->mode & 0400) == 0;
}

/*
 * A range of a file by a command, which tells the file's version with the
 * bytes.  attr NULL: whatever version, all there is.
 */
static int
read_by_command(struct room *r, const char *path, const struct attr *attr,
    uint64_t offset, uint64_t len, char **out, size_t *out_len)
{
	/* Not of a file that several commands read beside each other. */
	bool lend =
	    attr != NULL && attr->size <= READ_WHOLE && is_denied(r, attr);
	struct validator asked, before, after;
	struct attr a, z;
	enum script_tools tools = room_tools(r);
	char nonce[17], *command, *payload = NULL;
	const char *data;
	size_t command_len, payload_len;
	int error;

	room_nonce(nonce);
	command = script_compose_read(
	    tools, nonce, path, offset, len, lend, &command_len);
	if (command == NULL)
		return errno == ENAMETOOLONG ? -ENAMETOOLONG : -ENOMEM;
	error = room_script(r,
	    &(struct room_command){.kind = API_BULK,
		.tools = tools,
		.nonce = nonce,
		.text = command,
		.len = command_len},
	    READ_PSEUDO + 65536, &payload, &payload_len);
	if (error == 0)
		error = script_parse_read(
		    payload, payload_len, &data, out_len, &a, &z);
	if (error == -EPROTO)
		error = -EIO;
	if (error == 0 && attr == NULL && *out_len >= READ_PSEUDO &&
	    a.size > *out_len)
		error = -EFBIG; /* only its beginning came */
	if (error == 0 && attr != NULL) {
		asked = attr_validator(attr);
		before = attr_validator(&a);
		after = attr_validator(&z);
		if (lend) /* it is we who have changed it */
			before.ctime = after.ctime = asked.ctime;
		if (!validator_equal(&asked, &before) ||
		    !validator_equal(&asked, &after))
			error = -EAGAIN;
	}
	if (error == -ESTALE)
		error = -EAGAIN; /* no longer a regular file */
	if (error == 0) {
		memmove(payload, data, *out_len);
		*out = payload;
		payload = NULL;
	}
	free(payload);
	free(command);
	return error;
}

static int
read_in_commands(struct room *r, const char *path, const struct attr *attr,
    uint64_t offset, size_t len, char *buf, size_t *got)
{
	char *data;
	size_t n, want;
	int error;

	for (*got = 0; *got < len; *got += n) {
		want = len - *got < READ_COMMAND ? len - *got : READ_COMMAND;
		error = read_by_command(
		    r, path, attr, offset + *got, want, &data, &n);
		if (error != 0)
			return error;
		if (n > want)
			n = want;
		memcpy(buf + *got, data, n);
		free(data);
		if (n < want)
			return -EAGAIN; /* the version says there is more */
	}
	return 0;
}

int
room_read(struct room *r, struct wait *wait, const char *path,
    const struct attr *attr, uint64_t offset, size_t len, void *buf,
    size_t *got)
{
	void *data;
	int error;

	(void)wait; /* callers wait for the job that runs this */
	*got = 0;
	if (*path == '\0')
		return -ENOENT; /* it has lost its name */
	if (offset >= attr->size)
		return 0;
	if (len > attr->size - offset)
		len = attr->size - offset;
	if (is_denied(r, attr)) {
		error = -EACCES;
	} else if (offset == 0 && len == attr->size && len <= READ_WHOLE) {
		error = api_read_file(r->api, path, attr->size, &data, got);
		if (error == 0) {
			memcpy(buf, data, *got);
			free(data);
			return 0;
		}
	} else {
		error = api_read_raw(
		    r->api, path, attr->size, offset, len, buf, got);
		if (error == 0 && *got == len)
			return 0;
		if (error == 0)
			error = -EAGAIN;
	}
	/*
	 * Another version, no such file for the endpoint, or an endpoint that
	 * can't: a command tells exactly, or brings the bytes.
	 */
	if (error == -EAGAIN || error == -EOPNOTSUPP || error == -ENOENT ||
	    error == -EFBIG || error == -EACCES || error == -EIO)
		error = read_in_commands(r, path, attr, offset, len, buf, got);
	return room_errno(error);
}

bool
room_has_ranges(struct room *r)
{
	return api_has_ranges(r->api);
}

unsigned
room_spare_connections(struct room *r)
{
	unsigned n = r->config.max_connections;

	/* Two are never for contents (http.h), two are for who waits. */
	return n > 4 ? n - 4 : 0;
}

bool
room_can_stream(struct room *r)
{
	return api_is_raw_whole(r->api);
}

int
room_read_stream(struct room *r, const char *path, const struct attr *attr,
    int (*sink)(void *arg, uint64_t offset, const void *data, size_t len),
    void *arg)
{
	int error = api_stream_raw(r->api, path, attr->size, sink, arg);

	return error == -EOPNOTSUPP || error == -ECANCELED ? error
							   : room_errno(error);
}

int
room_read_type(
    struct room *r, const char *path, const struct attr *attr, char type[96])
{
	int error = api_read_type(r->api, path, attr->size, type);

	/* Whatever it is that the endpoint can't: there is no answer. */
	if (error == -EOPNOTSUPP || error == -EAGAIN)
		return -ENODATA;
	return room_errno(error);
}

char *
room_public_url(struct room *r, const char *path)
{
	return api_public_url(r->api, path);
}

int
room_read_pseudo(struct room *r, struct wait *wait, const char *path,
    void **data, size_t *len)
{
	char *bytes;
	int error;

	(void)wait;
	error = read_by_command(r, path, NULL, 0, UINT64_MAX, &bytes, len);
	if (error == 0)
		*data = bytes;
	return error;
}

size_t
room_bulk_size(const char *path)
{
	return script_bulk_size(path);
}

size_t
room_bulk_max(struct room *r)
{
	return room_command_max(r) - BULK_PROGRAM;
}

int
room_read_bulk(struct room *r, const char *const *paths, size_t n,
    void (*got)(void *arg, size_t i, const struct attr *, const void *data),
    void *arg)
{
	struct bulk_file *files = NULL;
	char nonce[17], *command, *payload = NULL;
	size_t len, payload_len, i;
	enum script_tools tools = room_tools(r);
	int error;

	if (tools == SCRIPT_TOOLS_UNKNOWN)
		return -ESTALE;
	room_nonce(nonce);
	command = script_compose_bulk(tools, nonce, paths, n, &len);
	if (command == NULL || (files = calloc(n, sizeof *files)) == NULL) {
		free(command);
		return -ENOMEM;
	}
	error = room_script(r,
	    &(struct room_command){.kind = API_BULK,
		.tools = tools,
		.nonce = nonce,
		.text = command,
		.len = len},
	    READ_BULK, &payload, &payload_len);
	if (error == 0)
		error =
		    script_parse_bulk(payload, payload_len, paths, n, files);
	for (i = 0; i < n && error == 0; i++)
		if (files[i].good)
			got(arg, i, &files[i].attr, files[i].data);
	if (error == -EPROTO)
		log_debug("bulk: a file changed meanwhile");
	free(payload);
	free(files);
	free(command);
	return error;
}
