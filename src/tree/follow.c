#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/notify.h"
#include "tree/node_impl.h"

/*
 * An open file is followed by what it is, not by its name: where a listing
 * shows a file that is open under another name, by its device and inode, it is
 * that one (a log that was rotated).  But a number is given to another file
 * once the one that had it is gone.  So the file must either be just as it was,
 * or may have grown; then it counts only when its first bytes are those that
 * are known, which the one who wants them has to compare (node->guess).
 */

static int
node_compare(const void *a, const void *b)
{
	const struct attr *x = &(*(struct node *const *)a)->attr;
	const struct attr *y = &(*(struct node *const *)b)->attr;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->dev < y->dev ? -1 : x->dev > y->dev;
}

static bool
may_follow(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->opens > 0 && n->attr.nlink < 2 &&
	    !n->control && !n->stale && !n->local;
}

/* Is it just as it was? */
static bool
is_unchanged(const struct node *n, const struct attr *now)
{
	const struct attr *was = n->guess != NULL ? n->guess : &n->attr;

	return now->size == was->size && now->mtime == was->mtime;
}

static bool
may_be_same(const struct node *n, const struct attr *now)
{
	return is_unchanged(n, now) ||
	    (n->writers == 0 && n->attr.size > 0 && now->size >= n->attr.size &&
		now->mtime >= n->attr.mtime);
}

static struct node *
find_number(struct tree *t, const struct attr *a)
{
	struct node key = {.attr = {.ino = a->ino, .dev = a->dev}}, *p = &key;
	struct node **found;

	if (t->nopen == 0 || !S_ISREG(a->mode) || a->nlink > 1)
		return NULL;
	found = bsearch(&p, t->open, t->nopen, sizeof *t->open, node_compare);
	return found == NULL ? NULL : *found;
}

void
follow_lose(struct tree *t, const struct node *n)
{
	if (may_follow(n))
		t->adrift[t->nadrift++ % TREE_ADRIFT] = n->id;
}

/* Note the files that this listing of a directory may show elsewhere. */
static void
collect_open(struct tree *t, struct node *dir)
{
	struct dentry *d;
	struct node *n;
	size_t i, max = TREE_ADRIFT;

	RB_FOREACH (d, dentries, &dir->dir->names)
		max += may_follow(d->node);
	if ((t->open = calloc(max, sizeof *t->open)) == NULL)
		return;
	for (i = 0; i < TREE_ADRIFT && i < t->nadrift; i++)
		if ((n = tree_get(t, t->adrift[i])) != NULL && may_follow(n) &&
		    SLIST_EMPTY(&n->names))
			t->open[t->nopen++] = n;
	RB_FOREACH (d, dentries, &dir->dir->names)
		if (may_follow(d->node))
			t->open[t->nopen++] = d->node;
	qsort(t->open, t->nopen, sizeof *t->open, node_compare);
}

void
follow_begin(struct tree *t, struct node *dir, const struct listing *l,
    uint64_t epoch, uint64_t checked)
{
	const struct entry *e;
	struct dentry *d;
	struct node *n;
	size_t i;

	collect_open(t, dir);
	for (i = 0; i < l->count && t->nopen > 0; i++) {
		e = &l->entries[i];
		if ((n = find_number(t, &e->attr)) == NULL ||
		    !may_be_same(n, &e->attr) || n->changed > epoch ||
		    n->checked > checked || name_is_ours(e->name) ||
		    (t->hidden != NULL && strcmp(e->name, t->hidden) == 0))
			continue;
		d = tree_lookup(dir, e->name);
		n->moving = d == NULL ||
		    (d->node != n && d->node->opens == 0 && !d->node->local);
	}
}

void
follow_end(struct tree *t)
{
	size_t i;

	for (i = 0; i < t->nopen; i++)
		t->open[i]->moving = false;
	free(t->open);
	t->open = NULL;
	t->nopen = 0;
}

struct node *
follow_find(struct tree *t, const struct attr *a)
{
	struct node *n = find_number(t, a);

	return n != NULL && n->moving ? n : NULL;
}

int
follow_take(struct node *n, const struct attr *now)
{
	n->replaced = false;
	if (n->guess != NULL)
		return 0;
	if (is_unchanged(n, now))
		return 0;
	if ((n->guess = malloc(sizeof *n->guess)) == NULL)
		return -1;
	*n->guess = n->attr;
	return 0;
}

void
node_confirm_guess(
    struct tree *t, struct node *n, const struct attr *guess, bool same)
{
	struct validator then = attr_validator(guess), now;
	struct dentry *d;

	if (n->guess == NULL)
		return;
	now = attr_validator(n->guess);
	if (!validator_equal(&then, &now))
		return; /* a later one */
	if (!same) {
		/* It is gone, as it was when it was last seen. */
		n->attr = *n->guess;
		n->replaced = true;
		node_hold(n);
		while ((d = SLIST_FIRST(&n->names)) != NULL) {
			tree_doubt_dir(d->parent);
			if (t->notify != NULL)
				notify_entry(t->notify, d->parent->id, d->name);
			tree_remove(t, d);
		}
	}
	free(n->guess);
	n->guess = NULL;
	if (!same)
		node_release(t, n);
}
