#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content.h"
#include "control.h"
#include "fs_impl.h"
#include "procfd.h"

/* How often a file may change under a read before that is an error. */
#define READ_TRIES 4
/* Files up to this size are fetched when they are opened. */
#define OPEN_FETCH ((uint64_t)1024 * 1024)

struct open_file {
	struct session *session; /* of a control file */
	bool pseudo;             /* a file whose size lies: */
	char *data;              /* all of it, from the first read on */
	size_t len;
	pthread_mutex_t lock; /* guards data and len */
	bool writes, append;
	struct attr attr;  /* of the version that was last read; under lock */
	struct blob *blob; /* of that version, kept while it is open */
};

static int read_file(struct fs *, struct wait *, fuse_ino_t,
    struct open_file *, size_t, off_t, struct span *);

static struct open_file *
file_of(struct fuse_file_info *fi)
{
	return (struct open_file *)(uintptr_t)fi->fh;
}

static struct open_file *
handle_new(const struct fuse_file_info *fi)
{
	struct open_file *h;

	if ((h = calloc(1, sizeof *h)) == NULL)
		return NULL;
	pthread_mutex_init(&h->lock, NULL);
	h->writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	h->append = (fi->flags & O_APPEND) != 0;
	return h;
}

static void
handle_free(struct open_file *h)
{
	if (h->session != NULL)
		session_release(h->session);
	/* The last read is over; the lock says so to thread sanitizers, which
	 * do not know that the kernel puts requests in order. */
	pthread_mutex_lock(&h->lock);
	blob_put(h->blob);
	free(h->data);
	pthread_mutex_unlock(&h->lock);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* With the tree locked; drops the lock. */
static int
open_control(struct fs *fs, fuse_req_t req, struct node *n,
    struct open_file *h, struct fuse_file_info *fi)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct node *dir = tree_control_dir(fs->tree, n);
	bool json = n->json;
	char *path = NULL;
	int error = 0;

	if (dir == NULL || (path = tree_path(fs->tree, dir, NULL)) == NULL)
		error = -ESTALE;
	tree_unlock(fs->tree);
	/* A shell into the VM is for the mounting user alone. */
	if (error == 0 && ctx->uid != getuid() && ctx->pid != 0)
		error = -EACCES;
	if (error == 0)
		error = session_open(&h->session, fs->control,
		    strcmp(path, "/") == 0 ? NULL : path, json, h->writes,
		    ctx->pid);
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
		fs_mark_local(n);
		/* The kernel has dropped its pages itself. */
		n->pages = node_version(n);
	}
	version = node_version(n);
	fi->keep_cache = n->local || n->pages == version;
	n->pages = version;
	return 0;
}

/* The reply to open or create did not arrive, or is an error: let go. */
static void
open_undo(struct fs *fs, fuse_ino_t ino, struct open_file *h)
{
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL) {
		n->pages = 0; /* nobody read any */
		node_release(fs->tree, n);
	}
	tree_unlock(fs->tree);
	handle_free(h);
}

/*
 * Have a small file's bytes here before it is open, so that what is read is
 * one version, the one whose length the kernel knows.
 */
static int
open_fetch(struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h)
{
	struct span span;
	struct node *n;
	uint64_t version;
	bool told;
	int error, tries;

	if ((error = fs_bulk_fetch(fs, w, ino)) != 0)
		return error;
	for (tries = 0; tries < READ_TRIES; tries++) {
		tree_lock(fs->tree);
		n = tree_get(fs->tree, ino);
		h->attr = n->attr;
		version = node_version(n);
		told = n->told == version;
		tree_unlock(fs->tree);
		if ((error = read_file(fs, w, ino, h, 1, 0, &span)) != 0)
			return error;
		span_free(&span);
		tree_lock(fs->tree);
		n = tree_get(fs->tree, ino);
		if (node_version(n) == version) {
			n->told = version;
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
	return -ESTALE;
}

void
fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct open_file *h;
	struct node *n;
	struct wait w;
	bool fetch = false;
	int error;

	if ((h = handle_new(fi)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_wait_begin(req, &w);
	error = fs_find_node(fs, &w, ino, true, &n);
	if (error != 0) {
		fs_wait_end(req, &w);
		handle_free(h);
		fuse_reply_err(req, -error);
		return;
	}
	node_hold(n);
	if (n->control) {
		error = open_control(fs, req, n, h, fi);
	} else {
		error = open_regular(fs, n, h, fi);
		fetch = error == 0 && !h->pseudo && !n->local && !h->writes &&
		    n->attr.size > 0 && n->attr.size <= OPEN_FETCH &&
		    !fi->keep_cache;
		tree_unlock(fs->tree);
	}
	if (fetch)
		error = open_fetch(fs, &w, ino, h);
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
create_local(struct fs *fs, struct node *dir, const char *name, mode_t mode,
    bool exclusive, struct node **out)
{
	const struct probe *p = room_probe(fs->room);
	struct entry e = {.name = (char *)name,
	    .attr = {.mode = S_IFREG | (mode & 07777),
		.nlink = 1,
		.uid = p->uid,
		.gid = dir->attr.mode & S_ISGID ? dir->attr.gid : p->gid,
		.dev = fs->root_dev}};
	struct content *c;
	struct node *n;
	int error;

	e.attr.atime = e.attr.mtime = e.attr.ctime = fs_now_ns();
	/* Its own number until the VM gives one. */
	e.attr.ino = 1ull << 61 | tree_next_epoch(fs->tree);
	n = tree_adopt_entry(fs->tree, dir, &e, room_now());
	if (n == NULL)
		return -ENOMEM;
	if ((error = content_open(&n->content, fs->store, NULL, n->id)) != 0) {
		tree_remove(fs->tree, tree_lookup(dir, name));
		return error;
	}
	c = n->content;
	content_set_new(c, mode & 07777, exclusive);
	fs_mark_local(n);
	tree_touch_dir(fs->tree, dir);
	*out = n;
	return 0;
}

void
fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	bool exclusive = (fi->flags & O_EXCL) != 0, json;
	struct fuse_entry_param e;
	struct open_file *h;
	struct node *n, *dir;
	struct wait w;
	int error;

	if (strlen(name) > 255) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	if ((h = handle_new(fi)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_wait_begin(req, &w);
	if ((error = fs_find_child(fs, &w, parent, name, &n)) != 0)
		goto fail;
	dir = tree_get(fs->tree, parent);
	if (n != NULL && exclusive) {
		error = fs_is_control_name(fs, name, &json) ? -EPERM : -EEXIST;
	} else if (n != NULL) {
		/* Somebody was quicker: an open, then. */
		if (!S_ISREG(n->attr.mode) || n->control)
			error = n->control ? -EPERM : -EEXIST;
		else
			error = open_regular(fs, n, h, fi);
	} else if (!fs_may(fs, &dir->attr, W_OK | X_OK)) {
		error = -EACCES;
	} else if (exclusive && name_is_lock(name)) {
		if ((error = fs_change_create(fs, &w, dir, name, mode)) != 0 ||
		    (error = fs_find_child(fs, &w, parent, name, &n)) != 0)
			goto fail;
		dir = tree_get(fs->tree, parent);
		if (n == NULL || !S_ISREG(n->attr.mode))
			error = -EIO;
		else
			n->pages = node_version(n);
	} else {
		error = create_local(fs, dir, name, mode, exclusive, &n);
	}
	if (error != 0) {
		tree_unlock(fs->tree);
		goto fail;
	}
	fs_wait_end(req, &w);
	node_hold(n);
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
	handle_free(h);
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
		if (file && n->local && h->writes && !fs_is_sending(fs, n))
			fs_send_later(fs, n);
		if (file && n->opens == 1 && !n->local) {
			if (content_hidden(n->content) != NULL)
				hidden = strdup(content_hidden(n->content));
			content_close(n->content);
			n->content = NULL;
		}
		node_release(fs->tree, n);
	}
	tree_unlock(fs->tree);
	handle_free(h);
	if (hidden != NULL)
		fs_remove_hidden(fs, hidden);
	fuse_reply_err(req, 0);
}

/* So long may it take until the kernel knows of a new version. */
#define READ_SETTLE_MS 500

/*
 * The version to be read: the file's as it is known now, unless the kernel
 * still goes by the length of the one that the handle has, or may do so since
 * the news is on its way.  Held.
 */
static struct blob *
read_version(struct fs *fs, struct open_file *h, struct node *n,
    struct attr *attr)
{
	struct node then = {.attr = n->attr};
	struct validator v = attr_validator(&n->attr);
	struct blob *blob = NULL;

	pthread_mutex_lock(&h->lock);
	then.attr = h->attr;
	if (h->blob != NULL &&
	    (n->told == node_version(&then) ||
		(n->moved > atomic_load(&fs->settled) &&
		    n->moved + READ_SETTLE_MS > room_now()))) {
		blob = h->blob;
		*attr = h->attr;
	} else if ((blob = store_get(fs->store, &v)) != NULL) {
		blob_put(h->blob);
		h->blob = blob;
		*attr = h->attr = n->attr;
	}
	if (blob != NULL)
		blob_hold(blob);
	pthread_mutex_unlock(&h->lock);
	return blob;
}

/* The bytes of a file; what the cache lacks is fetched. */
static int
read_file(struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h,
    size_t size, off_t off, struct span *span)
{
	struct content *c;
	struct attr attr;
	struct blob *blob;
	struct node *n;
	char *path;
	int error, tries;

	for (tries = 0; tries < READ_TRIES; tries++) {
		tree_lock(fs->tree);
		n = tree_get(fs->tree, ino);
		if (n == NULL || n->stale) {
			tree_unlock(fs->tree);
			return -ESTALE;
		}
		/* It stays while the file is open, as it is. */
		c = NULL;
		blob = NULL;
		if (n->content != NULL && (n->local || LIST_EMPTY(&n->names)))
			c = n->content;
		else
			blob = read_version(fs, h, n, &attr);
		path = fs_path_of(fs, n);
		/* Removed: what was fetched is still there. */
		if (path == NULL && errno == ENOENT)
			path = strdup("");
		tree_unlock(fs->tree);
		if (path == NULL || (c == NULL && blob == NULL))
			error = -ENOMEM;
		else if (c != NULL)
			error = content_read(c, w, path, off, size, span);
		else
			error = blob_read(blob, w, path, &attr, off, size,
			    span);
		blob_put(blob);
		if ((error == -EAGAIN || error == -ENOENT) && path != NULL &&
		    *path != '\0') {
			/* The handle's version can't be had any more. */
			pthread_mutex_lock(&h->lock);
			blob_put(h->blob);
			h->blob = NULL;
			pthread_mutex_unlock(&h->lock);
			error = room_stat(fs->room, w, path);
		} else {
			free(path);
			return error == -EAGAIN ? -ESTALE : error;
		}
		free(path);
		if (error != 0)
			return error;
	}
	return -EIO;
}

static int
read_pseudo(struct fs *fs, struct wait *w, fuse_ino_t ino,
    struct open_file *h)
{
	struct node *n;
	char *path = NULL;
	void *data;
	size_t len;
	int error;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL)
		path = tree_path(fs->tree, n, NULL);
	tree_unlock(fs->tree);
	if (path == NULL)
		return -ESTALE;
	error = room_read_pseudo(fs->room, w, path, &data, &len);
	free(path);
	if (error != 0)
		return error;
	pthread_mutex_lock(&h->lock);
	free(h->data);
	h->data = data;
	h->len = len;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

static void
reply_span(fuse_req_t req, const struct span *span)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(span->len);

	if (span->fd == -1) {
		fuse_reply_buf(req, span->buf, span->len);
		return;
	}
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = span->fd;
	buf.buf[0].pos = span->offset;
	fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
}

static void
reply_pseudo(fuse_req_t req, struct open_file *h, size_t size, off_t off)
{
	pthread_mutex_lock(&h->lock);
	if ((size_t)off >= h->len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, h->data + off,
		    size < h->len - off ? size : h->len - off);
	pthread_mutex_unlock(&h->lock);
}

void
fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi)
{
	struct open_file *h = file_of(fi);
	struct fs *fs = fs_of(req);
	struct span span = {.fd = -1};
	bool have;
	struct wait w;
	int error = 0;

	fs_wait_begin(req, &w);
	if (h->session != NULL) {
		error = session_read(h->session, &w, off, size, &span.buf,
		    &span.len);
	} else if (h->pseudo) {
		pthread_mutex_lock(&h->lock);
		have = h->data != NULL && off != 0;
		pthread_mutex_unlock(&h->lock);
		if (!have)
			error = read_pseudo(fs, &w, ino, h);
	} else {
		error = read_file(fs, &w, ino, h, size, off, &span);
	}
	fs_wait_end(req, &w);
	if (error != 0)
		fuse_reply_err(req, -error);
	else if (h->pseudo)
		reply_pseudo(req, h, size, off);
	else
		reply_span(req, &span);
	span_free(&span);
}

/* Have a local change of an open file; the tree is locked in between. */
static int
file_content(struct fs *fs, fuse_ino_t ino, struct content **out)
{
	struct node *n;
	int error;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) == NULL || n->stale)
		error = -ESTALE;
	else
		error = fs_content(fs, n, out);
	tree_unlock(fs->tree);
	return error;
}

static void
file_changed(struct fs *fs, fuse_ino_t ino)
{
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL) {
		fs_mark_local(n);
		n->pages = node_version(n);
		fs_note_work(fs, n);
	}
	tree_unlock(fs->tree);
}

void
fs_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size,
    off_t off, struct fuse_file_info *fi)
{
	struct open_file *h = file_of(fi);
	struct fs *fs = fs_of(req);
	uint64_t offset = off;
	struct content *c;
	int error;

	if (h->session != NULL)
		error = session_write(h->session, data, size, off);
	else if ((error = file_content(fs, ino, &c)) == 0 &&
	    (error = content_write(c, data, size, &offset, h->append)) == 0) {
		file_changed(fs, ino);
		if (offset != (uint64_t)off) /* its pages are elsewhere */
			notify_inode(fs->notify, ino);
	}
	if (error != 0)
		fuse_reply_err(req, -error);
	else
		fuse_reply_write(req, size);
}

void
fs_truncate_control(struct fuse_file_info *fi, uint64_t size)
{
	session_truncate(file_of(fi)->session, size);
}

/*
 * Is this close only a shell's tidying up?  It opens, dup2()s and closes,
 * all before anything is written; what the close would send is then not yet
 * what the user means.
 */
static bool
flush_is_early(struct fs *fs, fuse_req_t req, fuse_ino_t ino)
{
	struct stat st;
	struct node *n;
	bool early = false;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL && n->local &&
	    n->content != NULL && !content_is_written(n->content)) {
		fs_fill_stat(fs, n, &st);
		early = true;
	}
	tree_unlock(fs->tree);
	return early &&
	    procfd_still_open(procfd_process(fuse_req_ctx(req)->pid),
		st.st_ino, -1);
}

void
fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct open_file *h = file_of(fi);
	struct fs *fs = fs_of(req);
	struct stat st = {0};
	struct node *n;
	struct wait w;
	int error = 0;

	if (h->session != NULL) {
		tree_lock(fs->tree);
		if ((n = tree_get(fs->tree, ino)) != NULL)
			fs_fill_stat(fs, n, &st);
		tree_unlock(fs->tree);
		fs_wait_begin(req, &w);
		error = session_flush(h->session, &w, fuse_req_ctx(req)->pid,
		    st.st_ino);
		fs_wait_end(req, &w);
	} else if (h->writes && !flush_is_early(fs, req, ino)) {
		fs_wait_begin(req, &w);
		error = fs_send(fs, &w, ino);
		fs_wait_end(req, &w);
	}
	fuse_reply_err(req, -error);
}

void
fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
    struct fuse_file_info *fi)
{
	struct wait w;
	int error = 0;

	(void)datasync;
	if (file_of(fi)->session == NULL) {
		fs_wait_begin(req, &w);
		error = fs_send(fs_of(req), &w, ino);
		fs_wait_end(req, &w);
	}
	fuse_reply_err(req, -error);
}

void
fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct content *c;
	int error = 0;

	/* Space can't be reserved in the VM; a length can be had. */
	if (mode != 0 || file_of(fi)->session != NULL)
		error = -EOPNOTSUPP;
	else if ((error = file_content(fs, ino, &c)) == 0 &&
	    (uint64_t)off + len > content_size(c)) {
		if ((error = content_truncate(c, off + len)) == 0)
			file_changed(fs, ino);
	}
	fuse_reply_err(req, -error);
}
