#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"

/*
 * The raw endpoint: no key, no JSON, and nothing in the answer that names the
 * file.  The size is the only check, so it is always made.
 */

enum {
	RAW_LIMIT_MS = 1500,
	RAW_MISSES_MAX = 3, /* files in a row without success: not used again */
	RAW_ERROR_MAX = 1 << 20 /* bytes of an error's page */
};

/* One transfer, whole (len == 0) or a range. */
struct raw_read {
	uint64_t size;
	uint64_t offset;
	size_t len;
	char *buf; /* range: where the bytes go */
	int (*sink)(void *arg, uint64_t offset, const void *data, size_t len);
	void *sink_arg;
	char *type; /* for api_read_type(): 96 bytes for the MIME type */

	uint64_t got;
	bool no_range; /* a 200 came for a part of the file */
	const struct http_response *res;
};

static void
raw_begin(void *arg)
{
	struct raw_read *raw = arg;

	raw->got = 0;
	raw->no_range = false;
}

/* On the engine thread.  Nothing is passed on before the size is checked. */
static int
raw_piece(void *arg, long status, uint64_t total, const void *data, size_t len)
{
	struct raw_read *raw = arg;
	uint64_t wanted = raw->buf != NULL ? raw->len : raw->size;
	bool whole = raw->offset == 0 && wanted == raw->size;

	if (status == 206) {
		if (raw->buf == NULL)
			return -EOPNOTSUPP; /* not asked for */
		if (raw->res->range_first != raw->offset) {
			raw->no_range = true;
			return -EOPNOTSUPP;
		}
		if (total != raw->size)
			return -EAGAIN;
	} else {
		if (total != UINT64_MAX && total != raw->size)
			return -EAGAIN;
		if (total == UINT64_MAX && raw->buf == NULL)
			return -EOPNOTSUPP;
		if (!whole && raw->type != NULL)
			return -ECANCELED; /* the headers say it all */
		if (!whole) {
			raw->no_range = true;
			return -EOPNOTSUPP;
		}
	}
	if (len > wanted - raw->got)
		return -EAGAIN;
	if (raw->buf != NULL)
		memcpy(raw->buf + raw->got, data, len);
	else {
		int error = raw->sink(raw->sink_arg, raw->got, data, len);

		if (error != 0)
			return error;
	}
	raw->got += len;
	return 0;
}

/*
 * One request in one form.  0 (raw->got bytes came), -ENOENT for 404, -EAGAIN
 * for another size, -EOPNOTSUPP, or another -errno.
 */
static int
raw_get(struct api *api, const char *instance, const char *path,
    enum api_form form, struct raw_read *raw)
{
	bool whole = raw->buf == NULL;
	struct api_job job = {
	    .kind = RETRY_SAFE,
	    .count = STATS_RAW,
	    /* There are other ways to the bytes: no long trying. */
	    .limit_ms =
		api->limit_ms < RAW_LIMIT_MS ? api->limit_ms : RAW_LIMIT_MS,
	    .begin = raw_begin,
	    .arg = raw,
	    .req =
		{
		    .method = "GET",
		    .lane = HTTP_BULK,
		    .anonymous = true,
		    .stall_ms = api->stall_ms,
		    .max_body = RAW_ERROR_MAX,
		    .range = !whole,
		    .first = raw->offset,
		    .last = raw->offset + raw->len - 1,
		    .sink = raw_piece,
		    .sink_arg = raw,
		},
	};
	char prefix[sizeof "/vm/" + 36], *target;
	long status;
	int error;

	snprintf(prefix, sizeof prefix, "/vm/%s", instance);
	if ((target = api_file_target(prefix, path, form)) == NULL)
		return -ENOMEM;
	job.req.target = target;
	/* For raw_piece(), which runs while we wait below. */
	/* cppcheck-suppress autoVariables */
	raw->res = &job.res;
	error = api_run(api, &job);
	status = job.res.status;
	if (raw->type != NULL && (status == 200 || status == 206) &&
	    (error == 0 || error == -ECANCELED)) {
		memcpy(raw->type, job.res.content_type,
		    sizeof job.res.content_type);
		api_job_free(&job);
		free(target);
		return raw->type[0] != '\0' ? 0 : -ENODATA;
	}
	if (error == 0 && status == 206)
		atomic_store(&api->raw_no_range, false);
	if (error == 0 && status != 200 && status != 206)
		error = -EOPNOTSUPP;
	else if (error == 0 && raw->got == 0)
		error = -EAGAIN; /* empty now, and it was not */
	else if (error == 0 && status == 200 && raw->got != raw->size)
		error = -EAGAIN;
	else if (error == -EOPNOTSUPP && raw->no_range)
		atomic_store(&api->raw_no_range, true);
	else if (error == -EIO || error == -EACCES) {
		if (status == 404)
			error = -ENOENT;
		else if (status == 416)
			error = -EAGAIN;
		else if (status >= 300 && status != 429 && status != 503)
			error = -EOPNOTSUPP;
	}
	api_job_free(&job);
	free(target);
	return error;
}

/* The form to begin with: what sizes proved, else what file_path proved. */
static enum api_form
raw_first_form(struct api *api)
{
	int form = atomic_load(&api->raw_form);

	if (form >= API_FORMS)
		form = atomic_load(&api->file_form);
	return form >= API_FORMS ? API_FORM_PLAIN : (enum api_form)form;
}

/* Run the transfer in the form that works, or find it. */
static int
raw_transfer(struct api *api, const char *path, struct raw_read *raw)
{
	enum api_form form = raw_first_form(api);
	bool works = atomic_load(&api->raw) == API_RAW_WORKS;
	bool other_size = false;
	char instance[37];
	int error;

	api_get_instance(api, instance);
	if (instance[0] == '\0' || atomic_load(&api->raw) == API_RAW_OFF)
		return -EOPNOTSUPP;
	for (int n = 0; n < API_FORMS; n++) {
		error = raw_get(api, instance, path, form, raw);
		if (error == 0 && raw->size == 0)
			return 0; /* that proves nothing */
		if (error == 0) {
			atomic_store(&api->raw, API_RAW_WORKS);
			atomic_store(&api->raw_form, (int)form);
			atomic_store(&api->raw_misses, 0);
			return 0;
		}
		if (works && error != -EOPNOTSUPP)
			return error == -ENOENT ? -EAGAIN : error;
		if (error == -EAGAIN)
			other_size = true;
		else if (error != -ENOENT)
			break;
		form = (enum api_form)((form + 1) % API_FORMS);
	}
	if (error != -ENOENT && error != -EAGAIN && error != -EOPNOTSUPP)
		return error;
	/* Without Range the endpoint still serves api_stream_raw(). */
	if (raw->no_range)
		return -EOPNOTSUPP;
	if (atomic_fetch_add(&api->raw_misses, 1) + 1 >= RAW_MISSES_MAX &&
	    atomic_exchange(&api->raw, API_RAW_OFF) != API_RAW_OFF)
		log_info("the raw endpoint does not work here: large files "
			 "are read by commands");
	return other_size ? -EAGAIN : -EOPNOTSUPP;
}

int
api_read_raw(struct api *api, const char *path, uint64_t size, uint64_t offset,
    size_t len, void *buf, size_t *got)
{
	struct raw_read raw = {.size = size};
	int error;

	*got = 0;
	if (path[0] != '/')
		return -EINVAL;
	if (offset >= size || len == 0)
		return 0;
	if (len > size - offset)
		len = (size_t)(size - offset);
	if (atomic_load(&api->raw_no_range) && !(offset == 0 && len == size))
		return -EOPNOTSUPP;
	/* A service may give less than was asked for at once. */
	while (*got < len) {
		raw.offset = offset + *got;
		raw.len = len - *got;
		raw.buf = (char *)buf + *got;
		if ((error = raw_transfer(api, path, &raw)) != 0)
			return error;
		*got += (size_t)raw.got;
	}
	return 0;
}

char *
api_public_url(struct api *api, const char *path)
{
	char instance[37], *url = NULL, *prefix = NULL;

	api_get_instance(api, instance);
	if (asprintf(&prefix, "%s/vm/%s", api->base_url, instance) < 0)
		return NULL;
	url = api_file_target(prefix, path, raw_first_form(api));
	free(prefix);
	return url;
}

static int
sink_nothing(void *arg, uint64_t offset, const void *data, size_t len)
{
	(void)arg;
	(void)offset;
	(void)data;
	(void)len;
	return 0;
}

int
api_read_type(struct api *api, const char *path, uint64_t size, char type[96])
{
	char byte = 0;
	struct raw_read raw = {
	    .size = size,
	    .len = 1,
	    .buf = size > 0 ? &byte : NULL,
	    .sink = sink_nothing,
	    .type = type,
	};

	type[0] = '\0';
	return path[0] == '/' ? raw_transfer(api, path, &raw) : -EINVAL;
}

bool
api_has_ranges(struct api *api)
{
	return atomic_load(&api->raw) == API_RAW_WORKS &&
	    !atomic_load(&api->raw_no_range);
}

bool
api_is_raw_whole(struct api *api)
{
	return atomic_load(&api->raw_no_range) &&
	    atomic_load(&api->raw) != API_RAW_OFF;
}

int
api_stream_raw(struct api *api, const char *path, uint64_t size,
    int (*sink)(void *arg, uint64_t offset, const void *data, size_t len),
    void *arg)
{
	struct raw_read raw = {
	    .size = size,
	    .sink = sink,
	    .sink_arg = arg,
	};

	if (path[0] != '/')
		return -EINVAL;
	return size == 0 ? 0 : raw_transfer(api, path, &raw);
}
