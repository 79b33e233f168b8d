/*
 * Change tracking: what the commands under way have changed so far.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mime.h"
#include "track.h"
#include "track_impl.h"

#define TRACK_PENDING (64 * 1024) /* bytes of events that want reading */

static int
change_cmp(struct change *a, struct change *b)
{
	return strcmp(a->path, b->path);
}

RB_GENERATE_INTERNAL(
    change_tree, change, link, change_cmp, __attribute__((unused)) static)

/* Note for every command under way that a file came, changed or went. */
void
track_note(struct track *t, struct track_dir *dir, const char *name,
    bool before, bool after, off_t size)
{
	struct track_session *s;
	struct buf path = {0};
	struct change *c, *old;

	if (t->sessions == NULL)
		return;
	buf_puts(&path, t->roots[dir->root].vm);
	track_tree_put_path(&path, dir);
	buf_put(&path, "/", 1);
	buf_puts(&path, name);
	for (s = t->sessions; s != NULL; s = s->next) {
		c = path.failed ? NULL : malloc(sizeof(*c) + path.len + 1);
		if (c == NULL) {
			s->failed = true;
			continue;
		}
		memcpy(c->path, path.data, path.len + 1);
		c->before = before;
		old = RB_INSERT(change_tree, &s->changes, c);
		if (old != NULL) {
			free(c);
			c = old;
		}
		c->after = after;
		c->size = size;
	}
	buf_free(&path);
}

/* Take a snapshot of the room.  0 or -errno. */
int
track_new(const struct track_root *roots, size_t nroots, struct track **out)
{
	struct track *t;
	size_t i;

	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	(void)pthread_mutex_init(&t->lock, NULL);
	t->open_fd = -1;
	t->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	t->walk = t->inotify == -1;
	t->roots = calloc(nroots, sizeof(*t->roots));
	if (t->roots == NULL) {
		track_free(t);
		return -ENOMEM;
	}
	for (i = 0; i < nroots; i++) {
		t->roots[i].fd =
		    open(roots[i].host, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (t->roots[i].fd == -1) {
			int error = -errno;

			track_free(t);
			return error;
		}
		t->nroots++;
		t->roots[i].vm = strdup(roots[i].vm);
		t->roots[i].dir = track_tree_new_dir(NULL, NULL, i);
		if (t->roots[i].vm == NULL || t->roots[i].dir == NULL) {
			track_free(t);
			return -ENOMEM;
		}
	}
	track_tree_walk(t);
	*out = t;
	return 0;
}

void
track_free(struct track *t)
{
	size_t i;

	if (t == NULL)
		return;
	/* Closing inotify first spares a call for each watch. */
	if (t->inotify != -1)
		(void)close(t->inotify);
	t->inotify = -1;
	for (i = 0; i < t->nroots; i++) {
		if (t->roots[i].dir != NULL)
			track_tree_free_dir(t, t->roots[i].dir);
		(void)close(t->roots[i].fd);
		free(t->roots[i].vm);
	}
	track_tree_close_dir(t);
	free(t->roots);
	free(t->by_wd);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

/* A command begins: what changed up to now is not its doing. */
int
track_begin(struct track *t, struct track_session **out)
{
	struct track_session *s;

	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -ENOMEM;
	RB_INIT(&s->changes);
	(void)pthread_mutex_lock(&t->lock);
	track_tree_update(t);
	s->next = t->sessions;
	t->sessions = s;
	(void)pthread_mutex_unlock(&t->lock);
	*out = s;
	return 0;
}

/* Keep the kernel's queue from overflowing while a command runs. */
void
track_relieve(struct track *t)
{
	int pending = 0;

	(void)pthread_mutex_lock(&t->lock);
	if (t->inotify != -1 && !t->walk &&
	    ioctl(t->inotify, FIONREAD, &pending) == 0 &&
	    pending > TRACK_PENDING)
		track_tree_update(t);
	(void)pthread_mutex_unlock(&t->lock);
}

static const char *
mime_of(struct track *t, const char *path)
{
	const char *type = mime_by_name(path);
	char head[MIME_HEAD];
	size_t i, len;
	ssize_t n = 0;
	int fd = -1;

	if (type != NULL)
		return type;
	for (i = 0; i < t->nroots && fd == -1; i++) {
		len = strlen(t->roots[i].vm);
		if (strncmp(path, t->roots[i].vm, len) == 0 && path[len] == '/')
			fd = track_tree_open(
			    t, i, path + len, O_RDONLY | O_NONBLOCK);
	}
	if (fd != -1) {
		n = read(fd, head, sizeof(head));
		(void)close(fd);
	}
	return mime_by_head(head, n > 0 ? (size_t)n : 0);
}

/* A command has ended: what changed since it began.  Frees the session. */
int
track_end(struct track *t, struct track_session *s, struct track_changes *out)
{
	struct track_session **p;
	struct track_change *to;
	struct change *c;
	size_t count = 0;
	int error = 0;

	memset(out, 0, sizeof(*out));
	(void)pthread_mutex_lock(&t->lock);
	track_tree_update(t);
	for (p = &t->sessions; *p != s; p = &(*p)->next)
		continue;
	*p = s->next;
	(void)pthread_mutex_unlock(&t->lock);

	RB_FOREACH (c, change_tree, &s->changes)
		count++;
	out->list = calloc(count + 1, sizeof(*out->list));
	if (out->list == NULL || s->failed)
		error = -ENOMEM;
	while ((c = RB_MIN(change_tree, &s->changes)) != NULL) {
		(void)RB_REMOVE(change_tree, &s->changes, c);
		if (error == 0 && (c->before || c->after)) {
			to = &out->list[out->count];
			to->path = strdup(c->path);
			to->size = c->size;
			to->mime = "";
			to->status = !c->after ? TRACK_DELETED
			    : c->before	       ? TRACK_MODIFIED
					       : TRACK_CREATED;
			if (c->after)
				to->mime = mime_of(t, c->path);
			if (to->path == NULL)
				error = -ENOMEM;
			else
				out->count++;
		}
		free(c);
	}
	free(s);
	if (error != 0)
		track_changes_free(out);
	return error;
}

void
track_changes_free(struct track_changes *c)
{
	size_t i;

	for (i = 0; i < c->count; i++)
		free(c->list[i].path);
	free(c->list);
	memset(c, 0, sizeof(*c));
}
