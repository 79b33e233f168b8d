#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "cli/stats_show.h"

enum { SHOW_MAX = 65536 }; /* the longest extended attribute */

/* Why the mount did not tell, and what to do. */
static void
explain(const char *path, int error, char *detail)
{
	switch (error) {
	case ENOTCONN:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s is still mounted, but the process behind it is gone: "
		    "fusermount3 -u %s",
		    path, path);
		break;
	case ENOENT:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s does not exist: give the directory where a room is "
		    "mounted",
		    path);
		break;
	case ENOTSUP:
	case ENODATA:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s is no mount of gentilityfs: give the directory where a "
		    "room is mounted (findmnt -t fuse.gentilityfs)",
		    path);
		break;
	case EACCES:
	case EPERM:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s: %s; only the user who mounted it may look", path,
		    strerror(error));
		break;
	default:
		snprintf(
		    detail, OPTIONS_DETAIL, "%s: %s", path, strerror(error));
	}
}

static int
print(const struct options *o, char *buf, bool clear, char *detail)
{
	const char *name = o->prometheus ? "user.gentility.stats.prometheus"
	    : o->json			 ? "user.gentility.stats.json"
					 : "user.gentility.stats";
	ssize_t len = getxattr(o->mountpoint, name, buf, SHOW_MAX);

	if (len == -1) {
		explain(o->mountpoint, errno, detail);
		return EXIT_FAILURE;
	}
	if (clear)
		fputs("\033[H\033[J", stdout);
	fwrite(buf, 1, (size_t)len, stdout);
	if (fflush(stdout) == EOF) {
		snprintf(detail, OPTIONS_DETAIL, "output: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	return 0;
}

int
stats_show(const struct options *o, char detail[OPTIONS_DETAIL])
{
	const struct timespec pause = {
	    .tv_sec = o->watch_ms / 1000,
	    .tv_nsec = (long)(o->watch_ms % 1000) * 1000000,
	};
	/* A terminal shows one picture, a file or a program all of them. */
	bool clear = o->watch_ms != 0 && !o->json && isatty(STDOUT_FILENO);
	int status;
	char *buf;

	if ((buf = malloc(SHOW_MAX)) == NULL) {
		snprintf(detail, OPTIONS_DETAIL, "%s", strerror(ENOMEM));
		return EXIT_FAILURE;
	}
	while (
	    (status = print(o, buf, clear, detail)) == 0 && o->watch_ms != 0) {
		if (!clear && !o->json)
			putchar('\n');
		nanosleep(&pause, NULL);
	}
	free(buf);
	return status;
}
