#ifndef BASE_BSDTREE_H
#define BASE_BSDTREE_H

#include <sys/queue.h>
#include <sys/tree.h>

/*
 * RB_GENERATE_STATIC of libbsd needs a macro __unused that glibc's headers
 * can't stand (struct stat has a member of that name).
 */
#define RB_GENERATE_LOCAL(name, type, field, cmp) \
	RB_GENERATE_INTERNAL(                     \
	    name, type, field, cmp, __attribute__((__unused__)) static)

#endif
