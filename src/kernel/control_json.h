#ifndef KERNEL_CONTROL_JSON_H
#define KERNEL_CONTROL_JSON_H

#include <stddef.h>

/*
 * The service's answer with the public addresses of changed files absolute, as
 * in the readable form.  Takes json over; *out malloc'ed, json itself without
 * memory.  Pure.
 */
void control_json_absolute(
    char *json, size_t len, const char *base, char **out, size_t *out_len);

#endif
