#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "fs_impl.h"

/* How often a file may change under a read before that is an error. */
#define READ_TRIES 4

struct open_file {
	struct session *session; /* of a control file */
	bool pseudo; /* a file whose size lies: */
	char *data; /* all of it, from the first read on */
	size_t len;
	pthread_mutex_t lock; /* guards data and len */
};

static struct open_file *
handle_new(void)
{
	struct open_file *h;

	if ((h = calloc(1, sizeof *h)) != NULL)
		pthread_mutex_init(&h->lock, NULL);
	return h;
}

static void
handle_free(struct open_file *h)
{
	if (h->session != NULL)
		session_release(h->session);
	free(h->data);
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
		    strcmp(path, "/") == 0 ? NULL : path, json,
		    (fi->flags & O_ACCMODE) != O_RDONLY, ctx->pid);
	free(path);
	fi->direct_io = 1;
	return error;
}

void
fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct open_file *h;
	struct node *n;
	struct wait w;
	int error;

	if ((h = handle_new()) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_wait_begin(req, &w);
	error = fs_find_node(fs, &w, ino, &n);
	fs_wait_end(req, &w);
	if (error != 0)
		goto fail;
	node_hold(n);
	if (n->control) {
		error = open_control(fs, req, n, h, fi);
	} else {
		if ((fi->flags & O_ACCMODE) != O_RDONLY)
			error = -EROFS;
		else if (!fs_may(fs, &n->attr, R_OK))
			error = -EACCES;
		else if (room_is_pseudo(fs->room, n->attr.dev)) {
			h->pseudo = true;
			fi->direct_io = 1;
		} else {
			uint64_t version = node_version(n);

			fi->keep_cache = n->pages == version;
			n->pages = version;
		}
		tree_unlock(fs->tree);
	}
	if (error == 0) {
		fi->fh = (uintptr_t)h;
		if (fuse_reply_open(req, fi) != -ENOENT)
			return;
		error = -ENOENT;
		req = NULL;
	}
	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL)
		node_release(fs->tree, n);
	tree_unlock(fs->tree);
fail:
	handle_free(h);
	if (req != NULL)
		fuse_reply_err(req, -error);
}

void
fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *n;

	handle_free((struct open_file *)(uintptr_t)fi->fh);
	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL)
		node_release(fs->tree, n);
	tree_unlock(fs->tree);
	fuse_reply_err(req, 0);
}

/* The bytes of the file as it is now; what the cache lacks is fetched. */
static int
read_file(struct fs *fs, struct wait *w, fuse_ino_t ino, size_t size, off_t off,
    struct span *span)
{
	struct validator v;
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
		attr = n->attr;
		path = tree_path(fs->tree, n, NULL);
		tree_unlock(fs->tree);
		/* Removed meanwhile: what was fetched is still there. */
		if (path == NULL && errno == ENOENT)
			path = strdup("");
		v = attr_validator(&attr);
		if (path == NULL || (blob = store_get(fs->store, &v)) == NULL) {
			free(path);
			return -ENOMEM;
		}
		error = blob_read(blob, w, path, &attr, off, size, span);
		blob_put(blob);
		if (error == -EAGAIN)
			error = room_stat(fs->room, w, path);
		else if (error == 0 || error != -ENOENT) {
			free(path);
			return error;
		}
		free(path);
		if (error != 0)
			return error == -ENOENT ? -ESTALE : error;
	}
	return -EIO;
}

static int
read_pseudo(struct fs *fs, struct wait *w, fuse_ino_t ino, struct open_file *h)
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

void
fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
    struct fuse_file_info *fi)
{
	struct open_file *h = (struct open_file *)(uintptr_t)fi->fh;
	struct fs *fs = fs_of(req);
	struct span span = {.fd = -1};
	bool have;
	struct wait w;
	int error = 0;

	fs_wait_begin(req, &w);
	if (h->session != NULL) {
		error = session_read(
		    h->session, &w, off, size, &span.buf, &span.len);
	} else if (h->pseudo) {
		pthread_mutex_lock(&h->lock);
		have = h->data != NULL && off != 0;
		pthread_mutex_unlock(&h->lock);
		if (!have)
			error = read_pseudo(fs, &w, ino, h);
	} else {
		error = read_file(fs, &w, ino, size, off, &span);
	}
	fs_wait_end(req, &w);
	if (error != 0) {
		fuse_reply_err(req, -error);
	} else if (h->pseudo) {
		pthread_mutex_lock(&h->lock);
		if ((size_t)off >= h->len)
			fuse_reply_buf(req, NULL, 0);
		else
			fuse_reply_buf(req, h->data + off,
			    size < h->len - off ? size : h->len - off);
		pthread_mutex_unlock(&h->lock);
	} else {
		reply_span(req, &span);
	}
	span_free(&span);
}

void
fs_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size,
    off_t off, struct fuse_file_info *fi)
{
	struct open_file *h = (struct open_file *)(uintptr_t)fi->fh;
	int error = -EROFS;

	(void)ino;
	if (h->session != NULL)
		error = session_write(h->session, data, size, off);
	if (error != 0)
		fuse_reply_err(req, -error);
	else
		fuse_reply_write(req, size);
}

void
fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct open_file *h = (struct open_file *)(uintptr_t)fi->fh;
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
	}
	fuse_reply_err(req, -error);
}

void
fs_fsync(
    fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0);
}
