#ifndef STREAM_H
#define STREAM_H

#include "changes.h"
#include "place.h"
#include "text.h"

/*
 * A command in the VM, from its start, or a job that runs there already, to
 * its end: its output comes, input goes, signals end it or leave it.
 */

struct stream_options {
	const char *command; /* a text for the VM's shell; NULL: attach */
	const char *before; /* one that goes before it, or NULL */
	unsigned long job; /* to attach to */
	bool keep; /* it is a job: SIGTERM and SIGHUP leave it running */
	bool detach; /* it is left as soon as it was started */
	bool input; /* standard input goes to it */
	bool terminal;
	bool gather; /* output goes to the result, not to stdout and stderr */
	const char *timeout; /* seconds, or NULL */
};

enum stream_fate { STREAM_RAN, STREAM_NOT_RUN, STREAM_UNKNOWN };

struct stream_result {
	int status; /* for gx to exit with */
	enum stream_fate fate;
	bool has_code, left; /* it runs on */
	int code; /* its exit code, if it is known */
	unsigned long job; /* its number; 0: none */
	char why[PLACE_WHY]; /* when it did not run, or nobody knows */
	struct text out, err; /* what was gathered */
	struct changes changes;
};

/* Says on stderr what is to be said, but for the changes. */
void stream_run(const struct place *, const struct stream_options *,
    struct stream_result *);
void stream_result_free(struct stream_result *);

#endif
