#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * What a room is called: SOURCE (PROFILE/ROOM[:PATH]) and the service's URL.
 * Pure.
 */
struct source {
	char *text; /* without "gentilityfs#" */
	char *profile; /* UUID, lower case */
	char *room; /* with %XX decoded */
	char *path; /* "~" for PROFILE/ROOM:, NULL for PROFILE/ROOM */
};

/*
 * 0 (then the caller owns the strings), -EINVAL with an explanation in detail,
 * or -ENOMEM.
 */
int source_parse(const char *, struct source *, char *detail, size_t size);
void source_free(struct source *);

/*
 * Check a URL and strip its trailing slashes.  0 or -EINVAL with an
 * explanation in detail, which begins with what the URL is called (origin).
 */
int source_check_url(char *url, bool insecure_http, const char *origin,
    char *detail, size_t size);

#endif
