#ifndef CONTENT_IMPL_H
#define CONTENT_IMPL_H

#include <pthread.h>

#include "content/content.h"

/* What content.c and content_send.c share; nobody else includes this. */

struct content {
	pthread_mutex_t lock; /* guards all below */
	struct store *store;
	uint64_t node;
	int fd; /* the work file; -1: none yet */
	char *path; /* its name */
	uint64_t size;
	struct attr base; /* the VM's version; mode 0: there is none */
	uint64_t base_size; /* bytes of it that still show through */
	struct intervals written; /* of the work file */
	struct intervals dirty; /* written and not sent */
	struct intervals sending; /* and when that failed, unsent again */
	/*
	 * What the last attempt sent may have arrived without our knowing:
	 * then it is sent again just so, under the same token.
	 */
	bool unsettled;
	char token[17];
	uint64_t token_changes; /* `changes` by then */
	struct interval appended_then; /* what it appended, if it did */
	bool create, exclusive;
	bool whole; /* nothing of the base is to stay: send it all */
	bool resized; /* its length has to be sent, too */
	bool appended; /* all that is dirty was appended */
	bool has_attr;
	uint32_t mode;
	struct room_setattr attr;
	struct blob *kept; /* keeps the base's bytes from being evicted */
	char *hidden;
	char *name;
	uint64_t counted; /* see content_set_counted() */
	uint64_t tried; /* `changes` at the last attempt */
	uint64_t moved; /* `changes` when the bytes last did */
	uint64_t changes, sent; /* counts, to see changes while sending */
};

static const struct room_setattr content_no_attr = {
    .atime = ROOM_TIME_KEEP, .mtime = ROOM_TIME_KEEP};

/* Forget the work file: what was in it has been sent or given up. */
void content_drop_work(struct content *);
/* Put the attributes of `from` over those of `to`. */
void content_merge_attr(
    struct room_setattr *to, const struct room_setattr *from);

#endif
