/*
 * The server: what all requests share, one request, one answer.
 */
#ifndef ROOMD_SERVER_H
#define ROOMD_SERVER_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

#include "fault.h"
#include "reqlog.h"
#include "room.h"
#include "switches.h"

#define KEY_LEN 41 /* rk_test_, 32 digits, NUL */

struct server {
	struct room room;
	struct faults faults;
	struct reqlog log;
	char key[KEY_LEN];
	const char *log_path;
	unsigned port;
	struct MHD_Daemon *daemon;
	int stop_fd; /* eventfd, readable once the server goes down */
	unsigned conns; /* atomic */

	pthread_mutex_t serial; /* held while a command runs, by that switch */

	pthread_mutex_t lock; /* guards what follows */
	struct switches *switches;
	double tokens; /* of the rate limit */
	double tokens_at;
};

enum answer_end {
	ANSWER_SEND,
	ANSWER_CLOSE,
	ANSWER_RESET,
	ANSWER_RESET_MIDDLE,
};

struct answer {
	enum answer_end end;
	int status;
	const char *type;
	struct buf body;
	int retry_after; /* -1: none */
	const char *location;
	char content_range[96];
	bool accept_ranges;
	bool authenticate;
	const char *allow;
	/* Instead of a body: a stretch of a file, sent as it is read. */
	int fd;
	long long offset;
	long long length;
};

struct request {
	struct server *server;
	struct MHD_Connection *conn;
	struct switches *sw;
	struct reqlog_entry log;
	const char *method;
	char *uri; /* as sent, without the query */
	struct buf body;
	bool body_too_large;
	bool new_conn;
	struct fault fault;
	/* Parts of the uri, still percent-encoded. */
	const char *profile, *name, *rest;
	size_t profile_len, name_len;
};

/* http.c */
int http_start(struct server *srv, unsigned port);
void http_stop(struct server *srv);
int http_wait(struct request *req, double seconds, bool mind_client);

/* api.c */
void api_classify(struct request *req);
void api_answer(struct request *req, struct answer *a);
void answer_error(
    struct answer *a, int status, const char *error, const char *message);

/* command.c, file.c, control.c */
void command_answer(struct request *req, struct instance *in, struct answer *a);
int command_parse(struct request *req, struct answer *a);
void file_answer(struct request *req, struct instance *in, struct answer *a);
void raw_answer(struct request *req, struct instance *in, struct answer *a);
int file_path(struct request *req, struct answer *a);
void control_answer(struct request *req, struct answer *a);

#endif
