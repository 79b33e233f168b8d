#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json_text.h"
#include "base/utf8.h"
#include "base/base64.h"
#include "gx.h"
#include "json.h"
#include "run.h"
#include "stream.h"
#include "term.h"

/* The shell of the VM's user. */
static const char own_shell[] =
    "gx_s=${SHELL-}; [ -n \"$gx_s\" ] && [ -x \"$gx_s\" ] || "
    "gx_s=$(awk -F: -v u=\"$(id -u)\" '$3 == u { print $7; exit }' "
    "/etc/passwd); [ -n \"$gx_s\" ] && [ -x \"$gx_s\" ] || gx_s=/bin/sh; "
    "SHELL=$gx_s; export SHELL; exec \"$gx_s\"";

/* What is typed at a terminal is for gx's caller, what comes from elsewhere
 * for the command, as with ssh. */
static bool
wants_input(const struct options *o)
{
	struct stat st;

	if (o->no_input || o->action == ATTACH)
		return false;
	if (o->input || o->terminal)
		return true;
	if (fstat(STDIN_FILENO, &st) == -1)
		return false;
	/* What is left at once can't be waited for to end its input. */
	if (o->detach)
		return S_ISREG(st.st_mode);
	return S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ||
	    S_ISSOCK(st.st_mode);
}

static void
write_stream(const char *name, const struct text *t)
{
	const char *data = t->data == NULL ? "" : t->data;
	char *encoded;
	size_t len;

	printf(", \"%s\": ", name);
	json_write_bytes(stdout, data, t->len);
	if (utf8_is_valid(data, t->len) ||
	    (encoded = base64_encode(data, t->len, &len)) == NULL)
		return;
	printf(", \"%s_base64\": \"%s\"", name, encoded);
	free(encoded);
}

/* What became of it, as one object. */
static void
write_json(const struct stream_result *r, const char *command, double seconds,
    bool timed_out)
{
	static const char *const fates[] = {"ran", "not_run", "unknown"};

	printf("{\"command\": ");
	json_write_bytes(stdout, command, strlen(command));
	printf(", \"fate\": \"%s\", \"exit_code\": ",
	    r->left ? "running" : fates[r->fate]);
	if (r->has_code)
		printf("%d", r->code);
	else
		printf("null");
	write_stream("stdout", &r->out);
	write_stream("stderr", &r->err);
	printf(", \"files_changed\": ");
	changes_write_json(&r->changes, stdout);
	printf(", \"duration\": %.3f, \"timed_out\": %s, \"job\": ", seconds,
	    timed_out ? "true" : "false");
	if (r->job != 0)
		printf("%lu", r->job);
	else
		printf("null");
	if (r->why[0] != '\0') {
		printf(", \"message\": ");
		json_write_bytes(stdout, r->why, strlen(r->why));
	}
	puts("}");
}

/* A habit from ssh. */
static void
hint(const struct options *o, const struct stream_result *r)
{
	if (o->text == NULL && r->has_code && r->code == 127 &&
	    o->words[0] != NULL && o->words[1] == NULL &&
	    strpbrk(o->words[0], " \t\n;&|<>$`") != NULL)
		gx_warn("there is no program of that name; a line for the "
			"shell is run by gx -c '%s'",
		    o->words[0]);
}

/* The command as one text for the VM's shell. */
static void
compose(const struct options *o, struct text *t)
{
	if (o->shell)
		text_puts(t, own_shell);
	else if (o->text != NULL)
		text_puts(t, o->text);
	else
		text_quote_words(t, o->words);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int
run(const struct place *p, const struct options *o)
{
	struct stream_options so = {
	    .job = o->job,
	    .keep = o->follow || o->detach || o->action == ATTACH,
	    .detach = o->detach,
	    .input = wants_input(o),
	    .terminal = o->terminal,
	    .gather = o->json,
	    .timeout = o->timeout,
	};
	struct text command = {0}, before = {0};
	struct stream_result r;
	double begin = now(), seconds;
	bool timed_out;

	if (o->action != ATTACH) {
		compose(o, &command);
		so.command = command.data;
	}
	if (o->terminal)
		term_describe(&before);
	if (o->before.len > 0)
		text_add(&before, o->before.data, o->before.len);
	if (command.failed || before.failed || o->before.failed) {
		gx_warn("%s", strerror(ENOMEM));
		return GX_FAILED;
	}
	so.before = before.data;
	stream_run(p, &so, &r);
	seconds = now() - begin;
	timed_out = o->timeout != NULL && r.has_code && r.code == GX_TIMEOUT &&
	    seconds >= strtod(o->timeout, NULL);
	if (timed_out)
		gx_warn("timed out after %s s; the command in the VM was ended",
		    o->timeout);
	hint(o, &r);
	if (o->json)
		write_json(&r, command.data, seconds, timed_out);
	else if (o->verbose)
		changes_print(&r.changes, stderr);
	if (fflush(stdout) == EOF) {
		gx_warn("writing the output: %s", strerror(errno));
		r.status = GX_FAILED;
	}
	text_free(&command);
	text_free(&before);
	stream_result_free(&r);
	return r.status;
}
