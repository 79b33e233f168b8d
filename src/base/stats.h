#ifndef BASE_STATS_H
#define BASE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a mount does, counted: requests below room.h, the cache above it.  One
 * of these belongs to each room.  Thread-safe; its lock is innermost and held
 * for moments.  NULL in the place of the struct (or of a transfer) counts
 * nothing.
 */
struct stats;

enum stats_kind { /* of a request */
	STATS_METADATA, /* commands: names and attributes */
	STATS_CONTENTS, /* commands that read contents */
	STATS_CHANGE, /* commands that change something */
	STATS_UPLOAD, /* commands with a piece of a large file */
	STATS_EXEC, /* users' commands */
	STATS_FILE, /* the file endpoint */
	STATS_RAW, /* the raw endpoint */
	STATS_CREATE, /* of the instance */
	STATS_KINDS
};

enum stats_cache { STATS_NAMES, STATS_BYTES, STATS_CACHES };

/*
 * Latencies in buckets that grow by about a fifth (four to an octave), from
 * microseconds to hours: percentiles to that precision, in constant memory.
 */
enum { HISTOGRAM_BUCKETS = 4 * 38 };

struct histogram {
	uint64_t count, sum_us, max_us;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *, uint64_t us);
void histogram_merge(struct histogram *to, const struct histogram *);
/* So long, at most, took this share (0 to 1) of them; 0: there are none. */
uint64_t histogram_percentile(const struct histogram *, double share);
/* How many took less than 2^octave microseconds. */
uint64_t histogram_below(const struct histogram *, unsigned octave);

int stats_open(struct stats **);
void stats_close(struct stats *);

/* One request, as it went out and came back. */
struct stats_request {
	enum stats_kind kind;
	bool again; /* not the first attempt */
	bool failed; /* no answer, not a 2xx, or nonsense */
	uint64_t us, out, in; /* bytes of the bodies */
};
void stats_begin(struct stats *, enum stats_kind);
void stats_end(struct stats *, const struct stats_request *);
/* The service did not do what was asked, after all attempts. */
void stats_give_up(struct stats *);

/* Something was asked for above room.h, and was in memory or on disk. */
void stats_look(struct stats *, enum stats_cache, bool hit, uint64_t bytes);

/*
 * A file on its way.  The same file, in the same direction, is one transfer
 * for all who work on it: each begin has its end.  NULL: no memory.
 */
struct stats_transfer;
struct stats_transfer *stats_transfer_begin(
    struct stats *, bool upload, const char *path, uint64_t total);
void stats_transfer_set(struct stats *, struct stats_transfer *, uint64_t done);
void stats_transfer_add(struct stats *, struct stats_transfer *, uint64_t more);
void stats_transfer_end(struct stats *, struct stats_transfer *);

/* All of it at one moment. */
struct stats_kind_count {
	uint64_t requests, retries, errors, out, in;
	unsigned under_way;
	struct histogram latency;
};

struct stats_progress {
	char *path; /* in the VM; owned by the snapshot */
	bool upload;
	uint64_t done, total; /* bytes */
	uint64_t us; /* for so long */
};

enum { STATS_TRANSFERS = 32, STATS_RECENT_S = 10 };

struct stats_snapshot {
	uint64_t us; /* since stats_open() */
	struct stats_kind_count kinds[STATS_KINDS];
	uint64_t given_up;
	struct {
		uint64_t hits, misses, bytes; /* bytes: of hits */
	} caches[STATS_CACHES];
	struct {
		uint64_t requests, out, in;
	} recent; /* of the last STATS_RECENT_S seconds */
	size_t transfers, shown; /* how many there are; in the list */
	struct stats_progress progress[STATS_TRANSFERS]; /* oldest first */
};
int stats_take(struct stats *, struct stats_snapshot *); /* 0 or -ENOMEM */
void stats_snapshot_free(struct stats_snapshot *);

const char *stats_kind_name(enum stats_kind);

#endif
