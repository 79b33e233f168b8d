#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "room/room_impl.h"

/*
 * Metadata requests.  One command is out at a time; what is asked meanwhile
 * gathers in the next.  Only when the one that is out takes unusually long
 * may another overtake it.  One that brings much more than was asked for goes
 * beside, alone, so that nobody else waits for that.
 */
#define BATCH_ITEMS    1024
#define BATCH_OVERTAKE 1000 /* ms */
#define BATCH_TRIM     ((size_t)1024 * 1024)
#define BATCH_MAX      ((size_t)256 * 1024 * 1024)

struct batch_item {
	struct script_item script; /* path owned */
	int error;
	struct room_fs fs;
};

struct batch {
	struct job job;
	TAILQ_ENTRY(batch) link; /* in room->out */
	struct room *room;
	struct batch_item items[BATCH_ITEMS];
	size_t count, size; /* bytes of command */
	size_t most; /* so many are best */
	uint64_t epoch, checked;
	unsigned *counted; /* in this number of the room's, if any */
	int error; /* of the transport: nothing was learned */
};

static void batch_run(struct job *);

static void
batch_free(struct job *job)
{
	struct batch *b = (struct batch *)job;
	size_t i;

	for (i = 0; i < b->count; i++)
		free((char *)b->items[i].script.path);
	free(b);
}

static struct batch *
batch_new(struct room *r)
{
	struct batch *b;

	if ((b = calloc(1, sizeof *b)) == NULL)
		return NULL;
	b->room = r;
	b->job.run = batch_run;
	b->job.free = batch_free;
	/* As if the tools were unknown: the longest form. */
	b->size = script_base_size(SCRIPT_TOOLS_UNKNOWN);
	b->most = room_command_max(r);
	if (room_has_toolkit(r))
		b->most += b->size - SCRIPT_LOAD_MAX;
	job_init(r->pool, &b->job);
	return b;
}

/* Does the item answer this?  (One that is listed need not come along.) */
static bool
item_is(const struct batch_item *i, enum script_op op, const char *path)
{
	enum script_op have = i->script.op;

	return (have == op ||
		   (have == SCRIPT_LIST && op == SCRIPT_LIST_ALSO)) &&
	    strcmp(i->script.path, path) == 0;
}

/* Do so many more bytes still fit?  One item always does, if it can at all. */
static bool
batch_has_room(const struct batch *b, size_t more)
{
	if (b->size + more > SCRIPT_MAX)
		return false;
	return b->count == 0 || b->size + more <= b->most;
}

/* Index of the item, which is added if need be; -ENOSPC: the batch is full. */
static int
batch_add(struct batch *b, enum script_op op, const char *path, unsigned bound)
{
	struct script_item item = {op, path, bound};
	size_t i, size;

	for (i = 0; i < b->count; i++)
		if (item_is(&b->items[i], op, path)) {
			if (b->items[i].script.bound < bound)
				b->items[i].script.bound = bound;
			return i;
		}
	size = script_item_size(&item);
	if (b->count == BATCH_ITEMS || !batch_has_room(b, size))
		return -ENOSPC;
	if ((item.path = strdup(path)) == NULL)
		return -ENOMEM;
	b->items[i].script = item;
	b->size += size;
	b->count++;
	return i;
}

/* What else is stale and in use may as well be asked for. */
static void
batch_add_more(struct batch *b)
{
	struct room *r = b->room;
	char *paths[BATCH_ITEMS];
	const char *df = NULL;
	size_t i, n = 0;
	bool full = false;

	/* No hook is called with the lock; others only read what is there. */
	for (i = 0; i < b->count && df == NULL; i++)
		if (b->items[i].script.op == SCRIPT_LIST &&
		    r->hooks.want_statfs(r->hooks.arg, b->items[i].script.path))
			df = b->items[i].script.path;
	if (r->hooks.more != NULL)
		n = r->hooks.more(r->hooks.arg, paths, BATCH_ITEMS - b->count);
	pthread_mutex_lock(&r->lock);
	if (df != NULL)
		batch_add(b, SCRIPT_STATFS, df, 0);
	for (i = 0; i < n; i++) {
		full = full || batch_add(b, SCRIPT_LIST_ALSO, paths[i], 0) < 0;
		free(paths[i]);
	}
	pthread_mutex_unlock(&r->lock);
}

/* What has just changed in the VM was seen there by now. */
static void
batch_note_clock(struct batch *b, const struct listing *l)
{
	int64_t latest = l->self.ctime;
	size_t i;

	for (i = 0; i < l->count; i++)
		if (l->entries[i].attr.ctime > latest)
			latest = l->entries[i].attr.ctime;
	room_note_clock(b->room, latest, b->checked, false);
}

static void
batch_adopt(struct batch *b, struct batch_item *item, struct reply *reply)
{
	struct room_hooks *h = &b->room->hooks;
	size_t i;

	item->error = reply->error;
	switch (item->script.op) {
	case SCRIPT_LIST:
	case SCRIPT_LIST_ALSO:
		for (i = 0; i < reply->nlistings; i++) {
			batch_note_clock(b, &reply->listings[i]);
			h->adopt_listing(
			    h->arg, &reply->listings[i], b->epoch, b->checked);
		}
		if (reply->error == -ENOENT || reply->error == -ENOTDIR)
			h->adopt_stat(h->arg, item->script.path, reply->error,
			    NULL, b->epoch, b->checked);
		break;
	case SCRIPT_STAT:
		h->adopt_stat(h->arg, item->script.path, reply->error,
		    reply->error == 0 ? &reply->entry : NULL, b->epoch,
		    b->checked);
		break;
	case SCRIPT_STATFS:
		item->fs = (struct room_fs){reply->fs[0], reply->fs[1],
		    reply->fs[2], reply->fs[3], reply->fs[4], reply->fs[5],
		    reply->fs[6], reply->namemax};
		if (reply->error == 0)
			h->adopt_statfs(h->arg, item->script.path, &item->fs);
		break;
	default:
		break;
	}
}

/* Compose, send, take apart. */
static int
batch_send(struct batch *b)
{
	struct room *r = b->room;
	struct script_item items[BATCH_ITEMS];
	struct probe probe = {0};
	struct reply *replies = NULL;
	char nonce[17], *command = NULL, *payload = NULL;
	size_t len, payload_len = 0, at = 0, i;
	enum script_tools tools = room_tools(r);
	uint64_t took;
	int error;

	for (i = 0; i < b->count; i++)
		items[i] = b->items[i].script;
	room_nonce(nonce);
	b->epoch = r->hooks.epoch(r->hooks.arg);
	b->checked = room_now();
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		command = script_compose_probe(nonce, items, b->count, &len);
	else
		command = script_compose(tools, nonce, items, b->count, &len);
	if (command == NULL) {
		error = -errno;
		goto out;
	}
	if ((error = room_script(r,
		 &(struct room_command){.kind = API_META,
		     .tools = tools,
		     .nonce = nonce,
		     .text = command,
		     .len = len},
		 BATCH_MAX, &payload, &payload_len)) != 0)
		goto out;
	if (tools == SCRIPT_TOOLS_UNKNOWN) {
		if ((error = probe_parse(payload, payload_len, &probe, &at)) !=
		    0)
			goto out;
		if ((error = room_adopt_probe(r, &probe, b->checked)) != 0)
			goto out;
	}
	error = listing_parse(
	    payload + at, payload_len - at, items, b->count, &replies);
	if (error != 0)
		goto out;
	took = room_now() - b->checked;
	for (i = 0; i < b->count; i++)
		batch_adopt(b, &b->items[i], &replies[i]);
	r->hooks.answered(r->hooks.arg, took);
out:
	if (error == -EPROTO) {
		log_error("the VM's listing makes no sense");
		error = -EIO;
	}
	if (replies != NULL)
		reply_free_all(replies, b->count);
	/* What was kept of it lies behind what was not. */
	if (payload != NULL && payload_len > BATCH_TRIM)
		malloc_trim(0);
	probe_free(&probe);
	free(command);
	free(payload);
	return error;
}

/* Send the batch, which is no longer the caller's then; with the lock held. */
static int
batch_start(struct batch *b, unsigned *count)
{
	struct room *r = b->room;
	int error;

	(*count)++;
	b->counted = count;
	TAILQ_INSERT_TAIL(&r->out, b, link);
	if ((error = job_start(&b->job)) != 0) {
		TAILQ_REMOVE(&r->out, b, link);
		b->counted = NULL;
		(*count)--;
		return error;
	}
	job_put(&b->job);
	return 0;
}

/* Send the gathered batch if it may go; with the lock held. */
static int
room_dispatch(struct room *r)
{
	struct batch *b = r->next;
	int error;

	if (b == NULL || b->count == 0 ||
	    (r->under_way > 0 && room_now() < r->sent + BATCH_OVERTAKE))
		return 0;
	r->next = NULL;
	r->sent = room_now();
	if ((error = batch_start(b, &r->under_way)) != 0)
		r->next = b;
	return error;
}

static void
batch_run(struct job *job)
{
	struct batch *b = (struct batch *)job;
	struct room *r = b->room;
	int tries = 0;

	/* Who wants these must not have to wait for a deep one. */
	if (b->counted == &r->under_way)
		batch_add_more(b);
	do
		/* Of another VM than it was asked of: ask this one. */
		b->error = batch_send(b);
	while (b->error == -ESTALE && ++tries < 3);
	if (b->counted == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	TAILQ_REMOVE(&r->out, b, link);
	(*b->counted)--;
	room_dispatch(r);
	pthread_mutex_unlock(&r->lock);
}

/* Is just this being asked already?  Then its index there; lock held. */
static struct batch *
batch_find(struct room *r, enum script_op op, const char *path, int *index)
{
	struct batch *b;
	size_t i;

	TAILQ_FOREACH (b, &r->out, link)
		for (i = 0; i < b->count; i++)
			if (item_is(&b->items[i], op, path) ||
			    (op == SCRIPT_LIST &&
				item_is(
				    &b->items[i], SCRIPT_LIST_ALSO, path))) {
				*index = i;
				return b;
			}
	return NULL;
}

/* What may come along goes into the batch, too, as far as it fits. */
static void
batch_add_also(struct batch *b, const struct room_also *also)
{
	size_t i;

	if (also->top != NULL)
		batch_add(b, SCRIPT_LIST, also->top, also->bound);
	for (i = 0; i < also->count; i++)
		if (batch_add(b, SCRIPT_LIST_ALSO, also->paths[i], 0) < 0)
			break;
}

/*
 * The first item of a batch of its own, held, that is sent, for much that may
 * come along; NULL: no such batch may go now.  Lock held.
 */
static struct batch *
batch_deep(struct room *r, const char *path, unsigned bound,
    const struct room_also *also)
{
	struct batch *b;

	if ((bound <= ROOM_FEW && also->top == NULL && also->count == 0) ||
	    r->deep > 0 || (b = batch_new(r)) == NULL)
		return NULL;
	job_hold(&b->job);
	if (batch_add(b, SCRIPT_LIST, path, bound) == 0) {
		batch_add_also(b, also);
		if (batch_start(b, &r->deep) == 0)
			return b;
	}
	job_put(&b->job);
	job_put(&b->job);
	return NULL;
}

/* The outcome of item i, once the batch is done. */
static int
batch_wait(struct batch *b, int i, struct wait *wait, struct room_fs *fs)
{
	int error;

	if ((error = job_wait(&b->job, wait)) == 0 && (error = b->error) == 0) {
		error = b->items[i].error;
		if (error == 0 && fs != NULL)
			*fs = b->items[i].fs;
	}
	return error;
}

static int
room_ask(struct room *r, struct wait *wait, enum script_op op, const char *path,
    unsigned bound, const struct room_also *also, struct room_fs *fs)
{
	struct batch *b;
	int error, i, tries = 0;

again:
	pthread_mutex_lock(&r->lock);
	for (;;) {
		if (r->closing) {
			pthread_mutex_unlock(&r->lock);
			return -ECANCELED;
		}
		/* Who needs it newer than that will find out, and ask again. */
		if ((b = batch_find(r, op, path, &i)) != NULL) {
			job_hold(&b->job);
			error = 0;
			goto wait;
		}
		if (also != NULL &&
		    (b = batch_deep(r, path, bound, also)) != NULL) {
			i = 0;
			error = 0;
			goto wait;
		}
		if (bound > ROOM_FEW)
			bound = ROOM_FEW;
		if (r->next == NULL && (r->next = batch_new(r)) == NULL) {
			pthread_mutex_unlock(&r->lock);
			return -ENOMEM;
		}
		b = r->next;
		if ((i = batch_add(b, op, path, bound)) != -ENOSPC)
			break;
		/* Full, or the path alone is longer than a command can be. */
		if (b->count == 0) {
			pthread_mutex_unlock(&r->lock);
			return -ENAMETOOLONG;
		}
		r->sent = 0;
		if ((error = room_dispatch(r)) != 0) {
			pthread_mutex_unlock(&r->lock);
			return error;
		}
	}
	if (i < 0) {
		pthread_mutex_unlock(&r->lock);
		return i;
	}
	job_hold(&b->job);
	error = room_dispatch(r);
wait:
	pthread_mutex_unlock(&r->lock);
	if (error == 0)
		error = batch_wait(b, i, wait, fs);
	job_put(&b->job);
	/* It came along with others, of which one could not be read. */
	if (error == -EAGAIN && tries++ == 0)
		goto again;
	return error;
}

int
room_list(struct room *r, struct wait *wait, const char *path, unsigned bound,
    const struct room_also *also)
{
	return room_ask(r, wait, SCRIPT_LIST, path, bound, also, NULL);
}

int
room_stat(struct room *r, struct wait *wait, const char *path)
{
	return room_ask(r, wait, SCRIPT_STAT, path, 0, NULL, NULL);
}

int
room_statfs(
    struct room *r, struct wait *wait, const char *path, struct room_fs *fs)
{
	return room_ask(r, wait, SCRIPT_STATFS, path, 0, NULL, fs);
}

/* Ask for these directories by commands of our own, all at once if they fit;
 * which of them could not be read together with the others is in again[]. */
static int
revalidate(struct room *r, struct wait *wait, enum script_op op,
    char *const *paths, size_t n, char **again, size_t *nagain)
{
	struct batch *b;
	size_t i = 0, k;
	int error = 0, added;

	*nagain = 0;
	while (i < n && error == 0) {
		if ((b = batch_new(r)) == NULL)
			return -ENOMEM;
		for (; i < n; i++) {
			added = batch_add(b, op, paths[i], 0);
			if (added == -ENOSPC && b->count > 0)
				break;
		}
		if (b->count > 0 && (error = job_start(&b->job)) == 0 &&
		    (error = job_wait(&b->job, wait)) == 0)
			error = b->error;
		for (k = 0; error == 0 && again != NULL && k < b->count; k++)
			if (b->items[k].error == -EAGAIN) {
				again[*nagain] =
				    strdup(b->items[k].script.path);
				if (again[*nagain] != NULL)
					(*nagain)++;
			}
		job_put(&b->job);
	}
	return error;
}

int
room_revalidate(struct room *r, struct wait *wait, char *const *paths, size_t n)
{
	char **again = calloc(n + 1, sizeof *again);
	size_t count, none, i;
	int error;

	if (again == NULL)
		return -ENOMEM;
	error = revalidate(r, wait, SCRIPT_LIST_ALSO, paths, n, again, &count);
	if (error == 0 && count > 0)
		error =
		    revalidate(r, wait, SCRIPT_LIST, again, count, NULL, &none);
	for (i = 0; i < count; i++)
		free(again[i]);
	free(again);
	return error;
}
