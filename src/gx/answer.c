#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "json.h"

void
answer_free(struct answer *a)
{
	free(a->why);
	free(a->error);
	free(a->output);
	free(a->json);
	*a = (struct answer){0};
}

int
answer_parse(struct answer *a, char *json, size_t len)
{
	struct json all = {json, json + len}, result;
	char *fate;

	*a = (struct answer){.json = json, .json_len = len};
	if (json_find(all, "result", &result)) {
		a->output = json_find_string(result, "output", &a->len);
		a->exit_code = (int)json_find_number(result, "exit_code", -1);
		if (a->output != NULL)
			return 0;
		return -EPROTO;
	}
	if ((a->error = json_find_string(all, "error", NULL)) == NULL)
		return -EPROTO;
	a->why = json_find_string(all, "message", NULL);
	if (a->why == NULL && (a->why = strdup(a->error)) == NULL)
		return -ENOMEM;
	fate = json_find_string(all, "fate", NULL);
	a->fate = fate != NULL && strcmp(fate, "not_run") == 0 ? ANSWER_NOT_RUN
							       : ANSWER_UNKNOWN;
	free(fate);
	return 0;
}
