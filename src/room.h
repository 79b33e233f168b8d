#ifndef ROOM_H
#define ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attr.h"
#include "change.h"
#include "listing.h"
#include "wait.h"

/*
 * The door between the storeys: a room's files and commands.  Above it nobody
 * knows HTTP, JSON or shell; below it nobody knows FUSE.
 *
 * Paths are absolute in the VM, any bytes.  Calls block, on any thread,
 * and return 0 or -errno; `wait` is how long the caller is willing to
 * (-EINTR when the user interrupted; the work itself goes on and its result
 * is still adopted).  No lock of the caller may be held.
 *
 * What the room learns of files it hands up through hooks, whoever asked for
 * it; so one answer serves all who wait, and prefetched ones are adopted
 * like any other.
 */
struct room;

struct room_hooks {
	void *arg;
	/*
	 * A number that grows with each local change; taken before a request
	 * is composed, given back with its answers, so that one older than a
	 * change is not adopted over it.
	 */
	uint64_t (*epoch)(void *arg);
	/* A directory as the VM had it at `checked` (room_now()). */
	void (*adopt_listing)(void *arg, const struct listing *, uint64_t epoch,
	    uint64_t checked);
	/* One path's attributes; entry NULL: it does not exist (error says). */
	void (*adopt_stat)(void *arg, const char *path, int error,
	    const struct entry *, uint64_t epoch, uint64_t checked);
	/*
	 * Before a metadata command goes out: put up to max further paths of
	 * directories that are stale and in use into paths[] (malloc'ed; the
	 * room frees them); returns how many.
	 */
	size_t (*more)(void *arg, char **paths, size_t max);
	/* The VM is another one now: nothing known is true any more. */
	void (*replaced)(void *arg);
};

struct room_config {
	const char *profile, *room, *base_url, *key, *cacert;
	const char *path; /* where the mount's root lies, as given; NULL: "/" */
	unsigned max_connections;
	unsigned timeout_ms;
	bool create;
};

/*
 * First contact: probe the VM, find the root.  On failure a line for the user
 * (what, and what to do) is in detail.  Hooks must be set before the first
 * use; what first contact brought is adopted then.
 */
int room_open(struct room **, const struct room_config *, char detail[512]);
void room_set_hooks(struct room *, const struct room_hooks *);
void room_shutdown(struct room *); /* fail all waits with -ECANCELED */
void room_close(struct room *);

/* Monotonic milliseconds, never 0. */
uint64_t room_now(void);

/* What the probe found.  Constant until `replaced`. */
const struct probe *room_probe(struct room *);
const char *room_root(struct room *); /* absolute path of the mount's root */
void room_instance(struct room *, char out[37]);
bool room_is_pseudo(struct room *, uint64_t dev); /* proc, sysfs ... */

/*
 * Ask for a directory's listing / one path's attributes.  The answer comes
 * by the hooks before the call returns.  The error is the path's own.
 * Requests that arrive while one is under way go out together as the next.
 */
int room_list(struct room *, struct wait *, const char *path, unsigned bound);
int room_stat(struct room *, struct wait *, const char *path);

/* Check all these directories anew in as few commands as fit (one, as a rule)
 * and adopt the answers; the first error of the transport is returned. */
int room_revalidate(struct room *, struct wait *, char *const *paths, size_t n);

struct room_fs {
	uint64_t bsize, frsize, blocks, bfree, bavail, files, ffree;
	uint32_t namemax;
};
int room_statfs(
    struct room *, struct wait *, const char *path, struct room_fs *);

/*
 * Bytes [offset, offset + len) of a file whose attributes are *attr, into buf.
 * *got may be less only at the end of file.  -EAGAIN: the file is another
 * version now: look at its attributes again.
 */
int room_read(struct room *, struct wait *, const char *path,
    const struct attr *attr, uint64_t offset, size_t len, void *buf,
    size_t *got);

/* All that can be read, up to 16 MiB, of a file whose size lies. */
int room_read_pseudo(
    struct room *, struct wait *, const char *path, void **data, size_t *len);

/*
 * A user's command, in directory dir (NULL: sent exactly as it is).  Up to
 * 1 MiB.  Never sent twice once it may have run: -EREMOTEIO then.
 * On failure detail says why, in words for the user.
 */
struct room_run {
	int exit_code;
	char *output;
	size_t output_len;
	char *json; /* the service's whole answer */
	size_t json_len;
	struct change_list changes;
	char detail[512];
};
int room_run(struct room *, struct wait *, const char *dir, const char *command,
    size_t len, struct room_run *);
void room_run_free(struct room_run *);
const char *room_url(struct room *);

#endif
