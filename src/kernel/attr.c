#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/control.h"
#include "kernel/link.h"

static struct timespec
timespec_of(int64_t time)
{
	struct timespec t;

	t.tv_sec = attr_time_split(time, &t.tv_nsec);
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

/* Tree locked. */
static uint64_t
control_file_size(struct fs *fs, const struct node *n)
{
	struct node *dir = tree_control_dir(fs->tree, n);
	const char *id = tree_control_id(fs->tree, n);
	char *path = NULL;
	uint64_t size;

	if (*id != '\0' && dir != NULL)
		path = tree_path(fs->tree, dir, NULL);
	size = control_size(fs->control, path, id, n->json);
	free(path);
	return size;
}

void
fs_fill_stat(struct fs *fs, const struct node *n, struct stat *st)
{
	const struct options *o = fs->options;
	const struct probe *p = room_probe(fs->room);
	struct attr a = node_shown(n);
	char *text;

	memset(st, 0, sizeof *st);
	st->st_mode = a.mode;
	st->st_nlink = a.nlink;
	st->st_uid = a.uid;
	st->st_gid = a.gid;
	if (n->control) {
		st->st_ino = n->id | 1ull << 62;
		st->st_uid = o->uid;
		st->st_gid = o->gid;
		st->st_size = control_file_size(fs, n);
		clock_gettime(CLOCK_REALTIME, &st->st_mtim);
		st->st_atim = st->st_ctim = st->st_mtim;
		st->st_blksize = 4096;
		return;
	}
	if (o->set_uid || (o->idmap && a.uid == p->uid))
		st->st_uid = o->uid;
	if (o->set_gid || (o->idmap && a.gid == p->gid))
		st->st_gid = o->gid;
	if (o->set_umask)
		st->st_mode &= ~o->umask;
	if ((st->st_ino = node_shown_ino(n)) == 0)
		st->st_ino = fs_ino(fs, &a);
	st->st_size = a.size > INT64_MAX ? INT64_MAX : (off_t)a.size;
	/* Programs take a link's size for the length of its text. */
	if (S_ISLNK(a.mode) && (text = link_text(fs, n, NULL)) != NULL) {
		st->st_size = strlen(text);
		free(text);
	}
	st->st_blocks = a.blocks;
	st->st_blksize = 128 * 1024;
	st->st_atim = timespec_of(a.atime);
	st->st_mtim = timespec_of(a.mtime);
	st->st_ctim = timespec_of(a.ctime);
}

void
fs_fill_entry(
    struct fs *fs, struct node *dir, struct node *n, struct fuse_entry_param *e)
{
	uint64_t checked = dir_trusted(dir->dir);

	*e = (struct fuse_entry_param){.ino = n->id};
	fs_fill_stat(fs, n, &e->attr);
	/* sendfile(2) goes by the length that the last lookup gave. */
	if (n->control)
		return;
	if (n->checked > checked)
		checked = n->checked;
	e->entry_timeout = tree_trust(fs->tree, checked);
	node_tell(n);
	e->attr_timeout = n->local || link_varies(fs, n)
	    ? 0
	    : tree_trust(fs->tree, n->checked);
	if (e->attr_timeout > 0)
		node_see(n);
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

/* see: a program does; else only the kernel, which asks again for it. */
static void
getattr_reply(fuse_req_t req, fuse_ino_t ino, bool see)
{
	struct fs *fs = fs_of(req);
	struct node *n;
	struct stat st;
	struct wait w;
	double trust;
	int error;

	fs_wait_begin(req, &w);
	error = fs_find_node(fs, &w, ino, false, &n);
	fs_wait_end(req, &w);
	if (error != 0) {
		fuse_reply_err(req, -error);
		return;
	}
	fs_fill_stat(fs, n, &st);
	if (!n->control && node_is_dead(fs->tree, n))
		st.st_nlink = 0;
	node_tell(n);
	trust = n->control || n->local ? 0 : tree_trust(fs->tree, n->checked);
	if (link_varies(fs, n)) {
		trust = 0;
		if (link_is_versioned(fs, n, fuse_req_ctx(req)->pid, true))
			st.st_size = (off_t)strlen(n->target);
		n->looked_by = fuse_req_ctx(req)->pid;
	}
	if (see || trust > 0)
		node_see(n);
	tree_unlock(fs->tree);
	fuse_reply_attr(req, &st, trust);
}

void
fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	getattr_reply(req, ino, true);
}

static int64_t
ns_of(struct timespec t)
{
	return attr_time(t.tv_sec, t.tv_nsec);
}

/* What the kernel wants set, in the VM's numbers; with the tree locked. */
static struct room_setattr
setattr_of(struct fs *fs, const struct stat *st, int set)
{
	const struct probe *p = room_probe(fs->room);
	const struct options *o = fs->options;
	struct room_setattr a = {
	    .atime = ROOM_TIME_KEEP, .mtime = ROOM_TIME_KEEP};

	if (set & FUSE_SET_ATTR_MODE) {
		a.set_mode = true;
		a.mode = st->st_mode & 07777;
	}
	if (set & FUSE_SET_ATTR_UID) {
		a.set_uid = true;
		a.uid = o->idmap && st->st_uid == o->uid ? p->uid : st->st_uid;
	}
	if (set & FUSE_SET_ATTR_GID) {
		a.set_gid = true;
		a.gid = o->idmap && st->st_gid == o->gid ? p->gid : st->st_gid;
	}
	if (set & FUSE_SET_ATTR_ATIME_NOW)
		a.atime = ROOM_TIME_NOW;
	else if (set & FUSE_SET_ATTR_ATIME)
		a.atime = ns_of(st->st_atim);
	if (set & FUSE_SET_ATTR_MTIME_NOW)
		a.mtime = ROOM_TIME_NOW;
	else if (set & FUSE_SET_ATTR_MTIME)
		a.mtime = ns_of(st->st_mtim);
	return a;
}

static bool
setattr_is_empty(const struct room_setattr *a)
{
	return !a->set_mode && !a->set_uid && !a->set_gid &&
	    a->atime == ROOM_TIME_KEEP && a->mtime == ROOM_TIME_KEEP;
}

/*
 * A new file gets mode and owner from us as it is (cp -p, tar).  Of any other
 * we only believe to know what it has.
 */
static void
setattr_drop_same(struct room_setattr *a, const struct node *n)
{
	if (!n->local || n->content == NULL || !content_is_new(n->content))
		return;
	if (a->set_uid && a->uid == n->attr.uid)
		a->set_uid = false;
	if (a->set_gid && a->gid == n->attr.gid)
		a->set_gid = false;
	if (a->set_mode && a->mode == (n->attr.mode & 07777))
		a->set_mode = false;
}

static bool
time_is_given(int64_t time)
{
	return time != ROOM_TIME_KEEP && time != ROOM_TIME_NOW;
}

/* Would the VM let its user do that?  For what is not asked of it at once. */
static int
setattr_may(struct fs *fs, const struct attr *have, struct room_setattr *a)
{
	const struct probe *p = room_probe(fs->room);
	bool owner = p->uid == have->uid;

	if (p->uid == 0)
		return 0;
	if (!owner &&
	    (a->set_mode || a->set_uid || a->set_gid ||
		time_is_given(a->atime) || time_is_given(a->mtime)))
		return -EPERM;
	if ((a->set_uid && a->uid != have->uid) ||
	    (a->set_gid && a->gid != have->gid && !fs_in_group(fs, a->gid)))
		return -EPERM;
	if (!owner && !fs_may(fs, have, W_OK))
		return -EACCES;
	if (a->set_mode && !S_ISDIR(have->mode) &&
	    !fs_in_group(fs, a->set_gid ? a->gid : have->gid))
		a->mode &= ~(uint32_t)S_ISGID;
	return 0;
}

/* What is set here, at `now`, where the VM would do it later. */
static int64_t
time_here(struct fs *fs, int64_t time, int64_t now)
{
	return time == ROOM_TIME_KEEP
	    ? time
	    : fs_settable(fs, time == ROOM_TIME_NOW ? now : time);
}

/* Set what is asked for here: in a file that is to be sent anyway, or in one
 * that nobody but who has it open will ever see. */
static int
setattr_local(struct fs *fs, struct node *n, struct room_setattr *a)
{
	const struct probe *p = room_probe(fs->room);
	int64_t now = room_vm_now(fs->room);
	int64_t atime = time_here(fs, a->atime, now);
	int64_t mtime = time_here(fs, a->mtime, now);
	int error;

	if ((error = setattr_may(fs, &n->attr, a)) != 0)
		return error;
	/* Others than the owner may set no time but that of the VM. */
	if (p->uid == 0 || p->uid == n->attr.uid) {
		a->atime = atime;
		a->mtime = mtime;
	}
	if (n->local)
		content_setattr(n->content, a);
	if (a->set_mode)
		n->attr.mode = (n->attr.mode & S_IFMT) | a->mode;
	if (a->set_uid)
		n->attr.uid = a->uid;
	if (a->set_gid)
		n->attr.gid = a->gid;
	if (atime != ROOM_TIME_KEEP)
		n->attr.atime = atime;
	if (mtime != ROOM_TIME_KEEP)
		n->attr.mtime = mtime;
	n->attr.ctime = now;
	n->seen = false;
	return 0;
}

/* By so much no file of a VM grows at once, unless it is refused: that is to
 * be known before anything is shown. */
#define SIZE_FAR ((uint64_t)1 << 40)

/* The VM refused a new length: it has left no trace.  Takes the tree's lock. */
static void
setattr_undo_size(struct fs *fs, uint64_t id, const struct attr *was)
{
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, id)) != NULL && n->local &&
	    n->content != NULL && content_revert(n->content)) {
		n->attr = *was;
		n->checked = 0;
		n->pages = 0;
		fs_mark_sent(fs, n);
	}
	tree_unlock(fs->tree);
}

/* A new length: local, and sent at once unless somebody has it open. */
static int
setattr_size(
    struct fs *fs, struct wait *w, struct node *n, uint64_t size, bool open)
{
	struct room_setattr same = {
	    .atime = ROOM_TIME_KEEP, .mtime = ROOM_TIME_KEEP};
	bool clean = !n->local, send = !open;
	struct attr was = n->attr;
	uint64_t id = n->id;
	struct content *c;
	int error;

	if (!S_ISREG(n->attr.mode))
		error = S_ISDIR(n->attr.mode) ? -EISDIR : -EINVAL;
	else if (room_is_pseudo(fs->room, n->attr.dev) ||
	    (!open && !fs_may(fs, &n->attr, W_OK)))
		error = -EACCES;
	else if ((error = fs_content(fs, n, &c)) == 0) {
		send = send || (clean && size > SIZE_FAR + was.size);
		if ((error = content_truncate(c, size)) == 0) {
			if (size == 0)
				fs_send_cancel_idle(fs, n);
			fs_mark_local(fs, n);
			n->pages = node_version(n);
			/* The VM would see no change. */
			same.mtime = n->attr.mtime;
			if (size == was.size && size != 0)
				content_setattr(c, &same);
		}
	}
	tree_unlock(fs->tree);
	if (error == 0 && send && (error = fs_send(fs, w, id)) != 0 && clean)
		setattr_undo_size(fs, id, &was);
	return error;
}

/* As setattr_size(), tree unlocked: what is far is only tried when all else is
 * sent. */
static int
setattr_find_size(struct fs *fs, struct wait *w, fuse_ino_t ino, uint64_t size,
    bool open, struct node **n)
{
	int error = 0;

	if ((*n)->local && size > SIZE_FAR + (*n)->attr.size) {
		tree_unlock(fs->tree);
		if ((error = fs_send(fs, w, ino)) != 0 ||
		    (error = fs_find_node(fs, w, ino, false, n)) != 0)
			return error;
	}
	if ((error = setattr_size(fs, w, *n, size, open)) != 0)
		return error;
	return fs_find_node(fs, w, ino, false, n);
}

static int
setattr_control(struct fs *fs, int set)
{
	tree_unlock(fs->tree);
	/* truncate and touch are what programs do to any file. */
	return set &
		(FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)
	    ? -EPERM
	    : 0;
}

void
fs_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct room_setattr a;
	struct node *n;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
	if ((error = fs_find_node(fs, &w, ino, false, &n)) != 0)
		goto fail;
	if (n->control) {
		if ((error = setattr_control(fs, set)) != 0)
			goto fail;
		if (fi != NULL && set & FUSE_SET_ATTR_SIZE)
			fs_truncate_control(fi, st->st_size);
		goto reply;
	}
	a = setattr_of(fs, st, set);
	if (set & FUSE_SET_ATTR_SIZE) {
		error =
		    setattr_find_size(fs, &w, ino, st->st_size, fi != NULL, &n);
		if (error != 0)
			goto fail;
		/* The kernel sends the times of truncate(2), too. */
		if (!n->local ||
		    (set & (FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME_NOW)))
			a.atime = a.mtime = ROOM_TIME_KEEP;
	}
	setattr_drop_same(&a, n);
	if (setattr_is_empty(&a)) {
		tree_unlock(fs->tree);
	} else if ((n->local && n->content != NULL) ||
	    (node_is_dead(fs->tree, n) &&
		(n->content == NULL || content_hidden(n->content) == NULL))) {
		error = setattr_local(fs, n, &a);
		tree_unlock(fs->tree);
		if (error != 0)
			goto fail;
	} else if ((error = fs_change_attr(fs, &w, n, &a)) != 0) {
		goto fail;
	}
reply:
	fs_wait_end(req, &w);
	getattr_reply(req, ino, false);
	return;
fail:
	fs_wait_end(req, &w);
	fuse_reply_err(req, -error);
}

/* So long are the numbers of df(1) good enough (ms). */
#define STATFS_TRUST 60000

bool
fs_statfs_known(struct fs *fs, uint64_t dev)
{
	return fs->statfs.at != 0 && fs->statfs.dev == dev &&
	    fs->statfs.at + STATFS_TRUST > room_now();
}

/*
 * Numbers that change all the time need not be asked for each time; and with
 * a dead server, old ones keep df(1) from hanging.
 */
static int
statfs_get(struct fs *fs, struct wait *w, fuse_ino_t ino, struct room_fs *out)
{
	uint64_t dev = fs->root_dev, contact;
	struct node *n;
	char *path = NULL;
	bool known;
	int error;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) != NULL && !n->control) {
		dev = n->attr.dev;
		path = tree_path(fs->tree, n, NULL);
	}
	known = fs->statfs.at != 0 && fs->statfs.dev == dev;
	contact = room_contact(fs->room);
	w->limit_ms = fs_patience(fs, known);
	*out = fs->statfs.fs;
	if (fs_statfs_known(fs, dev)) {
		tree_unlock(fs->tree);
		free(path);
		return 0;
	}
	tree_unlock(fs->tree);
	if (path == NULL && (path = strdup(room_root(fs->room))) == NULL)
		return -ENOMEM;
	error = room_statfs(fs->room, w, path, out);
	w->limit_ms = 0;
	if (error != 0 && known)
		fs_is_silent(fs, contact, error);
	free(path);
	if (error != 0 && known && error != -EINTR) {
		tree_lock(fs->tree);
		*out = fs->statfs.fs;
		tree_unlock(fs->tree);
		error = 0;
	}
	return error;
}

void
fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs out = {0};
	struct room_fs in;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
	error = statfs_get(fs_of(req), &w, ino, &in);
	fs_wait_end(req, &w);
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
