#ifndef COMPOSE_H
#define COMPOSE_H

#include "text.h"

/*
 * The commands that are sent, and the answers to those that are our own.
 * Pure.
 */

#define COMPOSE_TOKEN 17 /* 16 hexadecimal digits and a NUL */

/*
 * A user's command, to be run and waited for.  Its processes can be found by
 * the token, and at its end the mark is printed, which tells that the output
 * is whole, and where it ends.
 */
void compose_run(
    struct text *, const char *command, const char *token, const char *mark);
void compose_mark(struct text *, const char *token);
/* Make the command read this input. */
void compose_input(
    struct text *, const char *command, const char *input_base64);
/* End a command that runs. */
void compose_interrupt(struct text *, const char *nonce, const char *token);

/* The functions of vm/jobs.sh. */
void compose_start(
    struct text *, const char *nonce, const char *token, const char *command);
void compose_poll(struct text *, const char *nonce, unsigned long job,
    const char *token, unsigned long long offset, unsigned long max,
    unsigned tries, const char *pause);
void compose_jobs(struct text *, const char *nonce);
void compose_kill(struct text *, const char *nonce, unsigned long job);
void compose_clean(struct text *, const char *nonce);

/*
 * What stands between the marks of that request: *body is cut out of output.
 * 0, -EAGAIN: the end is missing; -EPROTO: it did not run.
 */
int compose_frame(char *output, size_t len, const char *nonce, char **body);

#endif
