#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "api/pace.h"
#include "api/retry.h"

/* What the files of this folder share; nobody else includes it. */

enum {
	API_COMMAND_MAX = 64 << 20, /* bytes of a command's answer */
	API_BESIDES_MAX = 16 << 20, /* what a user's has besides its output */
	API_FILE_MAX = 16 << 20 /* and of the file endpoint's */
};

/* The ways to write an absolute path after ".../file" (api.md). */
enum api_form {
	API_FORM_PLAIN, /* /file/tmp/x */
	API_FORM_DOUBLE, /* /file//tmp/x */
	API_FORM_ENCODED, /* /file/%2Ftmp/x */
	API_FORMS,
	API_FORM_UNKNOWN = API_FORMS,
	API_FORM_NONE
};

/* What the raw endpoint turned out to be good for. */
enum api_raw { API_RAW_UNKNOWN, API_RAW_WORKS, API_RAW_OFF };

/* One lock; it is not held while waiting for the network or calling back. */
struct api {
	struct http *http;
	char *base_url;
	char *room_path; /* "/api/profile/P/room/R", encoded */
	unsigned stall_ms;
	unsigned limit_ms;
	bool create;
	void (*replaced)(void *arg, const char *old, const char *now);
	void *replaced_arg;
	struct stats *stats;

	pthread_mutex_t lock;
	pthread_cond_t wake; /* CLOCK_MONOTONIC; shutdown, end of a creation */
	bool closing; /* guarded by lock */
	char instance[37]; /* guarded by lock */
	unsigned generation; /* guarded by lock; grows with each change */
	uint64_t last_contact; /* guarded by lock */
	struct api_contact contact; /* guarded by lock */
	struct api_pace pace; /* guarded by lock */
	bool creating; /* guarded by lock; one creation at a time */
	unsigned creations; /* guarded by lock; how many ended */
	int create_result; /* guarded by lock; of the last one */
	char create_detail[256]; /* guarded by lock */

	atomic_bool key_refused; /* logged once until it works again */
	atomic_bool absent; /* logged once until there is an instance */
	atomic_int file_form; /* enum api_form, as the answers showed */
	atomic_uint file_misses; /* files that no form reached, in a row */
	atomic_int raw; /* enum api_raw */
	atomic_int raw_form; /* enum api_form, as sizes showed */
	atomic_uint raw_misses;
	atomic_bool raw_no_range;
	/* Of a command's body: more was refused; so much was taken. */
	atomic_size_t body_max, body_proven;
};

/* One request with all its attempts. */
struct api_job {
	/* asked */
	struct http_request req;
	enum retry_kind kind;
	enum stats_kind count; /* counted as this */
	unsigned limit_ms;
	/* The body for further attempts, once the first may have run; NULL:
	 * the same. */
	const char *again;
	unsigned resets_max; /* in a row, after which it is given up; 0: any */
	bool unready_is_final; /* so is the service's own 503 */
	const struct cancel *cancel; /* ends it with -ECANCELED; or NULL */
	/*
	 * Makes sense of a 2xx answer: 0, -EPROTO (malformed: as if cut), or
	 * another errno, which is final.  Called without locks.
	 */
	int (*parse)(void *arg, const struct http_response *);
	void (*begin)(void *arg); /* before each attempt, or NULL */
	void *arg;

	/* found; empty it with api_job_free() */
	struct http_response res; /* of the last attempt */
	struct api_error error; /* of an answer that is not 2xx */
	unsigned generation; /* when the last attempt began */
	unsigned resets; /* in a row, until the last attempt */
	enum fate fate; /* of what was sent, over all attempts */
	char detail[256]; /* the cause of a failure, for users */
};

/* Run all attempts: 0 for a 2xx answer that was understood, or -errno. */
int api_run(struct api *, struct api_job *);
void api_job_free(struct api_job *);

/* The answer was a 404 with this code. */
bool api_job_is(const struct api_job *, const char *code);
/* The service itself says that it, or the VM, is not ready. */
bool api_job_is_unready(const struct api_job *);

/* In command.c: send a command's body until it is answered; as api_command(),
 * but -ENODEV whenever there is no instance. */
struct api_command {
	enum api_kind kind;
	const char *body, *again;
	unsigned limit_ms;
	const struct cancel *cancel; /* ends it; or NULL */
	bool unready_is_absent; /* -ENODEV for the service's 503, too */
};
int api_send_command(
    struct api *, const struct api_command *, struct api_answer *);

/* Wait until then (monotonic ms): 0, or -ECANCELED. */
int api_wait_until(struct api *, uint64_t when);
uint64_t api_now(void);

/*
 * Compare an answer's instance with the mount's; tells of a new one.  Returns
 * false when the answer is of another instance than the mount's (now).
 */
bool api_note_instance(struct api *, unsigned generation, const char *id);

/*
 * After "instance_not_found": 0 when there is an instance now and the request
 * may be sent to it, -ESTALE when it is another one than *begin (NULL: any
 * will do), -ENODEV when none may be created, or api_create()'s error.
 */
int api_revive(struct api *, const char *begin, char detail[256]);

/* The path's address in that form: prefix + "/file" + ...; NULL: no memory. */
char *api_file_target(const char *prefix, const char *path, enum api_form);

/* Pure, in api_parse.c. */
struct api_creation {
	char instance[37]; /* "": it has none yet */
	char status[32]; /* one line, for people */
	bool ready;
};
int api_parse_create(const char *json, size_t len, struct api_creation *);
char *api_encode_segment(const char *text);

#endif
