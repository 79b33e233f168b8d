#ifndef KERNEL_SAVE_H
#define KERNEL_SAVE_H

#include "base/cancel.h"
#include "kernel/fs_impl.h"

/* What save.c (the sending) and saver.c (who waits for it) share; nobody else
 * includes this.  All with the tree locked, but for the reply. */

/* A close() or fsync() that waits. */
struct saver {
	TAILQ_ENTRY(saver) link; /* in its send's, or of those that are done */
	TAILQ_ENTRY(saver) all; /* in fs->saves.savers */
	struct fs *fs;
	struct send *send;
	fuse_req_t req;
	uint64_t owes; /* so many of the content's changes */
	pid_t pid;
	bool closes; /* a close() */
	int error;
	atomic_bool interrupted;
};

struct send {
	struct job job;
	TAILQ_ENTRY(send) link; /* in its row */
	struct savers savers;
	struct fs *fs;
	uint64_t id;
	uint64_t queued; /* when */
	struct cancel cancel;
	bool held; /* not started yet: the name may be about to go */
	int error;
};

/* Start to send, or find who does it; held for the caller. */
int send_start(struct fs *, struct node *, struct send **);
/*
 * Does nobody have to wait?  Then *error says why.  *owes: what has to have
 * been sent; 0 at first.
 */
bool send_is_settled(struct fs *, struct node *, uint64_t *owes, int *error);

/* The job has ended: to `done` goes who need not wait any more, the rest to
 * the next job. */
void fs_savers_sort(struct send *, struct node *, struct savers *done);
/* Tree unlocked. */
void fs_savers_reply(struct savers *);

#endif
