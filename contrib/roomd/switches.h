/*
 * How the room behaves at the moment.  A set of switches never changes once
 * it is in force: a request holds the one it began with.
 */
#ifndef ROOMD_SWITCHES_H
#define ROOMD_SWITCHES_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum sw_cut { CUT_TAIL, CUT_MIDDLE };
enum sw_raw { RAW_RANGE, RAW_NORANGE, RAW_OFF, RAW_ERROR, RAW_FORBIDDEN };
enum sw_base64 {
	BASE64_AUTO,
	BASE64_ALWAYS,
	BASE64_NUL_IS_TEXT,
	BASE64_LOSSY,
	BASE64_MIME,
};
enum sw_paths { PATHS_ABSOLUTE, PATHS_HOME, PATHS_HOME_ENCODED };
enum sw_file_path { FILE_PATH_ABSOLUTE, FILE_PATH_ECHO };
enum sw_space { SPACE_TRIM, SPACE_EXACT };
enum sw_stderr { STDERR_MERGE, STDERR_DROP };
enum sw_boot_answer { BOOT_ANSWER_503, BOOT_ANSWER_200 };
enum sw_boot_refuse { BOOT_REFUSE_503, BOOT_REFUSE_404 };
enum sw_too_large {
	TOO_LARGE_413,
	TOO_LARGE_HTML,
	TOO_LARGE_400,
	TOO_LARGE_422,
	TOO_LARGE_E2BIG,
	TOO_LARGE_RESET,
};

struct switches {
	int refs; /* atomic; stays the first member */
	double latency_ms;
	bool latency_connect;
	double output_limit; /* 0: none */
	int output_cut;
	int output_space;
	int output_invalid; /* enum json_bad */
	int output_nul; /* enum json_nul */
	char *noise;
	char *noise_after;
	int stderr_to;
	double command_timeout; /* seconds, 0: none */
	double rate_limit; /* per second, 0: none */
	double boot; /* seconds from create to ready */
	double boot_polls; /* create requests for each status, 0: by time */
	int boot_answer;
	int boot_refuse;
	int raw;
	int base64;
	int paths;
	int file_path;
	bool track;
	bool gzip;
	double max_body;
	double command_limit; /* bytes, 0: none */
	int too_large;
	bool serial;
	double max_file;
	bool log_full;
};

struct switches *switches_default(void);
struct switches *switches_ref(struct switches *sw);
void switches_unref(struct switches *sw);
bool switches_known(const char *name);
int switches_change(const struct switches *old, const cJSON *wanted,
    struct switches **out, char *why, size_t why_len);
int switches_set(
    struct switches *sw, const char *setting, char *why, size_t why_len);
void switches_put(const struct switches *sw, struct buf *out);

#endif
