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
 * But a body that is too large goes no further, whoever says so.
 */
static bool
surely_not_run(const struct retry_case *c)
{
	/* Whoever did not let us in, a gateway or the service. */
	if (c->status == 401 || c->status == 403 || c->status == 413)
		return true;
	if (!c->refused)
		return false;
	return c->status == 503 ||
	    (c->status >= 400 && c->status <= 499 && c->status != 408);
}

enum fate
retry_fate(const struct retry_case *c)
{
	bool good = c->status >= 200 && c->status <= 299;

	if (c->error == 0)
		return surely_not_run(c) ? FATE_NOT_RUN : FATE_UNKNOWN;
	if (!c->sent)
		return FATE_NOT_RUN;
	/* It did run, only the answer was more than could be kept. */
	return good && (c->error == -EFBIG || c->error == -ENOMEM)
	    ? FATE_RAN
	    : FATE_UNKNOWN;
}

int
retry_errno(const struct retry_case *c)
{
	if (c->kind == RETRY_USER && retry_fate(c) == FATE_UNKNOWN)
		return -EREMOTEIO;
	if (c->error == 0)
		return c->status == 401 || c->status == 403 ? -EACCES : -EIO;
	return c->error == -ECONNRESET || c->error == -EPROTO ? -EIO : c->error;
}
