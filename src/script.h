#ifndef SCRIPT_H
#define SCRIPT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Commands for the VM: the programs of vm/ *.sh, made ready to be sent, and
 * the frame around what they print.  Pure.
 */

/* No command is longer: it may become one argument of sh -c (128 KiB). */
#define SCRIPT_MAX (96 * 1024)

enum script_tools {
	SCRIPT_TOOLS_UNKNOWN, /* the script chooses for itself */
	SCRIPT_TOOLS_GNU,
	SCRIPT_TOOLS_BUSYBOX
};

enum script_op {
	SCRIPT_LIST,   /* path; bound: go on below, breadth first, as long as
			* whole levels fit into this many entries */
	SCRIPT_STAT,   /* path: lstat */
	SCRIPT_STATFS  /* path */
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
 * malloc'ed, NULL: no memory, or longer than SCRIPT_MAX.
 */
char *script_compose(enum script_tools, const char *nonce,
    const struct script_item *, size_t n, size_t *len);

/* As script_compose(), with the probe before: its payload comes first. */
char *script_compose_probe(const char *nonce, const struct script_item *,
    size_t n, size_t *len);

/*
 * Read `len` bytes at `offset` of a regular file (UINT64_MAX: all there is,
 * at most 16 MiB; for files whose size lies).  The payload is taken apart by
 * script_parse_read(): the bytes (fewer when the file ends) and the file's
 * lstat before and after.  0, -EPROTO, or what went wrong in the VM: -ENOENT,
 * -EACCES, -EISDIR, -EINVAL (a device, a fifo), -ESTALE (now a symlink), -EIO.
 */
char *script_compose_read(enum script_tools, const char *nonce,
    const char *path, uint64_t offset, uint64_t len, size_t *out_len);
struct attr;
int script_parse_read(const char *payload, size_t len, const char **data,
    size_t *data_len, struct attr *before, struct attr *after);

/*
 * Take the payload out of a command's output: find the frame, check its
 * length, decode base64, decompress.  0 and the payload (malloc'ed; a NUL
 * follows it), -EAGAIN: the output was cut (*len says how much of the frame
 * was there), -EPROTO: no frame or a broken one, -EFBIG: more than max bytes
 * decompressed, -ENOTSUP: the VM has no tool that makes base64, -ENOMEM.
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

#endif
