#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"

/* The file endpoint: whole files as JSON, and the form of its wildcard. */

/* So many files in a row that no form reached: the endpoint is of no use. */
#define FILE_MISSES_MAX 4

char *
api_file_target(const char *prefix, const char *path, enum api_form form)
{
	static const char *const joint[API_FORMS] = {
	    [API_FORM_PLAIN] = "/file",
	    [API_FORM_DOUBLE] = "/file/",
	    [API_FORM_ENCODED] = "/file/%2F",
	};
	char *encoded, *target = NULL;

	if (form == API_FORM_ENCODED)
		path++; /* its slash is in the joint */
	if ((encoded = api_encode_path(path)) == NULL)
		return NULL;
	if (asprintf(&target, "%s%s%s", prefix, joint[form], encoded) < 0)
		target = NULL;
	free(encoded);
	return target;
}

const char *
api_file_form(struct api *api)
{
	static const char *const shown[API_FORMS] = {
	    [API_FORM_PLAIN] = "/file/tmp/x",
	    [API_FORM_DOUBLE] = "/file//tmp/x",
	    [API_FORM_ENCODED] = "/file/%2Ftmp/x",
	};
	int form = atomic_load(&api->file_form);

	if (form >= API_FORMS)
		form = atomic_load(&api->raw_form);
	return form >= API_FORMS ? NULL : shown[form];
}

static int
parse_file(void *arg, const struct http_response *res)
{
	struct api_file *file = arg;

	return api_parse_file(res->body, res->len, file);
}

/* Statuses that are about this address, not about the service's day. */
static bool
is_unusable(long status)
{
	switch (status) {
	case 400:
	case 404:
	case 405:
	case 406:
	case 410:
	case 414:
	case 415:
	case 422:
	case 501:
		return true;
	}
	return status >= 300 && status <= 399;
}

/*
 * Ask for the file in one form.  0 when an answer for exactly this path came
 * (*file is the caller's), -ENOENT for file_not_found, -EOPNOTSUPP when the
 * answer is about something else, -ENODEV for instance_not_found, or another
 * -errno.
 */
static int
get_file(struct api *api, const char *path, enum api_form form,
    struct api_file *file)
{
	struct api_job job = {
	    .kind = RETRY_SAFE,
	    .count = STATS_FILE,
	    .limit_ms = api->limit_ms,
	    .parse = parse_file,
	    .arg = file,
	    .req =
		{
		    .method = "GET",
		    .lane = HTTP_BULK,
		    .stall_ms = api->stall_ms,
		    .max_body = API_FILE_MAX,
		},
	};
	char *target = api_file_target(api->room_path, path, form);
	int error;

	*file = (struct api_file){0};
	if (target == NULL)
		return -ENOMEM;
	job.req.target = target;
	error = api_run(api, &job);
	if (error == 0) {
		if (!api_note_instance(api, job.generation, file->instance))
			error = -ESTALE;
		else if (strcmp(file->path, path) != 0)
			error = -EOPNOTSUPP;
		if (error != 0)
			api_file_free(file);
	} else if (api_job_is(&job, "file_not_found"))
		error = -ENOENT;
	else if (api_job_is(&job, "instance_not_found"))
		error = -ENODEV;
	else if (error == -EIO && job.res.status == 413)
		error = -EFBIG;
	else if (error == -EIO && is_unusable(job.res.status))
		error = -EOPNOTSUPP;
	api_job_free(&job);
	free(target);
	return error;
}

/*
 * A service may echo the path that it was asked for, which proves nothing.
 * The plain form's echo lacks the leading slash and gives itself away; for the
 * others a file that is there from "/" but surely not from the home tells.
 */
static bool
is_absolute(struct api *api, enum api_form form)
{
	struct api_file file = {0};
	int error;

	if (form == API_FORM_PLAIN)
		return true;
	error = get_file(api, "/proc/version", form, &file);
	api_file_free(&file);
	return error == 0;
}

/* Try one form after the other until one is understood. */
static int
find_form(struct api *api, const char *path, struct api_file *file)
{
	int error = -EOPNOTSUPP;

	for (int form = 0; form < API_FORMS; form++) {
		error = get_file(api, path, (enum api_form)form, file);
		if (error == 0 && !is_absolute(api, (enum api_form)form)) {
			api_file_free(file);
			error = -EOPNOTSUPP;
		}
		if (error == 0) {
			atomic_store(&api->file_form, form);
			atomic_store(&api->file_misses, 0);
			return 0;
		}
		if (error != -ENOENT && error != -EOPNOTSUPP)
			return error;
	}
	/*
	 * "Not found" in every form may also mean that no form reaches the
	 * file: who asked has to find out by other means.
	 */
	if (atomic_fetch_add(&api->file_misses, 1) + 1 >= FILE_MISSES_MAX) {
		int expected = API_FORM_UNKNOWN;

		atomic_compare_exchange_strong(
		    &api->file_form, &expected, API_FORM_NONE);
	}
	return -EOPNOTSUPP;
}

static int
read_file(struct api *api, const char *path, struct api_file *file)
{
	int form = atomic_load(&api->file_form);

	if (form == API_FORM_NONE)
		return -EOPNOTSUPP;
	if (form == API_FORM_UNKNOWN)
		return find_form(api, path, file);
	/*
	 * The form is known, so a "not found" is true; another path in the
	 * answer means that this one can't be named through JSON (a byte that
	 * is no UTF-8), or that the service followed a link.
	 */
	return get_file(api, path, (enum api_form)form, file);
}

int
api_read_file(
    struct api *api, const char *path, uint64_t size, void **data, size_t *len)
{
	struct api_file file = {0};
	char begin[37], detail[256];
	int error;

	*data = NULL;
	*len = 0;
	if (path[0] != '/')
		return -EINVAL;
	if (size >= API_FILE_MAX)
		return -EFBIG; /* JSON is no shorter */
	api_get_instance(api, begin);
	error = read_file(api, path, &file);
	if (error == -ENODEV) {
		error = api_revive(api, begin, detail);
		if (error == 0)
			error = read_file(api, path, &file);
	}
	if (error != 0)
		return error;
	if (begin[0] != '\0' && strcmp(begin, file.instance) != 0)
		error = -ESTALE;
	else
		error = api_decode_content(file.content, &file.len, size);
	if (error == 0) {
		*data = file.content;
		*len = file.len;
		file.content = NULL;
	}
	api_file_free(&file);
	return error;
}
