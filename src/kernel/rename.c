#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/change.h"

/* Changes with two names: rename, link, and copying within the VM. */

/* The change for a rename of n, and of what has the new name; tree locked. */
static int
rename_prepare(struct fs *fs, struct node *dir, const char *name,
    struct node *n, struct node *to_dir, const char *to_name,
    struct node *target, bool noreplace, struct change_job **out)
{
	struct change_job *c;
	int error;

	if ((error = change_may(fs, dir)) != 0 ||
	    (error = change_may(fs, to_dir)) != 0)
		return error;
	if (target != NULL && noreplace)
		return -EEXIST;
	if (target != NULL && target != n) {
		if (S_ISDIR(target->attr.mode) && !S_ISDIR(n->attr.mode))
			return -EISDIR;
		if (!S_ISDIR(target->attr.mode) && S_ISDIR(n->attr.mode))
			return -ENOTDIR;
	}
	if ((c = *out = change_new(fs, ROOM_RENAME, dir, name)) == NULL)
		return -errno;
	c->node = n->id;
	node_hold(n);
	c->ops[0].noreplace = noreplace;
	c->ops[0].ino = n->attr.ino;
	c->to_dir = to_dir->id;
	node_hold(to_dir);
	c->ops[0].to = tree_path(fs->tree, to_dir, to_name);
	c->to_name = strdup(to_name);
	if (c->ops[0].to == NULL || c->to_name == NULL)
		return -ENOMEM;
	if (target == NULL || target == n)
		return 0;
	if ((error = change_keep_open(c, target, to_dir)) != 0)
		return error;
	if (c->hidden != NULL)
		return 0;
	return change_look_at_rest(c, target, to_dir, to_name);
}

void
fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
    fuse_ino_t to_parent, const char *to_name, unsigned flags)
{
	struct fs *fs = fs_of(req);
	struct change_job *c = NULL;
	struct node *n, *target = NULL, *to_dir;
	uint64_t id;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
	if (flags & ~RENAME_NOREPLACE) {
		error = -EINVAL; /* exchange: no shell can */
		goto out;
	}
	if ((error = change_refuse(fs, name)) != 0 ||
	    (error = change_refuse(fs, to_name)) != 0 ||
	    (error = fs_find_child(fs, &w, to_parent, to_name, &target)) != 0)
		goto out;
	/* What is under that name must be sent, or nothing is there to move. */
	id = target != NULL && target->local ? target->id : 0;
	tree_unlock(fs->tree);
	if (id != 0 && (error = fs_send(fs, &w, id)) != 0)
		goto out;
	if ((error = fs_find_child(fs, &w, parent, name, &n)) != 0)
		goto out;
	id = n != NULL && n->local ? n->id : 0;
	if (id != 0) {
		tree_unlock(fs->tree);
		if ((error = fs_send(fs, &w, id)) != 0 ||
		    (error = fs_find_child(fs, &w, parent, name, &n)) != 0)
			goto out;
	}
	if (n == NULL) {
		error = -ENOENT;
	} else if ((to_dir = tree_get(fs->tree, to_parent)) == NULL) {
		error = -ESTALE;
	} else {
		struct dentry *d = tree_lookup(to_dir, to_name);

		error = rename_prepare(fs, tree_get(fs->tree, parent), name, n,
		    to_dir, to_name, d == NULL ? NULL : d->node,
		    (flags & RENAME_NOREPLACE) != 0, &c);
	}
	tree_unlock(fs->tree);
	if (error == 0)
		error = change_do(c, &w);
out:
	fs_wait_end(req, &w);
	fuse_reply_err(req, -error);
	if (c != NULL)
		job_put(&c->job);
}

void
fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct change_job *c = NULL;
	struct node *n, *other, *dir;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
	if ((error = change_refuse(fs, name)) != 0 ||
	    (error = fs_send(fs, &w, ino)) != 0 ||
	    (error = fs_find_child(fs, &w, parent, name, &other)) != 0)
		goto out;
	n = tree_get(fs->tree, ino);
	dir = tree_get(fs->tree, parent);
	if (n == NULL || n->stale)
		error = -ESTALE;
	else if (n->control)
		error = -EPERM;
	else if (other != NULL)
		error = -EEXIST;
	else if ((error = change_may(fs, dir)) != 0)
		;
	else if ((c = change_new(fs, ROOM_LINK, dir, name)) == NULL)
		error = -errno;
	else if ((c->ops[0].to = tree_path(fs->tree, n, NULL)) == NULL)
		error = -errno;
	else {
		c->node = ino;
		node_hold(n);
	}
	tree_unlock(fs->tree);
	if (error == 0 && (error = change_do(c, &w)) == 0 &&
	    (error = fs_find_child(fs, &w, parent, name, &n)) == 0 &&
	    n == NULL) {
		tree_unlock(fs->tree);
		error = -ENOENT;
	}
out:
	fs_wait_end(req, &w);
	if (error != 0)
		fuse_reply_err(req, -error);
	else
		fs_reply_node(fs, req, tree_get(fs->tree, parent), n);
	if (c != NULL)
		job_put(&c->job);
}

/* How much there is to copy, with the tree locked; -errno. */
static int64_t
copy_length(struct fs *fs, struct node *from, struct node *to, uint64_t offset,
    uint64_t len)
{
	if (from == NULL || to == NULL || from->stale || to->stale)
		return -ESTALE;
	if (from->control || to->control || !S_ISREG(from->attr.mode) ||
	    !S_ISREG(to->attr.mode) || room_is_pseudo(fs->room, from->attr.dev))
		return -EOPNOTSUPP; /* the kernel copies by itself then */
	if (offset >= from->attr.size)
		return 0;
	if (len > from->attr.size - offset)
		len = from->attr.size - offset;
	return len > INT32_MAX ? INT32_MAX : (int64_t)len;
}

void
fs_copy_file_range(fuse_req_t req, fuse_ino_t ino, off_t off,
    struct fuse_file_info *fi, fuse_ino_t to_ino, off_t to_off,
    struct fuse_file_info *to_fi, size_t len, int flags)
{
	struct fs *fs = fs_of(req);
	struct change_job *c = NULL;
	struct node *from, *to;
	int64_t n = 0;
	struct wait w;
	int error;

	(void)fi;
	(void)to_fi;
	(void)flags;
	fs_wait_begin(req, &w);
	if ((error = fs_send(fs, &w, ino)) != 0 ||
	    (error = fs_send(fs, &w, to_ino)) != 0)
		goto out;
	tree_lock(fs->tree);
	from = tree_get(fs->tree, ino);
	to = tree_get(fs->tree, to_ino);
	if ((n = copy_length(fs, from, to, off, len)) < 0)
		error = n;
	else if (n > 0 && (c = change_new(fs, ROOM_COPY, NULL, NULL)) == NULL)
		error = -ENOMEM;
	else if (n > 0) {
		c->ops[0].path = fs_path_of(fs, from);
		c->ops[0].to = fs_path_of(fs, to);
		c->ops[0].offset = off;
		c->ops[0].to_offset = to_off;
		c->ops[0].length = n;
		c->ops[0].lend = fs_lend(fs, &to->attr);
		c->node = to_ino;
		node_hold(to);
		if (c->ops[0].path == NULL || c->ops[0].to == NULL)
			error = -EOPNOTSUPP;
	}
	tree_unlock(fs->tree);
	/* The source may be shorter by now. */
	if (error == 0 && c != NULL && (error = change_do(c, &w)) == 0 &&
	    c->now[0].copied < (uint64_t)n)
		n = c->now[0].copied;
out:
	fs_wait_end(req, &w);
	if (c != NULL)
		job_put(&c->job);
	if (error != 0)
		fuse_reply_err(req, -error);
	else
		fuse_reply_write(req, n);
}
