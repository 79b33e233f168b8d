#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#include <stdbool.h>
#include <stdint.h>

/* What the VM says of one file.  Times are as attr_time() makes them. */
struct attr {
	uint32_t mode; /* type and permission bits */
	uint32_t nlink;
	uint32_t uid, gid; /* the VM's numbers */
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	uint64_t ino, dev;
	int64_t atime, mtime, ctime;
};

/*
 * Times are nanoseconds since 1970, which keeps a million of these small, and
 * whole seconds beyond what that can hold: from 2262 on, and before 1677.  They
 * compare as the times do.
 */
#define ATTR_TIME_SEC (INT64_C(9223372036) - 2200)
#define ATTR_TIME_NS  (ATTR_TIME_SEC * 1000000000)

static inline int64_t
attr_time(int64_t sec, int64_t ns)
{
	/* Some thousand years; the ends of the range mean other things. */
	const int64_t most = ATTR_TIME_SEC + INT64_C(2000000000000);

	if (sec >= ATTR_TIME_SEC)
		return ATTR_TIME_NS +
		    ((sec < most ? sec : most) - ATTR_TIME_SEC);
	if (sec < -ATTR_TIME_SEC)
		return -ATTR_TIME_NS +
		    ((sec > -most ? sec : -most) + ATTR_TIME_SEC);
	return sec * 1000000000 + ns;
}

/* Seconds, rounded down, and the nanoseconds. */
static inline int64_t
attr_time_split(int64_t time, long *ns)
{
	int64_t sec = time / 1000000000;

	*ns = 0;
	if (time >= ATTR_TIME_NS)
		return ATTR_TIME_SEC + (time - ATTR_TIME_NS);
	if (time < -ATTR_TIME_NS)
		return -ATTR_TIME_SEC + (time + ATTR_TIME_NS);
	*ns = (long)(time % 1000000000);
	if (*ns < 0) {
		*ns += 1000000000;
		sec--;
	}
	return sec;
}

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
