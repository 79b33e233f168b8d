#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/fs_impl.h"
#include "base/log.h"
#include "base/stats_text.h"

/*
 * Extended attributes that are not in the VM, but answers to questions about
 * a file or the mount.  They are had by name and are never listed, so that
 * nobody copies them.  Every other name is refused at once: the kernel and ls
 * ask for some with every file.
 */

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

#define XATTR_PREFIX "user.gentility."
#define XATTR_MAX    65536 /* the kernel's limit */

/* --- the mount -------------------------------------------------------------
 */

static int
get_stats(struct fs *fs, enum stats_form form, char **text, size_t *len)
{
	struct stats_snapshot *counts;
	struct stats_view v = {
	    .version = PACKAGE_VERSION,
	    .source = fs->options->source,
	    .mountpoint = fs->options->mountpoint,
	    .url = room_url(fs->room),
	    .root = room_root(fs->room),
	    .cache_dir = fs->options->cache_dir,
	    .pid = getpid(),
	    .contact_ms = room_contact_age(fs->room),
	};
	struct log_entry *warnings;
	char instance[37];
	int error;

	if ((counts = malloc(sizeof *counts)) == NULL)
		return -ENOMEM;
	if ((warnings = calloc(LOG_KEPT, sizeof *warnings)) == NULL) {
		free(counts);
		return -ENOMEM;
	}
	if ((error = stats_take(room_stats(fs->room), counts)) != 0)
		goto out;
	v.counts = counts;
	v.warnings = warnings;
	v.warning_count = log_copy_warnings(warnings);
	room_instance(fs->room, instance);
	v.instance = instance;
	tree_lock(fs->tree);
	v.unsent_files = fs->saves.files;
	v.unsent_bytes = fs->saves.bytes;
	tree_unlock(fs->tree);
	store_get_usage(fs->store, &v.cache_used, &v.cache_limit);
	error = stats_format(&v, form, XATTR_MAX, text, len);
	stats_snapshot_free(counts);
out:
	free(warnings);
	free(counts);
	return error;
}

/* --- a file ----------------------------------------------------------------
 */

static const char *
cached(struct fs *fs, const struct node *n)
{
	struct validator v = attr_validator(&n->attr);
	uint64_t here;

	if (n->local || n->attr.size == 0)
		return n->local && n->content != NULL &&
			!content_is_new(n->content)
		    ? "partly"
		    : "yes";
	here = store_holds(fs->store, &v);
	return here >= n->attr.size ? "yes" : here > 0 ? "partly" : "no";
}

struct type_job {
	struct job job;
	struct room *room;
	char *path;
	struct attr attr;
	int error;
	char type[96];
};

static void
type_run(struct job *job)
{
	struct type_job *t = (struct type_job *)job;

	t->error = room_read_type(t->room, t->path, &t->attr, t->type);
}

static void
type_free(struct job *job)
{
	struct type_job *t = (struct type_job *)job;

	free(t->path);
	free(t);
}

/* Ask the service; the tree is unlocked meanwhile.  Owns path. */
static int
ask_type(struct fs *fs, fuse_req_t req, char *path, const struct attr *attr,
    char type[96])
{
	struct type_job *t;
	struct wait w;
	int error;

	if ((t = calloc(1, sizeof *t)) == NULL) {
		free(path);
		return -ENOMEM;
	}
	t->room = fs->room;
	t->path = path;
	t->attr = *attr;
	t->job.run = type_run;
	t->job.free = type_free;
	job_init(fs->pool, &t->job);
	fs_wait_begin(req, &w);
	if ((error = job_start(&t->job)) == 0 &&
	    (error = job_wait(&t->job, &w)) == 0 && (error = t->error) == 0)
		memcpy(type, t->type, sizeof t->type);
	fs_wait_end(req, &w);
	job_put(&t->job);
	return error;
}

/* Tree locked; unlocks it. */
static int
get_type(struct fs *fs, fuse_req_t req, struct node *n, char type[96])
{
	const size_t count = sizeof fs->types / sizeof *fs->types;
	uint64_t id = n->id, version = node_version(n);
	struct attr attr = n->attr;
	char *path = NULL;
	int error = -ENODATA; /* the VM has never heard of it */
	size_t i;

	for (i = 0; i < count; i++)
		if (fs->types[i].id == id && fs->types[i].version == version) {
			memcpy(type, fs->types[i].type, 96);
			tree_unlock(fs->tree);
			return 0;
		}
	if (n->content != NULL && content_is_new(n->content)) {
		tree_unlock(fs->tree);
		return error;
	}
	/* What is unsent has another size than the VM's. */
	if (n->local && n->content != NULL)
		attr = content_base(n->content);
	path = tree_path(fs->tree, n, NULL);
	error = path == NULL ? -errno : 0;
	tree_unlock(fs->tree);
	if (error == 0)
		error = ask_type(fs, req, path, &attr, type);
	if (error == 0) {
		tree_lock(fs->tree);
		i = fs->next_type++ % count;
		fs->types[i].id = id;
		fs->types[i].version = version;
		memcpy(fs->types[i].type, type, 96);
		tree_unlock(fs->tree);
	}
	return error;
}

/* The value of one that a file has; the reply's text is malloc'ed. */
static int
get_of_file(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *name,
    char **text)
{
	char type[96], *path;
	struct node *n;
	int error = 0;

	tree_lock(fs->tree);
	if ((n = tree_get(fs->tree, ino)) == NULL || n->stale) {
		tree_unlock(fs->tree);
		return -ESTALE;
	}
	if (n->control || !S_ISREG(n->attr.mode)) {
		tree_unlock(fs->tree);
		return -ENODATA;
	}
	if (strcmp(name, "mime_type") == 0) {
		if ((error = get_type(fs, req, n, type)) == 0)
			*text = strdup(type);
		goto out;
	}
	if (strcmp(name, "cached") == 0)
		*text = strdup(cached(fs, n));
	else if ((path = tree_path(fs->tree, n, NULL)) != NULL) {
		*text = room_public_url(fs->room, path);
		free(path);
	} else
		error = -errno;
	tree_unlock(fs->tree);
out:
	if (error == -ENOENT)
		error = -ENODATA; /* it has lost its name */
	return error == 0 && *text == NULL ? -ENOMEM : error;
}

/* --- the handler -----------------------------------------------------------
 */

static void
reply(fuse_req_t req, const char *text, size_t len, size_t size)
{
	if (len > XATTR_MAX)
		fuse_reply_err(req, E2BIG);
	else if (size == 0)
		fuse_reply_xattr(req, len);
	else if (size < len)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, text, len);
}

void
fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	static const struct {
		const char *name;
		enum stats_form form;
	} stats[] = {
	    {"stats", STATS_LINES},
	    {"stats.json", STATS_JSON},
	    {"stats.prometheus", STATS_PROMETHEUS},
	};
	struct fs *fs = fs_of(req);
	char *text = NULL, instance[37];
	int error = -ENOTSUP;
	size_t i, len = 0;

	if (strncmp(name, XATTR_PREFIX, sizeof XATTR_PREFIX - 1) != 0) {
		fuse_reply_err(req, ENOTSUP);
		return;
	}
	name += sizeof XATTR_PREFIX - 1;
	if (strcmp(name, "instance_id") == 0) {
		room_instance(fs->room, instance);
		reply(req, instance, strlen(instance), size);
		return;
	}
	for (i = 0; i < sizeof stats / sizeof *stats; i++)
		if (strcmp(name, stats[i].name) == 0)
			break;
	if (i < sizeof stats / sizeof *stats) {
		/* Others need not know the names of what goes to and fro. */
		error = fs_is_mounter(req) || fuse_req_ctx(req)->uid == 0
		    ? get_stats(fs, stats[i].form, &text, &len)
		    : -EACCES;
		/* It may be longer when it is asked for the next time. */
		if (error == 0 && size == 0) {
			free(text);
			len += 2048;
			fuse_reply_xattr(
			    req, len < XATTR_MAX ? len : XATTR_MAX);
			return;
		}
	} else if (strcmp(name, "public_url") == 0 ||
	    strcmp(name, "mime_type") == 0 || strcmp(name, "cached") == 0) {
		error = get_of_file(fs, req, ino, name, &text);
		len = text != NULL ? strlen(text) : 0;
	}
	if (error != 0)
		fuse_reply_err(req, -error);
	else
		reply(req, text, len, size);
	free(text);
}

/* None, rather than ENOTSUP: tar --xattrs would complain about every file. */
void
fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	(void)ino;
	if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}
