#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "call.h"
#include "compose.h"
#include "gx.h"

/* One poll waits so long in the VM for output (fifths of a second). */
#define POLL_TRIES 50
/* And so long for its answer (ms): what is later is lost, and asked anew. */
#define POLL_LIMIT 60000
/* The most output in one answer, and the least when long ones are cut. */
#define CHUNK_MAX (256ul * 1024)
#define CHUNK_MIN 1024ul
/* How often the start is tried; trying again does no harm. */
#define START_TRIES 6
#define DELAY_MAX   15000

/* What a request of ours came to. */
struct reply {
	struct answer answer;
	char *body; /* what is between the marks, in answer */
	char why[PLACE_WHY];
	bool final; /* asking again is of no use */
	bool vm_gone;
};

static void
reply_free(struct reply *r)
{
	answer_free(&r->answer);
}

/*
 * Ask the VM.  0; -EINTR: a signal, in *signal; -EAGAIN: the answer was cut;
 * else it failed, and r->why tells the user why.
 */
static int
ask(const struct place *p, int dir, const struct text *t, const char *nonce,
    struct reply *r, int *number)
{
	struct call c;
	int error;

	*r = (struct reply){.body = NULL};
	if (t->failed)
		error = -ENOMEM;
	else
		error = call_start(&c, p, dir, t->data, t->len);
	if (error != 0) {
		snprintf(r->why, sizeof r->why, "%s", strerror(-error));
		r->final = true;
		return error;
	}
	error = call_wait(&c, NULL, POLL_LIMIT, number);
	if (error != 1) {
		call_abandon(&c);
		snprintf(r->why, sizeof r->why, "no answer");
		return error == 0 ? -ETIMEDOUT : error;
	}
	if ((error = call_finish(&c, p, &r->answer, r->why)) != 0) {
		r->final = true; /* it is the mount itself */
		return error;
	}
	if (r->answer.fate != ANSWER_RAN) {
		snprintf(r->why, sizeof r->why, "%s (%s)", r->answer.why,
		    r->answer.error);
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
		r->final = r->answer.exit_code != 0;
	} else if (error != 0) {
		snprintf(r->why, sizeof r->why, "the answer was cut");
	}
	return error;
}

/* A request that is asked once, or a few times, and complained about. */
static int
ask_once(const struct place *p, const struct text *t, const char *nonce,
    struct reply *r)
{
	int error, number = 0;

	call_catch_signals();
	error = ask(p, p->root, t, nonce, r, &number);
	call_release_signals();
	if (error == -EINTR)
		return 128 + number;
	if (error != 0) {
		gx_warn("%s", r->why);
		return GX_FAILED;
	}
	return 0;
}

/* Wait before trying again: 1 s, 2 s, 4 s ... */
static int
pause_growing(int *delay, int *number)
{
	int error;

	error = call_wait(NULL, NULL, *delay, number);
	*delay = *delay * 2 < DELAY_MAX ? *delay * 2 : DELAY_MAX;
	return error;
}

/* --- following ------------------------------------------------------------ */

struct follow {
	const struct place *place;
	unsigned long job;
	char token[64]; /* "": not known yet */
	uint64_t offset; /* of the output that was written */
	unsigned long max;
	unsigned busy; /* polls in a row that brought something at once */
	int signal;
};

static int
detach(const struct follow *f)
{
	gx_warn("detached; job %lu goes on: gx --attach %lu", f->job, f->job);
	return 128 + f->signal;
}

/* Output that came; 0 or gx's exit code. */
static int
follow_write(struct follow *f, char *text)
{
	ssize_t n;
	int error;

	if ((n = base64_decode(text, strlen(text))) <= 0)
		return 0; /* asked for again */
	if ((error = gx_output(text, (size_t)n, &f->signal)) != 0)
		return error == -EINTR ? detach(f)
				       : gx_output_failed(error, f->signal);
	f->offset += (uint64_t)n;
	return 0;
}

/* -1: go on; else gx's exit code. */
static int
follow_take(struct follow *f, char *body)
{
	char token[64], state[16];
	int used = 0, code = -1, status;
	uint64_t size, before = f->offset;

	if (sscanf(body, "%63s %" SCNu64 " %15s%n", token, &size, state,
		&used) != 3)
		return -1;
	body += used;
	if (strcmp(state, "gone") == 0) {
		gx_warn(f->token[0] == '\0'
			? "there is no job %lu in this VM"
			: "job %lu is not in the VM any more: its files were "
			  "removed, or the VM was replaced",
		    f->job);
		return f->token[0] == '\0' ? GX_FAILED : GX_UNKNOWN;
	}
	snprintf(f->token, sizeof f->token, "%s", token);
	if (strcmp(state, "exit") == 0)
		code = (int)strtol(body, &body, 10);
	if (*body == '\n' && (status = follow_write(f, body + 1)) != 0)
		return status;
	f->busy = f->offset > before ? f->busy + 1 : 0;
	if (f->offset < size)
		return -1;
	if (strcmp(state, "exit") == 0)
		return gx_exit_code(code);
	if (strcmp(state, "dead") == 0) {
		gx_warn("job %lu died without an exit code: it was killed, or "
			"the VM was restarted",
		    f->job);
		return GX_UNKNOWN;
	}
	return -1;
}

static int
follow_poll(struct follow *f, struct reply *r)
{
	/* Output that goes on and on comes once a second. */
	static const char *const pauses[] = {"0", "0", "0.2", "0.5", "1"};
	static const unsigned quick[] = {500, 500, 700, 1000, 1500};
	unsigned busy = f->busy < 4 ? f->busy : 4;
	struct timespec begin, end;
	char nonce[COMPOSE_TOKEN];
	struct text t = {0};
	int error;

	gx_token(nonce);
	compose_poll(&t, nonce, f->job, f->token, f->offset, f->max, POLL_TRIES,
	    pauses[busy]);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	error = ask(f->place, f->place->root, &t, nonce, r, &f->signal);
	clock_gettime(CLOCK_MONOTONIC, &end);
	text_free(&t);
	/* What was waited for is shown as soon as it is there. */
	if ((end.tv_sec - begin.tv_sec) * 1000 +
		(end.tv_nsec - begin.tv_nsec) / 1000000 >
	    quick[busy])
		f->busy = 0;
	if (error == -EAGAIN && f->max > CHUNK_MIN)
		f->max /= 4;
	return error;
}

static int
follow(struct follow *f)
{
	struct reply r;
	int error, status = -1, delay = 1000;
	bool lost = false;

	f->max = CHUNK_MAX;
	while (status == -1) {
		error = follow_poll(f, &r);
		if (error == 0) {
			if (lost)
				gx_warn("the connection is back");
			lost = false;
			delay = 1000;
			status = follow_take(f, r.body);
		} else if (error == -EINTR) {
			status = detach(f);
		} else if (r.final) {
			if (r.vm_gone)
				gx_warn("%s; job %lu went with its VM", r.why,
				    f->job);
			else
				gx_warn("%s; job %lu may go on in the VM: gx "
					"--attach %lu",
				    r.why, f->job, f->job);
			status = GX_UNKNOWN;
		} else if (error != -EAGAIN || f->max <= CHUNK_MIN) {
			if (!lost)
				gx_warn(
				    "%s; trying again (Ctrl-C: detach)", r.why);
			lost = true;
			if (pause_growing(&delay, &f->signal) == -EINTR)
				status = detach(f);
		}
		reply_free(&r);
	}
	return status;
}

static int
start_try(struct follow *f, const char *command, struct reply *r)
{
	char nonce[COMPOSE_TOKEN];
	struct text t = {0};
	int error;

	gx_token(nonce);
	compose_start(&t, nonce, f->token, command);
	error = ask(f->place, f->place->here, &t, nonce, r, &f->signal);
	text_free(&t);
	return error;
}

/* 0, or gx's exit code: the VM has said why not. */
static int
start_take(struct follow *f, const char *body)
{
	char *end;

	f->job = strtoul(body, &end, 10);
	if (end != body)
		return 0;
	gx_warn("the job could not be started: %.*s", (int)strcspn(body, "\n"),
	    body);
	return GX_FAILED;
}

/* Start it, once, however often it is tried.  0, or gx's exit code. */
static int
start(struct follow *f, const char *command)
{
	const char *fate = "the job was not started";
	int error, tries, delay = 1000, status = GX_FAILED;
	struct reply r;

	for (tries = 1;; tries++) {
		error = start_try(f, command, &r);
		if (error == 0) {
			status = start_take(f, r.body);
			reply_free(&r);
			return status;
		}
		if (error == -EINTR || error == -ETIMEDOUT ||
		    error == -EAGAIN || r.answer.fate == ANSWER_UNKNOWN) {
			fate = "the job may have been started: gx --jobs";
			status = GX_UNKNOWN;
		}
		if (error != -EINTR && (r.final || tries == START_TRIES)) {
			gx_warn("%s; %s", r.why, fate);
			reply_free(&r);
			return status;
		}
		reply_free(&r);
		if (error == -EINTR ||
		    pause_growing(&delay, &f->signal) == -EINTR) {
			gx_warn("interrupted; %s", fate);
			return 128 + f->signal;
		}
	}
}

int
job_follow(const struct place *p, const char *command)
{
	struct follow f = {.place = p};
	int status;

	gx_token(f.token);
	call_catch_signals();
	if ((status = start(&f, command)) != 0)
		return status;
	gx_warn("job %lu", f.job);
	return follow(&f);
}

int
job_attach(const struct place *p, unsigned long job)
{
	struct follow f = {.place = p, .job = job};

	call_catch_signals();
	return follow(&f);
}

/* --- the list ------------------------------------------------------------- */

struct entry {
	unsigned long job;
	time_t start;
	char state[32];
	char *command; /* in base64, then decoded */
};

static int
compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->job < y->job ? -1 : x->job > y->job;
}

static void
entry_print(struct entry *e)
{
	struct text t = {0};
	char when[32] = "-";
	struct tm tm;
	ssize_t n;

	if (e->start > 0 && localtime_r(&e->start, &tm) != NULL)
		strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
	if ((n = base64_decode(e->command, strlen(e->command))) < 0)
		n = 0;
	while (n > 0 && e->command[n - 1] == '\n')
		n--;
	text_puts(&t, "");
	text_escape(&t, e->command, (size_t)n);
	printf("%3lu  %-8s  %-16s  %s\n", e->job, e->state, when,
	    t.failed ? "" : t.data);
	text_free(&t);
}

static int
list_print(char *body)
{
	struct entry *list = NULL, *more, e;
	char *line, *save, *at;
	size_t i, n = 0;
	long long begin;
	int used;

	for (line = strtok_r(body, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		used = 0;
		if (sscanf(line, "%lu %lld %*s %n", &e.job, &begin, &used) <
			2 ||
		    used == 0)
			continue;
		e.start = (time_t)begin;
		snprintf(e.state, sizeof e.state, "%s", line + used);
		at = save;
		if (at == NULL || *at == '\n')
			e.command = line + strlen(line);
		else if ((e.command = strtok_r(NULL, "\n", &save)) == NULL)
			break;
		if ((more = reallocarray(list, n + 1, sizeof *list)) == NULL)
			break;
		list = more;
		list[n++] = e;
	}
	if (n > 0)
		qsort(list, n, sizeof *list, compare);
	for (i = 0; i < n; i++)
		entry_print(&list[i]);
	free(list);
	if (fflush(stdout) == EOF)
		return gx_output_failed(-errno, 0);
	return 0;
}

int
job_list(const struct place *p)
{
	char nonce[COMPOSE_TOKEN];
	struct text t = {0};
	struct reply r;
	int status;

	gx_token(nonce);
	compose_jobs(&t, nonce);
	if ((status = ask_once(p, &t, nonce, &r)) == 0)
		status = list_print(r.body);
	reply_free(&r);
	text_free(&t);
	return status;
}

int
job_kill(const struct place *p, unsigned long job)
{
	char nonce[COMPOSE_TOKEN];
	struct text t = {0};
	struct reply r;
	int status;

	gx_token(nonce);
	compose_kill(&t, nonce, job);
	if ((status = ask_once(p, &t, nonce, &r)) == 0 &&
	    strncmp(r.body, "running", 7) != 0) {
		status = GX_FAILED;
		r.body[strcspn(r.body, "\n")] = '\0';
		if (strcmp(r.body, "gone") == 0)
			gx_warn("there is no job %lu in this VM", job);
		else
			gx_warn("job %lu does not run: %s", job, r.body);
	}
	reply_free(&r);
	text_free(&t);
	return status;
}

int
job_clean(const struct place *p)
{
	char nonce[COMPOSE_TOKEN];
	struct text t = {0};
	struct reply r;
	int status;

	gx_token(nonce);
	compose_clean(&t, nonce);
	status = ask_once(p, &t, nonce, &r);
	reply_free(&r);
	text_free(&t);
	return status;
}
