#ifndef CLI_MOUNTPOINT_H
#define CLI_MOUNTPOINT_H

#include "cli/options.h"

/*
 * Can the room be mounted there?  Makes options->mountpoint absolute and
 * looks for what would make the mount fail, before any request is sent.
 * 0, or -errno with a line in detail that names the way out.
 */
int mountpoint_check(struct options *, char detail[OPTIONS_DETAIL]);

/* The part of it that is about this machine alone: /dev/fuse, fusermount3. */
int mountpoint_check_fuse(char detail[OPTIONS_DETAIL]);

#endif
