#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs_impl.h"
#include "log.h"

/*
 * Small files that are opened one after another (grep -r, a compiler, git
 * status): what will be next in the tree's order is fetched by one command
 * before it is asked for.  Each fetch that was used makes the next one larger,
 * one that was not makes it small again.
 */
#define BULK_FILE  ((uint64_t)256 * 1024) /* no larger file is taken along */
#define BULK_FILES 1000
#define BULK_PAUSE 3000 /* ms: then it is no longer one after another */
/* Room for paths in a command. */
#define BULK_PATHS ((size_t)80 * 1024)

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
	if (b->path_bytes + room_bulk_size(path) > BULK_PATHS) {
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

/*
 * The next name in the order in which a tree is walked, among what is known;
 * wide: also in the directories below and beside this one.
 */
static struct dentry *
walk_next(struct fs *fs, struct dentry *d, bool wide)
{
	struct node *dir;

	if (wide && S_ISDIR(d->node->attr.mode) && d->node->dir->listed != 0 &&
	    !RB_EMPTY(&d->node->dir->names))
		return RB_MIN(dentries, &d->node->dir->names);
	for (;;) {
		struct dentry *next;

		dir = d->parent;
		next = RB_NEXT(dentries, &dir->dir->names, d);
		if (next != NULL || !wide)
			return next;
		if (dir == tree_root(fs->tree) ||
		    (d = LIST_FIRST(&dir->names)) == NULL)
			return NULL;
	}
}

/* Gather from this file on; NULL: not worth it. */
static struct bulk *
bulk_gather(struct fs *fs, struct node *n, unsigned level)
{
	struct dentry *d = LIST_FIRST(&n->names);
	struct bulk *b;
	size_t looked = 0;

	if (d == NULL || (b = calloc(1, sizeof *b)) == NULL)
		return NULL;
	b->fs = fs;
	for (; d != NULL && looked < 20 * BULK_FILES;
	     d = walk_next(fs, d, level > 0), looked++)
		if (!bulk_add(b, d->node, level))
			break;
	if (b->count >= 2)
		return b;
	bulk_free(&b->job);
	return NULL;
}

/* Is this one of a row of files?  Then start to fetch it and the next. */
static struct bulk *
bulk_start(struct fs *fs, struct node *n)
{
	uint64_t now = room_now(),
		 dir = node_parent(n) ? node_parent(n)->id : 0;
	struct bulk *b;

	if (now > fs->bulk.at + BULK_PAUSE) {
		fs->bulk.row = 0;
		fs->bulk.level = 0;
		fs->bulk.sent = fs->bulk.used = 0;
	}
	fs->bulk.at = now;
	if (fs->bulk.sent == 0) {
		/* The second in one directory makes it a row. */
		fs->bulk.row = fs->bulk.dir == dir ? fs->bulk.row + 1 : 1;
		fs->bulk.dir = dir;
		if (fs->bulk.row < 2)
			return NULL;
	} else if (fs->bulk.used * 2 >= fs->bulk.sent) {
		if (fs->bulk.level + 1 < BULK_LEVELS)
			fs->bulk.level++;
	} else {
		fs->bulk.level = 0;
		fs->bulk.sent = fs->bulk.used = 0;
		fs->bulk.row = 1;
		return NULL;
	}
	if ((b = bulk_gather(fs, n, fs->bulk.level)) == NULL)
		return NULL;
	b->job.run = bulk_run;
	b->job.free = bulk_free;
	job_init(fs->pool, &b->job);
	TAILQ_INSERT_TAIL(&fs->bulk.jobs, b, link);
	if (job_start(&b->job) != 0) {
		TAILQ_REMOVE(&fs->bulk.jobs, b, link);
		job_put(&b->job);
		return NULL;
	}
	fs->bulk.sent = b->count - 1;
	fs->bulk.used = 0;
	return b;
}

int
fs_bulk_fetch(struct fs *fs, struct wait *w, uint64_t id)
{
	struct bulk *b = NULL;
	struct validator v;
	struct node *n;
	int error = 0;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, id)) != NULL && n->attr.size <= BULK_FILE) {
		v = attr_validator(&n->attr);
		if (store_has(fs->store, &v)) {
			fs->bulk.used++;
			fs->bulk.at = room_now();
		} else if ((b = bulk_find(fs, id)) != NULL) {
			fs->bulk.used++;
			job_hold(&b->job);
		} else {
			b = bulk_start(fs, n);
		}
	}
	tree_unlock(fs->tree);
	if (b != NULL) {
		error = job_wait(&b->job, w);
		job_put(&b->job);
	}
	return error;
}
