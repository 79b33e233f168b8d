/*
 * The request log: numbered at arrival, written when a request is finished,
 * one JSON object to a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "reqlog.h"

#define COMMAND_SHOWN 4096

const char *const req_kind_names[] = {
    "command", "file", "raw", "create", "other", "control"};

static double
wall_clock(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Begin an empty log; path may be NULL.  0 or -errno. */
int
reqlog_open(struct reqlog *log, const char *path)
{
	memset(log, 0, sizeof(*log));
	(void)pthread_mutex_init(&log->lock, NULL);
	log->next_seq = 1;
	log->fd = -1;
	if (path == NULL)
		return 0;
	log->fd = open(
	    path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	return log->fd == -1 ? -errno : 0;
}

static void
drop_lines(struct reqlog *log)
{
	size_t i;

	for (i = 0; i < log->count; i++)
		free(log->lines[i]);
	log->count = 0;
}

void
reqlog_close(struct reqlog *log)
{
	drop_lines(log);
	free(log->lines);
	if (log->fd != -1)
		(void)close(log->fd);
	(void)pthread_mutex_destroy(&log->lock);
}

/* A request has arrived: give it its number. */
void
reqlog_arrive(struct reqlog *log, struct reqlog_entry *e)
{
	e->t_start = wall_clock();
	(void)pthread_mutex_lock(&log->lock);
	e->seq = log->next_seq++;
	e->epoch = log->epoch;
	e->inflight = ++log->inflight;
	(void)pthread_mutex_unlock(&log->lock);
}

static void
put_entry(struct buf *b, const struct reqlog_entry *e, bool full)
{
	size_t shown = e->command_len;

	buf_printf(b, "{\"seq\":%lu,\"t_start\":%.6f,\"t_end\":%.6f,", e->seq,
	    e->t_start, wall_clock());
	buf_printf(b, "\"kind\":\"%s\",\"method\":", req_kind_names[e->kind]);
	buf_put_json_str(b, e->method);
	if (e->path != NULL) {
		buf_puts(b, ",\"path\":");
		buf_put_json_str(b, e->path);
	}
	buf_puts(b, ",\"uri\":");
	buf_put_json_str(b, e->uri != NULL ? e->uri : "");
	if (e->command != NULL) {
		if (!full && shown > COMMAND_SHOWN) {
			/* Not in the middle of a character. */
			shown = COMMAND_SHOWN;
			while (shown > 0 && (e->command[shown] & 0xc0) == 0x80)
				shown--;
		}
		buf_puts(b, ",\"command\":");
		buf_put_json(
		    b, e->command, shown, JSON_BAD_REPLACE, JSON_NUL_ESCAPE);
		buf_printf(b, ",\"command_len\":%zu", e->command_len);
	}
	buf_printf(b, ",\"status\":%d,\"bytes_in\":%zu,\"bytes_out\":%zu",
	    e->status, e->bytes_in, e->bytes_out);
	if (e->range != NULL) {
		buf_puts(b, ",\"range\":");
		buf_put_json_str(b, e->range);
	}
	if (e->fault[0] != '\0') {
		buf_puts(b, ",\"fault\":");
		buf_put_json_str(b, e->fault);
	}
	if (e->has_exit)
		buf_printf(b, ",\"exit_code\":%d", e->exit_code);
	buf_printf(b, ",\"inflight\":%d,\"ran\":%s,\"conn\":%u}\n", e->inflight,
	    e->ran ? "true" : "false", e->conn);
}

/*
 * A request is finished, once.  What began before the last reset of the log
 * is not written any more.
 */
void
reqlog_finish(struct reqlog *log, struct reqlog_entry *e, bool full)
{
	struct buf line = {0};
	char **p;

	if (e->done || e->seq == 0)
		return;
	e->done = true;
	put_entry(&line, e, full);
	(void)pthread_mutex_lock(&log->lock);
	log->inflight--;
	if (e->epoch == log->epoch && !line.failed) {
		if (log->count == log->cap) {
			p = reallocarray(
			    log->lines, log->cap * 2 + 256, sizeof(*p));
			if (p == NULL)
				goto out;
			log->lines = p;
			log->cap = log->cap * 2 + 256;
		}
		if (log->fd != -1)
			(void)!write(log->fd, line.data, line.len);
		line.data[line.len - 1] = '\0';
		log->lines[log->count++] = line.data;
		line.data = NULL;
		log->counts[e->kind]++;
	}
out:
	(void)pthread_mutex_unlock(&log->lock);
	buf_free(&line);
}

/* Empty the log and number from 1 again. */
void
reqlog_reset(struct reqlog *log)
{
	(void)pthread_mutex_lock(&log->lock);
	drop_lines(log);
	memset(log->counts, 0, sizeof(log->counts));
	log->next_seq = 1;
	log->epoch++;
	if (log->fd != -1)
		(void)!ftruncate(log->fd, 0);
	(void)pthread_mutex_unlock(&log->lock);
}

/* The whole log as a JSON list. */
void
reqlog_put(struct reqlog *log, struct buf *out)
{
	size_t i;

	buf_puts(out, "[");
	(void)pthread_mutex_lock(&log->lock);
	for (i = 0; i < log->count; i++) {
		if (i > 0)
			buf_puts(out, ",\n");
		buf_puts(out, log->lines[i]);
	}
	(void)pthread_mutex_unlock(&log->lock);
	buf_puts(out, "]");
}

/* How many requests of each kind are finished. */
void
reqlog_put_counts(struct reqlog *log, struct buf *out)
{
	unsigned long total = 0;
	int i;

	buf_puts(out, "{");
	(void)pthread_mutex_lock(&log->lock);
	for (i = 0; i < KIND_COUNT; i++) {
		buf_printf(
		    out, "\"%s\":%lu,", req_kind_names[i], log->counts[i]);
		total += log->counts[i];
	}
	(void)pthread_mutex_unlock(&log->lock);
	buf_printf(out, "\"total\":%lu}", total);
}

void
reqlog_entry_free(struct reqlog_entry *e)
{
	free(e->path);
	free(e->uri);
	free(e->command);
	free(e->range);
}
