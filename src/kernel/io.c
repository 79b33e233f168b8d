#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/control.h"
#include "kernel/follow.h"
#include "kernel/open_file.h"
#include "base/log.h"
#include "kernel/procfd.h"

/* Reading and writing open files. */

/* So long may it take until the kernel goes by attributes that it was told. */
#define READ_SETTLE_MS 50

/* So long a handle that reads past the kernel goes on with its version, which
 * is meant to be read in several calls. */
#define READ_KEEP_MS 1000

/* Parts of a large file that are read within so long (ms) of each other are to
 * be of one version. */
#define READ_ON_MS 5000
#define READ_LARGE ((uint64_t)1 << 20)
/* A reader who jumps about is not remembered for longer than so many parts. */
#define READ_SEEN 64

/*
 * Would a program that reads a large file part by part, as the kernel does
 * ahead of it and in any order, get this one out of another version of the same
 * size?  It could not tell.  Who reads a part again begins anew.  Handle
 * locked.
 */
static bool
reads_two_versions(
    const struct open_file *h, const struct attr *now, uint64_t off, size_t len)
{
	struct interval gap, again;

	if ((h->attr.ino == now->ino && h->attr.mtime == now->mtime) ||
	    h->seen.count == 0 || h->read + READ_ON_MS <= room_now() ||
	    h->attr.size <= READ_LARGE || h->attr.size != now->size)
		return false;
	return !intervals_first(&h->seen, off, off + len, &again) &&
	    intervals_first_gap(&h->seen, 0, now->size, &gap);
}

/* A part was read of this version. */
static void
note_read(
    struct open_file *h, const struct attr *attr, uint64_t off, size_t len)
{
	pthread_mutex_lock(&h->lock);
	if (h->attr.ino == attr->ino && h->attr.mtime == attr->mtime &&
	    attr->size > READ_LARGE) {
		if (h->seen.count >= READ_SEEN ||
		    h->read + READ_ON_MS <= room_now())
			intervals_free(&h->seen);
		/* Without memory it is not remembered. */
		(void)intervals_add(&h->seen, off, off + len);
		h->read = room_now();
	}
	pthread_mutex_unlock(&h->lock);
}

/*
 * The version to be read: the file's as it is known now, unless the kernel
 * still goes by the length of the one that the handle has: what is too short
 * for the kernel it fills up with zeros, what is too long it cuts.  Held.
 * *soon: if allowed, the kernel has just been told of another version, and the
 * caller is to come again later.
 */
static struct blob *
read_version(struct fs *fs, struct open_file *h, struct node *n, uint64_t off,
    size_t len, struct attr *attr, bool *soon)
{
	struct validator v = attr_validator(&n->attr);
	struct blob *blob = NULL;
	struct node then = {0};
	bool keep;

	pthread_mutex_lock(&h->lock);
	then.attr = h->attr;
	keep = h->blob != NULL &&
	    (n->told == node_version(&then) ||
		(h->direct &&
		    (n->replaced ||
			(h->since + READ_KEEP_MS > room_now() &&
			    tree_known(fs->tree, h->since)))));
	*soon = *soon && h->blob != NULL && !h->direct && !keep &&
	    n->told_at + READ_SETTLE_MS > room_now();
	if (*soon) {
		;
	} else if (keep) {
		blob = h->blob;
		*attr = h->attr;
	} else if (reads_two_versions(h, &n->attr, off, len)) {
		h->torn = true;
	} else if ((blob = store_get(fs->store, &v)) != NULL) {
		if (h->attr.ino != n->attr.ino ||
		    h->attr.mtime != n->attr.mtime)
			intervals_free(&h->seen);
		blob_put(h->blob);
		h->blob = blob;
		h->since = room_now();
		*attr = h->attr = n->attr;
	}
	if (blob != NULL)
		blob_hold(blob);
	pthread_mutex_unlock(&h->lock);
	return blob;
}

/* The parts of a file that came within so long (ms) count as of one time. */
#define READ_AT_ONCE 500

/* Does the path name another file of that size, or the file have been written
 * to meanwhile, not by us?  With the tree locked. */
static bool
was_changed(
    struct fs *fs, fuse_ino_t ino, const char *path, const struct attr *then)
{
	struct node *n = tree_get(fs->tree, ino);
	struct node *now = tree_find(fs->tree, path);

	if (n == NULL || now == NULL || !S_ISREG(now->attr.mode) ||
	    now->attr.size != then->size)
		return false;
	return now != n ||
	    (!n->local && n->writers == 0 && n->attr.mtime != then->mtime);
}

/*
 * Now that all of a large file is here, which was checked then: was it one
 * version until its end, or is there another of the same size by now?  -ESTALE:
 * there is.
 */
static int
read_confirm(struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h,
    struct blob *blob, const char *path, const struct attr *attr,
    uint64_t checked, bool replaced)
{
	unsigned ms = fs->options->cache_timeout_ms > 0 ? READ_AT_ONCE : 0;
	uint64_t contact;
	bool torn;
	int error;

	/* Nothing can be asked of a file that has lost its name to another. */
	if (*path == '\0' && !replaced)
		return 0;
	if (!blob_is_doubtful(blob, checked, ms, !replaced))
		return 0;
	if (replaced) {
		tree_lock(fs->tree);
		h->torn = true;
		tree_unlock(fs->tree);
		goto torn;
	}
	contact = room_contact(fs->room);
	tree_lock(fs->tree);
	w->limit_ms = fs_patience(fs, true);
	tree_unlock(fs->tree);
	error = room_stat(fs->room, w, path);
	w->limit_ms = 0;
	if (error != 0) {
		fs_is_silent(fs, contact, error);
		return 0; /* nobody knows, for now */
	}
	tree_lock(fs->tree);
	torn = was_changed(fs, ino, path, attr);
	h->torn = h->torn || torn;
	tree_unlock(fs->tree);
	if (!torn)
		return 0;
torn:
	log_info("%s: changed while it was read",
	    *path != '\0' ? path : "a file that was replaced");
	blob_forget(blob);
	return -ESTALE;
}

/* The bytes of a file; what the cache lacks is fetched.  -EAGAIN: the file was
 * another version at each look. */
int
fs_read_file(struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h,
    size_t size, off_t off, struct span *span)
{
	struct content *c;
	struct attr attr;
	struct blob *blob;
	struct node *n;
	char *path;
	int error, tries, pauses = 0;
	uint64_t checked;
	bool soon, replaced;

	for (tries = 0; tries < READ_TRIES;) {
		soon = pauses < READ_TRIES;
		tree_lock(fs->tree);
		n = tree_get(fs->tree, ino);
		if (n == NULL || n->stale || h->torn) {
			tree_unlock(fs->tree);
			return -ESTALE;
		}
		if (n->guess != NULL) {
			tree_unlock(fs->tree);
			tries++;
			if ((error = fs_follow(fs, w, ino)) != 0)
				return error;
			continue;
		}
		checked = n->checked;
		replaced = n->replaced;
		/* It stays while the file is open, as it is. */
		c = NULL;
		blob = NULL;
		if (n->content != NULL &&
		    (n->local || SLIST_EMPTY(&n->names))) {
			c = n->content;
			soon = false;
		} else {
			blob = read_version(fs, h, n, off, size, &attr, &soon);
			if (h->torn) {
				tree_unlock(fs->tree);
				blob_put(blob);
				return -ESTALE;
			}
		}
		path = fs_path_of(fs, n);
		/* Removed: what was fetched is still there. */
		if (path == NULL && errno == ENOENT)
			path = strdup("");
		tree_unlock(fs->tree);
		if (soon) {
			free(path);
			pauses++;
			if ((error = wait_pause(w, READ_SETTLE_MS)) != 0)
				return error;
			continue;
		}
		tries++;
		if (path == NULL || (c == NULL && blob == NULL))
			error = -ENOMEM;
		else if (c != NULL)
			error = content_read(c, w, path, off, size, span);
		else if ((error = blob_read(
			      blob, w, path, &attr, off, size, span)) == 0) {
			error = blob_is_torn(blob)
			    ? -ESTALE
			    : read_confirm(fs, w, ino, h, blob, path, &attr,
				  checked, replaced);
			if (error != 0)
				span_free(span);
			else
				note_read(h, &attr, off, span->len);
		}
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
			return error == -EAGAIN ||
				(error == -ENOENT && replaced)
			    ? -ESTALE
			    : error;
		}
		free(path);
		if (error != 0)
			return error;
	}
	return -EAGAIN;
}

int
fs_read_pseudo(
    struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h)
{
	struct node *n;
	char *path = NULL;
	void *data;
	size_t len;
	int error;

	tree_lock(fs->tree);
	if (h->path != NULL)
		path = strdup(h->path);
	else if ((n = tree_get(fs->tree, ino)) != NULL)
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
	char *copy = NULL;
	size_t len = 0;

	/* Not under the lock: after the reply the handle may be gone. */
	pthread_mutex_lock(&h->lock);
	if ((size_t)off < h->len) {
		len = size < h->len - off ? size : h->len - off;
		if ((copy = malloc(len)) != NULL)
			memcpy(copy, h->data + off, len);
	}
	pthread_mutex_unlock(&h->lock);
	if (len > 0 && copy == NULL)
		fuse_reply_err(req, ENOMEM);
	else
		fuse_reply_buf(req, copy, len);
	free(copy);
}

void
fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi)
{
	struct open_file *h = file_of(fi);
	struct fs *fs = fs_of(req);
	struct span span = {.fd = -1};
	bool pseudo = h->pseudo;
	bool have;
	struct wait w;
	int error = 0;

	fs_wait_begin(req, &w);
	if (h->session != NULL) {
		error = session_read(
		    h->session, &w, off, size, &span.buf, &span.len);
	} else if (pseudo) {
		pthread_mutex_lock(&h->lock);
		have = h->data != NULL && (off != 0 || h->path != NULL);
		pthread_mutex_unlock(&h->lock);
		if (!have)
			error = fs_read_pseudo(fs, &w, ino, h);
	} else {
		error = fs_read_file(fs, &w, ino, h, size, off, &span);
		if (error == -EAGAIN)
			error = -EIO; /* a new version at each look */
	}
	fs_wait_end(req, &w);
	file_settle(h);
	if (error != 0)
		fuse_reply_err(req, -error);
	else if (pseudo)
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
		fs_mark_local(fs, n);
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
	    (error = content_write(c, data, size, &offset,
		 /* a mapping's pages have their place */
		 h->append && !fi->writepage)) == 0) {
		file_changed(fs, ino);
		if (offset != (uint64_t)off) /* its pages are elsewhere */
			notify_inode(fs->notify, ino);
	}
	file_settle(h);
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
	uint64_t number;
	bool early = false;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL && n->local &&
	    n->content != NULL && !content_is_written(n->content)) {
		fs_fill_stat(fs, n, &st);
		if ((number = node_kernel_ino(n)) != 0)
			st.st_ino = number;
		early = true;
	}
	tree_unlock(fs->tree);
	return early &&
	    procfd_still_open(
		procfd_process(fuse_req_ctx(req)->pid), st.st_ino, -1);
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
		error = session_flush(
		    h->session, &w, fuse_req_ctx(req)->pid, st.st_ino);
		fs_wait_end(req, &w);
	} else if (h->writes && !flush_is_early(fs, req, ino)) {
		file_settle(h);
		fs_send_and_reply(fs, req, ino, true);
		return;
	}
	file_settle(h);
	fuse_reply_err(req, -error);
}

void
fs_fsync(
    fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	bool file = file_of(fi)->session == NULL;

	(void)datasync;
	file_settle(file_of(fi));
	if (file)
		fs_send_and_reply(fs_of(req), req, ino, false);
	else
		fuse_reply_err(req, 0);
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
	file_settle(file_of(fi));
	fuse_reply_err(req, -error);
}
