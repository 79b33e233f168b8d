#ifndef RUN_H
#define RUN_H

#include "options.h"
#include "place.h"

/* A command, or a job to attach to: gx's exit code. */
int run(const struct place *, const struct options *);

#endif
