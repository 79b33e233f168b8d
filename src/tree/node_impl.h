#ifndef TREE_NODE_IMPL_H
#define TREE_NODE_IMPL_H

#include <string.h>

#include "base/bsdtree.h"
#include "tree/node.h"

/* What node.c and tree_*.c share; nobody else includes this. */

RB_HEAD(links, link);
TAILQ_HEAD(dirs, dir);

/* So many names that went by our doing are remembered. */
#define TREE_LOST 256
struct lost {
	uint64_t dir, epoch;
	char *name;
};

/* So many names that were vouched for and went are remembered, for so long
 * (ms): longer than any answer takes. */
#define TREE_BROKEN    64
#define TREE_BROKEN_MS 120000

/* So many open files that the VM took the name of are looked for. */
#define TREE_ADRIFT 256

struct tree {
	pthread_mutex_t lock; /* guards all below and every node */
	struct node **ids; /* hash of nodes by id; a power of two */
	size_t nids, count;
	uint64_t next_id;
	struct node *root;
	struct links links; /* files with several names, by (dev, ino) */
	struct dirs dirs; /* the latest used first */
	char *root_path, *hidden;
	uint64_t trust_ms, delay_ms;
	uint64_t distrusted; /* what was checked before is stale */
	uint64_t epoch;
	struct lost lost[TREE_LOST]; /* a ring */
	size_t nlost;
	uint64_t forgot; /* lost names of this epoch and before are not there */
	struct broken {
		uint64_t dir, at;
		char name[256];
	} broken[TREE_BROKEN]; /* a ring */
	size_t nbroken;
	uint64_t adrift[TREE_ADRIFT]; /* their ids, a ring */
	size_t nadrift;
	struct node **open; /* by number, for the time of one listing */
	size_t nopen;
	struct notify *notify;
	void (*on_free)(void *, struct content *);
	void *on_free_arg;
	void (*on_rebase)(void *, struct node *, const struct attr *);
	void *on_rebase_arg;
};

/* All with the lock held; NULL: no memory. */
struct node *node_new(struct tree *, const struct attr *, const char *target);
struct dentry *dentry_new(struct node *, struct node *dir, const char *name);
/* Free the node when nothing refers to it: no name, no kernel, no handle. */
void node_drop(struct tree *, struct node *);

/* The directory of a control file loses it, or a directory all of them. */
void tree_control_drop(struct tree *, struct node *control);
void tree_control_free(struct dir *);

/* The index of files with several names. */
void node_index(struct tree *, struct node *);
void node_unlink_index(struct tree *, struct node *);
struct node *tree_find_linked(struct tree *, const struct attr *);

/*
 * Open files that lost their names (follow.c): one does; between begin and end,
 * for a listing of the directory: is this file one of them, and it takes it,
 * with these attributes (-1: no memory).
 */
void follow_lose(struct tree *, const struct node *);
void follow_begin(struct tree *, struct node *dir, const struct listing *,
    uint64_t epoch, uint64_t checked);
struct node *follow_find(struct tree *, const struct attr *);
int follow_take(struct node *, const struct attr *);
void follow_end(struct tree *);

/* Our own hidden files in the VM (vm/piece.sh, vm/commit.sh). */
static inline bool
name_is_ours(const char *name)
{
	return strncmp(name, ".gentilityfs-", 13) == 0;
}

/* May the names of an answer composed at this epoch be adopted? */
bool dir_may_adopt(const struct tree *, const struct dir *, uint64_t epoch);
/* Did this one go since then? */
bool dir_has_lost(
    const struct tree *, const struct dir *, const char *name, uint64_t epoch);
/* The VM says this of a node that we changed after we had asked. */
/* The kernel has the number that is shown. */
void node_tell_ino(struct node *);
void node_confirm(struct node *, const struct attr *, uint64_t checked);
void tree_free_lost(struct tree *);
/* The VM has taken this name from a directory. */
void tree_break_word(struct tree *, const struct dentry *);

#endif
