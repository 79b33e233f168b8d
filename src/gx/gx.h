#ifndef GX_H
#define GX_H

#include <stdbool.h>
#include <stddef.h>

#include "place.h"

/* What the parts of the program share: how it complains and ends. */

enum {
	GX_USAGE = 2,
	GX_TIMEOUT = 124,
	GX_UNKNOWN = 254, /* it may have run; nobody knows how it ended */
	GX_FAILED = 255, /* it was not run, or gx could not do that */
};

/* "gx: ..." and a newline on stderr. */
void gx_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* 16 random hexadecimal digits. */
void gx_token(char token[17]);
/* An exit code as the kernel takes it: 0 to 255, and 0 for 0 only. */
int gx_exit_code(int code);
/* To this descriptor, *written of it.  0, -EINTR: a signal, in *signal; or
 * -errno. */
int gx_output(
    int fd, const char *data, size_t len, size_t *written, int *signal);

/* Each gives the exit code for gx. */
int job_list(const struct place *, bool json);
int job_kill(const struct place *, unsigned long job);
int job_clean(const struct place *);
/* The programs of the VM, one a line. */
int programs_list(const struct place *);

#endif
