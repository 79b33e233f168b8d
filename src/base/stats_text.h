#ifndef BASE_STATS_TEXT_H
#define BASE_STATS_TEXT_H

#include "base/log.h"
#include "base/stats.h"

/*
 * What a mount tells of itself, in the forms described in gentilityfs(1).
 * Pure.
 */
enum stats_form { STATS_LINES, STATS_JSON, STATS_PROMETHEUS };

struct stats_view {
	const struct stats_snapshot *counts;
	const char *version, *source, *mountpoint, *url;
	const char *root, *instance; /* in the VM */
	const char *cache_dir;
	int pid;
	uint64_t contact_ms; /* since the last answer; UINT64_MAX: none yet */
	uint64_t unsent_files, unsent_bytes;
	uint64_t cache_used, cache_limit;
	const struct log_entry *warnings; /* the oldest first */
	size_t warning_count;
};

/* A number of bytes for people: "1.1 GB".  out. */
const char *stats_bytes(char out[16], uint64_t n);

/*
 * malloc'ed into *text.  Transfers that would make it longer than max are left
 * out, and counted.  0 or -ENOMEM.
 */
int stats_format(const struct stats_view *, enum stats_form, size_t max,
    char **text, size_t *len);

#endif
