/*
 * HTTP by libmicrohttpd, one thread to a connection, and the ways in which an
 * answer may fail to arrive.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include <zlib.h>

#include "server.h"

#define BLOCK	  (128 * 1024)
#define POOL_SIZE (128 * 1024)
#define GZIP_MIN  256
#define BODY_KEPT (64UL << 20)

struct conn {
	unsigned number;
	bool used;
};

/* What a content reader needs; it may outlive the answer, not the request. */
struct sending {
	struct request *req;
	struct buf body;
	int fd; /* -1: from body */
	off_t offset;
	uint64_t length;
	bool halve; /* reset after half of it */
};

static int
socket_of(struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info != NULL ? info->connect_fd : -1;
}

/*
 * Reset a connection.  Closing with SO_LINGER would do, but the library sends
 * a FIN first, which a client may take for a proper end.
 */
static void
reset_connection(struct MHD_Connection *conn)
{
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	(void)connect(socket_of(conn), &sa, sizeof(sa));
}

/*
 * Wait so long (forever when negative).  0 when the time is over, -ECANCELED
 * when the server goes down, -EPIPE when the client has gone and
 * `mind_client` says that this matters.
 */
int
http_wait(struct request *req, double seconds, bool mind_client)
{
	struct pollfd pfd[2] = {{.fd = req->server->stop_fd, .events = POLLIN},
	    {.fd = mind_client ? socket_of(req->conn) : -1,
		.events = POLLRDHUP}};
	double end = clock_now() + seconds, left;
	int timeout;

	for (;;) {
		timeout = -1;
		if (seconds >= 0) {
			left = end - clock_now();
			if (left <= 0)
				return 0;
			timeout =
			    left > 3600 ? 3600000 : (int)(left * 1000 + 0.999);
		}
		if (poll(pfd, 2, timeout) == -1 && errno != EINTR)
			return -errno;
		if (pfd[0].revents != 0)
			return -ECANCELED;
		if (pfd[1].revents != 0)
			return -EPIPE;
	}
}

/* The library is not to decode the path: %2F and / are different things. */
static size_t
keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return strlen(s);
}

static void
conn_changed(void *cls, struct MHD_Connection *connection, void **context,
    enum MHD_ConnectionNotificationCode code)
{
	struct server *srv = cls;
	struct conn *c;

	(void)connection;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		c = calloc(1, sizeof(*c));
		if (c != NULL)
			c->number = __atomic_add_fetch(
			    &srv->conns, 1, __ATOMIC_RELAXED);
		*context = c;
	} else {
		free(*context);
		*context = NULL;
	}
}

static struct request *
request_new(struct server *srv, struct MHD_Connection *conn, const char *url,
    const char *method)
{
	const union MHD_ConnectionInfo *info;
	struct request *req;
	struct conn *c;
	const char *range;

	req = calloc(1, sizeof(*req));
	if (req == NULL)
		return NULL;
	req->server = srv;
	req->conn = conn;
	req->method = method;
	req->log.method = method;
	req->uri = strdup(url);
	req->log.uri = strdup(url);
	(void)pthread_mutex_lock(&srv->lock);
	req->sw = switches_ref(srv->switches);
	(void)pthread_mutex_unlock(&srv->lock);
	info =
	    MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	c = info != NULL ? info->socket_context : NULL;
	if (c != NULL) {
		req->log.conn = c->number;
		req->new_conn = !c->used;
		c->used = true;
	}
	range = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Range");
	if (range != NULL)
		req->log.range = strdup(range);
	if (req->uri == NULL || req->log.uri == NULL) {
		free(req->uri);
		reqlog_entry_free(&req->log);
		switches_unref(req->sw);
		free(req);
		return NULL;
	}
	api_classify(req);
	if (req->log.kind != KIND_CONTROL)
		reqlog_arrive(&srv->log, &req->log);
	return req;
}

static void
finish(struct request *req)
{
	reqlog_finish(&req->server->log, &req->log, req->sw->log_full);
}

static void
request_done(void *cls, struct MHD_Connection *conn, void **con_cls,
    enum MHD_RequestTerminationCode code)
{
	struct request *req = *con_cls;

	(void)cls;
	(void)conn;
	if (req == NULL)
		return;
	if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK &&
	    req->log.fault[0] == '\0' && !req->log.done)
		(void)strlcpy(
		    req->log.fault, "client_gone", sizeof(req->log.fault));
	finish(req);
	reqlog_entry_free(&req->log);
	fault_free(&req->fault);
	switches_unref(req->sw);
	buf_free(&req->body);
	free(req->uri);
	free(req);
	*con_cls = NULL;
}

/* Let what was sent so far reach the client, then reset. */
static void
flush_and_reset(struct request *req)
{
	int sock = socket_of(req->conn), off = 0, on = 1, queued = 1, tries;

	(void)setsockopt(sock, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
	(void)setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (tries = 0; tries < 1000; tries++) {
		if (ioctl(sock, SIOCOUTQ, &queued) == -1 || queued == 0)
			break;
		if (http_wait(req, 0.001, true) != 0)
			break;
	}
	finish(req);
	reset_connection(req->conn);
}

static ssize_t
read_content(void *cls, uint64_t pos, char *out, size_t max)
{
	struct sending *s = cls;
	uint64_t end = s->halve ? s->length / 2 : s->length;
	ssize_t n;

	if (s->halve && pos >= end) {
		flush_and_reset(s->req);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (max > end - pos)
		max = end - pos;
	if (s->fd == -1) {
		memcpy(out, s->body.data + pos, max);
		n = (ssize_t)max;
	} else {
		n = pread(s->fd, out, max, s->offset + (off_t)pos);
		if (n <= 0) /* it shrank since its size was told */
			return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	s->req->log.bytes_out += (size_t)n;
	if (!s->halve && pos + (uint64_t)n == s->length)
		finish(s->req); /* in the log before the client has it */
	return n;
}

static void
free_sending(void *cls)
{
	struct sending *s = cls;

	if (s->fd != -1)
		(void)close(s->fd);
	buf_free(&s->body);
	free(s);
}

/* Compress a body when client and switch want it. */
static bool
compress_body(struct request *req, struct answer *a)
{
	const char *accept = MHD_lookup_connection_value(
	    req->conn, MHD_HEADER_KIND, "Accept-Encoding");
	z_stream z = {0};
	struct buf out = {0};
	bool ok;

	if (!req->sw->gzip || a->fd != -1 || a->body.len < GZIP_MIN ||
	    accept == NULL || strstr(accept, "gzip") == NULL)
		return false;
	if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) !=
	    Z_OK)
		return false;
	ok = buf_reserve(&out, deflateBound(&z, a->body.len));
	if (ok) {
		z.next_in = (Bytef *)a->body.data;
		z.avail_in = (uInt)a->body.len;
		z.next_out = (Bytef *)out.data;
		z.avail_out = (uInt)(out.cap - 1);
		ok = deflate(&z, Z_FINISH) == Z_STREAM_END;
		out.len = z.total_out;
	}
	(void)deflateEnd(&z);
	if (!ok) {
		buf_free(&out);
		return false;
	}
	buf_free(&a->body);
	a->body = out;
	return true;
}

static void
add_headers(struct MHD_Response *resp, struct answer *a, bool gzipped)
{
	char text[32];

	(void)MHD_add_response_header(resp, "Content-Type", a->type);
	if (gzipped)
		(void)MHD_add_response_header(resp, "Content-Encoding", "gzip");
	if (a->retry_after >= 0) {
		(void)snprintf(text, sizeof(text), "%d", a->retry_after);
		(void)MHD_add_response_header(resp, "Retry-After", text);
	}
	if (a->location != NULL)
		(void)MHD_add_response_header(resp, "Location", a->location);
	if (a->accept_ranges)
		(void)MHD_add_response_header(resp, "Accept-Ranges", "bytes");
	if (a->content_range[0] != '\0')
		(void)MHD_add_response_header(
		    resp, "Content-Range", a->content_range);
	if (a->authenticate)
		(void)MHD_add_response_header(
		    resp, "WWW-Authenticate", "Bearer");
	if (a->allow != NULL)
		(void)MHD_add_response_header(resp, "Allow", a->allow);
}

/* Send an answer, or do instead what its `end` says. */
static enum MHD_Result
send_answer(struct request *req, struct answer *a)
{
	struct MHD_Response *resp;
	struct sending *s = NULL;
	enum MHD_Result r;
	bool gzipped;

	if (a->end == ANSWER_RESET || a->end == ANSWER_CLOSE) {
		finish(req); /* in the log before the client knows */
		if (a->end == ANSWER_RESET)
			reset_connection(req->conn);
		goto drop;
	}
	gzipped = compress_body(req, a);
	s = calloc(1, sizeof(*s));
	if (s == NULL || (a->fd == -1 && a->body.failed))
		goto drop;
	s->req = req;
	s->fd = a->fd;
	s->offset = a->offset;
	s->length = a->fd == -1 ? a->body.len : (uint64_t)a->length;
	s->body = a->body;
	s->halve = a->end == ANSWER_RESET_MIDDLE;
	a->fd = -1;
	memset(&a->body, 0, sizeof(a->body));
	req->log.status = a->status;
	resp = MHD_create_response_from_callback(
	    s->length, BLOCK, read_content, s, free_sending);
	if (resp == NULL)
		goto drop;
	add_headers(resp, a, gzipped);
	/* Nothing will be read of an empty body, or for HEAD. */
	if (s->length == 0 || strcmp(req->method, "HEAD") == 0)
		finish(req);
	r = MHD_queue_response(req->conn, (unsigned)a->status, resp);
	MHD_destroy_response(resp);
	return r;
drop:
	if (s != NULL)
		free_sending(s);
	if (a->fd != -1)
		(void)close(a->fd);
	buf_free(&a->body);
	return MHD_NO;
}

static enum MHD_Result
handle(void *cls, struct MHD_Connection *conn, const char *url,
    const char *method, const char *version, const char *data, size_t *size,
    void **con_cls)
{
	struct server *srv = cls;
	struct request *req = *con_cls;
	struct answer a = {.status = 200,
	    .type = "application/json",
	    .retry_after = -1,
	    .fd = -1};

	(void)version;
	if (req == NULL) {
		*con_cls = request_new(srv, conn, url, method);
		return *con_cls != NULL ? MHD_YES : MHD_NO;
	}
	if (*size > 0) {
		req->log.bytes_in += *size;
		if ((double)req->log.bytes_in > req->sw->max_body &&
		    req->log.kind != KIND_CONTROL)
			req->body_too_large = true;
		if (req->body_too_large &&
		    req->sw->too_large == TOO_LARGE_RESET) {
			/* While the rest of it is still being sent. */
			(void)strlcpy(req->log.fault, "too_large",
			    sizeof(req->log.fault));
			finish(req);
			reset_connection(req->conn);
			return MHD_NO;
		}
		if (req->body_too_large)
			;
		else if (req->log.bytes_in <= BODY_KEPT)
			buf_put(&req->body, data, *size);
		*size = 0;
		return MHD_YES;
	}
	api_answer(req, &a);
	return send_answer(req, &a);
}

/* Listen on the loopback; 0 or -errno. */
int
http_start(struct server *srv, unsigned port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)}};
	const union MHD_DaemonInfo *info;

	srv->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (srv->stop_fd == -1)
		return -errno;
	errno = 0;
	srv->daemon = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION |
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL,
	    0, NULL, NULL, handle, srv, MHD_OPTION_SOCK_ADDR, &sa,
	    MHD_OPTION_NOTIFY_COMPLETED, request_done, NULL,
	    MHD_OPTION_NOTIFY_CONNECTION, conn_changed, srv,
	    MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_SIZE,
	    MHD_OPTION_CONNECTION_LIMIT, 2000U, MHD_OPTION_LISTEN_BACKLOG_SIZE,
	    512U, MHD_OPTION_END);
	if (srv->daemon == NULL)
		return errno != 0 ? -errno : -EIO;
	info = MHD_get_daemon_info(srv->daemon, MHD_DAEMON_INFO_BIND_PORT);
	srv->port = info != NULL ? info->port : port;
	return 0;
}

/* Stop; requests that wait are let go.  Kill the room first. */
void
http_stop(struct server *srv)
{
	uint64_t one = 1;

	(void)!write(srv->stop_fd, &one, sizeof(one));
	if (srv->daemon != NULL)
		MHD_stop_daemon(srv->daemon);
	(void)close(srv->stop_fd);
}
