#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "compose.h"
#include "gx_scripts.h"

/* What the driver is told: exit code 0 means that nothing changed. */
#define QUIET "#gentilityfs: 0 is no change\n"
/* A longer text does not go as an argument, of which Linux takes 128 KiB. */
#define ARGUMENT_MAX ((size_t)120 * 1024)

static void
begin(struct text *t, const char *nonce)
{
	text_printf(t, QUIET "r=%s\n", nonce);
	text_puts(t, vm_jobs);
}

static void
end(struct text *t)
{
	text_puts(t, "\nM end\nexit $q\n");
}

/* A function that prints these bytes; only ASCII goes as it is. */
static void
print_function(struct text *t, const char *name, const char *data)
{
	const unsigned char *c;
	char *encoded;
	size_t len = strlen(data), n;

	for (c = (const unsigned char *)data; *c != '\0' && *c < 0x80;)
		c++;
	text_printf(t, "%s() {\nprintf %%s ", name);
	if (*c == '\0') {
		text_quote(t, data);
	} else if ((encoded = base64_encode(data, len, &n)) == NULL) {
		t->failed = true;
	} else {
		text_printf(t, "'%s' | b -d", encoded);
		free(encoded);
	}
	text_puts(t, "\n}\n");
}

static void
part_function(struct text *t, const char *base64)
{
	text_puts(t, "B() {\n");
	if (base64 == NULL)
		text_puts(t, ":");
	else
		text_printf(t, "printf %%s '%s' | b -d", base64);
	text_puts(t, "\n}\n");
}

static void
set_quoted(struct text *t, const char *name, const char *value)
{
	text_printf(t, "%s=", name);
	text_quote(t, value);
	text_puts(t, "\n");
}

static void
put_runner(struct text *t, const struct compose_job *j)
{
	struct text runner = {0};

	if (j->timeout != NULL || j->idle != NULL)
		text_puts(&runner, vm_find);
	text_puts(&runner, vm_runner);
	t->failed = t->failed || runner.failed;
	if (!t->failed)
		set_quoted(t, "R", runner.data);
	set_quoted(t, "T_", vm_inner);
	if (j->terminal) {
		set_quoted(t, "Y", vm_terminal_python);
		set_quoted(t, "L", vm_terminal_perl);
	}
	text_free(&runner);
}

void
compose_start(struct text *t, const char *nonce, const struct compose_job *j,
    unsigned long max)
{
	begin(t, nonce);
	text_puts(t, vm_start);
	put_runner(t, j);
	print_function(t, "C", j->command);
	print_function(t, "V", j->before == NULL ? "" : j->before);
	part_function(t, j->part);
	text_printf(t, "M begin\nS %s %s %lu x%s%s%s%s%s%s %s %s", j->token,
	    j->wait, max, j->keep ? "k" : "", j->merge ? "m" : "",
	    j->input ? "i" : "", j->input_whole ? "E" : "",
	    j->terminal ? "p" : "",
	    strlen(j->command) > ARGUMENT_MAX ? "f" : "",
	    j->timeout == NULL ? "0" : j->timeout,
	    j->idle == NULL ? "0" : j->idle);
	if (j->rows != 0)
		text_printf(t, " %u %u", j->rows, j->columns);
	else
		text_puts(t, " '' ''");
	end(t);
}

void
compose_poll(struct text *t, const char *nonce, const char *job,
    const struct compose_want *want, unsigned steps, const char *pause,
    unsigned long fed)
{
	begin(t, nonce);
	text_printf(t, "M begin\nP %s %" PRIu64 " %" PRIu64 " %lu %u %s %lu",
	    job, want->out, want->err, want->max, steps, pause, fed);
	end(t);
}

void
compose_give(struct text *t, const char *nonce, const char *token,
    const struct compose_want *want, const struct compose_input *in)
{
	begin(t, nonce);
	text_puts(t, vm_input);
	part_function(t, in->part == 0 ? NULL : in->data);
	text_printf(t, "M begin\nW %s %lu ", token, in->part);
	if (in->last != 0)
		text_printf(t, "%lu", in->last - 1);
	else
		text_puts(t, "''");
	if (in->rows != 0)
		text_printf(t, " %u %u", in->rows, in->columns);
	else
		text_puts(t, " '' ''");
	text_printf(t, " %" PRIu64 " %" PRIu64 " %lu %u", want->out, want->err,
	    want->max, in->steps);
	end(t);
}

void
compose_beside(struct text *t, const char *nonce, const char *token)
{
	begin(t, nonce);
	text_puts(t, vm_input);
	text_printf(t, "M begin\nj=$d/t.%s\nQ", token);
	end(t);
}

void
compose_keep(struct text *t, const char *nonce, const char *token)
{
	begin(t, nonce);
	text_puts(t, vm_end);
	text_printf(t, "M begin\nH %s", token);
	end(t);
}

void
compose_kill(struct text *t, const char *nonce, const char *job)
{
	begin(t, nonce);
	text_puts(t, vm_find);
	text_puts(t, vm_end);
	text_printf(t, "M begin\nK %s", job);
	end(t);
}

static void
list(struct text *t, const char *nonce, const char *call)
{
	begin(t, nonce);
	text_puts(t, vm_list);
	text_printf(t, "M begin\n%s", call);
	end(t);
}

void
compose_jobs(struct text *t, const char *nonce)
{
	list(t, nonce, "J");
}

void
compose_clean(struct text *t, const char *nonce)
{
	list(t, nonce, "X");
}

void
compose_programs(struct text *t, const char *nonce)
{
	list(t, nonce, "Z");
}

int
compose_frame(char *output, size_t len, const char *nonce, char **body)
{
	char mark[64], *p, *q;
	int n;

	n = snprintf(mark, sizeof mark, "<gx-begin %s>", nonce);
	if ((p = memmem(output, len, mark, (size_t)n)) == NULL)
		return -EPROTO;
	p += n;
	if (*p == '\n')
		p++;
	n = snprintf(mark, sizeof mark, "<gx-end %s>", nonce);
	if ((q = memmem(p, len - (size_t)(p - output), mark, (size_t)n)) ==
	    NULL)
		return -EAGAIN;
	/* The mark begins on a line of its own. */
	if (q > p && q[-1] == '\n')
		q--;
	*q = '\0';
	*body = p;
	return 0;
}

int
compose_status(char *body, struct job_status *s, char **out, char **err)
{
	char state[16], *p;
	unsigned beside;
	int used = 0;

	*s = (struct job_status){.code = -1};
	if (sscanf(body, "%63s %lu %" SCNu64 " %" SCNu64 " %lu %u %15s%n",
		s->token, &s->job, &s->out, &s->err, &s->fed, &beside, state,
		&used) != 7)
		return -EPROTO;
	s->beside = beside != 0;
	p = body + used;
	if (strcmp(state, "exit") == 0) {
		s->state = JOB_EXIT;
		s->code = (int)strtol(p, &p, 10);
	} else if (strcmp(state, "gone") == 0) {
		s->state = JOB_GONE;
	} else if (strcmp(state, "dead") == 0) {
		s->state = JOB_DEAD;
	} else if (strcmp(state, "running") != 0) {
		return -EPROTO;
	}
	*out = p = *p == '\n' ? p + 1 : p + strlen(p);
	/* No base64 has a dot. */
	p += strcspn(p, ".");
	*err = *p == '\0' ? p : p + 1;
	*p = '\0';
	return 0;
}
