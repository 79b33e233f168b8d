#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tree/symlink.h"

#define SYMLINK_OUTSIDE ".outside-of-the-mount"

/* The part of path below root, without a leading slash; NULL: outside. */
static const char *
below(const char *path, const char *root)
{
	size_t len = strlen(root);

	if (strcmp(root, "/") == 0)
		len = 0;
	if (strncmp(path, root, len) != 0 ||
	    (path[len] != '/' && path[len] != '\0'))
		return NULL;
	path += len;
	return path + strspn(path, "/");
}

/* How many components. */
static size_t
depth_of(const char *path)
{
	size_t n = 0;

	while (*(path += strspn(path, "/")) != '\0') {
		path += strcspn(path, "/");
		n++;
	}
	return n;
}

/* Does a relative target climb above the root, seen from so deep below? */
static bool
climbs_out(const char *target, size_t depth)
{
	size_t len;

	for (; *target != '\0'; target += len) {
		target += strspn(target, "/");
		len = strcspn(target, "/");
		if (len == 2 && strncmp(target, "..", 2) == 0) {
			if (depth-- == 0)
				return true;
		} else if (len > 0 && !(len == 1 && *target == '.')) {
			depth++;
		}
	}
	return false;
}

/* "../" so often, then the rest. */
static char *
from_root(size_t depth, const char *middle, const char *rest)
{
	size_t len = depth * 3 + strlen(middle) + strlen(rest) + 2;
	char *out, *at;

	if ((out = malloc(len)) == NULL)
		return NULL;
	for (at = out; depth > 0; depth--)
		at = stpcpy(at, "../");
	at = stpcpy(at, middle);
	strcpy(at, rest);
	if (*out == '\0')
		strcpy(out, ".");
	return out;
}

/*
 * The absolute meaning of a target, lexically, with ".." stopping at "/" as
 * in the VM.
 */
static char *
absolute(const char *dir, const char *target)
{
	char *out, *to, *from, *in;
	size_t len;

	if ((in = malloc(strlen(dir) + strlen(target) + 2)) == NULL)
		return NULL;
	if (*target == '/')
		strcpy(in, target);
	else
		stpcpy(stpcpy(stpcpy(in, dir), "/"), target);
	if ((out = malloc(strlen(in) + 2)) == NULL) {
		free(in);
		return NULL;
	}
	to = out;
	for (from = in; *from != '\0'; from += len) {
		from += strspn(from, "/");
		len = strcspn(from, "/");
		if (len == 0 || (len == 1 && *from == '.'))
			continue;
		if (len == 2 && strncmp(from, "..", 2) == 0) {
			while (to > out && *--to != '/')
				;
			continue;
		}
		*to++ = '/';
		memcpy(to, from, len);
		to += len;
	}
	if (to == out)
		*to++ = '/';
	*to = '\0';
	free(in);
	return out;
}

char *
symlink_transform(const char *target, const char *dir, const char *root)
{
	const char *here = below(dir, root), *there;
	size_t depth = here == NULL ? 0 : depth_of(here);
	char *whole, *out;

	if (*target != '/' && !climbs_out(target, depth))
		return strdup(target);
	/* The target's own spelling is kept where that is safe. */
	if (*target == '/' && (there = below(target, root)) != NULL &&
	    !climbs_out(there, 0))
		return from_root(depth, "", there);
	if ((whole = absolute(dir, target)) == NULL)
		return NULL;
	if ((there = below(whole, root)) != NULL)
		out = from_root(depth, "", there);
	else
		out = from_root(depth, SYMLINK_OUTSIDE, whole);
	free(whole);
	return out;
}
