#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "fs_impl.h"

static struct timespec
timespec_of(int64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};

	if (t.tv_nsec < 0) {
		t.tv_sec--;
		t.tv_nsec += 1000000000;
	}
	return t;
}

/*
 * The mount is one device to its users, the VM may be several: inode numbers
 * of the others are moved out of the way, or find(1) sees loops.
 */
static ino_t
fs_ino(const struct fs *fs, const struct attr *a)
{
	uint64_t ino = a->ino;

	if (a->dev != fs->root_dev)
		ino ^= (a->dev * 0x9e3779b97f4a7c15u) & 0x7fffffff00000000u;
	return ino;
}

void
fs_fill_stat(struct fs *fs, const struct node *n, struct stat *st)
{
	const struct options *o = fs->options;
	const struct probe *p = room_probe(fs->room);
	const struct attr *a = &n->attr;

	memset(st, 0, sizeof *st);
	st->st_mode = a->mode;
	st->st_nlink = a->nlink;
	st->st_uid = a->uid;
	st->st_gid = a->gid;
	if (n->control) {
		st->st_ino = n->id | 1ull << 62;
		st->st_uid = o->uid;
		st->st_gid = o->gid;
		st->st_size = control_size(fs->control, n->json);
		clock_gettime(CLOCK_REALTIME, &st->st_mtim);
		st->st_atim = st->st_ctim = st->st_mtim;
		st->st_blksize = 4096;
		return;
	}
	if (o->set_uid || (o->idmap && a->uid == p->uid))
		st->st_uid = o->uid;
	if (o->set_gid || (o->idmap && a->gid == p->gid))
		st->st_gid = o->gid;
	if (o->set_umask)
		st->st_mode &= ~o->umask;
	st->st_ino = fs_ino(fs, a);
	st->st_size = a->size > INT64_MAX ? INT64_MAX : (off_t)a->size;
	st->st_blocks = a->blocks;
	st->st_blksize = 128 * 1024;
	st->st_atim = timespec_of(a->atime);
	st->st_mtim = timespec_of(a->mtime);
	st->st_ctim = timespec_of(a->ctime);
}

void
fs_fill_entry(
    struct fs *fs, struct node *dir, struct node *n, struct fuse_entry_param *e)
{
	uint64_t checked = dir->dir->listed;

	*e = (struct fuse_entry_param){.ino = n->id};
	fs_fill_stat(fs, n, &e->attr);
	if (n->control) {
		e->entry_timeout = 3600;
		return;
	}
	if (n->checked > checked)
		checked = n->checked;
	e->entry_timeout = tree_trust(fs->tree, checked);
	e->attr_timeout = tree_trust(fs->tree, n->checked);
}

void
fs_reply_node(struct fs *fs, fuse_req_t req, struct node *dir, struct node *n)
{
	struct fuse_entry_param e;
	uint64_t id = n->id;

	fs_fill_entry(fs, dir, n, &e);
	node_remember(n);
	tree_unlock(fs->tree);
	if (fuse_reply_entry(req, &e) == -ENOENT) {
		/* Interrupted meanwhile: the kernel never learned of it. */
		tree_lock(fs->tree);
		if ((n = tree_get(fs->tree, id)) != NULL)
			node_forget(fs->tree, n, 1);
		tree_unlock(fs->tree);
	}
}

void
fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *n;
	struct stat st;
	struct wait w;
	double trust;
	int error;

	(void)fi;
	fs_wait_begin(req, &w);
	error = fs_find_node(fs, &w, ino, &n);
	fs_wait_end(req, &w);
	if (error != 0) {
		fuse_reply_err(req, -error);
		return;
	}
	fs_fill_stat(fs, n, &st);
	if (!n->control && node_is_dead(fs->tree, n))
		st.st_nlink = 0;
	trust = n->control ? 0 : tree_trust(fs->tree, n->checked);
	tree_unlock(fs->tree);
	fuse_reply_attr(req, &st, trust);
}

void
fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node *n;
	struct stat st;
	int error = EROFS;

	(void)attr;
	(void)fi;
	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) == NULL)
		error = ESTALE;
	else if (n->control) {
		/* truncate and touch are what programs do to any file. */
		error = set &
			(FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID |
			    FUSE_SET_ATTR_GID)
		    ? EPERM
		    : 0;
		fs_fill_stat(fs, n, &st);
	}
	tree_unlock(fs->tree);
	if (error != 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_attr(req, &st, 0);
}

void
fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs out = {0};
	struct room_fs in;
	struct node *n;
	struct wait w;
	char *path = NULL;
	int error = 0;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL && !n->control)
		path = tree_path(fs->tree, n, NULL);
	tree_unlock(fs->tree);
	if (path == NULL && (path = strdup(room_root(fs->room))) == NULL)
		error = -ENOMEM;
	fs_wait_begin(req, &w);
	if (error == 0)
		error = room_statfs(fs->room, &w, path, &in);
	fs_wait_end(req, &w);
	free(path);
	if (error != 0) {
		fuse_reply_err(req, -error);
		return;
	}
	out.f_bsize = in.bsize;
	out.f_frsize = in.frsize;
	out.f_blocks = in.blocks;
	out.f_bfree = in.bfree;
	out.f_bavail = in.bavail;
	out.f_files = in.files;
	out.f_ffree = out.f_favail = in.ffree;
	out.f_namemax = in.namemax != 0 ? in.namemax : 255;
	fuse_reply_statfs(req, &out);
}
