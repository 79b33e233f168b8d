#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/control.h"
#include "kernel/open_file.h"

/* Opening, making and closing files. */

/* Files up to this size are fetched when they are opened. */
#define OPEN_FETCH ((uint64_t)1024 * 1024)

static struct open_file *
handle_new(struct fs *fs, const struct fuse_file_info *fi)
{
	struct open_file *h;

	if ((h = calloc(1, sizeof *h)) == NULL)
		return NULL;
	pthread_mutex_init(&h->lock, NULL);
	h->writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	h->append = (fi->flags & O_APPEND) != 0;
	tree_lock(fs->tree);
	TAILQ_INSERT_TAIL(&fs->files, h, link);
	tree_unlock(fs->tree);
	return h;
}

static void
handle_free(struct fs *fs, struct open_file *h)
{
	tree_lock(fs->tree);
	TAILQ_REMOVE(&fs->files, h, link);
	tree_unlock(fs->tree);
	if (h->session != NULL)
		session_release(h->session);
	/* The last read is over; the lock says so to thread sanitizers, which
	 * do not know that the kernel puts requests in order. */
	pthread_mutex_lock(&h->lock);
	blob_put(h->blob);
	intervals_free(&h->seen);
	free(h->data);
	free(h->path);
	pthread_mutex_unlock(&h->lock);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* With the tree locked; drops the lock. */
static int
open_control(struct fs *fs, fuse_req_t req, struct node *n, struct open_file *h,
    struct fuse_file_info *fi)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct node *dir = tree_control_dir(fs->tree, n);
	bool json = n->json;
	char *path = NULL, id[CONTROL_ID_MAX + 1];
	int error = 0;

	snprintf(id, sizeof id, "%s", tree_control_id(fs->tree, n));
	if (dir == NULL || (path = tree_path(fs->tree, dir, NULL)) == NULL)
		error = -ESTALE;
	tree_unlock(fs->tree);
	/* A shell into the VM is for the mounting user alone. */
	if (error == 0 && !fs_is_mounter(req))
		error = -EACCES;
	if (error == 0)
		error = session_open(&h->session, fs->control, path, id, json,
		    h->writes, ctx->pid);
	free(path);
	fi->direct_io = 1;
	return error;
}

/* Open a file of the VM; with the tree locked. */
static int
open_regular(struct fs *fs, struct node *n, struct open_file *h,
    struct fuse_file_info *fi)
{
	int accmode = fi->flags & O_ACCMODE, error;
	struct content *c;
	uint64_t version;

	if ((accmode != O_WRONLY && !fs_may(fs, &n->attr, R_OK)) ||
	    (h->writes && !fs_may(fs, &n->attr, W_OK)))
		return -EACCES;
	if (room_is_pseudo(fs->room, n->attr.dev)) {
		if (h->writes)
			return -EACCES; /* by a command in .exec */
		h->pseudo = true;
		fi->direct_io = 1;
		return 0;
	}
	if (h->writes && (fi->flags & O_TRUNC)) {
		if ((error = fs_content(fs, n, &c)) != 0 ||
		    (error = content_truncate(c, 0)) != 0)
			return error;
		fs_send_cancel_idle(fs, n);
		fs_mark_local(fs, n);
		/* The kernel has dropped its pages itself. */
		n->pages = node_version(n);
	}
	version = node_version(n);
	fi->keep_cache = n->local || n->pages == version;
	n->pages = version;
	return 0;
}

/* A handle of a node comes, and goes; with the tree locked. */
static void
handle_attach(struct open_file *h, struct node *n)
{
	node_hold(n);
	n->writers += h->writes;
	n->handles++;
}

static void
handle_detach(struct fs *fs, struct open_file *h, struct node *n)
{
	n->writers -= h->writes;
	n->handles--;
	node_release(fs->tree, n);
}

/* The reply to open or create did not arrive, or is an error: let go. */
static void
open_undo(struct fs *fs, fuse_ino_t ino, struct open_file *h)
{
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL) {
		n->pages = 0; /* nobody read any */
		handle_detach(fs, h, n);
	}
	tree_unlock(fs->tree);
	handle_free(fs, h);
}

/*
 * Have a small file's bytes here before it is open, so that what is read is
 * one version, the one whose length the kernel knows.
 */
static int
open_fetch(struct fs *fs, struct wait *w, pid_t pid, fuse_ino_t ino,
    struct open_file *h)
{
	struct span span;
	struct node *n;
	uint64_t version;
	bool told;
	int error, tries;

	if ((error = fs_bulk_fetch(fs, w, pid, ino)) != 0)
		return error;
	for (tries = 0; tries < READ_TRIES; tries++) {
		tree_lock(fs->tree);
		n = tree_get(fs->tree, ino);
		h->attr = n->attr;
		version = node_version(n);
		told = n->told == version && node_is_settled(n);
		tree_unlock(fs->tree);
		if ((error = fs_read_file(fs, w, ino, h, 1, 0, &span)) != 0)
			return error;
		span_free(&span);
		tree_lock(fs->tree);
		n = tree_get(fs->tree, ino);
		if (node_version(n) == version || h->direct) {
			node_tell(n);
			tree_unlock(fs->tree);
			if (!told) {
				/* It still has the old length. */
				notify_inode(fs->notify, ino);
				notify_drain(fs->notify);
			}
			return 0;
		}
		tree_unlock(fs->tree);
	}
	return -EAGAIN;
}

/*
 * The file changes, or is replaced, faster than we can look: no version of it
 * can be named, but one command reads one version.
 */
static int
open_unnamed(struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h,
    char *path, struct fuse_file_info *fi)
{
	int error;

	h->path = path;
	h->pseudo = true;
	fi->direct_io = 1;
	error = fs_read_pseudo(fs, w, ino, h);
	return error == -EAGAIN ? -ESTALE : error;
}

/* The name of a file that is opened, should another have it by the time that
 * we know; *named: it is one that others see. */
static char *
path_to_open(struct fs *fs, fuse_ino_t ino, bool *named)
{
	char *path = NULL;
	struct node *n;

	*named = false;
	tree_lock(fs->tree);
	n = tree_get(fs->tree, ino);
	if (n != NULL && S_ISREG(n->attr.mode) && !n->control) {
		path = fs_path_of(fs, n);
		*named = path != NULL && !SLIST_EMPTY(&n->names);
	}
	tree_unlock(fs->tree);
	return path;
}

void
fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct open_file *h;
	struct node *n;
	struct wait w;
	char *path = NULL;
	bool fetch = false, dead, named;
	int error;

	if ((h = handle_new(fs, fi)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_wait_begin(req, &w);
	path = path_to_open(fs, ino, &named);
	error = fs_find_node(fs, &w, ino, true, &n);
	if (error != 0) {
		fs_wait_end(req, &w);
		handle_free(fs, h);
		free(path);
		fuse_reply_err(req, -error);
		return;
	}
	/* It may be open, and so be known by another name or by none. */
	dead = !n->control &&
	    (named ? tree_find(fs->tree, path) != n
		   : n->opens == 0 && node_is_dead(fs->tree, n));
	handle_attach(h, n);
	if (n->control) {
		error = open_control(fs, req, n, h, fi);
	} else if (dead) {
		/* Gone: the kernel looks the name up again. */
		if (!n->replaced || n->attr.size > OPEN_FETCH || h->writes) {
			free(path);
			path = NULL;
		}
		tree_unlock(fs->tree);
		error = -ESTALE;
	} else {
		error = open_regular(fs, n, h, fi);
		/* Its length, as the kernel has it, can't be relied on. */
		h->direct = !h->writes && !node_is_settled(n);
		fetch = error == 0 && !h->pseudo && !n->local && !h->writes &&
		    n->attr.size > 0 && n->attr.size <= OPEN_FETCH &&
		    (!fi->keep_cache || h->direct);
		h->direct = h->direct && fetch;
		tree_unlock(fs->tree);
	}
	if (fetch)
		error = open_fetch(fs, &w, fuse_req_ctx(req)->pid, ino, h);
	if (error == 0 && h->direct) {
		fi->direct_io = 1;
	} else if ((fetch || dead) && path != NULL &&
	    (error == -EAGAIN || error == -ESTALE)) {
		error = open_unnamed(fs, &w, ino, h, path, fi);
		path = NULL;
	}
	free(path);
	fs_wait_end(req, &w);
	fi->fh = (uintptr_t)h;
	if (error != 0) {
		open_undo(fs, ino, h);
		fuse_reply_err(req, -error);
	} else if (fuse_reply_open(req, fi) == -ENOENT) {
		open_undo(fs, ino, h);
	}
}

/*
 * Files made exclusively are, as a rule, just new (cp, tar, mkstemp) and are
 * sent when they are closed.  Somebody who makes one as a lock wants to know
 * at once whether he has it, so names that say so are made in the VM at once.
 */
static bool
name_is_lock(const char *name)
{
	static const char *const ends[] = {".pid", ".lck", ".lk"};
	size_t i, len = strlen(name);

	if (strcasestr(name, "lock") != NULL || strncmp(name, ".#", 2) == 0)
		return true;
	for (i = 0; i < sizeof ends / sizeof *ends; i++)
		if (len > strlen(ends[i]) &&
		    strcmp(name + len - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

/* A file that is here only, until it is closed; with the tree locked. */
static int
create_local(struct fs *fs, fuse_req_t req, struct node *dir, const char *name,
    mode_t mode, bool exclusive, struct node **out)
{
	struct room_setattr owner;
	const struct probe *p = room_probe(fs->room);
	struct entry e = {.name = (char *)name,
	    .attr = {.mode = S_IFREG | (mode & 07777),
		.nlink = 1,
		.uid = p->uid,
		.gid = dir->attr.mode & S_ISGID ? dir->attr.gid : p->gid,
		.dev = fs->root_dev}};
	int64_t now = room_vm_now(fs->room);
	struct content *c;
	struct node *n;
	int error;

	if (node_is_dead(fs->tree, dir))
		return -ENOENT;
	if (fs_owner(fs, req, &dir->attr, &owner)) {
		e.attr.uid = owner.uid;
		e.attr.gid = owner.gid;
	}
	e.attr.atime = e.attr.mtime = fs_settable(fs, now);
	e.attr.ctime = now;
	e.attr.ino = 1ull << 61 | tree_next_epoch(fs->tree);
	n = tree_adopt_entry(fs->tree, dir, &e, UINT64_MAX, room_now());
	if (n == NULL)
		return -ENOMEM;
	/* Programs (sqlite, tar) take it ill when a file's number changes. */
	node_show_ino(n, e.attr.ino);
	if ((error = content_open(&n->content, fs->store, NULL, n->id)) != 0) {
		tree_remove(fs->tree, tree_lookup(dir, name));
		return error;
	}
	c = n->content;
	content_set_new(c, mode & 07777, exclusive);
	if (e.attr.uid != p->uid || e.attr.gid != p->gid)
		content_setattr(c, &owner);
	fs_mark_local(fs, n);
	dir_change_here(dir, now);
	tree_touch_dir(fs->tree, dir);
	*out = n;
	return 0;
}

void
fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	bool exclusive = (fi->flags & O_EXCL) != 0;
	struct control_name control;
	struct fuse_entry_param e;
	struct open_file *h;
	struct node *n, *dir;
	struct wait w;
	int error;

	if (strlen(name) > 255) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	if ((h = handle_new(fs, fi)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_wait_begin(req, &w);
	if ((error = fs_find_child(fs, &w, parent, name, &n)) != 0)
		goto fail;
	dir = tree_get(fs->tree, parent);
	if (n != NULL && exclusive) {
		error =
		    fs_is_control_name(fs, name, &control) ? -EPERM : -EEXIST;
	} else if (n != NULL) {
		/* Somebody was quicker: an open, then. */
		if (!S_ISREG(n->attr.mode) || n->control)
			error = n->control ? -EPERM : -EEXIST;
		else
			error = open_regular(fs, n, h, fi);
	} else if (!fs_may(fs, &dir->attr, W_OK | X_OK)) {
		error = -EACCES;
	} else if (exclusive && name_is_lock(name)) {
		if ((error = fs_change_create(fs, req, &w, dir, name, mode)) !=
			0 ||
		    (error = fs_find_child(fs, &w, parent, name, &n)) != 0)
			goto fail;
		dir = tree_get(fs->tree, parent);
		if (n == NULL || !S_ISREG(n->attr.mode))
			error = -EIO;
		else
			n->pages = node_version(n);
	} else {
		error = create_local(fs, req, dir, name, mode, exclusive, &n);
	}
	if (error != 0) {
		tree_unlock(fs->tree);
		goto fail;
	}
	fs_wait_end(req, &w);
	h->writes = true;
	handle_attach(h, n);
	fs_fill_entry(fs, dir, n, &e);
	node_remember(n);
	tree_unlock(fs->tree);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		fs_forget_one(fs, e.ino, 1);
		open_undo(fs, e.ino, h);
	}
	return;
fail:
	fs_wait_end(req, &w);
	handle_free(fs, h);
	fuse_reply_err(req, -error);
}

void
fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct open_file *h = file_of(fi);
	char *hidden = NULL;
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL) {
		bool file = h->session == NULL && n->content != NULL;

		/* A page of a shared mapping may come after the last close. */
		if (file && n->local && h->writes &&
		    content_is_untried(n->content) && !fs_is_sending(fs, n))
			fs_send_later(fs, n);
		if (file && n->opens == 1 && !n->local) {
			hidden = content_take_hidden(n->content);
			content_close(n->content);
			n->content = NULL;
		}
		handle_detach(fs, h, n);
	}
	tree_unlock(fs->tree);
	handle_free(fs, h);
	if (hidden != NULL)
		fs_remove_hidden(fs, hidden);
	fuse_reply_err(req, 0);
}

void
fs_free_files(struct fs *fs)
{
	struct open_file *h;

	while ((h = TAILQ_FIRST(&fs->files)) != NULL)
		handle_free(fs, h);
}
