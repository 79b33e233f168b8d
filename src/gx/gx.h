#ifndef GX_H
#define GX_H

#include <stdbool.h>
#include <stddef.h>

#include "place.h"

/* What the parts of the program share: how it complains and ends. */

enum {
	GX_USAGE = 2,
	GX_UNKNOWN = 254, /* it may have run; nobody knows how it ended */
	GX_FAILED = 255, /* it was not run, or gx could not do that */
};

/* "gx: ..." and a newline on stderr. */
void gx_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* 16 random hexadecimal digits. */
void gx_token(char token[17]);
/* An exit code as the kernel takes it: 0 to 255, and 0 for 0 only. */
int gx_exit_code(int code);
/* All of it to stdout.  0, -EINTR: a signal, in *signal; or -errno. */
int gx_output(const char *data, size_t len, int *signal);
/* What to exit with after gx_output() failed so; says why. */
int gx_output_failed(int error, int signal);

/* Run a command and wait for it; the exit code for gx. */
int run_command(const struct place *, const char *command, bool verbose);

/* Jobs: each gives the exit code for gx. */
int job_follow(const struct place *, const char *command);
int job_attach(const struct place *, unsigned long job);
int job_list(const struct place *);
int job_kill(const struct place *, unsigned long job);
int job_clean(const struct place *);

#endif
