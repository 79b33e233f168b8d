#ifndef PLACE_H
#define PLACE_H

#include <stddef.h>
#include <stdint.h>

#define PLACE_WHY 512

/* Where we are: in which mount, and how commands get to its VM. */
struct place {
	int here; /* the current directory */
	int root; /* the mount's own root, if it can be reached, else here */
	char *control; /* the name of the control file that speaks JSON */
	char *mountpoint;
	uint64_t id; /* of the mount, among those of this machine */
};

/*
 * Find out.  control: its name without .json, or NULL for the usual one, or
 * another that the mount's root lists.
 * 0, or -errno with one line for the user in why.
 */
int place_find(struct place *, const char *control, char why[PLACE_WHY]);
void place_free(struct place *);

/* What to tell of an error of the control file itself. */
void place_explain(const struct place *, int error, char why[PLACE_WHY]);

#endif
