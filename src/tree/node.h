#ifndef TREE_NODE_H
#define TREE_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bsdtree.h"

#include "base/attr.h"
#include "script/listing.h"

/*
 * The tree in memory: what is known of the VM's files, since when, and what
 * the kernel holds of it.
 *
 * A node is an inode of the mount, a dentry one of its names.  Directories
 * and files with one link are known by their name; files with more by (device,
 * inode), so that all names of a hard link are one node.  (A directory is
 * never shared between names, whatever its inode number says: the kernel
 * refuses directories with two parents, and a VM may show some.)
 *
 * One lock, tree_lock(), guards everything here; it is held for moments only,
 * never across a call of room.h or an answer to the kernel.  Functions expect
 * it held unless they say otherwise.
 *
 * Lock order: tree, then content, then notify's queue.
 */
struct notify;
struct content;
struct node;
struct shown;

struct dentry {
	RB_ENTRY(dentry) by_name; /* in parent->dir */
	SLIST_ENTRY(dentry) by_node; /* in node->names */
	struct node *node, *parent;
	char name[];
};
RB_HEAD(dentries, dentry);
RB_PROTOTYPE(dentries, dentry, by_name, dentry_compare)

/* A control file of a directory: .exec, .exec@ID, each also with .json. */
struct control_file {
	SLIST_ENTRY(control_file) next; /* in dir->controls */
	struct node *node;
	char id[];
};

struct dir {
	struct dentries names;
	TAILQ_ENTRY(dir) by_use; /* in tree->dirs, the latest used first */
	struct node *node;
	uint64_t listed; /* when the VM was asked for all of it; 0: not */
	uint64_t used; /* when the kernel last asked for it; 0: never */
	uint64_t read; /* when its names were last read one after another */
	uint64_t doubted; /* when something made that doubtful; 0: nothing */
	uint64_t changed; /* no listing of before this epoch counts */
	uint64_t lost; /* epoch of the last local loss of a name */
	size_t count;
	SLIST_HEAD(, control_file) controls; /* those that were looked at */
	uint64_t version; /* grows when its names change */
	uint64_t shown; /* the version that the kernel may have cached */
	uint64_t vouched; /* when a link's text was last shown that is right
			   * only as long as this is a directory; 0: never */
	bool cleaned; /* what was left of ours there was seen to */
	bool closed; /* can't be listed (EACCES): names are asked singly */
};

struct node {
	uint64_t id; /* the kernel's nodeid: never reused */
	struct node *by_id; /* next in the hash chain */
	uint64_t nlookup; /* how often the kernel was given it */
	uint64_t checked; /* when the VM was asked for attr; 0: stale */
	uint64_t changed; /* epoch of the last local change of attr */
	struct attr attr;
	SLIST_HEAD(, dentry) names; /* empty: removed, or the root */
	union {
		struct dir *dir; /* S_IFDIR */
		char *target; /* S_IFLNK */
		struct content *content; /* S_IFREG; NULL until opened */
	};
	struct attr *guess; /* S_IFREG, open: as it was before it was found by
			     * another name, if that is the same file; NULL: it
			     * is for sure, or never was found */
	struct shown *shown; /* what is shown otherwise; NULL: nothing */
	uint64_t told; /* S_IFREG: node_version() that the kernel has seen */
	uint64_t told_at; /* S_IFREG: when it was told that */
	uint64_t moved; /* S_IFREG: when somebody else last gave it, or its
			 * name, other bytes, known to the kernel; 0: never */
	uint64_t pages; /* S_IFREG: node_version() of the kernel's pages */
	pid_t looked_by; /* S_IFLNK: the thread that last asked for attr */
	uint16_t writers; /* S_IFREG: handles that may write */
	uint32_t handles; /* S_IFREG: all of them */
	unsigned opens : 24; /* handles and others that need the node */
	bool linked : 1; /* in the index of hard links */
	bool control : 1; /* .exec: lives outside the tree, names is empty */
	bool json : 1; /* control: .exec.json */
	bool stale : 1; /* of a VM that is gone */
	bool moving : 1; /* in follow.c, for the time of one listing */
	bool replaced : 1; /* its name is another file's now */
	bool moved_once : 1; /* by taking another's name, for the first time
			      * of late: that does not count yet */
	bool removing : 1; /* its name is about to go: it is not sent */
	bool local : 1; /* unsent changes: the VM's word on size and times
			 * does not count */
	bool seen : 1; /* local: somebody was told attr as it is */
};

struct tree;

/* root_path: where in the VM the mount's root lies. */
int tree_open(struct tree **, const char *root_path, uint64_t trust_ms);
void tree_close(struct tree *);
void tree_set_notify(struct tree *, struct notify *);
/* A name that no listing may bring in (the control file's). May be NULL. */
void tree_hide_name(struct tree *, const char *name);

void tree_lock(struct tree *);
void tree_unlock(struct tree *);

struct node *tree_root(struct tree *);
struct node *tree_get(struct tree *, uint64_t id); /* NULL: unknown */

/* Is something checked then still to be trusted?  since: for this caller,
 * who began then, whatever was asked later is fresh in any case, also when
 * something happened meanwhile. */
bool tree_fresh(struct tree *, uint64_t checked, uint64_t since);
/* Is it known at all, and nothing happened since that makes it doubtful? */
bool tree_known(struct tree *, uint64_t checked);
/* For how long, in seconds: what the kernel is told. */
double tree_trust(struct tree *, uint64_t checked);
/* Trust nothing that was checked before now. */
void tree_distrust(struct tree *);
/* An answer took so long: what is asked is to be fresh for longer than that. */
void tree_note_delay(struct tree *, uint64_t ms);

/* The VM's path of a node, malloc'ed; NULL with errno ENOENT (removed) or
 * ENOMEM.  With a name: of that name in the directory. */
char *tree_path(struct tree *, struct node *, const char *name);
/* The node at a path of the VM, NULL when it isn't known. */
struct node *tree_find(struct tree *, const char *path);
struct dentry *tree_lookup(struct node *dir, const char *name);
/* Is the node this directory, or somewhere below it? */
bool tree_is_within(struct tree *, const struct node *, const struct node *dir);
/* The nearest directory that is, or holds, both. */
struct node *tree_common_dir(struct tree *, struct node *, struct node *);
/* The directory that holds the node's first name; NULL for the root. */
struct node *node_parent(const struct node *);

/* The name of a control file, taken apart. */
#define CONTROL_ID_MAX 64
struct control_name {
	char id[CONTROL_ID_MAX + 1]; /* "": the plain one */
	bool json;
};
/* control: the plain one's name, or NULL.  False: it is another file's. */
bool control_name_parse(
    const char *control, const char *name, struct control_name *);

/* A control file's node for a directory (made when needed). NULL: no memory. */
struct node *tree_control(
    struct tree *, struct node *dir, const struct control_name *);
/* Which of its directory's it is; "" for the plain one. */
const char *tree_control_id(struct tree *, const struct node *control);
struct node *tree_control_dir(struct tree *, const struct node *control);

/* The kernel was given, or gave back, the node. May free it. */
void node_remember(struct node *);
void node_forget(struct tree *, struct node *, uint64_t count);
void node_hold(struct node *);
void node_release(struct tree *, struct node *);

/* The epoch: grows with every local change. */
uint64_t tree_epoch(struct tree *);
uint64_t tree_next_epoch(struct tree *);

/*
 * Adopt what the VM said at `checked` to a request composed at `epoch`.
 * Differences to what was known are told to the kernel.  These take the lock.
 */
void tree_adopt_listing(
    struct tree *, const struct listing *, uint64_t epoch, uint64_t checked);
void tree_adopt_stat(struct tree *, const char *path, int error,
    const struct entry *, uint64_t epoch, uint64_t checked);

/*
 * The same for one name, lock held: e is what stands there now.  Returns the
 * node, NULL when out of memory.  A node that has the name and was changed
 * after the epoch is the caller's to leave alone.
 */
struct node *tree_adopt_entry(struct tree *, struct node *dir,
    const struct entry *e, uint64_t epoch, uint64_t checked);
void tree_adopt_attr(
    struct tree *, struct node *, const struct attr *, uint64_t checked);
/* The same after a change of our own: the kernel knows.  Not what is older
 * than what is known, or of another type. */
void tree_adopt_own(
    struct tree *, struct node *, const struct attr *, uint64_t checked);
/*
 * Names in the directory changed by our own doing: with its new attributes.
 * What was asked before may tell them otherwise; it does not count for nodes
 * that were adopted as our own, and for names that went.
 */
void tree_touch_dir(struct tree *, struct node *dir);
void tree_lose_name(struct tree *, struct node *dir, const char *name);
/* It is not clear what is there now: who looks from now on has to ask. */
void tree_doubt_dir(struct node *dir);
/* tree_fresh() of its listing; and the listing's time, 0 if it is doubtful. */
bool dir_fresh(struct tree *, const struct dir *, uint64_t since);
uint64_t dir_trusted(const struct dir *);
/* It has another path: what was asked by this one was of something else. */
void tree_move_dir(struct tree *, struct node *dir);
void tree_remove(struct tree *, struct dentry *);
/* A name moves: whatever had the new name is removed.  0 or -ENOMEM. */
int tree_rename(
    struct tree *, struct dentry *, struct node *dir, const char *name);
int tree_link(struct tree *, struct node *, struct node *dir, const char *name);

/*
 * The text of a link was shown that leads through the directory and back by
 * "..": were it a link itself a moment later, the kernel would go elsewhere.
 * So a link that has taken such a name is not shown for some time.
 */
void tree_vouch(struct node *dir);
bool tree_is_broken_word(struct tree *, const struct node *link);

/* Somebody looks into the directory. */
void tree_use_dir(struct tree *, struct node *dir);
/*
 * Forget listings, the longest unused first, until no more than max nodes are
 * known, or only such as are in use.  Takes the lock.
 */
void tree_shrink(struct tree *, size_t max);

/*
 * Paths of directories that were listed since then (0: ever), were used since
 * then, and are stale: the latest used first, at most max.  Takes the lock.
 */
size_t tree_stale_dirs(
    struct tree *, uint64_t used, uint64_t listed, char **paths, size_t max);

/* Ids of nodes with unsent changes (stale: of those of a VM that is gone), at
 * most max; takes the lock. */
size_t tree_local_nodes(struct tree *, bool stale, uint64_t *ids, size_t max);

/* The VM is a new one: forget all but what the kernel holds; that is dead.
 * Takes the lock. */
void tree_replace(struct tree *);
/* A number for the version of a file's contents. */
uint64_t node_version(const struct node *);
/* So long after it moved the kernel may still be told the version before, by
 * an answer under way, in milliseconds. */
#define NODE_SETTLE_MS 10000
bool node_is_settled(const struct node *);
bool node_has_moved(const struct node *); /* in that time, or its name has */

/* The kernel is told the node's attributes. */
void node_tell(struct node *);
/* Was this guess right?  If not, the file has lost its name. */
void node_confirm_guess(
    struct tree *, struct node *, const struct attr *guess, bool same);
/* Is the node of a VM that is gone, or removed? */
bool node_is_dead(const struct tree *, const struct node *);

/*
 * What programs were told before the VM could say.  A file that is written has
 * times of our own until the VM has it, and a new one a number; the directory
 * of a new one has changed before the VM knows.  Who was told them may compare
 * later (git, make, sqlite): so what was told is shown on, for as long as the
 * VM's own is the one that came of our change.
 */
/* The node's attributes as they are shown, but for the number. */
struct attr node_shown(const struct node *);
/* The VM has attr after a change of ours, and the times of that change are
 * shown as these. */
void node_show(struct node *, const struct attr *);
/* Nothing is shown otherwise any more. */
void node_show_vm(struct node *);
/* The number that is shown instead of the VM's; 0: none. */
uint64_t node_shown_ino(const struct node *);
void node_show_ino(struct node *, uint64_t ino);
/* The number that the kernel was given last, if that is another; else 0. */
uint64_t node_kernel_ino(const struct node *);
/* Is anything shown that is lost with the node? */
bool node_is_shown(const struct node *);
/* No longer, if nobody was told it but when the file was empty and about to
 * change: many programs look at what they open, few come back to that. */
void node_settle_ino(struct node *);
/* A file is about to change here; nobody has seen it so.  Somebody does. */
void node_change_here(struct node *);
void node_see(struct node *);
/* A name comes or goes here, which the VM is not told yet: its times become
 * this one.  Was somebody told that, and does it still stand? */
void dir_change_here(struct node *dir, int64_t now);
bool dir_was_told(const struct node *dir);

/* How many nodes are known; for statistics. */
size_t tree_count(struct tree *);

/* Called, lock held, when a node with contents is freed. */
void tree_on_free(
    struct tree *, void (*)(void *arg, struct content *), void *arg);
/* Called, lock held, when the VM has another version under local changes. */
void tree_on_rebase(struct tree *,
    void (*)(void *arg, struct node *, const struct attr *), void *arg);

#endif
