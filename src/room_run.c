#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "room_impl.h"

/* "cd DIR || exit" and a new line before a command, if it has a directory. */
static char *
run_compose(const char *dir, const char *command, size_t len, size_t *out_len)
{
	char *quoted = NULL, *text;
	int head = 0;

	if (dir != NULL && (quoted = script_quote(dir)) == NULL)
		return NULL;
	text = malloc((quoted == NULL ? 0 : strlen(quoted) + 32) + len + 1);
	if (text != NULL) {
		if (quoted != NULL)
			head = sprintf(text, "cd %s || exit\n", quoted);
		memcpy(text + head, command, len);
		text[head + len] = '\0';
		*out_len = head + len;
	}
	free(quoted);
	return text;
}

int
room_run(struct room *r, struct wait *wait, const char *dir,
    const char *command, size_t len, struct room_run *out)
{
	struct api_answer a = {0};
	char *text;
	size_t text_len;
	int error;

	(void)wait; /* callers wait for the job that runs this */
	*out = (struct room_run){0};
	if (len > 0 && command[len - 1] == '\n')
		len--;
	if ((text = run_compose(dir, command, len, &text_len)) == NULL)
		return -ENOMEM;
	if (text_len > SCRIPT_MAX) {
		snprintf(out->detail, sizeof out->detail,
		    "the command is longer than %d bytes", SCRIPT_MAX);
		free(text);
		return -EFBIG;
	}
	error = api_command(r->api, API_USER, text, text_len, &a);
	free(text);
	snprintf(out->detail, sizeof out->detail, "%s", a.detail);
	if (error == 0) {
		out->exit_code = a.exit_code;
		out->output = a.output;
		out->output_len = a.len;
		out->json = a.json;
		out->json_len = a.json_len;
		out->changes = a.changes;
		a = (struct api_answer){0};
	}
	api_answer_free(&a);
	return error;
}

void
room_run_free(struct room_run *out)
{
	free(out->output);
	free(out->json);
	change_list_free(&out->changes);
	*out = (struct room_run){0};
}
