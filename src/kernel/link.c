#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/link.h"
#include "kernel/made.h"
#include "kernel/procfd.h"
#include "tree/symlink.h"

/* As many links as Linux follows on one way. */
#define LINK_HOPS 40

static struct symlink_place
link_place(struct fs *fs)
{
	return (struct symlink_place){
	    fs->options->mountpoint, room_root(fs->room)};
}

/*
 * A target with ".." on its way, as far as the last of them: what a name
 * before it stands for says where that leads, and no ".." may lead out of the
 * mount.
 */
struct walk_target {
	struct fs *fs;
	struct node *at;
	char *rest; /* owned */
	unsigned hops;
	bool plain; /* all is a way of directories, within the mount */
	bool lost; /* it leads out of what is mounted, or to nothing */
};

/* Where an absolute target begins.  False: it is not in the mount. */
static bool
walk_from_root(struct walk_target *w)
{
	const char *root = room_root(w->fs->room);
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(w->rest, root, len) != 0 || w->rest[len] != '/')
		return false;
	memmove(w->rest, w->rest + len, strlen(w->rest + len) + 1);
	w->at = tree_root(w->fs->tree);
	return true;
}

/* A link is on the way: it is the way. */
static int
walk_into(struct walk_target *w, const struct node *link, const char *rest)
{
	char *way = malloc(strlen(link->target) + strlen(rest) + 2);

	if (way == NULL)
		return -ENOMEM;
	stpcpy(stpcpy(stpcpy(way, link->target), "/"), rest);
	free(w->rest);
	w->rest = way;
	w->plain = false;
	w->lost = ++w->hops > LINK_HOPS || *link->target == '\0' ||
	    (*way == '/' && !walk_from_root(w));
	return 0;
}

/* The next name; -EAGAIN: nobody knows yet what it stands for. */
static int
walk_name(struct walk_target *w, const char *name, const char *rest,
    struct link_ask *ask)
{
	struct dentry *d = tree_lookup(w->at, name);

	if (d == NULL && w->at->dir->listed == 0 && !w->at->dir->closed &&
	    ask != NULL) {
		ask->dir = w->at->id;
		ask->name = strdup(name);
		return ask->name == NULL ? -ENOMEM : -EAGAIN;
	}
	if (d != NULL && S_ISLNK(d->node->attr.mode))
		return walk_into(w, d->node, rest);
	w->lost = d == NULL || !S_ISDIR(d->node->attr.mode);
	if (!w->lost) {
		w->at = d->node;
		tree_vouch(w->at);
		memmove(w->rest, rest, strlen(rest) + 1);
	}
	return 0;
}

static void
walk_up(struct walk_target *w)
{
	struct node *up = node_parent(w->at);

	if (w->at != tree_root(w->fs->tree))
		w->at = up;
	else if (strcmp(room_root(w->fs->room), "/") == 0)
		w->plain = false; /* it stays there */
	else
		w->lost = true;
	w->lost = w->lost || w->at == NULL;
}

/* Go on to behind the last ".."; 0 or -errno as walk_name(). */
static int
walk_on(struct walk_target *w, struct link_ask *ask)
{
	char name[256];
	const char *at;
	size_t len;
	int error = 0;

	while (error == 0 && !w->lost && symlink_climbs(w->rest)) {
		at = w->rest + strspn(w->rest, "/");
		len = strcspn(at, "/");
		if (len >= sizeof name) {
			w->lost = true;
			break;
		}
		memcpy(name, at, len);
		name[len] = '\0';
		at += len;
		if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
			if (len == 2)
				walk_up(w);
			memmove(w->rest, at, strlen(at) + 1);
		} else {
			error = walk_name(w, name, at, ask);
		}
	}
	return error;
}

/* Where the walk has come to, and what is left of the target, as one path. */
static char *
walk_path(struct walk_target *w)
{
	char *dir = tree_path(w->fs->tree, w->at, NULL), *path;
	const char *rest = w->rest + strspn(w->rest, "/");

	if (dir == NULL ||
	    (path = malloc(strlen(dir) + strlen(rest) + 2)) == NULL) {
		free(dir);
		return NULL;
	}
	stpcpy(
	    stpcpy(stpcpy(path, strcmp(dir, "/") == 0 ? "" : dir), "/"), rest);
	if (*rest == '\0')
		strcpy(path, dir);
	free(dir);
	return path;
}

/* A target with ".." in it. */
static char *
show_climbing(
    struct fs *fs, struct node *dir, const char *target, struct link_ask *ask)
{
	const struct symlink_place place = link_place(fs);
	struct walk_target w = {.fs = fs, .at = dir, .plain = true};
	char *path = NULL, *out = NULL;
	int error = 0;

	if (dir == NULL && *target != '/') {
		errno = ESTALE;
		return NULL;
	}
	if ((w.rest = strdup(target)) == NULL)
		return NULL;
	if (*target == '/')
		w.lost = !walk_from_root(&w);
	if ((error = walk_on(&w, ask)) != 0)
		errno = -error;
	else if (w.lost)
		out = symlink_show_lost(&place, target);
	else if (w.plain && *target != '/')
		out = strdup(target);
	else if (w.plain)
		out = symlink_show(&place, target);
	else if ((path = walk_path(&w)) != NULL)
		out = symlink_show(&place, path);
	free(path);
	free(w.rest);
	return out;
}

/* A target in a directory (NULL: that is gone) as it is shown. */
static char *
link_show(
    struct fs *fs, struct node *dir, const char *target, struct link_ask *ask)
{
	const struct symlink_place place = link_place(fs);

	if (symlink_climbs(target))
		return show_climbing(fs, dir, target, ask);
	if (*target != '/')
		return strdup(target);
	return symlink_show(&place, target);
}

char *
link_text(struct fs *fs, const struct node *n, struct link_ask *ask)
{
	struct dentry *d;
	char *text = NULL;

	if (!fs->options->transform_symlinks ||
	    (*n->target != '/' && !symlink_climbs(n->target)) ||
	    made_has(fs->made, &n->attr, n->target))
		return strdup(n->target);
	if (SLIST_EMPTY(&n->names))
		return link_show(fs, NULL, n->target, ask);
	/* Of several names, that from which it is not what it says. */
	SLIST_FOREACH (d, &n->names, by_node) {
		free(text);
		text = link_show(fs, d->parent, n->target, ask);
		if (text == NULL || strcmp(text, n->target) != 0)
			break;
	}
	return text;
}

char *
link_target(struct fs *fs, struct node *dir, const char *text, bool *made)
{
	const struct symlink_place place = link_place(fs);
	char *target = NULL, *shown = NULL;
	bool lost;

	*made = false;
	if (!fs->options->transform_symlinks)
		return strdup(text);
	if ((target = symlink_target(&place, text, &lost)) != NULL) {
		/* Copied to where it does lead somewhere, it may. */
		if (lost)
			return target;
		shown = link_show(fs, dir, target, NULL);
		if (shown != NULL && strcmp(shown, text) == 0) {
			free(shown);
			return target;
		}
		free(target);
		free(shown);
	}
	if ((target = strdup(text)) == NULL)
		return NULL;
	shown = link_show(fs, dir, target, NULL);
	*made = shown == NULL || strcmp(shown, text) != 0;
	free(shown);
	return target;
}

bool
link_varies(struct fs *fs, const struct node *n)
{
	char *text;
	bool varies;

	if (!S_ISLNK(n->attr.mode))
		return false;
	text = link_text(fs, n, NULL);
	varies = text == NULL || strcmp(text, n->target) != 0;
	free(text);
	return varies;
}

/* Is the link a file of a work tree, not of what git keeps about it? */
static bool
is_in_work_tree(struct fs *fs, const struct node *n)
{
	static const char *const stores[] = {
	    ".git", ".hg", ".jj", ".svn", ".fslckout", ".bzr"};
	struct dentry *d = SLIST_FIRST(&n->names);
	bool found = false;
	size_t i;

	for (; d != NULL && !found; d = SLIST_FIRST(&d->parent->names)) {
		for (i = 0; i < sizeof stores / sizeof *stores; i++) {
			if (strcmp(d->name, stores[i]) == 0)
				return false;
			found |= tree_lookup(d->parent, stores[i]) != NULL;
		}
		if (d->parent == tree_root(fs->tree))
			break;
	}
	return found;
}

bool
link_is_versioned(struct fs *fs, struct node *n, pid_t pid, bool look)
{
	static const char *const programs[] = {
	    "git", "hg", "jj", "svn", "fossil", "bzr", "brz", "gix"};
	char name[PROCFD_NAME];
	size_t i;

	/* The same thread has just looked at the link itself: who follows one
	 * has not. */
	if (pid == 0 || (!look && n->looked_by != pid) ||
	    !is_in_work_tree(fs, n) || !procfd_name(pid, name))
		return false;
	for (i = 0; i < sizeof programs / sizeof *programs; i++)
		if (strcmp(name, programs[i]) == 0)
			return true;
	return strncmp(name, "git-", 4) == 0;
}
