#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "content/content.h"
#include "kernel/procfd.h"
#include "kernel/save.h"

/*
 * Who waits in close() or fsync() until the VM has what he wrote.  He takes no
 * thread: the kernel's request is kept, and answered by the one that sends.
 */

/* So often (ms) it is looked whether a signal ends a wait after all. */
#define SAVER_WATCH 100
/* And for so many processes at once. */
#define SAVER_PIDS 64

/*
 * A file that its only writer has closed has the VM's number from now on, if
 * nobody knows the one it had here.
 */
static void
saver_closed(const struct saver *v, uint64_t id)
{
	struct node *n = tree_get(v->fs->tree, id);

	if (v->closes && n != NULL && n->handles == 1)
		node_settle_ino(n);
}

/* Take one off its send; it is not interrupted any more. */
static void
saver_end(struct saver *v, struct savers *done, int error)
{
	TAILQ_REMOVE(&v->send->savers, v, link);
	TAILQ_REMOVE(&v->fs->saves.savers, v, all);
	TAILQ_INSERT_TAIL(done, v, link);
	saver_closed(v, v->send->id);
	v->error = error == -EREMOTEIO ? -EIO : error;
}

void
fs_savers_reply(struct savers *done)
{
	struct saver *v;

	while ((v = TAILQ_FIRST(done)) != NULL) {
		TAILQ_REMOVE(done, v, link);
		fuse_req_interrupt_func(v->req, NULL, NULL);
		fuse_reply_err(v->req, -v->error);
		free(v);
	}
}

void
fs_savers_sort(struct send *s, struct node *n, struct savers *done)
{
	struct fs *fs = s->fs;
	struct send *after;
	struct saver *v, *next;
	bool again =
	    s->error == 0 || (s->error == -ECANCELED && !fs->saves.ending);
	int error = s->error;

	TAILQ_FOREACH_SAFE (v, &s->savers, link, next)
		if (!again || !n->local ||
		    content_has_sent(n->content, v->owes))
			saver_end(v, done, error);
	if (TAILQ_EMPTY(&s->savers))
		return;
	if ((error = send_start(fs, n, &after)) != 0) {
		TAILQ_FOREACH_SAFE (v, &s->savers, link, next)
			saver_end(v, done, error);
		return;
	}
	TAILQ_FOREACH (v, &s->savers, link)
		v->send = after;
	TAILQ_CONCAT(&after->savers, &s->savers, link);
	job_put(&after->job);
}

/* --- interrupts ------------------------------------------------------------
 */

struct watch {
	struct job job;
	struct fs *fs;
};

/* The processes that wait though they were interrupted; how many. */
static size_t
watch_collect(struct fs *fs, pid_t pids[SAVER_PIDS])
{
	struct saver *v;
	size_t n = 0, i;

	TAILQ_FOREACH (v, &fs->saves.savers, all) {
		for (i = 0; i < n && pids[i] != v->pid; i++)
			;
		if (i == n && n < SAVER_PIDS && atomic_load(&v->interrupted))
			pids[n++] = v->pid;
	}
	return n;
}

static void
watch_end(struct fs *fs, pid_t pid, struct savers *done)
{
	struct saver *v, *next;

	TAILQ_FOREACH_SAFE (v, &fs->saves.savers, all, next)
		if (v->pid == pid && atomic_load(&v->interrupted))
			saver_end(v, done, -EINTR);
}

/* As long as somebody waits who was interrupted: does that end his wait? */
static void
watch_run(struct job *job)
{
	const struct timespec pause = {.tv_nsec = SAVER_WATCH * 1000000L};
	struct fs *fs = ((struct watch *)job)->fs;
	struct savers done = TAILQ_HEAD_INITIALIZER(done);
	pid_t pids[SAVER_PIDS];
	size_t n, i;

	for (;;) {
		tree_lock(fs->tree);
		n = watch_collect(fs, pids);
		/* Who is interrupted from here on starts another, or has been
		 * seen. */
		if (n == 0) {
			atomic_store(&fs->saves.watching, false);
			n = watch_collect(fs, pids);
		}
		tree_unlock(fs->tree);
		if (n == 0)
			return;
		atomic_store(&fs->saves.watching, true);
		for (i = 0; i < n; i++)
			if (pids[i] != 0 && procfd_is_ours() &&
			    !fs_signal_ends(pids[i]))
				pids[i] = -1;
		tree_lock(fs->tree);
		for (i = 0; i < n; i++)
			if (pids[i] != -1)
				watch_end(fs, pids[i], &done);
		tree_unlock(fs->tree);
		if (TAILQ_EMPTY(&done))
			nanosleep(&pause, NULL);
		fs_savers_reply(&done);
	}
}

static void
watch_free(struct job *job)
{
	free(job);
}

/* By libfuse, which holds a lock of its own: the rest is for another thread. */
static void
saver_interrupted(fuse_req_t req, void *arg)
{
	struct saver *v = arg;
	struct fs *fs = v->fs;
	struct watch *watch;

	(void)req;
	atomic_store(&v->interrupted, true);
	if (atomic_exchange(&fs->saves.watching, true))
		return;
	if ((watch = calloc(1, sizeof *watch)) == NULL) {
		atomic_store(&fs->saves.watching, false);
		return;
	}
	watch->fs = fs;
	watch->job.run = watch_run;
	watch->job.free = watch_free;
	job_init(fs->pool, &watch->job);
	if (job_start(&watch->job) != 0)
		atomic_store(&fs->saves.watching, false);
	job_put(&watch->job);
}

void
fs_saves_interrupt(struct fs *fs)
{
	struct savers done = TAILQ_HEAD_INITIALIZER(done);
	struct saver *v, *next;

	tree_lock(fs->tree);
	fs->saves.interrupted = true;
	TAILQ_FOREACH_SAFE (v, &fs->saves.savers, all, next)
		saver_end(v, &done, -EINTR);
	tree_unlock(fs->tree);
	fs_savers_reply(&done);
}

/* --- waiting ---------------------------------------------------------------
 */

/* With the tree locked: 0 and *waits, or how it went. */
static int
saver_begin(struct fs *fs, struct saver *v, uint64_t id, bool *waits)
{
	struct node *n = tree_get(fs->tree, id);
	int error;

	*waits = false;
	if (send_is_settled(fs, n, &v->owes, &error))
		return error;
	if (fs->saves.interrupted)
		return -EINTR;
	if ((error = send_start(fs, n, &v->send)) != 0)
		return error;
	TAILQ_INSERT_TAIL(&v->send->savers, v, link);
	TAILQ_INSERT_TAIL(&fs->saves.savers, v, all);
	/* It knows of us until it has ended. */
	job_put(&v->send->job);
	*waits = true;
	return 0;
}

void
fs_send_and_reply(struct fs *fs, fuse_req_t req, uint64_t id, bool closes)
{
	struct saver *v;
	bool waits;
	int error;

	if ((v = calloc(1, sizeof *v)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	v->fs = fs;
	v->req = req;
	v->pid = fuse_req_ctx(req)->pid;
	v->closes = closes;
	/* Not under the tree's lock: it may call at once. */
	fuse_req_interrupt_func(req, saver_interrupted, v);
	tree_lock(fs->tree);
	error = saver_begin(fs, v, id, &waits);
	if (!waits)
		saver_closed(v, id);
	tree_unlock(fs->tree);
	if (waits)
		return; /* v and req are the sender's */
	fuse_req_interrupt_func(req, NULL, NULL);
	free(v);
	fuse_reply_err(req, error == -EREMOTEIO ? EIO : -error);
}
