#ifndef ROOM_H
#define ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/fate.h"
#include "api/change_list.h"
#include "base/cancel.h"
#include "base/interval.h"
#include "script/listing.h"
#include "base/stats.h"
#include "base/wait.h"

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

struct room_fs {
	uint64_t bsize, frsize, blocks, bfree, bavail, files, ffree;
	uint32_t namemax;
};

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
	/* A metadata command's answer came after so long (ms), and has been
	 * adopted. */
	void (*answered)(void *arg, uint64_t ms);
	/* Is it worth asking for the file system's numbers along with this
	 * directory's listing?  Then here they are. */
	bool (*want_statfs)(void *arg, const char *path);
	void (*adopt_statfs)(
	    void *arg, const char *path, const struct room_fs *);
	/* The VM is another one now: nothing known is true any more. */
	void (*replaced)(void *arg);
};

struct room_config {
	const char *profile, *room, *base_url, *key, *cacert;
	const char *path; /* where the mount's root lies, as given; NULL: "/" */
	unsigned max_connections;
	unsigned timeout_ms;
	bool create;
	bool leave_nothing; /* in the VM, not even the toolkit */
};

/*
 * First contact: probe the VM, find the root.  On failure a line for the user
 * (what, and what to do) is in detail.  Hooks must be set before the first
 * use; what first contact brought is adopted then.
 */
int room_open(struct room **, const struct room_config *, char detail[512]);
void room_set_hooks(struct room *, const struct room_hooks *);
void room_interrupt(struct room *); /* end the waits of callers with -EINTR */
void room_shutdown(struct room *); /* fail all waits with -ECANCELED */
/* After room_shutdown(): wait until no hook is called any more.  Then nothing
 * but room_close() may be called. */
void room_finish(struct room *);
void room_close(struct room *);

/* 16 random hex digits and NUL: for names of hidden files. */
void room_nonce(char out[17]);

/* Monotonic milliseconds, never 0. */
uint64_t room_now(void);

/*
 * What time it is in the VM, in nanoseconds (base/attr.h): never later than it
 * is, and not before anything that an answer has shown.
 */
int64_t room_vm_now(struct room *);

/* What the probe found.  Constant until `replaced`. */
const struct probe *room_probe(struct room *);
const char *room_root(struct room *); /* absolute path of the mount's root */
void room_instance(struct room *, char out[37]);
bool room_is_pseudo(struct room *, uint64_t dev); /* proc, sysfs ... */

/*
 * Ask for a directory's listing / one path's attributes.  The answer comes
 * by the hooks before the call returns.  The error is the path's own.
 * Requests that arrive while one is under way go out together as the next.
 * bound: so many entries from below the directory may come along.  also: what
 * nobody waits for but may come with the answer, or NULL.  More than a FEW, or
 * anything also, goes beside the other requests, one such at a time; while one
 * is under way, no more than a FEW come along.
 */
#define ROOM_FEW 1000
struct room_also {
	char *top; /* a directory and what is below it, or NULL */
	unsigned bound; /* so many entries of it */
	size_t count; /* directories alone */
	char **paths;
};
int room_list(struct room *, struct wait *, const char *path, unsigned bound,
    const struct room_also *also);
int room_stat(struct room *, struct wait *, const char *path);

/* Check all these directories anew in as few commands as fit (one, as a rule)
 * and adopt the answers; the first error of the transport is returned. */
int room_revalidate(struct room *, struct wait *, char *const *paths, size_t n);

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

/* Does any part of a file come by one request? */
bool room_has_ranges(struct room *);
/* How many requests for contents leave connections for more; 0: none. */
unsigned room_spare_connections(struct room *);
/* Does the service give a part of a file only by commands, but all of it at
 * once as a stream (api.md: a Range that is answered by 200)? */
bool room_can_stream(struct room *);

/*
 * All of such a file, in order: the sink runs on the engine's thread, must not
 * block for long, and ends it by a negative errno.  Offsets begin at 0 again
 * when a broken transfer is repeated.  Errors as of room_read(), and
 * -EOPNOTSUPP: not by this way.
 */
int room_read_stream(struct room *, const char *path, const struct attr *,
    int (*sink)(void *arg, uint64_t offset, const void *data, size_t len),
    void *arg);

/*
 * The contents of many small files by one command; got() is called for each
 * that did not change meanwhile, with its attributes then.
 */
int room_read_bulk(struct room *, const char *const *paths, size_t n,
    void (*got)(void *arg, size_t i, const struct attr *, const void *data),
    void *arg);
/* How much of the command a path takes, and how much they may in all. */
size_t room_bulk_size(const char *path);
size_t room_bulk_max(struct room *);

/* The MIME type that the service gives a file; -ENODATA: none.  One request. */
int room_read_type(
    struct room *, const char *path, const struct attr *, char type[96]);

/* The address at which anybody can read the file; malloc'ed, NULL: no memory.
 */
char *room_public_url(struct room *, const char *path);

/* All that can be read, up to 16 MiB, of a file whose size lies. */
int room_read_pseudo(
    struct room *, struct wait *, const char *path, void **data, size_t *len);

/*
 * Changes.  Each is one command, does no harm when it has to be sent twice,
 * and brings back what the VM has afterwards.  The errno is the VM's own;
 * -EREMOTEIO: nobody knows whether it was done (look again).
 */
enum room_op {
	/* What is new gets the owner that attr says. */
	ROOM_MKDIR, /* path, mode */
	ROOM_RMDIR, /* path */
	ROOM_UNLINK, /* path, keep */
	ROOM_RENAME, /* path, to; ino: of what is renamed; noreplace, keep */
	ROOM_SYMLINK, /* path; to: its target */
	ROOM_LINK, /* path: the new name; to: the file */
	ROOM_MKNOD, /* path, mode with type, rdev */
	ROOM_CREATE, /* path, mode: a new empty file, or -EEXIST; atomic */
	ROOM_SETATTR, /* path: what `attr` says */
	ROOM_COPY, /* path, offset: from; to, to_offset, length, lend */
	ROOM_LOOK /* path: changes nothing, but brings its state along */
};

#define ROOM_TIME_KEEP INT64_MIN
#define ROOM_TIME_NOW  INT64_MAX

/* Attributes to be set. */
struct room_setattr {
	bool set_mode, set_uid, set_gid, set_size;
	uint32_t mode, uid, gid; /* the VM's numbers */
	uint64_t size;
	int64_t atime, mtime; /* ns, or ROOM_TIME_* */
};

struct room_change {
	enum room_op op;
	const char *path, *to;
	uint32_t mode;
	uint64_t rdev, ino, offset, to_offset, length;
	bool noreplace;
	/* A new name in the same directory for the file that loses this one,
	 * or NULL: all of it is done, or nothing. */
	const char *keep;
	uint32_t lend; /* as in room_write */
	struct room_setattr attr;
};

/* What stands there afterwards. */
struct room_changed {
	uint64_t checked; /* when it was asked (room_now()) */
	bool has_self, has_parent, has_to_parent, has_kept;
	struct attr self; /* of path; of `to` for rename, link and copy */
	struct attr parent; /* of path's directory */
	struct attr to_parent; /* of to's */
	struct attr kept;
	uint64_t copied; /* bytes, by copy */
};

int room_change(
    struct room *, const struct room_change *, struct room_changed *);
/* Remove our own hidden files that nobody needs any more, in a directory and in
 * the temporary one. */
int room_clean(struct room *, const char *dir);
/* Several in one command, in order; stops at the first that fails. */
int room_change_all(
    struct room *, const struct room_change *, size_t n, struct room_changed *);

/*
 * Bring a file's new bytes to the VM: staged and verified there before the
 * target is touched, and verified in the target afterwards.  What fits goes
 * with one command; else in pieces, several in flight.
 */
struct room_write {
	const char *path;
	/*
	 * WHOLE: the file is ranges and zeros between them, size bytes.
	 * RANGES: these bytes of the existing file; with set_size its new
	 * length.  APPEND: the one range goes to the end, wherever it is now;
	 * its start is where the end was known to be.
	 */
	enum { ROOM_WHOLE, ROOM_RANGES, ROOM_APPEND } how;
	bool is_new; /* WHOLE: it is to have this mode, */
	bool exclusive; /* and must not exist */
	uint32_t mode;
	bool expecting; /* -ESTALE unless the version is still this one: */
	struct validator expect;
	bool set_size;
	uint64_t size;
	uint64_t space; /* WHOLE: that the file is known to take on disk */
	const struct interval *ranges;
	size_t nranges;
	/* Where the bytes come from: 0 or -errno. */
	int (*read)(void *arg, uint64_t offset, void *buf, size_t len);
	void *arg;
	struct cancel *cancel; /* -ECANCELED once set, if the VM's file is as
				* it was; or NULL */
	struct room_setattr attr; /* to be set with it; not set_size */
	/*
	 * Bits of 0600 that the mode denies the VM's user, whose file it is,
	 * though whoever opened it might write then: he has them for the
	 * moment of writing.
	 */
	uint32_t lend;
	/*
	 * New for new bytes (room_nonce()); the same, with `repeat`, when the
	 * fate of the last attempt to send just these is unknown.
	 */
	const char *token;
	bool repeat;
	uint64_t changes; /* the caller's own */
	struct stats_transfer *transfer; /* private: how far it is */
};
int room_write(struct room *, const struct room_write *, struct room_changed *);

/*
 * A user's command, in directory dir (NULL: sent exactly as it is).  Up to
 * 1 MiB.  Never sent twice once it may have run: -EREMOTEIO then.
 * On failure detail says why, in words for the user.
 */
struct room_run {
	enum fate fate; /* of the command; also on failure */
	int exit_code;
	char *output;
	size_t output_len;
	bool cut; /* there was more of it than can be kept */
	char *json; /* the service's whole answer */
	size_t json_len;
	struct change_list changes;
	char detail[512];
};
int room_run(struct room *, struct wait *, const char *dir, const char *command,
    size_t len, struct room_run *);
void room_run_free(struct room_run *);
const char *room_url(struct room *);
struct stats *room_stats(struct room *); /* what it counts in; never NULL */
/* Milliseconds since the service last answered; UINT64_MAX: not yet. */
uint64_t room_contact_age(struct room *);

/* When the service last answered anything; only for comparing with later. */
uint64_t room_contact(struct room *);

#endif
