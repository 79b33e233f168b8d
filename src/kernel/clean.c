#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "kernel/fs_impl.h"

/*
 * What a mount that was killed has left in the VM, of our own hidden files, is
 * removed by whoever comes by: when a listing shows something so old that
 * nobody needs it, the VM looks for all of that kind there, by its own clock.
 */

/* Staged bytes are written to as long as they are needed. */
#define CLEAN_STAGED_NS ((int64_t)3600 * 1000000000)
/* A removed file that another mount has open may not be; it is by the time of
 * its removal. */
#define CLEAN_OPEN_NS ((int64_t)7 * 24 * 3600 * 1000000000)

struct clean {
	struct job job;
	struct fs *fs;
	char *dir;
};

static void
clean_run(struct job *job)
{
	struct clean *c = (struct clean *)job;

	log_debug("clean %s", c->dir);
	(void)room_clean(c->fs->room, c->dir);
}

static void
clean_free(struct job *job)
{
	struct clean *c = (struct clean *)job;

	free(c->dir);
	free(c);
}

static bool
is_left(struct fs *fs, const struct entry *e, int64_t now)
{
	if (strncmp(e->name, ".gentilityfs-", 13) != 0 ||
	    !S_ISREG(e->attr.mode) || e->attr.uid != room_probe(fs->room)->uid)
		return false;
	if (strncmp(e->name + 13, "open-", 5) == 0)
		return e->attr.ctime < now - CLEAN_OPEN_NS;
	return e->attr.mtime < now - CLEAN_STAGED_NS;
}

void
fs_clean(struct fs *fs, const struct listing *l)
{
	int64_t now = room_vm_now(fs->room);
	struct clean *c;
	struct node *dir;
	bool left = false;
	size_t i;

	if (fs->options->read_only)
		return;
	for (i = 0; i < l->count && !left; i++)
		left = is_left(fs, &l->entries[i], now);
	if (!left)
		return;
	tree_lock(fs->tree);
	dir = tree_find(fs->tree, l->path);
	left = dir != NULL && S_ISDIR(dir->attr.mode) && !dir->dir->cleaned;
	if (left)
		dir->dir->cleaned = true;
	tree_unlock(fs->tree);
	if (!left || (c = calloc(1, sizeof *c)) == NULL)
		return;
	c->fs = fs;
	c->job.run = clean_run;
	c->job.free = clean_free;
	job_init(fs->pool, &c->job);
	if ((c->dir = strdup(l->path)) != NULL)
		job_start(&c->job);
	job_put(&c->job);
}
