#ifndef KERNEL_NOTIFY_H
#define KERNEL_NOTIFY_H

#include <stdint.h>

/*
 * Notices to the kernel that what it caches is no longer so: the only caller
 * of fuse_lowlevel_notify_*.  A notice may wait for locks in the kernel that
 * are held until one of our own answers arrives, so they are sent from a
 * thread of their own.  Queueing never blocks and may be done under any lock;
 * publish the new state first.
 */
struct notify;
struct fuse_session;

int notify_open(struct notify **, struct fuse_session *);

/* Send no more; ends the thread.  Before the session is unmounted, which closes
 * the descriptor that notices are written to.  Queueing is still allowed. */
void notify_stop(struct notify *);
void notify_close(struct notify *); /* the same, and free */

/* An inode's attributes, and its pages or its cached listing, changed. */
void notify_inode(struct notify *, uint64_t id);

/* A name appeared or stands for another inode. */
void notify_entry(struct notify *, uint64_t parent, const char *name);

/* A name that stood for `child` is gone. */
void notify_deleted(
    struct notify *, uint64_t parent, uint64_t child, const char *name);

/* Wait until everything queued so far is sent, ten seconds at most. */
void notify_drain(struct notify *);

#endif
