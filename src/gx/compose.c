#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compose.h"
#include "gx_scripts.h"

void
compose_mark(struct text *t, const char *token)
{
	text_printf(t, "<gx-end-%s>", token);
}

void
compose_run(
    struct text *t, const char *command, const char *token, const char *mark)
{
	/*
	 * All on the command's first line, so that the shell's messages count
	 * lines as the user does.  The mark must not go where the command has
	 * sent its output by exec, nor show with set -x.
	 */
	text_printf(t,
	    "export GX_RUN=%s; gx_out=$(readlink /proc/$$/fd/1 2>/dev/null); "
	    "trap '{ set +xv; } 2>/dev/null; [ -z \"$gx_out\" ] || "
	    "[ \"$gx_out\" != \"$(readlink /proc/$$/fd/1)\" ] || "
	    "printf %%s \"%s\"' EXIT; ",
	    token, mark);
	text_puts(t, command);
	text_puts(t, "\n");
}

void
compose_input(struct text *t, const char *command, const char *input_base64)
{
	text_printf(t, "printf %%s '%s' | base64 -d | (\n", input_base64);
	text_puts(t, command);
	text_puts(t, "\n)");
}

static void
begin(struct text *t, const char *nonce)
{
	text_printf(t, "r=%s\n", nonce);
	text_puts(t, vm_find);
	text_puts(t, vm_jobs);
}

static void
end(struct text *t, const char *call)
{
	text_printf(t, "M begin\n%s\nM end\n", call);
}

void
compose_interrupt(struct text *t, const char *nonce, const char *token)
{
	begin(t, nonce);
	text_printf(t, "M begin\nE %s\necho $n\nM end\n", token);
}

void
compose_start(
    struct text *t, const char *nonce, const char *token, const char *command)
{
	begin(t, nonce);
	text_puts(t, "R=");
	text_quote(t, vm_runner);
	text_puts(t, "\nC() {\nprintf '%s\\n' ");
	text_quote(t, command);
	text_printf(t, "\n}\nM begin\nS %s\nM end\n", token);
}

void
compose_poll(struct text *t, const char *nonce, unsigned long job,
    const char *token, unsigned long long offset, unsigned long max,
    unsigned tries, const char *pause)
{
	begin(t, nonce);
	text_printf(t, "M begin\nP %lu '%s' %llu %lu %u %s\nM end\n", job,
	    token, offset, max, tries, pause);
}

void
compose_jobs(struct text *t, const char *nonce)
{
	begin(t, nonce);
	end(t, "J");
}

void
compose_kill(struct text *t, const char *nonce, unsigned long job)
{
	begin(t, nonce);
	text_printf(t, "M begin\nK %lu\nM end\n", job);
}

void
compose_clean(struct text *t, const char *nonce)
{
	begin(t, nonce);
	end(t, "X");
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
