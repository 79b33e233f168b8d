#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "room/room_impl.h"

/* What compresses to one command is no larger, at best. */
#define WRITE_TRY ((size_t)1024 * 1024)
/* A new file with so much of holes is sent without them. */
#define WRITE_HOLE ((uint64_t)1024 * 1024)
/* Ranges that one command names at most. */
#define WRITE_RANGES 256

/* What the file will be, as far as it has to be sent. */
static uint64_t
write_bytes(const struct room_write *w)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < w->nranges; i++)
		sum += w->ranges[i].end - w->ranges[i].start;
	return sum;
}

/* All that a small write sends, in one buffer; for WHOLE with the zeros. */
static int
write_gather(const struct room_write *w, char *buf, size_t *len)
{
	size_t i, n, at = 0;
	int error;

	if (w->how == ROOM_WHOLE)
		memset(buf, 0, w->size);
	for (i = 0; i < w->nranges; i++) {
		n = w->ranges[i].end - w->ranges[i].start;
		if (w->how == ROOM_WHOLE)
			at = w->ranges[i].start;
		if ((error = w->read(w->arg, w->ranges[i].start, buf + at, n)))
			return error;
		at += n;
	}
	*len = w->how == ROOM_WHOLE ? w->size : at;
	return 0;
}

static void
item_set_attr(struct script_change *item, const struct room_setattr *a)
{
	if (a->set_mode)
		item->mode = a->mode & 07777;
	if (a->set_uid || a->set_gid) {
		item->set_owner = 1;
		item->uid = a->set_uid ? a->uid : UINT32_MAX;
		item->gid = a->set_gid ? a->gid : UINT32_MAX;
	}
	if (a->atime != ROOM_TIME_KEEP || a->mtime != ROOM_TIME_KEEP) {
		item->set_times = 1;
		item->atime = room_time(a->atime);
		item->mtime = room_time(a->mtime);
	}
}

/* The item that brings a new whole file, but for its data. */
static struct script_change
whole_item(
    const struct room_write *w, enum script_change_op op, const char *token)
{
	struct script_change item = {.op = op,
	    .path = w->path,
	    .token = token,
	    .how = w->exclusive ? SCRIPT_EXCLUSIVE : SCRIPT_MAY,
	    .mode = w->is_new ? w->mode & 07777 : UINT32_MAX,
	    .uid = UINT32_MAX,
	    .gid = UINT32_MAX,
	    .atime = SCRIPT_TIME_OMIT,
	    .mtime = SCRIPT_TIME_OMIT,
	    .size = w->size,
	    .lend = w->lend,
	    .space = w->space};

	item_set_attr(&item, &w->attr);
	return item;
}

/*
 * Send items; the outcome of the first is the write's.  When the file is
 * another version than expected and that does not matter, *expect becomes
 * what it is now, with -ESTALE.
 */
static int
write_send(struct room *r, bool repeat, struct script_change *items, size_t n,
    struct attr *expect, struct room_changed *out)
{
	struct script_result results[5] = {0};
	uint64_t checked = room_now();
	size_t i;
	int error;

	error = room_send_changes(r, API_CHANGE, repeat, items, n, results);
	if (error != 0)
		return error;
	*out = (struct room_changed){.checked = checked};
	for (i = 0; i < n; i++) {
		room_take_result(&results[i], false, out);
		if (results[i].error != 0 && error == 0)
			error = results[i].error;
	}
	if (results[0].replaced)
		log_info("%s: written as a new file", items[0].path);
	if (error == 0 && !out->has_self)
		error = -ENOENT; /* somebody removed it in that moment */
	if (error == -ESTALE && out->has_self && S_ISREG(out->self.mode))
		*expect = out->self;
	return error;
}

/* Where ranges go, and how long the file is then. */
static void
ranges_place(const struct room_write *w, const struct attr *now,
    struct script_range *ranges, uint64_t *size)
{
	uint64_t start, shift = 0;
	size_t i;

	if (w->how == ROOM_APPEND)
		shift = now->size - w->ranges[0].start;
	*size = w->set_size ? w->size : now->size;
	for (i = 0; i < w->nranges; i++) {
		start = w->ranges[i].start + shift;
		ranges[i] = (struct script_range){
		    start, w->ranges[i].end - w->ranges[i].start};
		if (!w->set_size && start + ranges[i].len > *size)
			*size = start + ranges[i].len;
	}
}

/* Send the item for ranges until it meets the version that it expects. */
static int
ranges_send(struct room *r, const struct room_write *w,
    struct script_change *items, size_t n, struct room_changed *out)
{
	struct script_range *ranges;
	struct attr expect = {.ino = w->expect.ino,
	    .dev = w->expect.dev,
	    .size = w->expect.size,
	    .mtime = w->expect.mtime,
	    .ctime = w->expect.ctime};
	int error, tries;

	if ((ranges = calloc(w->nranges + 1, sizeof *ranges)) == NULL)
		return -ENOMEM;
	items[0].ranges = ranges;
	items[0].nranges = w->nranges;
	items[0].expect = &expect;
	for (tries = 0;; tries++) {
		ranges_place(w, &expect, ranges, &items[0].size);
		error = write_send(r, w->repeat, items, n, &expect, out);
		if (error != -ESTALE || w->expecting || tries == 4 ||
		    expect.ino != w->expect.ino)
			break;
	}
	free(ranges);
	return error;
}

/* Does it fit into one command?  Ranges are at most 42 bytes each there. */
static bool
write_fits(struct room *r, const struct room_write *w,
    struct script_change *items, size_t n)
{
	struct script_range range = {0, items[0].data_len};
	struct script_change *first = &items[0];
	struct attr none = {0};
	char pad[WRITE_RANGES * 42 + 1];
	bool fit;

	if (w->how != ROOM_RANGES)
		return room_changes_fit(r, items, n);
	/* A path that is so much longer stands for the ranges. */
	memset(pad, 'x', sizeof pad);
	pad[0] = '/';
	pad[w->nranges * 42 + 1] = '\0';
	items[n] = (struct script_change){.op = SCRIPT_UNLINK, .path = pad};
	first->ranges = &range;
	first->nranges = 1;
	first->expect = &none;
	fit = room_changes_fit(r, items, n + 1);
	return fit;
}

/* One command does it; -E2BIG: it does not fit. */
static int
write_small(struct room *r, const struct room_write *w, const char *token,
    struct room_changed *out)
{
	struct script_change items[5] = {0};
	uint64_t bytes = w->how == ROOM_WHOLE ? w->size : write_bytes(w);
	struct attr now;
	size_t len, n = 1;
	char *buf;
	int error;

	if (bytes > WRITE_TRY || w->nranges > WRITE_RANGES)
		return -E2BIG;
	if ((buf = malloc(bytes + 1)) == NULL)
		return -ENOMEM;
	if ((error = write_gather(w, buf, &len)) != 0)
		goto out;
	if (w->how == ROOM_WHOLE)
		items[0] = whole_item(w, SCRIPT_WRITE, token);
	else {
		items[0] = (struct script_change){.path = w->path,
		    .token = token,
		    .op = w->how == ROOM_APPEND ? SCRIPT_APPEND : SCRIPT_RANGES,
		    .lend = w->lend,
		    .size = w->expect.size};
		n += room_attr_items(w->path, &w->attr, items + 1);
	}
	items[0].data = buf;
	items[0].data_len = len;
	if (!write_fits(r, w, items, n))
		error = -E2BIG;
	else if (!cancel_commit(w->cancel))
		error = -ECANCELED;
	else if (w->how == ROOM_RANGES)
		error = ranges_send(r, w, items, n, out);
	else
		error = write_send(r, w->repeat, items, n, &now, out);
out:
	free(buf);
	return error;
}

/* The staged bytes are of no use any more. */
static void
write_abort(struct room *r, const struct room_write *w, const char *token)
{
	struct script_change item = {
	    .op = SCRIPT_ABORT, .path = w->path, .token = token};
	struct script_result result = {0};

	room_send_changes(r, API_CHANGE, false, &item, 1, &result);
}

/* All that is no hole, in few enough parts: those that lie together are one. */
static size_t
write_parts(const struct room_write *w, struct script_range *parts)
{
	size_t step = w->nranges / WRITE_RANGES + 1, i, last, n = 0;

	for (i = 0; i < w->nranges; i += step) {
		last = i + step < w->nranges ? i + step - 1 : w->nranges - 1;
		parts[n++] = (struct script_range){w->ranges[i].start,
		    w->ranges[last].end - w->ranges[i].start};
	}
	return n;
}

static int
write_whole_large(struct room *r, const struct room_write *w, const char *token,
    struct room_changed *out)
{
	uint64_t bytes = write_bytes(w);
	bool sparse = w->size - bytes >= WRITE_HOLE;
	struct script_range parts[WRITE_RANGES];
	struct script_change item;
	struct attr now;
	char sha256[65];
	int error, tries;

	for (tries = 0; tries < 3; tries++) {
		stats_transfer_set(r->stats, w->transfer, 0);
		if ((error = room_stage(r, w, token, sparse, sha256)) != 0)
			break;
		if (!cancel_commit(w->cancel)) {
			error = -ECANCELED;
			break;
		}
		item = whole_item(w, SCRIPT_COMMIT, token);
		item.sha256 = sparse ? NULL : sha256;
		item.staged = !sparse ? SCRIPT_SUMMED
		    : bytes > 0	      ? SCRIPT_CHECKED
				      : SCRIPT_HOLE;
		if (sparse) {
			item.ranges = parts;
			item.nranges = write_parts(w, parts);
		}
		/* -EAGAIN: what is staged is not that, so once more. */
		if ((error = write_send(r, w->repeat, &item, 1, &now, out)) !=
		    -EAGAIN)
			break;
	}
	if (error == -EAGAIN)
		error = -EIO;
	if (error != 0 && error != -EREMOTEIO)
		write_abort(r, w, token);
	return error;
}

/*
 * Ranges that do not fit one command: staged as one file of just these bytes
 * beside the target, then copied over it in the VM, all by one command.
 */
struct stream {
	const struct room_write *write;
};

static int
stream_read(void *arg, uint64_t offset, void *buf, size_t len)
{
	const struct room_write *w = ((struct stream *)arg)->write;
	uint64_t base = 0, size, part;
	char *to = buf;
	size_t i;
	int error;

	for (i = 0; i < w->nranges && len > 0; i++, base += size) {
		size = w->ranges[i].end - w->ranges[i].start;
		if (offset >= base + size)
			continue;
		part = base + size - offset < len ? base + size - offset : len;
		error = w->read(
		    w->arg, w->ranges[i].start + (offset - base), to, part);
		if (error != 0)
			return error;
		to += part;
		offset += part;
		len -= part;
	}
	return 0;
}

static int
write_ranges_large(struct room *r, const struct room_write *w,
    const char *token, struct room_changed *out)
{
	struct stream stream = {w};
	struct interval all = {0, write_bytes(w)};
	struct room_write staged = {.path = w->path,
	    .size = all.end,
	    .ranges = &all,
	    .nranges = 1,
	    .read = stream_read,
	    .arg = &stream,
	    .cancel = w->cancel,
	    .transfer = w->transfer};
	struct script_change items[5] = {0};
	char sha256[65];
	int error;

	if (w->nranges > WRITE_RANGES)
		return -EFBIG;
	error = room_stage(r, &staged, token, false, sha256);
	if (error == 0 && !cancel_commit(w->cancel))
		error = -ECANCELED;
	if (error == 0) {
		items[0] = (struct script_change){.op = SCRIPT_SPREAD,
		    .path = w->path,
		    .token = token,
		    .sha256 = sha256,
		    .lend = w->lend,
		    .data_len = all.end};
		error = ranges_send(r, w, items,
		    1 + room_attr_items(w->path, &w->attr, items + 1), out);
	}
	if (error != 0 && error != -EREMOTEIO)
		write_abort(r, w, token);
	return error == -EAGAIN ? -EIO : error;
}

/*
 * More ranges than one command can name: closing the small gaps between them
 * takes too much for granted, so they go in several commands.
 */
static int
write_in_parts(
    struct room *r, const struct room_write *w, struct room_changed *out)
{
	struct room_write part = *w;
	char token[17];
	size_t i;
	int error = 0;

	for (i = 0; i < w->nranges && error == 0; i += part.nranges) {
		part.ranges = w->ranges + i;
		part.nranges = w->nranges - i < WRITE_RANGES ? w->nranges - i
							     : WRITE_RANGES;
		if (i > 0)
			part.expect = attr_validator(&out->self);
		room_nonce(token);
		error = write_small(r, &part, token, out);
		if (error == -E2BIG)
			error = write_ranges_large(r, &part, token, out);
	}
	return error;
}

int
room_write(struct room *r, const struct room_write *w, struct room_changed *out)
{
	struct room_write job = *w;
	int error;

	job.transfer = stats_transfer_begin(r->stats, true, w->path,
	    w->how == ROOM_WHOLE ? w->size : write_bytes(w));
	if (w->how == ROOM_RANGES && w->nranges > WRITE_RANGES)
		error = write_in_parts(r, &job, out);
	else
		error = write_small(r, &job, w->token, out);
	if (error == -E2BIG)
		error = w->how == ROOM_WHOLE
		    ? write_whole_large(r, &job, w->token, out)
		    : write_ranges_large(r, &job, w->token, out);
	stats_transfer_end(r->stats, job.transfer);
	return error;
}
