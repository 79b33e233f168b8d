#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/fs_impl.h"
#include "base/log.h"

/*
 * Small files that are opened one after another (grep -r, a compiler, git
 * status): what will be next in the tree's order is fetched by one command
 * before it is asked for.  Each fetch that was used makes the next one larger,
 * one that was not makes it small again.
 */
#define BULK_FILE  ((uint64_t)256 * 1024) /* no larger file is taken along */
#define BULK_FILES 1000
/* What a file counts besides its bytes, as work for the VM and the cache. */
#define BULK_EACH  4096
#define BULK_JOBS  3 /* under way at once */
#define BULK_PAUSE 3000 /* ms: then it is no longer one after another */

static const struct {
	size_t files;
	uint64_t bytes;
} bulk_steps[] = {{32, 256 * 1024}, {128, 1024 * 1024}, {500, 3072 * 1024},
    {BULK_FILES, 6144 * 1024}};
#define BULK_LEVELS (sizeof bulk_steps / sizeof *bulk_steps)

struct bulk {
	struct job job;
	TAILQ_ENTRY(bulk) link; /* in fs->bulk.jobs; under the tree's lock */
	struct fs *fs;
	size_t count;
	uint64_t bytes;
	uint64_t chance; /* what of it counts for files against the order */
	size_t path_bytes;
	uint64_t ids[BULK_FILES];
	struct validator versions[BULK_FILES];
	char *paths[BULK_FILES];
};

static void
bulk_got(void *arg, size_t i, const struct attr *attr, const void *data)
{
	struct bulk *b = arg;
	struct validator v = attr_validator(attr);

	/* Another version than is known: it will be asked for when wanted. */
	if (validator_equal(&v, &b->versions[i]))
		store_put(b->fs->store, &v, data);
}

static void
bulk_run(struct job *job)
{
	struct bulk *b = (struct bulk *)job;
	struct fs *fs = b->fs;

	room_read_bulk(
	    fs->room, (const char *const *)b->paths, b->count, bulk_got, b);
	tree_lock(fs->tree);
	TAILQ_REMOVE(&fs->bulk.jobs, b, link);
	fs->bulk.under_way--;
	tree_unlock(fs->tree);
}

static void
bulk_free(struct job *job)
{
	struct bulk *b = (struct bulk *)job;
	size_t i;

	for (i = 0; i < b->count; i++)
		free(b->paths[i]);
	free(b);
}

/* The fetch under way that brings this file; tree locked. */
static struct bulk *
bulk_find(struct fs *fs, uint64_t id)
{
	struct bulk *b;
	size_t i;

	TAILQ_FOREACH (b, &fs->bulk.jobs, link)
		for (i = 0; i < b->count; i++)
			if (b->ids[i] == id)
				return b;
	return NULL;
}

/* Take a file along if that makes sense; false: the fetch is full. */
static bool
bulk_add(struct bulk *b, struct node *n, unsigned level)
{
	struct fs *fs = b->fs;
	struct validator v = attr_validator(&n->attr);
	char *path;

	if (!S_ISREG(n->attr.mode) || n->attr.size == 0 ||
	    n->attr.size > BULK_FILE || n->local || n->control ||
	    !tree_fresh(fs->tree, n->checked, UINT64_MAX) ||
	    !fs_may(fs, &n->attr, 4) || room_is_pseudo(fs->room, n->attr.dev) ||
	    store_has(fs->store, &v) || bulk_find(fs, n->id) != NULL)
		return true;
	if (b->count == bulk_steps[level].files ||
	    (b->count > 0 &&
		b->bytes + n->attr.size > bulk_steps[level].bytes) ||
	    (path = tree_path(fs->tree, n, NULL)) == NULL)
		return false;
	if (b->path_bytes + room_bulk_size(path) > room_bulk_max(fs->room)) {
		free(path);
		return false;
	}
	b->path_bytes += room_bulk_size(path);
	b->bytes += n->attr.size;
	b->ids[b->count] = n->id;
	b->versions[b->count] = v;
	b->paths[b->count++] = path;
	return true;
}

static struct dentry *
row_next(struct fs *fs, const struct bulk_row *row, struct dentry *d, bool back,
    bool wide)
{
	return back ? fs_walk_previous(fs, d, row->top, wide)
		    : fs_walk_next(fs, d, row->top, wide);
}

static uint64_t
bulk_weight(const struct bulk *b)
{
	return b->bytes + b->count * BULK_EACH;
}

/*
 * Gather from this name on: what follows in its directory, what is before it
 * there, on the chance that the order is not ours, and at higher levels what
 * follows in others.  NULL: not worth it.
 */
static struct bulk *
bulk_gather(struct fs *fs, const struct bulk_row *row, struct dentry *from)
{
	struct dentry *d = from;
	struct bulk *b;
	size_t looked = 0;
	uint64_t before;
	bool more = true;
	int pass;

	if (from == NULL || (b = calloc(1, sizeof *b)) == NULL)
		return NULL;
	b->fs = fs;
	more = bulk_add(b, from->node, row->level);
	for (pass = 0; pass < 3 && more; pass++) {
		if (pass == 2 && row->level == 0)
			break;
		d = from;
		before = bulk_weight(b);
		while (more && looked++ < 20 * BULK_FILES &&
		    (d = row_next(fs, row, d, row->back != (pass == 1),
			 pass == 2)) != NULL)
			if (pass < 2 || d->parent != from->parent)
				more = bulk_add(b, d->node, row->level);
		if (pass == 1)
			b->chance = bulk_weight(b) - before;
	}
	if (b->count >= 2)
		return b;
	bulk_free(&b->job);
	return NULL;
}

/* Have it fetched; what is wanted of it waits for the job.  Freed if not. */
static struct bulk *
bulk_run_later(struct fs *fs, struct bulk_row *row, struct bulk *b)
{
	b->job.run = bulk_run;
	b->job.free = bulk_free;
	job_init(fs->pool, &b->job);
	TAILQ_INSERT_TAIL(&fs->bulk.jobs, b, link);
	if (job_start(&b->job) != 0) {
		TAILQ_REMOVE(&fs->bulk.jobs, b, link);
		job_put(&b->job);
		return NULL;
	}
	log_debug("fetch %zu files, %llu bytes, from %s", b->count,
	    (unsigned long long)b->bytes, b->paths[0]);
	row->sent += bulk_weight(b) - b->chance;
	row->last = b->ids[b->count - 1];
	fs->bulk.under_way++;
	return b;
}

/*
 * The row that this file may go on: the thread's own (programs that search
 * have several), else the directory's (a process for each file); else the one
 * that was idle for longest becomes a new one.
 */
static struct bulk_row *
row_find(struct fs *fs, pid_t pid, uint64_t dir)
{
	struct bulk_row *row, *same = NULL, *oldest = fs->bulk.rows;
	uint64_t now = room_now();

	for (row = fs->bulk.rows; row < fs->bulk.rows + BULK_ROWS; row++) {
		if (now > row->at + BULK_PAUSE)
			*row = (struct bulk_row){0};
		if (row->at != 0 && row->pid == pid)
			return row;
		if (row->at != 0 && row->dir == dir &&
		    (same == NULL || same->at < row->at))
			same = row;
		if (row->at < oldest->at)
			oldest = row;
	}
	if (same == NULL) {
		same = oldest;
		*same = (struct bulk_row){0};
	}
	same->pid = pid;
	return same;
}

/* Which way does it go?  Some programs begin with what they found last. */
static void
row_turn(struct fs *fs, struct bulk_row *row, const struct node *n)
{
	struct node *before = tree_get(fs->tree, row->open);
	struct dentry *d = SLIST_FIRST(&n->names), *e = NULL;

	row->open = n->id;
	if (before != NULL && before != n)
		e = SLIST_FIRST(&before->names);
	if (e != NULL && e->parent != d->parent) {
		/* Of directories beside each other? */
		d = SLIST_FIRST(&d->parent->names);
		e = SLIST_FIRST(&e->parent->names);
	}
	if (d != NULL && e != NULL && d != e && d->parent == e->parent)
		row->back = strcmp(d->name, e->name) < 0;
}

/* Is this one of a row of files?  Then start to fetch it and the next. */
static struct bulk *
bulk_start(
    struct fs *fs, struct bulk_row *row, struct node *n, struct node *dir)
{
	bool walk = fs_walk_goes_on(fs);
	struct bulk *b = NULL;
	struct node *top;

	if (row->used * 3 < row->sent) {
		/* What was brought was not what is wanted. */
		row->count = row->sent = row->used = 0;
		walk = false;
	}
	if (row->sent == 0) {
		row->level = walk ? 1 : 0;
		/* The second in one directory makes it a row. */
		row->count = row->dir == dir->id ? row->count + 1 : 1;
		row->top = walk ? fs->walk.top : dir->id;
	} else if (row->level + 1 < BULK_LEVELS) {
		row->level++;
	}
	row->dir = dir->id;
	if (row->sent == 0 && row->count < 2 && !walk)
		return NULL;
	if ((top = tree_get(fs->tree, row->top)) == NULL)
		top = n;
	row->top = tree_common_dir(fs->tree, top, n)->id;
	b = bulk_gather(fs, row, SLIST_FIRST(&n->names));
	return b != NULL ? bulk_run_later(fs, row, b) : NULL;
}

/*
 * A file is wanted that has been brought along, or is on its way: the row goes
 * on.  Before all is used, the next are sent for.
 */
static void
bulk_note_use(struct fs *fs, struct bulk_row *row, const struct node *n)
{
	struct node *last;
	struct dentry *d;
	struct bulk *b;

	row->used += n->attr.size + BULK_EACH;
	if (row->used > row->sent)
		row->used = row->sent;
	if (fs->bulk.under_way >= BULK_JOBS || row->used * 4 < row->sent ||
	    row->sent - row->used > bulk_steps[row->level].bytes * 3 / 2 ||
	    (last = tree_get(fs->tree, row->last)) == NULL ||
	    (d = SLIST_FIRST(&last->names)) == NULL ||
	    (d = row_next(fs, row, d, row->back, row->level > 0)) == NULL)
		return;
	if (row->level + 1 < BULK_LEVELS)
		row->level++;
	row->last = 0; /* nothing more, if this finds nothing */
	if ((b = bulk_gather(fs, row, d)) != NULL &&
	    (b = bulk_run_later(fs, row, b)) != NULL)
		job_put(&b->job);
}

int
fs_bulk_fetch(struct fs *fs, struct wait *w, pid_t pid, uint64_t id)
{
	struct bulk_row *row;
	struct bulk *b = NULL;
	struct validator v;
	struct node *n, *dir;
	int error = 0;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, id)) != NULL && n->attr.size <= BULK_FILE &&
	    (dir = node_parent(n)) != NULL) {
		v = attr_validator(&n->attr);
		row = row_find(fs, pid, dir->id);
		row->at = room_now();
		row_turn(fs, row, n);
		if (store_has(fs->store, &v)) {
			bulk_note_use(fs, row, n);
		} else if ((b = bulk_find(fs, id)) != NULL) {
			job_hold(&b->job);
			bulk_note_use(fs, row, n);
		} else {
			b = bulk_start(fs, row, n, dir);
		}
	}
	tree_unlock(fs->tree);
	if (b != NULL) {
		error = job_wait(&b->job, w);
		job_put(&b->job);
	}
	return error;
}
