#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "room/room_impl.h"

/* Attributes are up to three changes of the VM's. */
#define CHANGE_ITEMS 8
/* One command removes the evidence of so many earlier ones. */
#define FORGET_MAX 4

/* Does the VM keep evidence of this change, for a repeat (vm/evidence.sh)? */
static bool
leaves_evidence(const struct script_change *c)
{
	switch (c->op) {
	case SCRIPT_CREATE:
	case SCRIPT_WRITE:
	case SCRIPT_COMMIT:
		return c->how == SCRIPT_EXCLUSIVE || c->staged != SCRIPT_SUMMED;
	case SCRIPT_RANGES:
	case SCRIPT_SPREAD:
	case SCRIPT_APPEND:
		return true;
	default:
		return false;
	}
}

/* They have been answered: the evidence is not needed any more. */
static void
forget_later(struct room *r, const struct script_change *items, size_t n)
{
	size_t i;

	pthread_mutex_lock(&r->lock);
	for (i = 0; i < n; i++)
		if (leaves_evidence(&items[i]) &&
		    r->nforget < sizeof r->forget / sizeof *r->forget)
			strcpy(r->forget[r->nforget++], items[i].token);
	pthread_mutex_unlock(&r->lock);
}

/* Have the command remove some evidence; the tokens are kept in `tokens`. */
static void
forget_now(
    struct room *r, struct script_change *items, size_t n, char (*tokens)[17])
{
	size_t i;

	pthread_mutex_lock(&r->lock);
	for (i = 0; i < n && i < FORGET_MAX && r->nforget > 0; i++) {
		memcpy(tokens[i], r->forget[--r->nforget], sizeof tokens[i]);
		items[i].forget = tokens[i];
	}
	pthread_mutex_unlock(&r->lock);
}

/*
 * Does a change that was made give something of this time?  What is new has it
 * for sure; some file systems keep a change's time of what was there.
 */
static bool
gives_time(const struct script_change *c)
{
	return c->op == SCRIPT_MKDIR || c->op == SCRIPT_SYMLINK ||
	    c->op == SCRIPT_MKNOD || c->op == SCRIPT_CREATE ||
	    c->op == SCRIPT_WRITE || c->op == SCRIPT_COMMIT;
}

/* What time it was there.  first: what was made was made by this command. */
static void
note_clock(struct room *r, const struct script_change *items, size_t n,
    const struct script_result *results, uint64_t began, bool first)
{
	int64_t latest = INT64_MIN;
	bool within = false;
	size_t i;
	int k;

	for (i = 0; i < n; i++) {
		for (k = 0; k < 4; k++)
			if (results[i].found & (1u << k) &&
			    results[i].attr[k].ctime > latest)
				latest = results[i].attr[k].ctime;
		within = within ||
		    (first && results[i].error == 0 && gives_time(&items[i]));
	}
	room_note_clock(r, latest, began, within);
}

/*
 * Send changes as one command, and again (saying so) when nobody knows
 * whether the first ran.
 */
static int
send_changes(struct room *r, enum api_kind kind, bool repeat,
    struct script_change *items, size_t n, const struct cancel *cancel,
    struct script_result *results)
{
	enum script_tools tools = room_tools(r);
	struct room_command command;
	struct api_answer a = {0};
	char nonce[17], *first = NULL, *again = NULL, *payload = NULL;
	char tokens[FORGET_MAX][17];
	size_t first_len, again_len, payload_len, i;
	uint64_t began;
	int error = 0, tries;

	if (tools == SCRIPT_TOOLS_UNKNOWN)
		return -ESTALE; /* it was meant for another VM */
	room_nonce(nonce);
	if (kind == API_CHANGE)
		forget_now(r, items, n, tokens);
	for (i = 0; i < n; i++)
		items[i].again = repeat;
	if ((first = script_compose_changes(
		 tools, nonce, items, n, &first_len)) == NULL)
		error = -errno;
	for (i = 0; i < n; i++)
		items[i].again = 1;
	if (error == 0 &&
	    (again = script_compose_changes(
		 tools, nonce, items, n, &again_len)) == NULL)
		error = -errno;
	if (error != 0)
		goto out;
	command = (struct room_command){
	    kind, tools, nonce, first, first_len, again, again_len, cancel};
	for (tries = 0;; tries++) {
		began = room_now();
		if (tries > 0) {
			command.text = again;
			command.len = again_len;
		}
		if ((error = room_command(r, &command, &a)) != 0)
			break;
		error = script_unwrap(a.output, a.len, nonce, 1024 * 1024,
		    &payload, &payload_len);
		if (error == 0)
			error = script_parse_changes(
			    payload, payload_len, items, n, results);
		if (error == 0) {
			note_clock(
			    r, items, n, results, began, tries == 0 && !repeat);
			forget_later(r, items, n);
		}
		if ((error != -EPROTO && error != -EAGAIN) || tries == 2)
			break;
		room_doubt_toolkit(r);
		free(payload);
		payload = NULL;
		api_answer_free(&a);
	}
	if (error == -EPROTO || error == -EAGAIN) {
		log_error("the VM's answer to a change makes no sense");
		error = -EREMOTEIO;
	} else if (error != 0 && a.detail[0] != '\0' && error != -ECANCELED)
		log_warn("%s", a.detail);
out:
	for (i = 0; i < n; i++)
		items[i].forget = NULL;
	api_answer_free(&a);
	free(first);
	free(again);
	free(payload);
	return room_errno(error);
}

int
room_send_changes(struct room *r, enum api_kind kind, bool repeat,
    struct script_change *items, size_t n, struct script_result *results)
{
	return send_changes(r, kind, repeat, items, n, NULL, results);
}

int
room_send_piece(struct room *r, const struct cancel *cancel,
    struct script_change *piece, struct script_result *result)
{
	return send_changes(r, API_PIECE, false, piece, 1, cancel, result);
}

bool
room_changes_fit(struct room *r, struct script_change *items, size_t n)
{
	char *text;
	size_t len, i;
	bool fit;

	/* A repeat is a little longer. */
	for (i = 0; i < n; i++) {
		items[i].again = 1;
		if (i < FORGET_MAX)
			items[i].forget = "0123456789abcdef";
	}
	text = script_compose_changes(
	    room_tools(r), "0123456789abcdef", items, n, &len);
	for (i = 0; i < n; i++)
		items[i].forget = NULL;
	fit = text != NULL && room_command_fits(r, text, len);
	free(text);
	return fit;
}

static void
take_attr(
    const struct script_result *res, int which, bool *has, struct attr *out)
{
	if (res->found & (1u << which)) {
		*out = res->attr[which];
		*has = true;
	}
}

void
room_take_result(
    const struct script_result *res, bool two_paths, struct room_changed *out)
{
	take_attr(res, SCRIPT_RESULT_DIR, &out->has_parent, &out->parent);
	take_attr(res, SCRIPT_RESULT_KEPT, &out->has_kept, &out->kept);
	if (two_paths) {
		take_attr(res, SCRIPT_RESULT_TO, &out->has_self, &out->self);
		take_attr(res, SCRIPT_RESULT_TO_DIR, &out->has_to_parent,
		    &out->to_parent);
	} else {
		take_attr(res, SCRIPT_RESULT_PATH, &out->has_self, &out->self);
	}
}

size_t
room_attr_items(
    const char *path, const struct room_setattr *a, struct script_change *to)
{
	struct script_change item = {.path = path, .chained = 1};
	size_t n = 0;

	/* The owner first: it clears setuid. */
	if (a->set_uid || a->set_gid) {
		item.op = SCRIPT_CHOWN;
		item.uid = a->set_uid ? a->uid : UINT32_MAX;
		item.gid = a->set_gid ? a->gid : UINT32_MAX;
		to[n++] = item;
	}
	if (a->set_mode) {
		item.op = SCRIPT_CHMOD;
		item.mode = a->mode & 07777;
		to[n++] = item;
	}
	if (a->atime != ROOM_TIME_KEEP || a->mtime != ROOM_TIME_KEEP) {
		item.op = SCRIPT_UTIMENS;
		item.atime = room_time(a->atime);
		item.mtime = room_time(a->mtime);
		to[n++] = item;
	}
	return n;
}

/* The VM's changes for one of ours; how many. */
static size_t
change_items(
    const struct room_change *c, char token[17], struct script_change *to)
{
	const struct room_setattr *a = &c->attr;
	struct script_change item = {.path = c->path,
	    .to = c->to,
	    .mode = c->mode & 07777,
	    .ino = c->ino,
	    .noreplace = c->noreplace,
	    .keep = c->keep,
	    .lend = c->lend,
	    .set_owner = a->set_uid || a->set_gid,
	    .uid = a->set_uid ? a->uid : UINT32_MAX,
	    .gid = a->set_gid ? a->gid : UINT32_MAX,
	    .token = token};
	size_t n = 0;

	switch (c->op) {
	case ROOM_MKDIR:
		item.op = SCRIPT_MKDIR;
		break;
	case ROOM_RMDIR:
		item.op = SCRIPT_RMDIR;
		break;
	case ROOM_UNLINK:
		item.op = SCRIPT_UNLINK;
		break;
	case ROOM_RENAME:
		item.op = SCRIPT_RENAME;
		break;
	case ROOM_SYMLINK:
		item.op = SCRIPT_SYMLINK;
		break;
	case ROOM_LINK:
		item.op = SCRIPT_LINK;
		item.path = c->to;
		item.to = c->path;
		break;
	case ROOM_MKNOD:
		item.op = SCRIPT_MKNOD;
		item.mode = c->mode;
		item.major = major(c->rdev);
		item.minor = minor(c->rdev);
		break;
	case ROOM_CREATE:
		item.op = SCRIPT_CREATE;
		item.how = SCRIPT_EXCLUSIVE;
		break;
	case ROOM_LOOK:
		item.op = SCRIPT_LOOK;
		break;
	case ROOM_COPY:
		item.op = SCRIPT_COPY;
		item.offset = c->offset;
		item.to_offset = c->to_offset;
		item.size = c->length;
		break;
	case ROOM_SETATTR:
		return room_attr_items(c->path, a, to);
	}
	to[n++] = item;
	return n;
}

int64_t
room_time(int64_t ns)
{
	return ns == ROOM_TIME_KEEP ? SCRIPT_TIME_OMIT
	    : ns == ROOM_TIME_NOW   ? SCRIPT_TIME_NOW
				    : ns;
}

static void
link_swap(struct room_changed *c)
{
	struct attr dir = c->parent;
	bool has = c->has_parent;

	c->parent = c->to_parent;
	c->has_parent = c->has_to_parent;
	c->to_parent = dir;
	c->has_to_parent = has;
}

int
room_change_all(struct room *r, const struct room_change *c, size_t n,
    struct room_changed *out)
{
	struct script_change items[CHANGE_ITEMS] = {0};
	struct script_result results[CHANGE_ITEMS] = {0};
	size_t first[CHANGE_ITEMS], count = 0, i, k;
	char token[17];
	bool two;
	int error;

	if (n * 3 > CHANGE_ITEMS)
		return -EINVAL;
	room_nonce(token);
	for (i = 0; i < n; i++) {
		out[i] = (struct room_changed){.checked = room_now()};
		first[i] = count;
		count += change_items(&c[i], token, items + count);
	}
	for (k = 1; k < count; k++)
		items[k].chained = 1;
	if ((error = room_send_changes(
		 r, API_CHANGE, false, items, count, results)))
		return error;
	for (i = 0; i < n; i++) {
		two = c[i].op == ROOM_RENAME || c[i].op == ROOM_LINK ||
		    c[i].op == ROOM_COPY;
		for (k = first[i]; k < (i + 1 < n ? first[i + 1] : count);
		     k++) {
			if (results[k].error != 0 && error == 0)
				error = results[k].error;
			room_take_result(&results[k], two, &out[i]);
			out[i].copied = results[k].number;
			/* A link's new name is our path. */
			if (c[i].op == ROOM_LINK)
				link_swap(&out[i]);
		}
		if (error != 0)
			return error;
	}
	return 0;
}

int
room_clean(struct room *r, const char *dir)
{
	struct script_change item = {.op = SCRIPT_CLEAN, .path = dir};
	struct script_result result = {0};

	return room_send_changes(r, API_CHANGE, false, &item, 1, &result);
}

int
room_change(
    struct room *r, const struct room_change *c, struct room_changed *out)
{
	return room_change_all(r, c, 1, out);
}
