#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/fs_impl.h"
#include "base/log.h"
#include "store/recover.h"

void
fs_room_label(struct fs *fs, char *out, size_t size)
{
	snprintf(out, size, "%s_%s", fs->options->profile, fs->options->room);
}

void
fs_note_work(struct fs *fs, struct node *n)
{
	char label[512], *path;

	if (*content_work_path(n->content) == '\0' ||
	    *content_name(n->content) != '\0' ||
	    (path = tree_path(fs->tree, n, NULL)) == NULL)
		return;
	fs_room_label(fs, label, sizeof label);
	recover_note(content_work_path(n->content), label, path);
	content_set_name(n->content, path);
	free(path);
}

/* Its bytes into the recovery folder; *missing: but for some of the VM's. */
static int
recover_put(struct fs *fs, struct content *c, const char *path, bool stale,
    char *where, size_t size, bool *missing)
{
	const char *cache = fs->options->cache_dir;
	char label[512], *work;
	int fd, error;

	*missing = false;
	fs_room_label(fs, label, sizeof label);
	/* As it lies there, if it does: no time, and no space. */
	error = (work = content_whole_work(c)) != NULL
	    ? recover_link(cache, label, path, work, where, size)
	    : -ENOENT;
	free(work);
	if (error == 0)
		return 0;
	if ((fd = recover_open(cache, label, path, where, size)) < 0) {
		error = fd;
	} else {
		error = content_copy(c, stale ? "" : path, fd, missing);
		close(fd);
		if (error != 0)
			unlink(where);
	}
	if (error != 0 &&
	    recover_link(
		cache, label, path, content_work_path(c), where, size) == 0) {
		error = 0;
		*missing = true;
	}
	return error;
}

void
fs_recover(struct fs *fs, uint64_t id, int error)
{
	char where[8192];
	struct content *c;
	struct node *n;
	char *path;
	int copied;
	bool missing = false;

	tree_lock(fs->tree);
	n = tree_get(fs->tree, id);
	if (n == NULL || !n->local) {
		tree_unlock(fs->tree);
		return;
	}
	c = n->content;
	if ((path = tree_path(fs->tree, n, NULL)) == NULL)
		path = strdup(content_name(c));
	node_hold(n);
	tree_unlock(fs->tree);
	copied = path == NULL
	    ? -ENOMEM
	    : recover_put(fs, c, path, n->stale, where, sizeof where, &missing);
	if (copied != 0) {
		log_error("%s: not saved (%s), and no place to keep it: %s",
		    path == NULL ? "a file" : path, strerror(-error),
		    strerror(-copied));
	} else {
		if (missing)
			log_error("%s: parts of it are only in the VM, and "
				  "are zeros here",
			    path);
		log_error("%s: not saved (%s); its contents are in %s", path,
		    strerror(-error), where);
	}
	free(path);
	tree_lock(fs->tree);
	fs_mark_sent(fs, n);
	node_release(fs->tree, n);
	tree_unlock(fs->tree);
}
