#ifndef ROOM_IMPL_H
#define ROOM_IMPL_H

#include <pthread.h>
#include <stdbool.h>

#include "api/api.h"
#include "base/bsdtree.h"
#include "room/clock.h"
#include "room/room.h"
#include "script/script.h"
#include "script/toolkit.h"

/* What the files room*.c share; nobody else includes this. */

struct batch;

/* The programs in the VM, as far as is known. */
enum room_toolkit {
	ROOM_TOOLKIT_MISSING, /* the next command leaves them there */
	ROOM_TOOLKIT_KEPT,
	ROOM_TOOLKIT_NONE /* there is no place: commands carry theirs */
};

struct room {
	struct api *api;
	struct pool *pool;
	struct room_config config; /* strings are owned copies */
	struct stats *stats;
	char *root; /* set by room_open() */
	struct room_hooks hooks;
	struct reply *first; /* the top of the tree, until there are hooks */
	uint64_t first_checked; /* when it was asked for */

	pthread_mutex_t lock; /* innermost; guards all below */
	enum script_tools tools; /* UNKNOWN: probe again */
	struct probe_list *probes; /* the newest first; kept until the end */
	uint64_t output_limit; /* the room cuts longer outputs; 0: unknown */
	bool raw_failed; /* said so once */
	_Atomic enum room_toolkit toolkit; /* read without it, too */
	char toolkit_place[SCRIPT_PLACE_MAX]; /* the file */
	bool toolkit_plain; /* the VM can't unpack it */
	unsigned toolkit_kept; /* how often it was left there, */
	unsigned toolkit_lost; /* and, in a row, was not there then */
	TAILQ_HEAD(, batch) out; /* sent; what they ask for is fixed */
	struct batch *next; /* gathers what is asked while one is out */
	char forget[16][17]; /* tokens of answered changes: their evidence in */
	size_t nforget; /* the VM goes with a later change */
	struct vm_clock clock;
	unsigned under_way; /* metadata batches sent and not answered */
	uint64_t sent; /* when the latest of them was */
	unsigned deep; /* 1: one more, that brings what nobody asked for */
	bool closing;
	unsigned pieces; /* of uploads, under way */
	pthread_cond_t piece_done;
};

struct probe_list {
	struct probe_list *next;
	struct probe probe;
};

/* A composed command, with the programs that it needs. */
struct room_command {
	enum api_kind kind;
	enum script_tools tools;
	const char *nonce;
	const char *text;
	size_t len;
	const char *again; /* as for api_change(); NULL: the same */
	size_t again_len;
	const struct cancel *cancel; /* of an API_PIECE; or NULL */
};

/*
 * Send it, with what the VM keeps in place of its programs (toolkit.c).  As
 * api_change(); empty the answer in any case.
 */
int room_command(
    struct room *, const struct room_command *, struct api_answer *);
/* The answer made no sense: the toolkit may be to blame. */
void room_doubt_toolkit(struct room *);
/* Need a command carry no programs, as far as is known? */
bool room_has_toolkit(struct room *);

/*
 * Send a text just so: as api_change(), whatever its size is (up to a MiB) and
 * the service takes at once.  cancel: as for api_piece(), or NULL.
 */
int room_send_text(struct room *, enum api_kind, const char *command,
    size_t len, const char *again, size_t again_len, const struct cancel *,
    struct api_answer *);
/* How long a command is to be that need not be longer; and does this one, with
 * what JSON adds, do without being carried in parts? */
size_t room_command_max(struct room *);
bool room_command_fits(struct room *, const char *command, size_t len);
/*
 * Bring a user's text (any bytes) to the VM without running it; *out is the
 * command that does that then, malloc'ed.  0 or -errno: nothing of it ran.
 */
int room_carry_user(struct room *, const char *command, size_t len, char **out);

/*
 * Run a composed command and unwrap what it prints, whatever the room does to
 * long outputs.  0 or -errno; the payload is the caller's.
 */
int room_script(struct room *, const struct room_command *, size_t max,
    char **payload, size_t *payload_len);

/*
 * Run changes as one command; sent again, marked as a repeat, when nobody
 * knows whether they ran (repeat: that is so from the start).  results: n of
 * them, each with its own errno.
 */
int room_send_changes(struct room *, enum api_kind, bool repeat,
    struct script_change *, size_t n, struct script_result *results);
/* The same for a piece, until that is set. */
int room_send_piece(struct room *, const struct cancel *,
    struct script_change *, struct script_result *);
/*
 * Put bytes into the hidden file .gentilityfs-TOKEN in path's directory, in
 * pieces, several in flight.  w: size, ranges, read() and cancel count. verify:
 * check each piece there, since nothing will check the whole by its sum; then
 * holes cost nothing.
 */
int room_stage(struct room *, const struct room_write *w, const char *token,
    bool verify, char sha256[65]);
/* Do they fit into one command? */
bool room_changes_fit(struct room *, struct script_change *, size_t n);
void room_take_result(
    const struct script_result *, bool two_paths, struct room_changed *);
/* Attributes as up to three changes of the VM's; how many. */
size_t room_attr_items(
    const char *path, const struct room_setattr *, struct script_change *to);
int64_t room_time(int64_t ns); /* ROOM_TIME_* as SCRIPT_TIME_* */

/* A command's output that the room cuts, taken in pieces from a file there. */
int room_script_staged(struct room *, enum api_kind, const char *command,
    const char *nonce, size_t cut_at, char **out, size_t *out_len);
/* More than this of one answer, unpacked, is not believed. */
#define ROOM_PAYLOAD_MAX ((size_t)256 * 1024 * 1024)

/* room_open() in two steps: without any request, and the first contact. */
int room_begin(struct room **, const struct room_config *, char detail[512]);
int room_find_root(struct room *, char detail[512]);

int room_errno(int error);

/* Take over what a probe found that began then (room_now()). */
int room_adopt_probe(struct room *, struct probe *, uint64_t began);
/*
 * The answer to what began then shows that it was `there` in the VM, or later;
 * within: it was so meanwhile.
 */
void room_note_clock(struct room *, int64_t there, uint64_t began, bool within);
enum script_tools room_tools(struct room *);

#endif
