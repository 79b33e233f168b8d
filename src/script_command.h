#ifndef SCRIPT_COMMAND_H
#define SCRIPT_COMMAND_H

#include <stddef.h>

#include "script.h"

/*
 * A command being put together, for script.c and script_change.c.  text is
 * NULL once something failed; then all of these do nothing.
 */
struct command {
	char *text;
	size_t len, size;
};

void command_start(struct command *, const char *nonce);
/* vm/frame.sh; vm/record_*.sh. */
void command_add_frame(struct command *);
void command_add_records(struct command *, enum script_tools);
void command_add(struct command *, const char *text);
/* Numbers and the like: no more than 255 bytes. */
void command_addf(struct command *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void command_add_quoted(struct command *, const char *text);
void command_fail(struct command *);

/* The command, or NULL when something failed or it grew too long. */
char *command_end(struct command *, size_t *len);

#endif
