/* One running instance of the room: its processes, files and changes. */
#ifndef ROOMD_INSTANCE_H
#define ROOMD_INSTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "buf.h"
#include "spawner.h"
#include "track.h"

#define UUID_LEN 37

struct instance {
	char id[UUID_LEN];
	pid_t pid; /* of its init, as the host sees it */
	const struct vm_spec *spec;
	struct spawner *spawner;
	struct track *track;
	int ctl;
	unsigned next_id; /* atomic */
	int refs; /* atomic */
};

struct run_options {
	bool drop_stderr;
	bool track;
	long timeout_ms; /* 0: none */
};

struct run_result {
	struct buf output;
	int exit_code;
	struct track_changes changes;
};

void uuid_make(char out[UUID_LEN]);
bool uuid_valid(const char *s, size_t len);

int instance_new(const struct vm_spec *spec, struct spawner *sp,
    struct instance **out, char *why, size_t why_len);
struct instance *instance_ref(struct instance *in);
void instance_unref(struct instance *in);
void instance_end(struct instance *in);
int instance_run(struct instance *in, const char *command, size_t len,
    const struct run_options *opts, struct run_result *res);
int instance_open(struct instance *in, const char *path, int *fd);
void run_result_free(struct run_result *res);

#endif
