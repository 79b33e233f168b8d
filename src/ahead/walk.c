#include <stdlib.h>
#include <sys/stat.h>

#include "kernel/fs_impl.h"

/*
 * Who walks a tree asks for one directory after the other.  Then more comes
 * along with each listing: from below the directory, and, as the walk goes on,
 * from beside and above it, within where the walk began.
 */

/* Entries that may come along with a single listing, from below it. */
#define WALK_FIRST ROOM_FEW
/* And while a tree is being walked. */
#define WALK_START 16000
#define WALK_LIMIT 50000
/* So many directories are asked for by name at once, */
#define WALK_DIRS 500
/* and so many names are looked at to find them. */
#define WALK_LOOK 100000
/* An answer that takes longer (ms) brings too much at once. */
#define WALK_SLOW 1500
/* A walk ends with a pause (ms). */
#define WALK_PAUSE 3000
/* So soon (ms) after a directory was read, those in it are read by a program,
 * not by a person. */
#define WALK_SOON 1000

/* What the last walk's listings brought in vain makes the next smaller. */
static void
walk_begin(struct fs *fs, struct node *dir)
{
	struct walk *w = &fs->walk;
	struct node *up = node_parent(dir);

	if (w->limit == 0 || w->used * 2 >= w->sent)
		w->limit = WALK_START;
	else if (w->limit / 4 >= WALK_FIRST)
		w->limit /= 4;
	else
		w->limit = WALK_FIRST;
	if (w->most == 0 || w->most > WALK_LIMIT / 2)
		w->most = WALK_LIMIT;
	else
		w->most *= 2;
	if (w->limit > w->most)
		w->limit = w->most;
	w->sent = w->used = w->listings = w->entries = 0;
	w->asked = 0;
	w->top = up != NULL ? up->id : dir->id;
	w->steps = 0;
}

/* The highest of the directories, from this one upwards, that were read just
 * now, each for the sake of the one below; NULL: none was. */
static struct node *
highest_read(struct node *dir, uint64_t now)
{
	struct node *top = NULL;

	for (; dir != NULL && dir->dir->read != 0 &&
	     now < dir->dir->read + WALK_SOON;
	     dir = node_parent(dir))
		top = dir;
	return top;
}

/* Does it go on, somewhere else?  The same again, or the next part of some
 * path that is looked up, is no step. */
static bool
walk_steps(struct fs *fs, struct node *dir, bool by_name)
{
	struct walk *w = &fs->walk;
	struct node *last = tree_get(fs->tree, w->last);

	if (room_now() > w->at + WALK_PAUSE ||
	    tree_get(fs->tree, w->top) == NULL) {
		walk_begin(fs, dir);
		return false;
	}
	if (last == dir ||
	    (by_name && last != NULL && tree_is_within(fs->tree, dir, last)))
		return false;
	w->steps++;
	return true;
}

static bool
has_known_names(const struct dentry *d)
{
	return S_ISDIR(d->node->attr.mode) && d->node->dir->listed != 0 &&
	    !RB_EMPTY(&d->node->dir->names);
}

struct dentry *
fs_walk_next(struct fs *fs, struct dentry *d, uint64_t top, bool wide)
{
	struct dentry *next;
	struct node *dir;

	if (wide && has_known_names(d))
		return RB_MIN(dentries, &d->node->dir->names);
	for (;;) {
		dir = d->parent;
		next = RB_NEXT(dentries, &dir->dir->names, d);
		if (next != NULL || !wide)
			return next;
		if (dir == tree_root(fs->tree) || dir->id == top ||
		    (d = SLIST_FIRST(&dir->names)) == NULL)
			return NULL;
	}
}

struct dentry *
fs_walk_previous(struct fs *fs, struct dentry *d, uint64_t top, bool wide)
{
	struct node *dir = d->parent;
	struct dentry *before = RB_PREV(dentries, &dir->dir->names, d);

	if (before == NULL) {
		if (!wide || dir == tree_root(fs->tree) || dir->id == top)
			return NULL;
		return SLIST_FIRST(&dir->names);
	}
	while (wide && has_known_names(before))
		before = RB_MAX(dentries, &before->node->dir->names);
	return before;
}

/* The next directories that the walk will come to, as far as they are known
 * and their listings are not. */
static void
walk_gather(struct fs *fs, struct node *dir, struct room_also *also)
{
	struct walk *w = &fs->walk;
	struct dentry *d = SLIST_FIRST(&dir->names);
	size_t looked = 0, each, max;

	each = w->listings == 0 ? 100 : w->entries / w->listings + 1;
	max = w->limit / each + 1 < WALK_DIRS ? w->limit / each + 1 : WALK_DIRS;
	if (d == NULL || (also->paths = calloc(max, sizeof(char *))) == NULL)
		return;
	while (also->count < max && looked++ < WALK_LOOK &&
	    (d = fs_walk_next(fs, d, w->top, true)) != NULL) {
		struct node *n = d->node;

		if (!S_ISDIR(n->attr.mode) || n->attr.dev != dir->attr.dev ||
		    n->dir->closed || n->local ||
		    dir_fresh(fs->tree, n->dir, UINT64_MAX))
			continue;
		also->paths[also->count] = tree_path(fs->tree, n, NULL);
		if (also->paths[also->count] == NULL)
			break;
		also->count++;
	}
}

unsigned
fs_walk_plan(
    struct fs *fs, struct node *dir, bool by_name, struct room_also *also)
{
	struct walk *w = &fs->walk;
	bool steps = walk_steps(fs, dir, by_name);
	uint64_t now = room_now();
	struct node *top = tree_get(fs->tree, w->top), *up = dir, *read = NULL;
	unsigned bound, i;

	*also = (struct room_also){0};
	w->last = dir->id;
	w->at = now;
	if (!by_name && (read = highest_read(node_parent(dir), now)) != NULL) {
		if (w->steps == 0) {
			w->steps = 1;
			top = read;
		}
		steps = true;
	}
	if (!steps)
		return dir->dir->listed == 0 ? WALK_FIRST : 0;
	if (!tree_is_within(fs->tree, dir, top))
		top = tree_common_dir(fs->tree, top, dir);
	w->top = top->id;
	for (i = 0; up != top && (i < w->steps || read != NULL); i++) {
		up = node_parent(up);
		if (up == read)
			read = NULL;
	}
	bound = w->limit;
	if (up->id == w->asked) {
		/* Not all of it came: what is next, by name. */
		walk_gather(fs, dir, also);
	} else if (up != dir) {
		also->top = tree_path(fs->tree, up, NULL);
		also->bound = bound;
	}
	w->asked = up->id;
	w->limit = bound * 4 < w->most ? bound * 4 : w->most;
	return bound;
}

void
fs_walk_note_delay(struct fs *fs, uint64_t ms)
{
	struct walk *w = &fs->walk;

	tree_lock(fs->tree);
	if (ms > WALK_SLOW && w->limit > WALK_FIRST) {
		w->most = w->limit / 2 > WALK_FIRST ? w->limit / 2 : WALK_FIRST;
		w->limit = w->most;
	}
	tree_unlock(fs->tree);
}

void
fs_walk_free(struct room_also *also)
{
	size_t i;

	for (i = 0; i < also->count; i++)
		free(also->paths[i]);
	free(also->paths);
	free(also->top);
}

bool
fs_walk_goes_on(struct fs *fs)
{
	return fs->walk.steps >= 1 && room_now() < fs->walk.at + WALK_PAUSE;
}

void
fs_walk_note_sent(struct fs *fs, const char *path, size_t entries)
{
	struct node *dir;

	tree_lock(fs->tree);
	dir = tree_find(fs->tree, path);
	fs->walk.listings++;
	fs->walk.entries += entries;
	if (dir != NULL && S_ISDIR(dir->attr.mode) && dir->dir->used == 0)
		fs->walk.sent++;
	tree_unlock(fs->tree);
}

void
fs_walk_note_use(struct fs *fs, struct node *dir)
{
	/* While what came is being read, the walk goes on. */
	if (dir->dir->used == 0 && dir->dir->listed != 0) {
		fs->walk.used++;
		if (fs_walk_goes_on(fs))
			fs->walk.at = room_now();
	}
	tree_use_dir(fs->tree, dir);
}
