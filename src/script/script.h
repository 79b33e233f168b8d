#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/*
 * Commands for the VM: the programs of vm/ *.sh, made ready to be sent, and
 * the frame around what they print.  Pure.
 */

/*
 * No command is longer: it may become one argument of sh -c (128 KiB).  The
 * programs that it carries are not counted where that is said below, since the
 * VM may have them (toolkit.h).
 */
#define SCRIPT_MAX (96 * 1024)

enum script_tools {
	SCRIPT_TOOLS_UNKNOWN, /* the script chooses for itself */
	SCRIPT_TOOLS_GNU,
	SCRIPT_TOOLS_BUSYBOX
};

enum script_op {
	SCRIPT_LIST, /* path; bound: go on below, breadth first, as long as
		      * whole levels fit into this many entries */
	SCRIPT_LIST_ALSO, /* path: this directory alone, cheaply together with
			   * its neighbours; -EAGAIN: one of them could not
			   * be read, ask singly */
	SCRIPT_STAT, /* path: lstat */
	SCRIPT_STATFS /* path */
};

struct script_item {
	enum script_op op;
	const char *path; /* absolute, any bytes but NUL */
	unsigned bound;
};

/*
 * 'text' with every ' written as '\'' , and bytes that are not UTF-8 as
 * "$(printf '\377')", since the command travels as JSON.  malloc'ed; NULL: no
 * memory.
 */
char *script_quote(const char *text);

/* How many bytes an item adds to a command; to know how many fit. */
size_t script_item_size(const struct script_item *);
size_t script_base_size(enum script_tools);

/*
 * One command for many items.  The answer is unwrapped with the same nonce
 * (16 hex digits, new for each command) and parsed by listing_parse().
 * malloc'ed, NULL: no memory, or without its programs longer than SCRIPT_MAX.
 */
char *script_compose(enum script_tools, const char *nonce,
    const struct script_item *, size_t n, size_t *len);

/* As script_compose(), with the probe before: its payload comes first. */
char *script_compose_probe(
    const char *nonce, const struct script_item *, size_t n, size_t *len);

/*
 * Read `len` bytes at `offset` of a regular file (UINT64_MAX: all there is,
 * at most 16 MiB; for files whose size lies).  lend: though the mode denies it
 * to its owner, which changes the ctime.  The payload is taken apart by
 * script_parse_read(): the bytes (fewer when the file ends) and the file's
 * lstat before and after.  0, -EPROTO, or what went wrong in the VM: -ENOENT,
 * -EACCES, -EISDIR, -EINVAL (a device, a fifo), -ESTALE (now a symlink), -EIO.
 */
char *script_compose_read(enum script_tools, const char *nonce,
    const char *path, uint64_t offset, uint64_t len, bool lend,
    size_t *out_len);
int script_parse_read(const char *payload, size_t len, const char **data,
    size_t *data_len, struct attr *before, struct attr *after);

/*
 * Take the payload out of a command's output: find the frame, check its
 * length, and unless it is plain text decode base64 and decompress.  0 and the
 * payload (malloc'ed; a NUL follows it), -EAGAIN: the output was cut (*len says
 * how much of the frame was there), -EPROTO: no frame or a broken one, -EFBIG:
 * more than max bytes decompressed, -ENOTSUP: the VM has no tool that makes
 * base64, -ENOMEM.
 */
int script_unwrap(const char *output, size_t output_len, const char *nonce,
    size_t max, char **payload, size_t *len);

/*
 * The same command in pieces, for rooms that cut long outputs: stage runs it
 * into a file of the VM's temporary directory and answers with its size;
 * piece prints part of that file (and then removes it when `last`).  Both
 * answers are framed with the same nonce.  The payload of a piece is the
 * bytes themselves, fewer than asked for when the file is gone; all pieces
 * together are the output to be unwrapped as if it had come at once.
 */
char *script_compose_stage(const char *command, const char *nonce, size_t *len);
int script_parse_stage(const char *payload, uint64_t *size);
char *script_compose_piece(const char *nonce, uint64_t offset, uint64_t len,
    int last, size_t *out_len);

/*
 * Changes.  A command of changes runs them one after another, each whatever
 * became of those before unless it is `chained`, and answers each with an errno
 * and what lstat says afterwards of its paths and the directories that hold
 * them.
 *
 * A command whose answer was lost is composed again with the same tokens and
 * `again` set: then the state that a successful first run leaves is success.
 * Running one twice, or twice at the same time, does no harm.
 */
enum script_change_op {
	/* What makes something new gives it to uid and gid, when set_owner. */
	SCRIPT_MKDIR, /* path mode */
	SCRIPT_RMDIR, /* path */
	SCRIPT_UNLINK, /* path keep; -EISDIR for a directory */
	SCRIPT_RENAME, /* path to ino (of path, for `again`) noreplace keep */
	SCRIPT_SYMLINK, /* path to (its target) */
	SCRIPT_LINK, /* path to (the new name) */
	SCRIPT_MKNOD, /* path mode (with type: fifo, socket, device) major
			 minor */
	SCRIPT_CHMOD, /* path mode; -ENOTSUP for a symlink */
	SCRIPT_CHOWN, /* path uid gid; -1: keep */
	SCRIPT_UTIMENS, /* path atime mtime */
	SCRIPT_TRUNCATE, /* path size */
	SCRIPT_CREATE, /* path how mode token: an empty file; with MAY an
			* existing one is left as it is */
	SCRIPT_WRITE, /* path how mode token data, and maybe sha256 atime
		       * mtime uid gid: the whole contents */
	SCRIPT_RANGES, /* path expect size token data ranges: change them in
			* place, then set the size.  -ESTALE: another version
			* than `expect` (ino, size and mtime count) */
	SCRIPT_SPREAD, /* path expect size token data_len sha256 ranges: as
			* RANGES, with what is staged.  -EAGAIN as COMMIT */
	SCRIPT_APPEND, /* path size (when last seen) token data; the answer's
			* number says where it went */
	SCRIPT_PIECE, /* path token offset data verify: stage a part of a
		       * file, in any order, parallel.  Nothing is found */
	SCRIPT_COMMIT, /* path how mode token size sha256, and maybe atime
			* mtime uid gid: as WRITE, with what is staged.
			* -EAGAIN: what is staged is not that */
	SCRIPT_ABORT, /* path token: remove what is staged */
	SCRIPT_COPY, /* path offset to to_offset size: bytes in the VM; the
		      * answer's number says how many path had */
	SCRIPT_LOOK, /* path: no change, only the answer's attributes */
	SCRIPT_CLEAN /* path (a directory): remove what runs that ended
		      * early left there and in the temporary directory,
		      * once it is an hour old */
};

enum script_how {
	SCRIPT_MUST, /* the target exists */
	SCRIPT_MAY,
	SCRIPT_EXCLUSIVE /* it does not; else -EEXIST */
};

/* For atime and mtime. */
#define SCRIPT_TIME_OMIT INT64_MIN
#define SCRIPT_TIME_NOW	 (INT64_MIN + 1)

struct script_range {
	uint64_t offset, len; /* len bytes of `data`, one after another */
};

struct script_change {
	enum script_change_op op;
	int again;
	int chained; /* not done, -ECANCELED, unless the one before was */
	const char *path, *to;
	const char *keep; /* a new name in the same directory, for the file that
			   * loses this one, or NULL */
	uint32_t lend; /* what writes: bits of 0600 that the mode denies,
			* though not to who opened the file before */
	uint32_t mode; /* final: umask applied.  WRITE, COMMIT: UINT32_MAX
			* keeps that of an existing file */
	uint32_t uid, gid; /* UINT32_MAX: keep.  WRITE, COMMIT: used when
			    * set_owner */
	int set_owner;
	uint32_t major, minor;
	int64_t atime, mtime; /* ns, or as above; used by WRITE and COMMIT when
			       * set_times */
	int set_times;
	uint64_t ino;
	int noreplace;
	enum script_how how;
	uint64_t space; /* WRITE, COMMIT: bytes that the target is known to take
			 * on disk; 0: none */
	const char *token; /* up to 64 hex digits, new for each file sent */
	const char *forget; /* token of an earlier CREATE, WRITE, RANGES or
			     * APPEND that has been answered, or NULL */
	const void *data;
	size_t data_len;
	const char *sha256; /* 64 hex digits; NULL: of data */
	/* COMMIT: what is staged has that sum; or its pieces were verified, and
	 * what is outside of ranges is a hole; or all of it is one. */
	enum { SCRIPT_SUMMED, SCRIPT_CHECKED, SCRIPT_HOLE } staged;
	int verify; /* PIECE: check its sum in the VM, since no COMMIT or
		     * SPREAD will check that of the whole */
	uint64_t size, offset, to_offset;
	const struct attr *expect;
	const struct script_range *ranges;
	size_t nranges;
};

/* SHA-256 of bytes, as 64 hex digits and a NUL. */
void script_sha256(const void *data, size_t len, char out[65]);

/*
 * malloc'ed; NULL: no memory, longer than SCRIPT_MAX without its programs, or
 * a field that is not what it must be.  tools must be known.
 */
char *script_compose_changes(enum script_tools tools, const char *nonce,
    const struct script_change *, size_t n, size_t *len);

/*
 * How many bytes of data fit into a command of this change alone that is no
 * longer than command_max (at most SCRIPT_MAX), whatever they are; more when
 * they can be compressed, which composing does.  toolkit: it need not carry its
 * programs.
 */
size_t script_data_max(enum script_tools, const struct script_change *,
    bool toolkit, size_t command_max);

/* Whether it looks as if these bytes get smaller when they are compressed. */
bool script_may_compress(const char *data, size_t len);

/* What became of a change. */
struct script_result {
	int error; /* 0 or -errno */
	int whole_seconds; /* times were set, but without their fractions */
	int replaced; /* written as a new inode, links are broken */
	uint64_t number; /* APPEND: the offset; COPY: the bytes */
	/* lstat afterwards; bit n of found: attr[n] is set, else that does
	 * not exist.  The path, its directory, `to`, its directory, what was
	 * kept. */
	unsigned found;
	struct attr attr[5];
};
#define SCRIPT_RESULT_PATH   0
#define SCRIPT_RESULT_DIR    1
#define SCRIPT_RESULT_TO     2
#define SCRIPT_RESULT_TO_DIR 3
#define SCRIPT_RESULT_KEPT   4

/* out: n results.  0 or -EPROTO. */
int script_parse_changes(const char *payload, size_t len,
    const struct script_change *, size_t n, struct script_result *out);

#endif
