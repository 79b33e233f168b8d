#ifndef CLI_STATS_SHOW_H
#define CLI_STATS_SHOW_H

#include "cli/options.h"

/*
 * gentilityfs --stats: asks a mount and prints what it says, once or (with
 * options->watch_ms) until nobody reads it.  0, or EXIT_FAILURE with a line in
 * detail.
 */
int stats_show(const struct options *, char detail[OPTIONS_DETAIL]);

#endif
