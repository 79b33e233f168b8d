#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/fs_impl.h"
#include "tree/symlink.h"

void
fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e = {0};
	struct node *n, *dir;
	struct wait w;
	int error;

	if (strlen(name) > 255) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	fs_wait_begin(req, &w);
	error = fs_find_child(fs, &w, parent, name, &n);
	fs_wait_end(req, &w);
	if (error != 0) {
		fuse_reply_err(req, -error);
		return;
	}
	dir = tree_get(fs->tree, parent);
	if (n != NULL) {
		fs_reply_node(fs, req, dir, n);
		return;
	}
	/* ENOENT by fuse_reply_err() would not be remembered. */
	e.entry_timeout = tree_trust(fs->tree, dir_trusted(dir->dir));
	tree_unlock(fs->tree);
	if (e.entry_timeout > 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

void
fs_forget_one(struct fs *fs, fuse_ino_t ino, uint64_t count)
{
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL)
		node_forget(fs->tree, n, count);
	tree_unlock(fs->tree);
}

void
fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	fs_forget_one(fs_of(req), ino, count);
	fuse_reply_none(req);
}

void
fs_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *f)
{
	size_t i;

	for (i = 0; i < n; i++)
		fs_forget_one(fs_of(req), f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

char *
fs_link_text(struct fs *fs, const struct node *n)
{
	struct node *up = node_parent(n);
	char *dir, *text;

	if (!fs->options->transform_symlinks || up == NULL)
		return strdup(n->target);
	if (*n->target != '/' && strstr(n->target, "..") == NULL)
		return strdup(n->target); /* stays below: the usual case */
	if ((dir = tree_path(fs->tree, up, NULL)) == NULL)
		return NULL;
	text = symlink_transform(n->target, dir, room_root(fs->room));
	free(dir);
	return text;
}

void
fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char *text = NULL;
	struct node *n;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
	error = fs_find_node(fs, &w, ino, false, &n);
	fs_wait_end(req, &w);
	if (error != 0) {
		fuse_reply_err(req, -error);
		return;
	}
	if (!S_ISLNK(n->attr.mode))
		error = EINVAL;
	else if ((text = fs_link_text(fs, n)) == NULL)
		error = ENOMEM;
	tree_unlock(fs->tree);
	if (error != 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_readlink(req, text);
	free(text);
}
