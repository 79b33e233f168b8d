#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>

/* What .exec.json reads as, taken apart; forms in gentilityfs(1). */
enum answer_fate {
	ANSWER_RAN, /* to its end; exit_code and output are the command's */
	ANSWER_NOT_RUN,
	ANSWER_UNKNOWN, /* it may have run, or run still */
};

struct answer {
	enum answer_fate fate;
	char *why; /* when it did not run: the reason, and the errno's name */
	char *error;
	int exit_code;
	char *output; /* with a NUL after it */
	size_t len;
	char *json; /* the whole answer, for the list of changes */
	size_t json_len;
};

/* Takes json over.  0, -ENOMEM, or -EPROTO: that is no such answer. */
int answer_parse(struct answer *, char *json, size_t len);
void answer_free(struct answer *);

#endif
