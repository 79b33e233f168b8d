#ifndef TERM_H
#define TERM_H

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

/* The terminal that we are on, lent to one in the VM. */

/* Keys come one by one, and as they are.  Until the end, or term_release(). */
void term_take(void);
void term_release(void);
bool term_taken(void);
/* False: not known. */
bool term_size(unsigned *rows, unsigned *columns);
/* What a program there wants to know of it, as a text for the shell. */
void term_describe(struct text *);

/*
 * Keys that were typed: false when they ask to end it all, which is ~. at the
 * begin of a line, as ssh has it.
 */
bool term_escape(char *keys, size_t *len);

#endif
