#ifndef MADE_H
#define MADE_H

#include <stdbool.h>

#include "base/attr.h"

/*
 * Symlinks that were made through the mount with a text that would read
 * otherwise: what a program makes reads back just so, for as long as the link
 * stands.  A link is known by device, inode, time of its making and text; what
 * is known is kept in the cache directory, in a file for each instance, which
 * all mounts of a room share.
 *
 * Thread-safe; add and has may be called with the tree locked.
 */
struct made;

/* 0 or -ENOMEM.  A cache directory that can't be used: it is kept in memory. */
int made_open(struct made **, const char *cache_dir, const char *instance);
void made_close(struct made *); /* NULL is ok */
/* The VM is a new one. */
void made_replace(struct made *, const char *instance);

void made_add(struct made *, const struct attr *, const char *target);
bool made_has(struct made *, const struct attr *, const char *target);

/* Write what was added, and read what other mounts have: not with the tree
 * locked. */
void made_save(struct made *);
void made_refresh(struct made *);

#endif
