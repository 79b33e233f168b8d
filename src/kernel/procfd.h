#ifndef KERNEL_PROCFD_H
#define KERNEL_PROCFD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What /proc tells of the processes that use the mount. */

/* Does /proc show the processes that the kernel tells us of?  It may be that of
 * another pid namespace. */
bool procfd_is_ours(void);

/* The process that a thread belongs to; 0: unknown. */
pid_t procfd_process(pid_t thread);

/* The name by which a thread runs, as ps shows it; false: unknown. */
#define PROCFD_NAME 32
bool procfd_name(pid_t thread, char out[PROCFD_NAME]);

/*
 * Shells redirect by dup2(2) and close(2), so a close need not be the last:
 * does the process hold another descriptor, open for writing, for a file with
 * this st_ino, and at this position (-1: at any)?  The closing one is gone
 * from /proc by the time that we are told.
 */
bool procfd_still_open(pid_t process, uint64_t ino, off_t pos);

#endif
