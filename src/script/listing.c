#include <sys/stat.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/listing.h"
#include "script/script.h"
#include "script/record.h"

/* The deepest level that vm/list.sh ever goes to. */
#define DEPTH_MAX 12

struct records {
	size_t count, size;
	struct record *items;
};

/* Records, sorted, that have the same parent. */
struct group {
	const char *path;
	size_t path_len, first, count;
};

/* The answers being put together. */
struct answers {
	struct cursor c;
	const struct script_item *items;
	struct reply *replies;
	bool *done;
	size_t n;
};

static void
entry_free(struct entry *e)
{
	free(e->name);
	free(e->target);
}

static void
reply_free(struct reply *r)
{
	size_t i, j;

	for (i = 0; i < r->nlistings; i++) {
		for (j = 0; j < r->listings[i].count; j++)
			entry_free(&r->listings[i].entries[j]);
		free(r->listings[i].entries);
		free(r->listings[i].path);
	}
	free(r->listings);
	entry_free(&r->entry);
}

void
reply_free_all(struct reply *replies, size_t n)
{
	size_t i;

	if (replies == NULL)
		return;
	for (i = 0; i < n; i++)
		reply_free(&replies[i]);
	free(replies);
}

static int
compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return r != 0 ? r : (a_len > b_len) - (a_len < b_len);
}

static size_t
parent_len(const struct record *r)
{
	return r->name == 0 ? 0 : r->name - 1;
}

/* By parent, then by name. */
static int
record_compare_path(const void *va, const void *vb)
{
	const struct record *a = va, *b = vb;
	int r;

	r = compare_bytes(a->path, parent_len(a), b->path, parent_len(b));
	if (r == 0)
		r = compare_bytes(a->path + a->name, a->path_len - a->name,
		    b->path + b->name, b->path_len - b->name);
	return r;
}

/* Then as they came. */
static int
record_compare(const void *va, const void *vb)
{
	const struct record *a = va, *b = vb;
	int r = record_compare_path(a, b);

	return r != 0 ? r : (a->order > b->order) - (a->order < b->order);
}

static int
group_compare(const void *va, const void *vb)
{
	const struct group *a = va, *b = vb;

	return compare_bytes(a->path, a->path_len, b->path, b->path_len);
}

static int
entry_set(struct entry *e, const char *name, size_t len, const struct record *r)
{
	e->attr = r->attr;
	e->target = NULL;
	if ((e->name = strndup(name, len)) == NULL)
		return -ENOMEM;
	if (S_ISLNK(r->attr.mode) &&
	    (e->target = strndup(r->target, r->target_len)) == NULL)
		return -ENOMEM;
	return 0;
}

/* Listing l of the records of a group; group NULL: an empty directory. */
static int
listing_fill(
    struct listing *l, const struct record *records, const struct group *g)
{
	size_t i;
	int error;

	l->complete = true;
	if (g == NULL)
		return 0;
	if ((l->entries = calloc(g->count, sizeof(*l->entries))) == NULL)
		return -ENOMEM;
	for (i = g->first; i < g->first + g->count; i++) {
		const struct record *r = &records[i];

		/* Counted first, so that it is freed in any case. */
		l->count++;
		error = entry_set(&l->entries[l->count - 1], r->path + r->name,
		    r->path_len - r->name, r);
		if (error != 0)
			return error;
	}
	return 0;
}

/* Names that a directory printed twice (it changed meanwhile): the last. */
static size_t
records_unique(struct record *r, size_t n)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (i + 1 < n && r[i].path_len == r[i + 1].path_len &&
		    memcmp(r[i].path, r[i + 1].path, r[i].path_len) == 0)
			continue;
		r[kept++] = r[i];
	}
	return kept;
}

static size_t
path_depth(const struct record *r)
{
	size_t i, depth = 1;

	for (i = 0; i < r->path_len; i++)
		depth += r->path[i] == '/';
	return depth;
}

/* Were this directory's entries printed, too? */
static bool
record_listed(const struct record *r, const struct attr *top, uint64_t depth)
{
	return S_ISDIR(r->attr.mode) && !r->shut && r->attr.dev == top->dev &&
	    path_depth(r) < depth;
}

/* Groups of records with the same parent, out of sorted records. */
static struct group *
groups_of(const struct record *r, size_t n, size_t *count)
{
	struct group *groups, key;
	size_t i;

	*count = 0;
	if ((groups = calloc(n + 1, sizeof(*groups))) == NULL)
		return NULL;
	for (i = 0; i < n; i++) {
		key = (struct group){
		    .path = r[i].path, .path_len = parent_len(&r[i])};
		/* The directory at the top is nobody's child. */
		if (r[i].path_len == 0)
			continue;
		if (*count == 0 ||
		    group_compare(&groups[*count - 1], &key) != 0) {
			key.first = i;
			groups[(*count)++] = key;
		}
		groups[*count - 1].count++;
	}
	return groups;
}

static struct group *
group_find(struct group *groups, size_t n, const struct record *r)
{
	struct group key = {.path = r->path, .path_len = r->path_len};

	return n == 0
	    ? NULL
	    : bsearch(&key, groups, n, sizeof(*groups), group_compare);
}

static struct listing *
reply_add_listing(struct reply *reply, const char *top, const struct record *r)
{
	struct listing *l = &reply->listings[reply->nlistings];

	if (strcmp(top, "/") == 0 && r->path_len > 0)
		top = "";
	l->self = r->attr;
	if (asprintf(&l->path, "%s%s%.*s", top, r->path_len > 0 ? "/" : "",
		(int)r->path_len, r->path) == -1) {
		l->path = NULL;
		return NULL;
	}
	reply->nlistings++;
	return l;
}

/*
 * Listings out of the records of one item, of which the first is the
 * directory itself; depth: how far down they go, 1: itself only.
 */
static int
reply_set_listings(
    struct reply *reply, const char *path, struct records *all, uint64_t depth)
{
	struct record *r = all->items + 1;
	size_t n = all->count - 1, ngroups, nlisted = 1, i;
	struct group *groups;
	struct listing *l;
	int error = -ENOMEM;

	qsort(r, n, sizeof(*r), record_compare);
	n = records_unique(r, n);
	if ((groups = groups_of(r, n, &ngroups)) == NULL)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		nlisted += record_listed(&r[i], &all->items[0].attr, depth);
	reply->listings = calloc(nlisted, sizeof(*reply->listings));
	if (reply->listings == NULL)
		goto out;
	/* i is one ahead: the directory itself comes first. */
	for (i = 0; i <= n; i++) {
		if (i > 0 &&
		    !record_listed(&r[i - 1], &all->items[0].attr, depth))
			continue;
		l = reply_add_listing(reply, path, &all->items[i]);
		if (l == NULL)
			goto out;
		error = listing_fill(
		    l, r, group_find(groups, ngroups, &all->items[i]));
		if (error != 0)
			goto out;
		error = -ENOMEM;
	}
	error = 0;
out:
	free(groups);
	return error;
}

/*
 * "#. END\0".  *below: were the directories below read as well?  Returns
 * -EPROTO, or 0 with the errno in *failed.
 */
static int
parse_trailer(struct cursor *c, bool *below, int *failed)
{
	const char *text;
	size_t len;

	if (!cursor_get_text(c, &text, &len) || len < 4 ||
	    memcmp(text, "#. ", 3) != 0)
		return -EPROTO;
	*below = len == 4 && text[3] == '0';
	*failed = 0;
	if (text[3] == 'E')
		*failed = listing_errno(text + 3, len - 3);
	else if (len != 4 || (text[3] != '0' && text[3] != '1'))
		return -EPROTO;
	return 0;
}

/* Take all records off the front. */
static int
parse_records(struct answers *a, char form, struct records *all)
{
	struct cursor part = cursor_records(&a->c, form);
	struct record *p;

	while (cursor_records_left(&part, form)) {
		if (all->count == all->size) {
			all->size = all->size == 0 ? 64 : all->size * 2;
			p = reallocarray(all->items, all->size, sizeof(*p));
			if (p == NULL)
				return -ENOMEM;
			all->items = p;
		}
		p = &all->items[all->count];
		if (record_parse(&part, form, NULL, p) != 0)
			return -EPROTO;
		/* No file system of Linux has such names, and programs here
		 * may not expect any. */
		if (p->path_len - p->name > NAME_MAX)
			continue;
		p->order = all->count++;
	}
	a->c.p = part.p;
	return 0;
}

static int
parse_list(struct answers *a, size_t i, char form, uint64_t depth)
{
	struct reply *reply = &a->replies[i];
	struct records all = {.items = NULL};
	bool below;
	size_t k;
	int error;

	if ((error = parse_records(a, form, &all)) != 0)
		goto out;
	error = -EPROTO;
	for (k = 0; k < all.count; k++)
		if ((all.items[k].path_len == 0) != (k == 0))
			goto out;
	if (parse_trailer(&a->c, &below, &reply->error) != 0 || a->done[i])
		goto out;
	a->done[i] = true;
	error = 0;
	if (reply->error != 0)
		goto out;
	error = -EPROTO;
	if (all.count == 0 || !S_ISDIR(all.items[0].attr.mode))
		goto out;
	error = reply_set_listings(
	    reply, a->items[i].path, &all, below ? depth : 1);
out:
	free(all.items);
	return error;
}

/* One directory's listing out of sorted records of many. */
static int
reply_set_one(struct reply *reply, const char *path, const struct record *r,
    size_t n, struct group *groups, size_t ngroups)
{
	struct record key = {.path = path + 1, .path_len = strlen(path) - 1};
	struct record *self = NULL;
	struct listing *l;
	const char *slash = strrchr(path, '/');

	key.name = slash - path;
	if (n > 0)
		self = bsearch(&key, r, n, sizeof(*r), record_compare_path);
	if (self == NULL)
		reply->error = -ENOENT;
	else if (!S_ISDIR(self->attr.mode))
		reply->error = -ENOTDIR;
	else if (self->shut)
		reply->error = -EACCES;
	if (reply->error != 0)
		return 0;
	if ((reply->listings = calloc(1, sizeof(*reply->listings))) == NULL ||
	    (l = reply_add_listing(reply, "/", self)) == NULL)
		return -ENOMEM;
	return listing_fill(l, r, group_find(groups, ngroups, self));
}

/* Directories i to i + n - 1; which one a record belongs to, its name says. */
static int
parse_many(struct answers *a, size_t i, size_t n, char form)
{
	struct records all = {.items = NULL};
	struct group *groups = NULL;
	size_t ngroups, end = i + n;
	bool complete;
	int error, failed;

	if ((error = parse_records(a, form, &all)) != 0)
		goto out;
	error = -EPROTO;
	if (parse_trailer(&a->c, &complete, &failed) != 0)
		goto out;
	error = -ENOMEM;
	if (all.count > 0)
		qsort(all.items, all.count, sizeof(*all.items), record_compare);
	all.count = records_unique(all.items, all.count);
	if ((groups = groups_of(all.items, all.count, &ngroups)) == NULL)
		goto out;
	for (error = 0; i < end && error == 0; i++) {
		if (a->items[i].op != SCRIPT_LIST_ALSO)
			error = -EPROTO;
		else if (a->done[i])
			continue;
		else if (!complete)
			a->replies[i].error = -EAGAIN;
		else
			error = reply_set_one(&a->replies[i], a->items[i].path,
			    all.items, all.count, groups, ngroups);
		a->done[i] = true;
	}
out:
	free(groups);
	free(all.items);
	return error;
}

/* Records of items i to i + n - 1, in this order; some may be missing. */
static int
parse_stats(struct answers *a, size_t i, size_t n, char form)
{
	struct cursor part = cursor_records(&a->c, form);
	size_t end = i + n, len;
	struct record r;
	const char *name;
	bool below;
	int failed;

	for (; cursor_records_left(&part, form); i++) {
		if ((name = record_peek_name(&part, form)) == NULL)
			return -EPROTO;
		for (; i < end; i++) {
			len = strlen(a->items[i].path);
			/* After it comes a NUL or a double slash. */
			if (a->items[i].op == SCRIPT_STAT &&
			    (size_t)(part.end - name) > len + 1 &&
			    memcmp(name, a->items[i].path, len) == 0 &&
			    (form == 'G'
				    ? name[len] == '\0'
				    : name[len] == '/' && name[len + 1] == '/'))
				break;
		}
		if (i == end ||
		    record_parse(&part, form, a->items[i].path, &r) != 0)
			return -EPROTO;
		/* It may have come into being after it was found missing. */
		if (a->done[i])
			continue;
		a->done[i] = true;
		name = strrchr(a->items[i].path, '/');
		name = name == NULL ? a->items[i].path : name + 1;
		if (entry_set(&a->replies[i].entry, name, strlen(name), &r) !=
		    0)
			return -ENOMEM;
		a->replies[i].found = true;
	}
	a->c.p = part.p;
	return parse_trailer(&a->c, &below, &failed);
}

/* "BSIZE FRSIZE BLOCKS BFREE BAVAIL FILES FFREE NAMEMAX\n\0" */
static int
parse_statfs(struct answers *a, size_t i)
{
	uint64_t namemax;
	int k;

	for (k = 0; k < 7; k++)
		if (!cursor_get_number(
			&a->c, UINT64_MAX, &a->replies[i].fs[k]) ||
		    !cursor_get_char(&a->c, ' '))
			return -EPROTO;
	if (!cursor_get_number(&a->c, UINT32_MAX, &namemax) ||
	    !cursor_get_char(&a->c, '\n') || !cursor_get_char(&a->c, '\0') ||
	    a->done[i] || a->items[i].op != SCRIPT_STATFS)
		return -EPROTO;
	a->replies[i].namemax = namemax;
	a->done[i] = true;
	return 0;
}

/* One part of the payload; the forms stand in vm/list.sh. */
static int
parse_part(struct answers *a)
{
	struct cursor h;
	const char *text;
	uint64_t i, n;
	size_t len;
	char form;

	if (!cursor_get_text(&a->c, &text, &len))
		return -EPROTO;
	h = (struct cursor){text, text + len};
	if (!cursor_get_char(&h, '#') || !cursor_get_number(&h, a->n - 1, &i) ||
	    !cursor_get_char(&h, ' '))
		return -EPROTO;
	if (h.end - h.p < 2 || memcmp(h.p, "OK", 2) != 0) {
		if (a->done[i])
			return -EPROTO;
		a->done[i] = true;
		a->replies[i].error = listing_errno(h.p, h.end - h.p);
		return 0;
	}
	h.p += 2;
	if (h.p == h.end)
		return parse_statfs(a, i);
	if (!cursor_get_char(&h, ' ') || h.p == h.end)
		return -EPROTO;
	form = *h.p++;
	if (!cursor_get_char(&h, ' ') ||
	    !cursor_get_number(&h, a->n > DEPTH_MAX ? a->n : DEPTH_MAX, &n) ||
	    h.p != h.end || n == 0)
		return -EPROTO;
	if (a->items[i].op == SCRIPT_LIST)
		return parse_list(a, i, form, n);
	if (n > a->n - i)
		return -EPROTO;
	if (a->items[i].op == SCRIPT_LIST_ALSO)
		return parse_many(a, i, n, form);
	return parse_stats(a, i, n, form);
}

int
listing_parse(const char *payload, size_t len, const struct script_item *items,
    size_t nitems, struct reply **out)
{
	struct answers a = {
	    .c = {payload, payload + len}, .items = items, .n = nitems};
	size_t i;
	int error = -ENOMEM;

	*out = NULL;
	if ((a.replies = calloc(nitems + 1, sizeof(*a.replies))) == NULL ||
	    (a.done = calloc(nitems + 1, sizeof(*a.done))) == NULL)
		goto out;
	error = nitems == 0 && len > 0 ? -EPROTO : 0;
	while (error == 0 && a.c.p < a.c.end)
		error = parse_part(&a);
	for (i = 0; error == 0 && i < nitems; i++) {
		if (a.done[i])
			continue;
		/* It was there, but not when stat came to it. */
		if (items[i].op == SCRIPT_STAT)
			a.replies[i].error = -ENOENT;
		else
			error = -EPROTO;
	}
	if (error == 0) {
		*out = a.replies;
		a.replies = NULL;
	}
out:
	reply_free_all(a.replies, nitems);
	free(a.done);
	return error;
}
