#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/recover.h"
#include "store/store_impl.h"

/* Work files for unsent changes, and how they become cached versions. */

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
		*f = (struct file){
		    .refs = 1, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .store = s};
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

/* Copy an interval from one file, `base` bytes further on there, to another;
 * false: it did not work. */
static bool
copy_interval(int from, uint64_t base, int to, struct interval what)
{
	char buf[65536];
	size_t want;
	ssize_t n;

	for (; what.start < what.end; what.start += n) {
		want = what.end - what.start;
		if (want > sizeof buf)
			want = sizeof buf;
		if ((n = pread(from, buf, want, base + what.start)) <= 0 ||
		    pwrite(to, buf, n, what.start) != n)
			return false;
	}
	return true;
}

/* Contents up to this size are copied for a new version of them. */
#define REBASE_COPY ((uint64_t)1024 * 1024)

/* The first `keep` bytes of a blob. */
static bool
copy_kept(const struct blob *from, struct blob *to, uint64_t keep)
{
	struct interval what = {0, from->version.size};

	if (keep < what.end)
		what.end = keep;
	if (!intervals_cover(&from->present, 0, what.end) ||
	    !store_make_room(to->store, to, what.end) || to->file == NULL ||
	    !copy_interval(from->file->fd, from->base, to->file->fd, what) ||
	    intervals_add(&to->present, 0, what.end) != 0)
		return false;
	to->store->used += what.end;
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
	bool alone, good;

	pthread_mutex_lock(&s->lock);
	if (from == NULL || to == NULL || from == to || to->file != NULL ||
	    !TAILQ_EMPTY(&from->fetches) || !TAILQ_EMPTY(&to->fetches) ||
	    (fd == -1 && changed->count > 0))
		goto out;
	alone = from->file != NULL && from->refs == 1 && from->file->refs == 1;
	/* Somebody still reads the old one: leave it alone.  (What is small
	 * would be fetched whole again, if the mode still allows it.) */
	if (from->file != NULL &&
	    (from->file->pack ||
		(!alone && from->version.size <= REBASE_COPY &&
		    intervals_cover(&from->present, 0, from->version.size)))) {
		good = (to->file = file_new(s)) != NULL &&
		    copy_kept(from, to, keep);
	} else if (alone) {
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
		good = copy_interval(fd, 0, to->file->fd, changed->v[i]) &&
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
