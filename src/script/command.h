#ifndef SCRIPT_COMMAND_H
#define SCRIPT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "script/script.h"

/*
 * A command being put together, for script.c and script_change.c.  text is
 * NULL once something failed, with the errno why; then all of these do nothing.
 */
struct command {
	char *text;
	size_t len, size;
	int error;
	bool deep; /* it has the program for deep paths */
};

/* With nothing in it yet; with the prelude. */
void command_begin(struct command *, const char *nonce);
void command_start(struct command *, const char *nonce);
/* vm/frame.sh; vm/record_*.sh. */
void command_add_frame(struct command *);
void command_add_records(struct command *, enum script_tools);
void command_add(struct command *, const char *text);
/* Numbers and the like: no more than 255 bytes. */
void command_addf(struct command *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void command_add_quoted(struct command *, const char *text);
void command_fail(struct command *, int error);

/*
 * Paths that may be too long for one system call (script_deep.c): on the line
 * before a call its directory is opened as descriptor fd, 8 or 9; and in the
 * call it is named by that.
 */
bool command_is_deep(const char *path);
void command_open_deep(struct command *, int fd, const char *path);
void command_add_path(struct command *, int fd, const char *path);

/* Does the change name two paths of the VM, and tell of both? */
bool script_has_two_paths(enum script_change_op);

/* The command, or NULL and errno: ENOMEM; ENAMETOOLONG when it grew too long or
 * holds what no command can say. */
char *command_end(struct command *, size_t *len);

#endif
