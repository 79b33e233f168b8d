/* The host's side of a room's files. */
#ifndef ROOMD_TREE_H
#define ROOMD_TREE_H

#include "vm.h"

int tree_prepare(const struct vm_spec *spec);
int tree_renew(const struct vm_spec *spec, const char *old_id);
int tree_remove(const char *path);

#endif
