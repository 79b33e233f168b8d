/*
 * Change tracking: the snapshot, and what inotify says about it.
 *
 * Every event only names a place to look at again; what is recorded is the
 * difference between the snapshot and what is found there.  So events may be
 * merged, late or repeated, and after a queue overflow one walk over the tree
 * puts everything right.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "track_impl.h"

#define TRACK_EVENTS                                                    \
	(IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVE | \
	    IN_ATTRIB | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK)
#define TRACK_CONTENT (IN_MODIFY | IN_MOVED_TO | IN_CREATE)
#define TRACK_DEPTH   400 /* directories deeper than this are ignored */

static void scan_dir(struct track *, struct track_dir *, int, bool, int);

static int
entry_cmp(struct entry *a, struct entry *b)
{
	return strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(
    entries, entry, link, entry_cmp, __attribute__((unused)) static)

/* The path below its root, with a leading slash; "" for the root itself. */
void
track_tree_put_path(struct buf *b, const struct track_dir *dir)
{
	if (dir->parent == NULL)
		return;
	track_tree_put_path(b, dir->parent);
	buf_put(b, "/", 1);
	buf_puts(b, dir->self->name);
}

static struct entry *
find_entry(struct track_dir *dir, const char *name)
{
	struct entry key = {.name = name};

	return RB_FIND(entries, &dir->entries, &key);
}

static struct entry *
add_entry(struct track_dir *dir, const char *name)
{
	size_t len = strlen(name) + 1;
	struct entry *e;

	e = calloc(1, sizeof(*e) + len);
	if (e == NULL)
		return NULL;
	e->name = memcpy(e + 1, name, len);
	(void)RB_INSERT(entries, &dir->entries, e);
	return e;
}

/* Close the directory that was looked at last. */
void
track_tree_close_dir(struct track *t)
{
	if (t->open_fd >= 0)
		(void)close(t->open_fd);
	t->open_fd = -1;
	t->open_dir = NULL;
}

static void remove_entry(struct track *, struct track_dir *, struct entry *);

/* Forget a directory and all that is below, noting what went. */
void
track_tree_free_dir(struct track *t, struct track_dir *dir)
{
	struct entry *e;

	while ((e = RB_ROOT(&dir->entries)) != NULL)
		remove_entry(t, dir, e);
	if (dir->wd >= 0) {
		t->by_wd[dir->wd] = NULL;
		(void)inotify_rm_watch(t->inotify, dir->wd);
	}
	if (t->open_dir == dir)
		track_tree_close_dir(t);
	free(dir);
}

static void
remove_entry(struct track *t, struct track_dir *dir, struct entry *e)
{
	if (e->dir != NULL)
		track_tree_free_dir(t, e->dir);
	else
		track_note(t, dir, e->name, true, false, 0);
	(void)RB_REMOVE(entries, &dir->entries, e);
	free(e);
}

/* Watch a directory that is open as fd. */
static void
watch_dir(struct track *t, struct track_dir *dir, int fd)
{
	struct track_dir **p;
	char path[32];
	size_t cap;
	int wd;

	if (t->walk)
		return;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/.", fd);
	wd = inotify_add_watch(t->inotify, path, TRACK_EVENTS);
	if (wd == -1) {
		if (errno == ENOSPC || errno == ENOMEM)
			t->walk = true;
		return;
	}
	if ((size_t)wd >= t->by_wd_cap) {
		cap = (size_t)wd * 2 + 64;
		p = reallocarray(t->by_wd, cap, sizeof(*p));
		if (p == NULL) {
			t->walk = true;
			return;
		}
		memset(p + t->by_wd_cap, 0, (cap - t->by_wd_cap) * sizeof(*p));
		t->by_wd = p;
		t->by_wd_cap = cap;
	}
	/*
	 * A directory that was moved before its events were read has its
	 * watch still: that now belongs to the new place.
	 */
	if (t->by_wd[wd] != NULL)
		t->by_wd[wd]->wd = -1;
	t->by_wd[wd] = dir;
	dir->wd = wd;
}

/* A directory that is not known yet; NULL when out of memory. */
struct track_dir *
track_tree_new_dir(struct track_dir *parent, struct entry *self, size_t root)
{
	struct track_dir *dir = calloc(1, sizeof(*dir));

	if (dir == NULL)
		return NULL;
	dir->parent = parent;
	dir->self = self;
	dir->root = root;
	dir->wd = -1;
	RB_INIT(&dir->entries);
	return dir;
}

static bool
same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static void
look_at_file(struct track *t, struct track_dir *dir, struct entry *e,
    const char *name, const struct stat *st, bool content)
{
	bool before = e != NULL;

	if (e == NULL) {
		e = add_entry(dir, name);
		if (e == NULL)
			return;
	} else if (!content && e->ino == st->st_ino && e->size == st->st_size &&
	    same_time(&e->mtime, &st->st_mtim)) {
		e->ctime = st->st_ctim;
		e->seen = t->walk_no;
		return;
	}
	e->ino = st->st_ino;
	e->size = st->st_size;
	e->mtime = st->st_mtim;
	e->ctime = st->st_ctim;
	e->seen = t->walk_no;
	track_note(t, dir, name, before, true, st->st_size);
}

/*
 * Compare one name with the snapshot.  `content` says that its contents were
 * written even if size and times look the same, `rescan` to go into known
 * directories, too.
 */
static void
look_at(struct track *t, struct track_dir *dir, int fd, const char *name,
    bool content, bool rescan, int depth)
{
	struct entry *e = find_entry(dir, name);
	struct stat st;
	int sub;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))) {
		if (e != NULL)
			remove_entry(t, dir, e);
		return;
	}
	if (e != NULL &&
	    ((e->dir != NULL) != S_ISDIR(st.st_mode) ||
		(e->dir != NULL && (e->ino != st.st_ino || e->dir->wd == -1) &&
		    !t->walk))) {
		remove_entry(t, dir, e);
		e = NULL;
	}
	if (S_ISREG(st.st_mode)) {
		/* A walk has no events to tell it of contents. */
		if (rescan && e != NULL && !same_time(&e->ctime, &st.st_ctim))
			content = true;
		look_at_file(t, dir, e, name, &st, content);
		return;
	}
	if (e != NULL && !rescan)
		return;
	if (depth > TRACK_DEPTH)
		return;
	/* The host's mounts below a root file system are not the room's. */
	if (dir->parent == NULL && t->roots[dir->root].vm[0] == '\0' &&
	    (strcmp(name, "proc") == 0 || strcmp(name, "sys") == 0 ||
		strcmp(name, "dev") == 0))
		return;
	sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub == -1)
		return;
	if (e == NULL) {
		e = add_entry(dir, name);
		if (e != NULL)
			e->dir = track_tree_new_dir(dir, e, dir->root);
		if (e == NULL || e->dir == NULL) {
			if (e != NULL) {
				(void)RB_REMOVE(entries, &dir->entries, e);
				free(e);
			}
			(void)close(sub);
			return;
		}
		watch_dir(t, e->dir, sub);
	}
	e->ino = st.st_ino;
	e->seen = t->walk_no;
	scan_dir(t, e->dir, sub, rescan, depth + 1);
}

/* Compare a whole directory with the snapshot; closes fd. */
static void
scan_dir(struct track *t, struct track_dir *dir, int fd, bool rescan, int depth)
{
	struct entry *e, *next;
	struct dirent *de;
	DIR *d;

	d = fdopendir(fd);
	if (d == NULL) {
		(void)close(fd);
		return;
	}
	while ((de = readdir(d)) != NULL) {
		if (strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0)
			continue;
		if (de->d_type != DT_REG && de->d_type != DT_DIR &&
		    de->d_type != DT_UNKNOWN)
			continue;
		look_at(t, dir, dirfd(d), de->d_name, false, rescan, depth);
	}
	if (rescan) {
		RB_FOREACH_SAFE (e, entries, &dir->entries, next) {
			if (e->seen != t->walk_no)
				remove_entry(t, dir, e);
		}
	}
	(void)closedir(d);
}

/* Open a known directory again without leaving the room by a symlink. */
int
track_tree_open(struct track *t, size_t root, const char *path, int flags)
{
	struct open_how how = {
	    .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	while (*path == '/')
		path++;
	return (int)syscall(SYS_openat2, t->roots[root].fd,
	    *path != '\0' ? path : ".", &how, sizeof(how));
}

static int
open_dir(struct track *t, struct track_dir *dir)
{
	struct buf path = {0};
	int fd = -1;

	if (t->open_dir == dir)
		return t->open_fd;
	track_tree_close_dir(t);
	track_tree_put_path(&path, dir);
	if (!path.failed)
		fd = track_tree_open(t, dir->root,
		    path.len > 0 ? path.data : "", O_RDONLY | O_DIRECTORY);
	buf_free(&path);
	if (fd != -1) {
		t->open_dir = dir;
		t->open_fd = fd;
	}
	return fd;
}

/* Compare everything with the snapshot. */
void
track_tree_walk(struct track *t)
{
	size_t i;
	int fd;

	t->walk_no++;
	for (i = 0; i < t->nroots; i++) {
		fd = track_tree_open(t, i, "", O_RDONLY | O_DIRECTORY);
		if (fd == -1)
			continue;
		if (t->roots[i].dir->wd == -1)
			watch_dir(t, t->roots[i].dir, fd);
		scan_dir(t, t->roots[i].dir, fd, true, 0);
	}
}

static void
take_event(struct track *t, const struct inotify_event *ev)
{
	struct track_dir *dir;
	int fd;

	if (ev->wd < 0 || (size_t)ev->wd >= t->by_wd_cap)
		return;
	dir = t->by_wd[ev->wd];
	if (dir == NULL)
		return;
	if (ev->mask & IN_IGNORED) {
		t->by_wd[ev->wd] = NULL;
		dir->wd = -1;
		return;
	}
	if (ev->len == 0)
		return;
	fd = open_dir(t, dir);
	if (fd == -1)
		return; /* moved or gone: the parent's event says so */
	look_at(
	    t, dir, fd, ev->name, (ev->mask & TRACK_CONTENT) != 0, false, 0);
}

/* Bring the snapshot up to now. */
void
track_tree_update(struct track *t)
{
	char space[65536]
	    __attribute__((aligned(__alignof__(struct inotify_event))));
	const struct inotify_event *ev;
	bool overflow = t->walk;
	ssize_t n, i;

	while (t->inotify != -1 &&
	    (n = read(t->inotify, space, sizeof(space))) > 0) {
		for (i = 0; i < n; i += (ssize_t)(sizeof(*ev) + ev->len)) {
			ev = (const struct inotify_event *)(space + i);
			if (ev->mask & IN_Q_OVERFLOW)
				overflow = true;
			else
				take_event(t, ev);
		}
	}
	track_tree_close_dir(t);
	if (overflow)
		track_tree_walk(t);
}
