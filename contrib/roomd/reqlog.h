/* The request log that tests read and count. */
#ifndef ROOMD_REQLOG_H
#define ROOMD_REQLOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum req_kind {
	KIND_COMMAND,
	KIND_FILE,
	KIND_RAW,
	KIND_CREATE,
	KIND_OTHER,
	KIND_COUNT,
	KIND_CONTROL = KIND_COUNT, /* never logged */
};

struct reqlog_entry {
	unsigned long seq;
	unsigned long epoch; /* of the log, which resets begin anew */
	double t_start;
	enum req_kind kind;
	char *path; /* owned; what is read or made */
	char *uri; /* owned; the path as the client sent it */
	const char *method;
	char *command; /* owned */
	size_t command_len;
	int status; /* 0: no answer */
	size_t bytes_in;
	size_t bytes_out;
	char *range; /* owned */
	char fault[32];
	int inflight;
	bool ran;
	unsigned conn;
	bool has_exit;
	int exit_code;
	bool done;
};

struct reqlog {
	pthread_mutex_t lock;
	int fd; /* -1: in memory only */
	unsigned long next_seq;
	unsigned long epoch;
	char **lines;
	size_t count, cap;
	unsigned long counts[KIND_COUNT];
	int inflight;
};

extern const char *const req_kind_names[];

int reqlog_open(struct reqlog *log, const char *path);
void reqlog_close(struct reqlog *log);
void reqlog_arrive(struct reqlog *log, struct reqlog_entry *e);
void reqlog_finish(struct reqlog *log, struct reqlog_entry *e, bool full);
void reqlog_reset(struct reqlog *log);
void reqlog_put(struct reqlog *log, struct buf *out);
void reqlog_put_counts(struct reqlog *log, struct buf *out);
void reqlog_entry_free(struct reqlog_entry *e);

#endif
