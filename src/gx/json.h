#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * Just enough JSON to take an answer apart: strings come as the bytes they
 * are, also NULs, which C libraries for JSON lose.  Wrong JSON gives "not
 * there", never a read past the end.
 */
struct json {
	const char *p, *end; /* one value, and what may follow it */
};

/* The member of this name of an object. */
bool json_find(struct json object, const char *name, struct json *out);
/* For each element of an array: *at begins as the array itself. */
bool json_next(struct json *at, struct json *out);
/* malloc'ed, a NUL after it; NULL: no string, or no memory. */
char *json_string(struct json, size_t *len);
/* That of a member, or NULL. */
char *json_find_string(struct json object, const char *name, size_t *len);
/* An integer, else `other`. */
long long json_find_number(
    struct json object, const char *name, long long other);

#endif
