#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "room/room.h"
#include "base/wait.h"

/*
 * Contents of files, by version: a blob holds what was fetched of one file
 * under one validator, in a sparse file of the cache directory, so that the
 * memory used does not depend on sizes.  The limit is enforced when something
 * is put in; a full or broken disk makes reads uncached, not wrong.
 *
 * Thread-safe; callers hold no lock but, for store_get() and blob_put(), may
 * hold the tree's.
 */
struct store;
struct blob;

/* dir is made when missing (0700).  0 or -errno. */
/* label: the room's, of its unsent files (recover.h). */
int store_open(struct store **, struct room *, const char *dir, uint64_t limit,
    const char *label);
void store_close(struct store *);
void store_interrupt(struct store *); /* as room_interrupt() */
/* Drop what nobody uses: the VM is a new one. */
void store_clear(struct store *);

/* The blob of a version, made when needed; NULL: no memory. */
struct blob *store_get(struct store *, const struct validator *);
void blob_hold(struct blob *);
void blob_put(struct blob *); /* NULL is ok */
/* Are the first `size` bytes here? */
bool blob_has(struct blob *, uint64_t size);
/* Are these? */
bool blob_covers(struct blob *, uint64_t offset, size_t len);
/* The last bytes that are here, in one piece and at most so many; false: none
 * are. */
bool blob_last(struct blob *, uint64_t most, uint64_t *offset, size_t *len);

/* Bytes of a blob, to be given back with span_free(). */
struct span {
	size_t len;
	int fd; /* they are there at offset, or, when -1, */
	uint64_t offset; /* in buf */
	char *buf;
	struct file *file; /* private: keeps fd open */
};

/*
 * Get [offset, offset+len) of a blob, whose file has this path and these
 * attributes; what is missing is fetched, each byte once however many ask.
 * A span is shorter only at the end of file.  0, -EAGAIN (the file in
 * the VM is another version), -EINTR, or the room's errors.
 */
int blob_read(struct blob *, struct wait *, const char *path,
    const struct attr *, uint64_t offset, size_t len, struct span *);
void span_free(struct span *);

/*
 * Nobody but the file's attributes tells when another file of the same size
 * has taken its name while its parts came.  Did the last of them, some time
 * (ms) after the first, come after these were asked for?  whole: and is all
 * here now?
 */
bool blob_is_doubtful(struct blob *, uint64_t checked, unsigned ms, bool whole);
/* It has bytes of two versions: forget them.  Who has read some of it, and
 * still has it, hears so. */
void blob_forget(struct blob *);
bool blob_is_torn(struct blob *);

/* A version has another ctime now, and the same bytes. */
void store_rename(
    struct store *, const struct validator *old, const struct validator *now);

/* How many bytes of a version are here. */
uint64_t store_holds(struct store *, const struct validator *);
/* How much is cached, and how much may be. */
void store_get_usage(struct store *, uint64_t *used, uint64_t *limit);
/* Is a version here as a whole? */
bool store_has(struct store *, const struct validator *);
/* Keep a whole version, of v->size bytes, if there is room. */
void store_put(struct store *, const struct validator *, const void *data);

/* The disk is full: give up what is only cached, for what is not. */
void store_shrink(struct store *);

/*
 * Work files, for unsent changes: they stay in the cache directory, so that a
 * later mount finds what a killed one could not send.  Without a cache
 * directory they are in memory; *path is "" then.  0 or -errno.
 */
int store_new_work(struct store *, int *fd, char **path);
void store_remove_work(struct store *, int fd, const char *path);

/* fd holds all of a version, size bytes: keep it as that (fd stays open). */
void store_adopt(
    struct store *, const struct validator *, int fd, uint64_t size);
/*
 * A version came from another by writing these intervals of fd over it; of
 * the old one, only the first `keep` bytes are left.  Failing keeps nothing.
 */
struct intervals;
void store_rebase(struct store *, const struct validator *old,
    const struct validator *now, uint64_t keep, int fd,
    const struct intervals *);

#endif
