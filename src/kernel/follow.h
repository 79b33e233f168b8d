#ifndef FOLLOW_H
#define FOLLOW_H

#include "kernel/fs_impl.h"

/*
 * An open file was found by another name, and has grown: is it the same?  Its
 * bytes that are here are compared with the VM's, which is decided then (see
 * node_confirm_guess()).  0 or -errno.  Tree unlocked.
 */
int fs_follow(struct fs *, struct wait *, uint64_t id);

#endif
