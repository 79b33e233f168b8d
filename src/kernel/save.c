#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/fs_impl.h"
#include "base/log.h"

/*
 * Sending a file's unsent changes to the VM.  One job a file at a time; who
 * wants the same waits for it.  The job goes on when the waiting ends.
 */
struct send {
	struct job job;
	TAILQ_ENTRY(send) link; /* in fs->sends; under the tree's lock */
	struct fs *fs;
	uint64_t id;
	int error;
};

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
	n->local = true;
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
	n->local = false;
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
	if (!more)
		fs_mark_sent(fs, n);
}

/*
 * What is to be sent, with the tree locked.  True: along with it a time of ours
 * is set, since somebody was told that.
 */
static bool
send_begin(struct fs *fs, struct node *n, struct room_write *w)
{
	const struct probe *p = room_probe(fs->room);

	content_begin_send(n->content, w);
	/* Only who owns a file may set its times. */
	if (!n->seen || w->attr.mtime != ROOM_TIME_KEEP ||
	    (p->uid != 0 && p->uid != n->attr.uid))
		return false;
	w->attr.mtime = n->attr.mtime;
	return true;
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
	return room_write(fs->room, w, now);
}

static void
send_run(struct job *job)
{
	struct send *s = (struct send *)job;
	struct fs *fs = s->fs;
	struct room_changed now = {0};
	struct room_write w;
	struct content *c;
	struct attr base;
	struct node *n;
	char *path;
	bool foreign = false, more, told = false;
	uint32_t lend;

	tree_lock(fs->tree);
	n = tree_get(fs->tree, s->id); /* held by whoever started us */
	c = n->content;
	base = content_base(c);
	lend = fs_lend(fs, content_is_new(c) ? &n->attr : &base);
	path = tree_path(fs->tree, n, NULL);
	if (n->stale) {
		s->error = -ESTALE;
		free(path);
		goto out;
	}
	if (path == NULL && errno == ENOENT && SLIST_EMPTY(&n->names)) {
		fs_mark_sent(
		    fs, n); /* removed: there is nobody to send it to */
		goto out;
	}
	if (path == NULL && errno == ENOENT) {
		s->error = -ENOENT; /* its directory is gone */
		goto out;
	}
	if (path != NULL)
		told = send_begin(fs, n, &w);
	tree_unlock(fs->tree);
	if (path == NULL) {
		s->error = -ENOMEM;
	} else {
		w.path = path;
		w.lend &= lend;
		s->error = send_write(fs, &w, told, &now, &foreign);
	}
	tree_lock(fs->tree);
	if (path != NULL) {
		if (s->error == 0 && n->stale)
			s->error = -ESTALE;
		more = content_end_send(c, &w, s->error, &now);
		if (s->error == 0)
			send_done(fs, n, more, w.is_new, &now, foreign);
		else
			log_warn(
			    "%s: not saved: %s", path, strerror(-s->error));
	}
	free(path);
out:
	TAILQ_REMOVE(&fs->sends, s, link);
	if ((n = tree_get(fs->tree, s->id)) != NULL)
		node_release(fs->tree, n);
	tree_unlock(fs->tree);
}

static void
send_free(struct job *job)
{
	free(job);
}

/* Start to send, or find who does it; held for the caller.  Tree locked. */
static int
send_start(struct fs *fs, struct node *n, struct send **out)
{
	struct send *s;
	int error;

	TAILQ_FOREACH (s, &fs->sends, link)
		if (s->id == n->id) {
			job_hold(&s->job);
			*out = s;
			return 0;
		}
	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	s->fs = fs;
	s->id = n->id;
	s->job.run = send_run;
	s->job.free = send_free;
	job_init(fs->pool, &s->job);
	TAILQ_INSERT_TAIL(&fs->sends, s, link);
	node_hold(n);
	if ((error = job_start(&s->job)) != 0) {
		TAILQ_REMOVE(&fs->sends, s, link);
		node_release(fs->tree, n);
		job_put(&s->job);
		return error;
	}
	*out = s;
	return 0;
}

int
fs_send(struct fs *fs, struct wait *wait, uint64_t id)
{
	struct send *s;
	struct node *n;
	int error = 0;

	/* What another had begun may lack our latest bytes: send again. */
	for (;;) {
		tree_lock(fs->tree);
		n = tree_get(fs->tree, id);
		/* What was written is in the recovery folder, and who wrote it
		 * has to hear that it did not get to the VM. */
		if (n != NULL && n->stale && !n->local) {
			tree_unlock(fs->tree);
			return -ESTALE;
		}
		if (n == NULL || n->control || !S_ISREG(n->attr.mode) ||
		    n->content == NULL || !n->local) {
			tree_unlock(fs->tree);
			return 0;
		}
		if (!content_is_dirty(n->content)) {
			fs_mark_sent(fs, n);
			tree_unlock(fs->tree);
			return 0;
		}
		error = send_start(fs, n, &s);
		tree_unlock(fs->tree);
		if (error != 0)
			return error;
		if ((error = job_wait(&s->job, wait)) == 0)
			error = s->error;
		job_put(&s->job);
		if (error != 0)
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
	struct send *s;

	TAILQ_FOREACH (s, &fs->sends, link)
		if (s->id == n->id)
			return true;
	return false;
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

/* At the end of the mount: the last try, then the recovery folder. */
void
fs_send_all(struct fs *fs)
{
	uint64_t ids[256], end = room_now() + fs->options->timeout_s * 1000ull;
	size_t n, i;
	int error = 0, failed = 0;

	while ((n = tree_local_nodes(fs->tree, ids, 256)) > 0)
		for (i = 0; i < n; i++) {
			/* A service that is gone is not asked for each; one
			 * that is ill not for ever. */
			if (failed == 0 ||
			    (failed != -ETIMEDOUT && failed != -EHOSTUNREACH &&
				failed != -ECONNREFUSED && room_now() < end))
				error = fs_send(fs, NULL, ids[i]);
			else
				error = failed;
			if (error == 0)
				continue;
			failed = error;
			fs_recover(fs, ids[i], error);
		}
}
