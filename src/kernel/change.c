#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "content/content.h"
#include "kernel/change.h"
#include "kernel/link.h"
#include "kernel/made.h"

/*
 * Changes of names and attributes run as jobs, so that an interrupted caller
 * does not lose what the VM has done meanwhile.
 */

static void
change_let_go(struct fs *fs, uint64_t id)
{
	struct node *n;

	if (id != 0 && (n = tree_get(fs->tree, id)) != NULL)
		node_release(fs->tree, n);
}

static void
change_free(struct job *job)
{
	struct change_job *c = (struct change_job *)job;
	size_t i;

	tree_lock(c->fs->tree);
	change_let_go(c->fs, c->dir);
	change_let_go(c->fs, c->to_dir);
	change_let_go(c->fs, c->node);
	change_let_go(c->fs, c->hides);
	change_let_go(c->fs, c->left);
	tree_unlock(c->fs->tree);
	for (i = 0; i < 2; i++) {
		free((char *)c->ops[i].path);
		free((char *)c->ops[i].to);
	}
	free(c->name);
	free(c->to_name);
	free(c->hidden);
	free(c);
}

static void
change_run(struct job *job)
{
	struct change_job *c = (struct change_job *)job;
	struct fs *fs = c->fs;

	tree_lock(fs->tree);
	tree_next_epoch(fs->tree);
	tree_unlock(fs->tree);
	c->error = room_change_all(fs->room, c->ops, c->nops, c->now);
	tree_lock(fs->tree);
	tree_next_epoch(fs->tree);
	if (c->error == 0)
		change_adopt(c);
	else if (c->error != -EPERM && c->error != -EACCES &&
	    c->error != -ENOTEMPTY && c->error != -EROFS)
		change_doubt(c);
	tree_unlock(fs->tree);
	made_save(fs->made);
	if (c->error == -EREMOTEIO)
		c->error = -EIO;
}

/*
 * A change in a directory, with the tree locked; NULL: no memory, or (errno)
 * the directory is gone.  ops[0] has its path.
 */
struct change_job *
change_new(struct fs *fs, enum room_op op, struct node *dir, const char *name)
{
	struct change_job *c;

	if ((c = calloc(1, sizeof *c)) == NULL)
		return NULL;
	c->fs = fs;
	c->nops = 1;
	c->ops[0].op = op;
	c->ops[0].attr.atime = c->ops[0].attr.mtime = ROOM_TIME_KEEP;
	c->job.run = change_run;
	c->job.free = change_free;
	job_init(fs->pool, &c->job);
	if (dir != NULL) {
		c->dir = dir->id;
		node_hold(dir);
		c->ops[0].path = tree_path(fs->tree, dir, name);
		c->name = strdup(name);
		if (c->ops[0].path == NULL || c->name == NULL) {
			int error = errno;

			tree_unlock(fs->tree);
			job_put(&c->job);
			tree_lock(fs->tree);
			errno = error;
			return NULL;
		}
	}
	return c;
}

/* Run it; the change's reference is still the caller's. */
int
change_do(struct change_job *c, struct wait *wait)
{
	int error;

	if ((error = job_start(&c->job)) != 0)
		return error;
	if ((error = job_wait(&c->job, wait)) != 0)
		return error;
	return c->error;
}

/* Names that can't be changed. */
int
change_refuse(struct fs *fs, const char *name)
{
	struct control_name control;

	if (fs_is_control_name(fs, name, &control))
		return -EPERM;
	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	return 0;
}

/* May the VM's user change names in the directory? */
int
change_may(struct fs *fs, const struct node *dir)
{
	return fs_may(fs, &dir->attr, 03) ? 0 : -EACCES;
}

/* Make something new: the name must be free. */
static void
make_entry(fuse_req_t req, fuse_ino_t parent, const char *name,
    const struct room_change *what)
{
	struct fs *fs = fs_of(req);
	struct change_job *c = NULL;
	struct node *n, *dir;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
	if ((error = change_refuse(fs, name)) != 0 ||
	    (error = fs_find_child(fs, &w, parent, name, &n)) != 0)
		goto out;
	dir = tree_get(fs->tree, parent);
	if (n != NULL)
		error = -EEXIST;
	else if ((error = change_may(fs, dir)) == 0) {
		if ((c = change_new(fs, what->op, dir, name)) == NULL) {
			error = errno == ENOENT ? -ENOENT : -ENOMEM;
		} else {
			c->ops[0].mode = what->mode;
			c->ops[0].rdev = what->rdev;
			fs_owner(fs, req, &dir->attr, &c->ops[0].attr);
			if (what->to != NULL &&
			    (c->ops[0].to = link_target(
				 fs, dir, what->to, &c->made)) == NULL)
				error = -ENOMEM;
		}
	}
	tree_unlock(fs->tree);
	if (error == 0 && (error = change_do(c, &w)) == 0)
		error = fs_find_child(fs, &w, parent, name, &n);
	if (error == 0 && n == NULL) {
		tree_unlock(fs->tree);
		error = -ENOENT; /* somebody was quick */
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

void
fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	const struct room_change what = {
	    .op = ROOM_MKDIR, .mode = mode & 07777};

	make_entry(req, parent, name, &what);
}

void
fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    dev_t rdev)
{
	const struct room_change what = {
	    .op = S_ISREG(mode) ? ROOM_CREATE : ROOM_MKNOD,
	    .mode = mode,
	    .rdev = rdev};

	make_entry(req, parent, name, &what);
}

void
fs_symlink(
    fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	const struct room_change what = {.op = ROOM_SYMLINK, .to = target};

	make_entry(req, parent, name, &what);
}

/*
 * An open file that is about to lose its last name must go on working.  If
 * all its bytes are here they are kept here; else it gets a hidden name in
 * the VM until it is closed.  Tree locked.
 */
int
change_keep_open(struct change_job *c, struct node *n, struct node *dir)
{
	struct fs *fs = c->fs;
	struct content *content;
	char nonce[32], hidden[64];
	int error;

	if (!S_ISREG(n->attr.mode) || n->opens == 0 || n->attr.nlink > 1 ||
	    n->attr.size == 0)
		return 0;
	if ((error = fs_content(fs, n, &content)) != 0)
		return error;
	if (content_keep(content))
		return 0;
	room_nonce(nonce);
	snprintf(hidden, sizeof hidden, ".gentilityfs-open-%s", nonce);
	if ((c->hidden = tree_path(fs->tree, dir, hidden)) == NULL)
		return -ENOMEM;
	c->ops[0].keep = strrchr(c->hidden, '/') + 1;
	c->hides = n->id;
	node_hold(n);
	return 0;
}

int
change_look_at_rest(
    struct change_job *c, struct node *n, struct node *dir, const char *name)
{
	struct dentry *d;

	SLIST_FOREACH (d, &n->names, by_node)
		if (d->parent != dir || strcmp(d->name, name) != 0)
			break;
	if (d == NULL || n->local)
		return 0;
	c->ops[1] = (struct room_change){.op = ROOM_LOOK,
	    .path = tree_path(c->fs->tree, d->parent, d->name),
	    .attr = c->ops[0].attr};
	if (c->ops[1].path == NULL)
		return -ENOMEM;
	c->nops = 2;
	c->left = n->id;
	node_hold(n);
	return 0;
}

/* The tree locked, as below. */
static void
remove_let_go(struct fs *fs, uint64_t held)
{
	struct node *n = tree_get(fs->tree, held);

	if (held == 0 || n == NULL)
		return;
	fs_send_hold(fs, n, false);
	node_release(fs->tree, n);
}

/*
 * What is to be removed is not sent any more, and not anew until it is known
 * whether it goes.  *held: what is held back so far.  False: it is
 * being put in place in the VM just now.
 */
static bool
remove_hold(struct fs *fs, struct node *n, uint64_t *held)
{
	if (*held != n->id) {
		remove_let_go(fs, *held);
		*held = n->id;
		node_hold(n);
		fs_send_hold(fs, n, true);
	}
	return fs_send_cancel(fs, n);
}

static void
remove_entry(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir)
{
	struct fs *fs = fs_of(req);
	struct change_job *c = NULL;
	struct node *n, *dir;
	uint64_t held = 0;
	struct wait w;
	int error;

	fs_wait_begin(req, &w);
again:
	if ((error = change_refuse(fs, name)) != 0 ||
	    (error = fs_find_child(fs, &w, parent, name, &n)) != 0)
		goto out;
	dir = tree_get(fs->tree, parent);
	if (n == NULL)
		error = -ENOENT;
	else if (is_dir && !S_ISDIR(n->attr.mode))
		error = -ENOTDIR;
	else if (!is_dir && S_ISDIR(n->attr.mode))
		error = -EISDIR;
	else if ((error = change_may(fs, dir)) != 0)
		;
	else if (!is_dir && n->local && S_ISREG(n->attr.mode) &&
	    !remove_hold(fs, n, &held)) {
		tree_unlock(fs->tree);
		if ((error = fs_send_await(fs, &w, held)) != 0)
			goto out;
		goto again;
	} else if (!is_dir && n->local && S_ISREG(n->attr.mode) &&
	    content_is_new(n->content)) {
		/* The VM never heard of it. */
		fs_forget_new(fs, n, dir, name);
	} else if ((c = change_new(fs, is_dir ? ROOM_RMDIR : ROOM_UNLINK, dir,
			name)) == NULL)
		error = -errno;
	else
		error = is_dir ? 0 : change_keep_open(c, n, dir);
	if (error == 0 && c != NULL && c->hidden == NULL)
		error = change_look_at_rest(c, n, dir, name);
	tree_unlock(fs->tree);
	if (error == 0 && c != NULL)
		error = change_do(c, &w);
out:
	tree_lock(fs->tree);
	remove_let_go(fs, held);
	tree_unlock(fs->tree);
	fs_wait_end(req, &w);
	fuse_reply_err(req, -error);
	if (c != NULL)
		job_put(&c->job);
}

void
fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_entry(req, parent, name, false);
}

void
fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_entry(req, parent, name, true);
}

int
fs_change_create(struct fs *fs, fuse_req_t req, struct wait *w,
    struct node *dir, const char *name, mode_t mode)
{
	struct change_job *c;
	int error;

	if ((c = change_new(fs, ROOM_CREATE, dir, name)) == NULL) {
		error = -errno;
		tree_unlock(fs->tree);
		return error;
	}
	c->ops[0].mode = mode;
	fs_owner(fs, req, &dir->attr, &c->ops[0].attr);
	tree_unlock(fs->tree);
	error = change_do(c, w);
	job_put(&c->job);
	return error;
}

int
fs_change_attr(struct fs *fs, struct wait *w, struct node *n,
    const struct room_setattr *attr)
{
	struct change_job *c;
	int error = 0;

	if ((c = change_new(fs, ROOM_SETATTR, NULL, NULL)) == NULL)
		error = -ENOMEM;
	else if ((c->ops[0].path = fs_path_of(fs, n)) == NULL)
		error = -errno;
	else {
		c->node = n->id;
		node_hold(n);
		c->ops[0].attr = *attr;
		c->ops[0].mode = n->attr.mode; /* its type */
	}
	tree_unlock(fs->tree);
	if (error == 0)
		error = change_do(c, w);
	if (c != NULL)
		job_put(&c->job);
	return error;
}

void
fs_remove_hidden(struct fs *fs, char *path)
{
	struct change_job *c;

	tree_lock(fs->tree);
	c = change_new(fs, ROOM_UNLINK, NULL, NULL);
	tree_unlock(fs->tree);
	if (c == NULL) {
		free(path);
		return;
	}
	c->ops[0].path = path;
	job_start(&c->job);
	job_put(&c->job);
}
