#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"

/* The one process-wide state: where the process's log goes. */
static atomic_bool to_syslog;
static atomic_bool debugging;
static atomic_bool silent;
static atomic_bool attended;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* innermost */
/* Under it: */
static char *file_path; /* NULL: no file */
static int file_fd = -1;
static struct log_entry kept[LOG_KEPT]; /* a ring */
static size_t kept_count; /* ever */

void
log_open(bool use_syslog, bool debug)
{
	if (use_syslog)
		openlog("gentilityfs", LOG_PID, LOG_DAEMON);
	to_syslog = use_syslog;
	debugging = debug;
}

static int
open_file(const char *path)
{
	int fd = open(path,
	    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW,
	    0600);

	/* cppcheck-suppress resourceLeak ; the caller has it */
	return fd == -1 ? -errno : fd;
}

int
log_open_file(const char *path)
{
	char *copy = strdup(path);
	int fd;

	if (copy == NULL)
		return -ENOMEM;
	if ((fd = open_file(path)) < 0) {
		free(copy);
		return fd;
	}
	pthread_mutex_lock(&lock);
	file_path = copy;
	file_fd = fd;
	pthread_mutex_unlock(&lock);
	return 0;
}

void
log_reopen_file(void)
{
	int fd = -1, old = -1;

	/* The path is set once, before there are threads. */
	if (file_path == NULL || (fd = open_file(file_path)) < 0)
		return;
	pthread_mutex_lock(&lock);
	old = file_fd;
	file_fd = fd;
	pthread_mutex_unlock(&lock);
	close(old);
}

void
log_silence(void)
{
	silent = true;
}

void
log_attend(bool yes)
{
	attended = yes;
}

bool
log_debug_enabled(void)
{
	return debugging;
}

size_t
log_copy_warnings(struct log_entry out[LOG_KEPT])
{
	size_t n, i;

	pthread_mutex_lock(&lock);
	n = kept_count < LOG_KEPT ? kept_count : LOG_KEPT;
	for (i = 0; i < n; i++)
		out[i] = kept[(kept_count - n + i) % LOG_KEPT];
	pthread_mutex_unlock(&lock);
	return n;
}

/* Under the lock, so that lines do not mix and come in their order. */
static void
write_file(const char *line)
{
	char stamp[32];
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S%z", &tm);
	dprintf(file_fd, "%s gentilityfs: %s\n", stamp, line);
}

/* One line, whatever a server or a name put into it. */
static void
log_write(int priority, const char *fmt, va_list ap)
{
	char line[2048], *c;
	struct log_entry *e;
	bool in_file;

	if (silent)
		return;
	vsnprintf(line, sizeof line, fmt, ap);
	for (c = line; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	pthread_mutex_lock(&lock);
	if (priority <= LOG_WARNING) {
		e = &kept[kept_count++ % LOG_KEPT];
		e->at = time(NULL);
		strlcpy(e->text, line, sizeof e->text);
	}
	if ((in_file = file_fd != -1))
		write_file(line);
	pthread_mutex_unlock(&lock);
	if (to_syslog && !in_file)
		syslog(priority, "%s", line);
	if ((!to_syslog && !in_file) ||
	    (attended && (priority == LOG_WARNING || priority == LOG_NOTICE)))
		fprintf(stderr, "gentilityfs: %s\n", line);
}

#define LOG_FUNCTION(name, priority)          \
	void name(const char *fmt, ...)       \
	{                                     \
		va_list ap;                   \
		va_start(ap, fmt);            \
		log_write(priority, fmt, ap); \
		va_end(ap);                   \
	}

LOG_FUNCTION(log_error, LOG_ERR)
LOG_FUNCTION(log_warn, LOG_WARNING)
LOG_FUNCTION(log_notice, LOG_NOTICE)
LOG_FUNCTION(log_info, LOG_INFO)

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	if (!debugging)
		return;
	va_start(ap, fmt);
	log_write(LOG_DEBUG, fmt, ap);
	va_end(ap);
}
