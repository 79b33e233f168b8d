#include <errno.h>
#include <limits.h>
#include <stdint.h>

#include "api/retry.h"

enum {
	RETRY_BASE_MS = 200,
	RETRY_MAX_MS = 8000,
	RETRY_AFTER_JITTER_MS = 250,
	/* A name or a port that nobody ever answered at, but surely does not
	 * now, is a mistake more often than a service that is starting. */
	RETRY_STRANGER_MS = 3000
};

unsigned
retry_backoff_ms(unsigned failures, unsigned random)
{
	unsigned delay = RETRY_BASE_MS;

	while (failures > 1 && delay < RETRY_MAX_MS) {
		delay *= 2;
		failures--;
	}
	if (delay > RETRY_MAX_MS)
		delay = RETRY_MAX_MS;
	return delay / 2 + random % (delay / 2 + 1);
}

/* A failure to get any answer at all: could the next attempt fare better? */
static bool
error_may_pass(int error)
{
	switch (error) {
	case -ETIMEDOUT:
	case -ECONNREFUSED:
	case -EHOSTUNREACH:
	case -ECONNRESET:
	case -EPROTO:
		return true;
	}
	return false;
}

static bool
status_may_pass(long status)
{
	switch (status) {
	case 408:
	case 425:
	case 429:
		return true;
	case 501:
	case 505:
		return false;
	}
	return status >= 500 && status <= 599;
}

int
retry_delay_ms(const struct retry_case *c)
{
	uint64_t delay, limit = c->limit_ms;

	if (c->error != 0) {
		if (!error_may_pass(c->error))
			return -1;
	} else if (!c->malformed && !status_may_pass(c->status))
		return -1;
	/* An answer, even a refusal, means that the command was sent. */
	if (c->kind == RETRY_USER && (c->sent || c->error == 0))
		return -1;

	if (c->retry_after_s > 0)
		delay = (uint64_t)c->retry_after_s * 1000 +
		    c->random % RETRY_AFTER_JITTER_MS;
	else
		delay = retry_backoff_ms(c->attempt, c->random);
	if (c->stranger && limit > RETRY_STRANGER_MS &&
	    (c->error == -ECONNREFUSED || c->error == -EHOSTUNREACH))
		limit = RETRY_STRANGER_MS;
	if (c->elapsed_ms + delay >= limit || delay > INT_MAX)
		return -1;
	return (int)delay;
}

/*
 * The service's own words that it did not run the command.  Only a JSON error
 * counts: a gateway may give up with a page of its own on a command that runs.
 */
static bool
surely_not_run(const struct retry_case *c)
{
	if (!c->refused)
		return false;
	return c->status == 503 ||
	    (c->status >= 400 && c->status <= 499 && c->status != 408);
}

bool
retry_may_have_run(const struct retry_case *c)
{
	if (c->error != 0)
		return c->sent;
	return !surely_not_run(c);
}

int
retry_errno(const struct retry_case *c)
{
	bool user = c->kind == RETRY_USER;

	if (c->error != 0) {
		/* -EFBIG: it did run, only the answer was too long to keep. */
		if (user && c->sent &&
		    (c->error != -EFBIG || c->status < 200 || c->status > 299))
			return -EREMOTEIO;
		switch (c->error) {
		case -ECONNRESET:
		case -EPROTO:
			return -EIO;
		}
		return c->error;
	}
	/* Whoever sent it, a gateway or the service: it did not let us in. */
	if (c->status == 401 || c->status == 403)
		return -EACCES;
	if (user && !surely_not_run(c))
		return -EREMOTEIO;
	return -EIO;
}
