#ifndef CONTENT_H
#define CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/interval.h"
#include "room/room.h"
#include "store/store.h"

/*
 * Unsent changes of one file: a sparse work file with the bytes written, over
 * the version that the VM has (the base).  What is neither written nor left
 * of the base is zeros.  All local: nothing here waits for the network but
 * content_read(), for bytes of the base.
 *
 * Each has its own lock, taken after the tree's; all functions take it.
 */
struct content;

/* A new file, or (base) changes to an existing one.  work_dir: for the work
 * file, named so that a later mount finds it.  0 or -errno. */
int content_open(
    struct content **, struct store *, const struct attr *base, uint64_t node);
void content_close(struct content *);

/* Of a new file: it is to be made with this mode. */
void content_set_new(struct content *, uint32_t mode, bool exclusive);

/* append: *offset becomes the end. */
int content_write(
    struct content *, const void *, size_t len, uint64_t *offset, bool append);
int content_truncate(struct content *, uint64_t size);
/* Forget a new length that was not sent, if nothing else is unsent. */
bool content_revert(struct content *);
/* Attributes to be sent along. */
void content_setattr(struct content *, const struct room_setattr *);

uint64_t content_size(struct content *);
uint64_t content_unsent(struct content *); /* bytes */
/* So many of them are in the caller's sum now; how many were. */
uint64_t content_set_counted(struct content *, uint64_t bytes);
bool content_is_dirty(struct content *);
/* A count of its changes so far; and are the first `changes` of them sent? */
uint64_t content_changes(struct content *);
bool content_has_sent(struct content *, uint64_t changes);
/* Is there something that no attempt to send has included yet? */
bool content_is_untried(struct content *);
bool content_is_new(struct content *); /* the VM has no such file yet */
bool content_is_written(struct content *); /* more to send than emptiness */

/* Bytes as they are with the changes; malloc'ed span.  path: of the base. */
int content_read(struct content *, struct wait *, const char *path,
    uint64_t offset, size_t len, struct span *);

/*
 * All bytes to a new file, its holes as holes; bytes of the base that are out
 * of reach are zeros, and then *missing.  path: of the base; "": none.  0, or
 * -errno: the file can't be written.
 */
int content_copy(struct content *, const char *path, int fd, bool *missing);
/* The work file's path, malloc'ed, if it is all of it, and has its length now;
 * else NULL. */
char *content_whole_work(struct content *);

/* Nothing is unsent, and the VM has this version now. */
void content_reset(struct content *, const struct attr *);
/* The VM's version became another one under the changes. */
void content_set_base(struct content *, const struct attr *);
struct attr content_base(struct content *);

/*
 * Sending: begin takes what is to be sent (w->ranges are the content's, valid
 * until end); writes go on meanwhile and are for the next time.  0, or -ENOMEM:
 * nothing is begun.  end says whether it arrived, as what; true: there is more
 * to send.
 */
int content_begin_send(struct content *, struct room_write *w);
bool content_end_send(struct content *, struct room_write *w, int error,
    const struct room_changed *);

/* Make sure that every byte stays readable without the VM's file: true if all
 * are here (and they are kept from now on). */
bool content_keep(struct content *);
/* The file has lost its name and has this one in the VM; ours from now on. */
void content_set_hidden(struct content *, char *path);
/* That name, if any, for whoever removes it; the caller frees. */
char *content_take_hidden(struct content *);
const char *content_hidden(struct content *); /* NULL: none */

/* Where the work file is; "": nowhere.  Only while nobody sends. */
const char *content_work_path(struct content *);
/* The file's path when it was last known, for who lost it; "" if never. */
const char *content_name(struct content *);
void content_set_name(struct content *, const char *path);

#endif
