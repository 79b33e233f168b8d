#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "store/store_impl.h"

/*
 * Where cache files are.  A directory that can't be used, or does not take any
 * more, must not have everything be fetched again and again: then they are
 * kept elsewhere, fewer of them.
 */

static const struct {
	const char *name;
	uint64_t max;
} places[] = {
    [PLACE_TMP] = {"/var/tmp", PLACE_TMP_MAX},
    [PLACE_MEMORY] = {"memory", PLACE_MEMORY_MAX},
};

void
file_put(struct file *f)
{
	if (f == NULL || --f->refs > 0)
		return;
	close(f->fd);
	f->store->used -= f->end;
	f->store->files--;
	free(f);
}

/* Nameless, wherever: whatever happens to us, nothing stays behind. */
static int
place_open(struct store *s)
{
	char name[32], path[] = "/var/tmp/gentilityfs-XXXXXX";
	int fd;

	switch (s->place) {
	case PLACE_DIR:
		snprintf(
		    name, sizeof name, "%llx", (unsigned long long)s->serial++);
		fd = openat(s->dir_fd, name,
		    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd != -1)
			unlinkat(s->dir_fd, name, 0);
		return fd;
	case PLACE_TMP:
		fd = open(
		    "/var/tmp", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		/* Some file systems need a name to begin with. */
		if (fd == -1 && (fd = mkostemp(path, O_CLOEXEC)) != -1)
			unlink(path);
		return fd;
	case PLACE_MEMORY:
		return memfd_create("gentilityfs", MFD_CLOEXEC);
	default:
		errno = ENOSPC;
		return -1;
	}
}

void
place_next(struct store *s, const char *why)
{
	pack_close(s);
	if (++s->place == PLACE_NONE) {
		s->broken = true;
		log_warn("%s; contents are not cached", why);
		return;
	}
	if (s->limit > places[s->place].max)
		s->limit = places[s->place].max;
	log_warn("%s; contents are kept in %s, up to %llu MiB, for as long as "
		 "this mount stands",
	    why, places[s->place].name, (unsigned long long)(s->limit >> 20));
}

struct file *
file_new(struct store *s)
{
	struct file *f;
	char why[128];
	int fd = -1;

	while (s->place != PLACE_NONE && (fd = place_open(s)) == -1) {
		/* Nor does any other have what this process lacks. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
			return NULL;
		snprintf(why, sizeof why, "cache: %s", strerror(errno));
		place_next(s, why);
	}
	if (fd == -1 || (f = malloc(sizeof *f)) == NULL) {
		if (fd != -1)
			close(fd);
		return NULL;
	}
	*f = (struct file){.refs = 1, .fd = fd, .store = s, .place = s->place};
	s->files++;
	return f;
}
