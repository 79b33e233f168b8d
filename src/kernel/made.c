#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bsdtree.h"
#include "base/log.h"
#include "kernel/made.h"

/* More are not kept: those that were made first go when the file is read. */
#define MADE_MAX ((size_t)100000)
/* dev, ino, mtime, SHA-256 of the text, a newline. */
#define MADE_LINE ((size_t)16 * 3 + 3 + 64 + 1)
/* Files of instances that nobody has mounted for so long go. */
#define MADE_AGE_S ((time_t)90 * 24 * 3600)

struct link {
	RB_ENTRY(link) by_key;
	STAILQ_ENTRY(link) unsaved;
	uint64_t dev, ino;
	int64_t mtime; /* of its making: only who sets it changes it */
	char text[65]; /* SHA-256 */
};
RB_HEAD(made_links, link);

struct made {
	pthread_mutex_t file; /* taken first; guards the next five */
	int dir, fd; /* -1: none */
	off_t seen; /* so much of the file is known */
	char name[64]; /* "": not kept */
	bool said; /* that it can't be written */
	pthread_mutex_t lock; /* guards the rest */
	struct made_links links;
	STAILQ_HEAD(, link) unsaved;
	size_t count;
};

static int
link_compare(const struct link *a, const struct link *b)
{
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	if (a->mtime != b->mtime)
		return a->mtime < b->mtime ? -1 : 1;
	return 0;
}

RB_GENERATE_LOCAL(made_links, link, by_key, link_compare)

/* Take a link in; lock held.  NULL: it is known, or can't be kept. */
static struct link *
made_put(struct made *m, struct link *key)
{
	struct link *l;

	if ((l = RB_FIND(made_links, &m->links, key)) != NULL) {
		memcpy(l->text, key->text, sizeof l->text);
		return NULL;
	}
	if (m->count >= MADE_MAX || (l = malloc(sizeof *l)) == NULL)
		return NULL;
	*l = *key;
	if (RB_INSERT(made_links, &m->links, l) != NULL) {
		free(l);
		return NULL;
	}
	m->count++;
	return l;
}

static bool
link_parse(const char *line, struct link *l)
{
	uint64_t mtime;
	size_t i;
	int len = 0;

	if (sscanf(line, "%16" SCNx64 " %16" SCNx64 " %16" SCNx64 " %n",
		&l->dev, &l->ino, &mtime, &len) != 3 ||
	    len == 0 || line[len + 64] != '\n')
		return false;
	l->mtime = (int64_t)mtime;
	memcpy(l->text, line + len, 64);
	l->text[64] = '\0';
	for (i = 0; i < 64; i++)
		if (strchr("0123456789abcdef", l->text[i]) == NULL)
			return false;
	return true;
}

/* Lines are of one length, so that none is ever taken for another. */
static void
made_take(struct made *m, const char *text, size_t len)
{
	char line[MADE_LINE + 1];
	struct link l;

	pthread_mutex_lock(&m->lock);
	for (; len >= MADE_LINE; text += MADE_LINE, len -= MADE_LINE) {
		memcpy(line, text, MADE_LINE);
		line[MADE_LINE] = '\0';
		if (link_parse(line, &l))
			made_put(m, &l);
	}
	pthread_mutex_unlock(&m->lock);
}

/* What is in the file behind what is known; file held. */
static void
made_read(struct made *m)
{
	char buf[MADE_LINE * 256];
	struct stat st;
	ssize_t n;

	if (m->fd == -1 || fstat(m->fd, &st) == -1)
		return;
	if (st.st_size < m->seen)
		m->seen = 0; /* another mount made it shorter */
	while (m->seen < st.st_size &&
	    (n = pread(m->fd, buf, sizeof buf, m->seen)) > 0) {
		n -= n % MADE_LINE;
		if (n == 0)
			break;
		made_take(m, buf, n);
		m->seen += n;
	}
}

/* Leave the later half of a file that has become too long. */
static void
made_shorten(struct made *m)
{
	off_t half = (off_t)(MADE_MAX / 2 * MADE_LINE), at = 0, from;
	char buf[MADE_LINE * 256];
	struct stat st;
	ssize_t n;

	if (flock(m->fd, LOCK_EX) == -1)
		return;
	if (fstat(m->fd, &st) == 0 && st.st_size > 2 * half) {
		from = st.st_size - st.st_size % (off_t)MADE_LINE - half;
		while ((n = pread(m->fd, buf, sizeof buf, from + at)) > 0 &&
		    pwrite(m->fd, buf, n, at) == n)
			at += n;
		if (ftruncate(m->fd, half) == -1)
			log_debug("links: %s", strerror(errno));
	}
	flock(m->fd, LOCK_UN);
}

/* The file, if it is there or is to be made; file held. */
static bool
made_open_file(struct made *m, bool make)
{
	struct stat st;

	if (m->fd != -1 || m->dir == -1 || *m->name == '\0')
		return m->fd != -1;
	m->fd = openat(m->dir, m->name,
	    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (make ? O_CREAT : 0),
	    0600);
	if (m->fd == -1)
		return false;
	if (fstat(m->fd, &st) == -1 || !S_ISREG(st.st_mode) ||
	    st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
		close(m->fd);
		m->fd = -1;
		*m->name = '\0';
		return false;
	}
	m->seen = 0;
	return true;
}

/* Remove the files of instances that are long gone. */
static void
made_sweep(struct made *m)
{
	struct dirent *e;
	struct stat st;
	DIR *dir;
	int fd;

	if ((fd = openat(m->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) ==
	    -1)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, "links-", 6) == 0 &&
		    strcmp(e->d_name, m->name) != 0 &&
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_mtime + MADE_AGE_S < time(NULL))
			unlinkat(fd, e->d_name, 0);
	closedir(dir);
}

/* From now on for this instance; file held. */
static void
made_begin(struct made *m, const char *instance)
{
	*m->name = '\0';
	if (m->dir == -1 || *instance == '\0')
		return;
	snprintf(m->name, sizeof m->name, "links-%s", instance);
	if (!made_open_file(m, false))
		return;
	futimens(m->fd, NULL);
	made_shorten(m);
	made_read(m);
}

static void
made_forget(struct made *m)
{
	struct link *l;

	pthread_mutex_lock(&m->lock);
	STAILQ_INIT(&m->unsaved);
	while ((l = RB_MIN(made_links, &m->links)) != NULL) {
		RB_REMOVE(made_links, &m->links, l);
		free(l);
	}
	m->count = 0;
	pthread_mutex_unlock(&m->lock);
	if (m->fd != -1)
		close(m->fd);
	m->fd = -1;
}

int
made_open(struct made **out, const char *cache_dir, const char *instance)
{
	struct made *m;
	struct stat st;

	if ((m = calloc(1, sizeof *m)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&m->file, NULL);
	pthread_mutex_init(&m->lock, NULL);
	RB_INIT(&m->links);
	STAILQ_INIT(&m->unsaved);
	m->fd = -1;
	m->dir = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->dir != -1 &&
	    (fstat(m->dir, &st) == -1 || st.st_uid != geteuid() ||
		(st.st_mode & 077) != 0)) {
		close(m->dir);
		m->dir = -1;
	}
	made_begin(m, instance);
	if (m->dir != -1)
		made_sweep(m);
	*out = m;
	return 0;
}

void
made_close(struct made *m)
{
	if (m == NULL)
		return;
	made_forget(m);
	if (m->dir != -1)
		close(m->dir);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->file);
	free(m);
}

void
made_replace(struct made *m, const char *instance)
{
	pthread_mutex_lock(&m->file);
	made_forget(m);
	made_begin(m, instance);
	pthread_mutex_unlock(&m->file);
}

static struct link
link_key(const struct attr *a, const char *target)
{
	struct link key = {.dev = a->dev, .ino = a->ino, .mtime = a->mtime};

	if (target != NULL)
		SHA256Data((const u_int8_t *)target, strlen(target), key.text);
	return key;
}

void
made_add(struct made *m, const struct attr *a, const char *target)
{
	struct link key = link_key(a, target), *l;

	pthread_mutex_lock(&m->lock);
	if ((l = made_put(m, &key)) != NULL)
		STAILQ_INSERT_TAIL(&m->unsaved, l, unsaved);
	pthread_mutex_unlock(&m->lock);
}

bool
made_has(struct made *m, const struct attr *a, const char *target)
{
	struct link key = link_key(a, NULL), *l;
	bool has = false;

	pthread_mutex_lock(&m->lock);
	if ((l = RB_FIND(made_links, &m->links, &key)) != NULL) {
		key = link_key(a, target);
		has = strcmp(l->text, key.text) == 0;
	}
	pthread_mutex_unlock(&m->lock);
	return has;
}

/* The next line to be written; its length, 0 at the end. */
static size_t
made_next(struct made *m, char line[MADE_LINE + 1])
{
	struct link *l;

	pthread_mutex_lock(&m->lock);
	if ((l = STAILQ_FIRST(&m->unsaved)) != NULL) {
		STAILQ_REMOVE_HEAD(&m->unsaved, unsaved);
		snprintf(line, MADE_LINE + 1,
		    "%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %s\n", l->dev,
		    l->ino, (uint64_t)l->mtime, l->text);
	}
	pthread_mutex_unlock(&m->lock);
	return l == NULL ? 0 : MADE_LINE;
}

void
made_save(struct made *m)
{
	char line[MADE_LINE + 1];
	struct stat st;
	size_t len;

	pthread_mutex_lock(&m->file);
	while ((len = made_next(m, line)) != 0) {
		if (!made_open_file(m, true))
			continue;
		flock(m->fd, LOCK_EX);
		/* Whatever a full disk has cut off is no line. */
		if (fstat(m->fd, &st) == 0 &&
		    pwrite(m->fd, line, len,
			st.st_size - st.st_size % (off_t)MADE_LINE) !=
			(ssize_t)len &&
		    !m->said) {
			m->said = true;
			log_warn("which links were made here can't be kept in "
				 "the cache: %s",
			    strerror(errno));
		}
		flock(m->fd, LOCK_UN);
	}
	pthread_mutex_unlock(&m->file);
}

void
made_refresh(struct made *m)
{
	pthread_mutex_lock(&m->file);
	made_open_file(m, false);
	made_read(m);
	pthread_mutex_unlock(&m->file);
}
