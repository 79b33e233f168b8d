#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "cli/options.h"
#include "room/room.h"

/*
 * gentilityfs --check: looks whether the room can be mounted from here, and
 * what will be slow or will not work, and prints it on standard output as
 * lines or as one JSON object (options->json).  The key is looked for here and
 * is put into *config for as long as it is needed.  0 or EXIT_FAILURE.
 */
int check_run(struct options *, struct room_config *config);

#endif
