#ifndef KERNEL_OPEN_FILE_H
#define KERNEL_OPEN_FILE_H

#include "base/interval.h"
#include "kernel/fs_impl.h"

/* What fs_open.c and fs_file.c share; nobody else includes this. */

/* How often a file may change under a read before that is an error. */
#define READ_TRIES 4

struct open_file {
	TAILQ_ENTRY(open_file) link; /* in fs->files; under the tree's lock */
	struct session *session; /* of a control file */
	bool pseudo; /* a file whose size lies, or never stays: */
	char *data; /* all of it, from the first read on */
	size_t len;
	char *path; /* to read it by, when another file took its name */
	pthread_mutex_t lock; /* guards data, len, and what says so */
	bool writes; /* or made the file: closing it sends */
	bool append;
	bool direct; /* reads past the kernel's pages and length */
	bool torn; /* what it has read is of two versions; under the tree's lock
		    */
	struct attr attr; /* of the version that was last read; under lock */
	struct blob *blob; /* of that version, kept while it is open */
	uint64_t since; /* when it became that */
	struct intervals seen; /* what was read of it lately */
	uint64_t read; /* when that was last */
};

static inline struct open_file *
file_of(struct fuse_file_info *fi)
{
	return (struct open_file *)(uintptr_t)fi->fh;
}

/*
 * The last use of a handle before a reply, after which it may be released: the
 * kernel keeps that order, but a thread sanitizer can't know.
 */
static inline void
file_settle(struct open_file *h)
{
	pthread_mutex_lock(&h->lock);
	pthread_mutex_unlock(&h->lock);
}

/* All bytes of a pseudo file, by one command, into the handle. */
int fs_read_pseudo(struct fs *, struct wait *, fuse_ino_t, struct open_file *);

/* The bytes of a file; what the cache lacks is fetched.  -EAGAIN: the file was
 * another version at each look. */
int fs_read_file(struct fs *, struct wait *, fuse_ino_t, struct open_file *,
    size_t, off_t, struct span *);

#endif
