/*
 * Payloads of a hostile VM: listing_parse(), script_parse_read(),
 * script_parse_changes() and probe_parse(), chosen by the first byte.  What
 * is accepted must keep the promises of listing.h.
 */
#include <stdlib.h>
#include <string.h>

#include "script/listing.h"
#include "script/script.h"

static const struct script_item items[] = {
    {.op = SCRIPT_LIST, .path = "/d", .bound = 9},
    {.op = SCRIPT_STAT, .path = "/d/a"},
    {.op = SCRIPT_STAT, .path = "/"},
    {.op = SCRIPT_STATFS, .path = "/d"},
    {.op = SCRIPT_LIST, .path = "/"},
};
#define NITEMS (sizeof(items) / sizeof(items[0]))

static const struct script_change changes[] = {
    {.op = SCRIPT_MKDIR, .path = "/d"},
    {.op = SCRIPT_RENAME, .path = "/d/a", .to = "/d/b"},
};
#define NCHANGES (sizeof(changes) / sizeof(changes[0]))

static void
check_listing(const struct listing *l)
{
	const struct entry *e;
	size_t i;

	if (l->path[0] != '/' || !l->complete ||
	    (l->path[1] != '\0' && l->path[strlen(l->path) - 1] == '/'))
		abort();
	for (i = 0; i < l->count; i++) {
		e = &l->entries[i];
		if (e->name[0] == '\0' || strchr(e->name, '/') != NULL ||
		    strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
			abort();
		if (i > 0 && strcmp(e[-1].name, e->name) >= 0)
			abort();
	}
}

static void
fuzz_listing(const char *payload, size_t len)
{
	struct reply *replies;
	size_t i, j;

	if (listing_parse(payload, len, items, NITEMS, &replies) != 0) {
		if (replies != NULL)
			abort();
		return;
	}
	for (i = 0; i < NITEMS; i++) {
		if (replies[i].error > 0)
			abort();
		for (j = 0; j < replies[i].nlistings; j++)
			check_listing(&replies[i].listings[j]);
	}
	reply_free_all(replies, NITEMS);
}

static void
fuzz_probe(const char *payload, size_t len)
{
	struct probe p;
	size_t used;

	if (probe_parse(payload, len, &p, &used) == 0 &&
	    (used > len || p.home[0] != '/'))
		abort();
	probe_free(&p);
}

static void
fuzz_read(const char *payload, size_t len)
{
	struct attr before, after;
	const char *data;
	size_t n;

	if (script_parse_read(payload, len, &data, &n, &before, &after) == 0 &&
	    (data < payload || data + n > payload + len))
		abort();
}

static void
fuzz_changes(const char *payload, size_t len)
{
	struct script_result out[NCHANGES];
	size_t i;

	if (script_parse_changes(payload, len, changes, NCHANGES, out) != 0)
		return;
	for (i = 0; i < NCHANGES; i++)
		if (out[i].error > 0 || out[i].found > 15)
			abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	char *payload;

	if (size == 0 || (payload = malloc(size)) == NULL)
		return 0;
	/* As script_unwrap() gives it: a NUL follows. */
	memcpy(payload, data + 1, size - 1);
	payload[size - 1] = '\0';
	switch (data[0] % 4) {
	case 0:
		fuzz_listing(payload, size - 1);
		break;
	case 1:
		fuzz_probe(payload, size - 1);
		break;
	case 2:
		fuzz_read(payload, size - 1);
		break;
	case 3:
		fuzz_changes(payload, size - 1);
		break;
	}
	free(payload);
	return 0;
}
