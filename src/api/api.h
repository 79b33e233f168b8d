#ifndef API_H
#define API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/change_list.h"
#include "base/fate.h"
#include "base/cancel.h"
#include "http/http.h"
#include "base/stats.h"

/*
 * The service's endpoints (api/execute-command.txt, api/read-file.txt and the
 * table of what is not documented): JSON in and out, HTTP and API errors to
 * errno, retries by retry.h, all requests slowed down together after a 429.
 * Thread-safe; every call blocks.  Below this header nobody knows the VM's
 * shell; above it nobody knows HTTP or JSON.
 */
struct api;

struct api_config {
	const char *profile; /* UUID */
	const char *room; /* any bytes; encoded here */
	const char *base_url;
	const char *key;
	const char *cacert; /* or NULL */
	unsigned max_connections;
	unsigned stall_ms; /* a silent transfer; internal work only */
	unsigned limit_ms; /* all attempts of one internal request */
	bool create; /* start an instance when there is none */
	struct stats *stats; /* what requests are counted in, or NULL */
	/*
	 * Called (on the caller's thread, no lock held) when an answer carries
	 * another instance_id than the last; the first answer is no change.
	 */
	void (*replaced)(void *arg, const char *old, const char *now);
	void *arg;
};

/* 0, or -errno as for api_command() when the engine can't start. */
int api_open(struct api **, const struct api_config *);
void api_shutdown(struct api *); /* ends all waits with -ECANCELED */
void api_close(struct api *); /* after the last call returned */

/* The instance that answered last: 36 characters and NUL, "" before that. */
void api_get_instance(struct api *, char out[37]);
const char *api_base_url(const struct api *);

/* Monotonic milliseconds at the last whole answer; 0: none yet. */
uint64_t api_last_contact(struct api *);
/* So many milliseconds ago was that; UINT64_MAX: never yet. */
uint64_t api_contact_age(struct api *);

/* The newest connection, for --check. */
struct api_contact {
	unsigned name_us, connect_us, tls_us;
	char address[64]; /* "": there was none */
};
void api_get_contact(struct api *, struct api_contact *);
/* The form of the wildcard that was found to work, as /tmp/x is written in it;
 * NULL: none was yet. */
const char *api_file_form(struct api *);

enum api_kind {
	API_META, /* internal, short */
	API_BULK, /* internal, large */
	API_CHANGE, /* internal, changes something */
	API_PIECE, /* the same, large */
	API_USER /* sent once, no time limit, never again once it may run */
};

struct api_answer {
	enum fate fate; /* of the command; also on failure */
	int exit_code;
	bool success; /* "status" */
	char *output; /* owned; may hold NULs (see len) */
	size_t len;
	bool cut; /* API_USER: there was more of it than can be kept */
	struct change_list changes;
	char *json; /* API_USER: the whole answer as received, but with a
		     * member "output_cut": true when that is so; owned */
	size_t json_len;
	char instance[37];
	long status; /* HTTP's, of the last attempt; 0: no answer */
	bool again; /* the last attempt sent what api_change() has for that */
	char detail[256]; /* on failure: the cause, one line, for users */
	bool
	    unready; /* and that is that the service, or the VM, is not ready */
};

/*
 * *answer is set by every call that takes one, whatever it returns, and is
 * emptied with api_answer_free(); one that is all 0 may be, too.
 *
 * Run a command in the VM.  0 when the service ran it (see exit_code); else
 * -EACCES (key), -ENODEV (no instance and none created), -EIO, -ETIMEDOUT,
 * -EHOSTUNREACH, -ECONNREFUSED, -EKEYREJECTED (certificate), -ECANCELED,
 * -EFBIG, -ENOMEM, -ESTALE (an internal command met a new instance: what it
 * said is of another VM), and for API_USER -EREMOTEIO when its fate is unknown
 * (also when it was under way at shutdown).  -EINVAL: the command holds a NUL
 * or is not UTF-8, which JSON can't carry.  -E2BIG: the service, or the VM,
 * does not take so large a command, as it seems; api_body_max() is less now.
 * A user's output that is longer than 64 MiB is cut, and is no failure.
 */
int api_command(struct api *, enum api_kind, const char *command, size_t len,
    struct api_answer *answer);

/*
 * The same for a command that changes something in the VM: when the first
 * attempt may have run, `again` is what is sent from then on.
 */
int api_change(struct api *, enum api_kind, const char *command, size_t len,
    const char *again, size_t again_len, struct api_answer *answer);
/* The same, an API_PIECE, of which no further attempt is begun once that is
 * set: -ECANCELED. */
int api_piece(struct api *, const char *command, size_t len, const char *again,
    size_t again_len, const struct cancel *, struct api_answer *answer);
void api_answer_free(struct api_answer *);

/*
 * How large the body of a request for this command is; how large it may be as
 * far as refusals have shown (SIZE_MAX: there were none), and how large ones
 * have been taken.  A user's command should not be larger than that.
 */
size_t api_body_size(const char *command, size_t len);
size_t api_body_max(struct api *);
void api_set_body_max(struct api *, size_t max);
size_t api_body_proven(struct api *);

/*
 * A whole file of known size through the file endpoint.  path is absolute in
 * the VM, any bytes.  Text or base64 is decided by size; the wildcard's form
 * is detected from file_path and remembered.  0 and the bytes (owned by the
 * caller, *len == size); -EAGAIN: what came fits neither as text nor as
 * base64 (the file changed, or the text was not kept exactly); -ENOENT: 404
 * file_not_found, in a form that is known to work; -EOPNOTSUPP: no form of the
 * wildcard works here, or not for this path; others as for api_command().
 */
int api_read_file(
    struct api *, const char *path, uint64_t size, void **data, size_t *len);

/*
 * Bytes [offset, offset+len) of a file of known size by the raw endpoint,
 * which needs no key.  *got is what came (len, unless the file is shorter).
 * -EOPNOTSUPP: the endpoint or Range does not work here (remembered; the
 * caller uses something else); -EAGAIN: the file's size is another one now.
 */
int api_read_raw(struct api *, const char *path, uint64_t size, uint64_t offset,
    size_t len, void *buf, size_t *got);

/* Is it so that the raw endpoint works, and gives parts of files? */
bool api_has_ranges(struct api *);
/* Is it so that the raw endpoint works, but gives files only as a whole? */
bool api_is_raw_whole(struct api *);

/*
 * A whole file of known size by the raw endpoint, in constant memory, for
 * rooms where Range does not work.  An answer that does not tell its length
 * beforehand is of no use: -EOPNOTSUPP.  The sink runs on the engine thread and
 * must not block for long; a negative errno of it ends the transfer.  Offsets
 * grow without gaps, but begin at 0 again when a broken transfer is repeated.
 * Errors as for api_read_raw(); what the sink got counts only after a 0.
 */
int api_stream_raw(struct api *, const char *path, uint64_t size,
    int (*sink)(void *arg, uint64_t offset, const void *data, size_t len),
    void *arg);

/* The raw endpoint's address of a path; malloc'ed, NULL: no memory. */
char *api_public_url(struct api *, const char *path);

/*
 * The MIME type that the raw endpoint gives a file of known size: one request,
 * which transfers at most a byte.  -ENODATA: it gives none; others as for
 * api_read_raw().
 */
int api_read_type(struct api *, const char *path, uint64_t size, char type[96]);

/* Create the instance or retrieve it, and wait until it is ready. */
int api_create(struct api *, char detail[256]);

/* Pure parts, in api_parse.c: for tests and fuzzing. */

/*
 * The answer of the command endpoint.  0 or -EPROTO (malformed, a wrong type,
 * a field missing).  NULs (\u0000) in output are kept, lone surrogates become
 * U+FFFD.
 */
int api_parse_command(const char *json, size_t len, struct api_answer *);

struct api_file {
	char *path; /* file_path; owned */
	char *content; /* owned */
	size_t len;
	char instance[37];
};
int api_parse_file(const char *json, size_t len, struct api_file *);
void api_file_free(struct api_file *);

/* {"error": ..., "message": ...}: 0 or -EPROTO. */
struct api_error {
	char error[64];
	char message[256];
};
int api_parse_error(const char *json, size_t len, struct api_error *);

/*
 * Decide text or base64 by the size, decode in place.  0 (*len becomes size)
 * or -EAGAIN when neither fits.
 */
int api_decode_content(char *content, size_t *len, uint64_t size);

/* Percent-encode all but unreserved characters and '/'; NULL: no memory. */
char *api_encode_path(const char *path);

#endif
