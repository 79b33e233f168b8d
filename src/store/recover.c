#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/recover.h"

#define RECOVER_TRIES 1000

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

/* A directory that nobody else can put things into. */
static bool
is_ours(const char *dir)
{
	struct stat st;

	return stat(dir, &st) == 0 && S_ISDIR(st.st_mode) &&
	    st.st_uid == geteuid() && (st.st_mode & 077) == 0;
}

/* Where a file goes: BASE/recovery/ROOM/TIME/PATH; try: TIME.2 and so on. */
static int
recover_place(const char *base, const char *room, const char *path,
    unsigned try, char *where, size_t size)
{
	char when[32], safe[256], number[16] = "";
	struct tm tm;
	time_t now;
	size_t i;

	now = time(NULL);
	localtime_r(&now, &tm);
	strftime(when, sizeof when, "%Y%m%d-%H%M%S", &tm);
	if (try > 1)
		snprintf(number, sizeof number, ".%u", try);
	snprintf(safe, sizeof safe, "%s", room);
	for (i = 0; safe[i] != '\0'; i++)
		if (safe[i] == '/' || safe[i] == '\n')
			safe[i] = '_';
	if ((size_t)snprintf(where, size, "%s/recovery/%s/%s%s%s%s", base, safe,
		when, number, *path == '/' ? "" : "/", path) >= size)
		return -ENAMETOOLONG;
	return make_parents(where);
}

/*
 * Make a new file there, or (from) give an existing one that name; never one
 * that is taken.  The descriptor, 0 for `from`, or -errno.
 */
static int
recover_make(const char *base, const char *room, const char *path,
    const char *from, char *where, size_t size)
{
	unsigned try = 1;
	int result;

	do {
		result = recover_place(base, room, path, try, where, size);
		if (result == 0 && from == NULL)
			result = open(where,
			    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		else if (result == 0)
			result = link(from, where);
		if (result == -1)
			result = -errno;
		/* Another file of the same second, or a part of its path. */
	} while (
	    (result == -EEXIST || result == -ENOTDIR || result == -EISDIR) &&
	    ++try < RECOVER_TRIES);
	if (result == -ENAMETOOLONG && strrchr(path, '/') > path)
		return recover_make(
		    base, room, strrchr(path, '/'), from, where, size);
	return result;
}

int
recover_open(const char *cache_dir, const char *room, const char *path,
    char *where, size_t size)
{
	static const char *const elsewhere[] = {"/var/tmp", "/tmp"};
	char base[64];
	int fd = -EPERM;
	size_t i;

	if (is_ours(cache_dir) &&
	    (fd = recover_make(cache_dir, room, path, NULL, where, size)) >= 0)
		return fd;
	/* Any place is better than none. */
	for (i = 0; i < sizeof elsewhere / sizeof *elsewhere && fd < 0; i++) {
		snprintf(base, sizeof base, "%s/gentilityfs-%u", elsewhere[i],
		    (unsigned)geteuid());
		mkdir(base, 0700);
		if (is_ours(base))
			fd = recover_make(base, room, path, NULL, where, size);
	}
	return fd;
}

int
recover_link(const char *cache_dir, const char *room, const char *path,
    const char *from, char *where, size_t size)
{
	if (*from == '\0')
		return -ENOENT;
	return recover_make(cache_dir, room, path, from, where, size);
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
	int error;

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
	error = recover_make(cache_dir, *text != '\0' ? text : "unknown", path,
	    from, where, sizeof where);
	if (error != 0) {
		log_error("unsaved changes of a mount that was killed are in "
			  "%s: %s",
		    from, strerror(-error));
		return true;
	}
	unlink(from);
	unlink(note);
	log_error("a mount of %s was killed before %s was saved: what was "
		  "written is in %s (what was not, is zeros there)",
	    *text != '\0' ? text : "a room", path, where);
	return true;
}
