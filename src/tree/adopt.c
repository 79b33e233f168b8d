#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tree/node_impl.h"
#include "kernel/notify.h"
#include "room/room.h"

/* How the tree takes in what the VM says: listings, single attributes, a new
 * VM.  Every difference to what was known is told to the kernel. */

/*
 * A file that the kernel knows has other bytes: as the same node, or the name
 * has gone over to another.  A command of ours makes one change; others may go
 * on, and do for sure when it is not the first of late.
 */
static void
bytes_moved(struct tree *t, const struct node *was, struct node *n)
{
	bool again = node_has_moved(was);

	if (!tree_known(t, was->checked) || (was->nlookup == 0 && !again))
		return;
	n->moved_once = n != was && !again;
	n->moved = room_now();
}

void
tree_adopt_attr(
    struct tree *t, struct node *n, const struct attr *a, uint64_t checked)
{
	struct validator old = attr_validator(&n->attr);
	struct validator now = attr_validator(a);
	bool other = !validator_equal(&old, &now);

	if (checked < n->checked)
		return;
	if (n->local) {
		/* Ours counts until it is sent. */
		if (t->on_rebase != NULL)
			t->on_rebase(t->on_rebase_arg, n, a);
		n->attr.nlink = a->nlink;
		n->checked = checked;
		return;
	}
	if (n->linked &&
	    (old.ino != now.ino || old.dev != now.dev || a->nlink < 2))
		node_unlink_index(t, n);
	n->attr = *a;
	node_index(t, n);
	if (other && n->checked != 0 && n->nlookup > 0) {
		if (old.size != now.size || old.mtime != now.mtime)
			bytes_moved(t, n, n);
		if (t->notify != NULL)
			notify_inode(t->notify, n->id);
	}
	n->checked = checked;
}

/*
 * Does the node stand for what the VM has by this name now?  A regular file
 * that is another one, or has other bytes and is not open, gets a new node:
 * who reads the old one goes on with that, as on every file system, and the
 * kernel mixes neither lengths nor pages of two versions.
 */
static bool
node_matches(struct tree *t, struct node *n, const struct entry *e)
{
	struct node *shared;

	if ((n->attr.mode ^ e->attr.mode) & S_IFMT)
		return false;
	if (S_ISLNK(e->attr.mode) &&
	    strcmp(n->target, e->target ? e->target : "") != 0)
		return false;
	if (n->local)
		return true;
	shared = tree_find_linked(t, &e->attr);
	if (shared != NULL)
		return shared == n;
	if (!S_ISREG(e->attr.mode))
		return true;
	/* An open file that was found elsewhere is taken to here. */
	if (follow_find(t, &e->attr) != NULL && follow_find(t, &e->attr) != n)
		return false;
	if (n->attr.ino != e->attr.ino || n->attr.dev != e->attr.dev)
		/* What is written is meant for this name, if it is not known
		 * to be elsewhere. */
		return !n->linked && n->writers > 0 && !n->moving;
	return n->opens > 0 || n->linked || n->nlookup == 0 ||
	    (n->attr.size == e->attr.size && n->attr.mtime == e->attr.mtime);
}

struct node *
tree_adopt_entry(struct tree *t, struct node *dir, const struct entry *e,
    uint64_t epoch, uint64_t checked)
{
	struct dentry *d = tree_lookup(dir, e->name);
	struct node *n, *was = NULL;

	if (d != NULL &&
	    (checked < d->node->checked || node_matches(t, d->node, e))) {
		tree_adopt_attr(t, d->node, &e->attr, checked);
		return d->node;
	}
	if (d != NULL) {
		was = d->node;
		was->replaced = !was->moving;
		node_hold(was);
		tree_break_word(t, d);
		tree_remove(t, d);
		if (SLIST_EMPTY(&was->names) && was->opens > 1)
			follow_lose(t, was);
		if (was->nlookup > 0 && t->notify != NULL)
			notify_entry(t->notify, dir->id, e->name);
	}
	if ((n = tree_find_linked(t, &e->attr)) == NULL &&
	    (n = follow_find(t, &e->attr)) != NULL &&
	    follow_take(n, &e->attr) != 0)
		n = NULL;
	if (n == NULL) {
		if ((n = node_new(t, &e->attr, e->target)) == NULL)
			goto out;
		n->checked = checked;
		node_index(t, n);
		if (was != NULL && S_ISREG(was->attr.mode) &&
		    S_ISREG(e->attr.mode))
			bytes_moved(t, was, n);
	} else if (n->changed > epoch) {
		node_confirm(n, &e->attr, checked);
	} else {
		tree_adopt_attr(t, n, &e->attr, checked);
	}
	if (dentry_new(n, dir, e->name) == NULL) {
		node_drop(t, n);
		n = NULL;
	}
out:
	if (was != NULL)
		node_release(t, was);
	return n;
}

/* A name that the VM no longer has. */
static void
tree_vanish(struct tree *t, struct dentry *d)
{
	tree_break_word(t, d);
	if (d->node->nlookup > 0 && t->notify != NULL) {
		if (d->node->moving) /* it is not gone */
			notify_entry(t->notify, d->parent->id, d->name);
		else
			notify_deleted(
			    t->notify, d->parent->id, d->node->id, d->name);
	}
	follow_lose(t, d->node);
	tree_remove(t, d);
}

/* An answer has not got it.  Is it gone, or did we make it meanwhile? */
static bool
has_vanished(const struct node *n, uint64_t epoch, uint64_t checked)
{
	return !n->local && n->changed <= epoch && n->checked <= checked;
}

/*
 * Names between these two are not in the listing: they are gone, which differs
 * from what was known, or it is not sure that they are.
 */
static void
vanish_between(struct tree *t, struct dentry *d, const struct dentry *end,
    uint64_t epoch, uint64_t checked, bool *differs, bool *unsure)
{
	struct dentry *next;

	for (; d != end; d = next) {
		next = RB_NEXT(dentries, &d->parent->dir->names, d);
		if (has_vanished(d->node, epoch, checked)) {
			*differs = true;
			tree_vanish(t, d);
		} else if (!d->node->local) {
			*unsure = true;
			/* A command may have removed it. */
			if (d->node->checked < t->distrusted &&
			    d->node->nlookup > 0 && t->notify != NULL)
				notify_entry(t->notify, d->parent->id, d->name);
		}
	}
}

void
tree_adopt_listing(
    struct tree *t, const struct listing *l, uint64_t epoch, uint64_t checked)
{
	struct dentry *d, *next;
	const struct entry *e;
	struct node *dir;
	struct control_name control;
	bool known, differs = false, unsure = false;
	size_t i;

	tree_lock(t);
	if ((dir = tree_find(t, l->path)) == NULL || !S_ISDIR(dir->attr.mode) ||
	    !S_ISDIR(l->self.mode))
		goto out;
	if (dir->changed <= epoch)
		tree_adopt_attr(t, dir, &l->self, checked);
	else
		node_confirm(dir, &l->self, checked);
	if (!l->complete || !dir_may_adopt(t, dir->dir, epoch) ||
	    dir->dir->listed > checked)
		goto out;
	known = dir->dir->listed != 0;
	follow_begin(t, dir, l, epoch, checked);
	d = RB_MIN(dentries, &dir->dir->names);
	for (i = 0; i < l->count; i++) {
		e = &l->entries[i];
		if (control_name_parse(t->hidden, e->name, &control) ||
		    name_is_ours(e->name))
			continue;
		if (dir_has_lost(t, dir->dir, e->name, epoch)) {
			unsure = true;
			continue;
		}
		for (next = d; next != NULL && strcmp(next->name, e->name) < 0;)
			next = RB_NEXT(dentries, &dir->dir->names, next);
		vanish_between(t, d, next, epoch, checked, &differs, &unsure);
		d = next;
		if (d != NULL && strcmp(d->name, e->name) == 0) {
			next = RB_NEXT(dentries, &dir->dir->names, d);
			if (d->node->changed > epoch) {
				node_confirm(d->node, &e->attr, checked);
				unsure = unsure || d->node->checked < checked;
				d = next;
				continue;
			}
			d = next;
		} else if (known) {
			/* The kernel may remember that it isn't there. */
			differs = true;
			if (dir->nlookup > 0 && t->notify != NULL)
				notify_entry(t->notify, dir->id, e->name);
		}
		if (tree_adopt_entry(t, dir, e, epoch, checked) == NULL)
			goto out; /* no memory: not complete, ask again */
	}
	vanish_between(t, d, NULL, epoch, checked, &differs, &unsure);
	dir->dir->listed = checked;
	if (unsure)
		tree_doubt_dir(dir);
	dir->dir->closed = false;
	if (differs || !known)
		dir->dir->version++;
	/* What others do there has its own time. */
	if (known && differs)
		node_show_vm(dir);
	/* Drops the kernel's copy of the listing, too. */
	if (known && differs && dir->nlookup > 0 && t->notify != NULL)
		notify_inode(t->notify, dir->id);
out:
	follow_end(t);
	tree_unlock(t);
}

void
tree_adopt_stat(struct tree *t, const char *path, int error,
    const struct entry *e, uint64_t epoch, uint64_t checked)
{
	const char *slash = strrchr(path, '/');
	struct node *n, *dir = NULL;
	struct dentry *d;
	struct entry named;
	char *up = NULL;

	tree_lock(t);
	n = tree_find(t, path);
	if (n == t->root) {
		if (e != NULL && S_ISDIR(e->attr.mode))
			tree_adopt_attr(t, n, &e->attr, checked);
		goto out;
	}
	if (slash == NULL ||
	    (up = strndup(path, slash == path ? 1 : slash - path)) == NULL ||
	    (dir = tree_find(t, up)) == NULL || !S_ISDIR(dir->attr.mode))
		goto out;
	if (!dir_may_adopt(t, dir->dir, epoch) ||
	    dir_has_lost(t, dir->dir, slash + 1, epoch))
		goto out;
	if (n != NULL && n->changed > epoch) {
		if (e != NULL)
			node_confirm(n, &e->attr, checked);
		goto out;
	}
	d = tree_lookup(dir, slash + 1);
	if (e != NULL) {
		named = *e;
		named.name = (char *)slash + 1;
		tree_adopt_entry(t, dir, &named, epoch, checked);
	} else if (error == -ENOTDIR) {
		/* What was a directory is something else: ask what. */
		if (d != NULL && S_ISDIR(d->node->attr.mode)) {
			tree_vanish(t, d);
			dir->dir->listed = 0;
		}
	} else if (d != NULL && error == -ENOENT &&
	    has_vanished(d->node, epoch, checked)) {
		tree_vanish(t, d);
	}
out:
	free(up);
	tree_unlock(t);
}

void
tree_replace(struct tree *t)
{
	struct dentry *d;
	struct node *n;
	size_t i;

	tree_lock(t);
	t->epoch++;
	for (i = 0; i < t->nids; i++)
		for (n = t->ids[i]; n != NULL; n = n->by_id) {
			n->stale = n != t->root && !n->control;
			/* Open files: no page of the old VM is to be read. */
			if (n->stale && n->nlookup > 0 && t->notify != NULL)
				notify_inode(t->notify, n->id);
		}
	t->root->changed = t->root->dir->changed = t->epoch;
	while ((d = RB_MIN(dentries, &t->root->dir->names)) != NULL)
		tree_vanish(t, d);
	t->root->dir->listed = 0;
	t->root->dir->version++;
	t->root->checked = 0;
	if (t->notify != NULL)
		notify_inode(t->notify, t->root->id);
	tree_unlock(t);
}

size_t
tree_local_nodes(struct tree *t, bool stale, uint64_t *ids, size_t max)
{
	struct node *n;
	size_t i, count = 0;

	tree_lock(t);
	for (i = 0; i < t->nids && count < max; i++)
		for (n = t->ids[i]; n != NULL && count < max; n = n->by_id)
			if (n->local && (!stale || n->stale))
				ids[count++] = n->id;
	tree_unlock(t);
	return count;
}
