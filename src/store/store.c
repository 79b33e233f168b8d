#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "store/recover.h"
#include "store/run.h"
#include "store/store_impl.h"

#define PACK_MAX  ((uint64_t)8 * 1024 * 1024)
#define PACK_BLOB ((uint64_t)256 * 1024) /* larger ones are no trouble */

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

RB_GENERATE(blobs, blob, by_version, blob_compare)

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

/* The cache directory can't be used, from the start. */
static void
store_do_without(struct store *s, const char *dir, int error)
{
	char why[512];

	if (error == -EPERM)
		snprintf(why, sizeof why,
		    "cache directory %s: it must be yours alone (chmod 700, "
		    "or choose another with -o cache_dir=DIR)",
		    dir);
	else
		snprintf(why, sizeof why, "cache directory %s: %s", dir,
		    strerror(-error));
	if (s->dir_fd != -1)
		close(s->dir_fd);
	s->dir_fd = -1;
	place_next(s, why);
}

int
store_open(struct store **out, struct room *room, const char *dir,
    uint64_t limit, const char *label)
{
	struct store *s;
	struct rlimit files;
	char instance[37];
	struct stat st;
	int at = -1, error;

	*out = NULL;
	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	s->dir_fd = s->lock_fd = s->saved_fd = -1;
	s->room = room;
	s->limit = limit;
	/* Half of the descriptors: connections need some, too. */
	s->max_files =
	    getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur / 2 : 256;
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
	run_sweep(dir, at, label);
	error = run_make(dir, &s->dir, &s->dir_fd, &s->lock_fd);
	room_instance(room, instance);
	if (error == 0)
		disk_open(s, dir, instance);
uncached:
	if (at != -1)
		close(at);
	if (error != 0)
		store_do_without(s, dir, error);
	*out = s;
	return 0;
fail:
	if (at != -1)
		close(at);
	store_close(s);
	return error;
}

void
pack_close(struct store *s)
{
	file_put(s->pack);
	s->pack = NULL;
}

static uint64_t
pack_size(const struct store *s)
{
	return s->limit / 16 < PACK_MAX ? s->limit / 16 : PACK_MAX;
}

/* What a blob takes in a pack: spans of whole pages can go without a copy.  0:
 * it is too large for one. */
static uint64_t
pack_share(const struct store *s, uint64_t size)
{
	uint64_t share = (size + 4095) & ~(uint64_t)4095;

	return size > PACK_BLOB || share > pack_size(s) ? 0 : share;
}

bool
store_place(struct store *s, struct blob *b, bool whole)
{
	uint64_t size = b->version.size, share = pack_share(s, size);

	if (b->file != NULL)
		return true;
	if (!whole || share == 0 || !store_make_room(s, b, share))
		return (b->file = file_new(s)) != NULL;
	if (s->pack != NULL && s->pack->end + share > pack_size(s))
		pack_close(s);
	if (s->pack == NULL) {
		if ((s->pack = file_new(s)) == NULL)
			return false;
		s->pack->pack = true;
	}
	b->file = s->pack;
	b->file->refs++;
	b->base = b->file->end;
	b->file->end += share;
	s->used += share;
	return true;
}

/* Forget the stored bytes; readers that have spans keep theirs. */
void
blob_empty(struct blob *b)
{
	if (b->file == NULL || !b->file->pack)
		b->store->used -= intervals_bytes(&b->present);
	intervals_free(&b->present);
	file_put(b->file);
	b->file = NULL;
	b->base = 0;
	b->parts = 0;
}

static void
blob_free(struct blob *b)
{
	RB_REMOVE(blobs, &b->store->blobs, b);
	TAILQ_REMOVE(&b->store->idle, b, lru);
	blob_empty(b);
	if (b->saved && b->store->saved_fd != -1)
		disk_remove(b);
	free(b);
}

void
store_interrupt(struct store *s)
{
	pool_interrupt(s->pool);
}

void
store_clear(struct store *s)
{
	struct blob *b;

	pthread_mutex_lock(&s->lock);
	while ((b = TAILQ_FIRST(&s->idle)) != NULL)
		blob_free(b);
	pack_close(s);
	/* What comes from now on is another instance's. */
	if (s->saved_fd != -1)
		close(s->saved_fd);
	s->saved_fd = -1;
	pthread_mutex_unlock(&s->lock);
}

void
store_close(struct store *s)
{
	if (s == NULL)
		return;
	pool_close(s->pool);
	disk_close(s);
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
		if (b->file == NULL && !b->saved)
			blob_free(b);
	}
	pthread_mutex_unlock(&s->lock);
}

bool
blob_has(struct blob *b, uint64_t size)
{
	bool has;

	pthread_mutex_lock(&b->store->lock);
	if (b->saved)
		disk_load(b);
	has = intervals_cover(&b->present, 0, size);
	pthread_mutex_unlock(&b->store->lock);
	return has;
}

bool
blob_covers(struct blob *b, uint64_t offset, size_t len)
{
	bool has;

	pthread_mutex_lock(&b->store->lock);
	has = intervals_cover(&b->present, offset, offset + len);
	pthread_mutex_unlock(&b->store->lock);
	return has;
}

bool
blob_last(struct blob *b, uint64_t most, uint64_t *offset, size_t *len)
{
	const struct interval *last = NULL;

	pthread_mutex_lock(&b->store->lock);
	if (b->saved)
		disk_load(b);
	if (b->present.count > 0) {
		last = &b->present.v[b->present.count - 1];
		*offset = last->start;
		if (last->end - last->start > most)
			*offset = last->end - most;
		*len = last->end - *offset;
	}
	pthread_mutex_unlock(&b->store->lock);
	return last != NULL;
}

/*
 * Make room for len more bytes of b: the longest unused go first; when only
 * files in use are left, b's own older bytes.  False: it can't be stored.
 */
void
store_shrink(struct store *s)
{
	struct blob *b;

	pthread_mutex_lock(&s->lock);
	while ((b = TAILQ_FIRST(&s->idle)) != NULL)
		blob_free(b);
	RB_FOREACH (b, blobs, &s->blobs)
		if (TAILQ_EMPTY(&b->fetches))
			blob_empty(b);
	pthread_mutex_unlock(&s->lock);
}

bool
store_make_room(struct store *s, struct blob *b, uint64_t len)
{
	struct blob *old;

	while ((s->used + len > s->limit || s->files >= s->max_files) &&
	    (old = TAILQ_FIRST(&s->idle)) != NULL)
		blob_free(old);
	if (s->used + len > s->limit)
		pack_close(s);
	if (s->used + len > s->limit)
		blob_empty(b);
	return s->used + len <= s->limit;
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

void
store_rename(
    struct store *s, const struct validator *old, const struct validator *now)
{
	struct blob was = {.version = *old}, is = {.version = *now}, *b;

	pthread_mutex_lock(&s->lock);
	b = RB_FIND(blobs, &s->blobs, &was);
	/* Who reads the old one goes by its version; on disk it has a name. */
	if (b != NULL && b->refs == 0 && !b->saved &&
	    RB_FIND(blobs, &s->blobs, &is) == NULL) {
		RB_REMOVE(blobs, &s->blobs, b);
		b->version = *now;
		RB_INSERT(blobs, &s->blobs, b);
	}
	pthread_mutex_unlock(&s->lock);
}

bool
store_has(struct store *s, const struct validator *v)
{
	struct blob key = {.version = *v}, *b;
	bool has;

	pthread_mutex_lock(&s->lock);
	b = RB_FIND(blobs, &s->blobs, &key);
	has =
	    b != NULL && (b->saved || intervals_cover(&b->present, 0, v->size));
	pthread_mutex_unlock(&s->lock);
	return has;
}

void
store_put(struct store *s, const struct validator *v, const void *data)
{
	struct blob *b = store_get(s, v);

	if (b == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	if (!b->saved && intervals_bytes(&b->present) == 0 &&
	    store_make_room(s, b, v->size) && store_place(s, b, true)) {
		if (pwrite(b->file->fd, data, v->size, b->base) ==
			(ssize_t)v->size &&
		    intervals_add(&b->present, 0, v->size) == 0)
			s->used += b->file->pack ? 0 : v->size;
		else if (b->file->pack)
			blob_empty(b);
	}
	pthread_mutex_unlock(&s->lock);
	blob_put(b);
}

uint64_t
store_holds(struct store *s, const struct validator *v)
{
	struct blob key = {.version = *v}, *b;
	uint64_t bytes = 0;

	pthread_mutex_lock(&s->lock);
	if ((b = RB_FIND(blobs, &s->blobs, &key)) != NULL)
		bytes = b->saved ? v->size : intervals_bytes(&b->present);
	pthread_mutex_unlock(&s->lock);
	return bytes;
}

void
store_get_usage(struct store *s, uint64_t *used, uint64_t *limit)
{
	pthread_mutex_lock(&s->lock);
	*used = s->used;
	*limit = s->limit;
	pthread_mutex_unlock(&s->lock);
}
