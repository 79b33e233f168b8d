#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "compose.h"
#include "gx.h"

/* So long an answer is waited for (ms). */
#define ASK_LIMIT 60000

void
reply_free(struct reply *r)
{
	answer_free(&r->answer);
}

int
reply_take(
    struct reply *r, struct call *c, const struct place *p, const char *nonce)
{
	int error;

	*r = (struct reply){.body = NULL};
	if ((error = call_finish(c, p, &r->answer, r->why)) != 0) {
		r->final = true; /* it is the mount itself */
		r->not_run = true;
		return error;
	}
	if (r->answer.fate != ANSWER_RAN) {
		snprintf(r->why, sizeof r->why, "%s (%s)", r->answer.why,
		    r->answer.error);
		r->not_run = r->answer.fate == ANSWER_NOT_RUN;
		r->vm_gone = strstr(r->answer.why, "no instance") != NULL;
		r->final = r->vm_gone ||
		    strcmp(r->answer.error, "EACCES") == 0 ||
		    strcmp(r->answer.error, "EFBIG") == 0;
		return -EIO;
	}
	error = compose_frame(r->answer.output, r->answer.len, nonce, &r->body);
	if (error == -EPROTO) {
		snprintf(r->why, sizeof r->why, "the VM says: %.*s",
		    (int)strcspn(r->answer.output, "\n"), r->answer.output);
		r->final = r->not_run = r->answer.exit_code != 0;
	} else if (error != 0) {
		snprintf(r->why, sizeof r->why, "the answer was cut");
	}
	return error;
}

int
ask_once(const struct place *p, const struct text *t, const char *nonce,
    struct reply *r)
{
	struct call c;
	int error, number = 0;

	*r = (struct reply){.body = NULL};
	error =
	    t->failed ? -ENOMEM : call_start(&c, p, p->root, t->data, t->len);
	if (error != 0) {
		gx_warn("%s", strerror(-error));
		return GX_FAILED;
	}
	call_catch_signals(false);
	error = call_wait(&c, ASK_LIMIT, &number);
	call_release_signals();
	if (error != 1) {
		call_abandon(&c);
		if (error == -EINTR)
			return 128 + number;
		gx_warn("no answer");
		return GX_FAILED;
	}
	if (reply_take(r, &c, p, nonce) != 0) {
		gx_warn("%s", r->why);
		return GX_FAILED;
	}
	return 0;
}
