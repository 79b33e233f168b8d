#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/fs_impl.h"
#include "kernel/save.h"
#include "base/log.h"

/*
 * Sending a file's unsent changes to the VM.  One job a file at a time; who
 * wants the same waits for it (saver.c: without a thread).  The job goes on
 * when the waiting ends.
 */

/* So many threads send small files, and large ones; who has to wait for one is
 * in no hurry then, since the connections are busy. */
#define SEND_SMALL	 16
#define SEND_LARGE	 4
#define SEND_LARGE_BYTES ((uint64_t)1024 * 1024)

int64_t
fs_settable(struct fs *fs, int64_t time)
{
	const struct probe *p = room_probe(fs->room);
	long ns;
	int64_t sec = attr_time_split(time, &ns);

	if (!p->whole_seconds)
		return time;
	/* -1 means an error to busybox (vm/attr.sh). */
	return attr_time(sec == -1 ? 0 : sec, 0);
}

/* How much of it is unsent goes into the sum. */
static void
save_count(struct fs *fs, struct node *n, bool local)
{
	uint64_t now = local ? content_unsent(n->content) : 0;

	fs->saves.bytes += now - content_set_counted(n->content, now);
	fs->saves.files += local - n->local;
	n->local = local;
}

/* The node has changes that the VM does not know: it stays until sent. */
void
fs_mark_local(struct fs *fs, struct node *n)
{
	int64_t now = room_vm_now(fs->room);

	if (!content_is_dirty(n->content))
		return;
	if (!n->local) {
		node_hold(n);
		n->attr.atime = node_shown(n).atime;
	}
	save_count(fs, n, true);
	node_change_here(n);
	n->attr.size = content_size(n->content);
	n->attr.blocks = (n->attr.size + 511) / 512;
	n->attr.mtime = fs_settable(fs, now);
	n->attr.ctime = now;
}

/* With the tree locked: all is sent, or there is nowhere to send it. */
void
fs_mark_sent(struct fs *fs, struct node *n)
{
	if (!n->local)
		return;
	save_count(fs, n, false);
	node_release(fs->tree, n);
}

char *
fs_path_of(struct fs *fs, struct node *n)
{
	const char *hidden;

	if (SLIST_EMPTY(&n->names) && S_ISREG(n->attr.mode) && !n->control &&
	    n->content != NULL && (hidden = content_hidden(n->content)) != NULL)
		return strdup(hidden);
	return tree_path(fs->tree, n, NULL);
}

int
fs_content(struct fs *fs, struct node *n, struct content **out)
{
	int error = 0;

	if (n->content == NULL)
		error = content_open(&n->content, fs->store, &n->attr, n->id);
	else if (!n->local && !SLIST_EMPTY(&n->names))
		content_reset(n->content, &n->attr);
	*out = n->content;
	return error;
}

/* The file's directory, in which a file of ours came and went meanwhile. */
static void
send_done_dir(struct fs *fs, struct node *dir, bool is_new,
    const struct room_changed *now)
{
	struct attr was = node_shown(dir);
	bool told = dir_was_told(dir), known = dir->checked != 0;

	if (now->has_parent) {
		tree_adopt_own(fs->tree, dir, &now->parent, now->checked);
		/* What is written in a file is no change of its directory; and
		 * what a new one is has been shown already. */
		if (is_new ? told : known)
			node_show(dir, &was);
	}
	dir->changed = tree_next_epoch(fs->tree);
}

/* Adopt what the VM has now; with the tree locked. */
static void
send_done(struct fs *fs, struct node *n, bool more, bool is_new,
    const struct room_changed *now, bool foreign)
{
	struct node *dir = node_parent(n);
	struct attr was = n->attr;

	if (more) {
		/* Only its identity is settled. */
		n->attr.ino = now->self.ino;
		n->attr.dev = now->self.dev;
		n->attr.nlink = now->self.nlink;
	} else {
		tree_next_epoch(fs->tree);
		tree_adopt_own(fs->tree, n, &now->self, now->checked);
		if (!n->seen || foreign) {
			was.mtime = n->attr.mtime;
			was.ctime = n->attr.ctime;
		}
		if (!n->seen && is_new)
			was.atime = n->attr.atime;
		node_show(n, &was);
		if (foreign) {
			/* Somebody else's bytes are in it, too. */
			n->pages = 0;
			notify_inode(fs->notify, n->id);
		}
	}
	if (dir != NULL)
		send_done_dir(fs, dir, is_new, now);
	if (more)
		save_count(fs, n, true);
	else
		fs_mark_sent(fs, n);
}

static struct sends *
send_row(struct fs *fs, uint64_t id)
{
	return &fs->saves.rows[id & (SEND_ROWS - 1)];
}

static struct send *
send_find(struct fs *fs, uint64_t id)
{
	struct send *s;

	TAILQ_FOREACH (s, send_row(fs, id), link)
		if (s->id == id)
			return s;
	return NULL;
}

/* Did the service not do its part? */
static bool
error_is_failure(int error)
{
	return error == -ETIMEDOUT || error == -EIO || error == -ECONNREFUSED ||
	    error == -EHOSTUNREACH;
}

/*
 * What is to be sent, with the tree locked.  *told: along with it a time of
 * ours is set, since somebody was told that.
 */
static int
send_begin(struct send *s, struct node *n, struct room_write *w, bool *told)
{
	struct fs *fs = s->fs;
	const struct probe *p = room_probe(fs->room);
	struct attr base = content_base(n->content);
	uint32_t lend =
	    fs_lend(fs, content_is_new(n->content) ? &n->attr : &base);
	int error;

	*told = false;
	if ((error = content_begin_send(n->content, w)) != 0)
		return error;
	w->cancel = &s->cancel;
	w->lend &= lend;
	/* Only who owns a file may set its times. */
	if (!n->seen || w->attr.mtime != ROOM_TIME_KEEP ||
	    (p->uid != 0 && p->uid != n->attr.uid))
		return 0;
	w->attr.mtime = n->attr.mtime;
	*told = true;
	return 0;
}

/* Send it; once more when the VM changed it meanwhile, and ours goes on top
 * (but another file by that name is none of ours), or it may not get a time. */
static int
send_write(struct fs *fs, struct room_write *w, bool told,
    struct room_changed *now, bool *foreign)
{
	int error = room_write(fs->room, w, now);

	*foreign = error == -ESTALE && w->expecting && now->has_self &&
	    now->self.ino == w->expect.ino;
	if (!*foreign && !(told && error == -EPERM))
		return error;
	w->expecting = w->expecting && !*foreign;
	if (told)
		w->attr.mtime = ROOM_TIME_KEEP;
	cancel_reopen(w->cancel);
	return room_write(fs->room, w, now);
}

/* Send it to that path; the tree is unlocked meanwhile. */
static void
send_file(struct send *s, struct node *n, const char *path)
{
	struct fs *fs = s->fs;
	struct room_changed now = {0};
	struct room_write w;
	bool foreign = false, more, told;

	if ((s->error = send_begin(s, n, &w, &told)) != 0)
		return;
	w.path = path;
	tree_unlock(fs->tree);
	s->error = send_write(fs, &w, told, &now, &foreign);
	tree_lock(fs->tree);
	if (s->error == 0 && n->stale)
		s->error = -ESTALE;
	more = content_end_send(n->content, &w, s->error, &now);
	if (s->error == 0)
		send_done(fs, n, more, w.is_new, &now, foreign);
	fs->saves.failing = error_is_failure(s->error) ? s->error : 0;
}

/*
 * With the service gone, those that wait for their turn do not have each its
 * own time to find that out.
 */
static int
send_is_late(struct send *s)
{
	struct fs *fs = s->fs;

	return fs->saves.failing != 0 &&
		s->queued + fs->options->timeout_s * 1000ull <= room_now()
	    ? fs->saves.failing
	    : 0;
}

static void
send_run(struct job *job)
{
	struct send *s = (struct send *)job;
	struct fs *fs = s->fs;
	struct savers done = TAILQ_HEAD_INITIALIZER(done);
	struct node *n;
	char *path;

	tree_lock(fs->tree);
	n = tree_get(fs->tree, s->id); /* held by whoever started us */
	path = tree_path(fs->tree, n, NULL);
	if (n->stale)
		s->error = -ESTALE;
	else if (path == NULL && errno == ENOENT && SLIST_EMPTY(&n->names))
		fs_mark_sent(fs, n); /* removed: there is nobody to send to */
	else if (path == NULL)
		/* -ENOENT: its directory is gone */
		s->error = errno == ENOENT ? -ENOENT : -ENOMEM;
	else if (cancel_is_set(&s->cancel))
		s->error = -ECANCELED;
	else if ((s->error = send_is_late(s)) == 0)
		send_file(s, n, path);
	if (s->error == -ECANCELED && SLIST_EMPTY(&n->names)) {
		s->error = 0;
		fs_mark_sent(fs, n);
	}
	TAILQ_REMOVE(send_row(fs, s->id), s, link);
	fs_savers_sort(s, n, &done);
	node_release(fs->tree, n);
	tree_unlock(fs->tree);
	if (s->error != 0 && s->error != -ECANCELED && path != NULL)
		log_warn("%s: not saved: %s", path, strerror(-s->error));
	free(path);
	fs_savers_reply(&done);
}

static void
send_free(struct job *job)
{
	free(job);
}

int
send_start(struct fs *fs, struct node *n, struct send **out)
{
	struct send *s;
	int error = 0;

	if ((s = send_find(fs, n->id)) != NULL) {
		if (s->held && !n->removing) /* no thread could be had then */
			fs_send_hold(fs, n, false);
		job_hold(&s->job);
		*out = s;
		return 0;
	}
	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	s->fs = fs;
	s->id = n->id;
	s->queued = room_now();
	s->job.run = send_run;
	s->job.free = send_free;
	TAILQ_INIT(&s->savers);
	job_init(content_unsent(n->content) > SEND_LARGE_BYTES
		? fs->saves.large
		: fs->saves.small,
	    &s->job);
	TAILQ_INSERT_TAIL(send_row(fs, n->id), s, link);
	node_hold(n);
	/* What may be gone in a moment waits until that is known. */
	if ((s->held = n->removing))
		job_hold(&s->job);
	else if ((error = job_start(&s->job)) != 0) {
		TAILQ_REMOVE(send_row(fs, n->id), s, link);
		node_release(fs->tree, n);
		job_put(&s->job);
		return error;
	}
	*out = s;
	return 0;
}

void
fs_send_hold(struct fs *fs, struct node *n, bool on)
{
	struct send *s;

	n->removing = on;
	if (on || (s = send_find(fs, n->id)) == NULL || !s->held)
		return;
	s->queued = room_now();
	if (job_start(&s->job) == 0) {
		s->held = false;
		job_put(&s->job);
	}
}

bool
send_is_settled(struct fs *fs, struct node *n, uint64_t *owes, int *error)
{
	*error = 0;
	/* What was written is in the recovery folder, and who wrote it has to
	 * hear that it did not get to the VM. */
	if (n != NULL && n->stale && !n->local) {
		*error = -ESTALE;
		return true;
	}
	if (n == NULL || n->control || !S_ISREG(n->attr.mode) ||
	    n->content == NULL || !n->local)
		return true;
	if (!content_is_dirty(n->content)) {
		fs_mark_sent(fs, n);
		return true;
	}
	if (*owes == 0)
		*owes = content_changes(n->content);
	return content_has_sent(n->content, *owes);
}

int
fs_send(struct fs *fs, struct wait *wait, uint64_t id)
{
	uint64_t owes = 0;
	struct send *s;
	struct node *n;
	int error;
	bool ending;

	/* What another had begun may lack our latest bytes: send again, but
	 * not for what comes later. */
	for (;;) {
		tree_lock(fs->tree);
		n = tree_get(fs->tree, id);
		if (send_is_settled(fs, n, &owes, &error)) {
			tree_unlock(fs->tree);
			return error;
		}
		error = send_start(fs, n, &s);
		ending = fs->saves.ending;
		tree_unlock(fs->tree);
		if (error != 0)
			return error;
		if ((error = job_wait(&s->job, wait)) == 0)
			error = s->error;
		job_put(&s->job);
		if (error != 0 && (error != -ECANCELED || ending))
			return error == -EREMOTEIO ? -EIO : error;
	}
}

void
fs_send_later(struct fs *fs, struct node *n)
{
	struct send *s;

	if (send_start(fs, n, &s) == 0)
		job_put(&s->job);
}

bool
fs_is_sending(struct fs *fs, struct node *n)
{
	return send_find(fs, n->id) != NULL;
}

bool
fs_send_cancel(struct fs *fs, struct node *n)
{
	struct send *s = send_find(fs, n->id);

	return s == NULL || cancel_set(&s->cancel);
}

void
fs_send_cancel_idle(struct fs *fs, struct node *n)
{
	struct send *s = send_find(fs, n->id);

	if (s != NULL && TAILQ_EMPTY(&s->savers))
		cancel_set(&s->cancel);
}

int
fs_send_await(struct fs *fs, struct wait *wait, uint64_t id)
{
	struct send *s;
	int error = 0;

	tree_lock(fs->tree);
	if ((s = send_find(fs, id)) != NULL && !s->held)
		job_hold(&s->job);
	else
		s = NULL;
	tree_unlock(fs->tree);
	if (s != NULL) {
		error = job_wait(&s->job, wait);
		job_put(&s->job);
	}
	return error;
}

int
fs_saves_open(struct fs *fs)
{
	size_t i;
	int error;

	for (i = 0; i < SEND_ROWS; i++)
		TAILQ_INIT(&fs->saves.rows[i]);
	TAILQ_INIT(&fs->saves.savers);
	if ((error = pool_open(&fs->saves.small)) != 0 ||
	    (error = pool_open(&fs->saves.large)) != 0)
		return error;
	pool_limit(fs->saves.small, SEND_SMALL);
	pool_limit(fs->saves.large, SEND_LARGE);
	return 0;
}

void
fs_saves_close(struct fs *fs)
{
	pool_close(fs->saves.small);
	pool_close(fs->saves.large);
}

void
fs_saves_end(struct fs *fs)
{
	struct send *s;
	size_t i;

	tree_lock(fs->tree);
	fs->saves.ending = true;
	for (i = 0; i < SEND_ROWS; i++)
		TAILQ_FOREACH (s, &fs->saves.rows[i], link)
			cancel_set(&s->cancel);
	tree_unlock(fs->tree);
	room_shutdown(fs->room);
}

void
fs_forget_new(struct fs *fs, struct node *n, struct node *dir, const char *name)
{
	struct dentry *d;

	tree_touch_dir(fs->tree, dir);
	tree_lose_name(fs->tree, dir, name);
	n->attr.nlink = 0;
	n->attr.ctime = room_vm_now(fs->room);
	dir_change_here(dir, n->attr.ctime);
	if ((d = tree_lookup(dir, name)) != NULL)
		tree_remove(fs->tree, d);
	fs_mark_sent(fs, n);
}

/* Have them sent, several at once; the last error, or 0. */
static void
send_some(struct fs *fs, const uint64_t *ids, size_t n)
{
	struct node *node;
	size_t i;

	tree_lock(fs->tree);
	for (i = 0; i < n; i++)
		if ((node = tree_get(fs->tree, ids[i])) != NULL && node->local)
			fs_send_later(fs, node);
	tree_unlock(fs->tree);
}

/* At the end of the mount: the last try, then the recovery folder. */
void
fs_send_all(struct fs *fs)
{
	uint64_t ids[256], end = room_now() + fs->options->timeout_s * 1000ull;
	size_t n, i;
	int error = 0, failed = 0;
	bool tries;

	tree_lock(fs->tree);
	n = fs->saves.files;
	tree_unlock(fs->tree);
	if (n > 0)
		log_info("%zu unsent: sending them", n);
	while ((n = tree_local_nodes(fs->tree, false, ids, 256)) > 0) {
		/* A service that is gone is not asked for each; one that is
		 * ill not for ever. */
		tries = failed == 0 ||
		    (failed != -ETIMEDOUT && failed != -EHOSTUNREACH &&
			failed != -ECONNREFUSED && failed != -ECANCELED &&
			room_now() < end);
		if (tries)
			send_some(fs, ids, n);
		for (i = 0; i < n; i++) {
			error = tries ? fs_send(fs, NULL, ids[i]) : failed;
			if (error == 0)
				continue;
			failed = error;
			fs_recover(fs, ids[i], error);
		}
	}
}
