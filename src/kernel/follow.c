#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/follow.h"
#include "kernel/open_file.h"

/* So many bytes are compared: the last that are here. */
#define FOLLOW_BYTES ((uint64_t)64 * 1024)
/* How often the file may change while they are. */
#define FOLLOW_TRIES 4

/* Both versions of the file. */
struct guess {
	char *path;
	struct attr guess, was, now;
	struct blob *old, *blob; /* held */
};

static void
guess_free(struct guess *g)
{
	blob_put(g->old);
	blob_put(g->blob);
	free(g->path);
}

/* What somebody has read of the file before; tree locked. */
static void
guess_find_read(struct fs *fs, struct guess *g)
{
	struct open_file *h;

	TAILQ_FOREACH (h, &fs->files, link) {
		pthread_mutex_lock(&h->lock);
		if (g->old == NULL && h->blob != NULL &&
		    h->attr.ino == g->was.ino && h->attr.dev == g->was.dev &&
		    h->attr.ctime <= g->was.ctime &&
		    h->attr.size <= g->was.size) {
			g->was = h->attr;
			g->old = h->blob;
			blob_hold(g->old);
		}
		pthread_mutex_unlock(&h->lock);
	}
}

/* 0, -ENOENT: there is nothing to be decided any more, -ENOMEM. */
static int
guess_take(struct fs *fs, uint64_t id, struct guess *g)
{
	struct validator v;
	struct node *n;

	*g = (struct guess){.path = NULL};
	if ((n = tree_get(fs->tree, id)) == NULL || n->stale ||
	    n->guess == NULL)
		return -ENOENT;
	g->guess = g->was = *n->guess;
	g->now = n->attr;
	if ((g->path = tree_path(fs->tree, n, NULL)) == NULL)
		return -errno;
	guess_find_read(fs, g);
	v = attr_validator(&g->was);
	if (g->old == NULL && (g->old = store_get(fs->store, &v)) == NULL)
		return -ENOMEM;
	v = attr_validator(&g->now);
	return (g->blob = store_get(fs->store, &v)) == NULL ? -ENOMEM : 0;
}

/* Copy a span's bytes; false: they can't be read. */
static bool
span_copy(const struct span *s, char *out)
{
	if (s->fd == -1)
		memcpy(out, s->buf, s->len);
	return s->fd == -1 ||
	    pread(s->fd, out, s->len, s->offset) == (ssize_t)s->len;
}

/* Compare; *same is false also when nothing is here to be compared. */
static int
guess_compare(struct wait *w, const struct guess *g, bool *same)
{
	struct span a = {.fd = -1}, b = {.fd = -1};
	char *x = NULL, *y = NULL;
	uint64_t start;
	size_t len;
	int error;

	*same = false;
	if (!blob_last(g->old, FOLLOW_BYTES, &start, &len) ||
	    start + len > g->now.size)
		return 0;
	if ((error = blob_read(g->blob, w, g->path, &g->now, start, len, &b)) !=
	    0)
		return error;
	if (b.len == len && blob_covers(g->old, start, len) &&
	    blob_read(g->old, w, g->path, &g->was, start, len, &a) == 0) {
		if ((x = malloc(len)) == NULL || (y = malloc(len)) == NULL)
			error = -ENOMEM;
		else
			*same = a.len == len && span_copy(&a, x) &&
			    span_copy(&b, y) && memcmp(x, y, len) == 0;
		span_free(&a);
	}
	span_free(&b);
	free(x);
	free(y);
	return error;
}

/* One try: 0 when it is decided, -EAGAIN when it is another version by now. */
static int
follow_once(
    struct fs *fs, struct wait *w, uint64_t id, struct attr *guess, bool *same)
{
	struct guess g;
	int error, looked;

	tree_lock(fs->tree);
	error = guess_take(fs, id, &g);
	tree_unlock(fs->tree);
	if (error == 0)
		error = guess_compare(w, &g, same);
	if ((error == -EAGAIN || error == -ENOENT) && g.path != NULL) {
		looked = room_stat(fs->room, w, g.path);
		error = looked == 0 || looked == -ENOENT ? -EAGAIN : looked;
	}
	*guess = g.guess;
	guess_free(&g);
	return error;
}

int
fs_follow(struct fs *fs, struct wait *w, uint64_t id)
{
	struct node *n;
	struct attr guess;
	bool same = false;
	int error = -EAGAIN, tries;

	for (tries = 0; error == -EAGAIN && tries < FOLLOW_TRIES; tries++)
		error = follow_once(fs, w, id, &guess, &same);
	if (error == -ENOENT)
		return 0; /* others were faster, or it is gone */
	if (error != 0 && error != -EAGAIN)
		return error;
	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, id)) != NULL)
		node_confirm_guess(fs->tree, n, &guess, error == 0 && same);
	tree_unlock(fs->tree);
	return 0;
}
