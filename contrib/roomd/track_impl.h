/* What track.c and track_tree.c share; nobody else includes it. */
#ifndef ROOMD_TRACK_IMPL_H
#define ROOMD_TRACK_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/tree.h>
#include <sys/types.h>
#include <time.h>

#include "buf.h"

struct track_dir;

struct entry {
	RB_ENTRY(entry) link;
	struct track_dir *dir; /* of a directory; else a regular file */
	ino_t ino;
	off_t size;
	struct timespec mtime;
	struct timespec ctime;
	unsigned seen; /* the walk that last met it */
	const char *name; /* behind the struct */
};
RB_HEAD(entries, entry);

struct track_dir {
	struct track_dir *parent; /* NULL: a root */
	struct entry *self; /* in the parent */
	size_t root;
	int wd; /* -1: not watched */
	struct entries entries;
};

struct change {
	RB_ENTRY(change) link;
	bool before; /* was there when the session began */
	bool after;
	off_t size;
	char path[];
};
RB_HEAD(change_tree, change);

struct track_session {
	struct track_session *next;
	struct change_tree changes;
	bool failed; /* out of memory */
};

struct root {
	int fd;
	char *vm;
	struct track_dir *dir;
};

struct track {
	pthread_mutex_t lock; /* all below */
	int inotify;
	bool walk; /* inotify cannot be had: walk each time */
	unsigned walk_no;
	struct root *roots;
	size_t nroots;
	struct track_dir **by_wd;
	size_t by_wd_cap;
	struct track_session *sessions;
	size_t nsessions;
	/* The directory looked at last, still open. */
	struct track_dir *open_dir;
	int open_fd;
};

/* track.c */
void track_note(struct track *t, struct track_dir *dir, const char *name,
    bool before, bool after, off_t size);

/* track_tree.c; all with the lock held */
struct track_dir *track_tree_new_dir(
    struct track_dir *parent, struct entry *self, size_t root);
void track_tree_free_dir(struct track *t, struct track_dir *dir);
void track_tree_close_dir(struct track *t);
void track_tree_put_path(struct buf *b, const struct track_dir *dir);
int track_tree_open(struct track *t, size_t root, const char *path, int flags);
void track_tree_walk(struct track *t);
void track_tree_update(struct track *t);

#endif
