#ifndef CLI_OPTIONS_IMPL_H
#define CLI_OPTIONS_IMPL_H

#include "cli/options.h"

/* What options.c and option_set.c share; nobody else includes this. */

enum { STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* What goes along while parsing. */
struct parse {
	struct options *options;
	char *detail;
	bool mount_helper; /* started by mount(8), with its flags */
	bool sloppy; /* mount(8)'s -s: pass over unknown options */
	char *fsname;
	char *given; /* what stands behind all -o, with commas between */
	/* for the kernel as given; see kernel_options() */
	bool noexec, noatime, sync, dirsync, auto_unmount;
};

/* Out of memory at start-up ends the program. */
void *options_need(void *memory);
/* Wrong usage: puts the line into p->detail; STATUS_USAGE. */
int options_wrong(struct parse *, const char *, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes the value over. */
void options_set_string(char **to, char *value);

/* Options between commas; a backslash takes the next byte as it is.  0 or
 * STATUS_*. */
int options_set(struct parse *, const char *list);

#endif
