#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/log.h"
#include "store/store_impl.h"

/* Larger ones are not worth reading again to check them. */
#define DISK_MAX ((uint64_t)64 * 1024 * 1024)
/* Saved contents of instances that nobody has mounted for so long go. */
#define DISK_AGE_S ((time_t)7 * 24 * 3600)
#define DISK_NAMES 200000

static void
disk_name(const struct blob *b, char name[128])
{
	const struct validator *v = &b->version;

	snprintf(name, 128,
	    "%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64
	    "-%08" PRIx32,
	    v->ino, v->dev, v->size, (uint64_t)v->mtime, (uint64_t)v->ctime,
	    b->crc);
}

static bool
disk_parse(const char *name, struct blob *b)
{
	struct validator *v = &b->version;
	uint64_t mtime, ctime;
	char again[128];

	if (sscanf(name,
		"%" SCNx64 "-%" SCNx64 "-%" SCNx64 "-%" SCNx64 "-%" SCNx64
		"-%8" SCNx32,
		&v->ino, &v->dev, &v->size, &mtime, &ctime, &b->crc) != 6)
		return false;
	v->mtime = (int64_t)mtime;
	v->ctime = (int64_t)ctime;
	disk_name(b, again);
	return strcmp(name, again) == 0 && v->size <= DISK_MAX;
}

static bool
disk_checksum(int fd, uint64_t base, uint64_t size, uint32_t *out)
{
	static const size_t step = 256 * 1024;
	uLong crc = crc32(0, NULL, 0);
	uint64_t at = 0;
	ssize_t n = 1;
	Bytef *buf;

	if ((buf = malloc(step)) == NULL)
		return false;
	while (at < size &&
	    (n = pread(fd, buf, size - at < step ? size - at : step,
		 base + at)) > 0) {
		crc = crc32(crc, buf, n);
		at += n;
	}
	free(buf);
	*out = crc;
	return at == size;
}

/* A directory to read, or NULL; then nothing is left open. */
static DIR *
disk_dir(int at, const char *name)
{
	int fd =
	    openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd == -1 ? NULL : fdopendir(fd);

	if (dir == NULL && fd != -1)
		close(fd);
	return dir;
}

/* Remove the saved contents of instances that are long gone. */
static void
disk_sweep(int cache_fd, const char *keep)
{
	struct dirent *e, *f;
	struct stat st;
	DIR *dir, *sub;

	if ((dir = disk_dir(cache_fd, ".")) == NULL)
		return;
	while ((e = readdir(dir)) != NULL) {
		if (strncmp(e->d_name, "saved-", 6) != 0 ||
		    strcmp(e->d_name, keep) == 0 ||
		    fstatat(cache_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) ==
			-1 ||
		    !S_ISDIR(st.st_mode) ||
		    st.st_mtime + DISK_AGE_S > time(NULL) ||
		    (sub = disk_dir(cache_fd, e->d_name)) == NULL)
			continue;
		while ((f = readdir(sub)) != NULL)
			if (f->d_name[0] != '.')
				unlinkat(dirfd(sub), f->d_name, 0);
		closedir(sub);
		unlinkat(cache_fd, e->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
}

/* Take note of what is saved; nothing is read yet. */
static void
disk_scan(struct store *s)
{
	struct blob key, *b;
	struct dirent *e;
	size_t count = 0;
	DIR *dir;

	if ((dir = disk_dir(s->saved_fd, ".")) == NULL)
		return;
	while ((e = readdir(dir)) != NULL && count < DISK_NAMES) {
		if (e->d_name[0] == '.')
			continue;
		/* What has another form is a temporary file or nobody's. */
		if (!disk_parse(e->d_name, &key) ||
		    s->used + key.version.size > s->limit ||
		    RB_FIND(blobs, &s->blobs, &key) != NULL ||
		    (b = calloc(1, sizeof *b)) == NULL) {
			unlinkat(s->saved_fd, e->d_name, 0);
			continue;
		}
		b->store = s;
		b->version = key.version;
		b->crc = key.crc;
		b->saved = true;
		TAILQ_INIT(&b->fetches);
		RB_INSERT(blobs, &s->blobs, b);
		TAILQ_INSERT_TAIL(&s->idle, b, lru);
		s->used += b->version.size;
		count++;
	}
	closedir(dir);
}

void
disk_open(struct store *s, const char *cache_dir, const char *instance)
{
	char name[64];
	struct stat st;
	int at;

	if (*instance == '\0' ||
	    (at = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return;
	snprintf(name, sizeof name, "saved-%s", instance);
	disk_sweep(at, name);
	if (mkdirat(at, name, 0700) == -1 && errno != EEXIST)
		log_debug("cache: %s: %s", name, strerror(errno));
	s->saved_fd =
	    openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	close(at);
	if (s->saved_fd == -1)
		return;
	if (fstat(s->saved_fd, &st) == -1 || st.st_uid != geteuid() ||
	    (st.st_mode & 077) != 0) {
		close(s->saved_fd);
		s->saved_fd = -1;
		return;
	}
	futimens(s->saved_fd, NULL);
	disk_scan(s);
}

bool
disk_load(struct blob *b)
{
	struct store *s = b->store;
	struct file *f = NULL;
	struct stat st;
	uint32_t crc;
	char name[128];
	int fd;

	disk_name(b, name);
	b->saved = false;
	s->used -= b->version.size;
	fd = openat(s->saved_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return false;
	/* Whatever happens, it is read or made anew: the name is not needed.
	 * It is given again at the end of the mount. */
	unlinkat(s->saved_fd, name, 0);
	if (fstat(fd, &st) == -1 || (uint64_t)st.st_size != b->version.size ||
	    !disk_checksum(fd, 0, b->version.size, &crc) || crc != b->crc ||
	    (f = malloc(sizeof *f)) == NULL ||
	    intervals_add(&b->present, 0, b->version.size) != 0) {
		free(f);
		close(fd);
		return false;
	}
	*f = (struct file){.refs = 1, .fd = fd, .store = s};
	s->files++;
	s->used += b->version.size;
	b->file = f;
	return true;
}

void
disk_remove(struct blob *b)
{
	char name[128];

	disk_name(b, name);
	unlinkat(b->store->saved_fd, name, 0);
	b->store->used -= b->version.size;
	b->saved = false;
}

/* Copy a whole blob to a file of its own; under a name that counts only when
 * all is there. */
static void
disk_save(struct store *s, struct blob *b)
{
	char name[128];
	static const char temporary[] = "new";
	uint64_t size = b->version.size;
	off_t from;
	ssize_t n = 1;
	int fd;

	if (b->saved || b->file == NULL || size == 0 || size > DISK_MAX ||
	    !intervals_cover(&b->present, 0, size) ||
	    !disk_checksum(b->file->fd, b->base, size, &b->crc))
		return;
	unlinkat(s->saved_fd, temporary, 0);
	fd = openat(s->saved_fd, temporary,
	    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -1)
		return;
	from = (off_t)b->base;
	while ((uint64_t)from < b->base + size && n > 0)
		n = copy_file_range(
		    b->file->fd, &from, fd, NULL, b->base + size - from, 0);
	disk_name(b, name);
	if (close(fd) == -1 || (uint64_t)from != b->base + size ||
	    renameat(s->saved_fd, temporary, s->saved_fd, name) == -1)
		unlinkat(s->saved_fd, temporary, 0);
}

void
disk_close(struct store *s)
{
	struct blob *b;

	if (s->saved_fd == -1)
		return;
	RB_FOREACH (b, blobs, &s->blobs) {
		if (b->saved)
			continue; /* it has its name */
		disk_save(s, b);
	}
	futimens(s->saved_fd, NULL);
	close(s->saved_fd);
	s->saved_fd = -1;
}
