#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include <stddef.h>

/*
 * Rooms by name, gentilityfs.conf(5): the user's file first
 * ($XDG_CONFIG_HOME/gentilityfs/config), then /etc/gentilityfs/config.
 */
struct config_room {
	char *source; /* all malloc'ed; NULL: not given */
	char *mountpoint;
	char *options; /* as behind -o */
};

/*
 * Look a name up.  0; -ENOENT when there is none (detail lists those that
 * there are), or another -errno with a line in detail.  config_room_free() is
 * due in any case.
 */
int config_find(
    const char *name, struct config_room *, char *detail, size_t size);
void config_room_free(struct config_room *);

#endif
