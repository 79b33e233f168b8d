#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json_text.h"
#include "ask.h"
#include "base/base64.h"
#include "compose.h"
#include "gx.h"
#include "json.h"

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

/* The command as bytes. */
static size_t
entry_decode(struct entry *e)
{
	ssize_t n = base64_decode(e->command, strlen(e->command));

	while (n > 0 && e->command[n - 1] == '\n')
		n--;
	return n < 0 ? 0 : (size_t)n;
}

static void
entry_print_json(struct entry *e)
{
	size_t n = entry_decode(e);
	char when[32] = "";
	struct tm tm;
	int code;

	printf("{\"job\": %lu, \"state\": ", e->job);
	json_write_bytes(stdout, e->state, strcspn(e->state, " "));
	if (sscanf(e->state, "exit %d", &code) == 1)
		printf(", \"exit_code\": %d", code);
	if (e->start > 0 && gmtime_r(&e->start, &tm) != NULL)
		strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	printf(", \"started\": ");
	json_write_bytes(stdout, when, strlen(when));
	printf(", \"command\": ");
	json_write_bytes(stdout, e->command, n);
	putchar('}');
}

static void
entry_print(struct entry *e)
{
	size_t n = entry_decode(e);
	struct text t = {0};
	char when[32] = "-";
	struct tm tm;

	if (e->start > 0 && localtime_r(&e->start, &tm) != NULL)
		strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
	text_puts(&t, "");
	text_escape(&t, e->command, n);
	printf("%3lu  %-8s  %-16s  %s\n", e->job, e->state, when,
	    t.failed ? "" : t.data);
	text_free(&t);
}

static int
list_print(char *body, bool json)
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
	if (json)
		putchar('[');
	for (i = 0; i < n; i++) {
		if (!json)
			entry_print(&list[i]);
		if (json && i > 0)
			fputs(", ", stdout);
		if (json)
			entry_print_json(&list[i]);
	}
	if (json)
		puts("]");
	free(list);
	if (fflush(stdout) != EOF)
		return 0;
	gx_warn("writing the output: %s", strerror(errno));
	return GX_FAILED;
}

int
job_list(const struct place *p, bool json)
{
	char nonce[COMPOSE_TOKEN];
	struct text t = {0};
	struct reply r;
	int status;

	gx_token(nonce);
	compose_jobs(&t, nonce);
	if ((status = ask_once(p, &t, nonce, &r)) == 0)
		status = list_print(r.body, json);
	reply_free(&r);
	text_free(&t);
	return status;
}

int
job_kill(const struct place *p, unsigned long job)
{
	char nonce[COMPOSE_TOKEN], name[24];
	struct text t = {0};
	struct reply r;
	int status;

	snprintf(name, sizeof name, "%lu", job);
	gx_token(nonce);
	compose_kill(&t, nonce, name);
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
