#ifndef TREE_SYMLINK_H
#define TREE_SYMLINK_H

/*
 * A symlink's target as it is to be shown in the mount, so that it resolves
 * there to what it means in the VM and never to a file of this machine.
 * Pure.  dir: the VM's path of the link's directory; root: of the mount's
 * root.  Absolute targets become relative ones; ".." never climbs above the
 * mount's root; what lies outside of it gets a name that does not exist.
 * malloc'ed; NULL: no memory.
 */
char *symlink_transform(const char *target, const char *dir, const char *root);

#endif
