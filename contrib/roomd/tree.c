/*
 * The host's side of a room's files: made when missing, put aside when the
 * instance expires, removed at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree.h"

/* Remove what fd holds, whatever its modes are. */
static int
remove_contents(int fd)
{
	struct dirent *e;
	struct stat st;
	DIR *d;
	int sub, error = 0;

	d = fdopendir(fd);
	if (d == NULL) {
		error = -errno;
		(void)close(fd);
		return error;
	}
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) == 0)
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISDIR(st.st_mode)) {
			error = -EBUSY;
			continue;
		}
		(void)!fchmodat(dirfd(d), e->d_name, 0700, 0);
		sub = openat(dirfd(d), e->d_name,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub != -1)
			(void)remove_contents(sub);
		if (unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) == -1)
			error = -errno;
	}
	(void)closedir(d);
	return error;
}

/* Remove a directory and all that is in it; 0 or -errno. */
int
tree_remove(const char *path)
{
	int fd;

	(void)chmod(path, 0700);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return errno == ENOENT ? 0 : -errno;
	(void)remove_contents(fd);
	return rmdir(path) == -1 ? -errno : 0;
}

static int
prepare_dir(const struct vm_spec *spec, const char *path, mode_t mode)
{
	char copy[PATH_MAX];
	char *p;

	if (strlcpy(copy, path, sizeof(copy)) >= sizeof(copy))
		return -ENAMETOOLONG;
	for (p = copy + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
		*p = '\0';
		if (mkdir(copy, 0755) == -1 && errno != EEXIST)
			return -errno;
	}
	if (mkdir(path, 0755) == -1)
		return errno == EEXIST ? 0 : -errno;
	if (chmod(path, mode) == -1)
		return -errno;
	if (spec->uid != 0 && (mode & S_ISVTX) == 0 &&
	    chown(path, spec->uid, spec->uid) == -1)
		return -errno;
	return 0;
}

/* Make the room's own directories where they are missing. */
int
tree_prepare(const struct vm_spec *spec)
{
	int error;

	error = prepare_dir(spec, spec->home_host, 0755);
	if (error == 0)
		error = prepare_dir(spec, spec->tmp_host, 01777);
	if (error == 0)
		error = prepare_dir(spec, spec->workspace_host, 0755);
	return error;
}

/*
 * Give a new instance fresh directories.  The old ones are removed in a
 * temporary room, else kept aside: nobody expects --dir to lose data.
 */
int
tree_renew(const struct vm_spec *spec, const char *old_id)
{
	const char *dirs[] = {
	    spec->home_host, spec->tmp_host, spec->workspace_host};
	static const char *const names[] = {"home", "tmp", "workspace"};
	char aside[PATH_MAX], to[PATH_MAX];
	size_t i;

	(void)snprintf(aside, sizeof(aside),
	    spec->kind == VM_ROOTFS ? "%s.expired-%s" : "%s/expired-%s",
	    spec->data, old_id);
	if (mkdir(aside, 0700) == -1 && errno != EEXIST)
		return -errno;
	for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (snprintf(to, sizeof(to), "%s/%s", aside, names[i]) >=
		    (int)sizeof(to))
			return -ENAMETOOLONG;
		if (rename(dirs[i], to) == -1 && errno != ENOENT)
			return -errno;
	}
	if (spec->temporary)
		(void)tree_remove(aside);
	return tree_prepare(spec);
}
