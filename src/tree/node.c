#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tree/node_impl.h"
#include "kernel/notify.h"
#include "room/room.h"

static int
dentry_compare(const struct dentry *a, const struct dentry *b)
{
	return strcmp(a->name, b->name);
}

RB_GENERATE(dentries, dentry, by_name, dentry_compare)

static int
tree_grow(struct tree *t)
{
	size_t n = t->nids == 0 ? 1024 : t->nids * 2, i;
	struct node **ids, *node, *next;

	if (t->count < t->nids)
		return 0;
	if ((ids = calloc(n, sizeof *ids)) == NULL)
		return -ENOMEM;
	for (i = 0; i < t->nids; i++)
		for (node = t->ids[i]; node != NULL; node = next) {
			next = node->by_id;
			node->by_id = ids[node->id & (n - 1)];
			ids[node->id & (n - 1)] = node;
		}
	free(t->ids);
	t->ids = ids;
	t->nids = n;
	return 0;
}

struct node *
node_new(struct tree *t, const struct attr *attr, const char *target)
{
	struct node *n;

	if (tree_grow(t) != 0 || (n = calloc(1, sizeof *n)) == NULL)
		return NULL;
	n->attr = *attr;
	SLIST_INIT(&n->names);
	if (S_ISDIR(attr->mode)) {
		if ((n->dir = calloc(1, sizeof *n->dir)) == NULL)
			goto fail;
		RB_INIT(&n->dir->names);
		n->dir->node = n;
		TAILQ_INSERT_TAIL(&t->dirs, n->dir, by_use);
	} else if (S_ISLNK(attr->mode)) {
		if ((n->target = strdup(target ? target : "")) == NULL)
			goto fail;
	}
	n->id = t->next_id++;
	n->by_id = t->ids[n->id & (t->nids - 1)];
	t->ids[n->id & (t->nids - 1)] = n;
	t->count++;
	return n;
fail:
	free(n);
	return NULL;
}

/* Free the node when nothing refers to it: no name, no kernel, no handle. */
void
node_drop(struct tree *t, struct node *n)
{
	struct node **at;

	if (!SLIST_EMPTY(&n->names) || n->nlookup > 0 || n->opens > 0 ||
	    n == t->root)
		return;
	node_unlink_index(t, n);
	node_show_vm(n);
	if (n->control)
		tree_control_drop(t, n);
	for (at = &t->ids[n->id & (t->nids - 1)]; *at != n;)
		at = &(*at)->by_id;
	*at = n->by_id;
	t->count--;
	if (S_ISDIR(n->attr.mode)) {
		struct dentry *d;

		while ((d = RB_MIN(dentries, &n->dir->names)) != NULL)
			tree_remove(t, d);
		tree_control_free(n->dir);
		TAILQ_REMOVE(&t->dirs, n->dir, by_use);
		free(n->dir);
	} else if (S_ISLNK(n->attr.mode)) {
		free(n->target);
	} else if (n->content != NULL && !n->control) {
		t->on_free(t->on_free_arg, n->content);
	}
	free(n->guess);
	free(n);
}

int
tree_open(struct tree **out, const char *root_path, uint64_t trust_ms)
{
	struct attr root = {.mode = S_IFDIR | 0755, .nlink = 2};
	struct tree *t;

	if ((t = calloc(1, sizeof *t)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	RB_INIT(&t->links);
	TAILQ_INIT(&t->dirs);
	t->next_id = 1; /* FUSE_ROOT_ID */
	t->trust_ms = trust_ms;
	t->epoch = 1;
	if ((t->root_path = strdup(root_path)) == NULL ||
	    (t->root = node_new(t, &root, NULL)) == NULL) {
		free(t->root_path);
		free(t);
		return -ENOMEM;
	}
	t->root->nlookup = 1;
	*out = t;
	return 0;
}

void
tree_close(struct tree *t)
{
	struct node *n;
	size_t i;

	if (t == NULL)
		return;
	/* What the kernel still held is gone with the mount. */
	t->root->nlookup = 0;
	for (i = 0; i < t->nids; i++)
		for (n = t->ids[i]; n != NULL; n = n->by_id) {
			n->nlookup = 0;
			n->opens = n != t->root;
		}
	for (i = 0; i < t->nids; i++)
		while ((n = t->ids[i]) != NULL) {
			struct dentry *d;

			while ((d = SLIST_FIRST(&n->names)) != NULL)
				tree_remove(t, d);
			if (n == t->root)
				t->root = NULL;
			n->opens = 0;
			node_drop(t, n);
		}
	tree_free_lost(t);
	free(t->ids);
	free(t->hidden);
	free(t->root_path);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void
tree_set_notify(struct tree *t, struct notify *notify)
{
	t->notify = notify;
}

void
tree_hide_name(struct tree *t, const char *name)
{
	free(t->hidden);
	t->hidden = name == NULL ? NULL : strdup(name);
}

void
tree_on_free(struct tree *t, void (*f)(void *, struct content *), void *arg)
{
	t->on_free = f;
	t->on_free_arg = arg;
}

void
tree_on_rebase(struct tree *t,
    void (*f)(void *, struct node *, const struct attr *), void *arg)
{
	t->on_rebase = f;
	t->on_rebase_arg = arg;
}

void
tree_lock(struct tree *t)
{
	pthread_mutex_lock(&t->lock);
}

void
tree_unlock(struct tree *t)
{
	pthread_mutex_unlock(&t->lock);
}

struct node *
tree_root(struct tree *t)
{
	return t->root;
}

struct node *
tree_get(struct tree *t, uint64_t id)
{
	struct node *n;

	for (n = t->ids[id & (t->nids - 1)]; n != NULL; n = n->by_id)
		if (n->id == id)
			return n;
	return NULL;
}

size_t
tree_count(struct tree *t)
{
	return t->count;
}

/* Until when is something good that was checked then? */
static uint64_t
trusted_until(const struct tree *t, uint64_t checked)
{
	uint64_t ms = t->trust_ms;

	/* Else it might be stale before it is here. */
	if (ms > 0 && ms < 2 * t->delay_ms)
		ms = 2 * t->delay_ms;
	return checked + ms;
}

bool
tree_fresh(struct tree *t, uint64_t checked, uint64_t since)
{
	if (checked == 0)
		return false;
	return checked >= since ||
	    (checked >= t->distrusted &&
		trusted_until(t, checked) > room_now());
}

bool
tree_known(struct tree *t, uint64_t checked)
{
	return checked != 0 && checked >= t->distrusted;
}

double
tree_trust(struct tree *t, uint64_t checked)
{
	uint64_t now = room_now(), until = trusted_until(t, checked);

	if (checked < t->distrusted || until <= now)
		return 0;
	return (double)(until - now) / 1000;
}

/* No longer than this (ms), however slow the VM is. */
#define DELAY_MAX 10000

void
tree_note_delay(struct tree *t, uint64_t ms)
{
	tree_lock(t);
	t->delay_ms = ms < DELAY_MAX ? ms : DELAY_MAX;
	tree_unlock(t);
}

void
tree_distrust(struct tree *t)
{
	t->distrusted = room_now();
}

uint64_t
tree_epoch(struct tree *t)
{
	return t->epoch;
}

uint64_t
tree_next_epoch(struct tree *t)
{
	return ++t->epoch;
}

struct node *
node_parent(const struct node *n)
{
	struct dentry *d = SLIST_FIRST(&n->names);

	return d == NULL ? NULL : d->parent;
}

bool
tree_is_within(struct tree *t, const struct node *n, const struct node *dir)
{
	while (n != NULL && n != dir && n != t->root)
		n = node_parent(n);
	return n == dir;
}

struct node *
tree_common_dir(struct tree *t, struct node *a, struct node *b)
{
	if (a != t->root && !S_ISDIR(a->attr.mode))
		a = node_parent(a);
	while (a != NULL && !tree_is_within(t, b, a))
		a = a == t->root ? NULL : node_parent(a);
	return a != NULL ? a : t->root;
}

uint64_t
node_version(const struct node *n)
{
	const uint64_t part[] = {n->attr.ino, n->attr.dev, n->attr.size,
	    n->attr.mtime, n->attr.ctime};
	uint64_t hash = 0;
	size_t i;

	for (i = 0; i < sizeof part / sizeof *part; i++) {
		hash = (hash ^ part[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	return hash;
}

bool
node_has_moved(const struct node *n)
{
	return n->moved != 0 && n->moved + NODE_SETTLE_MS >= room_now();
}

bool
node_is_settled(const struct node *n)
{
	return n->moved_once || !node_has_moved(n);
}

void
node_tell(struct node *n)
{
	uint64_t version = node_version(n);

	if (n->told != version)
		n->told_at = room_now();
	n->told = version;
	node_tell_ino(n);
}

bool
node_is_dead(const struct tree *t, const struct node *n)
{
	const struct node *up;

	for (; n != t->root; n = up)
		if ((up = node_parent(n)) == NULL)
			return true;
	return false;
}

char *
tree_path(struct tree *t, struct node *node, const char *name)
{
	struct dentry *d;
	struct node *n;
	char *path, *at;
	size_t len, part;

	len = name == NULL ? 0 : 1 + strlen(name);
	for (n = node; n != t->root; n = d->parent) {
		if ((d = SLIST_FIRST(&n->names)) == NULL) {
			errno = ENOENT;
			return NULL;
		}
		len += 1 + strlen(d->name);
	}
	part = strcmp(t->root_path, "/") == 0 ? 0 : strlen(t->root_path);
	if ((path = malloc(part + len + 2)) == NULL)
		return NULL;
	if (part + len == 0) {
		strcpy(path, "/");
		return path;
	}
	memcpy(path, t->root_path, part);
	at = path + part + len;
	*at = '\0';
	if (name != NULL) {
		at -= strlen(name);
		memcpy(at, name, strlen(name));
		*--at = '/';
	}
	for (n = node; n != t->root; n = d->parent) {
		d = SLIST_FIRST(&n->names);
		at -= strlen(d->name);
		memcpy(at, d->name, strlen(d->name));
		*--at = '/';
	}
	return path;
}

struct dentry *
tree_lookup(struct node *dir, const char *name)
{
	struct dentry *d = RB_ROOT(&dir->dir->names);
	int order;

	while (d != NULL && (order = strcmp(name, d->name)) != 0)
		d = order < 0 ? RB_LEFT(d, by_name) : RB_RIGHT(d, by_name);
	return d;
}

/* The part of a VM's path below the mount's root; NULL: it isn't there. */
static const char *
tree_relative(const struct tree *t, const char *path)
{
	size_t len = strlen(t->root_path);

	if (strcmp(t->root_path, "/") == 0)
		return path[0] == '/' ? path + 1 : NULL;
	if (strncmp(path, t->root_path, len) != 0)
		return NULL;
	if (path[len] == '/')
		return path + len + 1;
	return path[len] == '\0' ? path + len : NULL;
}

struct node *
tree_find(struct tree *t, const char *path)
{
	struct node *n = t->root;
	struct dentry *d;
	char name[256];
	size_t len;

	if ((path = tree_relative(t, path)) == NULL)
		return NULL;
	for (; *path != '\0'; path += len) {
		while (*path == '/')
			path++;
		if ((len = strcspn(path, "/")) == 0)
			break;
		if (len >= sizeof name || !S_ISDIR(n->attr.mode))
			return NULL;
		memcpy(name, path, len);
		name[len] = '\0';
		if ((d = tree_lookup(n, name)) == NULL)
			return NULL;
		n = d->node;
	}
	return n;
}

void
node_remember(struct node *n)
{
	n->nlookup++;
}

void
node_forget(struct tree *t, struct node *n, uint64_t count)
{
	n->nlookup -= count < n->nlookup ? count : n->nlookup;
	node_drop(t, n);
}

void
node_hold(struct node *n)
{
	n->opens++;
}

void
node_release(struct tree *t, struct node *n)
{
	n->opens--;
	node_drop(t, n);
}

/* Give a node one more name. */
struct dentry *
dentry_new(struct node *node, struct node *dir, const char *name)
{
	size_t len = strlen(name) + 1;
	struct dentry *d;

	if ((d = malloc(sizeof *d + len)) == NULL)
		return NULL;
	memcpy(d->name, name, len);
	d->node = node;
	d->parent = dir;
	RB_INSERT(dentries, &dir->dir->names, d);
	SLIST_INSERT_HEAD(&node->names, d, by_node);
	dir->dir->count++;
	return d;
}

void
tree_remove(struct tree *t, struct dentry *d)
{
	struct node *n = d->node, *dir = d->parent;

	RB_REMOVE(dentries, &dir->dir->names, d);
	SLIST_REMOVE(&n->names, d, dentry, by_node);
	dir->dir->count--;
	free(d);
	if (SLIST_EMPTY(&n->names))
		node_unlink_index(t, n);
	node_drop(t, n);
}

int
tree_link(struct tree *t, struct node *n, struct node *dir, const char *name)
{
	struct dentry *d;

	if ((d = tree_lookup(dir, name)) != NULL)
		tree_remove(t, d);
	if (dentry_new(n, dir, name) == NULL)
		return -ENOMEM;
	return 0;
}

int
tree_rename(
    struct tree *t, struct dentry *from, struct node *dir, const char *name)
{
	struct dentry *to = tree_lookup(dir, name);
	struct node *n = from->node;

	if (to == from)
		return 0;
	if (to != NULL)
		tree_remove(t, to);
	if (dentry_new(n, dir, name) == NULL)
		return -ENOMEM;
	tree_remove(t, from);
	return 0;
}
