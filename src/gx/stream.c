#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gx.h"
#include "stream_impl.h"
#include "term.h"

/* The start waits so long for the end (s). */
#define START_WAIT "1"
/* One poll waits so long in the VM for output (0.1 s) ... */
#define POLL_STEPS 190
/* ... so long where commands do not run side by side, with such gaps (ms). */
#define SERIAL_STEPS 3
#define SERIAL_GAP   700
/* And so long for its answer (ms): what is later is lost, and asked anew. */
#define POLL_LIMIT 60000
/* The most output in one answer. */
#define CHUNK_MAX (512ul * 1024)
/* How often it is tried to see two commands side by side. */
#define PROBES 3
/* So many parts of input may lie in the VM and not be read. */
#define PARTS_AHEAD 6
/* How long Ctrl-C tries to end the command before it gives up (ms). */
#define END_LIMIT 10000
/* When to say that something takes its time (ms). */
#define END_TELL  1000
#define WAIT_TELL 2000
/* A terminal whose user is not seen any more is hung up (s); so is what has a
 * limit of time. */
#define TERMINAL_IDLE "300"
#define TIMED_IDLE    "45"

long long
stream_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static struct compose_want
want(const struct stream *s)
{
	return (struct compose_want){s->out, s->err, s->max};
}

/* 0 or -errno; on failure it is tried again. */
static int
begin(struct stream *s, struct request *q, int dir, struct text *t)
{
	int error;

	q->out = s->out;
	q->err = s->err;
	q->began = stream_now();
	error = t->failed
	    ? -ENOMEM
	    : call_start(&q->call, s->place, dir, t->data, t->len);
	text_free(t);
	return error;
}

/* Are stdout and stderr one file?  Then one order is right. */
static bool
same_output(void)
{
	struct stat a, b;

	return fstat(STDOUT_FILENO, &a) == 0 && fstat(STDERR_FILENO, &b) == 0 &&
	    a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int
begin_start(struct stream *s)
{
	const struct stream_options *o = s->o;
	struct compose_job j = {
	    .token = s->token,
	    .command = o->command,
	    .before = o->before,
	    .keep = o->keep,
	    .merge = !o->gather && !o->terminal && same_output(),
	    .part = s->input.data,
	    .input = s->input.wanted && !s->input.ended,
	    .input_whole = s->input.wanted && s->input.ended,
	    .terminal = o->terminal,
	    .timeout = o->timeout,
	    .wait = o->detach ? "0"
		: o->terminal ? "0.1"
			      : START_WAIT,
	};
	struct text t = {0};

	/* A job may be left, and have a limit of time all the same. */
	if (!o->keep && (o->terminal || o->timeout != NULL))
		j.idle = o->terminal ? TERMINAL_IDLE : TIMED_IDLE;
	if (o->terminal && !term_size(&j.rows, &j.columns)) {
		j.rows = 24;
		j.columns = 80;
	}
	gx_token(s->main.nonce);
	compose_start(&t, s->main.nonce, &j, s->max);
	return begin(s, &s->main, s->place->here, &t);
}

static int
begin_poll(struct stream *s)
{
	struct compose_want w = want(s);
	unsigned long fed = ~0ul >> 1;
	unsigned steps = POLL_STEPS;
	struct text t = {0};

	if (s->phase == STARTING) /* an attachment: see what there is */
		steps = 0;
	else if (s->probes >= PROBES && !s->status.beside)
		steps = SERIAL_STEPS;
	if (s->input.part >= s->status.fed + PARTS_AHEAD)
		fed = s->status.fed + 1;
	gx_token(s->main.nonce);
	compose_poll(&t, s->main.nonce, s->job, &w, steps,
	    s->busy > 2 ? "0.1" : "0", fed);
	return begin(s, &s->main, s->place->root, &t);
}

static void
begin_main(struct stream *s)
{
	int error;

	error =
	    s->phase == STARTING && !s->known ? begin_start(s) : begin_poll(s);
	if (error != 0) {
		stream_fail(s,
		    s->phase == STARTING ? STREAM_NOT_RUN : STREAM_UNKNOWN,
		    s->phase == STARTING ? GX_FAILED : GX_UNKNOWN, "%s",
		    strerror(-error));
	}
}

static void
begin_give(struct stream *s)
{
	struct compose_input in = {
	    .part = s->input.data == NULL ? 0 : s->input.part,
	    .data = s->input.data,
	    .last = s->input.ended ? s->input.part + 1 : 0,
	    .steps = s->o->terminal ? 10 : 0,
	};
	struct compose_want w = want(s);
	struct text t = {0};

	if (s->resized)
		term_size(&in.rows, &in.columns);
	s->resized = false;
	if (!s->o->terminal)
		w.max = 0;
	gx_token(s->side.nonce);
	s->side.gives = true;
	compose_give(&t, s->side.nonce, s->token, &w, &in);
	if (begin(s, &s->side, s->place->root, &t) != 0)
		s->side_next = stream_now() + 1000;
}

static void
begin_side(struct stream *s)
{
	struct text t = {0};

	if (s->phase != FOLLOWING || s->status.state != JOB_RUNNING)
		return;
	if (s->input.data != NULL || s->resized ||
	    (s->input.wanted && s->input.ended && !s->input.told)) {
		begin_give(s);
	} else if (!s->status.beside && s->probes < PROBES &&
	    s->main.call.pid != 0) {
		s->probes++;
		gx_token(s->side.nonce);
		s->side.gives = false;
		compose_beside(&t, s->side.nonce, s->token);
		if (begin(s, &s->side, s->place->root, &t) != 0)
			s->side_next = stream_now() + 1000;
	}
}

static void
begin_end(struct stream *s)
{
	struct text t = {0};

	gx_token(s->end.nonce);
	if (s->leaving)
		compose_keep(&t, s->end.nonce, s->token);
	else
		compose_kill(&t, s->end.nonce, s->job);
	if (begin(s, &s->end, s->place->root, &t) != 0)
		s->end_next = stream_now() + 1000;
}

static void
begin_requests(struct stream *s)
{
	long long now = stream_now();

	if (s->main.call.pid == 0 && now >= s->main_next)
		begin_main(s);
	if (s->phase == OVER)
		return;
	if (s->side.call.pid == 0 && now >= s->side_next)
		begin_side(s);
	if (s->end.call.pid == 0 && now >= s->end_next &&
	    (s->ending || (s->leaving && s->phase == FOLLOWING)))
		begin_end(s);
}

/* A signal came. */
static void
take_signal(struct stream *s, int number)
{
	bool leave = number == SIGQUIT || (s->o->keep && number != SIGINT);

	if (s->ending || s->leaving) {
		s->r->status = 128 + number;
		s->r->fate = STREAM_UNKNOWN;
		s->phase = OVER;
		gx_warn("interrupted; the command may go on in the VM");
		return;
	}
	s->signal = number;
	s->asked = stream_now();
	if (leave && s->o->keep && s->status.job != 0)
		stream_leave(s);
	else if (leave)
		s->leaving = true;
	else
		s->ending = true;
}

/* What has taken too long. */
static void
look_at_clock(struct stream *s)
{
	long long now = stream_now();

	if ((s->ending || s->leaving) && now >= s->asked + END_LIMIT) {
		s->r->fate = STREAM_UNKNOWN;
		s->phase = OVER;
		if (s->signal != -1) {
			s->r->status = 128 + s->signal;
			gx_warn("interrupted; the command may go on in the VM");
		}
		return;
	}
	if (s->ending && !s->told && s->signal > 0 &&
	    now >= s->asked + END_TELL) {
		gx_warn("ending the command in the VM; Ctrl-C again stops "
			"waiting for that");
		s->told = true;
	}
	if (s->phase == STARTING && !s->told && s->main.call.pid != 0 &&
	    now >= s->main.began + WAIT_TELL && isatty(STDERR_FILENO)) {
		gx_warn("waiting for the service");
		s->told = true;
	}
	if (s->main.call.pid != 0 && !s->main.call.done &&
	    s->phase == FOLLOWING && now >= s->main.began + POLL_LIMIT) {
		call_abandon(&s->main.call);
		if (!s->lost)
			gx_warn("no answer; trying again");
		s->lost = true;
		s->main_next = now + stream_delay(s);
	}
}

/* Until when nothing has to be done but what comes by itself (ms). */
static int
idle_time(const struct stream *s)
{
	long long now = stream_now(), next = now + 1000;

	if (s->main.call.pid == 0 && s->main_next < next)
		next = s->main_next;
	if (s->ending && s->end.call.pid == 0 && s->end_next < next)
		next = s->end_next;
	if (s->input.data != NULL && s->side.call.pid == 0 &&
	    s->side_next > now && s->side_next < next)
		next = s->side_next;
	return next <= now ? 0 : (int)(next - now);
}

static bool
wants_input(const struct stream *s)
{
	return s->input.wanted && !s->input.ended && s->input.data == NULL &&
	    !s->ending && s->side.call.pid == 0 && s->phase == FOLLOWING &&
	    s->input.part < s->status.fed + PARTS_AHEAD;
}

static void
step(struct stream *s)
{
	struct call *calls[] = {&s->main.call, &s->side.call, &s->end.call};
	bool readable = false;
	int r, number;

	r = call_wait_any(calls, 3, wants_input(s) ? STDIN_FILENO : -1,
	    &readable, idle_time(s), &number);
	if (call_resized())
		s->resized = s->o->terminal;
	if (r == -EINTR) {
		take_signal(s, number);
		return;
	}
	if (readable)
		input_read(&s->input);
	if (s->input.hung_up && !s->ending)
		take_signal(s, SIGHUP);
	if (s->main.call.pid != 0 && s->main.call.done) {
		stream_take_main(s);
		if (s->probes >= PROBES && !s->status.beside &&
		    s->main_next <= stream_now() && s->busy == 0)
			s->main_next = stream_now() + SERIAL_GAP;
	}
	if (s->phase != OVER && s->side.call.pid != 0 && s->side.call.done)
		stream_take_side(s);
	if (s->phase != OVER && s->end.call.pid != 0 && s->end.call.done)
		stream_take_end(s);
	if (s->phase != OVER)
		look_at_clock(s);
}

void
stream_run(const struct place *p, const struct stream_options *o,
    struct stream_result *r)
{
	struct stream s = {.place = p, .o = o, .r = r, .max = CHUNK_MAX};

	*r =
	    (struct stream_result){.status = GX_FAILED, .fate = STREAM_NOT_RUN};
	s.delay = 1000;
	if (o->detach)
		s.max = 0; /* nobody is to see it here */
	s.main.call.fd = s.side.call.fd = s.end.call.fd = -1;
	s.input.wanted = o->input;
	s.input.terminal = o->terminal && isatty(STDIN_FILENO);
	if (o->command != NULL) {
		gx_token(s.token);
		snprintf(s.job, sizeof s.job, "t.%s", s.token);
	} else {
		snprintf(s.job, sizeof s.job, "%lu", o->job);
		s.known = true;
	}
	call_catch_signals(o->terminal);
	signal(SIGPIPE, SIG_IGN);
	if (s.input.terminal)
		term_take();
	input_begin(&s.input);
	while (s.phase != OVER) {
		if (s.phase == FOLLOWING && o->detach && s.status.job != 0 &&
		    (!s.input.wanted || s.input.told))
			stream_leave(&s);
		else
			begin_requests(&s);
		if (s.phase != OVER)
			step(&s);
	}
	call_abandon(&s.main.call);
	call_abandon(&s.side.call);
	call_abandon(&s.end.call);
	input_free(&s.input);
	term_release();
	call_release_signals();
}

void
stream_result_free(struct stream_result *r)
{
	text_free(&r->out);
	text_free(&r->err);
	changes_free(&r->changes);
}
