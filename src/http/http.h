#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cancel.h"

/*
 * HTTP transfers.  One engine thread runs all of them on one libcurl multi
 * handle (one pool of warm connections); callers block until theirs is done.
 * Any thread may call http_perform().  Nothing is retried here, and redirects
 * are not followed.  The key is sent to the base URL's host alone.
 */
struct http;

/* A lane has its own share of the connections, so that none starves another. */
enum http_lane {
	HTTP_META, /* short commands somebody waits for: goes first */
	HTTP_BULK, /* contents, uploads: never takes the last two connections */
	HTTP_EXEC /* a user's command: not counted, may take hours */
};

struct http_config {
	const char *base_url; /* scheme://host[:port][/prefix] */
	const char *key; /* copied; wiped by http_close() */
	const char *cacert; /* PEM file, or NULL for the system's */
	const char *agent; /* User-Agent */
	unsigned max_connections; /* in flight at most, HTTP_EXEC aside */
	unsigned connect_ms; /* limit for name, connection and TLS */
};

struct http_request {
	const char *method; /* "GET" or "POST" */
	const char *kind; /* what it is for, in the log; or NULL */
	const char *target; /* "/..." percent-encoded, put after base_url */
	const void *body; /* POST: JSON */
	size_t body_len;
	enum http_lane lane;
	bool anonymous; /* without the key */
	bool once; /* the body goes out once: libcurl can't send it again by
		    * itself on a reused connection that dies (lessons, 5) */
	bool fresh; /* on a connection of its own, which can't have died */
	unsigned stall_ms; /* hardly a byte either way for so long: -ETIMEDOUT;
			    * 0: never; counts from dispatch, not queueing */
	const struct cancel *cancel; /* once set it does not begin any more:
				      * -ECANCELED; or NULL */
	size_t max_body; /* a longer response.body is cut off: -EFBIG */
	size_t max_string; /* the body is JSON: the end of a string that goes
			    * on for longer is left out; 0: not */
	uint64_t first, last; /* "Range: bytes=first-last" when range is set */
	bool range;
	/*
	 * When set, the body of a 200 or 206 answer goes here piece by piece
	 * (on the engine thread; must not block for long) instead of into
	 * response.body; a negative errno returned ends the transfer with it.
	 * total: the whole file's size as Content-Range or Content-Length
	 * gives it, UINT64_MAX if unknown.  The response's status, length and
	 * range_* are filled in by then.
	 */
	int (*sink)(void *arg, long status, uint64_t total, const void *data,
	    size_t len);
	void *sink_arg;
};

/* How a new connection came to be; all 0 when one was used again. */
struct http_contact {
	unsigned name_us, connect_us, tls_us; /* how long each step took */
	char address[64]; /* the peer's */
};

struct http_response {
	long status; /* 0: no answer */
	char *body; /* NUL-terminated; NULL when empty */
	size_t len;
	bool cut; /* a string of it, by max_string */
	unsigned retry_after_s; /* seconds or date form; 0 if absent */
	/* Content-Range of a 206; UINT64_MAX if absent or unknown ("*") */
	uint64_t range_first, range_total;
	uint64_t length; /* Content-Length, UINT64_MAX if absent */
	bool sent; /* bytes of the request may have reached the server */
	unsigned ms; /* how long it took from dispatch */
	uint64_t us; /* the same, finer */
	uint64_t out, in; /* bytes of the bodies, as they are on the wire */
	struct http_contact contact;
	char content_type[96]; /* without parameters; "" if absent */
	char detail[256]; /* the cause when http_perform() fails: for the log */
};

/* Start the engine.  Call after any fork.  0 or -errno; *out is the caller's.*/
int http_open(struct http **out, const struct http_config *);

/* End all transfers with -ECANCELED, wait for the callers, free.  NULL is ok.*/
void http_close(struct http *);

/* Fail what is under way and what comes later with -ECANCELED. Any thread. */
void http_shutdown(struct http *);

/*
 * Run one transfer.  Returns 0 when a whole answer arrived, whatever its
 * status; else -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH (name or route),
 * -ECONNRESET (closed, reset or cut before the end of the answer),
 * -EKEYREJECTED (TLS: certificate refused), -EPROTO (not HTTP), -EFBIG,
 * -ENOMEM, -ECANCELED, -EOPNOTSUPP (a range or a sink, and the body came
 * compressed unasked), or what the sink returned.  *res is filled in any case
 * and is emptied with http_response_free().
 */
int http_perform(
    struct http *, const struct http_request *, struct http_response *res);
void http_response_free(struct http_response *);

#endif
