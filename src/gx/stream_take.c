#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "gx.h"
#include "stream_impl.h"

/* The least of output in an answer, where long ones are cut. */
#define MAX_LEAST 1024ul
/* How often the start is tried; trying again does no harm. */
#define START_TRIES 6
#define DELAY_MAX   15000
/* More than that is not gathered. */
#define GATHER_MAX ((size_t)256 * 1024 * 1024)

int
stream_delay(struct stream *s)
{
	int delay = s->delay;

	s->delay = delay * 2 < DELAY_MAX ? delay * 2 : DELAY_MAX;
	return delay;
}

void
stream_fail(
    struct stream *s, enum stream_fate fate, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->r->why, sizeof s->r->why, fmt, ap);
	va_end(ap);
	s->r->fate = fate;
	s->r->status = status;
	s->phase = OVER;
	gx_warn("%s", s->r->why);
}

void
stream_leave(struct stream *s)
{
	s->r->left = true;
	s->r->job = s->status.job;
	s->r->status = s->signal == 0 ? 0 : 128 + s->signal;
	s->phase = OVER;
	if (s->signal != 0)
		gx_warn("detached; job %lu goes on: gx --attach %lu",
		    s->status.job, s->status.job);
}

/* It can't be written, or a signal came meanwhile. */
static void
output_failed(struct stream *s, int error, int number)
{
	if (error == -EINTR) {
		raise(number); /* it is looked at where all are */
		return;
	}
	/* As if SIGPIPE had ended us; a job goes on. */
	s->r->status = error == -EPIPE ? 128 + SIGPIPE : GX_FAILED;
	if (error != -EPIPE)
		gx_warn("writing the output: %s", strerror(-error));
	if (s->o->keep) {
		s->phase = OVER;
		return;
	}
	s->ending = true;
	s->asked = stream_now();
	s->signal = -1; /* nobody is to be told */
}

/* Output that begins at `at', of which some may be here already. */
static void
put(struct stream *s, int fd, uint64_t at, uint64_t *have, char *base64)
{
	struct text *to = fd == STDOUT_FILENO ? &s->r->out : &s->r->err;
	ssize_t n = base64_decode(base64, strlen(base64));
	size_t written;
	int error, number;

	if (n <= 0 || at > *have || at + (uint64_t)n <= *have)
		return;
	base64 += *have - at;
	n -= (ssize_t)(*have - at);
	if (s->signal == -1) {
		*have += (uint64_t)n;
	} else if (s->o->gather) {
		if (to->len + (size_t)n <= GATHER_MAX)
			text_add(to, base64, (size_t)n);
		*have += (uint64_t)n;
	} else {
		error = gx_output(fd, base64, (size_t)n, &written, &number);
		*have += written;
		if (error != 0)
			output_failed(s, error, number);
	}
}

static void
take_gone(struct stream *s)
{
	if (s->token[0] == '\0' && s->phase == STARTING)
		stream_fail(s, STREAM_NOT_RUN, GX_FAILED,
		    "there is no job %lu in this VM", s->o->job);
	else if (s->status.job != 0)
		stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
		    "job %lu is not in the VM any more: its files were "
		    "removed, or the VM was replaced",
		    s->status.job);
	else
		stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
		    "it is not known how the command ended: its files in the "
		    "VM were removed, or the VM was replaced");
}

static void
take_end(struct stream *s)
{
	s->phase = OVER;
	s->r->job = s->status.job;
	if (s->status.state == JOB_DEAD) {
		if (s->status.job != 0)
			stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
			    "job %lu died without an exit code: it was "
			    "killed, or the VM was restarted",
			    s->status.job);
		else
			stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
			    "the command died without an exit code: it was "
			    "killed, or the VM was restarted");
		return;
	}
	s->r->fate = STREAM_RAN;
	s->r->has_code = true;
	s->r->code = s->status.code;
	if (s->signal == -1)
		return; /* the status is what the output came to */
	if (s->signal == 0) {
		s->r->status = gx_exit_code(s->status.code);
		return;
	}
	s->r->status = 128 + s->signal;
	gx_warn(s->ended || s->status.code > 128
		? "interrupted; the command in the VM was ended"
		: "interrupted; the command in the VM is over");
}

/* What an answer tells of the job. */
static int
take_status(struct stream *s, const struct request *q, char *body)
{
	unsigned long number = s->status.job, fed = s->status.fed;
	uint64_t before = s->out + s->err;
	char *out, *err;

	if (compose_status(body, &s->status, &out, &err) != 0) {
		s->status.job = number;
		s->status.fed = fed;
		return -EPROTO;
	}
	if (s->status.state == JOB_GONE) {
		s->status.job = number;
		take_gone(s);
		return 0;
	}
	if (s->status.fed < fed)
		s->status.fed = fed; /* an older answer */
	if (s->phase == STARTING) {
		s->phase = FOLLOWING;
		input_given(&s->input); /* it went with the start */
		snprintf(s->token, sizeof s->token, "%s", s->status.token);
	}
	if (s->o->keep && s->o->command != NULL && !s->announced &&
	    s->status.job != 0) {
		gx_warn("job %lu", s->status.job);
		s->announced = true;
	}
	put(s, STDOUT_FILENO, q->out, &s->out, out);
	if (s->phase == FOLLOWING)
		put(s, STDERR_FILENO, q->err, &s->err, err);
	s->busy = s->out + s->err > before ? s->busy + 1 : 0;
	if (s->phase == FOLLOWING && s->status.state != JOB_RUNNING &&
	    s->out >= s->status.out && s->err >= s->status.err)
		take_end(s);
	return 0;
}

static void
start_failed(struct stream *s, const struct reply *r, int error)
{
	bool maybe = error == -EAGAIN || !r->not_run;

	s->told = true;
	if (maybe)
		s->r->fate = STREAM_UNKNOWN;
	if (!r->final && ++s->tries < START_TRIES) {
		s->main_next = stream_now() + stream_delay(s);
		return;
	}
	if (s->o->command == NULL)
		stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN, "%s", r->why);
	else if (s->r->fate == STREAM_UNKNOWN)
		stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
		    "it is not known whether the command ran, or whether it "
		    "runs still: %s; see gx --jobs",
		    r->why);
	else
		stream_fail(
		    s, STREAM_NOT_RUN, GX_FAILED, "not run: %s", r->why);
}

static void
poll_failed(struct stream *s, const struct reply *r, int error)
{
	if (error == -EAGAIN && s->max > MAX_LEAST) {
		s->max /= 4;
		return;
	}
	if (r->final && s->status.job != 0) {
		if (r->vm_gone)
			stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
			    "%s; job %lu went with its VM", r->why,
			    s->status.job);
		else
			stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
			    "%s; job %lu may go on in the VM: gx --attach %lu",
			    r->why, s->status.job, s->status.job);
		return;
	}
	if (r->final) {
		stream_fail(s, STREAM_UNKNOWN, GX_UNKNOWN,
		    "it is not known how the command ended: %s", r->why);
		return;
	}
	if (!s->lost)
		gx_warn("%s; trying again", r->why);
	s->lost = true;
	s->main_next = stream_now() + stream_delay(s);
}

void
stream_take_main(struct stream *s)
{
	struct request *q = &s->main;
	struct reply r;
	int error = reply_take(&r, &q->call, s->place, q->nonce);

	if (r.answer.json != NULL)
		changes_add(&s->r->changes, &r.answer);
	if (error == 0 && *r.body == '!') {
		stream_fail(s, STREAM_NOT_RUN, GX_FAILED, "not run: %.*s",
		    (int)strcspn(r.body + 1, "\n"), r.body + 1);
	} else if (error == 0 && take_status(s, q, r.body) == 0) {
		if (s->lost)
			gx_warn("the connection is back");
		s->lost = false;
		s->delay = 1000;
	} else if (s->phase == STARTING && error == -EAGAIN &&
	    s->max > MAX_LEAST) {
		s->max /= 4; /* again, with less: it is started once */
	} else if (s->phase == STARTING) {
		if (error == 0)
			snprintf(r.why, sizeof r.why, "the VM says nothing");
		start_failed(s, &r, error);
	} else {
		poll_failed(s, &r, error);
	}
	reply_free(&r);
}

void
stream_take_side(struct stream *s)
{
	struct request *q = &s->side;
	struct reply r;
	int error = reply_take(&r, &q->call, s->place, q->nonce);

	if (r.answer.json != NULL)
		changes_add(&s->r->changes, &r.answer);
	if (error == 0 && q->gives) {
		input_given(&s->input);
		take_status(s, q, r.body);
	} else if (error != 0 && q->gives) {
		/* It is told of where the output is asked for. */
		s->side_next = stream_now() + 1000;
	}
	reply_free(&r);
}

void
stream_take_end(struct stream *s)
{
	struct request *q = &s->end;
	struct reply r;
	int error = reply_take(&r, &q->call, s->place, q->nonce);

	s->end_next = stream_now() + 500;
	if (error == 0 && s->leaving) {
		take_status(s, q, r.body);
		if (s->phase != OVER && s->status.job != 0)
			stream_leave(s);
	} else if (error == 0 && strncmp(r.body, "running", 7) == 0) {
		s->ended = true;
	} else if (error == 0 && strncmp(r.body, "gone", 4) != 0) {
		s->end_next = stream_now() + 60000; /* it is over */
		/* Its start may be on its way still, or never answered. */
		if (s->phase == STARTING) {
			call_abandon(&s->main.call);
			s->known = true;
			s->main_next = 0;
		}
	}
	reply_free(&r);
}
