#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/follow.h"
#include "base/log.h"

/* Larger directories are not listed anew to check one name. */
#define FIND_LARGE 4096
/*
 * With cache_timeout=0 each open asks the VM; but what a listing brought a
 * moment ago still answers the lookups and stats that ls -l makes of it.
 */
#define FIND_MOMENT 1000

/*
 * A service that says nothing at all for so long (ms) is gone for the moment:
 * what is known is shown as it was, and nobody waits for long until it answers.
 */
#define SILENCE_MS 4000
/* And so long once a second, to see it come back. */
#define SILENCE_MOMENT 250

/* How often something may change while we look at it.  After that it has to do
 * as we know it, with what we did ourselves. */
#define FIND_TRIES 5

bool
fs_is_control_name(struct fs *fs, const char *name, struct control_name *out)
{
	return control_name_parse(fs->options->control, name, out);
}

bool
fs_lists_control(struct fs *fs, struct node *dir)
{
	if (fs->options->control == NULL)
		return false;
	switch (fs->options->list_control) {
	case LIST_CONTROL_ALL:
		return true;
	case LIST_CONTROL_NONE:
		return false;
	default:
		return dir == tree_root(fs->tree) &&
		    strcmp(room_root(fs->room), "/") == 0;
	}
}

/* A look at the VM that may have to be repeated. */
struct look {
	uint64_t since; /* when it began */
	uint64_t contact; /* with the service, by then */
	int tries;
	bool known; /* what is asked for, as it was */
	bool settled; /* no answer, or none that lasts: what is known has to
		       * do */
	bool patient; /* it does answer, if slowly: no short wait */
};

static struct look
look_begin(struct fs *fs)
{
	return (struct look){
	    .since = room_now(), .contact = room_contact(fs->room)};
}

/* It was asked for: 0 to look again at what is known, or -errno. */
static int
look_again(struct fs *fs, struct look *look, int error)
{
	look->tries++;
	if (error == 0) {
		look->settled = look->tries >= FIND_TRIES;
		if (look->tries <= FIND_TRIES)
			return 0;
		log_warn("the VM changes faster than it can be looked at");
		return -EIO;
	}
	look->settled = look->known && fs_is_silent(fs, look->contact, error);
	if (look->settled)
		return 0;
	if (error != -ETIMEDOUT || !look->known || look->patient ||
	    room_now() - look->since >= fs->options->timeout_s * 1000u)
		return error;
	/* It was only we who did not wait for long. */
	look->patient = true;
	return 0;
}

/* Is this still good for a name or for attributes that somebody looks at? */
static bool
fs_fresh(struct fs *fs, uint64_t checked, uint64_t since)
{
	return tree_fresh(fs->tree, checked, since) ||
	    (fs->options->cache_timeout_ms < FIND_MOMENT &&
		tree_known(fs->tree, checked) &&
		checked + FIND_MOMENT >= since);
}

unsigned
fs_patience(struct fs *fs, bool known)
{
	unsigned limit = fs->options->timeout_s * 1000;

	if (fs->silence.on && room_contact(fs->room) != fs->silence.contact)
		fs->silence.on = false;
	if (!known || fs->options->cache_timeout_ms == 0)
		return 0;
	if (fs->silence.on) {
		/* Is it back?  Else have the question sent, no more. */
		if (room_now() < fs->silence.asked + 1000)
			return 1;
		fs->silence.asked = room_now();
		return SILENCE_MOMENT;
	}
	return limit < SILENCE_MS ? limit : SILENCE_MS;
}

bool
fs_is_silent(struct fs *fs, uint64_t contact, int error)
{
	bool silent;

	if (error != -ETIMEDOUT && error != -EHOSTUNREACH &&
	    error != -ECONNREFUSED && error != -EIO)
		return false;
	if (fs->options->cache_timeout_ms == 0)
		return false;
	tree_lock(fs->tree);
	silent = room_contact(fs->room) == contact;
	if (silent && !fs->silence.on) {
		fs->silence.on = true;
		fs->silence.contact = contact;
		log_warn("the service does not answer: what is known is shown "
			 "as it was");
	}
	tree_unlock(fs->tree);
	return silent;
}

/*
 * Ask the VM for a directory, or for one name in it; known: what is asked for
 * is, as it was.  Unlocks the tree.  *absent: the directory was not listed,
 * and has no such name.
 */
static int
fs_ask(struct fs *fs, struct wait *w, struct node *dir, const char *name,
    bool known, bool *absent)
{
	uint64_t id = dir->id;
	bool closed = dir->dir->closed;
	bool large = dir->dir->count > FIND_LARGE && name != NULL;
	struct room_also also;
	unsigned bound;
	char *path, *child = NULL;
	int error;

	*absent = false;
	bound = fs_walk_plan(fs, dir, name != NULL, &also);
	path = tree_path(fs->tree, dir, NULL);
	if (path != NULL && name != NULL)
		child = tree_path(fs->tree, dir, name);
	error = path == NULL || (name != NULL && child == NULL) ? -errno : 0;
	w->limit_ms = fs_patience(fs, known);
	tree_unlock(fs->tree);
	if (error != 0)
		goto out;
	if (bound > 0)
		log_debug("list %s, %u below it, %s, %zu directories", path,
		    bound, also.top != NULL ? also.top : "-", also.count);
	/* All of a directory is asked for each time, also when that was refused
	 * before: it may have been the service that did. */
	if ((!closed || name == NULL) && !large) {
		error = room_list(fs->room, w, path, bound, &also);
		if (error != -EACCES)
			goto out;
		/* It may still be searched for names that one knows. */
		tree_lock(fs->tree);
		if ((dir = tree_get(fs->tree, id)) != NULL &&
		    S_ISDIR(dir->attr.mode))
			dir->dir->closed = true;
		tree_unlock(fs->tree);
	}
	if (child != NULL) {
		error = room_stat(fs->room, w, child);
		*absent = error == -ENOENT;
	}
out:
	w->limit_ms = 0;
	fs_walk_free(&also);
	free(child);
	free(path);
	return error;
}

/* Was it known, or did the VM have to be asked? */
static int
fs_found(struct fs *fs, const struct look *look)
{
	stats_look(room_stats(fs->room), STATS_NAMES, look->tries == 0, 0);
	return 0;
}

int
fs_find_child(struct fs *fs, struct wait *w, fuse_ino_t parent,
    const char *name, struct node **out)
{
	struct look look = look_begin(fs);
	struct tree *t = fs->tree;
	struct node *dir;
	struct dentry *d;
	int error;
	struct control_name control;
	bool absent;

	do {
		tree_lock(t);
		if ((dir = tree_get(t, parent)) == NULL || dir->stale) {
			error = -ESTALE;
			goto fail;
		}
		if (!S_ISDIR(dir->attr.mode)) {
			error = -ENOTDIR;
			goto fail;
		}
		if (fs_is_control_name(fs, name, &control)) {
			*out = tree_control(t, dir, &control);
			error = -ENOMEM;
			if (*out == NULL)
				goto fail;
			return 0;
		}
		d = tree_lookup(dir, name);
		*out = d == NULL ? NULL : d->node;
		/* What is not there is asked for again. */
		if (dir_fresh(t, dir->dir, look.since) ||
		    (d != NULL &&
			(d->node->local ||
			    fs_fresh(fs, dir_trusted(dir->dir), look.since) ||
			    fs_fresh(fs, d->node->checked, look.since)))) {
			fs_walk_note_use(fs, dir);
			return fs_found(fs, &look);
		}
		look.known = tree_known(t, dir->dir->listed) ||
		    (d != NULL && tree_known(t, d->node->checked));
		if (look.settled && look.known)
			return 0;
		if (node_is_dead(t, dir)) {
			error = -ENOENT;
			goto fail;
		}
		error = fs_ask(
		    fs, w, dir, name, look.known && !look.patient, &absent);
		if (!absent)
			continue;
		tree_lock(t);
		dir = tree_get(t, parent);
		if (dir != NULL && !dir->stale && !node_is_dead(t, dir)) {
			d = tree_lookup(dir, name);
			*out = d == NULL ? NULL : d->node;
			return 0;
		}
		tree_unlock(t);
	} while ((error = look_again(fs, &look, error)) == 0);
	return error;
fail:
	tree_unlock(t);
	return error;
}

/* Look at one node again, by its own listing or by its parent's. */
static int
fs_ask_node(struct fs *fs, struct wait *w, struct node *n, bool known)
{
	struct node *up = node_parent(n);
	struct dentry *d;
	bool absent;
	char *name;
	int error;

	if (up == NULL ||
	    (S_ISDIR(n->attr.mode) && n->dir->listed != 0 &&
		n->dir->count <= FIND_LARGE))
		return fs_ask(fs, w, n, NULL, known, &absent);
	d = SLIST_FIRST(&n->names);
	if ((name = strdup(d->name)) == NULL) {
		tree_unlock(fs->tree);
		return -ENOMEM;
	}
	error = fs_ask(fs, w, up, name, known, &absent);
	free(name);
	return error;
}

int
fs_find_node(struct fs *fs, struct wait *w, fuse_ino_t id, bool strict,
    struct node **out)
{
	struct look look = look_begin(fs);
	struct tree *t = fs->tree;
	struct node *n;
	int error;

	do {
		tree_lock(t);
		if ((n = tree_get(t, id)) == NULL || n->stale) {
			tree_unlock(t);
			return -ESTALE;
		}
		*out = n;
		if (n->guess != NULL) {
			tree_unlock(t);
			if ((error = fs_follow(fs, w, id)) != 0)
				return error;
			continue;
		}
		if (S_ISDIR(n->attr.mode) && n->dir->used != 0)
			tree_use_dir(t, n);
		/* Removed, but held open: what was known stays so. */
		if (n->control || n->local || node_is_dead(t, n) ||
		    (strict ? tree_fresh(t, n->checked, look.since)
			    : fs_fresh(fs, n->checked, look.since)))
			return fs_found(fs, &look);
		look.known = tree_known(t, n->checked);
		if (look.settled && look.known)
			return 0;
		error = fs_ask_node(fs, w, n, look.known && !look.patient);
		if (error == -EACCES && id == FUSE_ROOT_ID) {
			tree_lock(t);
			return 0;
		}
		if (error == -ENOENT && id != FUSE_ROOT_ID)
			error = 0; /* the next look finds it dead */
	} while ((error = look_again(fs, &look, error)) == 0);
	return error;
}

int
fs_find_listed(struct fs *fs, struct wait *w, fuse_ino_t id, uint64_t opened,
    struct node **out)
{
	struct look look = look_begin(fs);
	struct tree *t = fs->tree;
	struct node *n;
	bool absent;
	int error;

	if (opened + FIND_MOMENT >= look.since)
		look.since = opened;
	do {
		tree_lock(t);
		if ((n = tree_get(t, id)) == NULL || n->stale) {
			tree_unlock(t);
			return -ESTALE;
		}
		*out = n;
		look.known = tree_known(t, n->dir->listed);
		if (node_is_dead(t, n) || dir_fresh(t, n->dir, look.since) ||
		    (look.settled && look.known)) {
			fs_walk_note_use(fs, n);
			n->dir->read = n->dir->used;
			return fs_found(fs, &look);
		}
		error = fs_ask(
		    fs, w, n, NULL, look.known && !look.patient, &absent);
	} while ((error = look_again(fs, &look, error)) == 0);
	return error;
}
