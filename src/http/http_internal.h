#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <curl/curl.h>
#include <pthread.h>
#include <sys/queue.h>

#include "base/json_cut.h"
#include "http/http.h"

/*
 * Shared by http.c (queue and engine), http_setup.c (base URL, key, what is the
 * same for all) and http_easy.c (one transfer in terms of libcurl's options,
 * callbacks and codes); nobody else includes it.
 */

/* What all transfers have in common.  Constant after http_setup_open(). */
struct http_setup {
	char *base_url; /* without a final slash */
	char *cacert;
	char *agent;
	bool https;
	bool loopback; /* no proxy, whatever the environment says */
	bool http2;
	unsigned connect_ms;
	struct curl_slist *get_headers; /* both hold the key: */
	struct curl_slist *post_headers; /* wiped when freed */
	struct curl_slist *anonymous_headers;
};

/* How far a transfer has come. */
struct http_progress {
	curl_off_t bytes; /* either way */
	unsigned stage; /* connected, headers, body */
};

/*
 * One call of http_perform(), on its caller's stack.  From queueing until
 * `done` it belongs to the engine thread.
 */
struct http_transfer {
	TAILQ_ENTRY(http_transfer) entry; /* guarded by http.lock in a queue */
	pthread_cond_t finished; /* with http.lock */
	bool done; /* guarded by http.lock */

	const struct http_request *req;
	struct http_response *res;
	CURL *easy;
	int error; /* found by a callback: the true cause */
	size_t capacity;
	size_t received;
	struct json_cut cut; /* by req->max_string */
	size_t head_len; /* of all headers so far */
	size_t body_given;
	bool head_ended; /* the empty line after the headers came */
	bool encoded; /* a Content-Encoding that was not asked for */
	struct http_progress progress; /* when it was last seen to move */
	unsigned idle_ms;
	unsigned long long began_ms;
	char errbuf[CURL_ERROR_SIZE];
};
TAILQ_HEAD(http_transfers, http_transfer);

/* 0, -EINVAL (base_url or key can't be used) or -ENOMEM. */
int http_setup_open(struct http_setup *, const struct http_config *);
void http_setup_close(struct http_setup *);

/*
 * Make t->easy ready to be started; max_age_s: no connection that was idle
 * for longer, 0: a new one.
 */
int http_easy_prepare(
    struct http_transfer *, const struct http_setup *, unsigned max_age_s);

struct http_progress http_easy_progress(CURL *);

/* Fill t->res after the end; returns what http_perform() shall return. */
int http_easy_finish(struct http_transfer *, CURLcode);

#endif
