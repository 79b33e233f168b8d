#ifndef CLI_KEY_H
#define CLI_KEY_H

#include <stddef.h>

/*
 * Find the key: in file (-o key_file, or NULL), else $GENTILITY_API_KEY, else
 * $XDG_CONFIG_HOME/gentilityfs/key, else /etc/gentilityfs/key.  The variable
 * is wiped from the environment in any case.
 *
 * 0, or -errno with a line for the user in detail.  The caller wipes *key with
 * key_free(), and frees *from, the place where it was found.
 */
int key_load(
    const char *file, char **key, char **from, char *detail, size_t size);
void key_free(char *key);

#endif
