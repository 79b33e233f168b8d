#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nomem.h"

/* Where the program lies in memory; the linker knows. */
extern const char __executable_start;

static struct nomem nomem_own;
struct nomem *nomem = &nomem_own;

/* The next allocation, called from there: does it fail? */
static bool
nomem_fails(const void *where)
{
	uint64_t n = atomic_fetch_add(&nomem->count, 1) + 1;

	if (n < nomem->from || n >= nomem->to)
		return false;
	nomem->where = (uintptr_t)where - (uintptr_t)&__executable_start;
	atomic_fetch_add(&nomem->failed, 1);
	errno = ENOMEM;
	return true;
}

/* In the function that the modules call. */
#define FAILS nomem_fails(__builtin_return_address(0))

void *nomem_malloc(size_t);
void *nomem_calloc(size_t, size_t);
void *nomem_realloc(void *, size_t);
void *nomem_reallocarray(void *, size_t, size_t);
char *nomem_strdup(const char *);
char *nomem_strndup(const char *, size_t);
int nomem_vasprintf(char **, const char *, va_list);
int nomem_vasprintf_chk(char **, int, const char *, va_list);
int nomem_asprintf(char **, const char *, ...);
int nomem_asprintf_chk(char **, int, const char *, ...);
FILE *nomem_open_memstream(char **, size_t *);
DIR *nomem_opendir(const char *);
DIR *nomem_fdopendir(int);
FILE *nomem_fopen(const char *, const char *);
ssize_t nomem_getdelim(char **, size_t *, int, FILE *);
ssize_t nomem_getline(char **, size_t *, FILE *);
char *nomem_realpath(const char *, char *);
char *nomem_realpath_chk(const char *, char *, size_t);
int nomem_pthread_create(
    pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

void *
nomem_malloc(size_t size)
{
	return FAILS ? NULL : malloc(size);
}

void *
nomem_calloc(size_t n, size_t size)
{
	return FAILS ? NULL : calloc(n, size);
}

void *
nomem_realloc(void *p, size_t size)
{
	return FAILS ? NULL : realloc(p, size);
}

void *
nomem_reallocarray(void *p, size_t n, size_t size)
{
	return FAILS ? NULL : reallocarray(p, n, size);
}

char *
nomem_strdup(const char *s)
{
	return FAILS ? NULL : strdup(s);
}

char *
nomem_strndup(const char *s, size_t n)
{
	return FAILS ? NULL : strndup(s, n);
}

/* What *out is after a failure, nobody may rely on. */
static int
nomem_format(bool fails, char **out, const char *format, va_list ap)
{
	if (!fails)
		return vasprintf(out, format, ap);
	*out = (char *)8;
	return -1;
}

int
nomem_vasprintf(char **out, const char *format, va_list ap)
{
	return nomem_format(FAILS, out, format, ap);
}

int
nomem_vasprintf_chk(char **out, int flag, const char *format, va_list ap)
{
	return nomem_format(FAILS, out, format, ap);
}

int
nomem_asprintf(char **out, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = nomem_format(FAILS, out, format, ap);
	va_end(ap);
	return n;
}

int
nomem_asprintf_chk(char **out, int flag, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = nomem_format(FAILS, out, format, ap);
	va_end(ap);
	return n;
}

FILE *
nomem_open_memstream(char **text, size_t *len)
{
	return FAILS ? NULL : open_memstream(text, len);
}

DIR *
nomem_opendir(const char *path)
{
	return FAILS ? NULL : opendir(path);
}

DIR *
nomem_fdopendir(int fd)
{
	return FAILS ? NULL : fdopendir(fd);
}

FILE *
nomem_fopen(const char *path, const char *mode)
{
	return FAILS ? NULL : fopen(path, mode);
}

ssize_t
nomem_getdelim(char **line, size_t *size, int end, FILE *f)
{
	return FAILS ? -1 : getdelim(line, size, end, f);
}

ssize_t
nomem_getline(char **line, size_t *size, FILE *f)
{
	return FAILS ? -1 : getline(line, size, f);
}

char *
nomem_realpath(const char *path, char *out)
{
	return FAILS ? NULL : realpath(path, out);
}

char *
nomem_realpath_chk(const char *path, char *out, size_t size)
{
	return FAILS ? NULL : realpath(path, out);
}

int
nomem_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
    void *(*run)(void *), void *arg)
{
	return FAILS ? EAGAIN : pthread_create(thread, attr, run, arg);
}

/* NOMEM_CONTROL names a file of the size of struct nomem, through which another
 * process says which ones fail, and sees what happened. */
__attribute__((constructor)) static void
nomem_begin(void)
{
	const char *path = getenv("NOMEM_CONTROL");
	cJSON_Hooks hooks = {nomem_malloc, free};
	void *shared;
	int fd;

	/* The answers' trees are the modules' memory, too. */
	cJSON_InitHooks(&hooks);
	if (path == NULL || (fd = open(path, O_RDWR | O_CLOEXEC)) == -1)
		return;
	shared = mmap(
	    NULL, sizeof *nomem, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared != MAP_FAILED)
		nomem = shared;
}
