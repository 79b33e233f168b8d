#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http/http_internal.h"

/* libcurl's own buffer: its default of 16 KiB costs a turn for each. */
#define HTTP_BUFFER_SIZE (256L * 1024)

/* Longer headers than this are nobody's: libcurl itself keeps them all. */
#define HTTP_HEAD_MAX ((size_t)256 * 1024)

/* So much of an answer is looked at, however little of it is kept. */
#define HTTP_FLOOD_MAX ((size_t)256 * 1024 * 1024)

/* The body of a request that must go out once: from front to back, once. */
static size_t
read_cb(char *buf, size_t size, size_t count, void *arg)
{
	struct http_transfer *t = arg;
	size_t n = size * count, left = t->req->body_len - t->body_given;

	if (n > left)
		n = left;
	if (n > 0)
		memcpy(buf, (const char *)t->req->body + t->body_given, n);
	t->body_given += n;
	return n;
}

/* libcurl rewinds only in order to send again: never. */
static int
seek_cb(void *arg, curl_off_t offset, int origin)
{
	(void)arg;
	(void)offset;
	(void)origin;
	return CURL_SEEKFUNC_FAIL;
}

static int
body_append(struct http_transfer *t, const char *data, size_t len)
{
	struct http_response *res = t->res;
	size_t need = res->len + len + 1, capacity = t->capacity;
	char *body;

	if (need > capacity) {
		capacity = capacity < 8192 ? 16384 : capacity * 2;
		if (capacity < need)
			capacity = need;
		if ((body = realloc(res->body, capacity)) == NULL)
			return -ENOMEM;
		res->body = body;
		t->capacity = capacity;
	}
	t->cut.max = t->req->max_string;
	res->len += json_cut(&t->cut, res->body + res->len, data, len);
	res->body[res->len] = '\0';
	res->cut = t->cut.cut;
	return 0;
}

static uint64_t
content_length(CURL *easy)
{
	curl_off_t length = -1;

	curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	return length < 0 ? UINT64_MAX : (uint64_t)length;
}

static size_t
write_cb(char *data, size_t size, size_t count, void *arg)
{
	struct http_transfer *t = arg;
	size_t len = size * count;
	uint64_t total;
	long status = 0;
	bool wanted;

	if (t->error != 0)
		return 0;
	if (len == 0)
		return 0;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	wanted = status == 200 || status == 206;
	t->res->status = status;
	if (t->encoded && wanted)
		t->error = -EOPNOTSUPP; /* offsets would mean nothing */
	else if (t->req->sink != NULL && wanted) {
		t->res->length = content_length(t->easy);
		total = status == 206 ? t->res->range_total : t->res->length;
		t->error =
		    t->req->sink(t->req->sink_arg, status, total, data, len);
	} else if (len > t->req->max_body - t->res->len ||
	    t->received > HTTP_FLOOD_MAX)
		t->error = -EFBIG; /* of decoded bytes: no gzip bomb */
	else
		t->error = body_append(t, data, len);
	t->received += len;
	/* Any other count than len ends the transfer. */
	return t->error == 0 ? len : 0;
}

static bool
parse_number(const char **p, uint64_t *out)
{
	uint64_t n = 0;
	int digits = 0;

	for (; **p >= '0' && **p <= '9'; (*p)++) {
		if (++digits > 18)
			return false;
		n = n * 10 + (uint64_t)(**p - '0');
	}
	*out = n;
	return digits > 0;
}

/* "bytes 0-499/1234"; an unknown total ("*") is UINT64_MAX. */
static void
parse_content_range(struct http_response *res, const char *p)
{
	uint64_t first, last, total = UINT64_MAX;

	if (strncasecmp(p, "bytes", 5) != 0)
		return;
	for (p += 5; *p == ' '; p++)
		;
	if (!parse_number(&p, &first) || *p++ != '-' ||
	    !parse_number(&p, &last) || *p++ != '/')
		return;
	if (*p != '*' && !parse_number(&p, &total))
		return;
	if (last < first || (total != UINT64_MAX && last >= total))
		return;
	res->range_first = first;
	res->range_total = total;
}

static size_t
header_cb(char *data, size_t size, size_t count, void *arg)
{
	struct http_transfer *t = arg;
	size_t len = size * count, n = len;
	char line[256], *value;

	if (len > HTTP_HEAD_MAX - t->head_len) {
		t->error = -EPROTO;
		snprintf(t->res->detail, sizeof t->res->detail,
		    "the headers are longer than %zu bytes", HTTP_HEAD_MAX);
		return 0;
	}
	t->head_len += len;
	if (n >= sizeof line)
		return len; /* none that matters is so long */
	memcpy(line, data, n);
	while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL)
		n--;
	line[n] = '\0';
	if (strncmp(line, "HTTP/", 5) == 0) {
		/* Also after an interim answer (1xx): begin anew. */
		t->res->range_first = UINT64_MAX;
		t->res->range_total = UINT64_MAX;
		t->res->content_type[0] = '\0';
		t->encoded = false;
		t->head_ended = false;
		return len;
	}
	if (n == 0)
		t->head_ended = true;
	if ((value = strchr(line, ':')) == NULL)
		return len;
	*value++ = '\0';
	value += strspn(value, " \t");
	if (strcasecmp(line, "Content-Range") == 0)
		parse_content_range(t->res, value);
	else if (strcasecmp(line, "Content-Type") == 0)
		snprintf(t->res->content_type, sizeof t->res->content_type,
		    "%.*s", (int)strcspn(value, "; \t"), value);
	else if (strcasecmp(line, "Content-Encoding") == 0 &&
	    strcasecmp(value, "identity") != 0 &&
	    (t->req->range || t->req->sink != NULL))
		t->encoded = true;
	return len;
}

/*
 * What was sent and is not even acknowledged after that time is on its way to
 * an address that is gone: there is still time to send it on another
 * connection.  A user's command can't be sent again, so it waits for TCP's own
 * patience.
 */
static int
sockopt_cb(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct http_transfer *t = arg;
	unsigned ms = t->req->stall_ms / 2;

	if (purpose == CURLSOCKTYPE_IPCXN && ms > 0)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
	return CURL_SOCKOPT_OK;
}

static void
set_protocols(CURL *easy, bool https)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, https ? "https" : "http");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS,
	    https ? (long)CURLPROTO_HTTPS : (long)CURLPROTO_HTTP);
#endif
}

/* What holds for every request: what is never to happen, above all. */
static void
prepare_common(CURL *easy, const struct http_setup *setup)
{
	set_protocols(easy, setup->https);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	/* Our headers are for the service, not for a proxy on the way. */
	curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (setup->loopback)
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	/* libcurl would squash "/../" and "//" in a path otherwise. */
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(
	    easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	if (setup->cacert != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, setup->cacert);
	if (setup->agent != NULL)
		curl_easy_setopt(easy, CURLOPT_USERAGENT, setup->agent);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
	    setup->http2 ? (long)CURL_HTTP_VERSION_2TLS
			 : (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, HTTP_BUFFER_SIZE);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A name server that is silent would hold up the engine otherwise:
	 * libcurl waits for its resolver's thread when a transfer is ended. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	/*
	 * The only limit left to libcurl's clock, since it shares it among a
	 * name's addresses.  It is harmless after a suspend: nothing was sent.
	 */
	if (setup->connect_ms > 0)
		curl_easy_setopt(
		    easy, CURLOPT_CONNECTTIMEOUT_MS, (long)setup->connect_ms);
}

static void
prepare_body(CURL *easy, struct http_transfer *t)
{
	const struct http_request *req = t->req;

	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(
	    easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
	if (req->once) {
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_cb);
		curl_easy_setopt(easy, CURLOPT_READDATA, t);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek_cb);
	} else
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
		    req->body_len > 0 ? req->body : "");
}

int
http_easy_prepare(
    struct http_transfer *t, const struct http_setup *setup, unsigned max_age_s)
{
	const struct http_request *req = t->req;
	bool post = strcmp(req->method, "POST") == 0;
	bool whole = !req->range && req->sink == NULL;
	CURL *easy = t->easy;
	char range[48], *url = NULL;
	int error = 0;

	if (req->target[0] != '/' || (!post && strcmp(req->method, "GET") != 0))
		return -EINVAL;
	if (asprintf(&url, "%s%s", setup->base_url, req->target) < 0)
		return -ENOMEM;
	curl_easy_reset(easy);
	t->errbuf[0] = '\0';
	prepare_common(easy, setup);
	if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK)
		error = -ENOMEM;
	free(url);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->errbuf);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_cb);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_cb);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, sockopt_cb);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, t);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER,
	    req->anonymous ? setup->anonymous_headers
		: post	   ? setup->post_headers
			   : setup->get_headers);
	if (post)
		prepare_body(easy, t);
	if (whole)
		curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	if (req->range) {
		snprintf(range, sizeof range, "%llu-%llu",
		    (unsigned long long)req->first,
		    (unsigned long long)req->last);
		if (curl_easy_setopt(easy, CURLOPT_RANGE, range) != CURLE_OK)
			error = -ENOMEM;
	}
	/*
	 * On a connection used before, libcurl would send even a POST again
	 * by itself (CONN_MAX_RETRIES) when it dies without an answer.
	 * No PIPEWAIT: with libcurl 8.14 a request waited for a busy HTTP/1.1
	 * connection until it timed out (seen in the test of the lanes).
	 */
	if (req->fresh || max_age_s == 0)
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)max_age_s);
	return error;
}

struct http_progress
http_easy_progress(CURL *easy)
{
	curl_off_t up = 0, down = 0, connected = 0;
	long header = 0, request = 0;

	curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &header);
	curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
	return (struct http_progress){up + down + header + request,
	    (unsigned)(connected > 0) + (header > 0) + (down > 0)};
}

/* May a byte of the request have left?  In doubt: yes. */
static bool
may_have_sent(const struct http_transfer *t)
{
	curl_off_t ready = 0, up = 0;
	long request = 0, status = 0;

	/* Set when the connection, TLS included, is ready for the request. */
	curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	return ready > 0 || up > 0 || request > 0 || status > 0 ||
	    t->body_given > 0;
}

static int
connect_error(CURL *easy)
{
	long os_errno = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_errno);
	switch (os_errno) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ETIMEDOUT:
		return -(int)os_errno;
	}
	return -EHOSTUNREACH;
}

static int
code_to_errno(CURL *easy, CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return connect_error(easy);
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_PARTIAL_FILE:
	case CURLE_SSL_CONNECT_ERROR: /* the handshake was cut, mostly */
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return -ECONNRESET;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return -EKEYREJECTED;
	case CURLE_UNSUPPORTED_PROTOCOL: /* among others: HTTP/0.9 */
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
		return -EPROTO;
	case CURLE_URL_MALFORMAT:
		return -EINVAL;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/* libcurl's words, which may quote the server: one printable line. */
static void
set_detail(const struct http_transfer *t, CURLcode code, int error)
{
	struct http_response *res = t->res;

	if (res->detail[0] != '\0')
		return;
	if (error == -EFBIG)
		snprintf(res->detail, sizeof res->detail,
		    "the answer is longer than %zu bytes", t->req->max_body);
	else if (t->error != 0)
		snprintf(
		    res->detail, sizeof res->detail, "%s", strerror(-t->error));
	else
		snprintf(res->detail, sizeof res->detail, "%s",
		    t->errbuf[0] != '\0' ? t->errbuf
					 : curl_easy_strerror(code));
	for (char *p = res->detail; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
}

/* What the connection and the wire saw. */
static void
set_figures(struct http_transfer *t)
{
	struct http_response *res = t->res;
	curl_off_t name = 0, connect = 0, tls = 0, up = 0, down = 0, total = 0;
	long fresh = 0;
	char *address = NULL;

	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(t->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	curl_easy_getinfo(t->easy, CURLINFO_TOTAL_TIME_T, &total);
	res->out = (uint64_t)up;
	res->in = (uint64_t)down;
	/* It does not look at the clock when it is stopped from outside. */
	res->us = (uint64_t)res->ms * 1000;
	if (total > 0 && (uint64_t)total / 1000 + 1 >= res->ms)
		res->us = (uint64_t)total;
	curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &fresh);
	if (fresh == 0)
		return;
	curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &name);
	curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connect);
	curl_easy_getinfo(t->easy, CURLINFO_APPCONNECT_TIME_T, &tls);
	curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &address);
	res->contact.name_us = (unsigned)name;
	res->contact.connect_us =
	    (unsigned)(connect > name ? connect - name : 0);
	res->contact.tls_us = (unsigned)(tls > connect ? tls - connect : 0);
	snprintf(res->contact.address, sizeof res->contact.address, "%s",
	    address == NULL ? "" : address);
}

int
http_easy_finish(struct http_transfer *t, CURLcode code)
{
	struct http_response *res = t->res;
	curl_off_t retry_after = 0;
	int error = t->error;

	if (error == 0)
		error = code_to_errno(t->easy, code);
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &res->status);
	curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
	if (retry_after > 0) /* a date in the past gives less */
		res->retry_after_s =
		    retry_after > UINT_MAX ? UINT_MAX : (unsigned)retry_after;
	res->length = content_length(t->easy);
	if (error == 0 && res->status == 0)
		error = -EPROTO;
	/* To libcurl headers cut in the middle are an empty answer. */
	if (error == 0 && !t->head_ended) {
		error = -ECONNRESET;
		snprintf(res->detail, sizeof res->detail,
		    "the connection ended within the headers");
	}
	res->sent = may_have_sent(t);
	set_figures(t);
	if (error != 0) {
		set_detail(t, code, error);
		free(res->body);
		res->body = NULL;
		res->len = 0;
	}
	return error;
}
