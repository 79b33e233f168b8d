#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "room/room_impl.h"
#include "script/carry.h"

/*
 * Commands that the service does not take at once: they go to the VM in parts,
 * and are run there.  What there is a choice about is made to fit before
 * (room_command_max()); this is for the rest, so that nothing fails for its
 * size.
 */

/* Below that, a command leaves little for data, with the programs that travel
 * along if the VM does not keep them: then commands are as large as ever, and
 * are carried. */
#define PLAN_LEAST    ((size_t)24 * 1024)
#define PLAN_LEAST_TK ((size_t)6 * 1024)
/* What JSON adds to that, at most. */
#define PLAN_ESCAPES	((size_t)3 * 1024)
#define PLAN_ESCAPES_TK ((size_t)1024)
#define CARRY_TRIES	4

/* How large a body should be. */
static size_t
plan_max(struct room *r, bool toolkit)
{
	size_t max = api_body_max(r->api);

	return max < (toolkit ? PLAN_LEAST_TK : PLAN_LEAST) ? SIZE_MAX : max;
}

size_t
room_command_max(struct room *r)
{
	bool toolkit = room_has_toolkit(r);
	size_t max = plan_max(r, toolkit);
	size_t more = toolkit ? PLAN_ESCAPES_TK : PLAN_ESCAPES;

	return max == SIZE_MAX || max - more > SCRIPT_MAX ? SCRIPT_MAX
							  : max - more;
}

bool
room_command_fits(struct room *r, const char *command, size_t len)
{
	bool toolkit = room_has_toolkit(r);
	size_t size, programs = 0;

	if (toolkit)
		programs = script_programs_size(command);
	size = api_body_size(command + programs, len - programs);
	if (toolkit)
		size += SCRIPT_LOAD_MAX;
	return (toolkit || len <= SCRIPT_MAX) && size <= plan_max(r, toolkit);
}

/* What one carrying is made of. */
struct carry {
	struct room *room;
	enum api_kind kind; /* of the commands that carry */
	const char *text; /* with its head */
	size_t len;
	const struct cancel *cancel; /* or NULL */
	char token[17];
};

/*
 * The command that brings as much of the text from `at` on as fits, `tail`
 * behind it when that is all the rest; *n is how much.
 */
static char *
carry_compose(const struct carry *c, unsigned part, size_t at, const char *tail,
    size_t *n, size_t *len)
{
	size_t max = api_body_max(c->room->api), left = c->len - at;
	size_t most = max < SCRIPT_MAX ? max : SCRIPT_MAX, tail_len;
	char *text, *more;

	for (*n = left < most ? left : most;; *n -= *n / 8 + 1) {
		text = script_carry_part(c->token, part, c->text + at, *n, len);
		if (text == NULL)
			return NULL;
		tail_len = *n == left ? strlen(tail) : 0;
		if (*len + tail_len <= SCRIPT_MAX &&
		    api_body_size(text, *len) + api_body_size(tail, tail_len) <=
			max)
			break;
		free(text);
		if (*n < 64)
			return NULL;
	}
	if ((more = realloc(text, *len + tail_len + 1)) == NULL) {
		free(text);
		return NULL;
	}
	memcpy(more + *len, tail, tail_len);
	more[ *len += tail_len] = '\0';
	return more;
}

static int
send_one(struct room *r, enum api_kind kind, const char *command, size_t len,
    const char *again, size_t again_len, const struct cancel *cancel,
    struct api_answer *answer)
{
	return cancel != NULL && kind == API_PIECE
	    ? api_piece(r->api, command, len, again, again_len, cancel, answer)
	    : api_change(r->api, kind, command, len, again, again_len, answer);
}

/*
 * Send all parts; the last one's answer, with that of the tail, is *answer's.
 * kind: of the last one.  0, -errno; -E2BIG: they were too large, still.
 */
static int
carry_send(const struct carry *c, enum api_kind kind, const char *tail,
    struct api_answer *answer)
{
	size_t at, n, len;
	unsigned part;
	char *command;
	int error;

	for (part = 0, at = 0;; part++, at += n) {
		*answer = (struct api_answer){0};
		if (part == SCRIPT_CARRY_PARTS)
			return -EFBIG;
		command = carry_compose(c, part, at, tail, &n, &len);
		if (command == NULL)
			return -ENOMEM;
		error = send_one(c->room, at + n == c->len ? kind : c->kind,
		    command, len, NULL, 0, c->cancel, answer);
		free(command);
		if (error != 0 || at + n == c->len)
			return error;
		if (answer->exit_code != 0) {
			snprintf(answer->detail, sizeof answer->detail,
			    "the VM's temporary directory can't be written");
			return -EIO;
		}
		api_answer_free(answer);
	}
}

/* Did the last command not find all the parts? */
static bool
carry_is_lost(const struct carry *c, const struct api_answer *a)
{
	char mark[sizeof SCRIPT_CARRY_LOST + sizeof c->token + 1];

	snprintf(mark, sizeof mark, SCRIPT_CARRY_LOST "%s>", c->token);
	return a->output != NULL &&
	    memmem(a->output, a->len, mark, strlen(mark)) != NULL;
}

/* A new carrying, with a text of the caller's behind its head; the text is to
 * be freed. */
static int
carry_begin(struct carry *c, struct room *r, enum api_kind kind,
    const char *command, size_t len)
{
	char *head, *text = NULL;

	*c = (struct carry){.room = r, .kind = kind};
	room_nonce(c->token);
	if ((head = script_carry_head(c->token)) == NULL)
		return -ENOMEM;
	c->len = strlen(head) + len;
	if ((text = malloc(c->len + 1)) != NULL) {
		memcpy(stpcpy(text, head), command, len);
		text[c->len] = '\0';
	}
	free(head);
	c->text = text;
	return text == NULL ? -ENOMEM : 0;
}

/* Carry a text and have it made whole there; with run, run it. */
static int
carry(struct carry *c, enum api_kind kind, bool run, struct api_answer *answer)
{
	char *tail = script_carry_join(c->token, c->len, run);
	int error;

	*answer = (struct api_answer){0};
	if (tail == NULL)
		return -ENOMEM;
	error = carry_send(c, kind, tail, answer);
	free(tail);
	return error;
}

/* As room_send_text(), in parts. */
static int
carry_command(struct room *r, enum api_kind kind, const char *command,
    size_t len, const char *again, size_t again_len,
    const struct cancel *cancel, struct api_answer *answer)
{
	size_t before = api_body_max(r->api);
	struct carry c;
	int error, tries;

	for (tries = 0;; tries++) {
		api_answer_free(answer);
		*answer = (struct api_answer){0};
		error = carry_begin(&c, r, kind, command, len);
		c.cancel = cancel;
		if (error == 0)
			error = carry(&c, kind, true, answer);
		free((char *)c.text);
		if ((error != -E2BIG && error != 0) ||
		    (error == 0 && !carry_is_lost(&c, answer)) ||
		    tries == CARRY_TRIES)
			break;
		/* Its parts were gone when it was repeated, so it has run. */
		if ((error == 0 || answer->fate != FATE_NOT_RUN) &&
		    again != NULL) {
			command = again;
			len = again_len;
		}
	}
	answer->again = command == again;
	if (error == 0 && carry_is_lost(&c, answer))
		error = -EIO;
	/* It was not the size, then. */
	if (error == -EIO)
		api_set_body_max(r->api, before);
	return error;
}

int
room_send_text(struct room *r, enum api_kind kind, const char *command,
    size_t len, const char *again, size_t again_len,
    const struct cancel *cancel, struct api_answer *answer)
{
	int error = -E2BIG;

	*answer = (struct api_answer){0};
	if (api_body_size(command, len) <= api_body_max(r->api))
		error = send_one(
		    r, kind, command, len, again, again_len, cancel, answer);
	if (error != -E2BIG)
		return error;
	if (answer->fate != FATE_NOT_RUN && again != NULL) {
		command = again;
		len = again_len;
	}
	return carry_command(
	    r, kind, command, len, again, again_len, cancel, answer);
}

int
room_carry_user(struct room *r, const char *command, size_t len, char **out)
{
	struct api_answer a;
	struct carry c;
	int error, tries;
	bool lost = true;

	*out = NULL;
	for (tries = 0; lost && tries <= CARRY_TRIES; tries++) {
		error = carry_begin(&c, r, API_PIECE, command, len);
		if (error == 0)
			error = carry(&c, API_PIECE, false, &a);
		else
			a = (struct api_answer){0};
		free((char *)c.text);
		lost = error == -E2BIG || (error == 0 && carry_is_lost(&c, &a));
		if (error == 0 && !lost && a.exit_code != 0)
			error = -EIO;
		api_answer_free(&a);
	}
	if (error == -E2BIG || (error == 0 && lost))
		error = -EIO;
	if (error != 0)
		return error;
	*out = script_carry_run(c.token);
	return *out == NULL ? -ENOMEM : 0;
}
