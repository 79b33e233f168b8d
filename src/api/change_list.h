#ifndef API_CHANGE_LIST_H
#define API_CHANGE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The list of files that a command changed, as the command endpoint gives it
 * (api/execute-command.txt, "File Change Tracking").  A hint, not the truth.
 */
enum change_kind { CHANGE_CREATED, CHANGE_MODIFIED, CHANGE_DELETED };

struct change {
	enum change_kind kind;
	int64_t size; /* -1: unknown */
	char *path; /* absolute in the VM; owned */
	char *mime; /* or NULL; owned */
	char *url; /* public_url as given (a path), or NULL; owned */
};

struct change_list {
	size_t count;
	struct change *items; /* owned */
};

void change_list_free(struct change_list *);

/*
 * The text that .exec gives: the output (a newline added if it lacks one; an
 * empty output stays empty), the line "--- output cut after N bytes" if there
 * was more of it, the line "--- exit N, M files changed", a line for each
 * change (form in the manual page).  base_url makes public addresses
 * absolute.  malloc'ed, with its length in *len; NULL: out of memory.
 */
char *change_format(const char *output, size_t output_len, bool cut,
    int exit_code, const struct change_list *, const char *base_url,
    size_t *len);

#endif
