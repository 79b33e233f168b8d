#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/control.h"
#include "base/log.h"
#include "kernel/control_json.h"
#include "kernel/control_last.h"
#include "kernel/procfd.h"

#define CONTROL_MAX ((size_t)1024 * 1024)

struct control {
	pthread_mutex_t lock; /* guards lasts, refs, and each session */
	struct room *room;
	struct pool *pool;
	struct result *last; /* of the plain one that finished last, or NULL */
	struct lasts lasts; /* those of ids */
	void (*after_run)(void *, const struct change_list *);
	void *arg;
};

struct run {
	struct job job;
	struct control *control;
	char *dir, *id, *command;
	size_t len;
	struct result *result; /* set when done */
};

struct session {
	struct control *control;
	char *dir, *id; /* "/": the VM's default; "": none */
	bool json, writable;
	pid_t opener; /* process, not thread; 0: unknown */
	char *text; /* what was written and has not run */
	size_t len, room;
	off_t base; /* the file offset of text[0] */
	bool based;
	int refused; /* a write was: nothing runs until it is emptied */
	off_t written; /* where the latest write ended */
	off_t shift; /* the file offset at which the result begins */
	struct result *shown; /* what reading gives, from its first read on */
	bool ran; /* shown is this session's own */
};

int
control_open(struct control **out, struct room *room,
    void (*after_run)(void *, const struct change_list *), void *arg)
{
	struct control *c;
	int error;

	if ((c = calloc(1, sizeof *c)) == NULL)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	TAILQ_INIT(&c->lasts);
	c->room = room;
	c->after_run = after_run;
	c->arg = arg;
	if ((error = pool_open(&c->pool)) != 0) {
		free(c);
		return error;
	}
	*out = c;
	return 0;
}

void
control_interrupt(struct control *c)
{
	pool_interrupt(c->pool);
}

void
control_close(struct control *c)
{
	if (c == NULL)
		return;
	pool_close(c->pool);
	result_put(c->last);
	lasts_free(&c->lasts);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* With the lock held. */
static struct result *
last_result(struct control *c, const char *dir, const char *id)
{
	return *id == '\0' || dir == NULL ? c->last
					  : lasts_find(&c->lasts, dir, id);
}

uint64_t
control_size(struct control *c, const char *dir, const char *id, bool json)
{
	struct result *r;
	uint64_t size = 0;

	pthread_mutex_lock(&c->lock);
	if ((r = last_result(c, dir, id)) != NULL)
		size = json ? r->json_len : r->text_len;
	pthread_mutex_unlock(&c->lock);
	return size;
}

/* "text" with what JSON wants escaped. */
static void
json_escape(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 8 < size; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			to[n++] = '\\';
		if (c < ' ')
			n += sprintf(to + n, "\\u%04x", c);
		else
			to[n++] = c;
	}
	to[n] = '\0';
}

static const char *
errno_name(int error)
{
	const char *name = strerrorname_np(-error);

	return name == NULL ? "EIO" : name;
}

/* How each fate is told: in the text, and in JSON. */
static const struct {
	const char *text, *json;
} fates[] = {
    [FATE_NOT_RUN] = {"not run", "not_run"},
    [FATE_RAN] = {"ran, result unknown", "ran"},
    [FATE_UNKNOWN] = {"outcome unknown", "unknown"},
};

/* What is read after a command that could not be run, or of which nobody knows
 * how it ended.  The forms are in the manual page. */
static void
result_fail(struct result *r, enum fate f, int error, const char *why)
{
	const char *fate = fates[f].text;
	char escaped[1024];
	int n;

	free(r->text);
	free(r->json);
	r->error = f == FATE_NOT_RUN && error != -EREMOTEIO ? error : -EIO;
	if (*why == '\0')
		why = strerror(-error);
	n = asprintf(&r->text, "gentilityfs: %s: %s\n--- error %s, %s\n", fate,
	    why, errno_name(r->error), fate);
	r->text_len = n < 0 ? 0 : n;
	if (n < 0)
		r->text = NULL;
	json_escape(escaped, sizeof escaped, why);
	n = asprintf(&r->json,
	    "{\"error\": \"%s\", \"message\": \"%s\", \"fate\": \"%s\"}\n",
	    errno_name(r->error), escaped, fates[f].json);
	r->json_len = n < 0 ? 0 : n;
	if (n < 0)
		r->json = NULL;
}

/* Did it say itself that nothing is to be looked at anew? */
static bool
run_was_quiet(const struct run *run, const struct room_run *out)
{
	static const char quiet[] = CONTROL_QUIET;

	return run->len >= sizeof quiet - 1 &&
	    memcmp(run->command, quiet, sizeof quiet - 1) == 0 &&
	    out->exit_code == 0 && out->changes.count == 0;
}

static void
run_run(struct job *job)
{
	struct run *run = (struct run *)job;
	struct control *c = run->control;
	struct result *r = run->result;
	struct room_run out;
	int error;

	error = room_run(c->room, NULL,
	    strcmp(run->dir, "/") == 0 ? NULL : run->dir, run->command,
	    run->len, &out);
	/* Whatever became of it: it may have changed anything. */
	if (out.fate != FATE_NOT_RUN &&
	    !(error == 0 && run_was_quiet(run, &out)))
		c->after_run(c->arg, &out.changes);
	if (error == 0) {
		r->text = change_format(out.output, out.output_len, out.cut,
		    out.exit_code, &out.changes, room_url(c->room),
		    &r->text_len);
		control_json_absolute(out.json, out.json_len, room_url(c->room),
		    &r->json, &r->json_len);
		out.json = NULL;
		if (r->text == NULL || r->json == NULL)
			error = -ENOMEM;
	}
	if (error != 0) {
		log_warn(".exec: %s: %s%s%s", fates[out.fate].text,
		    strerror(-error), *out.detail ? ": " : "", out.detail);
		result_fail(r, out.fate, error, out.detail);
	}
	room_run_free(&out);
	pthread_mutex_lock(&c->lock);
	if (*run->id != '\0') {
		lasts_set(&c->lasts, run->dir, run->id, r);
	} else {
		result_put(c->last);
		c->last = r;
		r->refs++;
	}
	pthread_mutex_unlock(&c->lock);
}

static void
run_free(struct job *job)
{
	struct run *run = (struct run *)job;
	struct control *c = run->control;

	pthread_mutex_lock(&c->lock);
	result_put(run->result);
	pthread_mutex_unlock(&c->lock);
	free(run->dir);
	free(run->id);
	free(run->command);
	free(run);
}

/* Start what was written, if anything; *out is held for the caller. */
static int
session_start(struct session *s, struct run **out)
{
	struct control *c = s->control;
	struct run *run;
	int error;

	*out = NULL;
	if ((run = calloc(1, sizeof *run)) == NULL)
		return -ENOMEM;
	if ((run->result = calloc(1, sizeof *run->result)) == NULL ||
	    (run->dir = strdup(s->dir)) == NULL ||
	    (run->id = strdup(s->id)) == NULL) {
		free(run->dir);
		free(run->result);
		free(run);
		return -ENOMEM;
	}
	run->result->refs = 1;
	run->control = c;
	run->job.run = run_run;
	run->job.free = run_free;
	pthread_mutex_lock(&c->lock);
	if (s->len == 0) { /* nothing, or somebody else was quicker */
		pthread_mutex_unlock(&c->lock);
		free(run->dir);
		free(run->id);
		free(run->result);
		free(run);
		return 0;
	}
	run->command = s->text;
	run->len = s->len;
	s->text = NULL;
	s->len = s->room = 0;
	s->based = false;
	pthread_mutex_unlock(&c->lock);
	job_init(c->pool, &run->job);
	if ((error = job_start(&run->job)) != 0)
		job_put(&run->job);
	else
		*out = run;
	return error;
}

/* Run what was written and wait for its end. */
static int
session_run(struct session *s, struct wait *w)
{
	struct control *c = s->control;
	struct run *run;
	int error;

	if ((error = session_start(s, &run)) != 0 || run == NULL)
		return error;
	if ((error = job_wait(&run->job, w)) == 0) {
		pthread_mutex_lock(&c->lock);
		result_put(s->shown);
		s->shown = run->result;
		s->shown->refs++;
		s->ran = true;
		error = run->result->error;
		pthread_mutex_unlock(&c->lock);
	}
	job_put(&run->job);
	return error;
}

int
session_open(struct session **out, struct control *c, const char *dir,
    const char *id, bool json, bool writable, pid_t opener)
{
	struct session *s;

	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	if ((s->dir = strdup(dir)) == NULL || (s->id = strdup(id)) == NULL) {
		free(s->dir);
		free(s);
		return -ENOMEM;
	}
	s->control = c;
	s->json = json;
	s->writable = writable;
	s->opener = procfd_process(opener);
	/* What others' commands do from here on is not this reader's. */
	pthread_mutex_lock(&c->lock);
	if ((s->shown = last_result(c, dir, id)) != NULL)
		s->shown->refs++;
	pthread_mutex_unlock(&c->lock);
	*out = s;
	return 0;
}

int
session_write(struct session *s, const char *data, size_t len, off_t off)
{
	struct control *c = s->control;
	size_t at, room;
	char *more;
	int error = 0;

	pthread_mutex_lock(&c->lock);
	/* O_APPEND begins where the last result ends. */
	if (!s->based)
		s->base = off;
	s->based = true;
	if (s->refused != 0) {
		error = s->refused;
		goto out;
	}
	if (off < s->base || off > s->base + (off_t)s->len)
		error = -EINVAL; /* a hole: not what anybody means to run */
	else if ((uint64_t)(off - s->base) + len > CONTROL_MAX)
		error = -EFBIG;
	if (error != 0) {
		/* Half a script is worse than none. */
		s->refused = error;
		s->len = 0;
		goto out;
	}
	at = off - s->base;
	if (at + len > s->room) {
		room = (at + len) * 2 < 4096 ? 4096 : (at + len) * 2;
		if ((more = realloc(s->text, room)) == NULL) {
			error = -ENOMEM;
			goto out;
		}
		memset(more + s->len, 0, room - s->len);
		s->text = more;
		s->room = room;
	}
	memcpy(s->text + at, data, len);
	if (at + len > s->len)
		s->len = at + len;
	s->written = off + len;
out:
	pthread_mutex_unlock(&c->lock);
	return error;
}

void
session_truncate(struct session *s, uint64_t size)
{
	pthread_mutex_lock(&s->control->lock);
	if (size < s->len)
		s->len = size;
	if (size == 0)
		s->refused = 0;
	if (s->len == 0)
		s->based = false;
	pthread_mutex_unlock(&s->control->lock);
}

int
session_read(struct session *s, struct wait *w, off_t off, size_t len,
    char **out, size_t *out_len)
{
	struct control *c = s->control;
	const struct result *r;
	const char *text;
	size_t size;
	int error;

	/* Failure is what the text says; the read itself works. */
	if ((error = session_run(s, w)) == -EINTR)
		return error;
	if ((*out = malloc(len + 1)) == NULL)
		return -ENOMEM;
	*out_len = 0;
	pthread_mutex_lock(&c->lock);
	/* Who reads on where he stopped to write wants all of the answer. */
	if (s->written != 0 && off == s->written)
		s->shift = off;
	else if (off < s->shift)
		s->shift = 0;
	s->written = 0;
	off -= s->shift;
	if ((r = s->shown) != NULL) {
		text = s->json ? r->json : r->text;
		size = s->json ? r->json_len : r->text_len;
		if (text != NULL && (uint64_t)off < size) {
			*out_len = len < size - off ? len : size - off;
			memcpy(*out, text + off, *out_len);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return 0;
}

int
session_flush(struct session *s, struct wait *w, pid_t closer, uint64_t ino)
{
	pid_t process;
	off_t end;
	bool waiting;

	pthread_mutex_lock(&s->control->lock);
	waiting = s->len > 0;
	end = s->base + (off_t)s->len;
	pthread_mutex_unlock(&s->control->lock);
	if (!waiting)
		return 0;
	process = procfd_process(closer);
	if (process != 0 && s->opener != 0 && process != s->opener)
		return 0; /* a child that inherited the descriptor */
	if (process != 0 && procfd_still_open(process, ino, end))
		return 0;
	return session_run(s, w);
}

void
session_release(struct session *s)
{
	struct control *c = s->control;
	struct run *run;

	if (session_start(s, &run) == 0 && run != NULL)
		job_put(&run->job);
	pthread_mutex_lock(&c->lock);
	result_put(s->shown);
	pthread_mutex_unlock(&c->lock);
	free(s->text);
	free(s->dir);
	free(s->id);
	free(s);
}
