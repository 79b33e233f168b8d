#ifndef CLI_OPTION_VALUE_H
#define CLI_OPTION_VALUE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Values of options, read strictly: nothing before or behind them, and within
 * their bounds, or false.  Pure.
 */
bool option_number(const char *, uint64_t min, uint64_t max, uint64_t *);

/* Seconds, maybe with decimals, as milliseconds; at most max seconds. */
bool option_seconds(const char *, unsigned max, unsigned *ms);

/* A number of bytes, maybe with K, M, G or T. */
bool option_size(const char *, uint64_t min, uint64_t max, uint64_t *);

bool option_octal(const char *, unsigned max, unsigned *);

/* The name (the list ends with NULL) that was probably meant, or NULL. */
const char *option_similar(const char *word, const char *const *names);

#endif
