#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zlib.h>

#include "http/http.h"
#include "base/log.h"
#include "test_http_server.h"

#define KEY "rk_test_0123456789abcdef0123456789abcdef"
#define VM  "550e8400-e29b-41d4-a716-446655440000"

static struct http *
open_client(const char *url, unsigned max_connections)
{
	struct http_config config = {
	    .base_url = url,
	    .key = KEY,
	    .agent = "test/1",
	    .max_connections = max_connections,
	    .connect_ms = 10000,
	};
	struct http *http;

	assert_int_equal(http_open(&http, &config), 0);
	return http;
}

static struct http_request
get(const char *target)
{
	return (struct http_request){.method = "GET",
	    .target = target,
	    .stall_ms = 20000,
	    .max_body = 1 << 20};
}

static struct http_request
post(const char *target, const char *body)
{
	struct http_request req = get(target);

	req.method = "POST";
	req.body = body;
	req.body_len = strlen(body);
	return req;
}

/* A transfer in a thread of its own. */
struct job {
	struct http *http;
	struct http_request req;
	struct http_response res;
	int result;
	pthread_t thread;
};

static void *
job_run(void *arg)
{
	struct job *job = arg;

	job->result = http_perform(job->http, &job->req, &job->res);
	return NULL;
}

static void
job_start(
    struct job *job, struct http *http, const char *target, enum http_lane lane)
{
	job->http = http;
	job->req = get(target);
	job->req.lane = lane;
	assert_int_equal(pthread_create(&job->thread, NULL, job_run, job), 0);
}

static int
job_join(struct job *job)
{
	pthread_join(job->thread, NULL);
	http_response_free(&job->res);
	return job->result;
}

static bool
serve_hello(struct server *s, const struct server_request *r)
{
	(void)s;
	return server_answer(r->fd, 200, "Retry-After: 7\r\n", "hello", 5);
}

static void
test_whole_answer(void **state)
{
	struct server s;
	struct http *http;
	struct http_request req = get("/a");
	struct http_response res;

	(void)state;
	server_start(&s, serve_hello);
	http = open_client(s.url, 4);
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_int_equal(res.status, 200);
	assert_int_equal(res.len, 5);
	assert_string_equal(res.body, "hello");
	assert_int_equal(res.length, 5);
	assert_int_equal(res.retry_after_s, 7);
	assert_true(res.sent);
	assert_non_null(
	    strstr(s.heads[0], "\r\nAuthorization: Bearer " KEY "\r\n"));
	assert_non_null(strstr(s.heads[0], "\r\nUser-Agent: test/1\r\n"));
	http_response_free(&res);

	req.anonymous = true;
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_null(strstr(s.heads[1], "Authorization"));
	assert_null(strstr(s.heads[1], "rk_test"));
	http_response_free(&res);
	/* One warm connection served both. */
	assert_int_equal(s.accepted, 1);
	http_close(http);
	server_stop(&s);
}

/* Answers the first request of each connection, dies on the second. */
static bool
serve_dying(struct server *s, const struct server_request *r)
{
	(void)s;
	if (strcmp(r->body, "first") == 0)
		return server_reply(r->fd, 200, "ok");
	return false;
}

static unsigned
count_bodies(struct server *s, const char *body)
{
	unsigned n = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->seen && i < SERVER_REQUESTS; i++)
		n += strcmp(s->bodies[i], body) == 0;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void
test_once_is_never_sent_again(void **state)
{
	struct server s;
	struct http *http;
	struct http_request first = post("/x", "first");
	struct http_request second = post("/x", "second");
	struct http_response res;

	(void)state;
	server_start(&s, serve_dying);
	http = open_client(s.url, 4);
	assert_int_equal(http_perform(http, &first, &res), 0);
	http_response_free(&res);
	second.once = true;
	second.lane = HTTP_EXEC;
	second.stall_ms = 0;
	assert_int_equal(http_perform(http, &second, &res), -ECONNRESET);
	assert_int_equal(res.status, 0);
	assert_true(res.sent);
	http_response_free(&res);
	assert_int_equal(count_bodies(&s, "second"), 1);
	http_close(http);
	server_stop(&s);
}

/* What `once` is for: if this fails, libcurl has changed its ways. */
static void
test_without_once_libcurl_sends_again(void **state)
{
	struct server s;
	struct http *http;
	struct http_request first = post("/x", "first");
	struct http_request second = post("/x", "second");
	struct http_response res;

	(void)state;
	server_start(&s, serve_dying);
	http = open_client(s.url, 4);
	assert_int_equal(http_perform(http, &first, &res), 0);
	http_response_free(&res);
	assert_int_equal(http_perform(http, &second, &res), -ECONNRESET);
	http_response_free(&res);
	assert_int_equal(count_bodies(&s, "second"), 2);
	http_close(http);
	server_stop(&s);
}

static bool
serve_cut(struct server *s, const struct server_request *r)
{
	(void)s;
	if (server_is(r, "GET /length"))
		server_text(r->fd,
		    "HTTP/1.1 200 OK\r\n"
		    "Content-Length: 10\r\n\r\n12345");
	else if (server_is(r, "GET /chunk"))
		server_text(r->fd,
		    "HTTP/1.1 200 OK\r\n"
		    "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n");
	else if (server_is(r, "GET /head"))
		server_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Le");
	else if (server_is(r, "GET /close"))
		server_text(r->fd, "HTTP/1.0 200 OK\r\n\r\n12345");
	else if (server_is(r, "GET /garbage"))
		server_text(r->fd, "SSH-2.0-OpenSSH_9.2\r\n");
	return false;
}

static int
perform_get(struct http *http, const char *target)
{
	struct http_request req = get(target);
	struct http_response res;
	int error = http_perform(http, &req, &res);

	if (error != 0) {
		assert_null(res.body);
		assert_true(res.detail[0] != '\0');
	}
	http_response_free(&res);
	return error;
}

static void
test_cut_answers(void **state)
{
	struct server s;
	struct http *http;

	(void)state;
	server_start(&s, serve_cut);
	http = open_client(s.url, 4);
	assert_int_equal(perform_get(http, "/length"), -ECONNRESET);
	assert_int_equal(perform_get(http, "/chunk"), -ECONNRESET);
	assert_int_equal(perform_get(http, "/nothing"), -ECONNRESET);
	assert_int_equal(perform_get(http, "/head"), -ECONNRESET);
	assert_int_equal(perform_get(http, "/garbage"), -EPROTO);
	/* Without a length the end of the connection is the end. */
	assert_int_equal(perform_get(http, "/close"), 0);
	http_close(http);
	server_stop(&s);
}

static bool
serve_hang(struct server *s, const struct server_request *r)
{
	if (server_is(r, "GET /body"))
		server_text(r->fd,
		    "HTTP/1.1 200 OK\r\n"
		    "Content-Length: 10\r\n\r\n12345");
	server_hold(s);
	return false;
}

static void
test_silence_times_out(void **state)
{
	struct server s;
	struct http *http;
	struct http_request req = get("/");
	struct http_response res;

	(void)state;
	server_start(&s, serve_hang);
	http = open_client(s.url, 4);
	req.stall_ms = 100;
	assert_int_equal(http_perform(http, &req, &res), -ETIMEDOUT);
	assert_true(res.ms >= 100);
	assert_true(res.sent);
	http_response_free(&res);
	req.target = "/body";
	assert_int_equal(http_perform(http, &req, &res), -ETIMEDOUT);
	assert_null(res.body);
	http_response_free(&res);
	http_close(http);
	server_stop(&s);
}

static void
test_nobody_listens(void **state)
{
	struct http *http;
	struct http_request req = get("/");
	struct http_response res;
	unsigned port;
	char url[64];

	(void)state;
	close(server_listen(&port));
	snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
	http = open_client(url, 4);
	assert_int_equal(http_perform(http, &req, &res), -ECONNREFUSED);
	assert_false(res.sent);
	assert_int_equal(res.status, 0);
	http_response_free(&res);
	http_close(http);
}

static bool
serve_big(struct server *s, const struct server_request *r)
{
	char piece[1024];

	(void)s;
	memset(piece, 'x', sizeof piece);
	if (server_is(r, "GET /length"))
		server_text(r->fd,
		    "HTTP/1.1 200 OK\r\n"
		    "Content-Length: 1000000000\r\n\r\n");
	else
		server_text(r->fd, "HTTP/1.0 200 OK\r\n\r\n");
	while (server_send(r->fd, piece, sizeof piece))
		;
	return false;
}

static void
test_huge_answers_are_cut_off(void **state)
{
	struct server s;
	struct http *http;

	(void)state;
	server_start(&s, serve_big);
	http = open_client(s.url, 4);
	assert_int_equal(perform_get(http, "/length"), -EFBIG);
	assert_int_equal(perform_get(http, "/endless"), -EFBIG);
	http_close(http);
	server_stop(&s);
}

/* size zero bytes, gzipped; *len is its length. */
static unsigned char *
gzip_zeros(size_t size, size_t *len)
{
	z_stream z = {0};
	unsigned char *in = calloc(1, size), *out = malloc(size + 1024);

	assert_non_null(in);
	assert_non_null(out);
	assert_int_equal(
	    deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY),
	    Z_OK);
	z.next_in = in;
	z.avail_in = (uInt)size;
	z.next_out = out;
	z.avail_out = (uInt)size + 1024;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	*len = z.total_out;
	deflateEnd(&z);
	free(in);
	return out;
}

static bool
serve_gzip(struct server *s, const struct server_request *r)
{
	size_t len;
	unsigned char *data =
	    gzip_zeros(server_is(r, "GET /bomb") ? 64 << 20 : 1000, &len);
	bool ok =
	    server_answer(r->fd, 200, "Content-Encoding: gzip\r\n", data, len);

	(void)s;
	free(data);
	return ok;
}

static int
sink_none(void *arg, long status, uint64_t total, const void *data, size_t len)
{
	(void)arg;
	(void)status;
	(void)total;
	(void)data;
	(void)len;
	return 0;
}

static void
test_compressed_answers(void **state)
{
	struct server s;
	struct http *http;
	struct http_request req = get("/small");
	struct http_response res;

	(void)state;
	server_start(&s, serve_gzip);
	http = open_client(s.url, 4);
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_int_equal(res.len, 1000);
	assert_int_equal(res.body[999], 0);
	assert_non_null(strstr(s.heads[0], "gzip"));
	http_response_free(&res);
	assert_int_equal(perform_get(http, "/bomb"), -EFBIG);

	/* Where offsets count it is not asked for, and refused. */
	req.sink = sink_none;
	req.anonymous = true;
	assert_int_equal(http_perform(http, &req, &res), -EOPNOTSUPP);
	assert_null(strstr(s.heads[2], "gzip"));
	http_response_free(&res);
	http_close(http);
	server_stop(&s);
}

static bool
serve_redirect(struct server *s, const struct server_request *r)
{
	char headers[256];

	snprintf(headers, sizeof headers, "Location: %s/stolen\r\n",
	    ((struct server *)s->arg)->url);
	return server_answer(r->fd, 302, headers, "", 0);
}

static void
test_redirects_are_not_followed(void **state)
{
	struct server s, other;
	struct http *http;
	struct http_request req = post("/", "{}");
	struct http_response res;

	(void)state;
	server_start(&other, serve_hello);
	server_start(&s, serve_redirect);
	s.arg = &other;
	http = open_client(s.url, 4);
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_int_equal(res.status, 302);
	assert_null(res.body);
	http_response_free(&res);
	http_close(http);
	assert_int_equal(server_seen(&s), 1);
	assert_int_equal(server_seen(&other), 0);
	assert_int_equal(other.accepted, 0);
	server_stop(&s);
	server_stop(&other);
}

static bool
serve_lanes(struct server *s, const struct server_request *r)
{
	if (!server_is(r, "GET /meta"))
		server_hold(s);
	return server_reply(r->fd, 200, "ok");
}

static void
test_meta_passes_while_bulk_is_full(void **state)
{
	struct server s;
	struct http *http;
	struct job bulk[6] = {0}, exec = {0};

	(void)state;
	server_start(&s, serve_lanes);
	http = open_client(s.url, 4);
	for (int i = 0; i < 6; i++)
		job_start(&bulk[i], http, "/bulk", HTTP_BULK);
	server_wait_held(&s, 2);
	job_start(&exec, http, "/exec", HTTP_EXEC);
	server_wait_held(&s, 3);
	for (int i = 0; i < 20; i++)
		assert_int_equal(perform_get(http, "/meta"), 0);
	/* Two of four connections were bulk's all the time. */
	assert_int_equal(server_held(&s), 3);
	server_release(&s, 100);
	for (int i = 0; i < 6; i++)
		assert_int_equal(job_join(&bulk[i]), 0);
	assert_int_equal(job_join(&exec), 0);
	http_close(http);
	server_stop(&s);
}

/* METAs without end, until *stop (or until something is clearly wrong). */
struct storm {
	struct http *http;
	atomic_bool *stop;
	pthread_t thread;
};

static void *
storm_run(void *arg)
{
	struct storm *storm = arg;
	struct timespec now, until;

	server_deadline(&until);
	do {
		if (perform_get(storm->http, "/meta") != 0)
			abort();
		clock_gettime(CLOCK_REALTIME, &now);
	} while (!*storm->stop && now.tv_sec < until.tv_sec);
	return *storm->stop ? NULL : storm;
}

static void
test_meta_does_not_starve_bulk(void **state)
{
	atomic_bool stop = false;
	struct storm storms[6];
	struct job bulk[3] = {0};
	struct server s;
	struct http *http;
	void *late;

	(void)state;
	server_start(&s, serve_hello);
	http = open_client(s.url, 1);
	for (int i = 0; i < 6; i++) {
		storms[i] = (struct storm){.http = http, .stop = &stop};
		assert_int_equal(pthread_create(&storms[i].thread, NULL,
				     storm_run, &storms[i]),
		    0);
	}
	server_wait_seen(&s, 10);
	for (int i = 0; i < 3; i++)
		job_start(&bulk[i], http, "/bulk", HTTP_BULK);
	for (int i = 0; i < 3; i++)
		assert_int_equal(job_join(&bulk[i]), 0);
	stop = true;
	for (int i = 0; i < 6; i++) {
		pthread_join(storms[i].thread, &late);
		assert_null(late);
	}
	http_close(http);
	server_stop(&s);
}

static void
test_shutdown_cancels(void **state)
{
	struct server s;
	struct http *http;
	struct job jobs[5] = {0};

	(void)state;
	server_start(&s, serve_hang);
	http = open_client(s.url, 1);
	/* One is under way, the others are queued. */
	for (int i = 0; i < 5; i++)
		job_start(&jobs[i], http, "/", HTTP_META);
	server_wait_held(&s, 1);
	http_shutdown(http);
	for (int i = 0; i < 5; i++)
		assert_int_equal(job_join(&jobs[i]), -ECANCELED);
	assert_int_equal(server_seen(&s), 1);
	http_close(http);
	server_stop(&s);
}

struct pieces {
	char data[64];
	size_t len;
	long status;
	uint64_t total;
	int result;
};

static int
sink_pieces(
    void *arg, long status, uint64_t total, const void *data, size_t len)
{
	struct pieces *p = arg;

	p->status = status;
	p->total = total;
	assert_true(len <= sizeof p->data - p->len);
	memcpy(p->data + p->len, data, len);
	p->len += len;
	return p->result;
}

static bool
serve_range(struct server *s, const struct server_request *r)
{
	(void)s;
	if (server_is(r, "GET /none"))
		return server_reply(r->fd, 404, "no such thing");
	assert(server_has(r, "\r\nRange: bytes=100-104\r\n"));
	return server_answer(
	    r->fd, 206, "Content-Range: bytes 100-104/1000\r\n", "abcde", 5);
}

static void
test_ranges_and_sinks(void **state)
{
	struct server s;
	struct http *http;
	struct http_request req = get("/file");
	struct http_response res;
	struct pieces p = {.len = 0};

	(void)state;
	server_start(&s, serve_range);
	http = open_client(s.url, 4);
	req.range = true;
	req.first = 100;
	req.last = 104;
	req.sink = sink_pieces;
	req.sink_arg = &p;
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_int_equal(res.status, 206);
	assert_int_equal(res.range_first, 100);
	assert_int_equal(res.range_total, 1000);
	assert_null(res.body);
	assert_int_equal(p.status, 206);
	assert_int_equal(p.total, 1000);
	assert_memory_equal(p.data, "abcde", 5);
	http_response_free(&res);

	p = (struct pieces){.result = -ESTALE};
	assert_int_equal(http_perform(http, &req, &res), -ESTALE);
	http_response_free(&res);

	/* An error's body is no content. */
	p = (struct pieces){.len = 0};
	req.target = "/none";
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_int_equal(res.status, 404);
	assert_string_equal(res.body, "no such thing");
	assert_int_equal(p.len, 0);
	http_response_free(&res);
	http_close(http);
	server_stop(&s);
}

static bool
serve_interim(struct server *s, const struct server_request *r)
{
	(void)s;
	server_text(r->fd,
	    "HTTP/1.1 102 Processing\r\n"
	    "Content-Range: bytes 1-2/3\r\n\r\n");
	return server_reply(r->fd, 200, "done");
}

static void
test_request_as_written(void **state)
{
	static const char odd[] = "/p/file//a/../b/./c%2Fd%00";
	struct server s;
	struct http *http;
	struct http_request req = get(odd);
	struct http_response res;
	char url[80];
	char *big;

	(void)state;
	server_start(&s, serve_interim);
	/* A prefix and a final slash of the base URL are both fine. */
	snprintf(url, sizeof url, "%s/prefix/", s.url);
	http = open_client(url, 4);
	assert_int_equal(http_perform(http, &req, &res), 0);
	assert_string_equal(res.body, "done");
	assert_int_equal(res.range_total, UINT64_MAX);
	http_response_free(&res);
	assert_non_null(strstr(
	    s.heads[0], "GET /prefix/p/file//a/../b/./c%2Fd%00 HTTP/1.1\r\n"));

	big = malloc((3 << 20) + 1);
	assert_non_null(big);
	memset(big, 'x', 3 << 20);
	big[3 << 20] = '\0';
	req = post("/big", big);
	for (int once = 0; once < 2; once++) {
		req.once = once;
		assert_int_equal(http_perform(http, &req, &res), 0);
		http_response_free(&res);
		assert_null(strstr(s.heads[1 + once], "Expect"));
		assert_non_null(strstr(s.heads[1 + once],
		    "\r\nContent-Type: application/json\r\n"));
		assert_string_equal(s.bodies[1 + once], big);
	}
	free(big);
	http_close(http);
	server_stop(&s);
}

static void
test_bad_configuration(void **state)
{
	static const char *const urls[] = {"", "ftp://host", "file:///etc",
	    "https://user:pw@host", "https://host/?q=1", "https://host/#f",
	    "not a url"};
	struct http_config config = {.base_url = "http://127.0.0.1",
	    .key = "rk_test_\r\nX-Evil: 1",
	    .max_connections = 1};
	struct http *http;

	(void)state;
	assert_int_equal(http_open(&http, &config), -EINVAL);
	config.key = KEY;
	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		config.base_url = urls[i];
		assert_int_equal(http_open(&http, &config), -EINVAL);
	}
	http_close(NULL);
}

/* Everything that one request logs. */
static char *
logged(struct http *http, const char *target)
{
	FILE *f = tmpfile();
	int saved = dup(STDERR_FILENO);
	char *text;
	size_t n;

	assert_non_null(f);
	text = calloc(1, 8192);
	assert_non_null(text);
	log_open(false, true);
	dup2(fileno(f), STDERR_FILENO);
	assert_int_equal(perform_get(http, target), 0);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	log_open(false, false);
	rewind(f);
	n = fread(text, 1, 8191, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

static void
test_log_keeps_secrets(void **state)
{
	struct server s;
	struct http *http;
	char *text;

	(void)state;
	server_start(&s, serve_hello);
	http = open_client(s.url, 4);
	text = logged(http, "/vm/" VM "/file/tmp/x");
	assert_non_null(strstr(text, "GET /vm/550e8400.../file/tmp/x"));
	assert_non_null(strstr(text, "HTTP 200"));
	assert_null(strstr(text, VM));
	assert_null(strstr(text, "rk_test"));
	assert_null(strstr(text, "hello"));
	free(text);
	text = logged(http, "/api/x");
	assert_non_null(strstr(text, "GET /api/x: sent 0, got 5 bytes"));
	free(text);
	http_close(http);
	server_stop(&s);
}

static void *
hammer(void *arg)
{
	struct http *http = arg;

	for (int i = 0; i < 25; i++)
		if (perform_get(http, "/") != 0)
			abort();
	return NULL;
}

static void
test_many_threads(void **state)
{
	pthread_t threads[8];
	struct server s;
	struct http *http;

	(void)state;
	server_start(&s, serve_hello);
	http = open_client(s.url, 4);
	for (int i = 0; i < 8; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, hammer, http), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(server_seen(&s), 200);
	assert_true(s.accepted <= 4);
	http_close(http);
	server_stop(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole_answer),
	    cmocka_unit_test(test_once_is_never_sent_again),
	    cmocka_unit_test(test_without_once_libcurl_sends_again),
	    cmocka_unit_test(test_cut_answers),
	    cmocka_unit_test(test_silence_times_out),
	    cmocka_unit_test(test_nobody_listens),
	    cmocka_unit_test(test_huge_answers_are_cut_off),
	    cmocka_unit_test(test_compressed_answers),
	    cmocka_unit_test(test_redirects_are_not_followed),
	    cmocka_unit_test(test_meta_passes_while_bulk_is_full),
	    cmocka_unit_test(test_meta_does_not_starve_bulk),
	    cmocka_unit_test(test_shutdown_cancels),
	    cmocka_unit_test(test_ranges_and_sinks),
	    cmocka_unit_test(test_request_as_written),
	    cmocka_unit_test(test_bad_configuration),
	    cmocka_unit_test(test_log_keeps_secrets),
	    cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
