/*
 * proxy: a TCP proxy that adds a round-trip time, for the benchmark.
 *
 *	proxy [-r RTT_MS] [-b MBIT] [-w KIB] [-S] [-t] PORT
 *
 * Listens on a free port of the loopback interface, connects to PORT there for
 * each connection, and prints its own port.  Bytes arrive half a round trip
 * after they were sent.  Setting up a connection costs one round trip, too: the
 * kernel lets a client connect at once, so whatever the client sends arrives
 * one round trip later than it otherwise would, and so does the first byte of a
 * server that speaks first.  -b bounds the bandwidth of each direction, shared
 * by all connections; -w is the window of a connection, how many bytes may be
 * under way in a round trip (4096; what Linux grants by default).
 *
 * Each direction of a connection begins slowly, as TCP does: with 10 segments
 * of 1,448 bytes in a round trip, as many more for each byte that has arrived,
 * and from the beginning again after a rest of 200 ms.  -S: without that.  -t:
 * setting up a connection takes one more round trip, as TLS 1.3's does.
 *
 * Commands on standard input, each answered by a line: "stats" (JSON), "reset"
 * (the numbers), "rtt MS".  At its end the proxy ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 512
#define CHUNK		(64 * 1024)
#define CHUNK_BOUNDED	(16 * 1024)
#define LINK_QUEUE_NS	20000000 /* what waits for a bounded link, at most */
#define SLOW_START	(10 * 1448) /* bytes */
#define SLOW_REST_NS	200000000

enum direction { UP, DOWN };

/* Bytes under way; none means that the sender has finished. */
struct chunk {
	STAILQ_ENTRY(chunk) link;
	int64_t due;
	size_t len, off;
	char data[];
};

/* Bytes that the sender will know to have arrived. */
struct ack {
	STAILQ_ENTRY(ack) link;
	int64_t due;
	size_t len;
};

struct flow {
	STAILQ_HEAD(, chunk) chunks;
	STAILQ_HEAD(, ack) acks;
	size_t queued;
	size_t in_flight; /* sent and not acknowledged */
	size_t window; /* how many may be */
	int64_t last; /* when something was sent last */
	bool finished; /* nothing more to read */
	bool closed; /* and all delivered */
};

struct connection {
	int fd[2]; /* the client's (UP reads it), the server's */
	int64_t accepted; /* when */
	bool connecting, connected;
	size_t matched; /* bytes of request_mark just seen */
	struct flow flow[2];
};

struct proxy {
	int listener;
	int port; /* of the server */
	int64_t rtt;
	double bytes_per_ns; /* 0: no bound */
	size_t window;
	bool slow_start, tls;
	int64_t link_free[2]; /* when the bounded link is idle again */
	struct connection *connections[MAX_CONNECTIONS];
	size_t count;
	/* The numbers. */
	uint64_t bytes[2], opened, requests;
	size_t peak;
};

/* Ends the first line of each HTTP request. */
static const char request_mark[] = " HTTP/1.1\r\n";

static _Noreturn void
fail(const char *what)
{
	fprintf(stderr, "proxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t
max_ns(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Sockets: not blocking, no Nagle; the proxy's queue is the buffer. */
static void
socket_prepare(int fd)
{
	int on = 1, size = 1 << 20;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

static int
listener_open(int *port)
{
	struct sockaddr_in addr = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1 || bind(fd, (struct sockaddr *)&addr, len) == -1 ||
	    listen(fd, 256) == -1 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) == -1)
		fail("listen");
	*port = ntohs(addr.sin_port);
	return fd;
}

/* Unless both sides have finished they see a reset. */
static void
connection_free(struct proxy *proxy, size_t i)
{
	struct connection *c = proxy->connections[i];
	bool reset = !c->flow[UP].closed || !c->flow[DOWN].closed;
	struct linger linger = {1, 0};
	struct chunk *chunk;
	struct ack *ack;

	for (int side = 0; side < 2; side++) {
		if (c->fd[side] != -1) {
			if (reset)
				setsockopt(c->fd[side], SOL_SOCKET, SO_LINGER,
				    &linger, sizeof(linger));
			close(c->fd[side]);
		}
		while ((chunk = STAILQ_FIRST(&c->flow[side].chunks)) != NULL) {
			STAILQ_REMOVE_HEAD(&c->flow[side].chunks, link);
			free(chunk);
		}
		while ((ack = STAILQ_FIRST(&c->flow[side].acks)) != NULL) {
			STAILQ_REMOVE_HEAD(&c->flow[side].acks, link);
			free(ack);
		}
	}
	free(c);
	proxy->connections[i] = proxy->connections[--proxy->count];
}

static void
connection_accept(struct proxy *proxy)
{
	struct connection *c;
	int fd = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd == -1)
		return;
	c = calloc(1, sizeof(*c));
	if (c == NULL || proxy->count == MAX_CONNECTIONS)
		fail("too many connections");
	socket_prepare(fd);
	c->fd[UP] = fd;
	c->fd[DOWN] = -1;
	c->accepted = now_ns();
	for (int dir = 0; dir < 2; dir++) {
		STAILQ_INIT(&c->flow[dir].chunks);
		STAILQ_INIT(&c->flow[dir].acks);
		c->flow[dir].window =
		    proxy->slow_start ? SLOW_START : proxy->window;
	}
	proxy->connections[proxy->count++] = c;
	proxy->opened++;
	if (proxy->count > proxy->peak)
		proxy->peak = proxy->count;
}

/* The server hears of a client when the client's last packet arrives. */
static int64_t
connection_due(const struct proxy *proxy, const struct connection *c)
{
	return c->accepted + proxy->rtt * (proxy->tls ? 2 : 1) + proxy->rtt / 2;
}

/* Returns 0, or -1 when the server is not there. */
static int
connection_connect(const struct proxy *proxy, struct connection *c)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons((uint16_t)proxy->port)};

	c->fd[DOWN] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd[DOWN] == -1)
		return -1;
	socket_prepare(c->fd[DOWN]);
	c->connecting = true;
	/* If it is done at once, poll() says so. */
	if (connect(c->fd[DOWN], (struct sockaddr *)&addr, sizeof(addr)) ==
		-1 &&
	    errno != EINPROGRESS)
		return -1;
	return 0;
}

static void
requests_count(
    struct proxy *proxy, struct connection *c, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == request_mark[c->matched])
			c->matched++;
		else
			c->matched = data[i] == request_mark[0];
		if (c->matched == sizeof(request_mark) - 1) {
			c->matched = 0;
			proxy->requests++;
		}
	}
}

static bool
flow_may_read(const struct proxy *proxy, const struct connection *c,
    enum direction dir, int64_t now)
{
	const struct flow *flow = &c->flow[dir];

	/* Bytes are here for half of the round trip. */
	return !flow->finished && flow->queued < proxy->window / 2 &&
	    flow->in_flight < flow->window &&
	    proxy->link_free[dir] - now < LINK_QUEUE_NS &&
	    (dir == UP || c->connected);
}

/* What has been acknowledged makes room, and the window grows by it. */
static void
flow_take_acks(const struct proxy *proxy, struct flow *flow, int64_t now)
{
	struct ack *ack;

	while ((ack = STAILQ_FIRST(&flow->acks)) != NULL && ack->due <= now) {
		STAILQ_REMOVE_HEAD(&flow->acks, link);
		flow->in_flight -= ack->len;
		flow->window += ack->len;
		if (flow->window > proxy->window)
			flow->window = proxy->window;
		free(ack);
	}
}

static void
flow_note_sent(
    const struct proxy *proxy, struct flow *flow, int64_t due, size_t len)
{
	struct ack *ack;

	if (!proxy->slow_start || proxy->rtt == 0 || len == 0)
		return;
	if ((ack = malloc(sizeof(*ack))) == NULL)
		fail("memory");
	ack->due = due + proxy->rtt / 2;
	ack->len = len;
	flow->in_flight += len;
	STAILQ_INSERT_TAIL(&flow->acks, ack, link);
}

/* Returns -1 when the connection broke. */
static int
flow_read(struct proxy *proxy, struct connection *c, enum direction dir)
{
	struct flow *flow = &c->flow[dir];
	size_t room = proxy->bytes_per_ns > 0 ? CHUNK_BOUNDED : CHUNK;
	struct chunk *chunk = malloc(sizeof(*chunk) + room);
	int64_t sent;
	ssize_t n;

	if (chunk == NULL)
		fail("memory");
	sent = now_ns();
	if (proxy->slow_start && flow->in_flight == 0 &&
	    sent - flow->last > SLOW_REST_NS)
		flow->window = SLOW_START;
	if (proxy->slow_start && proxy->rtt > 0 &&
	    room > flow->window - flow->in_flight)
		room = flow->window - flow->in_flight;
	n = recv(c->fd[dir], chunk->data, room, 0);
	if (n < 0) {
		free(chunk);
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	}
	if (n > 0 && dir == UP)
		requests_count(proxy, c, chunk->data, (size_t)n);
	flow->last = sent;
	if (proxy->bytes_per_ns > 0) {
		sent = max_ns(sent, proxy->link_free[dir]) +
		    (int64_t)((double)n / proxy->bytes_per_ns);
		proxy->link_free[dir] = sent;
	}
	chunk->due = sent + proxy->rtt / 2;
	if (dir == UP)
		chunk->due = max_ns(chunk->due, connection_due(proxy, c));
	flow_note_sent(proxy, flow, chunk->due, (size_t)n);
	chunk->len = (size_t)n;
	chunk->off = 0;
	flow->queued += (size_t)n;
	flow->finished = n == 0;
	proxy->bytes[dir] += (size_t)n;
	STAILQ_INSERT_TAIL(&flow->chunks, chunk, link);
	return 0;
}

/* Deliver what is due.  Returns -1 when the connection broke. */
static int
flow_write(struct connection *c, enum direction dir, int64_t now)
{
	struct flow *flow = &c->flow[dir];
	struct chunk *chunk;
	ssize_t n;

	while ((chunk = STAILQ_FIRST(&flow->chunks)) != NULL &&
	    chunk->due <= now) {
		if (chunk->len == 0) {
			shutdown(c->fd[!dir], SHUT_WR);
			flow->closed = true;
		} else {
			n = send(c->fd[!dir], chunk->data + chunk->off,
			    chunk->len - chunk->off, MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN || errno == EINTR ? 0
									 : -1;
			flow->queued -= (size_t)n;
			chunk->off += (size_t)n;
			if (chunk->off < chunk->len)
				return 0;
		}
		STAILQ_REMOVE_HEAD(&flow->chunks, link);
		free(chunk);
	}
	return 0;
}

/*
 * Fill in what to wait for; *wake becomes the earliest time at which something
 * is to be done without an event.
 */
static void
connection_poll(const struct proxy *proxy, const struct connection *c,
    struct pollfd fds[2], int64_t now, int64_t *wake)
{
	int64_t at;

	fds[UP].events = fds[DOWN].events = 0;
	if (c->fd[DOWN] == -1) {
		at = connection_due(proxy, c);
		if (at < *wake)
			*wake = at;
	} else if (c->connecting) {
		fds[DOWN].events |= POLLOUT;
	}
	for (int dir = 0; dir < 2; dir++) {
		const struct flow *flow = &c->flow[dir];
		const struct chunk *chunk = STAILQ_FIRST(&flow->chunks);

		if (flow_may_read(proxy, c, dir, now)) {
			fds[dir].events |= POLLIN;
		} else if (!flow->finished &&
		    proxy->link_free[dir] - now >= LINK_QUEUE_NS) {
			at = proxy->link_free[dir] - LINK_QUEUE_NS + 1;
			if (at < *wake)
				*wake = at;
		}
		if (!STAILQ_EMPTY(&flow->acks) &&
		    flow->in_flight >= flow->window &&
		    STAILQ_FIRST(&flow->acks)->due < *wake)
			*wake = STAILQ_FIRST(&flow->acks)->due;
		if (chunk == NULL || !c->connected)
			continue;
		if (chunk->due <= now)
			fds[!dir].events |= POLLOUT;
		else if (chunk->due < *wake)
			*wake = chunk->due;
	}
	/* A closed one would report POLLHUP all the time. */
	for (int side = 0; side < 2; side++)
		fds[side].fd = fds[side].events != 0 ? c->fd[side] : -1;
}

/* Do what can be done.  Returns -1 when the connection is over. */
static int
connection_work(
    struct proxy *proxy, struct connection *c, const struct pollfd fds[2])
{
	int64_t now = now_ns();
	socklen_t len = sizeof(int);
	int error;

	if (c->fd[DOWN] == -1 && now >= connection_due(proxy, c) &&
	    connection_connect(proxy, c) == -1)
		return -1;
	if (c->connecting && (fds[DOWN].revents & (POLLOUT | POLLERR))) {
		getsockopt(c->fd[DOWN], SOL_SOCKET, SO_ERROR, &error, &len);
		if (error != 0)
			return -1;
		c->connecting = false;
		c->connected = true;
	}
	for (int dir = 0; dir < 2; dir++) {
		flow_take_acks(proxy, &c->flow[dir], now);
		if ((fds[dir].revents & (POLLIN | POLLHUP | POLLERR)) &&
		    flow_may_read(proxy, c, dir, now) &&
		    flow_read(proxy, c, dir) == -1)
			return -1;
		if (c->connected && flow_write(c, dir, now) == -1)
			return -1;
	}
	return c->flow[UP].closed && c->flow[DOWN].closed ? -1 : 0;
}

static void
command_run(struct proxy *proxy, const char *line)
{
	double ms;

	if (strcmp(line, "stats") == 0) {
		printf("{\"connections\": %ju, \"peak\": %zu, \"requests\": "
		       "%ju, \"up\": %ju, \"down\": %ju}\n",
		    (uintmax_t)proxy->opened, proxy->peak,
		    (uintmax_t)proxy->requests, (uintmax_t)proxy->bytes[UP],
		    (uintmax_t)proxy->bytes[DOWN]);
	} else if (strcmp(line, "reset") == 0) {
		proxy->opened = proxy->requests = 0;
		proxy->bytes[UP] = proxy->bytes[DOWN] = 0;
		proxy->peak = proxy->count;
		puts("ok");
	} else if (sscanf(line, "rtt %lf", &ms) == 1 && ms >= 0) {
		proxy->rtt = (int64_t)(ms * 1e6);
		puts("ok");
	} else {
		puts("what?");
	}
	fflush(stdout);
}

/* Returns false at the end of the commands. */
static bool
commands_read(struct proxy *proxy)
{
	static char line[128];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, line + len, sizeof(line) - len - 1);
	char *end;

	if (n <= 0)
		return false;
	len += (size_t)n;
	line[len] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		command_run(proxy, line);
		len -= (size_t)(end + 1 - line);
		memmove(line, end + 1, len + 1);
	}
	return len < sizeof(line) - 1;
}

static void
serve(struct proxy *proxy)
{
	static struct pollfd fds[2 + 2 * MAX_CONNECTIONS];
	struct connection *c;
	struct timespec ts;
	int64_t now, wake;
	size_t i;

	for (;;) {
		now = now_ns();
		wake = now + 3600 * INT64_C(1000000000);
		fds[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
		fds[1] = (struct pollfd){proxy->listener, POLLIN, 0};
		for (i = 0; i < proxy->count; i++)
			connection_poll(proxy, proxy->connections[i],
			    &fds[2 + 2 * i], now, &wake);
		now = max_ns(0, wake - now_ns());
		ts.tv_sec = now / 1000000000;
		ts.tv_nsec = now % 1000000000;
		if (ppoll(fds, 2 + 2 * proxy->count, &ts, NULL) == -1 &&
		    errno != EINTR)
			fail("poll");
		/* From the last, since the last takes a removed one's place. */
		for (i = proxy->count; i-- > 0;) {
			c = proxy->connections[i];
			if (connection_work(proxy, c, &fds[2 + 2 * i]) == -1)
				connection_free(proxy, i);
		}
		if ((fds[0].revents & (POLLIN | POLLHUP)) &&
		    !commands_read(proxy))
			return;
		if (fds[1].revents & POLLIN)
			connection_accept(proxy);
		/* On a bounded link each takes its turn at being the first. */
		if (proxy->bytes_per_ns > 0 && proxy->count > 1) {
			c = proxy->connections[proxy->count - 1];
			memmove(proxy->connections + 1, proxy->connections,
			    (proxy->count - 1) * sizeof(c));
			proxy->connections[0] = c;
		}
	}
}

int
main(int argc, char **argv)
{
	struct proxy proxy = {.window = 4096 * 1024, .slow_start = true};
	int option, port;

	while ((option = getopt(argc, argv, "r:b:w:St")) != -1) {
		switch (option) {
		case 'r':
			proxy.rtt = (int64_t)(atof(optarg) * 1e6);
			break;
		case 'b':
			proxy.bytes_per_ns = atof(optarg) * 1e6 / 8 / 1e9;
			break;
		case 'w':
			proxy.window = (size_t)atol(optarg) * 1024;
			break;
		case 'S':
			proxy.slow_start = false;
			break;
		case 't':
			proxy.tls = true;
			break;
		default:
			goto usage;
		}
	}
	if (argc - optind != 1 || (proxy.port = atoi(argv[optind])) <= 0 ||
	    proxy.rtt < 0 || proxy.window == 0)
		goto usage;
	signal(SIGPIPE, SIG_IGN);
	proxy.listener = listener_open(&port);
	printf("%d\n", port);
	fflush(stdout);
	serve(&proxy);
	while (proxy.count > 0)
		connection_free(&proxy, proxy.count - 1);
	return 0;
usage:
	fprintf(stderr,
	    "usage: proxy [-r RTT_MS] [-b MBIT] [-w KIB] [-S] [-t] PORT\n");
	return 2;
}
