#include <stdlib.h>
#include <sys/stat.h>

#include "tree/node_impl.h"
#include "kernel/notify.h"
#include "room/room.h"

/* Directories in the order of their use: what is checked anew together, and
 * what is forgotten first. */

/* What was used so lately (ms) is not forgotten: it is being read. */
#define USE_KEEP 2000

void
tree_use_dir(struct tree *t, struct node *dir)
{
	dir->dir->used = room_now();
	if (TAILQ_FIRST(&t->dirs) != dir->dir) {
		TAILQ_REMOVE(&t->dirs, dir->dir, by_use);
		TAILQ_INSERT_HEAD(&t->dirs, dir->dir, by_use);
	}
}

size_t
tree_stale_dirs(
    struct tree *t, uint64_t used, uint64_t listed, char **paths, size_t max)
{
	struct dir *dir;
	size_t made = 0;

	tree_lock(t);
	TAILQ_FOREACH (dir, &t->dirs, by_use) {
		if (dir->used == 0 || dir->used < used || made == max)
			break;
		if (dir->listed == 0 || dir->listed < listed ||
		    dir_fresh(t, dir, UINT64_MAX))
			continue;
		if ((paths[made] = tree_path(t, dir->node, NULL)) != NULL)
			made++;
	}
	tree_unlock(t);
	return made;
}

/* Could the VM bring it back as it is, and does nobody hold it? */
static bool
node_may_go(struct node *n)
{
	struct dentry *d;

	if (n->opens > 0 || n->local || n->stale || node_is_shown(n))
		return false;
	if (S_ISREG(n->attr.mode) && n->content != NULL)
		return false;
	if (!S_ISDIR(n->attr.mode))
		return true;
	/* The kernel may have something below it, or be at work there. */
	if (n->nlookup > 0 || !SLIST_EMPTY(&n->dir->controls))
		return false;
	RB_FOREACH (d, dentries, &n->dir->names)
		return false;
	return true;
}

/* Forget what is known of a directory's names. */
static void
dir_forget(struct tree *t, struct dir *dir)
{
	struct dentry *d, *next;
	bool all = true;

	for (d = RB_MIN(dentries, &dir->names); d != NULL; d = next) {
		next = RB_NEXT(dentries, &dir->names, d);
		if (!node_may_go(d->node)) {
			all = false;
			continue;
		}
		/* The kernel drops it, and asks again when it is wanted. */
		if (d->node->nlookup > 0 && t->notify != NULL)
			notify_entry(t->notify, dir->node->id, d->name);
		tree_remove(t, d);
		dir->listed = 0;
		/* An answer to what was asked before lacks what we did since,
		 * and that is forgotten now. */
		dir->changed = t->epoch;
	}
	if (all)
		dir->used = dir->read = 0;
}

static uint64_t
dir_age(const struct dir *d)
{
	return d->used > d->listed ? d->used : d->listed;
}

static int
dir_compare_age(const void *a, const void *b)
{
	uint64_t x = dir_age(*(struct dir *const *)a);
	uint64_t y = dir_age(*(struct dir *const *)b);

	return x < y ? -1 : x > y;
}

void
tree_shrink(struct tree *t, size_t max)
{
	uint64_t now = room_now();
	struct dir **old = NULL, *dir;
	size_t n = 0, i;

	tree_lock(t);
	if (t->count <= max)
		goto out;
	TAILQ_FOREACH (dir, &t->dirs, by_use)
		n++;
	if ((old = calloc(n + 1, sizeof *old)) == NULL)
		goto out;
	n = 0;
	TAILQ_FOREACH (dir, &t->dirs, by_use)
		if (dir->listed != 0 && dir->node->opens == 0 &&
		    dir_age(dir) + USE_KEEP < now) {
			/* None is freed before its turn comes. */
			node_hold(dir->node);
			old[n++] = dir;
		}
	qsort(old, n, sizeof *old, dir_compare_age);
	/* Some more, or it would be looked for with each listing. */
	for (i = 0; i < n; i++) {
		node_release(t, old[i]->node);
		if (t->count > max - max / 8)
			dir_forget(t, old[i]);
	}
out:
	free(old);
	tree_unlock(t);
}
