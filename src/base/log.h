#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/*
 * One line to the log: stderr in the foreground, syslog as a daemon, or a file.
 * The key is never given to these functions.  Any thread.
 */
void log_open(bool use_syslog, bool debug);
/*
 * From here on to this file, which only its owner may read; each line begins
 * with its time.  0 or -errno, and then the log goes where it went before.
 */
int log_open_file(const char *path);
void log_reopen_file(void); /* somebody may have renamed it */
/*
 * While somebody waits for a daemon to begin, warnings and notices go to his
 * terminal (stderr), too.
 */
void log_attend(bool attended);
void log_silence(void); /* for a program that says all there is to say */
bool log_debug_enabled(void);
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The last errors and warnings, the oldest first, wherever the log goes. */
enum { LOG_KEPT = 50, LOG_KEPT_TEXT = 256 };

struct log_entry {
	time_t at;
	char text[LOG_KEPT_TEXT]; /* a longer one is cut */
};

size_t log_copy_warnings(struct log_entry out[LOG_KEPT]);

#endif
