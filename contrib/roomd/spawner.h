/* The process that makes rooms: forked before the server has threads. */
#ifndef ROOMD_SPAWNER_H
#define ROOMD_SPAWNER_H

#include <stddef.h>
#include <sys/types.h>

#include "vm.h"

struct spawner;

int spawner_start(const struct vm_spec *spec, struct spawner **out);
int spawner_create(
    struct spawner *s, pid_t *pid, int *ctl, char *why, size_t why_len);
void spawner_destroy(struct spawner *s, pid_t pid);
void spawner_stop(struct spawner *s);

#endif
