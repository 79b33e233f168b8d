#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli/mountpoint.h"
#include "cli/rooms.h"

static int explain(char *detail, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int
explain(char *detail, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, OPTIONS_DETAIL, fmt, ap);
	va_end(ap);
	return error;
}

/*
 * realpath() but for the last part, which may be a mount whose process hangs
 * or is gone.  The caller frees.
 */
static char *
resolve_parent(const char *path)
{
	char *copy = strdup(path), *parent = NULL, *full = NULL, *slash;
	const char *name;
	size_t len;

	if (copy == NULL)
		return NULL;
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/';)
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	name = slash != NULL ? slash + 1 : copy;
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		full = realpath(copy, NULL);
	else {
		if (slash != NULL)
			*slash = '\0';
		parent = realpath(slash == NULL ? "."
			: copy[0] == '\0'	? "/"
						: copy,
		    NULL);
		if (parent != NULL &&
		    asprintf(&full, "%s/%s",
			strcmp(parent, "/") == 0 ? "" : parent, name) == -1)
			full = NULL;
	}
	free(parent);
	free(copy);
	return full;
}

static int
check_empty(const char *path, char *detail)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	bool empty = true;

	if (dir == NULL)
		return explain(detail, -errno, "cannot read mount point %s: %s",
		    path, strerror(errno));
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			empty = false;
	closedir(dir);
	if (!empty)
		return explain(detail, -ENOTEMPTY,
		    "mount point %s is not empty: use an empty directory, or "
		    "-o nonempty to hide what is in it",
		    path);
	return 0;
}

/* Of a room by its name, the directory is made, and those above it; whether
 * that went well is seen by looking for it. */
static void
make_directory(const char *path)
{
	char *copy = strdup(path), *at;

	if (copy == NULL)
		return;
	for (at = strchr(copy + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
		*at = '\0';
		mkdir(copy, 0700);
		*at = '/';
	}
	mkdir(copy, 0700);
	free(copy);
}

/* The directory itself: resolved into options->mountpoint. */
static int
check_directory(struct options *o, char *detail)
{
	char *near, *full;
	bool ours;
	struct statfs sfs;
	struct stat st;
	int error = 0;

	if (o->by_name)
		make_directory(o->mountpoint);
	near = resolve_parent(o->mountpoint);
	ours = near != NULL && rooms_is_mount(near);
	free(near);
	full = realpath(o->mountpoint, NULL);
	/* The kernel may still know stat()'s answer, but not statfs()'s. */
	if (full == NULL || stat(full, &st) == -1 ||
	    (ours && statfs(full, &sfs) == -1)) {
		error = -errno;
		free(full);
		switch (error) {
		case -ENOTCONN:
			return explain(detail, error,
			    "%s is still mounted, but the process behind it is "
			    "gone: fusermount3 -u %s",
			    o->mountpoint, o->mountpoint);
		case -ENOENT:
			return explain(detail, error,
			    "mount point %s does not exist: mkdir %s",
			    o->mountpoint, o->mountpoint);
		default:
			return explain(detail, error, "mount point %s: %s",
			    o->mountpoint, strerror(-error));
		}
	}
	free(o->mountpoint);
	o->mountpoint = full;
	if (ours || rooms_is_mount(full))
		return explain(detail, -EBUSY,
		    "%s is already mounted: unmount it first with "
		    "fusermount3 -u %s",
		    full, full);
	if (!S_ISDIR(st.st_mode))
		return explain(detail, -ENOTDIR,
		    "mount point %s is not a directory", full);
	/* fusermount3 wants that from users. */
	if (geteuid() != 0 && access(full, W_OK) == -1)
		return explain(detail, -errno,
		    "mount point %s: %s (it must be writable for you)", full,
		    strerror(errno));
	return o->nonempty ? 0 : check_empty(full, detail);
}

/*
 * A cache inside the mount would make the driver ask itself.  The directory
 * need not exist yet: what does is resolved.
 */
static int
check_cache(const struct options *o, char *detail)
{
	char path[PATH_MAX], *real, *slash;
	size_t len = strlen(o->mountpoint);
	bool inside;

	if (snprintf(path, sizeof path, "%s", o->cache_dir) >= PATH_MAX)
		return explain(detail, -ENAMETOOLONG, "cache_dir=%s: %s",
		    o->cache_dir, strerror(ENAMETOOLONG));
	while ((real = realpath(path, NULL)) == NULL &&
	    (slash = strrchr(path, '/')) != NULL && slash != path)
		*slash = '\0';
	if (real == NULL)
		return 0;
	inside = strncmp(real, o->mountpoint, len) == 0 &&
	    (real[len] == '/' || real[len] == '\0');
	free(real);
	if (inside)
		return explain(detail, -EINVAL,
		    "the cache %s lies inside the mount point: choose another "
		    "with -o cache_dir=DIR",
		    o->cache_dir);
	return 0;
}

static int
check_device(char *detail)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), error = errno;

	if (fd != -1) {
		close(fd);
		return 0;
	}
	if (error == EACCES || error == EPERM)
		return explain(detail, -error,
		    "/dev/fuse: %s (in a container, allow the device: docker "
		    "run --device /dev/fuse --cap-add SYS_ADMIN)",
		    strerror(error));
	return explain(detail, -error,
	    "/dev/fuse is missing: load the module with \"modprobe fuse\", or "
	    "in a container: docker run --device /dev/fuse --cap-add "
	    "SYS_ADMIN");
}

/* fusermount3 refuses it to users unless /etc/fuse.conf allows it. */
static int
check_allow_other(char *detail)
{
	FILE *f = fopen("/etc/fuse.conf", "re");
	bool allowed = false;
	char line[256], word[64];

	while (f != NULL && !allowed && fgets(line, sizeof line, f) != NULL)
		allowed = sscanf(line, " %63[a-z_]", word) == 1 &&
		    strcmp(word, "user_allow_other") == 0;
	if (f != NULL)
		fclose(f);
	if (!allowed)
		return explain(detail, -EPERM,
		    "-o allow_other is for root only, unless /etc/fuse.conf "
		    "has "
		    "a line \"user_allow_other\"");
	return 0;
}

/* Is there a program of that name in $PATH? */
static bool
has_program(const char *name)
{
	const char *path = getenv("PATH"), *end;
	char full[PATH_MAX];

	for (; path != NULL && *path != '\0'; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		if (snprintf(full, sizeof full, "%.*s/%s", (int)(end - path),
			path, name) < PATH_MAX &&
		    access(full, X_OK) == 0)
			return true;
	}
	return false;
}

int
mountpoint_check_fuse(char detail[OPTIONS_DETAIL])
{
	int error;

	if ((error = check_device(detail)) != 0)
		return error;
	if (geteuid() != 0 && !has_program("fusermount3"))
		return explain(detail, -ENOENT,
		    "fusermount3 is missing: install the package fuse3");
	return 0;
}

int
mountpoint_check(struct options *o, char detail[OPTIONS_DETAIL])
{
	int error;

	if ((error = check_device(detail)) != 0 ||
	    (error = check_directory(o, detail)) != 0 ||
	    (error = check_cache(o, detail)) != 0)
		return error;
	if (o->allow_other && geteuid() != 0)
		return check_allow_other(detail);
	return 0;
}
