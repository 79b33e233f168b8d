#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "compose.h"
#include "gx.h"

/* How long Ctrl-C tries to end the command before it gives up (ms). */
#define END_LIMIT 10000
/* The command may not have begun when it was looked for. */
#define END_AGAIN 500
/* When to say that ending it takes its time. */
#define END_TELL 1000

struct run {
	const struct place *place;
	const char *token;
	struct call call, ender;
	char nonce[COMPOSE_TOKEN];
	int signal; /* the one that asked for the end, or 0 */
	unsigned long ended; /* processes of the command that were found */
};

static int
ender_start(struct run *run)
{
	struct text t = {0};
	int error;

	gx_token(run->nonce);
	compose_interrupt(&t, run->nonce, run->token);
	error = t.failed ? -ENOMEM
			 : call_start(&run->ender, run->place, run->place->root,
			       t.data, t.len);
	text_free(&t);
	return error;
}

static void
ender_finish(struct run *run)
{
	struct answer a;
	char why[PLACE_WHY], *body;

	if (call_finish(&run->ender, run->place, &a, why) == 0 &&
	    a.fate == ANSWER_RAN &&
	    compose_frame(a.output, a.len, run->nonce, &body) == 0)
		run->ended += strtoul(body, NULL, 10);
	answer_free(&a);
}

static long long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/*
 * A signal came: have the command ended by a second one.  0: both are over;
 * -EINTR: the first one may go on.
 */
static int
run_interrupt(struct run *run)
{
	long long begin = now_ms(), now = begin, next = begin;
	bool told = false;
	int r, number, wait;

	while (!run->call.done || run->ender.pid != 0) {
		if (now >= begin + END_LIMIT)
			return -EINTR;
		if (now >= begin + END_TELL && !told) {
			gx_warn("ending the command in the VM; Ctrl-C again "
				"stops waiting for that");
			told = true;
		}
		if (run->ender.pid == 0 && now >= next && ender_start(run) != 0)
			return -EINTR;
		wait = told ? END_AGAIN : END_TELL / 2;
		r = call_wait(run->call.done ? NULL : &run->call, &run->ender,
		    wait, &number);
		if (r == -EINTR)
			return r;
		now = now_ms();
		if (run->ender.pid != 0 && run->ender.done) {
			ender_finish(run);
			next = now + END_AGAIN;
		}
	}
	return 0;
}

static int
run_wait(struct run *run)
{
	int r = call_wait(&run->call, NULL, -1, &run->signal);

	return r == -EINTR ? run_interrupt(run) : 0;
}

/*
 * The list of changed files.  The plain control file has it with absolute
 * addresses; but it may show another command's result by now.
 */
static void
show_changes(const struct run *run, const struct answer *a, const char *mark)
{
	size_t len;
	char *text = place_read_last(run->place, &len), *p = NULL;

	if (text != NULL)
		p = memmem(text, len, mark, strlen(mark));
	if (p != NULL)
		p = strstr(p, "\n--- exit ");
	if (p != NULL)
		p = strchr(p + 1, '\n');
	if (p != NULL) {
		fputs(p + 1, stderr);
		free(text);
		return;
	}
	free(text);
	if ((text = answer_changes(a, &len)) != NULL)
		fwrite(text, 1, len, stderr);
	free(text);
}

/* What became of it, and what gx ends with. */
static int
run_report(const struct run *run, const struct answer *a, bool whole,
    const char *mark, bool verbose)
{
	int error, number;

	if (a->fate == ANSWER_NOT_RUN) {
		gx_warn("not run: %s (%s)", a->why, a->error);
		return GX_FAILED;
	}
	if (a->fate == ANSWER_UNKNOWN) {
		gx_warn("it is not known whether the command ran, or whether "
			"it runs still: %s (%s)",
		    a->why, a->error);
		return GX_UNKNOWN;
	}
	call_release_signals();
	if ((error = gx_output(a->output, a->len, &number)) != 0)
		return gx_output_failed(error, number);
	/* The service may have cut the newline; nobody's prompt belongs there.
	 */
	if (!whole && a->len > 0 && a->output[a->len - 1] != '\n' &&
	    isatty(STDOUT_FILENO))
		gx_output("\n", 1, &number);
	if (verbose)
		show_changes(run, a, mark);
	if (run->signal != 0) {
		gx_warn(run->ended > 0
			? "interrupted; the command in the VM was ended"
			: "interrupted; the command in the VM is over");
		return 128 + run->signal;
	}
	return gx_exit_code(a->exit_code);
}

int
run_command(const struct place *p, const char *command, bool verbose)
{
	char token[COMPOSE_TOKEN], why[PLACE_WHY];
	struct run run = {.place = p, .token = token};
	struct text mark = {0}, t = {0};
	struct answer a = {0};
	int error, status = GX_FAILED;
	bool whole = false;

	run.call.fd = run.ender.fd = -1;
	gx_token(token);
	compose_mark(&mark, token);
	compose_run(&t, command, token, mark.data);
	if (t.failed || mark.failed) {
		gx_warn("%s", strerror(ENOMEM));
		goto out;
	}
	call_catch_signals();
	if ((error = call_start(&run.call, p, p->here, t.data, t.len)) != 0) {
		gx_warn("%s", strerror(-error));
		goto out;
	}
	if (run_wait(&run) != 0) {
		call_abandon(&run.call);
		call_abandon(&run.ender);
		gx_warn("interrupted; the command may go on in the VM");
		status = 128 + run.signal;
		goto out;
	}
	if (call_finish(&run.call, p, &a, why) != 0) {
		gx_warn("%s", why);
		goto out;
	}
	if (a.fate == ANSWER_RAN)
		whole = answer_cut_mark(&a, mark.data);
	status = run_report(&run, &a, whole, mark.data, verbose);
out:
	answer_free(&a);
	text_free(&mark);
	text_free(&t);
	return status;
}
