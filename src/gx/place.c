#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "place.h"

#define FS_TYPE "fuse.gentilityfs"
#define CONTROL ".exec" /* unless -o control=NAME says otherwise */
#define SUFFIX	"@gx.json" /* so that the plain one shows others' results */

static int explain(char *why, int error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int
explain(char *why, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, PLACE_WHY, fmt, ap);
	va_end(ap);
	return error;
}

/* Which mount a descriptor is in; asks nothing of the mount. */
static int
mount_id(int fd)
{
	char path[64], line[128];
	int id = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	if ((f = fopen(path, "re")) == NULL)
		return -1;
	while (fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			break;
	fclose(f);
	return id;
}

/* mountinfo writes blanks and the backslash as \ooo. */
static void
unescape(char *text)
{
	char *out = text;
	unsigned c;

	for (; *text != '\0'; text++) {
		if (*text == '\\' && sscanf(text + 1, "%3o", &c) == 1 &&
		    strlen(text) > 3) {
			*out++ = (char)c;
			text += 3;
		} else {
			*out++ = *text;
		}
	}
	*out = '\0';
}

/* Where the mount of this number is, and of what type; both malloc'ed.  And a
 * number that another mount has not. */
static bool
mount_find(int id, char **where, char **type, uint64_t *hash)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *rest;
	size_t size = 0;
	int number;

	*where = *type = NULL;
	if (f == NULL)
		return false;
	/* id parent dev root WHERE options [tags...] - TYPE source options */
	while (*type == NULL && getline(&line, &size, f) != -1) {
		if (sscanf(line, "%d", &number) != 1 || number != id ||
		    (rest = strstr(line, " - ")) == NULL)
			continue;
		if (sscanf(rest, " - %ms", type) != 1 ||
		    sscanf(line, "%*d %*d %*s %*s %ms", where) != 1)
			break;
		unescape(*where);
		/* FNV-1a, of where it is and what it shows. */
		*hash = 14695981039346656037u;
		for (rest = line; *rest != '\0'; rest++)
			*hash = (*hash ^ (unsigned char)*rest) * 1099511628211u;
	}
	free(line);
	fclose(f);
	if (*where != NULL && *type != NULL)
		return true;
	free(*where);
	free(*type);
	*where = *type = NULL;
	return false;
}

void
place_explain(const struct place *p, int error, char why[PLACE_WHY])
{
	switch (-error) {
	case ENOTCONN:
	case ECONNABORTED:
		explain(why, 0,
		    "%s is mounted, but the process behind it is gone: "
		    "fusermount3 -u %s, and mount it again",
		    p->mountpoint, p->mountpoint);
		break;
	case EROFS:
		explain(why, 0,
		    "%s is mounted read-only, and such a mount runs no "
		    "commands",
		    p->mountpoint);
		break;
	case EACCES:
	case EPERM:
		explain(why, 0,
		    "only the user who mounted %s may run commands there",
		    p->mountpoint);
		break;
	case EFBIG:
		explain(why, 0,
		    "the command, with its input, is longer than 1 MiB");
		break;
	case ENOENT:
	case ESTALE:
		explain(why, 0, "the current directory is gone: %s",
		    strerror(-error));
		break;
	default:
		explain(why, 0, "%s: %s", p->control, strerror(-error));
	}
}

static bool
same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/*
 * 0, -errno, or -EINVAL: it is an ordinary file, which must not be written to.
 * A control file is always modified at this very moment.
 */
static int
check_file(int dir, const char *name)
{
	struct stat st, again;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    fstatat(dir, name, &again, AT_SYMLINK_NOFOLLOW) == -1)
		return -errno;
	return S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600 &&
		st.st_blocks == 0 && same_time(st.st_mtim, st.st_ctim) &&
		!same_time(st.st_mtim, again.st_mtim)
	    ? 0
	    : -EINVAL;
}

/* Is NAME@gx.json here, and a control file?  Then p->control is that name. */
static bool
try_control(struct place *p, const char *name)
{
	char *json;

	if (asprintf(&json, "%s" SUFFIX, name) == -1)
		return false;
	if (check_file(p->here, json) != 0) {
		free(json);
		return false;
	}
	free(p->control);
	p->control = json;
	return true;
}

/* The mount's root may list it, whatever its name is. */
static bool
search_control(struct place *p)
{
	int fd = openat(p->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd == -1 ? NULL : fdopendir(fd);
	struct dirent *e;
	bool found = false;

	if (dir == NULL) {
		if (fd != -1)
			close(fd);
		return false;
	}
	while (!found && (e = readdir(dir)) != NULL)
		found = (e->d_type == DT_REG || e->d_type == DT_UNKNOWN) &&
		    check_file(p->root, e->d_name) == 0 &&
		    try_control(p, e->d_name);
	closedir(dir);
	return found;
}

/* name: as it was given, or NULL. */
static int
check_control(struct place *p, const char *name, char *why)
{
	int error = check_file(p->here, p->control);
	struct stat st;

	if (error == 0)
		return 0;
	if (error == -ENOENT && fstat(p->here, &st) == -1)
		error = -errno;
	else if (error == -ENOENT && st.st_nlink > 0)
		error = -EINVAL; /* just that name is not there */
	if (error != -EINVAL) {
		place_explain(p, error, why);
		return error;
	}
	if (name == NULL && search_control(p))
		return 0;
	return explain(why, -ENOENT,
	    "the mount %s has no control file %s: if it was mounted with -o "
	    "control=NAME, give gx --control NAME or set GX_CONTROL; with "
	    "-o no_control it runs no commands",
	    p->mountpoint, name == NULL ? CONTROL : name);
}

int
place_find(struct place *p, const char *name, char why[PLACE_WHY])
{
	char *type = NULL;
	int id, error;

	*p = (struct place){.here = -1, .root = -1};
	p->here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->here == -1)
		return explain(
		    why, -errno, "the current directory: %s", strerror(errno));
	id = mount_id(p->here);
	if (id == -1 || !mount_find(id, &p->mountpoint, &type, &p->id)) {
		error = explain(why, -ENOSYS,
		    "cannot find out about the current directory: no /proc?");
		goto out;
	}
	if (strcmp(type, FS_TYPE) != 0) {
		error = explain(why, -ENOTTY,
		    "not in a room: the current directory is in no mount of "
		    "gentilityfs (see findmnt -t %s)",
		    FS_TYPE);
		goto out;
	}
	if (asprintf(&p->control, "%s" SUFFIX, name == NULL ? CONTROL : name) ==
	    -1) {
		p->control = NULL;
		error = explain(why, -ENOMEM, "%s", strerror(ENOMEM));
		goto out;
	}
	/* Requests of our own do not depend on the current directory, which
	 * a job may remove. */
	p->root = open(p->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->root != -1 && mount_id(p->root) != id) {
		close(p->root);
		p->root = -1;
	}
	if (p->root == -1)
		p->root = dup(p->here);
	error = check_control(p, name, why);
out:
	free(type);
	if (error != 0)
		place_free(p);
	return error;
}

void
place_free(struct place *p)
{
	if (p->here != -1)
		close(p->here);
	if (p->root != -1)
		close(p->root);
	free(p->control);
	free(p->mountpoint);
	*p = (struct place){.here = -1, .root = -1};
}
