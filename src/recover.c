#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "recover.h"

/* Make the directories above a path. */
static int
make_parents(char *path)
{
	char *at;
	int error;

	for (at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
		*at = '\0';
		error = mkdir(path, 0700) == -1 && errno != EEXIST ? -errno : 0;
		*at = '/';
		if (error != 0)
			return error;
	}
	return 0;
}

/* Where a file goes: CACHE_DIR/recovery/ROOM/TIME/PATH. */
static int
recover_place(const char *cache_dir, const char *room, const char *path,
    char *where, size_t size)
{
	char when[32], safe[256];
	struct tm tm;
	time_t now;
	size_t i;

	now = time(NULL);
	localtime_r(&now, &tm);
	strftime(when, sizeof when, "%Y%m%d-%H%M%S", &tm);
	snprintf(safe, sizeof safe, "%s", room);
	for (i = 0; safe[i] != '\0'; i++)
		if (safe[i] == '/' || safe[i] == '\n')
			safe[i] = '_';
	if ((size_t)snprintf(where, size, "%s/recovery/%s/%s%s%s", cache_dir,
		safe, when, *path == '/' ? "" : "/", path) >= size)
		return -ENAMETOOLONG;
	return make_parents(where);
}

int
recover_open(const char *cache_dir, const char *room, const char *path,
    char *where, size_t size)
{
	int error, fd;

	error = recover_place(cache_dir, room, path, where, size);
	if (error != 0)
		return error;
	fd = open(where, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd == -1 ? -errno : fd;
}

void
recover_note(const char *work_path, const char *room, const char *path)
{
	char name[4096];
	FILE *f;

	if (*work_path == '\0' ||
	    (size_t)snprintf(name, sizeof name, "%s.note", work_path) >=
		sizeof name ||
	    (f = fopen(name, "wxe")) == NULL)
		return;
	fprintf(f, "%s\n%s", room, path);
	fclose(f);
}

void
recover_forget(const char *work_path)
{
	char name[4096];

	if (*work_path != '\0' &&
	    (size_t)snprintf(name, sizeof name, "%s.note", work_path) <
		sizeof name)
		unlink(name);
}

bool
recover_work(const char *cache_dir, const char *run_dir, const char *name,
    const char *room)
{
	char from[4096], note[4200], text[8192] = "", where[8192];
	const char *path = name;
	char *line;
	size_t n;
	FILE *f;

	snprintf(from, sizeof from, "%s/%s/%s", cache_dir, run_dir, name);
	snprintf(note, sizeof note, "%s.note", from);
	if ((f = fopen(note, "re")) != NULL) {
		n = fread(text, 1, sizeof text - 1, f);
		text[n] = '\0';
		fclose(f);
	}
	if ((line = strchr(text, '\n')) != NULL) {
		*line = '\0';
		path = line + 1;
	}
	if (*text != '\0' && strcmp(text, room) != 0)
		return false;
	if (recover_place(cache_dir, *text != '\0' ? text : "unknown", path,
		where, sizeof where) != 0 ||
	    rename(from, where) == -1) {
		log_error("unsaved changes of a mount that was killed are in "
			  "%s: %s",
		    from, strerror(errno));
		return true;
	}
	unlink(note);
	log_error("a mount of %s was killed before %s was saved: what was "
		  "written is in %s (what was not, is zeros there)",
	    *text != '\0' ? text : "a room", path, where);
	return true;
}
