#include <cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/api_internal.h"
#include "base/base64.h"

/*
 * cJSON keeps strings as C strings, so a NUL would end them early, and takes a
 * whole document for wrong when it meets half a surrogate pair.  Therefore
 * the text is rewritten before: \u0000 becomes the two bytes MARK '0', which
 * string_take() turns into a NUL again.  A MARK byte of the document itself
 * (0xff, which no valid UTF-8 holds) becomes MARK 'F'.
 */
#define MARK '\xff'

/* The value of four hexadecimal digits, or -1. */
static int
hex4(const char *p)
{
	int value = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value += c - '0';
		else if (c >= 'a' && c <= 'f')
			value += c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			value += c - 'A' + 10;
		else
			return -1;
	}
	return value;
}

/* The unit of the escape \uXXXX at p, or -1: there is none. */
static int
escaped_unit(const char *p, const char *end)
{
	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	return hex4(p + 2);
}

static bool
is_high(int unit)
{
	return unit >= 0xd800 && unit <= 0xdbff;
}

static bool
is_low(int unit)
{
	return unit >= 0xdc00 && unit <= 0xdfff;
}

/*
 * A copy of the document that is safe for cJSON, with a NUL after it, or NULL:
 * no memory, or a NUL byte inside (*len is SIZE_MAX then).
 */
static char *
stuff(const char *json, size_t *len)
{
	const char *p = json, *end = json + *len;
	size_t marks = 0;
	char *copy, *out;
	int unit;

	if (memchr(json, '\0', *len) != NULL) {
		*len = SIZE_MAX;
		return NULL;
	}
	for (; (p = memchr(p, (unsigned char)MARK, (size_t)(end - p))) != NULL;
	     p++)
		marks++;
	if ((copy = malloc(*len + marks + 1)) == NULL)
		return NULL;
	for (p = json, out = copy; p < end;) {
		if (*p == MARK) {
			*out++ = *p++;
			*out++ = 'F';
		} else if (*p != '\\' || end - p < 2) {
			*out++ = *p++;
		} else if ((unit = escaped_unit(p, end)) == 0) {
			*out++ = MARK;
			*out++ = '0';
			p += 6;
		} else if (is_high(unit) && is_low(escaped_unit(p + 6, end))) {
			memcpy(out, p, 12);
			out += 12;
			p += 12;
		} else if (is_high(unit) || is_low(unit)) {
			memcpy(out, "\\ufffd", 6);
			out += 6;
			p += 6;
		} else {
			/* Both, so that "\\u0000" is not taken for a NUL. */
			*out++ = *p++;
			if (*p != MARK)
				*out++ = *p++;
		}
	}
	*out = '\0';
	*len = (size_t)(out - copy);
	return copy;
}

/* Undo the marks of a string value, in place. */
static size_t
unstuff(char *text)
{
	char *in = text, *out = text;

	for (; *in != '\0'; in++) {
		if (*in == MARK && in[1] != '\0')
			*out++ = *++in == '0' ? '\0' : MARK;
		else
			*out++ = *in;
	}
	*out = '\0';
	return (size_t)(out - text);
}

/* 0, -EPROTO or -ENOMEM; *root is for cJSON_Delete(). */
static int
parse_object(const char *json, size_t len, cJSON **root)
{
	char *copy;

	*root = NULL;
	if (json == NULL || len == 0)
		return -EPROTO;
	if ((copy = stuff(json, &len)) == NULL)
		return len == SIZE_MAX ? -EPROTO : -ENOMEM;
	/*
	 * The final NUL is given along: cJSON before 1.7.18 reads one byte
	 * past the end otherwise (CVE-2023-53154), and it is asked for, so that
	 * nothing may follow the object.
	 */
	*root = cJSON_ParseWithLengthOpts(copy, len + 1, NULL, 1);
	free(copy);
	if (!cJSON_IsObject(*root)) {
		cJSON_Delete(*root);
		*root = NULL;
		return -EPROTO;
	}
	return 0;
}

static cJSON *
member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/*
 * Take a string member's bytes away from the tree; the caller frees them.
 * Returns NULL when it is absent or no string.
 */
static char *
string_take(const cJSON *object, const char *name, size_t *len)
{
	cJSON *item = member(object, name);
	char *text;

	if (!cJSON_IsString(item) || item->valuestring == NULL)
		return NULL;
	/* Large outputs are moved, not copied: cJSON allocates by malloc(). */
	text = item->valuestring;
	item->valuestring = NULL;
	*len = unstuff(text);
	return text;
}

/* Like string_take(), for text that is not empty and holds no NUL. */
static char *
word_take(const cJSON *object, const char *name)
{
	size_t len;
	char *text = string_take(object, name, &len);

	if (text != NULL && (len == 0 || strlen(text) != len)) {
		free(text);
		return NULL;
	}
	return text;
}

/*
 * The id becomes part of addresses and of cache names: nothing but what a
 * UUID is made of, and other plain ids, gets through.
 */
static int
take_instance(const cJSON *root, char out[37])
{
	char *id = word_take(root, "instance_id");
	size_t len;
	int error = -EPROTO;

	if (id == NULL)
		return -EPROTO;
	len = strspn(id,
	    "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_");
	if (len <= 36 && id[len] == '\0') {
		memcpy(out, id, len + 1);
		error = 0;
	}
	free(id);
	return error;
}

/* Ours, of a save beside it, with the toolkit, or gx's: nothing that a user
 * did. */
static bool
is_own(const char *path)
{
	return strstr(path, "/.gentilityfs-") != NULL ||
	    strstr(path, "/.cache/gentilityfs/toolkit-") != NULL ||
	    strstr(path, "/.cache/gentility-jobs") != NULL ||
	    strncmp(path, "/tmp/gentility-jobs-", 20) == 0;
}

/* A change that says something we understand; false: skip it. */
static bool
take_change(const cJSON *item, struct change *c)
{
	const cJSON *size = member(item, "size");
	const cJSON *status = member(item, "status");
	const char *name = cJSON_GetStringValue(status);

	*c = (struct change){.size = -1};
	if (name == NULL)
		return false;
	if (strcmp(name, "created") == 0)
		c->kind = CHANGE_CREATED;
	else if (strcmp(name, "modified") == 0)
		c->kind = CHANGE_MODIFIED;
	else if (strcmp(name, "deleted") == 0)
		c->kind = CHANGE_DELETED;
	else
		return false;
	if ((c->path = word_take(item, "path")) == NULL || *c->path != '/') {
		free(c->path);
		return false;
	}
	if (is_own(c->path)) {
		free(c->path);
		return false;
	}
	/* Up to 2^53 a double is exact. */
	if (cJSON_IsNumber(size) && size->valuedouble >= 0 &&
	    size->valuedouble <= 9007199254740992.0)
		c->size = (int64_t)size->valuedouble;
	c->mime = word_take(item, "mime_type");
	if (c->kind != CHANGE_DELETED)
		c->url = word_take(item, "public_url");
	return true;
}

static int
take_changes(const cJSON *result, struct change_list *list)
{
	const cJSON *array = member(result, "files_changed");
	const cJSON *item;
	int count;

	if (array == NULL || cJSON_IsNull(array))
		return 0;
	if (!cJSON_IsArray(array))
		return -EPROTO;
	if ((count = cJSON_GetArraySize(array)) <= 0)
		return 0;
	list->items = calloc((size_t)count, sizeof *list->items);
	if (list->items == NULL)
		return -ENOMEM;
	cJSON_ArrayForEach (item, array)
		if (take_change(item, &list->items[list->count]))
			list->count++;
	return 0;
}

static int
take_exit_code(const cJSON *result, int *out)
{
	const cJSON *item = member(result, "exit_code");

	/* Also false for what is not a number in the sense of IEEE 754. */
	if (!cJSON_IsNumber(item) ||
	    !(item->valuedouble >= INT_MIN && item->valuedouble <= INT_MAX))
		return -EPROTO;
	*out = (int)item->valuedouble;
	return *out == item->valuedouble ? 0 : -EPROTO;
}

int
api_parse_command(const char *json, size_t len, struct api_answer *answer)
{
	const cJSON *result, *status;
	cJSON *root;
	int error;

	*answer = (struct api_answer){0};
	if ((error = parse_object(json, len, &root)) != 0)
		return error;
	error = -EPROTO;
	result = member(root, "result");
	if (!cJSON_IsObject(result) ||
	    take_exit_code(result, &answer->exit_code) != 0 ||
	    take_instance(root, answer->instance) != 0)
		goto out;
	/* Required by the documents, but the exit code says as much. */
	status = member(root, "status");
	if (status != NULL && !cJSON_IsString(status))
		goto out;
	answer->success = status == NULL
	    ? answer->exit_code == 0
	    : strcmp(status->valuestring, "success") == 0;
	answer->output = string_take(result, "output", &answer->len);
	if (answer->output == NULL)
		goto out;
	error = take_changes(result, &answer->changes);
out:
	cJSON_Delete(root);
	if (error != 0)
		api_answer_free(answer);
	return error;
}

void
api_answer_free(struct api_answer *answer)
{
	free(answer->output);
	free(answer->json);
	change_list_free(&answer->changes);
	answer->output = NULL;
	answer->json = NULL;
	answer->len = answer->json_len = 0;
}

int
api_parse_file(const char *json, size_t len, struct api_file *file)
{
	cJSON *root;
	int error;

	*file = (struct api_file){0};
	if ((error = parse_object(json, len, &root)) != 0)
		return error;
	if ((error = take_instance(root, file->instance)) != 0)
		goto out;
	file->path = word_take(root, "file_path");
	file->content = string_take(root, "content", &file->len);
	if (file->path == NULL || file->content == NULL)
		error = -EPROTO;
out:
	cJSON_Delete(root);
	if (error != 0)
		api_file_free(file);
	return error;
}

void
api_file_free(struct api_file *file)
{
	free(file->path);
	free(file->content);
	*file = (struct api_file){0};
}

/* Copy what fits, for people to read: one line, no control characters. */
static void
copy_line(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 1 < size; text++) {
		unsigned char c = (unsigned char)*text;

		out[n++] = c < 0x20 || c == 0x7f ? ' ' : *text;
	}
	/* Not half a UTF-8 character at the end. */
	if (*text != '\0' && ((unsigned char)*text & 0xc0) == 0x80) {
		while (n > 0 && ((unsigned char)out[n - 1] & 0xc0) == 0x80)
			n--;
		if (n > 0)
			n--;
	}
	out[n] = '\0';
}

int
api_parse_error(const char *json, size_t len, struct api_error *out)
{
	char *text;
	cJSON *root;
	int error;

	*out = (struct api_error){0};
	if ((error = parse_object(json, len, &root)) != 0)
		return -EPROTO;
	if ((text = word_take(root, "error")) == NULL)
		error = -EPROTO;
	else
		copy_line(out->error, sizeof out->error, text);
	free(text);
	if (error == 0 && (text = word_take(root, "message")) != NULL) {
		copy_line(out->message, sizeof out->message, text);
		free(text);
	}
	cJSON_Delete(root);
	return error;
}

int
api_parse_create(const char *json, size_t len, struct api_creation *out)
{
	const char *status;
	cJSON *root;
	int error;

	*out = (struct api_creation){0};
	if ((error = parse_object(json, len, &root)) != 0)
		return error;
	status = cJSON_GetStringValue(member(root, "status"));
	if (status != NULL)
		copy_line(out->status, sizeof out->status, status);
	out->ready = strcmp(out->status, "ready") == 0;
	/* One that has just been asked for may be without a name. */
	error = take_instance(root, out->instance);
	if (error != 0 && !out->ready && out->status[0] != '\0')
		error = 0;
	cJSON_Delete(root);
	return error;
}

int
api_decode_content(char *content, size_t *len, uint64_t size)
{
	ssize_t n;

	/* Base64 is longer than what it stands for: no text is both. */
	if (*len == size)
		return 0;
	if (*len < size || size == 0)
		return -EAGAIN;
	if ((n = base64_decode(content, *len)) < 0 || (uint64_t)n != size)
		return -EAGAIN;
	content[n] = '\0';
	*len = (size_t)n;
	return 0;
}

static char *
encode(const char *text, bool keep_slash)
{
	static const char hex[] = "0123456789ABCDEF";
	static const char unreserved[] =
	    "0123456789-._~"
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char *encoded, *out;

	if ((encoded = out = malloc(3 * strlen(text) + 1)) == NULL)
		return NULL;
	for (; *text != '\0'; text++) {
		if (strchr(unreserved, *text) != NULL ||
		    (keep_slash && *text == '/')) {
			*out++ = *text;
			continue;
		}
		*out++ = '%';
		*out++ = hex[(unsigned char)*text >> 4];
		*out++ = hex[(unsigned char)*text & 15];
	}
	*out = '\0';
	return encoded;
}

char *
api_encode_path(const char *path)
{
	return encode(path, true);
}

char *
api_encode_segment(const char *text)
{
	return encode(text, false);
}
