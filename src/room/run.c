#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "room/room_impl.h"

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

/* Is it UTF-8 without NULs?  A command travels as JSON text. */
static bool
is_text(const char *s, size_t len)
{
	const unsigned char *c = (const unsigned char *)s, *end = c + len;
	unsigned n;

	while (c < end) {
		n = *c >= 0xf0 ? 3 : *c >= 0xe0 ? 2 : *c >= 0xc2 ? 1 : 0;
		if (*c == 0 || (*c >= 0x80 && n == 0) || *c > 0xf4 ||
		    n >= (size_t)(end - c) || (*c == 0xe0 && c[1] < 0xa0) ||
		    (*c == 0xed && c[1] > 0x9f) ||
		    (*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] > 0x8f))
			return false;
		for (c++; n > 0; n--)
			if ((*c++ & 0xc0) != 0x80)
				return false;
	}
	return true;
}

struct script_text {
	const char *text;
};

static int
text_read(void *arg, uint64_t offset, void *buf, size_t len)
{
	memcpy(buf, ((struct script_text *)arg)->text + offset, len);
	return 0;
}

/*
 * What can't travel as a command is staged in the VM, and the command is to
 * read it from there.  It removes itself first: the shell has it open.
 */
static int
run_stage(struct room *r, const char *command, size_t len, char **out,
    size_t *out_len)
{
	struct interval all = {0, 0};
	struct script_text source;
	struct room_write w = {.path = "/tmp/script",
	    .ranges = &all,
	    .nranges = 1,
	    .read = text_read,
	    .arg = &source};
	char token[17], sha256[65], *text;
	int error, head;

	room_nonce(token);
	if ((text = malloc(len + 64)) == NULL)
		return -ENOMEM;
	head = sprintf(text, "rm -f /tmp/.gentilityfs-%s\n", token);
	memcpy(text + head, command, len);
	source.text = text;
	w.size = all.end = head + len;
	error = room_stage(r, &w, token, true, sha256);
	free(text);
	if (error != 0)
		return error;
	if ((head = asprintf(out, ". /tmp/.gentilityfs-%s", token)) == -1) {
		*out = NULL;
		return -ENOMEM;
	}
	*out_len = head;
	return 0;
}

int
room_run(struct room *r, struct wait *wait, const char *dir,
    const char *command, size_t len, struct room_run *out)
{
	struct api_answer a = {0};
	char *text = NULL, *staged = NULL;
	size_t text_len;
	int error = 0;

	(void)wait; /* callers wait for the job that runs this */
	*out = (struct room_run){0};
	if (len > 0 && command[len - 1] == '\n')
		len--;
	if ((text = run_compose(dir, command, len, &text_len)) == NULL)
		return -ENOMEM;
	if (text_len > SCRIPT_MAX || !is_text(command, len)) {
		free(text);
		text = NULL;
		error = run_stage(r, command, len, &staged, &len);
		if (error != 0)
			snprintf(out->detail, sizeof out->detail,
			    "the script could not be put into /tmp of the VM");
		else if ((text = run_compose(dir, staged, len, &text_len)) ==
		    NULL)
			error = -ENOMEM;
		free(staged);
	}
	if (error == 0) {
		error = api_command(r->api, API_USER, text, text_len, &a);
		snprintf(out->detail, sizeof out->detail, "%s", a.detail);
	} else if (error == -EREMOTEIO)
		error = -EIO; /* the script itself did not run */
	free(text);
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
