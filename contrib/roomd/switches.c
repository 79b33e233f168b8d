/*
 * The switches as a table: parsing, showing and copying all follow from it.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "switches.h"

enum sw_type { SW_BOOL, SW_NUMBER, SW_TEXT, SW_CHOICE };

struct sw_row {
	const char *name;
	enum sw_type type;
	size_t offset;
	const char *choices[8]; /* in the order of the enum */
};

#define SW_AT(member) offsetof(struct switches, member)

static const struct sw_row table[] = {
    {"latency_ms", SW_NUMBER, SW_AT(latency_ms), {NULL}},
    {"latency_connect", SW_BOOL, SW_AT(latency_connect), {NULL}},
    {"output_limit", SW_NUMBER, SW_AT(output_limit), {NULL}},
    {"output_cut", SW_CHOICE, SW_AT(output_cut), {"tail", "middle"}},
    {"output_space", SW_CHOICE, SW_AT(output_space), {"trim", "exact"}},
    {"output_invalid", SW_CHOICE, SW_AT(output_invalid),
	{"replace", "drop", "raw"}},
    {"output_nul", SW_CHOICE, SW_AT(output_nul), {"escape", "drop"}},
    {"noise", SW_TEXT, SW_AT(noise), {NULL}},
    {"noise_after", SW_TEXT, SW_AT(noise_after), {NULL}},
    {"stderr", SW_CHOICE, SW_AT(stderr_to), {"merge", "drop"}},
    {"command_timeout", SW_NUMBER, SW_AT(command_timeout), {NULL}},
    {"rate_limit", SW_NUMBER, SW_AT(rate_limit), {NULL}},
    {"boot", SW_NUMBER, SW_AT(boot), {NULL}},
    {"boot_polls", SW_NUMBER, SW_AT(boot_polls), {NULL}},
    {"boot_answer", SW_CHOICE, SW_AT(boot_answer), {"503", "200"}},
    {"boot_refuse", SW_CHOICE, SW_AT(boot_refuse), {"503", "404"}},
    {"raw", SW_CHOICE, SW_AT(raw),
	{"range", "norange", "off", "error", "forbidden"}},
    {"base64", SW_CHOICE, SW_AT(base64),
	{"auto", "always", "nul-is-text", "lossy", "mime"}},
    {"paths", SW_CHOICE, SW_AT(paths), {"absolute", "home", "home-encoded"}},
    {"file_path", SW_CHOICE, SW_AT(file_path), {"absolute", "echo"}},
    {"track", SW_BOOL, SW_AT(track), {NULL}},
    {"gzip", SW_BOOL, SW_AT(gzip), {NULL}},
    {"max_body", SW_NUMBER, SW_AT(max_body), {NULL}},
    {"command_limit", SW_NUMBER, SW_AT(command_limit), {NULL}},
    {"too_large", SW_CHOICE, SW_AT(too_large),
	{"413", "413-html", "400", "422", "e2big", "reset"}},
    {"serial", SW_BOOL, SW_AT(serial), {NULL}},
    {"max_file", SW_NUMBER, SW_AT(max_file), {NULL}},
    {"log_full", SW_BOOL, SW_AT(log_full), {NULL}},
};

#define TABLE_ROWS (sizeof(table) / sizeof(table[0]))

static void *
at(const struct switches *sw, const struct sw_row *row)
{
	return (char *)(uintptr_t)sw + row->offset;
}

/* What a room does when nobody asked for anything. */
struct switches *
switches_default(void)
{
	struct switches *sw = calloc(1, sizeof(*sw));

	if (sw == NULL)
		return NULL;
	sw->refs = 1;
	sw->track = true;
	sw->max_body = 1 << 20;
	sw->max_file = 256 << 20;
	sw->noise = strdup("");
	sw->noise_after = strdup("");
	if (sw->noise == NULL || sw->noise_after == NULL) {
		switches_unref(sw);
		return NULL;
	}
	return sw;
}

struct switches *
switches_ref(struct switches *sw)
{
	__atomic_add_fetch(&sw->refs, 1, __ATOMIC_RELAXED);
	return sw;
}

void
switches_unref(struct switches *sw)
{
	if (sw == NULL ||
	    __atomic_sub_fetch(&sw->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	free(sw->noise);
	free(sw->noise_after);
	free(sw);
}

static const struct sw_row *
find_row(const char *name)
{
	size_t i;

	for (i = 0; i < TABLE_ROWS; i++) {
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	}
	return NULL;
}

bool
switches_known(const char *name)
{
	return find_row(name) != NULL;
}

static bool
set_row(struct switches *sw, const struct sw_row *row, const cJSON *value)
{
	char **text, *copy;
	int i;

	switch (row->type) {
	case SW_BOOL:
		if (!cJSON_IsBool(value))
			return false;
		*(bool *)at(sw, row) = cJSON_IsTrue(value);
		return true;
	case SW_NUMBER:
		if (cJSON_IsNull(value)) {
			*(double *)at(sw, row) = 0;
			return true;
		}
		if (!cJSON_IsNumber(value) || !(value->valuedouble >= 0) ||
		    value->valuedouble > 1e15)
			return false;
		*(double *)at(sw, row) = value->valuedouble;
		return true;
	case SW_TEXT:
		if (!cJSON_IsString(value) && !cJSON_IsNull(value))
			return false;
		text = at(sw, row);
		copy = strdup(cJSON_IsString(value) ? value->valuestring : "");
		if (copy == NULL)
			return false;
		free(*text);
		*text = copy;
		return true;
	case SW_CHOICE:
		if (!cJSON_IsString(value))
			return false;
		for (i = 0; i < 8 && row->choices[i] != NULL; i++) {
			if (strcmp(row->choices[i], value->valuestring) == 0) {
				*(int *)at(sw, row) = i;
				return true;
			}
		}
		return false;
	}
	return false;
}

/*
 * The old switches with the wanted changes, as a new set; names that are no
 * switches are skipped.  -EINVAL with the reason in words.
 */
int
switches_change(const struct switches *old, const cJSON *wanted,
    struct switches **out, char *why, size_t why_len)
{
	size_t from = offsetof(struct switches, latency_ms);
	const struct sw_row *row;
	struct switches *sw;
	const cJSON *item;

	sw = malloc(sizeof(*sw));
	if (sw == NULL)
		return -ENOMEM;
	/* All but the count, which other threads change meanwhile. */
	memcpy((char *)sw + from, (const char *)old + from, sizeof(*sw) - from);
	sw->refs = 1;
	sw->noise = strdup(old->noise);
	sw->noise_after = strdup(old->noise_after);
	if (sw->noise == NULL || sw->noise_after == NULL) {
		switches_unref(sw);
		return -ENOMEM;
	}
	cJSON_ArrayForEach (item, wanted) {
		row = find_row(item->string);
		if (row == NULL)
			continue;
		if (!set_row(sw, row, item)) {
			(void)snprintf(
			    why, why_len, "bad value for '%s'", item->string);
			switches_unref(sw);
			return -EINVAL;
		}
	}
	*out = sw;
	return 0;
}

/*
 * One switch as NAME=VALUE, of the command line: VALUE is a number, true or
 * false, else a word or text.  -EINVAL with the reason in words.
 */
int
switches_set(
    struct switches *sw, const char *setting, char *why, size_t why_len)
{
	const char *value = strchr(setting, '=');
	const struct sw_row *row = NULL;
	char name[64];
	cJSON *json = NULL;
	bool good;

	if (value != NULL && (size_t)(value - setting) < sizeof(name)) {
		memcpy(name, setting, (size_t)(value - setting));
		name[value - setting] = '\0';
		row = find_row(name);
	}
	if (row == NULL) {
		(void)snprintf(why, why_len, "no switch in '%s'", setting);
		return -EINVAL;
	}
	value++;
	if (row->type == SW_BOOL || row->type == SW_NUMBER)
		json = cJSON_Parse(value);
	else
		json = cJSON_CreateString(value);
	good = set_row(sw, row, json);
	cJSON_Delete(json);
	if (good)
		return 0;
	(void)snprintf(why, why_len, "bad value for '%s'", name);
	return -EINVAL;
}

/* All switches as members of a JSON object, without the braces. */
void
switches_put(const struct switches *sw, struct buf *out)
{
	const struct sw_row *row;

	for (row = table; row < table + TABLE_ROWS; row++) {
		buf_printf(
		    out, "%s\"%s\":", row == table ? "" : ",", row->name);
		switch (row->type) {
		case SW_BOOL:
			buf_puts(out, *(bool *)at(sw, row) ? "true" : "false");
			break;
		case SW_NUMBER:
			buf_printf(out, "%.15g", *(double *)at(sw, row));
			break;
		case SW_TEXT:
			buf_put_json_str(out, *(char **)at(sw, row));
			break;
		case SW_CHOICE:
			buf_put_json_str(
			    out, row->choices[*(int *)at(sw, row)]);
			break;
		}
	}
}
