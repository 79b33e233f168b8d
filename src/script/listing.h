#ifndef SCRIPT_LISTING_H
#define SCRIPT_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/*
 * The answers of the programs in vm/, parsed.  Pure: bytes in, values out; a
 * hostile VM can make it fail, not misbehave.  The formats stand in the
 * vm/ *.sh files.
 */

struct entry {
	char *name; /* one component: never empty, ".", "..", or with '/' */
	char *target; /* of a symlink, else NULL; "": it can't be read */
	struct attr attr;
};

/* One directory as the VM saw it.  Adopted whole or not at all. */
struct listing {
	char *path; /* absolute in the VM, no trailing slash but "/" */
	struct attr self; /* of the directory */
	bool complete; /* entries are all there are; false: self only */
	size_t count;
	struct entry *entries; /* sorted by name, bytewise; no duplicates */
};

/* The answer to one item of a command (script.h), in the order asked. */
struct reply {
	int error; /* 0 or -errno, decided in the VM */
	size_t nlistings; /* SCRIPT_LIST: the directory, then ones below it */
	struct listing *listings;
	bool found; /* SCRIPT_STAT: entry is set */
	struct entry entry;
	uint64_t fs[7]; /* SCRIPT_STATFS: bsize frsize blocks bfree bavail
			 * files ffree */
	uint32_t namemax;
};

/*
 * Parse the payload of a command of nitems items.  0, -EPROTO when it is
 * malformed, -ENOMEM.  *out has nitems replies; reply_free_all() frees them
 * and everything in them.
 */
struct script_item;
int listing_parse(const char *payload, size_t len,
    const struct script_item *items, size_t nitems, struct reply **out);
void reply_free_all(struct reply *, size_t nitems);

/* The negative errno of that name; -EIO when it is none that is known. */
int listing_errno(const char *name, size_t len);

/*
 * The fields of one record up to the blank or NUL after the last; form: 'G'
 * (vm/record_gnu.sh) or 'B' (vm/record_busybox.sh).  Where they end, or NULL.
 * *shut: a directory whose contents can't be read.
 */
const char *listing_parse_attr(
    char form, const char *text, const char *end, struct attr *, bool *shut);

/* What the mount's first command finds out (SCRIPT_PROBE). */
struct probe {
	bool gnu; /* find -printf, else busybox */
	uint32_t uid, gid; /* of the VM's user */
	size_t ngroups;
	uint32_t *groups;
	char *user, *home, *cwd; /* home: absolute; "/" when unknown */
	size_t npseudo;
	uint64_t *pseudo; /* st_dev of proc, sysfs, ...: sizes there lie */
	bool gzip, timeout, python3, perl; /* tools */
	bool whole_seconds; /* touch can't set parts of them, nor python3 */
	int64_t clock; /* what time it was there; 0: not known */
	char *have; /* the names of the tools found, separated by blanks */
	char *system; /* one line for people: uname and the tools found */
};

/*
 * Parse the payload of script_compose_probe().  0 and in *used how much of
 * it the probe took, the rest being the items' (for listing_parse());
 * -ENOTSUP: the VM lacks the tools that the driver needs (`system` says
 * which it has), -EPROTO, -ENOMEM.  probe_free() in any case.
 */
int probe_parse(
    const char *payload, size_t len, struct probe *out, size_t *used);
void probe_free(struct probe *);

#endif
