#ifndef STORE_IMPL_H
#define STORE_IMPL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/bsdtree.h"
#include "base/interval.h"
#include "store/store.h"

/* What the files store*.c share; nobody else includes this. */

/* Random reads fetch so much, and each fetch begins at such a block. */
#define STORE_BLOCK ((uint64_t)128 * 1024)

/* Where new cache files are made: the next one when the last does not work. */
enum place {
	PLACE_DIR, /* the cache directory */
	PLACE_TMP, /* files without a name in /var/tmp, so much of them at most:
		    */
	PLACE_MEMORY,
	PLACE_NONE
};
#define PLACE_TMP_MAX	 ((uint64_t)256 * 1024 * 1024)
#define PLACE_MEMORY_MAX ((uint64_t)64 * 1024 * 1024)

/*
 * A cache file, open; it outlives its blob's use of it while spans need it.  A
 * pack holds many small whole blobs, one behind the other: making a file for
 * each takes longer than filling it.  Nothing in it is written twice, and its
 * bytes count as used until nobody has any of it.
 */
struct file {
	unsigned refs; /* under the store's lock */
	int fd;
	struct store *store;
	enum place place;
	bool pack;
	uint64_t end; /* of a pack's last blob */
};

/* Bytes on their way into a blob. */
struct fetch {
	struct job job;
	TAILQ_ENTRY(fetch) link; /* in blob->fetches, until it is done */
	struct blob *blob;
	char *path;
	struct attr attr;
	uint64_t offset;
	size_t len, got;
	char *buf; /* NULL: the blob's stream brings them */
	int error;
	bool stored; /* the bytes are in the blob's file */
	/* Nobody has asked for these: store_fill.c, a sequential reader. */
	bool fill, ahead;
	uint64_t began; /* room_now() */
	struct stats_transfer *transfer; /* of the whole file */
};

/* What reading here and there has cost, and what is done about it; times in
 * milliseconds. */
struct fill {
	unsigned waits;
	uint64_t lost_ms, trip_ms; /* all of them together; the shortest */
	uint64_t read_at; /* the last one's end (room_now()) */
	struct fetch *trial; /* shows how long the rest takes; or NULL */
	bool tried; /* then it is known: */
	uint64_t mib_ms; /* for each MiB, besides the round trip */
	uint64_t next_ms; /* of lost_ms: then comes the next trial */
	uint64_t until; /* the rest has to be here then; 0: not begun */
	uint64_t here; /* so many bytes were */
	bool off; /* the cache can't take it */
};

struct blob {
	RB_ENTRY(blob) by_version;
	TAILQ_ENTRY(blob) lru; /* while refs == 0 */
	struct store *store;
	struct validator version;
	unsigned refs;
	struct file *file; /* NULL: nothing stored */
	uint64_t base; /* where it begins there: 0 but in a pack */
	struct intervals present; /* of the blob */
	TAILQ_HEAD(fetches, fetch) fetches;
	uint64_t next, window; /* of a sequential reader */
	uint64_t read_at; /* when he last asked; room_now() */
	unsigned aheads; /* fetches under way for him, before he asks */
	struct fill fill; /* of others */
	struct stream *stream; /* brings all of it; NULL: none does */
	bool unstreamable; /* one has failed */
	bool torn; /* somebody may have read bytes of two versions */
	unsigned parts; /* that came, between these times (room_now()) */
	uint64_t began, came;
	bool saved; /* on disk under its name (store_disk.c), */
	uint32_t crc; /* with this CRC-32; not looked at yet */
};
RB_HEAD(blobs, blob);
RB_PROTOTYPE(blobs, blob, by_version, blob_compare)

struct store {
	pthread_mutex_t lock; /* guards all below, every blob and file */
	struct room *room;
	struct pool *pool;
	char *dir; /* of this mount alone */
	int dir_fd, lock_fd;
	int saved_fd; /* the directory of saved blobs; -1: none */
	uint64_t limit, used, serial;
	size_t files, max_files; /* descriptors */
	struct file *pack; /* takes the next ones; or NULL */
	struct blobs blobs;
	TAILQ_HEAD(, blob) idle; /* oldest first */
	enum place place;
	bool broken; /* nothing can be kept any more: said so once */
	unsigned fills, aheads; /* fetches under way that nobody asked for */
};

/* All with the lock held. */
struct file *file_new(struct store *);
void file_put(struct file *); /* NULL is ok */
void pack_close(struct store *); /* nothing more goes there */
/* Forget the stored bytes; readers that have spans keep theirs. */
void blob_empty(struct blob *);
/* Give the blob a file if it has none; in a pack if it is small and what comes
 * is all of it.  False: there is none to be had. */
bool store_place(struct store *, struct blob *, bool whole);
/* Make room for len more bytes of the blob; false: it can't be stored. */
bool store_make_room(struct store *, struct blob *, uint64_t len);

/* The present place does not work, since: go on in the next one. */
void place_next(struct store *, const char *why);

/* Keep bytes that came; drops the lock for a while.  False: no room. */
bool blob_put_bytes(
    struct blob *, uint64_t offset, const void *data, size_t len);

/* A part is here that was asked for then. */
void blob_came(struct blob *, uint64_t began);

/* Begin to fetch an interval.  It is held for the caller, and can't end while
 * he has the lock.  0 or -errno. */
int fetch_start(struct blob *, const char *path, const struct attr *,
    const struct interval *, struct fetch **);
/* The first bytes that neither are here nor on their way; false: none. */
bool blob_next_gap(
    const struct blob *, uint64_t at, uint64_t end, struct interval *);

/*
 * All of a large file that is read here and there (store_fill.c), when that
 * pays: somebody has waited since (room_now()) for a fetch that (trip) was his
 * own; fetch some more if it is time; a fetch that was for this is done.
 */
void fill_waited(struct blob *, uint64_t since, bool trip);
void fill_go_on(struct blob *, const char *path, const struct attr *);
void fill_came(struct fetch *);

/*
 * A large file as one stream (store_stream.c), where there is no other good
 * way.  It goes on while somebody has the blob.
 */
/* Begin, for somebody who reads on from `at`; false: there is none. */
bool stream_start(
    struct blob *, const char *path, const struct attr *, uint64_t at);
/* Will it bring this byte soon? */
bool stream_brings(const struct blob *, uint64_t at);

/*
 * Blobs that outlive the mount (store_disk.c): whole ones, each a file of
 * CACHE_DIR/INSTANCE whose name is the version and a checksum, so that there
 * is no index that could be wrong.
 */
void disk_open(struct store *, const char *cache_dir, const char *instance);
void disk_close(struct store *); /* saves what is worth it */
/* Bring a saved blob's bytes back; false: they are gone or damaged. */
bool disk_load(struct blob *);
void disk_remove(struct blob *);

#endif
