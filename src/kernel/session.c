#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>

#include "content/content.h"
#include "kernel/control.h"
#include "kernel/fs_impl.h"
#include "kernel/trace.h"
#include "kernel/made.h"
#include "base/log.h"
#include "kernel/signals.h"
#include "base/thread.h"

/* Each waiting program holds one: libfuse's 10 would freeze the mount. */
#define FS_THREADS	512
#define FS_IDLE_THREADS 16
/* A directory that nobody looked at for so long is not checked with others. */
#define FS_IN_USE_MS	(10 * 60 * 1000)
#define FS_CHECK_DIRS	1024
#define FS_CHECK_ROUNDS 64
/* And so many of what is stale and in use come along with what is asked. */
#define FS_MORE_DIRS 100
/* So many times `timeout` is sent what an unmount finds unsent. */
#define END_TIMEOUTS 3

static const struct fuse_lowlevel_ops fs_ops = {
    .init = fs_init,
    .lookup = fs_lookup,
    .forget = fs_forget,
    .forget_multi = fs_forget_multi,
    .readlink = fs_readlink,
    .access = fs_access,
    .getattr = fs_getattr,
    .setattr = fs_setattr,
    .statfs = fs_statfs,
    .opendir = fs_opendir,
    .readdir = fs_readdir,
    .readdirplus = fs_readdirplus,
    .releasedir = fs_releasedir,
    .open = fs_open,
    .read = fs_read,
    .write = fs_write,
    .flush = fs_flush,
    .fsync = fs_fsync,
    .release = fs_release,
    .fallocate = fs_fallocate,
    .copy_file_range = fs_copy_file_range,
    .create = fs_create,
    .mknod = fs_mknod,
    .mkdir = fs_mkdir,
    .unlink = fs_unlink,
    .rmdir = fs_rmdir,
    .symlink = fs_symlink,
    .rename = fs_rename,
    .link = fs_link,
    .getxattr = fs_getxattr,
    .listxattr = fs_listxattr,
    /* setxattr and the rest: ENOSYS, so the kernel asks but once. */
};

void
fs_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want &= ~(conn->capable & FUSE_CAP_WRITEBACK_CACHE);
	/* Not FUSE_CAP_CACHE_SYMLINKS: how a link reads depends on who asks and
	 * on where it is, and the kernel would cut it to the length it knows.
	 */
	conn->want |= conn->capable &
	    (FUSE_CAP_ASYNC_READ | FUSE_CAP_AUTO_INVAL_DATA |
		FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
		FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
		FUSE_CAP_SPLICE_WRITE);
	/* 12 by default: read-ahead would not overlap. */
	conn->max_background = 64;
}

static uint64_t
hook_epoch(void *arg)
{
	struct fs *fs = arg;
	uint64_t epoch;

	tree_lock(fs->tree);
	epoch = tree_epoch(fs->tree);
	tree_unlock(fs->tree);
	return epoch;
}

static void
hook_adopt_listing(
    void *arg, const struct listing *l, uint64_t epoch, uint64_t checked)
{
	struct fs *fs = arg;

	tree_adopt_listing(fs->tree, l, epoch, checked);
	fs_clean(fs, l);
	fs_walk_note_sent(fs, l->path, l->count);
}

static void
hook_adopt_stat(void *arg, const char *path, int error, const struct entry *e,
    uint64_t epoch, uint64_t checked)
{
	tree_adopt_stat(
	    ((struct fs *)arg)->tree, path, error, e, epoch, checked);
}

static size_t
hook_more(void *arg, char **paths, size_t max)
{
	uint64_t now = room_now();

	/* Who waits for one directory pays a little for each of these. */
	return tree_stale_dirs(((struct fs *)arg)->tree,
	    now > FS_IN_USE_MS ? now - FS_IN_USE_MS : 1, 0, paths,
	    max < FS_MORE_DIRS ? max : FS_MORE_DIRS);
}

static void
hook_answered(void *arg, uint64_t ms)
{
	struct fs *fs = arg;

	tree_note_delay(fs->tree, ms);
	tree_shrink(fs->tree, fs->options->cache_entries);
	fs_walk_note_delay(fs, ms);
}

static bool
hook_want_statfs(void *arg, const char *path)
{
	struct fs *fs = arg;
	struct node *n;
	bool want;

	tree_lock(fs->tree);
	n = tree_find(fs->tree, path);
	want = n != NULL && !fs_statfs_known(fs, n->attr.dev);
	tree_unlock(fs->tree);
	return want;
}

static void
hook_adopt_statfs(void *arg, const char *path, const struct room_fs *now)
{
	struct fs *fs = arg;
	struct node *n;

	tree_lock(fs->tree);
	if ((n = tree_find(fs->tree, path)) != NULL) {
		fs->statfs.dev = n->attr.dev;
		fs->statfs.at = room_now();
		fs->statfs.fs = *now;
	}
	tree_unlock(fs->tree);
}

static void
hook_replaced(void *arg)
{
	struct fs *fs = arg;
	char instance[37];
	uint64_t ids[256];
	size_t n, i;

	tree_replace(fs->tree);
	store_clear(fs->store);
	room_instance(fs->room, instance);
	made_replace(fs->made, instance);
	/* What was written for the new one since is sent there. */
	while ((n = tree_local_nodes(fs->tree, true, ids, 256)) > 0)
		for (i = 0; i < n; i++)
			fs_recover(fs, ids[i], -ESTALE);
}

static void
hook_free(void *arg, struct content *c)
{
	(void)arg;
	content_close(c);
}

static void
hook_rebase(void *arg, struct node *n, const struct attr *now)
{
	(void)arg;
	if (n->content != NULL && !content_is_new(n->content))
		content_set_base(n->content, now);
}

/* Check what the kernel trusts, from `trusted` on, and wait until it knows. */
static void
fs_check(struct fs *fs, uint64_t trusted)
{
	int error, rounds = 0;
	char **paths;
	size_t n, i;

	if ((paths = calloc(FS_CHECK_DIRS, sizeof *paths)) == NULL)
		return;
	tree_lock(fs->tree);
	tree_distrust(fs->tree);
	tree_unlock(fs->tree);
	do {
		n = tree_stale_dirs(fs->tree, 1, trusted, paths, FS_CHECK_DIRS);
		error = n == 0 ? 0 : room_revalidate(fs->room, NULL, paths, n);
		for (i = 0; i < n; i++)
			free(paths[i]);
		/* Those that are checked are not stale any more; a few may
		 * be, when they can't be read. */
	} while (
	    error == 0 && n == FS_CHECK_DIRS && ++rounds < FS_CHECK_ROUNDS);
	free(paths);
	notify_drain(fs->notify);
}

/* What was trusted before a command ran is no longer known to be so; what was
 * stale by then will be asked for anyway when somebody wants it. */
static void
after_run(void *arg, const struct change_list *changes)
{
	struct fs *fs = arg;
	uint64_t now = room_now(), trust = fs->options->cache_timeout_ms;

	(void)changes;
	fs_check(fs, now > trust ? now - trust : 1);
}

/* Where libfuse's lines of -d go; its log function gets no argument. */
static _Atomic(struct trace *) tracing;

/* libfuse's own words are for developers once the mount is there. */
static void
libfuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[512];
	size_t len;

	vsnprintf(line, sizeof line, fmt, ap);
	len = strlen(line);
	if (len > 0 && line[len - 1] == '\n')
		line[len - 1] = '\0';
	if (level <= FUSE_LOG_ERR && strstr(line, "writing device") == NULL)
		log_error("%s", line);
	else if (tracing != NULL)
		trace_take(tracing, line);
	else
		log_debug("%s", line);
}

static int
add_option(struct fuse_args *args, const char *name, const char *value)
{
	char *text;
	int error;

	if (asprintf(&text, "-o%s%s", name, value) == -1)
		return -1;
	error = fuse_opt_add_arg(args, text);
	free(text);
	return error;
}

static int
mount_arguments(const struct options *o, struct fuse_args *args)
{
	char *source = NULL;
	const char *c;
	size_t n = 0;

	/* libfuse splits options at commas. */
	if ((source = malloc(strlen(o->source) * 2 + 1)) == NULL)
		return -ENOMEM;
	for (c = o->source; *c != '\0'; c++) {
		if (*c == ',' || *c == '\\')
			source[n++] = '\\';
		source[n++] = *c;
	}
	source[n] = '\0';
	if (fuse_opt_add_arg(args, "gentilityfs") == -1 ||
	    add_option(args, "fsname=", source) == -1 ||
	    add_option(args, "subtype=", "gentilityfs") == -1 ||
	    add_option(args, "nodev", "") == -1 ||
	    add_option(args, "nosuid", "") == -1 ||
	    (o->allow_other && add_option(args, "allow_other", "") == -1) ||
	    (o->default_permissions &&
		add_option(args, "default_permissions", "") == -1) ||
	    (o->read_only && add_option(args, "ro", "") == -1) ||
	    (o->debug && add_option(args, "debug", "") == -1) ||
	    (o->fuse_options != NULL && *o->fuse_options != '\0' &&
		add_option(args, o->fuse_options, "") == -1)) {
		free(source);
		return -ENOMEM;
	}
	free(source);
	return 0;
}

static void
fs_free(struct fs *fs)
{
	/* Waits of any kind end with it. */
	room_shutdown(fs->room);
	fs_free_files(fs);
	fs_free_dirs(fs);
	control_close(fs->control);
	fs_saves_close(fs);
	pool_close(fs->pool);
	signals_close(fs->signals);
	if (fs->mounted)
		room_finish(fs->room);
	notify_close(fs->notify);
	if (fs->tree != NULL)
		tree_set_notify(fs->tree, NULL);
	tree_close(fs->tree);
	made_close(fs->made);
	store_close(fs->store);
	if (fs->session != NULL)
		fuse_session_destroy(fs->session);
	tracing = NULL;
	trace_close(fs->trace);
	free(fs);
}

int
fs_mount(struct fs **out, const struct options *options, struct room *room,
    char detail[512])
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct room_hooks hooks;
	struct rlimit files;
	struct fs *fs;
	char label[512], instance[37];
	int error;

	if ((fs = calloc(1, sizeof *fs)) == NULL)
		return -ENOMEM;
	fs->options = options;
	fs->room = room;
	TAILQ_INIT(&fs->files);
	TAILQ_INIT(&fs->dirs);
	TAILQ_INIT(&fs->bulk.jobs);
	fs_room_label(fs, label, sizeof label);
	room_instance(room, instance);
	snprintf(detail, 512, "cannot start");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if ((error = mount_arguments(options, &args)) != 0 ||
	    (error = tree_open(
		 &fs->tree, room_root(room), options->cache_timeout_ms)) != 0 ||
	    (error = store_open(&fs->store, room, options->cache_dir,
		 options->cache_size, label)) != 0 ||
	    (error = made_open(&fs->made, options->cache_dir, instance)) != 0 ||
	    (error = pool_open(&fs->pool)) != 0 ||
	    (error = fs_saves_open(fs)) != 0 ||
	    (error = control_open(&fs->control, room, after_run, fs)) != 0)
		goto fail;
	tree_hide_name(fs->tree, options->control);
	tree_on_free(fs->tree, hook_free, fs);
	tree_on_rebase(fs->tree, hook_rebase, fs);
	if (options->debug && (error = trace_open(&fs->trace, fs->tree)) != 0)
		goto fail;
	tracing = fs->trace;
	fuse_set_log_func(libfuse_log);
	fs->session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, fs);
	if (fs->session == NULL) {
		error = -EINVAL;
		snprintf(detail, 512, "libfuse refuses the options");
		goto fail;
	}
	if ((error = notify_open(&fs->notify, fs->session)) != 0)
		goto fail;
	hooks = (struct room_hooks){fs, hook_epoch, hook_adopt_listing,
	    hook_adopt_stat, hook_more, hook_answered, hook_want_statfs,
	    hook_adopt_statfs, hook_replaced};
	room_set_hooks(room, &hooks);
	fs->root_dev = tree_root(fs->tree)->attr.dev;
	/* From here on there may be notices: not before it is mounted. */
	if (fuse_session_mount(fs->session, options->mountpoint) != 0) {
		error = -EIO;
		snprintf(detail, 512,
		    "cannot mount on %s; is fusermount3 installed and "
		    "/dev/fuse accessible?",
		    options->mountpoint);
		goto fail;
	}
	fs->mounted = true;
	tree_set_notify(fs->tree, fs->notify);
	fuse_opt_free_args(&args);
	*out = fs;
	return 0;
fail:
	fuse_opt_free_args(&args);
	fs_free(fs);
	return error;
}

struct check {
	struct job job;
	struct fs *fs;
};

static void
check_run(struct job *job)
{
	fs_check(((struct check *)job)->fs, 1);
}

static void
check_free(struct job *job)
{
	free(job);
}

void
fs_check_later(struct fs *fs)
{
	struct check *c;

	if ((c = calloc(1, sizeof *c)) == NULL)
		return;
	c->fs = fs;
	c->job.run = check_run;
	c->job.free = check_free;
	job_init(fs->pool, &c->job);
	job_start(&c->job);
	job_put(&c->job);
}

static void *
wait_for_cancel(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

/*
 * libfuse ends its threads by pthread_cancel(), for which glibc loads a
 * library, or aborts: have it do so now, while there are descriptors for it.
 */
static int
load_cancel(void)
{
	pthread_t thread;
	int error;

	if ((error = thread_create(&thread, NULL, wait_for_cancel, NULL)) != 0)
		return error;
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	return 0;
}

int
fs_loop(struct fs *fs)
{
	int error;

	if ((error = load_cancel()) != 0 ||
	    (error = signals_open(&fs->signals, fs)) != 0)
		return error;
	if (fs->options->single) {
		error = fuse_session_loop(fs->session);
	} else {
#ifdef HAVE_OLD_FUSE
		struct fuse_loop_config config = {
		    .max_idle_threads = FS_IDLE_THREADS};

		error = fuse_session_loop_mt(fs->session, &config);
#else
		struct fuse_loop_config *config = fuse_loop_cfg_create();

		if (config == NULL) {
			error = -ENOMEM;
			goto out;
		}
		fuse_loop_cfg_set_max_threads(config, FS_THREADS);
		fuse_loop_cfg_set_idle_threads(config, FS_IDLE_THREADS);
		error = fuse_session_loop_mt(fs->session, config);
		fuse_loop_cfg_destroy(config);
#endif
	}
#ifndef HAVE_OLD_FUSE
out:
#endif
	signals_unmount(fs->signals, END_TIMEOUTS * fs->options->timeout_s);
	return error > 0 ? 0 : error;
}

void
fs_unmount(struct fs *fs)
{
	if (fs == NULL)
		return;
	if (fs->mounted) {
		notify_stop(fs->notify);
		fuse_session_unmount(fs->session);
		fs_send_all(fs);
	}
	fs_free(fs);
}
