#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What the VM says of one file.  Times are nanoseconds since 1970, which
 * keeps a million of these small (and ends in 2262; what lies outside is
 * clamped).
 */
struct attr {
	uint32_t mode; /* type and permission bits */
	uint32_t nlink;
	uint32_t uid, gid; /* the VM's numbers */
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	uint64_t ino, dev;
	int64_t atime, mtime, ctime;
};

/* Contents are valid as long as these five stay the same. */
struct validator {
	uint64_t ino, dev, size;
	int64_t mtime, ctime;
};

static inline struct validator
attr_validator(const struct attr *a)
{
	return (struct validator){.ino = a->ino,
	    .dev = a->dev,
	    .size = a->size,
	    .mtime = a->mtime,
	    .ctime = a->ctime};
}

static inline bool
validator_equal(const struct validator *a, const struct validator *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->size == b->size &&
	    a->mtime == b->mtime && a->ctime == b->ctime;
}

#endif
