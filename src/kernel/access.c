#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/fs_impl.h"

/*
 * Who may do what: the VM's user there, and programs of this machine here.  Of
 * these the kernel tells numbers in the name spaces of the mount; SECURITY.md
 * says what they are of callers in others.
 */

bool
fs_is_mounter(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid == getuid();
}

bool
fs_in_group(struct fs *fs, uint32_t gid)
{
	const struct probe *p = room_probe(fs->room);
	size_t i;

	for (i = 0; i < p->ngroups; i++)
		if (gid == p->groups[i])
			return true;
	return gid == p->gid;
}

bool
fs_may(struct fs *fs, const struct attr *a, int mask)
{
	const struct probe *p = room_probe(fs->room);
	unsigned bits = a->mode;

	if (p->uid == 0)
		return !(mask & X_OK) || S_ISDIR(a->mode) || (bits & 0111);
	if (a->uid == p->uid)
		return ((bits >> 6) & mask) == (unsigned)mask;
	if (fs_in_group(fs, a->gid))
		return ((bits >> 3) & mask) == (unsigned)mask;
	return (bits & mask) == (unsigned)mask;
}

uint32_t
fs_lend(struct fs *fs, const struct attr *a)
{
	const struct probe *p = room_probe(fs->room);

	return p->uid != 0 && a->uid == p->uid ? 0600 & ~a->mode : 0;
}

bool
fs_owner(struct fs *fs, fuse_req_t req, const struct attr *dir,
    struct room_setattr *out)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	const struct probe *p = room_probe(fs->room);

	*out = (struct room_setattr){
	    .atime = ROOM_TIME_KEEP, .mtime = ROOM_TIME_KEEP};
	if (fs->options->idmap || fs->options->set_uid || p->uid != 0)
		return false;
	out->uid = ctx->uid;
	out->gid = dir->mode & S_ISGID ? dir->gid : ctx->gid;
	out->set_uid = out->set_gid = out->uid != p->uid || out->gid != p->gid;
	return out->set_uid;
}

/* access(2), and chdir(2), where the kernel does not judge by itself. */
void
fs_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	struct fs *fs = fs_of(req);
	struct node *n;
	struct wait w;
	int error = 0;

	/* Whoever goes into a directory that is known need not wait for news
	 * of it: it is searched in the VM. */
	tree_lock(fs->tree);
	n = tree_get(fs->tree, ino);
	if (mask != X_OK || n == NULL || n->stale || !S_ISDIR(n->attr.mode)) {
		tree_unlock(fs->tree);
		fs_wait_begin(req, &w);
		error = fs_find_node(fs, &w, ino, false, &n);
		fs_wait_end(req, &w);
	}
	if (error == 0) {
		if (n->control)
			error =
			    fs_is_mounter(req) && !(mask & X_OK) ? 0 : -EACCES;
		else if (!fs_may(fs, &n->attr, mask) ||
		    (mask & W_OK && S_ISREG(n->attr.mode) &&
			room_is_pseudo(fs->room, n->attr.dev)))
			error = -EACCES;
		tree_unlock(fs->tree);
	}
	fuse_reply_err(req, -error);
}
