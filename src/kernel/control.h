#ifndef KERNEL_CONTROL_H
#define KERNEL_CONTROL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "room/room.h"
#include "base/wait.h"

/*
 * The magic files .exec and .exec.json: what is written to one open file is
 * gathered and run as one command in the VM; what is read is a result.  Forms
 * in gentilityfs(1).
 *
 * A script whose first line is CONTROL_QUIET says by its exit code whether
 * anything is to be looked at anew: 0 and no file changed, nothing.
 *
 * Sessions are used by one request at a time but for the waiting: all calls
 * are safe on any thread.
 */
#define CONTROL_QUIET "#gentilityfs: 0 is no change\n"

struct control;
struct session;

/*
 * after_run(arg) is called when a command ended, before its writer's close()
 * returns: it makes what the command did visible.
 */
int control_open(struct control **, struct room *,
    void (*after_run)(void *arg, const struct change_list *), void *arg);
void control_interrupt(struct control *); /* as room_interrupt() */
void control_close(struct control *); /* waits for what runs */

/*
 * How long the last result is, as text or as JSON: of the mount, or with an id
 * of that id in that directory of the VM.
 */
uint64_t control_size(
    struct control *, const char *dir, const char *id, bool json);

/*
 * dir: where commands run; "/": where the service runs them.  id: whose last
 * result it is, "": the mount's.  Both copied.  opener: the thread that opens.
 */
int session_open(struct session **, struct control *, const char *dir,
    const char *id, bool json, bool writable, pid_t opener);
int session_write(struct session *, const char *data, size_t len, off_t off);
/* Cut what was written and has not run. */
void session_truncate(struct session *, uint64_t size);
/* Run what was written, and read the result. malloc'ed into *out. */
int session_read(struct session *, struct wait *, off_t off, size_t len,
    char **out, size_t *out_len);
/* A close by the thread `closer` of the file with this st_ino: runs what was
 * written when the opener has no other descriptor for it. */
int session_flush(struct session *, struct wait *, pid_t closer, uint64_t ino);
/* The last close of all.  Runs what nobody ran; does not wait. */
void session_release(struct session *);

#endif
