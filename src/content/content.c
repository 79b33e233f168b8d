#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content/content_impl.h"

int
content_open(struct content **out, struct store *store, const struct attr *base,
    uint64_t node)
{
	struct content *c;

	if ((c = calloc(1, sizeof *c)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	c->store = store;
	c->node = node;
	c->fd = -1;
	c->attr = content_no_attr;
	if (base != NULL) {
		c->base = *base;
		c->size = c->base_size = base->size;
	}
	*out = c;
	return 0;
}

void
content_drop_work(struct content *c)
{
	if (c->fd != -1)
		store_remove_work(c->store, c->fd, c->path);
	c->fd = -1;
	free(c->path);
	c->path = NULL;
	free(c->name);
	c->name = NULL;
	intervals_free(&c->written);
}

void
content_close(struct content *c)
{
	if (c == NULL)
		return;
	content_drop_work(c);
	blob_put(c->kept);
	free(c->hidden);
	intervals_free(&c->dirty);
	intervals_free(&c->sending);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void
content_set_new(struct content *c, uint32_t mode, bool exclusive)
{
	pthread_mutex_lock(&c->lock);
	c->create = c->whole = true;
	c->exclusive = exclusive;
	c->mode = mode;
	c->changes++;
	pthread_mutex_unlock(&c->lock);
}

/* The work file, made when first needed.  Lock held. */
static int
content_work(struct content *c)
{
	if (c->fd != -1)
		return 0;
	return store_new_work(c->store, &c->fd, &c->path);
}

/* These bytes are in the work file, and unsent: both or neither.  Lock held. */
static int
content_note(struct content *c, uint64_t start, uint64_t end)
{
	if (intervals_reserve(&c->written) != 0 ||
	    intervals_reserve(&c->dirty) != 0)
		return -ENOMEM;
	intervals_add(&c->written, start, end);
	intervals_add(&c->dirty, start, end);
	return 0;
}

/*
 * What was cut off and is now within the file again is zeros, and the VM has
 * to be told so as long as it has the old bytes there.  Lock held.
 */
static int
content_zero(struct content *c, uint64_t end)
{
	uint64_t start = c->size;
	int error;

	if (end > c->base.size)
		end = c->base.size;
	if (c->whole || start >= end || c->base.mode == 0)
		return 0;
	if ((error = content_work(c)) != 0)
		return error;
	if (lseek(c->fd, 0, SEEK_END) < (off_t)end &&
	    ftruncate(c->fd, end) == -1)
		return -errno;
	return content_note(c, start, end);
}

/* The bytes changed: a time that was set before is not theirs.  Lock held. */
static void
content_moved(struct content *c)
{
	c->attr.mtime = ROOM_TIME_KEEP;
	c->moved = ++c->changes;
}

int
content_write(struct content *c, const void *data, size_t len,
    uint64_t *offset_p, bool append)
{
	uint64_t offset;
	ssize_t n;
	int error;

	if (len == 0)
		return 0;
	pthread_mutex_lock(&c->lock);
	/* The kernel's idea of the end may be old. */
	if (append)
		*offset_p = c->size;
	offset = *offset_p;
	if ((error = content_work(c)) != 0 ||
	    (error = content_zero(c, offset)) != 0)
		goto out;
	if (c->dirty.count == 0 && c->sending.count == 0)
		c->appended = true;
	/* Appending goes to where the VM's end is by then. */
	c->appended = c->appended && append;
	n = pwrite(c->fd, data, len, offset);
	if (n != (ssize_t)len && (n != -1 || errno == ENOSPC)) {
		store_shrink(c->store);
		n = pwrite(c->fd, data, len, offset);
	}
	if (n != (ssize_t)len) {
		error = n == -1 ? -errno : -ENOSPC;
		goto out;
	}
	if ((error = content_note(c, offset, offset + len)) != 0)
		goto out;
	if (offset + len > c->size)
		c->size = offset + len;
	content_moved(c);
out:
	pthread_mutex_unlock(&c->lock);
	return error;
}

int
content_truncate(struct content *c, uint64_t size)
{
	int error = 0;

	pthread_mutex_lock(&c->lock);
	if (size < c->size) {
		/* What is extended later is zeros, not what was here. */
		if (c->fd != -1 && ftruncate(c->fd, size) == -1) {
			error = -errno;
			goto out;
		}
		intervals_remove(&c->written, size, UINT64_MAX);
		intervals_remove(&c->dirty, size, UINT64_MAX);
		if (size < c->base_size)
			c->base_size = size;
	}
	if (size > c->size && (error = content_zero(c, size)) != 0)
		goto out;
	c->size = size;
	c->resized = true;
	c->appended = false;
	if (size == 0)
		c->whole = true;
	content_moved(c);
out:
	pthread_mutex_unlock(&c->lock);
	return error;
}

bool
content_revert(struct content *c)
{
	bool alone;

	pthread_mutex_lock(&c->lock);
	alone = c->base.mode != 0 && c->written.count == 0 &&
	    c->dirty.count == 0 && c->sending.count == 0;
	if (alone) {
		content_drop_work(c);
		c->size = c->base_size = c->base.size;
		c->whole = c->resized = c->appended = c->has_attr = false;
		c->unsettled = false;
		c->attr = content_no_attr;
		c->sent = c->changes;
	}
	pthread_mutex_unlock(&c->lock);
	return alone;
}

void
content_merge_attr(struct room_setattr *to, const struct room_setattr *from)
{
	if (from->set_mode) {
		to->set_mode = true;
		to->mode = from->mode;
	}
	if (from->set_uid) {
		to->set_uid = true;
		to->uid = from->uid;
	}
	if (from->set_gid) {
		to->set_gid = true;
		to->gid = from->gid;
	}
	if (from->atime != ROOM_TIME_KEEP)
		to->atime = from->atime;
	if (from->mtime != ROOM_TIME_KEEP)
		to->mtime = from->mtime;
}

void
content_setattr(struct content *c, const struct room_setattr *attr)
{
	pthread_mutex_lock(&c->lock);
	content_merge_attr(&c->attr, attr);
	c->has_attr = true;
	c->changes++;
	pthread_mutex_unlock(&c->lock);
}

uint64_t
content_size(struct content *c)
{
	uint64_t size;

	pthread_mutex_lock(&c->lock);
	size = c->size;
	pthread_mutex_unlock(&c->lock);
	return size;
}

uint64_t
content_unsent(struct content *c)
{
	uint64_t bytes;

	pthread_mutex_lock(&c->lock);
	bytes = intervals_bytes(&c->dirty) + intervals_bytes(&c->sending);
	pthread_mutex_unlock(&c->lock);
	return bytes;
}

uint64_t
content_set_counted(struct content *c, uint64_t bytes)
{
	uint64_t before;

	pthread_mutex_lock(&c->lock);
	before = c->counted;
	c->counted = bytes;
	pthread_mutex_unlock(&c->lock);
	return before;
}

bool
content_is_dirty(struct content *c)
{
	bool dirty;

	pthread_mutex_lock(&c->lock);
	dirty = c->changes != c->sent;
	pthread_mutex_unlock(&c->lock);
	return dirty;
}

uint64_t
content_changes(struct content *c)
{
	uint64_t changes;

	pthread_mutex_lock(&c->lock);
	changes = c->changes;
	pthread_mutex_unlock(&c->lock);
	return changes;
}

bool
content_has_sent(struct content *c, uint64_t changes)
{
	bool sent;

	pthread_mutex_lock(&c->lock);
	sent = c->sent >= changes;
	pthread_mutex_unlock(&c->lock);
	return sent;
}

bool
content_is_untried(struct content *c)
{
	bool untried;

	pthread_mutex_lock(&c->lock);
	untried = c->changes != c->sent && c->changes != c->tried;
	pthread_mutex_unlock(&c->lock);
	return untried;
}

bool
content_is_new(struct content *c)
{
	bool create;

	pthread_mutex_lock(&c->lock);
	create = c->base.mode == 0;
	pthread_mutex_unlock(&c->lock);
	return create;
}

bool
content_is_written(struct content *c)
{
	bool written;

	pthread_mutex_lock(&c->lock);
	written = c->dirty.count > 0 || c->size > 0 || c->has_attr;
	pthread_mutex_unlock(&c->lock);
	return written;
}

struct attr
content_base(struct content *c)
{
	struct attr base;

	pthread_mutex_lock(&c->lock);
	base = c->base;
	pthread_mutex_unlock(&c->lock);
	return base;
}

void
content_reset(struct content *c, const struct attr *base)
{
	pthread_mutex_lock(&c->lock);
	if (c->changes == c->sent) {
		content_drop_work(c);
		intervals_free(&c->dirty);
		c->base = *base;
		c->size = c->base_size = base->size;
		c->whole = c->resized = c->appended = false;
	}
	pthread_mutex_unlock(&c->lock);
}

void
content_set_base(struct content *c, const struct attr *base)
{
	pthread_mutex_lock(&c->lock);
	c->base = *base;
	if (c->base_size > base->size)
		c->base_size = base->size;
	pthread_mutex_unlock(&c->lock);
}

/* Bytes that only the base has, into buf. */
static int
content_read_base(struct content *c, struct wait *wait, const char *path,
    const struct attr *base, uint64_t offset, size_t len, char *buf)
{
	struct validator v = attr_validator(base);
	struct blob *blob;
	struct span span;
	size_t done = 0;
	ssize_t n = 0;
	int error;

	if ((blob = store_get(c->store, &v)) == NULL)
		return -ENOMEM;
	error = blob_read(blob, wait, path, base, offset, len, &span);
	blob_put(blob);
	if (error != 0)
		return error;
	if (span.buf != NULL)
		memcpy(buf, span.buf, done = span.len);
	else
		for (; done < span.len; done += n)
			if ((n = pread(span.fd, buf + done, span.len - done,
				 span.offset + done)) <= 0)
				break;
	span_free(&span);
	memset(buf + done, 0, len - done);
	return n == -1 ? -EIO : 0;
}

int
content_read(struct content *c, struct wait *wait, const char *path,
    uint64_t offset, size_t len, struct span *span)
{
	struct interval part;
	struct attr base;
	uint64_t at, end, stop;
	ssize_t n;
	int error = 0;

	*span = (struct span){.fd = -1};
	if ((span->buf = malloc(len + 1)) == NULL)
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	end = offset >= c->size	     ? offset
	    : len < c->size - offset ? offset + len
				     : c->size;
	for (at = offset; at < end && error == 0; at = stop) {
		char *buf = span->buf + (at - offset);

		if (intervals_first(&c->written, at, end, &part) &&
		    part.start == at) {
			stop = part.end;
			n = pread(c->fd, buf, stop - at, at);
			if (n != (ssize_t)(stop - at))
				error = -EIO;
			continue;
		}
		stop = intervals_first(&c->written, at, end, &part) ? part.start
								    : end;
		if (at >= c->base_size) {
			memset(buf, 0, stop - at);
			continue;
		}
		if (stop > c->base_size)
			stop = c->base_size;
		base = c->base;
		pthread_mutex_unlock(&c->lock);
		error =
		    content_read_base(c, wait, path, &base, at, stop - at, buf);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	span->len = end - offset;
	if (error != 0)
		span_free(span);
	return error;
}

const char *
content_work_path(struct content *c)
{
	return c->path == NULL ? "" : c->path;
}

bool
content_keep(struct content *c)
{
	struct validator v;
	struct blob *blob;
	bool all;

	pthread_mutex_lock(&c->lock);
	all = c->base_size == 0 || c->kept != NULL;
	v = attr_validator(&c->base);
	if (!all && (blob = store_get(c->store, &v)) != NULL) {
		if ((all = blob_has(blob, c->base_size)))
			c->kept = blob;
		else
			blob_put(blob);
	}
	pthread_mutex_unlock(&c->lock);
	return all;
}

void
content_set_hidden(struct content *c, char *path)
{
	pthread_mutex_lock(&c->lock);
	free(c->hidden);
	c->hidden = path;
	pthread_mutex_unlock(&c->lock);
}

char *
content_take_hidden(struct content *c)
{
	char *path = c->hidden;

	c->hidden = NULL;
	return path;
}

/* Set once, while the file loses its name: no lock needed to read it. */
const char *
content_hidden(struct content *c)
{
	return c->hidden;
}

const char *
content_name(struct content *c)
{
	return c->name == NULL ? "" : c->name;
}

void
content_set_name(struct content *c, const char *path)
{
	free(c->name);
	c->name = strdup(path);
}
