#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/link.h"
#include "kernel/made.h"

/* A text that is longer the kernel does not take. */
#define LINK_TEXT_MAX 4096
/* So many names are looked for on the way of one link. */
#define LINK_TRIES 16

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

/*
 * The text of a link for somebody; what has to be known for it is asked for.
 * 0, or -errno.  Unlocks the tree.
 */
static int
readlink_get(
    struct fs *fs, struct wait *w, fuse_ino_t ino, pid_t pid, char **text)
{
	struct link_ask ask = {0};
	struct node *n, *child;
	int error, tries;

	for (tries = 0;; tries++) {
		if ((error = fs_find_node(fs, w, ino, false, &n)) != 0)
			return error;
		if (!S_ISLNK(n->attr.mode))
			error = -EINVAL;
		else if (tree_is_broken_word(fs->tree, n))
			error = -ESTALE; /* the kernel begins anew */
		else if (link_varies(fs, n) &&
		    link_is_versioned(fs, n, pid, false))
			*text = strdup(n->target);
		else
			*text =
			    link_text(fs, n, tries < LINK_TRIES ? &ask : NULL);
		if (error == 0 && *text == NULL)
			error = -errno;
		tree_unlock(fs->tree);
		if (error != -EAGAIN)
			return error;
		error = fs_find_child(fs, w, ask.dir, ask.name, &child);
		free(ask.name);
		if (error == 0)
			tree_unlock(fs->tree);
		else if (error != -ENOENT && error != -ESTALE &&
		    error != -EACCES && error != -ENOTDIR)
			return error;
	}
}

void
fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char *text = NULL;
	struct wait w;
	int error;

	/* Another mount of the room may have made it. */
	made_refresh(fs->made);
	fs_wait_begin(req, &w);
	error = readlink_get(fs, &w, ino, fuse_req_ctx(req)->pid, &text);
	fs_wait_end(req, &w);
	if (error == 0 && strlen(text) >= LINK_TEXT_MAX)
		error = -ENAMETOOLONG;
	if (error != 0)
		fuse_reply_err(req, -error);
	else
		fuse_reply_readlink(req, text);
	free(text);
}
