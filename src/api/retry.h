#ifndef API_RETRY_H
#define API_RETRY_H

#include <stdbool.h>

#include "base/fate.h"

/*
 * What may be repeated, and when: the only place that decides it.  Pure.
 * Growing, jittered delays; Retry-After is obeyed; the sum of all attempts and
 * delays stays under the caller's limit.
 */
enum retry_kind {
	RETRY_SAFE, /* reading, or idempotent: repeat when there is hope */
	RETRY_USER /* a user's command: only when nothing was sent at all */
};

struct retry_case {
	enum retry_kind kind;
	int error; /* http_perform(): 0 or -errno */
	long status; /* 0: none */
	bool malformed; /* 2xx, but the body made no sense or was cut */
	bool refused; /* not 2xx, and the body is the service's JSON error */
	bool sent;
	bool stranger; /* no answer of any kind ever came from there */
	unsigned retry_after_s;
	unsigned attempt; /* 1 after the first */
	unsigned elapsed_ms; /* since the first attempt began */
	unsigned limit_ms; /* nothing is begun after this */
	unsigned random; /* 32 random bits, for the jitter */
};

/* Milliseconds to wait before the next attempt, or -1: give up. */
int retry_delay_ms(const struct retry_case *);

/*
 * The growing, jittered delay alone (200 ms doubled up to 8 s, at least half
 * of it), after the given number of failures in a row.
 */
unsigned retry_backoff_ms(unsigned failures, unsigned random);

/* What became of what was sent, as far as this attempt tells. */
enum fate retry_fate(const struct retry_case *);

/*
 * The errno for the caller when there is no further attempt: -EACCES for 401
 * and 403, -EIO for other statuses and malformed answers, -ETIMEDOUT, ... ;
 * -EREMOTEIO when a user's command may have run without an answer.
 */
int retry_errno(const struct retry_case *);

#endif
