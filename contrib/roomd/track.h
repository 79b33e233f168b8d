/*
 * Which files a command created, modified or deleted.  A snapshot in memory
 * is kept up to date by inotify, so that a command costs what it changed and
 * not what the room holds.
 */
#ifndef ROOMD_TRACK_H
#define ROOMD_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct track;
struct track_session;

struct track_root {
	const char *host; /* directory on the host */
	const char *vm; /* the same as the VM names it, "" for / */
};

enum track_status { TRACK_CREATED, TRACK_MODIFIED, TRACK_DELETED };

struct track_change {
	char *path; /* as the VM names it */
	enum track_status status;
	off_t size;
	const char *mime; /* static */
};

struct track_changes {
	struct track_change *list; /* owned, sorted by path */
	size_t count;
};

int track_new(
    const struct track_root *roots, size_t nroots, struct track **out);
void track_free(struct track *t);
int track_begin(struct track *t, struct track_session **out);
void track_relieve(struct track *t);
int track_end(
    struct track *t, struct track_session *s, struct track_changes *out);
void track_changes_free(struct track_changes *c);

#endif
