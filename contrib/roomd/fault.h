/* Faults on request: which request is hit, and by what. */
#ifndef ROOMD_FAULT_H
#define ROOMD_FAULT_H

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum fault_json {
	FAULT_JSON_NONE,
	FAULT_JSON_CUT,
	FAULT_JSON_MALFORMED,
	FAULT_JSON_WRONG_TYPES,
	FAULT_JSON_MISSING_FIELDS,
};
enum fault_end {
	FAULT_END_ANSWER, /* an answer is sent */
	FAULT_END_CLOSE, /* closed without an answer */
	FAULT_END_RESET, /* reset without an answer */
	FAULT_END_RESET_MIDDLE, /* reset after half of the answer */
	FAULT_END_HANG, /* nothing until the client goes */
};

/* What is done to one request; all members are copies or outlive it. */
struct fault {
	char name[32]; /* for the log, "" when none */
	bool skip; /* the request is not run */
	enum fault_end end;
	enum fault_json json;
	int status; /* 0: as it comes */
	int retry_after; /* seconds, -1: no such header */
	bool html;
	double hang; /* seconds before it runs */
	char *instance_id; /* owned, as the next two */
	char *redirect;
	struct buf body;
	bool has_body;
};

struct fault_rule;

struct faults {
	pthread_mutex_t lock;
	struct fault_rule *rules;
	size_t count;
};

void faults_init(struct faults *f);
void faults_destroy(struct faults *f);
int faults_check(const cJSON *list, char *why, size_t why_len);
int faults_set(struct faults *f, const cJSON *list);
void faults_put(struct faults *f, struct buf *out);
void faults_match(
    struct faults *f, const char *kind, const char *text, struct fault *out);
void fault_free(struct fault *fault);

#endif
