#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/fs_impl.h"

/*
 * An open directory: its names as they were when reading began, so that
 * offsets stay what they were whatever happens meanwhile.  Offset k is the
 * k-th name; "." and ".." come first.
 */
struct dir_handle {
	TAILQ_ENTRY(dir_handle) link; /* in fs->dirs */
	bool filled;
	uint64_t opened;
	size_t count, room, used;
	struct {
		uint32_t name; /* offset in names */
		uint32_t type;
		uint64_t ino;
	} * items;
	char *names;
	size_t names_room;
	uint64_t self_ino, parent_ino;
};

static void
dir_clear(struct dir_handle *h)
{
	free(h->items);
	free(h->names);
	h->items = NULL;
	h->names = NULL;
	h->count = h->room = h->used = h->names_room = 0;
	h->filled = false;
}

static int
dir_add(struct dir_handle *h, const char *name, mode_t type, uint64_t ino)
{
	size_t len = strlen(name) + 1, room;
	void *more;

	if (h->count == h->room) {
		room = h->room == 0 ? 64 : h->room * 2;
		more = reallocarray(h->items, room, sizeof *h->items);
		if (more == NULL)
			return -ENOMEM;
		h->items = more;
		h->room = room;
	}
	if (h->used + len > h->names_room) {
		room = (h->names_room + len) * 2 + 512;
		if (room > UINT32_MAX ||
		    (more = realloc(h->names, room)) == NULL)
			return -ENOMEM;
		h->names = more;
		h->names_room = room;
	}
	h->items[h->count].name = h->used;
	h->items[h->count].type = type & S_IFMT;
	h->items[h->count++].ino = ino;
	memcpy(h->names + h->used, name, len);
	h->used += len;
	return 0;
}

/* Take the names; with the tree locked. */
static int
dir_fill(struct fs *fs, struct dir_handle *h, struct node *dir)
{
	struct node *up = node_parent(dir);
	struct dentry *d;
	struct stat st;

	dir_clear(h);
	fs_fill_stat(fs, dir, &st);
	h->self_ino = h->parent_ino = st.st_ino;
	if (up != NULL) {
		fs_fill_stat(fs, up, &st);
		h->parent_ino = st.st_ino;
	}
	RB_FOREACH (d, dentries, &dir->dir->names) {
		fs_fill_stat(fs, d->node, &st);
		if (dir_add(h, d->name, st.st_mode, st.st_ino) != 0)
			goto fail;
	}
	if (fs_lists_control(fs, dir) &&
	    dir_add(h, fs->options->control, S_IFREG, 1ull << 62) != 0)
		goto fail;
	h->filled = true;
	return 0;
fail:
	dir_clear(h);
	return -ENOMEM;
}

static void
dir_close(struct fs *fs, fuse_ino_t ino, struct dir_handle *h)
{
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL)
		node_release(fs->tree, n);
	TAILQ_REMOVE(&fs->dirs, h, link);
	tree_unlock(fs->tree);
	dir_clear(h);
	free(h);
}

void
fs_free_dirs(struct fs *fs)
{
	struct dir_handle *h;

	while ((h = TAILQ_FIRST(&fs->dirs)) != NULL) {
		TAILQ_REMOVE(&fs->dirs, h, link);
		dir_clear(h);
		free(h);
	}
}

void
fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct dir_handle *h;
	struct node *n;
	struct wait w;
	int error;

	if ((h = calloc(1, sizeof *h)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	h->opened = room_now();
	fs_wait_begin(req, &w);
	error = fs_find_listed(fs, &w, ino, 0, &n);
	fs_wait_end(req, &w);
	if (error != 0) {
		free(h);
		fuse_reply_err(req, -error);
		return;
	}
	/* The kernel needs both to keep a listing, whatever fuse_common.h says;
	 * without keep_cache it reads anew. */
	fi->cache_readdir = 1;
	fi->keep_cache = n->dir->shown == n->dir->version;
	n->dir->shown = n->dir->version;
	node_hold(n);
	TAILQ_INSERT_TAIL(&fs->dirs, h, link);
	tree_unlock(fs->tree);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_close(fs, ino, h);
}

void
fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	dir_close(fs_of(req), ino, (struct dir_handle *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/* One entry into buf; how much it takes, more than len: it did not fit. */
static size_t
dir_emit(struct fs *fs, fuse_req_t req, struct node *dir, const char *name,
    struct stat *st, off_t next, bool plus, char *buf, size_t len)
{
	struct fuse_entry_param e = {.attr = *st};
	struct node *child = NULL;
	struct dentry *d;
	size_t size;

	if (!plus)
		return fuse_add_direntry(req, buf, len, name, st, next);
	/* ".", ".." and what has gone meanwhile: no node, so no lookup. */
	if ((d = tree_lookup(dir, name)) != NULL)
		child = d->node;
	else if (fs->options->control != NULL &&
	    strcmp(name, fs->options->control) == 0)
		child = tree_control(
		    fs->tree, dir, &(struct control_name){.json = false});
	if (child != NULL)
		fs_fill_entry(fs, dir, child, &e);
	size = fuse_add_direntry_plus(req, buf, len, name, &e, next);
	if (size <= len && child != NULL)
		node_remember(child);
	return size;
}

static void
dir_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi, bool plus)
{
	struct dir_handle *h = (struct dir_handle *)(uintptr_t)fi->fh;
	struct fs *fs = fs_of(req);
	size_t used = 0, need;
	struct node *n;
	struct stat st = {0};
	struct wait w;
	const char *name;
	char *buf;
	int error;

	if ((buf = malloc(size)) == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fs_wait_begin(req, &w);
	/* A rewound directory is read anew. */
	if (!h->filled || offset == 0) {
		if ((error = fs_find_listed(
			 fs, &w, ino, h->filled ? 0 : h->opened, &n)) == 0 &&
		    (error = dir_fill(fs, h, n)) != 0)
			tree_unlock(fs->tree);
	} else {
		tree_lock(fs->tree);
		error = (n = tree_get(fs->tree, ino)) == NULL ? -ESTALE : 0;
		if (error != 0)
			tree_unlock(fs->tree);
	}
	fs_wait_end(req, &w);
	if (error != 0) {
		free(buf);
		fuse_reply_err(req, -error);
		return;
	}
	for (; (size_t)offset < h->count + 2; offset++) {
		if (offset < 2) {
			name = offset == 0 ? "." : "..";
			st.st_mode = S_IFDIR;
			st.st_ino = offset == 0 ? h->self_ino : h->parent_ino;
		} else {
			name = h->names + h->items[offset - 2].name;
			st.st_mode = h->items[offset - 2].type;
			st.st_ino = h->items[offset - 2].ino;
		}
		need = dir_emit(fs, req, n, name, &st, offset + 1, plus,
		    buf + used, size - used);
		if (need > size - used)
			break;
		used += need;
	}
	tree_unlock(fs->tree);
	fuse_reply_buf(req, buf, used);
	free(buf);
}

void
fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi)
{
	dir_read(req, ino, size, offset, fi, false);
}

void
fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi)
{
	dir_read(req, ino, size, offset, fi, true);
}
