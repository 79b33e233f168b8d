#ifndef SYMLINK_H
#define SYMLINK_H

#include <stdbool.h>

/*
 * How the text of a symlink reads in the mount.  An absolute one of the room
 * reads as the mount point's path and, behind it, the path below the mount's
 * root: so it leads to what it means in the VM, from any depth, and can be
 * turned back exactly.  What the mount does not show gets a name below the
 * mount point that does not exist, with its text behind it.  Pure.
 */
struct symlink_place {
	const char *mount; /* the mount point, absolute */
	const char *root; /* the VM's path of what is mounted there */
};

/* An absolute target as it is shown.  malloc'ed, as the others; NULL: no
 * memory. */
char *symlink_show(const struct symlink_place *, const char *target);
/* A target, absolute or not, that leads nowhere here, but keeps its text. */
char *symlink_show_lost(const struct symlink_place *, const char *target);
/* The target that is shown so; *lost: as one that leads nowhere.  NULL (also):
 * it is none of these texts. */
char *symlink_target(
    const struct symlink_place *, const char *text, bool *lost);

/* Is there a ".." among its parts? */
bool symlink_climbs(const char *target);

#endif
