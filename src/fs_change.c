#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs_impl.h"

/* What every change of names answers while the mount is read-only. */
static void
refuse(fuse_req_t req, const char *name)
{
	bool json;

	fuse_reply_err(
	    req, fs_is_control_name(fs_of(req), name, &json) ? EPERM : EROFS);
}

void
fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    struct fuse_file_info *fi)
{
	(void)parent;
	(void)mode;
	(void)fi;
	refuse(req, name);
}

void
fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    dev_t rdev)
{
	(void)parent;
	(void)mode;
	(void)rdev;
	refuse(req, name);
}

void
fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)parent;
	(void)mode;
	refuse(req, name);
}

void
fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	refuse(req, name);
}

void
fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	refuse(req, name);
}

void
fs_symlink(
    fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)parent;
	refuse(req, name);
}

void
fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
    fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
	bool json;

	(void)parent;
	(void)new_parent;
	(void)flags;
	refuse(req,
	    fs_is_control_name(fs_of(req), new_name, &json) ? new_name : name);
}

void
fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node *n;
	bool control;

	(void)parent;
	tree_lock(fs->tree);
	control = (n = tree_get(fs->tree, ino)) != NULL && n->control;
	tree_unlock(fs->tree);
	if (control)
		fuse_reply_err(req, EPERM);
	else
		refuse(req, name);
}
