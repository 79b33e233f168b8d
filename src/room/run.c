#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "room/room_impl.h"

/* No service takes less. */
#define RUN_SURE ((size_t)4096)

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

/*
 * Does it have to be carried to the VM before it is run: since a command can't
 * be so long, or can't hold such bytes, or because nothing as large was seen
 * to be taken?  (If that fails, then not with the user's own command.)
 */
static bool
run_is_unusual(struct room *r, const char *text, size_t len)
{
	size_t size = api_body_size(text, len);

	return len > SCRIPT_MAX || !utf8_is_text(text, len) ||
	    size > api_body_max(r->api) ||
	    (size > RUN_SURE && size > api_body_proven(r->api));
}

static void
take_answer(struct room_run *out, struct api_answer *a)
{
	out->exit_code = a->exit_code;
	out->output = a->output;
	out->output_len = a->len;
	out->cut = a->cut;
	out->json = a->json;
	out->json_len = a->json_len;
	out->changes = a->changes;
	*a = (struct api_answer){0};
}

int
room_run(struct room *r, struct wait *wait, const char *dir,
    const char *command, size_t len, struct room_run *out)
{
	struct api_answer a = {0};
	char *text = NULL, *carried = NULL;
	size_t text_len;
	int error = -E2BIG;

	(void)wait; /* callers wait for the job that runs this */
	*out = (struct room_run){.fate = FATE_NOT_RUN};
	if (len > 0 && command[len - 1] == '\n')
		len--;
	if ((text = run_compose(dir, command, len, &text_len)) == NULL)
		return -ENOMEM;
	if (!run_is_unusual(r, text, text_len))
		error = api_command(r->api, API_USER, text, text_len, &a);
	/* That is refused for its size only if it has surely not run. */
	if (error == -E2BIG) {
		api_answer_free(&a);
		a = (struct api_answer){0};
		error = room_carry_user(r, text, text_len, &carried);
		if (error != 0)
			snprintf(out->detail, sizeof out->detail,
			    "the script could not be put into the temporary "
			    "directory of the VM");
		else
			error = api_command(
			    r->api, API_USER, carried, strlen(carried), &a);
	}
	out->fate = a.fate;
	if (a.detail[0] != '\0')
		snprintf(out->detail, sizeof out->detail, "%s", a.detail);
	if (error == 0)
		take_answer(out, &a);
	else if (error == -EREMOTEIO && a.fate == FATE_NOT_RUN)
		error = -EIO;
	api_answer_free(&a);
	free(carried);
	free(text);
	return room_errno(error);
}

void
room_run_free(struct room_run *out)
{
	free(out->output);
	free(out->json);
	change_list_free(&out->changes);
	*out = (struct room_run){0};
}
