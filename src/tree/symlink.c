#include <stdlib.h>
#include <string.h>

#include "tree/symlink.h"

/* Names below the mount point for what leads out of it: an absolute target,
 * a relative one. */
#define SYMLINK_OUTSIDE "/.outside-of-the-mount"
#define SYMLINK_ABOVE	"/.above-the-mount/"

/* The part of path behind root; NULL: it is not below it. */
static const char *
below(const char *path, const char *root)
{
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(path, root, len) != 0 ||
	    (path[len] != '/' && path[len] != '\0'))
		return NULL;
	return path + len;
}

static bool
is_slashes(const char *text)
{
	return text[strspn(text, "/")] == '\0';
}

/* How many dots the part of a path is, if nothing but dots; else 0. */
static size_t
dots(const char *part)
{
	size_t n = strspn(part, ".");

	return part[n] == '/' || part[n] == '\0' ? n : 0;
}

bool
symlink_climbs(const char *target)
{
	for (; *target != '\0'; target += strcspn(target, "/")) {
		target += strspn(target, "/");
		if (dots(target) == 2)
			return true;
	}
	return false;
}

/* Up to three texts, one behind the other. */
static char *
join(const char *a, const char *b, const char *c)
{
	char *out = malloc(strlen(a) + strlen(b) + strlen(c) + 1);

	if (out != NULL)
		stpcpy(stpcpy(stpcpy(out, a), b), c);
	return out;
}

/* The mount point's path, to put something behind it. */
static const char *
mount_of(const struct symlink_place *p)
{
	return strcmp(p->mount, "/") == 0 ? "" : p->mount;
}

/*
 * ".." in what leads nowhere must not lead out of there: parts of two dots
 * and more get one more.  As long as that is room for.
 */
static void
add_dots(char *to, const char *from)
{
	size_t len;

	while (*from != '\0') {
		len = strspn(from, "/");
		to = mempcpy(to, from, len);
		from += len;
		if (dots(from) >= 2)
			*to++ = '.';
		len = strcspn(from, "/");
		to = mempcpy(to, from, len);
		from += len;
	}
	*to = '\0';
}

/* The inverse, in place; false: it was not made so. */
static bool
drop_dots(char *text)
{
	char *to = text;
	size_t len;

	while (*text != '\0') {
		len = strspn(text, "/");
		memmove(to, text, len);
		to += len;
		text += len;
		if (dots(text) == 2)
			return false;
		if (dots(text) > 2)
			text++;
		len = strcspn(text, "/");
		memmove(to, text, len);
		to += len;
		text += len;
	}
	*to = '\0';
	return true;
}

char *
symlink_show_lost(const struct symlink_place *p, const char *target)
{
	char *safe, *out;

	if ((safe = malloc(strlen(target) * 3 / 2 + 2)) == NULL)
		return NULL;
	add_dots(safe, target);
	out = join(mount_of(p),
	    *target == '/' ? SYMLINK_OUTSIDE : SYMLINK_ABOVE, safe);
	free(safe);
	return out;
}

char *
symlink_show(const struct symlink_place *p, const char *target)
{
	const char *rest = below(target, p->root);

	if (rest == NULL)
		return symlink_show_lost(p, target);
	/* "/" is the mount point itself, so "//" has one slash behind it. */
	if (rest == target && is_slashes(rest))
		rest++;
	if (*mount_of(p) == '\0' && *rest == '\0')
		rest = "/";
	return join(mount_of(p), rest, "");
}

char *
symlink_target(const struct symlink_place *p, const char *text, bool *lost)
{
	const char *rest = below(text, p->mount), *kept = NULL;
	size_t len = sizeof SYMLINK_OUTSIDE - 1;
	char *out;

	*lost = false;
	if (rest == NULL)
		return NULL;
	if (strncmp(rest, SYMLINK_OUTSIDE "/", len + 1) == 0)
		kept = rest + len;
	else if (strncmp(rest, SYMLINK_ABOVE, sizeof SYMLINK_ABOVE - 1) == 0)
		kept = rest + sizeof SYMLINK_ABOVE - 1;
	if (kept == NULL && strcmp(p->root, "/") != 0)
		return join(p->root, rest, "");
	if (kept == NULL)
		return join(is_slashes(rest) ? "/" : "", rest, "");
	*lost = true;
	if ((out = strdup(kept)) != NULL && !drop_dots(out)) {
		free(out);
		out = NULL;
	}
	return out;
}
