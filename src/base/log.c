#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>

#include "base/log.h"

/* The one process-wide state: where the process's log goes. */
static atomic_bool to_syslog;
static atomic_bool debugging;
static atomic_bool silent;

void
log_open(bool use_syslog, bool debug)
{
	if (use_syslog)
		openlog("gentilityfs", LOG_PID, LOG_DAEMON);
	to_syslog = use_syslog;
	debugging = debug;
}

void
log_silence(void)
{
	silent = true;
}

bool
log_debug_enabled(void)
{
	return debugging;
}

/* One line, whatever a server or a name put into it. */
static void
log_write(int priority, const char *fmt, va_list ap)
{
	char line[2048], *c;

	if (silent)
		return;
	vsnprintf(line, sizeof line, fmt, ap);
	for (c = line; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	if (to_syslog)
		syslog(priority, "%s", line);
	else
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
