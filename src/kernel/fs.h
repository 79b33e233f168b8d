#ifndef KERNEL_FS_H
#define KERNEL_FS_H

#include "cli/options.h"
#include "room/room.h"

/* The file system: a room as the kernel sees it.  Not for use below room.h. */
struct fs;

/*
 * Mount the room at options->mountpoint.  Both outlive the fs.  0 or -errno
 * with a line for the user in detail; nothing stays mounted then.
 */
int fs_mount(
    struct fs **, const struct options *, struct room *, char detail[512]);

/*
 * Serve until unmounted or a signal (TERM, INT, HUP is "check everything
 * anew").  0 or -errno.  Call in the process that goes on (after the fork).
 */
int fs_loop(struct fs *);

/* Send what is unsent, unmount, free. */
void fs_unmount(struct fs *);

#endif
