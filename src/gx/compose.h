#ifndef COMPOSE_H
#define COMPOSE_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

/*
 * The commands that are sent, and what stands between the marks of their
 * answers.  What they do is told in vm/.  Pure.
 */

#define COMPOSE_TOKEN 17 /* 16 hexadecimal digits and a NUL */

struct compose_job {
	const char *token;
	const char *command; /* a text for the VM's shell */
	const char *before; /* one that goes before it, or NULL */
	bool keep, merge;
	bool input; /* parts of it will come ... */
	bool input_whole; /* ... or all of it is here */
	const char *part; /* of it, in base64, or NULL */
	bool terminal;
	unsigned rows, columns;
	const char *timeout, *idle; /* seconds; NULL: for ever */
	const char *wait; /* seconds */
};

/* How far its output is known, and how much of it an answer may have. */
struct compose_want {
	uint64_t out, err;
	unsigned long max;
};

struct compose_input {
	unsigned long part; /* its number, from 1; 0: none */
	const char *data; /* in base64 */
	unsigned long last; /* 1 + the number of the last one; 0: not known */
	unsigned rows, columns; /* of the terminal, when they have changed */
	unsigned steps; /* so long output is waited for, in 20 ms */
};

void compose_start(struct text *, const char *nonce, const struct compose_job *,
    unsigned long max);
/* job: its token after "t.", or its number.  Waits for `steps' of 100 ms, for
 * output, and when there is some for `pause' seconds more; or until `fed'
 * parts of input were taken. */
void compose_poll(struct text *, const char *nonce, const char *job,
    const struct compose_want *, unsigned steps, const char *pause,
    unsigned long fed);
void compose_give(struct text *, const char *nonce, const char *token,
    const struct compose_want *, const struct compose_input *);
/* Note that commands run side by side. */
void compose_beside(struct text *, const char *nonce, const char *token);
void compose_keep(struct text *, const char *nonce, const char *token);
void compose_kill(struct text *, const char *nonce, const char *job);
void compose_jobs(struct text *, const char *nonce);
void compose_clean(struct text *, const char *nonce);
/* The names of the programs in the VM's PATH. */
void compose_programs(struct text *, const char *nonce);

/*
 * What stands between the marks of that request: *body is cut out of output.
 * 0, -EAGAIN: the end is missing; -EPROTO: it did not run.
 */
int compose_frame(char *output, size_t len, const char *nonce, char **body);

/* What is told of a job: the first line of such a body. */
enum job_state { JOB_RUNNING, JOB_EXIT, JOB_DEAD, JOB_GONE };
struct job_status {
	char token[64];
	unsigned long job; /* its number, 0: none */
	uint64_t out, err; /* how much it has written */
	unsigned long fed;
	bool beside;
	enum job_state state;
	int code; /* with JOB_EXIT */
};
/* *data: what follows, out and err in base64 with a line "." between; they are
 * made two texts, *err empty when there is none.  0 or -EPROTO. */
int compose_status(char *body, struct job_status *, char **out, char **err);

#endif
