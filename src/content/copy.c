#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content/content_impl.h"

/* A content's bytes into a file of their own: holes stay holes. */

#define COPY_STEP ((size_t)1024 * 1024)

static bool
is_zero(const char *buf, size_t len)
{
	return len == 0 || (buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0);
}

/* The bytes of an interval, but for holes.  0 or -errno. */
static int
copy_interval(int from, int to, const struct interval *what, char *buf)
{
	off_t at = (off_t)what->start, end = (off_t)what->end, stop;
	size_t len;
	ssize_t n;

	for (; at < end; at = stop) {
		stop = lseek(from, at, SEEK_DATA);
		if (stop == -1 && errno == ENXIO)
			return 0;
		if (stop != -1)
			at = stop;
		if ((stop = lseek(from, at, SEEK_HOLE)) == -1 || stop > end)
			stop = end;
		for (; at < stop; at += n) {
			len = (size_t)(stop - at);
			n = pread(
			    from, buf, len < COPY_STEP ? len : COPY_STEP, at);
			if (n <= 0)
				return -EIO;
			if (is_zero(buf, (size_t)n))
				continue;
			if (pwrite(to, buf, (size_t)n, at) != n)
				return -ENOSPC;
		}
	}
	return 0;
}

/* What still shows of the base between what was written. */
static int
copy_base(struct content *c, const char *path, const struct intervals *written,
    uint64_t end, int to, bool *missing)
{
	struct interval gap;
	struct span span;
	uint64_t at = 0;
	size_t len;
	int error = 0;

	for (; error == 0 && intervals_first_gap(written, at, end, &gap);
	     at = gap.start + span.len) {
		len = gap.end - gap.start < COPY_STEP ? gap.end - gap.start
						      : COPY_STEP;
		if (content_read(c, NULL, path, gap.start, len, &span) != 0 ||
		    span.len == 0) {
			*missing = true;
			break;
		}
		if (!is_zero(span.buf, span.len) &&
		    pwrite(to, span.buf, span.len, (off_t)gap.start) !=
			(ssize_t)span.len)
			error = -ENOSPC;
		free(span.buf);
	}
	return error;
}

int
content_copy(struct content *c, const char *path, int to, bool *missing)
{
	struct intervals written = {0};
	uint64_t size, base_size;
	char *buf = NULL;
	int from = -1, error = 0;
	size_t i;

	*missing = false;
	/* Copying takes its time: not under the lock. */
	pthread_mutex_lock(&c->lock);
	size = c->size;
	base_size = c->base_size;
	for (i = 0; i < c->written.count && error == 0; i++)
		error = intervals_add(
		    &written, c->written.v[i].start, c->written.v[i].end);
	if (error == 0 && c->fd != -1 &&
	    (from = fcntl(c->fd, F_DUPFD_CLOEXEC, 0)) == -1)
		error = -errno;
	pthread_mutex_unlock(&c->lock);
	if (error != 0)
		goto out;
	if ((buf = malloc(COPY_STEP)) == NULL)
		error = -ENOMEM;
	else if (ftruncate(to, (off_t)size) == -1)
		error = -errno;
	for (i = 0; i < written.count && error == 0; i++)
		error = copy_interval(from, to, &written.v[i], buf);
	if (error == 0)
		error = copy_base(c, path, &written,
		    base_size < size ? base_size : size, to, missing);
out:
	if (from != -1)
		close(from);
	intervals_free(&written);
	free(buf);
	return error;
}

char *
content_whole_work(struct content *c)
{
	char *path = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->fd != -1 && *c->path != '\0' && c->base_size == 0 &&
	    ftruncate(c->fd, (off_t)c->size) == 0)
		path = strdup(c->path);
	pthread_mutex_unlock(&c->lock);
	return path;
}
