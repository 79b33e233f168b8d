#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/recover.h"
#include "store/run.h"

/* What never became a run's directory goes after so long. */
#define RUN_AGE_S ((time_t)3600)

static void
run_remove(const char *cache_dir, int at, const char *name, const char *label)
{
	struct dirent *e;
	int fd;
	bool others = false;
	DIR *dir;

	if ((fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, "work-", 5) == 0 &&
		    strchr(e->d_name, '.') == NULL)
			others |=
			    !recover_work(cache_dir, name, e->d_name, label);
	if (others) {
		closedir(dir);
		return;
	}
	rewinddir(dir);
	while ((e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.' && strncmp(e->d_name, "work-", 5) != 0)
			unlinkat(fd, e->d_name, 0);
	closedir(dir);
	unlinkat(at, name, AT_REMOVEDIR);
}

/* One that was being made when its mount was killed. */
static void
remove_unmade(int at, const char *name)
{
	char lock[300];
	struct stat st;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    !S_ISDIR(st.st_mode) || st.st_mtime + RUN_AGE_S > time(NULL))
		return;
	snprintf(lock, sizeof lock, "%s/lock", name);
	unlinkat(at, lock, 0);
	unlinkat(at, name, AT_REMOVEDIR);
}

void
run_sweep(const char *cache_dir, int at, const char *label)
{
	struct dirent *e;
	char path[512];
	DIR *dir;
	int fd;

	if ((fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return;
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL) {
		if (strncmp(e->d_name, "new-", 4) == 0)
			remove_unmade(at, e->d_name);
		if (strncmp(e->d_name, "run-", 4) != 0)
			continue;
		snprintf(path, sizeof path, "%s/lock", e->d_name);
		if ((fd = openat(at, path, O_RDWR | O_CLOEXEC)) == -1)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			run_remove(cache_dir, at, e->d_name, label);
		close(fd);
	}
	closedir(dir);
}

int
run_make(const char *cache_dir, char **path, int *dir_fd, int *lock_fd)
{
	char *new = NULL, *run = NULL;
	int error = 0;

	if (asprintf(&new, "%s/new-XXXXXX", cache_dir) == -1) {
		new = NULL;
		return -ENOMEM;
	}
	if (mkdtemp(new) == NULL ||
	    (*dir_fd = open(new, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1 ||
	    (*lock_fd = openat(
		 *dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600)) == -1 ||
	    flock(*lock_fd, LOCK_EX | LOCK_NB) == -1) {
		error = -errno;
		goto out;
	}
	if ((run = strdup(new)) == NULL) {
		error = -ENOMEM;
		goto out;
	}
	/* The rest of the name stays.
	 * NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
	memcpy(strrchr(run, '/') + 1, "run-", 4);
	if (rename(new, run) == -1)
		error = -errno;
out:
	if (error == 0)
		*path = run;
	else
		free(run);
	free(new);
	return error;
}
