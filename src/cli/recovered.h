#ifndef CLI_RECOVERED_H
#define CLI_RECOVERED_H

#include <stddef.h>
#include <stdio.h>

/*
 * The recovery folder as its user sees it: CACHE_DIR/recovery and, where a
 * cache directory could not be used, /var/tmp/gentilityfs-UID/recovery.  Files
 * lie there as ROOM/TIME/PATH.
 */
struct recovered {
	size_t count;
	struct recovered_file {
		char *path; /* absolute */
		size_t base; /* so many bytes of it are the folder's */
		unsigned long long size;
	} * files; /* by path */
};

/* Add what lies there.  0, also when there is no such folder, or -errno;
 * recovered_free() is due in any case. */
int recovered_list(struct recovered *, const char *cache_dir);
void recovered_free(struct recovered *);

void recovered_print(FILE *, const struct recovered *);
void recovered_print_json(FILE *, const struct recovered *);

/* A line for each file that was not there before; how many. */
size_t recovered_print_new(
    FILE *, const struct recovered *before, const struct recovered *after);

/* Remove them, and the directories that are empty then.  0 or -errno. */
int recovered_forget(const struct recovered *);

#endif
