#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content/content.h"
#include "kernel/fs_impl.h"
#include "base/log.h"
#include "store/recover.h"

#define RECOVER_STEP ((size_t)1024 * 1024)

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

/*
 * All bytes of the content to fd; those that only the VM has may be out of
 * reach, and then *missing.  0 or -errno: it can't be written.
 */
static int
recover_copy(struct content *c, const char *path, int fd, bool *missing)
{
	uint64_t at, size = content_size(c);
	struct span span;
	int error;
	ssize_t n;

	*missing = false;
	if ((error = content_copy_written(c, fd)) != 0)
		return error;
	for (at = 0; at < size; at += span.len) {
		if (content_read(c, NULL, path, at, RECOVER_STEP, &span) != 0 ||
		    span.len == 0) {
			*missing = true;
			return 0;
		}
		n = pwrite(fd, span.buf, span.len, at);
		error = n == (ssize_t)span.len ? 0 : n == -1 ? -errno : -ENOSPC;
		free(span.buf);
		if (error != 0)
			return error;
	}
	return 0;
}

void
fs_recover(struct fs *fs, uint64_t id, int error)
{
	char label[512], where[8192];
	struct content *c;
	struct node *n;
	char *path;
	int fd, copied;
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
	fs_room_label(fs, label, sizeof label);
	fd = path == NULL ? -ENOMEM
			  : recover_open(fs->options->cache_dir, label, path,
				where, sizeof where);
	copied =
	    fd < 0 ? fd : recover_copy(c, n->stale ? "" : path, fd, &missing);
	if (fd >= 0) {
		close(fd);
		if (copied != 0)
			unlink(where);
	}
	if (copied != 0 && path != NULL &&
	    recover_link(fs->options->cache_dir, label, path,
		content_work_path(c), where, sizeof where) == 0) {
		copied = 0;
		missing = true;
	}
	if (copied != 0) {
		log_error("%s: not saved (%s), and no place to keep it: %s",
		    path, strerror(-error), strerror(-copied));
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
