#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "content/content.h"
#include "kernel/change.h"
#include "kernel/made.h"

/* What a change has done in the VM, as its answer tells, in the tree. */

/*
 * Names and modes may change; then the contents are what they were.  If they
 * are not, somebody else has changed them; or we have set the size or the time:
 * then they are what we know only if we wrote them.
 */
static void
change_adopt_attr(struct fs *fs, struct node *n, const struct room_change *op,
    const struct room_changed *now)
{
	struct validator old = attr_validator(&n->attr), same = old;
	struct validator v = attr_validator(&now->self);
	bool ours = n->changed != 0 && op->op == ROOM_SETATTR &&
	    (op->attr.set_size || op->attr.mtime != ROOM_TIME_KEEP);
	bool kept;

	same.ctime = v.ctime;
	kept = validator_equal(&same, &v);
	/* Its time is a part of what it is known by. */
	if (S_ISLNK(n->attr.mode) && S_ISLNK(now->self.mode) &&
	    old.ino == v.ino && old.dev == v.dev && old.mtime != v.mtime &&
	    made_has(fs->made, &n->attr, n->target))
		made_add(fs->made, &now->self, n->target);
	if (S_ISREG(n->attr.mode) && kept)
		store_rename(fs->store, &old, &v);
	tree_adopt_own(fs->tree, n, &now->self, now->checked);
	if (S_ISREG(n->attr.mode) && !kept && !ours) {
		n->pages = 0;
		notify_inode(fs->notify, n->id);
	}
}

/* The directory as the VM has it after our change. */
static void
change_adopt_dir(struct fs *fs, uint64_t id, bool has, const struct attr *a,
    uint64_t checked)
{
	struct node *dir;

	if (id == 0 || (dir = tree_get(fs->tree, id)) == NULL)
		return;
	tree_touch_dir(fs->tree, dir);
	if (has && S_ISDIR(a->mode))
		tree_adopt_own(fs->tree, dir, a, checked);
}

/* A file that is open loses its name: it is read from where it went. */
static void
change_hide(struct change_job *c)
{
	const struct room_changed *now = &c->now[0];
	struct validator old, v;
	struct node *n;

	if (c->hidden == NULL ||
	    (n = tree_get(c->fs->tree, c->hides)) == NULL || n->content == NULL)
		return;
	content_set_hidden(n->content, c->hidden);
	c->hidden = NULL;
	/* Only the name has changed, but with it the file's ctime. */
	old = attr_validator(&n->attr);
	v = attr_validator(&now->kept);
	old.ctime = v.ctime;
	if (!now->has_kept || !validator_equal(&old, &v))
		return;
	old.ctime = n->attr.ctime;
	store_rename(c->fs->store, &old, &v);
	content_set_base(n->content, &now->kept);
	n->attr.ctime = v.ctime;
}

/* A name of it went, at the time that its directory shows. */
static void
change_lose(struct node *n, const struct attr *dir)
{
	if (n->attr.nlink > 0)
		n->attr.nlink--;
	if (dir != NULL)
		n->attr.ctime = dir->ctime;
}

static void
change_new_entry(struct change_job *c, struct node *dir,
    const struct room_change *op, const struct room_changed *now)
{
	struct entry e = {.name = c->name, .attr = now->self};
	struct node *n;

	if (op->op == ROOM_SYMLINK)
		e.target = (char *)op->to;
	if (c->made)
		made_add(c->fs->made, &now->self, op->to);
	n = tree_adopt_entry(c->fs->tree, dir, &e, UINT64_MAX, now->checked);
	if (n == NULL) {
		tree_doubt_dir(dir);
		return;
	}
	if (!n->local && n->attr.ino == now->self.ino)
		tree_adopt_own(c->fs->tree, n, &now->self, now->checked);
	n->changed = tree_epoch(c->fs->tree);
	if (!S_ISDIR(n->attr.mode))
		return;
	/* It is empty, whatever there was by this name before. */
	n->dir->changed = n->changed;
	if (n->dir->count == 0)
		n->dir->listed = now->checked;
}

/* A file that lost one of its names, by another. */
static void
change_adopt_rest(struct change_job *c)
{
	const struct room_changed *now = &c->now[1];
	struct node *n;

	if (c->left != 0 && (n = tree_get(c->fs->tree, c->left)) != NULL &&
	    !n->local && now->has_self && now->self.ino == n->attr.ino &&
	    now->self.dev == n->attr.dev &&
	    ((now->self.mode ^ n->attr.mode) & S_IFMT) == 0)
		change_adopt_attr(c->fs, n, &c->ops[1], now);
}

/*
 * The node goes with its name.  When a listing came before our answer, it has
 * lost the old name by now, and another node has the new one.
 */
static void
change_adopt_rename(
    struct change_job *c, struct node *dir, const struct room_changed *now)
{
	struct tree *t = c->fs->tree;
	struct node *to_dir = tree_get(t, c->to_dir), *n = tree_get(t, c->node);
	struct dentry *d = tree_lookup(dir, c->name);
	struct dentry *to = tree_lookup(to_dir, c->to_name);
	int error = -ENOENT;

	if (to != NULL && to->node != n)
		change_lose(
		    to->node, now->has_to_parent ? &now->to_parent : NULL);
	if (d != NULL && d->node == n)
		error = tree_rename(t, d, to_dir, c->to_name);
	else if (now->has_self && n->attr.ino == now->self.ino &&
	    n->attr.dev == now->self.dev && !n->stale)
		error = tree_link(t, n, to_dir, c->to_name);
	if (c->dir != c->to_dir || strcmp(c->name, c->to_name) != 0)
		tree_lose_name(t, dir, c->name);
	if (error != 0) {
		tree_doubt_dir(to_dir);
		tree_doubt_dir(dir);
		return;
	}
	if (now->has_self && !n->local)
		change_adopt_attr(c->fs, n, &c->ops[0], now);
	/* Whatever an answer that is under way has by this name is another. */
	n->changed = tree_epoch(t);
	if (S_ISDIR(n->attr.mode))
		tree_move_dir(t, n);
}

void
change_adopt(struct change_job *c)
{
	const struct room_change *op = &c->ops[0];
	const struct room_changed *now = &c->now[0];
	struct tree *t = c->fs->tree;
	struct node *dir = tree_get(t, c->dir), *n;
	struct dentry *d;

	change_adopt_dir(
	    c->fs, c->dir, now->has_parent, &now->parent, now->checked);
	if (c->to_dir != c->dir)
		change_adopt_dir(c->fs, c->to_dir, now->has_to_parent,
		    &now->to_parent, now->checked);
	switch (op->op) {
	case ROOM_MKDIR:
	case ROOM_SYMLINK:
	case ROOM_MKNOD:
	case ROOM_CREATE:
		if (now->has_self)
			change_new_entry(c, dir, op, now);
		else
			tree_doubt_dir(dir);
		break;
	case ROOM_RMDIR:
	case ROOM_UNLINK:
		change_hide(c);
		/* A hidden name was never in the tree. */
		if (dir == NULL)
			break;
		tree_lose_name(t, dir, c->name);
		if ((d = tree_lookup(dir, c->name)) == NULL)
			break;
		change_lose(d->node, now->has_parent ? &now->parent : NULL);
		tree_remove(t, d);
		break;
	case ROOM_RENAME:
		change_hide(c);
		change_adopt_rename(c, dir, now);
		break;
	case ROOM_LINK:
		n = tree_get(t, c->node);
		if (!now->has_self || tree_link(t, n, dir, c->name) != 0)
			tree_doubt_dir(dir);
		else
			change_adopt_attr(c->fs, n, op, now);
		break;
	case ROOM_SETATTR:
		if (now->has_self && (n = tree_get(t, c->node)) != NULL &&
		    !n->local)
			change_adopt_attr(c->fs, n, op, now);
		break;
	case ROOM_COPY:
		if (now->has_self && (n = tree_get(t, c->node)) != NULL &&
		    !n->local) {
			node_change_here(n);
			tree_adopt_own(t, n, &now->self, now->checked);
		}
		break;
	case ROOM_LOOK:
		break;
	}
	change_adopt_rest(c);
}

void
change_doubt(struct change_job *c)
{
	const uint64_t ids[] = {c->dir, c->to_dir, c->node};
	struct node *n;
	size_t i;

	for (i = 0; i < 3; i++) {
		if (ids[i] == 0 || (n = tree_get(c->fs->tree, ids[i])) == NULL)
			continue;
		n->checked = 0;
		if (S_ISDIR(n->attr.mode))
			tree_doubt_dir(n);
	}
}
