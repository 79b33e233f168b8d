#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "room/room_impl.h"

/*
 * Commands, and the toolkit in the VM that keeps them short.  The first one
 * leaves it there.  It may vanish at any time: then a command says so and has
 * done nothing, and is sent again with the text, which leaves it there again.
 */

/* Lost so often in a row, right after it was kept: this room keeps nothing. */
enum { TOOLKIT_LOSSES = 3 };

/* How one command is sent. */
struct form {
	enum room_toolkit toolkit;
	unsigned store; /* enum script_store */
	unsigned kept; /* which one it relies on */
	char place[SCRIPT_PLACE_MAX];
};

static void
form_choose(struct room *r, const struct room_command *c, struct form *form)
{
	pthread_mutex_lock(&r->lock);
	form->toolkit = r->toolkit;
	/* Two drivers of other versions don't take turns at it. */
	form->store = c->tools == SCRIPT_TOOLS_UNKNOWN ? SCRIPT_STORE_CLEAN : 0;
	if (r->toolkit_plain)
		form->store |= SCRIPT_STORE_PLAIN;
	form->kept = r->toolkit_kept;
	memcpy(form->place, r->toolkit_place, sizeof form->place);
	pthread_mutex_unlock(&r->lock);
}

/* The text in that form: malloc'ed, NULL: no memory, or too long. */
static char *
form_apply(const struct form *form, const struct room_command *c,
    const char *text, size_t *len)
{
	if (form->toolkit == ROOM_TOOLKIT_KEPT)
		return script_with_toolkit(
		    text, c->tools, c->nonce, form->place, len);
	return script_store_toolkit(text, c->tools, c->nonce, form->store, len);
}

/* Its state changes, unless it did since the command was made. */
static void
toolkit_set(struct room *r, const struct form *form, enum room_toolkit now)
{
	bool lost = false;

	pthread_mutex_lock(&r->lock);
	if (r->toolkit == form->toolkit && r->toolkit_kept == form->kept) {
		lost = now == ROOM_TOOLKIT_MISSING &&
		    ++r->toolkit_lost >= TOOLKIT_LOSSES;
		r->toolkit = lost ? ROOM_TOOLKIT_NONE : now;
	}
	pthread_mutex_unlock(&r->lock);
	if (lost)
		log_info("the VM does not keep what is left there: commands "
			 "carry their programs");
}

/* A command with the toolkit was answered: where it is now. */
static void
toolkit_kept(struct room *r, const char *nonce, const struct api_answer *a)
{
	char place[SCRIPT_PLACE_MAX];

	if (!script_toolkit_place(a->output, a->len, nonce, place))
		return;
	pthread_mutex_lock(&r->lock);
	r->toolkit = *place != '\0' ? ROOM_TOOLKIT_KEPT : ROOM_TOOLKIT_NONE;
	r->toolkit_kept++;
	memcpy(r->toolkit_place, place, sizeof place);
	pthread_mutex_unlock(&r->lock);
	log_debug("the VM keeps the programs in %s",
	    *place != '\0' ? place : "no place");
}

/* The command did nothing: it did not find the text, or could not unpack it. */
static void
toolkit_missed(struct room *r, const struct form *form)
{
	if (form->toolkit == ROOM_TOOLKIT_KEPT) {
		toolkit_set(r, form, ROOM_TOOLKIT_MISSING);
		return;
	}
	pthread_mutex_lock(&r->lock);
	if ((form->store & SCRIPT_STORE_PLAIN) != 0)
		r->toolkit = ROOM_TOOLKIT_NONE;
	r->toolkit_plain = true;
	pthread_mutex_unlock(&r->lock);
}

static void
toolkit_worked(struct room *r)
{
	pthread_mutex_lock(&r->lock);
	r->toolkit_lost = 0;
	pthread_mutex_unlock(&r->lock);
}

/* Did the service refuse it for its length? */
static bool
is_refused(const struct api_answer *a)
{
	return a->status == 400 || a->status == 413 || a->status == 422;
}

/*
 * Send it once in this form.  -ENOPKG: it did nothing; the room knows what to
 * do instead now.
 */
static int
send_form(struct room *r, const struct room_command *c, const struct form *form,
    struct api_answer *a)
{
	char *first = NULL, *again = NULL;
	size_t len, again_len = 0;
	int error;

	if (form->toolkit != ROOM_TOOLKIT_NONE) {
		first = form_apply(form, c, c->text, &len);
		if (c->again != NULL)
			again = form_apply(form, c, c->again, &again_len);
	}
	if (first == NULL || (c->again != NULL && again == NULL)) {
		/* There is no room for more than it needs. */
		error = room_send_text(r, c->kind, c->text, c->len, c->again,
		    c->again_len, c->cancel, a);
		goto out;
	}
	error = room_send_text(
	    r, c->kind, first, len, again, again_len, c->cancel, a);
	if (form->toolkit == ROOM_TOOLKIT_MISSING && error != 0 &&
	    is_refused(a)) {
		toolkit_set(r, form, ROOM_TOOLKIT_NONE);
		error = -ENOPKG;
	}
	if (error != 0)
		goto out;
	if (script_toolkit_missed(a->output, a->len, c->nonce)) {
		toolkit_missed(r, form);
		error = -ENOPKG;
	} else if (form->toolkit == ROOM_TOOLKIT_MISSING)
		toolkit_kept(r, c->nonce, a);
	else
		toolkit_worked(r);
out:
	free(first);
	free(again);
	return error;
}

int
room_command(
    struct room *r, const struct room_command *command, struct api_answer *a)
{
	struct room_command c = *command;
	struct form form;
	int error, tries;

	for (tries = 0;; tries++) {
		form_choose(r, &c, &form);
		if (tries == TOOLKIT_LOSSES)
			form.toolkit = ROOM_TOOLKIT_NONE;
		if ((error = send_form(r, &c, &form, a)) != -ENOPKG)
			return error;
		/* An attempt before that one may have run. */
		if (a->again) {
			c.text = c.again;
			c.len = c.again_len;
		}
		api_answer_free(a);
	}
}

void
room_doubt_toolkit(struct room *r)
{
	struct form form;
	struct room_command any = {.nonce = NULL};

	form_choose(r, &any, &form);
	if (form.toolkit == ROOM_TOOLKIT_KEPT)
		toolkit_set(r, &form, ROOM_TOOLKIT_MISSING);
}

bool
room_has_toolkit(struct room *r)
{
	return r->toolkit == ROOM_TOOLKIT_KEPT;
}
