#ifndef BASE_JSON_CUT_H
#define BASE_JSON_CUT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * JSON on its way through, in which strings go on no longer than so many bytes:
 * the rest of a longer one is left out, so that what follows it can still be
 * read.  No character and no escape is halved.  Pure.
 */
struct json_cut {
	size_t max; /* bytes of a string, as they stand there; 0: any */
	bool cut; /* one was longer */

	/* Private: where it is. */
	size_t len;
	bool in_string, dropping;
	bool
	    pair; /* half of a surrogate pair is out: the other belongs to it */
	unsigned escape; /* bytes that an escape still has */
	char digit; /* the last one of it */
};

/* Pass n bytes on to out, which has room for them; how many went. */
size_t json_cut(struct json_cut *, char *out, const char *in, size_t n);

#endif
