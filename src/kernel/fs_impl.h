#ifndef KERNEL_FS_IMPL_H
#define KERNEL_FS_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "kernel/fs.h"
#include "kernel/fuse_api.h"
#include "tree/node.h"
#include "kernel/notify.h"
#include "cli/options.h"
#include "room/room.h"
#include "store/store.h"
#include "base/wait.h"

/* What the files fs_*.c share; nobody else includes this. */

struct content;
struct control;
struct made;
struct dir_handle;
struct open_file;
struct saver;
struct send;
struct signals;
struct trace;
struct bulk;

#define BULK_ROWS 16
#define SEND_ROWS 256 /* a power of two */

struct fs {
	struct fuse_session *session;
	const struct options *options;
	struct room *room;
	struct tree *tree;
	struct store *store;
	struct notify *notify;
	struct control *control;
	struct trace *trace; /* with -d only */
	struct made *made;
	struct pool *pool;
	struct {
		struct pool *small, *large; /* threads that send files */
		TAILQ_HEAD(sends, send) rows[SEND_ROWS]; /* by node's id */
		TAILQ_HEAD(savers, saver) savers; /* who waits */
		uint64_t files, bytes; /* that are unsent */
		int failing; /* how the last one failed to be reached, or 0 */
		bool interrupted; /* nobody's wait lasts any more */
		bool ending; /* and nothing is sent any more */
		atomic_bool watching; /* a job watches who was interrupted */
	} saves; /* under the tree's lock */
	struct signals *signals;
	bool mounted;
	uint64_t root_dev;
	TAILQ_HEAD(, open_file) files;
	TAILQ_HEAD(, dir_handle) dirs; /* open ones; under the tree's lock */
	struct walk {
		uint64_t top, at; /* where it began, and when it went on */
		uint64_t last; /* the directory asked for last */
		uint64_t asked; /* the last from which all was to come */
		unsigned steps, limit; /* so many entries come along next, */
		unsigned most; /* and no more as long as that is slow */
		size_t sent, used; /* directories that came along, and of
				    * them those that somebody looked into */
		size_t listings, entries; /* that came */
	} walk; /* a traversal under way; under the tree's lock */
	struct {
		TAILQ_HEAD(, bulk) jobs;
		unsigned under_way;
		/* Files that are opened one after another. */
		struct bulk_row {
			uint64_t at; /* of the last open; 0: free */
			pid_t pid; /* the thread that opens them */
			uint64_t dir; /* of the last that was not here */
			uint64_t top; /* all are within this directory */
			uint64_t last; /* the last file sent for */
			uint64_t open; /* the last file opened */
			bool back; /* from the last name to the first */
			unsigned count, level;
			uint64_t sent, used; /* bytes, more or less */
		} rows[BULK_ROWS];
	} bulk; /* under the tree's lock */
	struct {
		uint64_t dev, at; /* under the tree's lock */
		struct room_fs fs;
	} statfs;
	struct {
		bool on;
		uint64_t contact; /* the last before it */
		uint64_t asked; /* when somebody last waited a moment */
	} silence; /* of the service; under the tree's lock */
	struct {
		uint64_t id, version; /* of a node, node_version() */
		char type[96];
	} types[16]; /* MIME types asked for; under the tree's lock */
	unsigned next_type;
};

/* A caller's wait that the kernel's interrupt ends.  End it before replying. */
void fs_wait_begin(fuse_req_t, struct wait *);
void fs_wait_end(fuse_req_t, struct wait *);

struct fs *fs_of(fuse_req_t);

/* Does a signal wait for the process that is meant to stop it? */
bool fs_signal_ends(pid_t);

/* The kernel's view of attributes. */
void fs_fill_stat(struct fs *, const struct node *, struct stat *);

/* Reply with a node: counts it as known to the kernel.  Lock held; drops it. */
void fs_reply_node(struct fs *, fuse_req_t, struct node *dir, struct node *);
void fs_fill_entry(
    struct fs *, struct node *dir, struct node *, struct fuse_entry_param *);

/*
 * A directory is asked for (by_name: for the sake of one name in it): so many
 * entries from below it may come along, and what *also says.  Tree locked, as
 * for all of these but note_delay, note_sent and free.
 */
unsigned fs_walk_plan(
    struct fs *, struct node *dir, bool by_name, struct room_also *also);
void fs_walk_free(struct room_also *);
bool fs_walk_goes_on(struct fs *);
/* An answer took so long (ms); a listing came for a directory; somebody looks
 * into one. */
void fs_walk_note_delay(struct fs *, uint64_t ms);
void fs_walk_note_sent(struct fs *, const char *path, size_t entries);
void fs_walk_note_use(struct fs *, struct node *dir);
/*
 * The next name in the order in which a tree is walked, among what is known;
 * wide: also in the directories below, and beside this one within top.
 */
struct dentry *fs_walk_next(
    struct fs *, struct dentry *, uint64_t top, bool wide);
struct dentry *fs_walk_previous(
    struct fs *, struct dentry *, uint64_t top, bool wide);

int fs_find_child(struct fs *, struct wait *, fuse_ino_t dir, const char *name,
    struct node **out);

/* A node with fresh attributes (strict: for an open): 0 with the tree locked;
 * else -errno. */
int fs_find_node(
    struct fs *, struct wait *, fuse_ino_t, bool strict, struct node **out);

/* A directory whose listing is fresh: as fs_find_node().  opened: 0, or when
 * it was looked at for who reads it now; a moment later that will do. */
int fs_find_listed(
    struct fs *, struct wait *, fuse_ino_t, uint64_t opened, struct node **out);

/*
 * How long to wait for something that is known as it was (ms; 0: as long as it
 * takes): not long when the service says nothing at all.  Tree locked.
 */
unsigned fs_patience(struct fs *, bool known);
/*
 * It said nothing since `contact` (room_contact()), and what is known has to
 * do.  Tree unlocked.
 */
bool fs_is_silent(struct fs *, uint64_t contact, int error);

/* Is the VM's user in this group? */
bool fs_in_group(struct fs *, uint32_t gid);
/* Is it the mounting user who asks? */
bool fs_is_mounter(fuse_req_t);
/* May the VM's user do this (R_OK, W_OK, X_OK) by mode and groups? */
bool fs_may(struct fs *, const struct attr *, int mask);
/* Bits of 0600 that its mode denies the VM's user in a file of his own, for
 * which room_write() has `lend`. */
uint32_t fs_lend(struct fs *, const struct attr *);

/* Is the name one of the control files', and which? */
bool fs_is_control_name(struct fs *, const char *name, struct control_name *);
/* Is the control file shown in this directory's listing? Lock held. */
bool fs_lists_control(struct fs *, struct node *dir);

/* The VM's path of a file, also of an open one that lost its name; malloc'ed,
 * NULL with errno.  Tree locked. */
char *fs_path_of(struct fs *, struct node *);

/* Where the changes of a regular file go; made when needed.  Tree locked. */
int fs_content(struct fs *, struct node *, struct content **);
/* The content changed.  Tree locked. */
void fs_mark_local(struct fs *, struct node *);
/* The time that the VM's tools can set, at most this one. */
int64_t fs_settable(struct fs *, int64_t time);
/* Send a file's changes, and wait until the VM has them.  Tree unlocked. */
int fs_send(struct fs *, struct wait *, uint64_t id);
/*
 * The same for a close() or fsync(), which is answered when the VM has all
 * that was written before.  No thread waits for it.
 */
void fs_send_and_reply(struct fs *, fuse_req_t, uint64_t id, bool closes);
/* The same without waiting.  Tree locked. */
void fs_send_later(struct fs *, struct node *);
bool fs_is_sending(struct fs *, struct node *); /* tree locked */
/* Its sending ends, nobody wants it; false: it is too late.  Tree locked. */
bool fs_send_cancel(struct fs *, struct node *);
/* The same when nobody waits for it. */
void fs_send_cancel_idle(struct fs *, struct node *);
/* Wait for the end of a sending that is under way.  0 or -EINTR.  Tree
 * unlocked. */
int fs_send_await(struct fs *, struct wait *, uint64_t id);
/* Its name is about to go, or it stays: meanwhile nothing is sent.  Tree
 * locked. */
void fs_send_hold(struct fs *, struct node *, bool on);
int fs_saves_open(struct fs *);
void fs_saves_close(struct fs *);
/* From now on nobody waits for a close() or fsync(). */
void fs_saves_interrupt(struct fs *);
/* Nothing is sent any more, what is under way ends; it is to be recovered. */
void fs_saves_end(struct fs *);
/* A file that the VM never heard of loses its name.  Tree locked. */
void fs_forget_new(
    struct fs *, struct node *, struct node *dir, const char *name);
/* Send all there is; what can't be sent goes to the recovery folder. */
void fs_send_all(struct fs *);
/* Put a file's unsent bytes where the user finds them, and say where. */
void fs_recover(struct fs *, uint64_t id, int error);
/* What unsent files of this room are labelled with. */
void fs_room_label(struct fs *, char *out, size_t size);
/* Note beside the work file what it is, for the case that we are killed.
 * Tree locked. */
void fs_note_work(struct fs *, struct node *);
/* It has nothing unsent any more.  Tree locked. */
void fs_mark_sent(struct fs *, struct node *);

/* A small file is about to be read: have it and what follows it fetched by one
 * command, if it is one of a row that this thread reads.  0 (fetched or not) or
 * -EINTR. */
int fs_bulk_fetch(struct fs *, struct wait *, pid_t, uint64_t id);

/* Changes by one command; tree locked, they unlock it. */
int fs_change_create(struct fs *, fuse_req_t, struct wait *, struct node *dir,
    const char *name, mode_t);
int fs_change_attr(
    struct fs *, struct wait *, struct node *, const struct room_setattr *);
/* ftruncate(2) of an open control file. */
void fs_truncate_control(struct fuse_file_info *, uint64_t size);
/*
 * With idmap=none and a VM where we are root, new files belong to the caller:
 * true when the VM has to be told.
 */
bool fs_owner(
    struct fs *, fuse_req_t, const struct attr *dir, struct room_setattr *);
/* A listing came: is there what a mount that ended badly has left? */
void fs_clean(struct fs *, const struct listing *);
/* An open file without a name is closed: its hidden name goes.  Owns path. */
void fs_remove_hidden(struct fs *, char *path);

/* What programs still have open when the mount ends by force. */
void fs_free_files(struct fs *);
void fs_free_dirs(struct fs *);

/* Check everything anew, on another thread. */
void fs_check_later(struct fs *);

/* Are there numbers of this file system in memory?  Tree locked. */
bool fs_statfs_known(struct fs *, uint64_t dev);

/* The handlers, by file. */
void fs_init(void *, struct fuse_conn_info *);
void fs_lookup(fuse_req_t, fuse_ino_t, const char *);
void fs_forget(fuse_req_t, fuse_ino_t, uint64_t);
void fs_forget_one(struct fs *, fuse_ino_t, uint64_t count);
void fs_forget_multi(fuse_req_t, size_t, struct fuse_forget_data *);
void fs_readlink(fuse_req_t, fuse_ino_t);
void fs_access(fuse_req_t, fuse_ino_t, int mask);
void fs_getattr(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void fs_setattr(
    fuse_req_t, fuse_ino_t, struct stat *, int, struct fuse_file_info *);
void fs_statfs(fuse_req_t, fuse_ino_t);
void fs_getxattr(fuse_req_t, fuse_ino_t, const char *, size_t);
void fs_listxattr(fuse_req_t, fuse_ino_t, size_t);
void fs_opendir(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void fs_readdir(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void fs_readdirplus(
    fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void fs_releasedir(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void fs_open(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void fs_read(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void fs_write(fuse_req_t, fuse_ino_t, const char *, size_t, off_t,
    struct fuse_file_info *);
void fs_flush(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void fs_fsync(fuse_req_t, fuse_ino_t, int, struct fuse_file_info *);
void fs_release(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void fs_fallocate(
    fuse_req_t, fuse_ino_t, int, off_t, off_t, struct fuse_file_info *);
void fs_copy_file_range(fuse_req_t, fuse_ino_t, off_t, struct fuse_file_info *,
    fuse_ino_t, off_t, struct fuse_file_info *, size_t, int);
void fs_create(
    fuse_req_t, fuse_ino_t, const char *, mode_t, struct fuse_file_info *);
void fs_mknod(fuse_req_t, fuse_ino_t, const char *, mode_t, dev_t);
void fs_mkdir(fuse_req_t, fuse_ino_t, const char *, mode_t);
void fs_unlink(fuse_req_t, fuse_ino_t, const char *);
void fs_rmdir(fuse_req_t, fuse_ino_t, const char *);
void fs_symlink(fuse_req_t, const char *, fuse_ino_t, const char *);
void fs_rename(
    fuse_req_t, fuse_ino_t, const char *, fuse_ino_t, const char *, unsigned);
void fs_link(fuse_req_t, fuse_ino_t, fuse_ino_t, const char *);

#endif
