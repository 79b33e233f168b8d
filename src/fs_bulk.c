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
 * one that was not makes it small again.  And a directory with nothing but a
 * few small files comes as a whole.
 */
#define BULK_FILE  ((uint64_t)256 * 1024) /* no larger file is taken along */
#define BULK_FILES 1000
#define BULK_DIR   ((uint64_t)128 * 1024) /* a directory's few small files */
/* What a file counts besides its bytes, as work for the VM and the cache. */
#define BULK_EACH  4096
#define BULK_JOBS  3 /* under way at once */
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

/* Gather from this name on; NULL: not worth it. */
static struct bulk *
bulk_gather_from(struct fs *fs, struct dentry *d, unsigned level)
{
	struct bulk *b;
	size_t looked = 0;

	if (d == NULL || (b = calloc(1, sizeof *b)) == NULL)
		return NULL;
	b->fs = fs;
	for (; d != NULL && looked < 20 * BULK_FILES;
	     d = fs_walk_next(fs, d, fs->bulk.top, level > 0), looked++)
		if (!bulk_add(b, d->node, level))
			break;
	if (b->count >= 2)
		return b;
	bulk_free(&b->job);
	return NULL;
}

static struct bulk *
bulk_gather(struct fs *fs, struct node *n, unsigned level)
{
	return bulk_gather_from(fs, SLIST_FIRST(&n->names), level);
}

/* Have it fetched; what is wanted of it waits for the job.  Freed if not. */
static struct bulk *
bulk_run_later(struct fs *fs, struct bulk *b)
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
	fs->bulk.sent += b->bytes + b->count * BULK_EACH;
	fs->bulk.last = b->ids[b->count - 1];
	fs->bulk.under_way++;
	return b;
}

/* All the small files of a directory, if they are few. */
static struct bulk *
bulk_gather_dir(struct fs *fs, struct node *n)
{
	struct node *dir = node_parent(n);
	struct dentry *d;
	struct bulk *b;
	uint64_t bytes = 0;
	size_t files = 0;

	if (dir == NULL)
		return NULL;
	RB_FOREACH (d, dentries, &dir->dir->names) {
		if (!S_ISREG(d->node->attr.mode) || d->node->control)
			continue;
		bytes += d->node->attr.size;
		if (++files > bulk_steps[0].files || bytes > BULK_DIR)
			return NULL;
	}
	if ((b = calloc(1, sizeof *b)) == NULL)
		return NULL;
	b->fs = fs;
	RB_FOREACH (d, dentries, &dir->dir->names)
		bulk_add(b, d->node, 0);
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
	bool walk = fs_walk_goes_on(fs);
	struct bulk *b = NULL;
	struct node *top;

	if (now > fs->bulk.at + BULK_PAUSE)
		fs->bulk.row = fs->bulk.sent = fs->bulk.used = 0;
	fs->bulk.at = now;
	if (fs->bulk.used * 2 < fs->bulk.sent) {
		/* What was brought was not what is wanted. */
		fs->bulk.row = fs->bulk.sent = fs->bulk.used = 0;
		walk = false;
	}
	if (fs->bulk.sent == 0) {
		fs->bulk.level = walk ? 1 : 0;
		/* The second in one directory makes it a row. */
		fs->bulk.row = fs->bulk.dir == dir ? fs->bulk.row + 1 : 1;
		fs->bulk.dir = dir;
		fs->bulk.top = walk ? fs->walk.top : dir;
		if (fs->bulk.row < 2 && !walk) {
			b = bulk_gather_dir(fs, n);
			return b != NULL ? bulk_run_later(fs, b) : NULL;
		}
	} else if (fs->bulk.level + 1 < BULK_LEVELS) {
		fs->bulk.level++;
	}
	if ((top = tree_get(fs->tree, fs->bulk.top)) == NULL)
		top = n;
	fs->bulk.top = tree_common_dir(fs->tree, top, n)->id;
	b = bulk_gather(fs, n, fs->bulk.level);
	return b != NULL ? bulk_run_later(fs, b) : NULL;
}

/*
 * A file is wanted that has been brought along, or is on its way: the row goes
 * on.  Before all is used, the next are sent for.
 */
static void
bulk_note_use(struct fs *fs, const struct node *n)
{
	struct node *last;
	struct dentry *d;
	struct bulk *b;

	fs->bulk.at = room_now();
	if (fs->bulk.used < fs->bulk.sent)
		fs->bulk.used += n->attr.size + BULK_EACH;
	if (fs->bulk.under_way >= BULK_JOBS ||
	    fs->bulk.used * 4 < fs->bulk.sent ||
	    fs->bulk.sent - fs->bulk.used >
		bulk_steps[fs->bulk.level].bytes / 2 ||
	    (last = tree_get(fs->tree, fs->bulk.last)) == NULL ||
	    (d = SLIST_FIRST(&last->names)) == NULL ||
	    (d = fs_walk_next(fs, d, fs->bulk.top, fs->bulk.level > 0)) == NULL)
		return;
	if (fs->bulk.level + 1 < BULK_LEVELS)
		fs->bulk.level++;
	fs->bulk.last = 0; /* nothing more, if this finds nothing */
	if ((b = bulk_gather_from(fs, d, fs->bulk.level)) != NULL &&
	    (b = bulk_run_later(fs, b)) != NULL)
		job_put(&b->job);
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
			bulk_note_use(fs, n);
		} else if ((b = bulk_find(fs, id)) != NULL) {
			job_hold(&b->job);
			bulk_note_use(fs, n);
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
