#ifndef CLI_ROOMS_H
#define CLI_ROOMS_H

#include <stdbool.h>

#include "cli/options.h"

/*
 * What is mounted on this machine.  Each prints its result; 0, or EXIT_FAILURE
 * with what is wrong on standard error, or in detail.
 */

/* Is the topmost mount at this path one of ours? */
bool rooms_is_mount(const char *path);

/* gentilityfs --list */
int rooms_list(const struct options *, char detail[OPTIONS_DETAIL]);

/*
 * gentilityfs --unmount: returns when all is sent and the process has ended.
 * A failure is also what went to the recovery folder meanwhile.
 */
int rooms_unmount(const struct options *, char detail[OPTIONS_DETAIL]);

/* gentilityfs --recovered: what lies in the recovery folder, or remove it. */
int rooms_recovered(const struct options *, char detail[OPTIONS_DETAIL]);

#endif
