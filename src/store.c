#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bsdtree.h"

#include "interval.h"
#include "log.h"
#include "recover.h"
#include "store.h"

#define STORE_BLOCK  ((uint64_t)128 * 1024) /* random reads fetch so much */
#define STORE_SMALL  ((uint64_t)1024 * 1024) /* is fetched whole */
#define STORE_PIECE  ((uint64_t)2 * 1024 * 1024) /* one request's share */
#define STORE_WINDOW ((uint64_t)24 * 1024 * 1024) /* read ahead at most */

/* A cache file, open; it outlives its blob's use of it while spans need it. */
struct file {
	unsigned refs; /* under the store's lock */
	int fd;
	struct store *store;
};

struct fetch {
	struct job job;
	TAILQ_ENTRY(fetch) link; /* in blob->fetches, until it is done */
	struct blob *blob;
	char *path;
	struct attr attr;
	uint64_t offset;
	size_t len, got;
	char *buf;
	int error;
	bool stored; /* the bytes are in the blob's file */
};

struct blob {
	RB_ENTRY(blob) by_version;
	TAILQ_ENTRY(blob) lru; /* while refs == 0 */
	struct store *store;
	struct validator version;
	unsigned refs;
	struct file *file; /* NULL: nothing stored */
	struct intervals present; /* of the file */
	TAILQ_HEAD(, fetch) fetches;
	uint64_t next, window; /* of a sequential reader */
};
RB_HEAD(blobs, blob);

struct store {
	pthread_mutex_t lock; /* guards all below, every blob and file */
	struct room *room;
	struct pool *pool;
	char *dir; /* of this mount alone */
	int dir_fd, lock_fd;
	uint64_t limit, used, serial;
	size_t files, max_files; /* descriptors */
	struct blobs blobs;
	TAILQ_HEAD(, blob) idle; /* oldest first */
	bool broken; /* the disk failed: said so once */
};

static int
blob_compare(const struct blob *a, const struct blob *b)
{
	const struct validator *x = &a->version, *y = &b->version;

#define COMPARE(field)            \
	if (x->field != y->field) \
	return x->field < y->field ? -1 : 1
	COMPARE(ino);
	COMPARE(mtime);
	COMPARE(ctime);
	COMPARE(size);
	COMPARE(dev);
#undef COMPARE
	return 0;
}

RB_GENERATE_LOCAL(blobs, blob, by_version, blob_compare)

/* Make a directory and those above it, private to us. */
static int
make_dirs(const char *path)
{
	char *copy, *at;
	int error = 0;

	if ((copy = strdup(path)) == NULL)
		return -ENOMEM;
	for (at = copy + 1; error == 0; at++) {
		at += strcspn(at, "/");
		if (*at == '\0')
			break;
		*at = '\0';
		if (mkdir(copy, 0700) == -1 && errno != EEXIST)
			error = -errno;
		*at = '/';
	}
	if (error == 0 && mkdir(copy, 0700) == -1 && errno != EEXIST)
		error = -errno;
	free(copy);
	return error;
}

static void
remove_run(const char *cache_dir, int at, const char *name)
{
	struct dirent *e;
	int fd;
	DIR *dir;

	if ((fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, "work-", 5) == 0 &&
		    strchr(e->d_name, '.') == NULL)
			recover_work(cache_dir, name, e->d_name);
	rewinddir(dir);
	while ((e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.' &&
		    strncmp(e->d_name, "work-", 5) != 0)
			unlinkat(fd, e->d_name, 0);
	closedir(dir);
	unlinkat(at, name, AT_REMOVEDIR);
}

/* Remove what mounts that ended badly left: nobody holds their locks. */
static void
sweep_runs(const char *cache_dir, int at)
{
	struct dirent *e;
	char path[512];
	DIR *dir;
	int fd;

	if ((fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL) {
		if (strncmp(e->d_name, "run-", 4) != 0)
			continue;
		snprintf(path, sizeof path, "%s/lock", e->d_name);
		if ((fd = openat(at, path, O_RDWR | O_CLOEXEC)) == -1)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			remove_run(cache_dir, at, e->d_name);
		close(fd);
	}
	closedir(dir);
}

int
store_open(
    struct store **out, struct room *room, const char *dir, uint64_t limit)
{
	struct store *s;
	struct rlimit files;
	struct stat st;
	int at = -1, error;

	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	s->dir_fd = s->lock_fd = -1;
	s->room = room;
	s->limit = limit;
	/* Half of the descriptors: connections need some, too. */
	s->max_files = getrlimit(RLIMIT_NOFILE, &files) == 0 ?
	    files.rlim_cur / 2 : 256;
	RB_INIT(&s->blobs);
	TAILQ_INIT(&s->idle);
	pthread_mutex_init(&s->lock, NULL);
	if ((error = pool_open(&s->pool)) != 0)
		goto fail;
	if ((error = make_dirs(dir)) != 0)
		goto uncached;
	if ((at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 ||
	    fstat(at, &st) == -1) {
		error = -errno;
		goto uncached;
	}
	if (st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
		error = -EPERM; /* somebody could put files under our feet */
		goto uncached;
	}
	sweep_runs(dir, at);
	if (asprintf(&s->dir, "%s/run-XXXXXX", dir) == -1) {
		s->dir = NULL;
		error = -ENOMEM;
		goto fail;
	}
	if (mkdtemp(s->dir) == NULL ||
	    (s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) ==
		-1 ||
	    (s->lock_fd = openat(s->dir_fd, "lock",
		 O_RDWR | O_CREAT | O_CLOEXEC, 0600)) == -1 ||
	    flock(s->lock_fd, LOCK_EX | LOCK_NB) == -1)
		error = -errno;
uncached:
	if (at != -1)
		close(at);
	if (error != 0) {
		log_warn("cache directory %s: %s; contents are not cached", dir,
		    strerror(-error));
		s->broken = true;
	}
	*out = s;
	return 0;
fail:
	store_close(s);
	return error;
}

/* With the lock held. */
static void
file_put(struct file *f)
{
	if (f == NULL || --f->refs > 0)
		return;
	close(f->fd);
	f->store->files--;
	free(f);
}

static struct file *
file_new(struct store *s)
{
	struct file *f;
	char name[32];

	if (s->dir_fd == -1 || (f = malloc(sizeof *f)) == NULL)
		return NULL;
	snprintf(name, sizeof name, "%llx", (unsigned long long)s->serial++);
	f->fd = openat(
	    s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f->fd == -1) {
		free(f);
		return NULL;
	}
	/* Nameless: whatever happens to us, nothing stays behind. */
	unlinkat(s->dir_fd, name, 0);
	f->refs = 1;
	f->store = s;
	s->files++;
	return f;
}

/* Forget the stored bytes; readers that have spans keep theirs. */
static void
blob_empty(struct blob *b)
{
	b->store->used -= intervals_bytes(&b->present);
	intervals_free(&b->present);
	file_put(b->file);
	b->file = NULL;
}

static void
blob_free(struct blob *b)
{
	RB_REMOVE(blobs, &b->store->blobs, b);
	TAILQ_REMOVE(&b->store->idle, b, lru);
	blob_empty(b);
	free(b);
}

void
store_clear(struct store *s)
{
	struct blob *b;

	pthread_mutex_lock(&s->lock);
	while ((b = TAILQ_FIRST(&s->idle)) != NULL)
		blob_free(b);
	pthread_mutex_unlock(&s->lock);
}

void
store_close(struct store *s)
{
	if (s == NULL)
		return;
	pool_close(s->pool);
	store_clear(s);
	if (s->dir_fd != -1) {
		unlinkat(s->dir_fd, "lock", 0);
		close(s->dir_fd);
		rmdir(s->dir);
	}
	if (s->lock_fd != -1)
		close(s->lock_fd);
	free(s->dir);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct blob *
store_get(struct store *s, const struct validator *v)
{
	struct blob key = {.version = *v}, *b;

	pthread_mutex_lock(&s->lock);
	if ((b = RB_FIND(blobs, &s->blobs, &key)) != NULL) {
		if (b->refs++ == 0)
			TAILQ_REMOVE(&s->idle, b, lru);
	} else if ((b = calloc(1, sizeof *b)) != NULL) {
		b->store = s;
		b->version = *v;
		b->refs = 1;
		TAILQ_INIT(&b->fetches);
		RB_INSERT(blobs, &s->blobs, b);
	}
	pthread_mutex_unlock(&s->lock);
	return b;
}

void
blob_hold(struct blob *b)
{
	pthread_mutex_lock(&b->store->lock);
	b->refs++;
	pthread_mutex_unlock(&b->store->lock);
}

void
blob_put(struct blob *b)
{
	struct store *s;

	if (b == NULL)
		return;
	s = b->store;
	pthread_mutex_lock(&s->lock);
	if (--b->refs == 0) {
		TAILQ_INSERT_TAIL(&s->idle, b, lru);
		if (b->file == NULL)
			blob_free(b);
	}
	pthread_mutex_unlock(&s->lock);
}

const struct validator *
blob_validator(const struct blob *b)
{
	return &b->version;
}

bool
blob_has(struct blob *b, uint64_t size)
{
	bool has;

	pthread_mutex_lock(&b->store->lock);
	has = intervals_cover(&b->present, 0, size);
	pthread_mutex_unlock(&b->store->lock);
	return has;
}

/*
 * Make room for len more bytes of b: the longest unused go first; when only
 * files in use are left, b's own older bytes.  False: it can't be stored.
 */
static bool
store_make_room(struct store *s, struct blob *b, uint64_t len)
{
	struct blob *old;

	while ((s->used + len > s->limit || s->files >= s->max_files) &&
	    (old = TAILQ_FIRST(&s->idle)) != NULL)
		blob_free(old);
	if (s->used + len > s->limit)
		blob_empty(b);
	return s->used + len <= s->limit;
}

/* Keep fetched bytes in the blob's file; with the lock held. */
static void
fetch_store(struct fetch *f)
{
	struct blob *b = f->blob;
	struct store *s = b->store;
	struct file *file;
	ssize_t n;

	if (f->got == 0 || !store_make_room(s, b, f->got))
		return;
	if (b->file == NULL && (b->file = file_new(s)) == NULL)
		return;
	file = b->file;
	file->refs++;
	s->used += f->got; /* before the lock is dropped: others see it */
	pthread_mutex_unlock(&s->lock);
	n = pwrite(file->fd, f->buf, f->got, f->offset);
	pthread_mutex_lock(&s->lock);
	s->used -= f->got;
	if (n == (ssize_t)f->got && b->file == file) {
		uint64_t before = intervals_bytes(&b->present);

		if (intervals_add(&b->present, f->offset, f->offset + f->got) ==
		    0) {
			s->used += intervals_bytes(&b->present) - before;
			f->stored = true;
		}
	} else if (n != (ssize_t)f->got && !s->broken) {
		s->broken = true;
		log_warn("cache: %s; contents are not cached",
		    n == -1 ? strerror(errno) : "short write");
	}
	file_put(file);
}

static void
fetch_run(struct job *job)
{
	struct fetch *f = (struct fetch *)job;
	struct store *s = f->blob->store;

	f->error = room_read(s->room, NULL, f->path, &f->attr, f->offset,
	    f->len, f->buf, &f->got);
	pthread_mutex_lock(&s->lock);
	if (f->error == 0)
		fetch_store(f);
	TAILQ_REMOVE(&f->blob->fetches, f, link);
	pthread_mutex_unlock(&s->lock);
}

static void
fetch_free(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	blob_put(f->blob);
	free(f->buf);
	free(f->path);
	free(f);
}

/* Begin to fetch an interval, with the lock held; *out is held for the
 * caller, who may not be interested (NULL). */
static int
fetch_start(struct blob *b, const char *path, const struct attr *attr,
    const struct interval *what, struct fetch **out)
{
	struct fetch *f;
	int error;

	if ((f = calloc(1, sizeof *f)) == NULL)
		return -ENOMEM;
	f->len = what->end - what->start;
	f->offset = what->start;
	f->attr = *attr;
	f->path = strdup(path);
	f->buf = malloc(f->len + 1);
	f->blob = b;
	f->job.run = fetch_run;
	f->job.free = fetch_free;
	if (f->path == NULL || f->buf == NULL) {
		free(f->path);
		free(f->buf);
		free(f);
		return -ENOMEM;
	}
	b->refs++;
	TAILQ_INSERT_TAIL(&b->fetches, f, link);
	job_init(b->store->pool, &f->job);
	if ((error = job_start(&f->job)) != 0) {
		TAILQ_REMOVE(&b->fetches, f, link);
		b->refs--; /* the caller has one, too */
		free(f->path);
		free(f->buf);
		free(f);
		return error;
	}
	if (out != NULL)
		*out = f;
	else {
		/* The run can't end meanwhile: it needs our lock. */
		job_put(&f->job);
	}
	return 0;
}

/* The fetch under way that brings this byte. */
static struct fetch *
blob_find_fetch(struct blob *b, uint64_t at)
{
	struct fetch *f;

	TAILQ_FOREACH (f, &b->fetches, link)
		if (f->offset <= at && at < f->offset + f->len)
			return f;
	return NULL;
}

/* How far around a missing byte to fetch. */
static void
blob_plan(struct blob *b, uint64_t offset, uint64_t end, struct interval *out)
{
	uint64_t size = b->version.size;

	if (size <= STORE_SMALL) {
		*out = (struct interval){0, size};
		return;
	}
	out->start = offset / STORE_BLOCK * STORE_BLOCK;
	out->end = (end + STORE_BLOCK - 1) / STORE_BLOCK * STORE_BLOCK;
	if (out->end > size)
		out->end = size;
}

/* Ask for what a sequential reader will want next, unless it is there. */
static void
blob_read_ahead(struct blob *b, const char *path, const struct attr *attr,
    uint64_t offset, uint64_t end)
{
	uint64_t size = b->version.size, at, stop;
	struct interval gap;
	struct fetch *f;

	if (size <= STORE_SMALL)
		return;
	if (offset > b->next + STORE_BLOCK || offset + STORE_PIECE < b->next)
		b->window = 0; /* a seek */
	else if (end > b->next)
		b->window = b->window == 0	   ? 2 * STORE_BLOCK
		    : b->window * 2 > STORE_WINDOW ? STORE_WINDOW
						   : b->window * 2;
	b->next = end;
	if (b->window == 0)
		return;
	stop = end + b->window < size ? end + b->window : size;
	for (at = end; at < stop;) {
		if ((f = blob_find_fetch(b, at)) != NULL) {
			at = f->offset + f->len;
			continue;
		}
		if (!intervals_first_gap(&b->present, at, stop, &gap))
			break;
		at = gap.start / STORE_BLOCK * STORE_BLOCK;
		if ((f = blob_find_fetch(b, gap.start)) != NULL)
			continue;
		gap.start = at;
		/* Whole pieces, or each read would fetch its own sliver. */
		if (gap.end - gap.start > STORE_PIECE)
			gap.end = gap.start + STORE_PIECE;
		else if (gap.end == stop && stop < size &&
		    gap.end - gap.start < STORE_PIECE &&
		    b->window >= STORE_PIECE * 2)
			break;
		if (gap.end < size)
			gap.end = gap.end / STORE_BLOCK * STORE_BLOCK;
		if (gap.end <= gap.start ||
		    fetch_start(b, path, attr, &gap, NULL) != 0)
			break;
		at = gap.end;
	}
}

/* Take the asked bytes out of a fetch that could not be stored. */
static int
span_from_fetch(
    struct span *span, const struct fetch *f, uint64_t offset, size_t len)
{
	if ((span->buf = malloc(len + 1)) == NULL)
		return -ENOMEM;
	memcpy(span->buf, f->buf + (offset - f->offset), len);
	span->len = len;
	return 0;
}

int
blob_read(struct blob *b, struct wait *wait, const char *path,
    const struct attr *attr, uint64_t offset, size_t len, struct span *span)
{
	struct store *s = b->store;
	uint64_t size = b->version.size, end;
	struct interval gap, want;
	struct fetch *f;
	int error;

	*span = (struct span){.fd = -1, .offset = offset};
	if (offset >= size || len == 0)
		return 0;
	end = len < size - offset ? offset + len : size;
	pthread_mutex_lock(&s->lock);
	blob_read_ahead(b, path, attr, offset, end);
	while (intervals_first_gap(&b->present, offset, end, &gap)) {
		if ((f = blob_find_fetch(b, gap.start)) != NULL) {
			job_hold(&f->job);
		} else {
			blob_plan(b, s->broken ? offset : gap.start,
			    s->broken ? end : gap.end, &want);
			if ((error = fetch_start(b, path, attr, &want, &f)))
				goto fail;
		}
		pthread_mutex_unlock(&s->lock);
		error = job_wait(&f->job, wait);
		if (error == 0)
			error = f->error;
		if (error == 0 && f->got < f->len && f->offset + f->got < size)
			error = -EAGAIN; /* it has become shorter */
		if (error == 0 && !f->stored) {
			if (f->offset <= offset && end <= f->offset + f->got) {
				error = span_from_fetch(
				    span, f, offset, end - offset);
				job_put(&f->job);
				return error;
			}
			/* Not kept: have the next one bring it whole. */
			pthread_mutex_lock(&s->lock);
			if (!s->broken) {
				log_warn("cache: no room; contents are "
					 "not cached");
				s->broken = true;
			}
			pthread_mutex_unlock(&s->lock);
		}
		job_put(&f->job);
		if (error != 0)
			return error;
		pthread_mutex_lock(&s->lock);
	}
	span->file = b->file;
	span->file->refs++;
	span->fd = span->file->fd;
	span->len = end - offset;
	pthread_mutex_unlock(&s->lock);
	return 0;
fail:
	pthread_mutex_unlock(&s->lock);
	return error;
}

void
span_free(struct span *span)
{
	if (span->file != NULL) {
		struct store *s = span->file->store;

		pthread_mutex_lock(&s->lock);
		file_put(span->file);
		pthread_mutex_unlock(&s->lock);
	}
	free(span->buf);
	*span = (struct span){.fd = -1};
}

const char *
store_dir(struct store *s)
{
	return s->dir == NULL ? "" : s->dir;
}

int
store_new_work(struct store *s, int *fd, char **path)
{
	uint64_t serial;

	pthread_mutex_lock(&s->lock);
	serial = s->serial++;
	pthread_mutex_unlock(&s->lock);
	if (s->dir_fd == -1) {
		if ((*path = strdup("")) == NULL)
			return -ENOMEM;
		*fd = memfd_create("gentilityfs", MFD_CLOEXEC);
	} else {
		if (asprintf(path, "%s/work-%llx", s->dir,
			(unsigned long long)serial) == -1) {
			*path = NULL;
			return -ENOMEM;
		}
		*fd = open(*path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	}
	if (*fd != -1)
		return 0;
	free(*path);
	*path = NULL;
	return -errno;
}

void
store_remove_work(struct store *s, int fd, const char *path)
{
	(void)s;
	close(fd);
	if (*path != '\0') {
		unlink(path);
		recover_forget(path);
	}
}

void
store_adopt(struct store *s, const struct validator *v, int fd, uint64_t size)
{
	struct blob *b = store_get(s, v);
	struct file *f = NULL;

	if (b == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	if (TAILQ_EMPTY(&b->fetches) && store_make_room(s, b, size) &&
	    (f = malloc(sizeof *f)) != NULL) {
		*f = (struct file){1, fcntl(fd, F_DUPFD_CLOEXEC, 0), s};
		if (f->fd == -1) {
			free(f);
		} else {
			blob_empty(b);
			s->files++;
			b->file = f;
			if (intervals_add(&b->present, 0, size) == 0)
				s->used += size;
		}
	}
	pthread_mutex_unlock(&s->lock);
	blob_put(b);
}

/* Copy an interval from one file to another; false: it did not work. */
static bool
copy_interval(int from, int to, struct interval what)
{
	char buf[65536];
	size_t want;
	ssize_t n;

	for (; what.start < what.end; what.start += n) {
		want = what.end - what.start;
		if (want > sizeof buf)
			want = sizeof buf;
		if ((n = pread(from, buf, want, what.start)) <= 0 ||
		    pwrite(to, buf, n, what.start) != n)
			return false;
	}
	return true;
}

void
store_rebase(struct store *s, const struct validator *old,
    const struct validator *now, uint64_t keep, int fd,
    const struct intervals *changed)
{
	struct blob *from = store_get(s, old), *to = store_get(s, now);
	uint64_t added = intervals_bytes(changed), before;
	size_t i;
	bool good;

	pthread_mutex_lock(&s->lock);
	if (from == NULL || to == NULL || from == to || to->file != NULL ||
	    !TAILQ_EMPTY(&from->fetches) || !TAILQ_EMPTY(&to->fetches) ||
	    fd == -1)
		goto out;
	/* Somebody still reads the old one: leave it alone. */
	if (from->file != NULL && from->refs == 1 && from->file->refs == 1) {
		to->file = from->file;
		to->present = from->present;
		from->file = NULL;
		from->present = (struct intervals){0};
		before = intervals_bytes(&to->present);
		good = intervals_remove(&to->present, keep, UINT64_MAX) == 0;
		s->used -= before - intervals_bytes(&to->present);
	} else {
		good = (to->file = file_new(s)) != NULL;
	}
	good = good && store_make_room(s, to, added) && to->file != NULL;
	for (i = 0; i < changed->count && good; i++) {
		before = intervals_bytes(&to->present);
		good = copy_interval(fd, to->file->fd, changed->v[i]) &&
		    intervals_add(&to->present, changed->v[i].start,
			changed->v[i].end) == 0;
		s->used += intervals_bytes(&to->present) - before;
	}
	if (!good && to->file != NULL)
		blob_empty(to);
out:
	pthread_mutex_unlock(&s->lock);
	blob_put(from);
	blob_put(to);
}
