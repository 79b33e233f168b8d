#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tree/node_impl.h"
#include "room/room.h"

/*
 * Changes of our own, and answers to what was asked before them.  Such an
 * answer may show what was there before the change, or after it; so of what we
 * changed it counts for nothing, and of all else it is as good as any.  (To
 * drop it whole would have whoever looks ask again and again while others work
 * in the directory.)
 */

void
tree_adopt_own(
    struct tree *t, struct node *n, const struct attr *a, uint64_t checked)
{
	n->changed = t->epoch;
	if ((a->mode ^ n->attr.mode) & S_IFMT) {
		/* It is something else by now: ask what. */
		n->checked = 0;
		if (node_parent(n) != NULL)
			tree_doubt_dir(node_parent(n));
		return;
	}
	/* Two changes of one thing may be answered in the other order. */
	if (!n->local && a->ino == n->attr.ino && a->dev == n->attr.dev &&
	    a->ctime < n->attr.ctime)
		return;
	node_unlink_index(t, n);
	n->attr = *a;
	node_index(t, n);
	n->checked = checked;
	/* The pages are what was written. */
	if (S_ISREG(a->mode))
		n->pages = node_version(n);
}

void
tree_touch_dir(struct tree *t, struct node *dir)
{
	dir->changed = tree_next_epoch(t);
	dir->dir->version++;
}

void
tree_doubt_dir(struct node *dir)
{
	dir->dir->doubted = room_now();
}

uint64_t
dir_trusted(const struct dir *dir)
{
	return dir->listed > dir->doubted ? dir->listed : 0;
}

bool
dir_fresh(struct tree *t, const struct dir *dir, uint64_t since)
{
	return (dir->listed != 0 && dir->listed >= since) ||
	    tree_fresh(t, dir_trusted(dir), since);
}

void
tree_lose_name(struct tree *t, struct node *dir, const char *name)
{
	struct lost *l = &t->lost[t->nlost++ % TREE_LOST];

	if (l->name != NULL)
		t->forgot = l->epoch;
	free(l->name);
	l->dir = dir->id;
	l->epoch = dir->dir->lost = tree_next_epoch(t);
	if ((l->name = strdup(name)) == NULL)
		t->forgot = l->epoch;
}

void
tree_move_dir(struct tree *t, struct node *dir)
{
	struct dentry *d;

	dir->dir->changed = t->epoch;
	RB_FOREACH (d, dentries, &dir->dir->names)
		if (S_ISDIR(d->node->attr.mode))
			tree_move_dir(t, d->node);
}

bool
dir_may_adopt(const struct tree *t, const struct dir *dir, uint64_t epoch)
{
	return dir->changed <= epoch &&
	    (dir->lost <= epoch || t->forgot <= epoch);
}

bool
dir_has_lost(const struct tree *t, const struct dir *dir, const char *name,
    uint64_t epoch)
{
	const struct lost *l;
	size_t i;

	if (dir->lost <= epoch)
		return false;
	for (i = 0; i < TREE_LOST && i < t->nlost; i++) {
		l = &t->lost[i];
		if (l->epoch > epoch && l->dir == dir->node->id &&
		    l->name != NULL && strcmp(l->name, name) == 0)
			return true;
	}
	return false;
}

void
node_confirm(struct node *n, const struct attr *a, uint64_t checked)
{
	/* Older than ours, or ours: there was nothing newer by then. */
	if (a->ino == n->attr.ino && a->dev == n->attr.dev &&
	    a->ctime <= n->attr.ctime && n->checked < checked)
		n->checked = checked;
}

void
tree_free_lost(struct tree *t)
{
	size_t i;

	for (i = 0; i < TREE_LOST; i++)
		free(t->lost[i].name);
}

void
tree_vouch(struct node *dir)
{
	dir->dir->vouched = room_now();
}

void
tree_break_word(struct tree *t, const struct dentry *d)
{
	uint64_t now = room_now();
	struct broken *b;

	if (!S_ISDIR(d->node->attr.mode) || d->node->dir->vouched == 0 ||
	    d->node->dir->vouched + TREE_BROKEN_MS < now)
		return;
	b = &t->broken[t->nbroken++ % TREE_BROKEN];
	b->dir = d->parent->id;
	b->at = now;
	strlcpy(b->name, d->name, sizeof b->name);
}

bool
tree_is_broken_word(struct tree *t, const struct node *link)
{
	uint64_t now = room_now();
	const struct broken *b;
	struct dentry *d;
	size_t i;

	for (i = 0; i < TREE_BROKEN && i < t->nbroken; i++) {
		b = &t->broken[i];
		if (b->at + TREE_BROKEN_MS < now)
			continue;
		SLIST_FOREACH (d, &link->names, by_node)
			if (d->parent->id == b->dir &&
			    strcmp(d->name, b->name) == 0)
				return true;
	}
	return false;
}
