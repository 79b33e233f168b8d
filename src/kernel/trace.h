#ifndef KERNEL_TRACE_H
#define KERNEL_TRACE_H

struct trace;
struct tree;

/*
 * For -d: each request of the kernel as one line of the log when it is
 * answered (kind, path, bytes, milliseconds, result).  Made from what libfuse
 * says of itself with its option "debug".
 */
int trace_open(struct trace **, struct tree *); /* 0 or -ENOMEM */
void trace_close(struct trace *);

/* A line of libfuse's.  Any thread, with no lock held. */
void trace_take(struct trace *, const char *line);

#endif
