#ifndef TEST_HTTP_SERVER_H
#define TEST_HTTP_SERVER_H

/*
 * A small HTTP/1.1 server on 127.0.0.1 for the tests, one thread for each
 * connection.  A test's handler sees every request and writes raw bytes, so
 * that it can break the protocol in any way it likes.  Nothing sleeps: what
 * has to happen is waited for, with a deadline that only a bug can reach.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SERVER_CONNECTIONS 64
#define SERVER_REQUESTS	   256
#define SERVER_DEADLINE_S  30

struct server_request {
	unsigned number; /* 0 for the server's first */
	unsigned connection; /* 0 for the server's first */
	int fd;
	char *head; /* request line and headers; kept for the test */
	char *body;
	size_t body_len;
};

struct server {
	int fd;
	unsigned port;
	char url[64];
	bool (*handler)(struct server *, const struct server_request *);
	pthread_t acceptor;
	pthread_t threads[SERVER_CONNECTIONS];
	int fds[SERVER_CONNECTIONS]; /* -1: closed; guarded by lock */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping; /* guarded by lock */
	unsigned accepted; /* guarded by lock */
	unsigned seen; /* guarded by lock; requests read so far */
	unsigned held; /* guarded by lock; handlers in server_hold() */
	unsigned released; /* guarded by lock */
	char *heads[SERVER_REQUESTS]; /* guarded by lock */
	char *bodies[SERVER_REQUESTS]; /* guarded by lock */
	int step; /* for the handler; guarded by lock if it matters */
	void *arg;
};

struct server_thread {
	struct server *server;
	unsigned connection;
};

static inline bool
server_send(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static inline bool
server_text(int fd, const char *text)
{
	return server_send(fd, text, strlen(text));
}

/* A whole answer; headers: each with its CRLF, or "". */
static inline bool
server_answer(
    int fd, int status, const char *headers, const void *body, size_t len)
{
	char head[1024];

	snprintf(head, sizeof head,
	    "HTTP/1.1 %d Test\r\nContent-Length: %zu\r\n%s\r\n", status, len,
	    headers);
	return server_text(fd, head) && server_send(fd, body, len);
}

static inline bool
server_reply(int fd, int status, const char *body)
{
	return server_answer(fd, status, "", body, strlen(body));
}

static inline void
server_deadline(struct timespec *until)
{
	clock_gettime(CLOCK_REALTIME, until);
	until->tv_sec += SERVER_DEADLINE_S;
}

/* Wait until so many requests were read. */
static inline void
server_wait_seen(struct server *s, unsigned n)
{
	struct timespec until;

	server_deadline(&until);
	pthread_mutex_lock(&s->lock);
	while (s->seen < n)
		if (pthread_cond_timedwait(&s->changed, &s->lock, &until) != 0)
			break;
	if (s->seen < n) {
		fprintf(stderr, "only %u of %u requests came\n", s->seen, n);
		abort();
	}
	pthread_mutex_unlock(&s->lock);
}

static inline unsigned
server_seen(struct server *s)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = s->seen;
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* In a handler: wait for server_release() (or for the end of the server). */
static inline void
server_hold(struct server *s)
{
	unsigned mine;

	pthread_mutex_lock(&s->lock);
	mine = s->held++;
	pthread_cond_broadcast(&s->changed);
	while (!s->stopping && mine >= s->released)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

/* Let n more of the held handlers go on, in their order. */
static inline void
server_release(struct server *s, unsigned n)
{
	pthread_mutex_lock(&s->lock);
	s->released += n;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static inline unsigned
server_held(struct server *s)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = s->held;
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* Wait until so many handlers hold (or held). */
static inline void
server_wait_held(struct server *s, unsigned n)
{
	struct timespec until;

	server_deadline(&until);
	pthread_mutex_lock(&s->lock);
	while (s->held < n)
		if (pthread_cond_timedwait(&s->changed, &s->lock, &until) != 0)
			abort();
	pthread_mutex_unlock(&s->lock);
}

/* The next step of a handler's script: 0, 1, 2 ... */
static inline int
server_step(struct server *s)
{
	int step;

	pthread_mutex_lock(&s->lock);
	step = s->step++;
	pthread_mutex_unlock(&s->lock);
	return step;
}

static inline bool
server_has(const struct server_request *r, const char *text)
{
	return strstr(r->head, text) != NULL;
}

/* Does the request line begin so? */
static inline bool
server_is(const struct server_request *r, const char *start)
{
	return strncmp(r->head, start, strlen(start)) == 0;
}

/* Read one request; false: the connection ended. */
static inline bool
server_read(
    struct server *s, int fd, unsigned connection, struct server_request *r)
{
	size_t len = 0, size = 65536, want = SIZE_MAX, head = 0;
	char *buf = malloc(size + 1), *p;

	assert(buf != NULL);
	while (len < want) {
		ssize_t n;

		if (len == size) {
			size *= 2;
			buf = realloc(buf, size + 1);
			assert(buf != NULL);
		}
		if ((n = recv(fd, buf + len, size - len, 0)) <= 0) {
			free(buf);
			return false;
		}
		len += (size_t)n;
		buf[len] = '\0';
		if (head != 0 || (p = strstr(buf, "\r\n\r\n")) == NULL)
			continue;
		head = (size_t)(p - buf) + 4;
		want = head;
		if ((p = strcasestr(buf, "\r\nContent-Length: ")) != NULL &&
		    p < buf + head)
			want += strtoul(p + 18, NULL, 10);
	}
	r->fd = fd;
	r->connection = connection;
	r->body_len = want - head;
	r->body = malloc(r->body_len + 1);
	assert(r->body != NULL);
	memcpy(r->body, buf + head, r->body_len);
	r->body[r->body_len] = '\0';
	buf[head] = '\0';
	r->head = buf;

	pthread_mutex_lock(&s->lock);
	r->number = s->seen++;
	/* Of a very long test the last ones are lost. */
	if (r->number < SERVER_REQUESTS) {
		s->heads[r->number] = r->head;
		s->bodies[r->number] = r->body;
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return true;
}

static inline void *
server_connection(void *arg)
{
	struct server_thread *t = arg;
	struct server *s = t->server;
	unsigned connection = t->connection;
	struct server_request r;
	bool go_on = true;
	int fd;

	free(t);
	pthread_mutex_lock(&s->lock);
	fd = s->fds[connection];
	pthread_mutex_unlock(&s->lock);
	while (go_on && server_read(s, fd, connection, &r)) {
		go_on = s->handler(s, &r);
		if (r.number >= SERVER_REQUESTS) {
			free(r.head);
			free(r.body);
		}
	}
	pthread_mutex_lock(&s->lock);
	s->fds[connection] = -1;
	pthread_mutex_unlock(&s->lock);
	shutdown(fd, SHUT_WR);
	close(fd);
	return NULL;
}

static inline void *
server_accept(void *arg)
{
	struct server *s = arg;
	struct server_thread *t;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) != -1) {
		pthread_mutex_lock(&s->lock);
		if (s->stopping) {
			pthread_mutex_unlock(&s->lock);
			close(fd);
			break;
		}
		assert(s->accepted < SERVER_CONNECTIONS);
		t = malloc(sizeof *t);
		assert(t != NULL);
		*t = (struct server_thread){s, s->accepted};
		s->fds[s->accepted] = fd;
		if (pthread_create(&s->threads[s->accepted], NULL,
			server_connection, t) != 0)
			abort();
		s->accepted++;
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

/* A listening socket on a free port of 127.0.0.1. */
static inline int
server_listen(unsigned *port)
{
	struct sockaddr_in sin = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sin;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1 || bind(fd, (void *)&sin, sizeof sin) != 0 ||
	    listen(fd, 64) != 0 || getsockname(fd, (void *)&sin, &len) != 0)
		abort();
	*port = ntohs(sin.sin_port);
	return fd;
}

static inline void
server_start(struct server *s,
    bool (*handler)(struct server *, const struct server_request *))
{
	memset(s, 0, sizeof *s);
	s->handler = handler;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->fd = server_listen(&s->port);
	snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u", s->port);
	if (pthread_create(&s->acceptor, NULL, server_accept, s) != 0)
		abort();
}

static inline void
server_stop(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_broadcast(&s->changed);
	for (unsigned i = 0; i < s->accepted; i++)
		if (s->fds[i] != -1)
			shutdown(s->fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->acceptor, NULL);
	for (unsigned i = 0; i < s->accepted; i++)
		pthread_join(s->threads[i], NULL);
	close(s->fd);
	for (unsigned i = 0; i < s->seen && i < SERVER_REQUESTS; i++) {
		free(s->heads[i]);
		free(s->bodies[i]);
	}
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

#endif
