#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "content/content_impl.h"

/* Larger holes are not kept as contents. */
#define CONTENT_HOLE ((uint64_t)16 * 1024 * 1024)

/* What of a file's changes is to be sent, and what becomes of it. */

static int
content_read_work(void *arg, uint64_t offset, void *buf, size_t len)
{
	struct content *c = arg;
	ssize_t n;
	int error = 0;

	pthread_mutex_lock(&c->lock);
	n = pread(c->fd, buf, len, offset);
	if (n == -1)
		error = -errno;
	else /* truncated meanwhile: the next sending says so */
		memset((char *)buf + n, 0, len - n);
	pthread_mutex_unlock(&c->lock);
	return error;
}

/*
 * What could not be sent is unsent again, as far as it is in the file still.
 * Short of memory, the rest of it stays where it is until the next time.  Lock
 * held.
 */
static int
content_take_back(struct content *c)
{
	struct intervals *s = &c->sending;
	uint64_t end;

	for (; s->count > 0; s->count--) {
		end = s->v[s->count - 1].end;
		if (intervals_add(&c->dirty, s->v[s->count - 1].start,
			end < c->size ? end : c->size) != 0)
			return -ENOMEM;
		s->bytes -= end - s->v[s->count - 1].start;
	}
	intervals_free(s);
	return 0;
}

/* Take what is to be sent from what is dirty.  Lock held. */
static int
content_take(struct content *c, struct room_write *w)
{
	const struct interval then = c->appended_then;

	if (c->unsettled && w->how == ROOM_APPEND && then.end > then.start) {
		/* Just that first, or it would stand there twice. */
		if (intervals_reserve(&c->sending) != 0 ||
		    intervals_reserve(&c->dirty) != 0)
			return -ENOMEM;
		w->repeat = true;
		w->changes = c->token_changes;
		intervals_add(&c->sending, then.start, then.end);
		intervals_remove(&c->dirty, then.start, then.end);
		return 0;
	}
	w->repeat = c->unsettled && c->changes == c->token_changes;
	/* It may be ours by now, with other bytes. */
	if (c->unsettled && !w->repeat)
		w->exclusive = false;
	c->sending = c->dirty;
	c->dirty = (struct intervals){0};
	return 0;
}

int
content_begin_send(struct content *c, struct room_write *w)
{
	int error;

	pthread_mutex_lock(&c->lock);
	*w = (struct room_write){
	    .is_new = c->create,
	    .exclusive = c->exclusive,
	    .mode = c->mode,
	    .expecting = !c->whole && !c->appended,
	    .expect = attr_validator(&c->base),
	    .set_size = c->resized || c->whole,
	    .size = c->size,
	    .space = c->base.blocks * 512,
	    /* What has come there instead of a new file is not ours. */
	    .lend = c->create && !c->unsettled ? 0 : 0600,
	    .read = content_read_work,
	    .arg = c,
	    .attr = c->attr,
	    .changes = c->changes,
	};
	if ((error = content_take_back(c)) != 0)
		goto out;
	w->how = c->whole					? ROOM_WHOLE
	    : c->appended && !c->resized && c->dirty.count == 1 ? ROOM_APPEND
								: ROOM_RANGES;
	if ((error = content_take(c, w)) != 0)
		goto out;
	if (!w->repeat)
		room_nonce(c->token);
	w->token = c->token;
	w->ranges = c->sending.v;
	w->nranges = c->sending.count;
	c->attr = content_no_attr;
	c->has_attr = c->whole = c->resized = false;
out:
	pthread_mutex_unlock(&c->lock);
	return error;
}

/* May it have arrived all the same?  (The VM's own errors are certain.) */
static bool
error_is_unsettled(int error)
{
	return error == -EREMOTEIO || error == -ETIMEDOUT || error == -EIO ||
	    error == -ECANCELED;
}

/* It did not arrive: what was taken is to be sent again. */
static void
content_unsend(struct content *c, const struct room_write *w)
{
	struct room_setattr attr = w->attr;

	c->whole = c->whole || w->how == ROOM_WHOLE;
	c->resized = c->resized || (w->set_size && w->how != ROOM_WHOLE);
	c->appended = c->appended && w->how == ROOM_APPEND;
	if (c->moved > w->changes)
		attr.mtime = ROOM_TIME_KEEP;
	content_merge_attr(&attr, &c->attr);
	c->attr = attr;
	c->has_attr = true;
	content_take_back(c);
}

bool
content_end_send(struct content *c, struct room_write *w, int error,
    const struct room_changed *now)
{
	struct validator old, fresh;
	bool more;

	pthread_mutex_lock(&c->lock);
	c->unsettled = error_is_unsettled(error);
	c->token_changes = c->tried = w->changes;
	c->appended_then = w->how == ROOM_APPEND && w->nranges == 1
	    ? w->ranges[0]
	    : (struct interval){0, 0};
	if (error != 0) {
		content_unsend(c, w);
		pthread_mutex_unlock(&c->lock);
		return true;
	}
	more = c->changes != w->changes;
	c->sent = w->changes;
	c->create = c->exclusive = false;
	old = attr_validator(&c->base);
	fresh = attr_validator(&now->self);
	/* What we have is the new version's bytes: they need not come back. */
	if (!more && now->self.size == c->size) {
		if (w->how == ROOM_WHOLE) {
			/* Nobody shall make room in the cache for a hole. */
			if (c->fd != -1 &&
			    c->size - intervals_bytes(&c->written) <=
				CONTENT_HOLE &&
			    ftruncate(c->fd, c->size) == 0)
				store_adopt(c->store, &fresh, c->fd, c->size);
		} else if (w->expecting || w->how == ROOM_APPEND)
			store_rebase(c->store, &old, &fresh, c->base_size,
			    c->fd, &c->sending);
	}
	c->base = now->self;
	if (!more) {
		c->base_size = c->size = now->self.size;
		content_drop_work(c);
	} else if (c->whole) {
		c->base_size = 0; /* emptied again meanwhile */
	} else if (c->base_size > now->self.size || w->how == ROOM_WHOLE) {
		/* Written bytes are over the new base as over the old. */
		c->base_size =
		    now->self.size < c->size ? now->self.size : c->size;
	}
	intervals_free(&c->sending);
	pthread_mutex_unlock(&c->lock);
	return more;
}
