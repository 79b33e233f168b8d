#ifndef KERNEL_CHANGE_H
#define KERNEL_CHANGE_H

#include "kernel/fs_impl.h"

/* What fs_change.c, fs_rename.c and fs_adopt.c share; nobody else includes
 * this. */

/*
 * Changes of names and attributes: one command each.  They run as jobs, so
 * that an interrupted caller does not lose what the VM has done meanwhile.
 */
struct change_job {
	struct job job;
	struct fs *fs;
	struct room_change ops[2]; /* strings owned */
	size_t nops;
	struct room_changed now[2];
	uint64_t dir, to_dir, node; /* held; 0: none */
	char *name, *to_name; /* owned */
	bool made; /* a symlink that would read otherwise: it is noted */
	char *hidden; /* where an open file goes (ops[0].keep); owned */
	uint64_t hides; /* that file; held */
	uint64_t left; /* it loses one of its names, and ops[1] looks at
			* another; held */
	int error;
};

/*
 * A change in a directory (NULL: of something without a name), with the tree
 * locked; NULL: no memory, or (errno) the directory is gone.  ops[0] has its
 * path.  job_put() it.
 */
struct change_job *change_new(
    struct fs *, enum room_op, struct node *dir, const char *name);
/* Run it; the reference is still the caller's. */
int change_do(struct change_job *, struct wait *);
/* Names that can't be changed: -EPERM, -ENAMETOOLONG. */
int change_refuse(struct fs *, const char *name);
/* May the VM's user change names in the directory? */
int change_may(struct fs *, const struct node *dir);
/*
 * An open file is about to lose its last name and must go on working: if all
 * its bytes are here they are kept here; else c->hidden is set to the hidden
 * name that it shall have in the VM until it is closed.  Tree locked.
 */
int change_keep_open(struct change_job *, struct node *, struct node *dir);
/*
 * A file is about to lose this name.  If it has others, another is looked at
 * after the change: its times change, too.  Tree locked.
 */
int change_look_at_rest(
    struct change_job *, struct node *, struct node *dir, const char *name);
/* It is done, and the tree takes in what its answer tells.  Tree locked. */
void change_adopt(struct change_job *);
/* It went otherwise than we thought: what we know of it is not so. */
void change_doubt(struct change_job *);

#endif
