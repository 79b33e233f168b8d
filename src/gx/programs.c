#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ask.h"
#include "compose.h"
#include "gx.h"

/*
 * What is remembered for completion: the programs of one mount, until the user
 * logs out.  NULL: nowhere.
 */
static char *
memory_path(const struct place *p)
{
	const char *run = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
	char *path = NULL;
	int n;

	if (run != NULL && *run == '/')
		n = asprintf(&path, "%s/gx-%" PRIx64, run, p->id);
	else if (home != NULL && *home == '/')
		n = asprintf(&path, "%s/.cache/gx-%" PRIx64, home, p->id);
	else
		return NULL;
	return n == -1 ? NULL : path;
}

static bool
show_remembered(const char *path)
{
	char buf[65536];
	struct stat st;
	ssize_t n;
	int fd;

	if (path == NULL ||
	    (fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) == -1)
		return false;
	if (fstat(fd, &st) == -1 || st.st_uid != getuid()) {
		close(fd);
		return false;
	}
	while ((n = read(fd, buf, sizeof buf)) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	close(fd);
	return true;
}

/* Whole or not at all. */
static void
remember(const char *path, const char *list)
{
	char *new = NULL;
	FILE *f;
	int fd;

	if (path == NULL || asprintf(&new, "%s.%d", path, (int)getpid()) == -1)
		return;
	fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd != -1 && (f = fdopen(fd, "w")) != NULL) {
		fputs(list, f);
		if (fclose(f) == EOF || rename(new, path) == -1)
			unlink(new);
	}
	free(new);
}

int
programs_list(const struct place *p)
{
	char nonce[COMPOSE_TOKEN], *path = memory_path(p);
	struct text t = {0};
	struct reply r;
	int status = 0;

	if (!show_remembered(path)) {
		gx_token(nonce);
		compose_programs(&t, nonce);
		if ((status = ask_once(p, &t, nonce, &r)) == 0) {
			remember(path, r.body);
			fputs(r.body, stdout);
		}
		reply_free(&r);
		text_free(&t);
	}
	free(path);
	return status;
}
