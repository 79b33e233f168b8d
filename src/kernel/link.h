#ifndef LINK_H
#define LINK_H

#include "kernel/fs_impl.h"

/* How symlinks read, for name.c, attr.c and change.c. */

/*
 * The target of a new link in a directory, when a program asks for this text;
 * *made: it reads so because it was made here.  malloc'ed; NULL: no memory.
 * Tree locked, as for all of these.
 */
char *link_target(struct fs *, struct node *dir, const char *text, bool *made);

/*
 * The text as it is shown; malloc'ed.  NULL with errno: ENOMEM; ESTALE: the
 * link is gone, and would lead who knows where; EAGAIN (only if ask is not
 * NULL): one has to look for a name first, in *ask, which is malloc'ed.
 */
struct link_ask {
	uint64_t dir;
	char *name;
};
char *link_text(struct fs *, const struct node *, struct link_ask *ask);

/* Does it read otherwise than in the room, so that it counts who asks? */
bool link_varies(struct fs *, const struct node *);

/*
 * Is this a version control program that looks at a file in a work tree, so
 * that it has to have the room's own text?  look: by lstat(2), and it comes
 * back for the text.
 */
bool link_is_versioned(struct fs *, struct node *, pid_t, bool look);

#endif
