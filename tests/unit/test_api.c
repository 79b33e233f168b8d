#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/base64.h"
#include "test_http_server.h"

#define KEY	"rk_test_0123456789abcdef0123456789abcdef"
#define PROFILE "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
#define VM_A	"aaaaaaaa-e29b-41d4-a716-446655440000"
#define VM_B	"bbbbbbbb-e29b-41d4-a716-446655440000"
#define ROOM	"/api/profile/" PROFILE "/room/my%20room%2F1"

typedef bool handler_fn(struct server *, const struct server_request *);

/* How often an instance was replaced, and by which. */
static unsigned replaced_count;
static char replaced_old[37], replaced_now[37];

static void
note_replaced(void *arg, const char *old, const char *now)
{
	char instance[37];

	replaced_count++;
	snprintf(replaced_old, sizeof replaced_old, "%s", old);
	snprintf(replaced_now, sizeof replaced_now, "%s", now);
	/* No lock is held: calling back is fine. */
	api_get_instance(*(struct api **)arg, instance);
	assert_string_equal(instance, now);
}

static struct api *
open_api(struct server *s, handler_fn *handler, unsigned limit_ms, bool create)
{
	static struct api *api;
	struct api_config config = {
	    .profile = PROFILE,
	    .room = "my room/1",
	    .key = KEY,
	    .max_connections = 4,
	    .stall_ms = 20000,
	    .limit_ms = limit_ms,
	    .create = create,
	    .replaced = note_replaced,
	    .arg = &api,
	};

	server_start(s, handler);
	config.base_url = s->url;
	replaced_count = 0;
	assert_int_equal(api_open(&api, &config), 0);
	return api;
}

static void
stop(struct api *api, struct server *s)
{
	api_close(api);
	server_stop(s);
}

static int
run(struct api *api, enum api_kind kind, struct api_answer *a)
{
	return api_command(api, kind, "echo \"x\"\n", 9, a);
}

/* Run a command of which only the result matters. */
static int
try_run(struct api *api, enum api_kind kind)
{
	struct api_answer a;
	int error = run(api, kind, &a);

	if (error != 0)
		assert_true(a.detail[0] != '\0');
	api_answer_free(&a);
	return error;
}

static bool
reply_command(int fd, const char *instance, const char *output)
{
	char json[1024];

	snprintf(json, sizeof json,
	    "{\"instance_id\":\"%s\",\"command\":\"x\","
	    "\"result\":{\"output\":\"%s\",\"exit_code\":3,\"files_changed\":"
	    "[]},\"status\":\"error\"}",
	    instance, output);
	return server_reply(fd, 200, json);
}

static bool
reply_error(int fd, int status, const char *code)
{
	char json[256];

	snprintf(json, sizeof json,
	    "{\"error\":\"%s\",\"message\":\"so it "
	    "is\"}",
	    code);
	return server_reply(fd, status, json);
}

static bool
serve_ok(struct server *s, const struct server_request *r)
{
	(void)s;
	return reply_command(r->fd, VM_A, "hi");
}

static void
test_command(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_ok, 5000, false);
	struct api_answer a;
	char instance[37];

	(void)state;
	api_get_instance(api, instance);
	assert_string_equal(instance, "");
	assert_int_equal(api_last_contact(api), 0);
	assert_int_equal(run(api, API_USER, &a), 0);
	assert_int_equal(a.exit_code, 3);
	assert_false(a.success);
	assert_string_equal(a.output, "hi");
	assert_int_equal(a.json[0], '{');
	assert_int_equal(a.json_len, strlen(a.json));
	api_answer_free(&a);
	assert_non_null(strstr(s.heads[0], "POST " ROOM "/command HTTP/1.1"));
	assert_string_equal(s.bodies[0], "{\"command\":\"echo \\\"x\\\"\\n\"}");
	assert_non_null(strstr(s.heads[0], "Authorization: Bearer " KEY));
	assert_int_equal(run(api, API_META, &a), 0);
	assert_null(a.json);
	api_answer_free(&a);
	api_get_instance(api, instance);
	assert_string_equal(instance, VM_A);
	assert_true(api_last_contact(api) > 0);
	assert_int_equal(replaced_count, 0);
	stop(api, &s);
}

static void
test_command_must_be_text(void **state)
{
	static const char *const good[] = {"a", "\xc3\xa9", "\xf0\x9f\x98\x80"};
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {{"a\0b", 3}, {"\xff", 1}, {"\xc3", 1}, {"\xc0\x80", 2},
	    {"\xed\xa0\x80", 3}, {"\xe0\x80\x80", 3}, {"\xf4\x90\x80\x80", 4},
	    {"a\x80", 2}};
	struct server s;
	struct api *api = open_api(&s, serve_ok, 5000, false);
	struct api_answer a;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(
		    api_command(api, API_USER, bad[i].text, bad[i].len, &a),
		    -EINVAL);
		api_answer_free(&a);
	}
	assert_int_equal(server_seen(&s), 0);
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(
		    api_command(api, API_META, good[i], strlen(good[i]), &a),
		    0);
		api_answer_free(&a);
	}
	stop(api, &s);
}

/* A bad day: all that can pass, one after the other, then an answer. */
static bool
serve_bad_day(struct server *s, const struct server_request *r)
{
	switch (server_step(s)) {
	case 0:
		return reply_error(r->fd, 503, "not_ready");
	case 1:
		return false;
	case 2:
		return server_reply(r->fd, 200, "{\"instance_id\":");
	case 3:
		return server_reply(r->fd, 502, "<html>");
	case 4:
		return server_reply(r->fd, 200, "");
	}
	return reply_command(r->fd, VM_A, "hi");
}

static void
test_internal_commands_are_repeated(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_bad_day, 60000, false);

	(void)state;
	assert_int_equal(try_run(api, API_META), 0);
	assert_true(server_seen(&s) >= 6);
	stop(api, &s);
}

/* What the server does with the one command of the next test. */
static struct {
	int status;
	const char *body;
	int expected;
	enum fate fate;
	const char *detail;
} user_cases[] = {
    {503, "{\"error\":\"busy\"}", -EIO, FATE_NOT_RUN, "HTTP 503, busy"},
    {413, "{\"error\":\"too_big\"}", -EIO, FATE_NOT_RUN, "HTTP 413, too_big"},
    {413, "<html>", -EIO, FATE_NOT_RUN, "HTTP 413, not from"},
    {409, "{\"error\":\"x\",\"message\":\"y\"}", -EIO, FATE_NOT_RUN,
	"HTTP 409, x: y"},
    {404, "{\"error\":\"no_profile\"}", -EIO, FATE_NOT_RUN, "HTTP 404, "},
    {401, "{\"error\":\"bad_key\"}", -EACCES, FATE_NOT_RUN, "HTTP 401"},
    {403, "<html>", -EACCES, FATE_NOT_RUN, "HTTP 403"},
    {429, "<html>", -EREMOTEIO, FATE_UNKNOWN, "HTTP 429"},
    {503, "<html>", -EREMOTEIO, FATE_UNKNOWN, "HTTP 503"},
    {500, "{\"error\":\"x\"}", -EREMOTEIO, FATE_UNKNOWN, "HTTP 500, x"},
    {504, "", -EREMOTEIO, FATE_UNKNOWN, "HTTP 504"},
    {302, "", -EREMOTEIO, FATE_UNKNOWN, "HTTP 302"},
    {200, "{\"instance_id\":", -EREMOTEIO, FATE_UNKNOWN, "the answer can't"},
    {200, "", -EREMOTEIO, FATE_UNKNOWN, "the answer can't"},
    {0, "", -EREMOTEIO, FATE_UNKNOWN, ""},
};

static bool
serve_user_case(struct server *s, const struct server_request *r)
{
	size_t n = (size_t)s->step;

	if (strstr(r->body, "warm up") != NULL)
		return reply_command(r->fd, VM_A, "");
	if (user_cases[n].status == 0)
		return false;
	return server_reply(r->fd, user_cases[n].status, user_cases[n].body);
}

static void
test_user_command_is_sent_once(void **state)
{
	struct server s;
	struct api *api;
	struct api_answer a;

	(void)state;
	for (size_t i = 0; i < sizeof user_cases / sizeof user_cases[0]; i++) {
		api = open_api(&s, serve_user_case, 60000, false);
		s.step = (int)i;
		/* A warm connection, which libcurl would send again on. */
		assert_int_equal(
		    api_command(api, API_META, "warm up", 7, &a), 0);
		api_answer_free(&a);
		assert_int_equal(
		    run(api, API_USER, &a), user_cases[i].expected);
		if (strncmp(a.detail, user_cases[i].detail,
			strlen(user_cases[i].detail)) != 0)
			fail_msg("%zu: %s", i, a.detail);
		assert_int_equal(a.fate, user_cases[i].fate);
		assert_true(a.detail[0] != '\0');
		api_answer_free(&a);
		assert_int_equal(server_seen(&s), 2);
		stop(api, &s);
	}
}

static void
test_user_command_waits_for_a_listener(void **state)
{
	struct api_config config = {.profile = PROFILE,
	    .room = "r",
	    .key = KEY,
	    .max_connections = 4,
	    .stall_ms = 1000,
	    .limit_ms = 1000};
	struct api_answer a;
	struct api *api;
	unsigned port;
	char url[64];

	(void)state;
	close(server_listen(&port));
	snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
	config.base_url = url;
	assert_int_equal(api_open(&api, &config), 0);
	assert_int_equal(run(api, API_USER, &a), -ECONNREFUSED);
	assert_int_equal(a.fate, FATE_NOT_RUN);
	api_answer_free(&a);
	api_close(api);
}

static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool
serve_slow_down(struct server *s, const struct server_request *r)
{
	static const char body[] = "{\"error\":\"rate_limited\"}";

	if (server_step(s) == 0)
		return server_answer(r->fd, 429, s->arg, body, strlen(body));
	return reply_command(r->fd, VM_A, "");
}

static void
test_all_wait_after_a_429(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_slow_down, 30000, false);
	uint64_t start = now_ms();

	(void)state;
	s.arg = (void *)"Retry-After: 1\r\n";
	/* The user's own command is not repeated, but the next one waits. */
	assert_int_equal(try_run(api, API_USER), -EIO);
	assert_int_equal(try_run(api, API_USER), 0);
	assert_true(now_ms() - start >= 1000);
	assert_int_equal(server_seen(&s), 2);
	stop(api, &s);
}

static void
test_too_long_a_pause_is_an_error(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_slow_down, 20000, false);
	struct api_answer a;
	uint64_t start = now_ms();

	(void)state;
	s.arg = (void *)"Retry-After: 600\r\n";
	assert_int_equal(try_run(api, API_META), -EIO);
	assert_int_equal(run(api, API_USER, &a), -EIO);
	assert_int_equal(a.fate, FATE_NOT_RUN);
	assert_non_null(strstr(a.detail, "the service asked to wait for "));
	api_answer_free(&a);
	assert_int_equal(server_seen(&s), 1);
	assert_true(now_ms() - start < 15000);
	stop(api, &s);
}

struct call {
	struct api *api;
	enum api_kind kind;
	int result;
	pthread_t thread;
};

static void *
call_run(void *arg)
{
	struct call *c = arg;
	struct api_answer a;

	c->result = run(c->api, c->kind, &a);
	api_answer_free(&a);
	return NULL;
}

static void
call_start(struct call *c, struct api *api, enum api_kind kind)
{
	c->api = api;
	c->kind = kind;
	assert_int_equal(pthread_create(&c->thread, NULL, call_run, c), 0);
}

static int
call_join(struct call *c)
{
	pthread_join(c->thread, NULL);
	return c->result;
}

static bool
serve_held(struct server *s, const struct server_request *r)
{
	server_hold(s);
	return server_answer(r->fd, 503, "Retry-After: 900\r\n", "{}", 2);
}

static void
test_shutdown_ends_all_waits(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_held, 3600000, false);
	struct call waiting = {0}, sent = {0}, user = {0};

	(void)state;
	call_start(&waiting, api, API_META);
	server_wait_held(&s, 1);
	call_start(&user, api, API_USER);
	server_wait_held(&s, 2);
	call_start(&sent, api, API_BULK);
	server_wait_held(&s, 3);
	/* The first one gets its answer and waits for its next turn. */
	server_release(&s, 1);
	while (api_last_contact(api) == 0)
		sched_yield();
	api_shutdown(api);
	assert_int_equal(call_join(&waiting), -ECANCELED);
	assert_int_equal(call_join(&sent), -ECANCELED);
	/* It was under way: nobody knows. */
	assert_int_equal(call_join(&user), -EREMOTEIO);
	assert_int_equal(try_run(api, API_META), -ECANCELED);
	assert_int_equal(try_run(api, API_USER), -ECANCELED);
	assert_int_equal(server_seen(&s), 3);
	stop(api, &s);
}

/* No instance until it was created in three polls. */
static bool
serve_creation(struct server *s, const struct server_request *r)
{
	static const char *const statuses[] = {"active", "vm_booted", "ready"};
	char json[256];
	int step;

	if (server_is(r, "POST " ROOM "/command")) {
		if (s->step < 3)
			return reply_error(r->fd, 404, "instance_not_found");
		return reply_command(r->fd, VM_B, "hi");
	}
	assert(server_is(r, "POST " ROOM " HTTP"));
	step = server_step(s);
	if (step == 0)
		return reply_error(r->fd, 503, "no_host");
	snprintf(json, sizeof json,
	    "{\"instance_id\":\"" VM_B "\","
	    "\"profile_id\":\"" PROFILE "\",\"status\":\"%s\"}",
	    statuses[step < 3 ? step : 2]);
	return server_reply(r->fd, 200, json);
}

static void
test_instance_is_created(void **state)
{
	struct server s;
	struct api *api;
	struct api_answer a;

	(void)state;
	for (int kind = API_META; kind <= API_USER; kind++) {
		api = open_api(&s, serve_creation, 10000, true);
		assert_int_equal(run(api, (enum api_kind)kind, &a), 0);
		assert_string_equal(a.output, "hi");
		assert_string_equal(a.instance, VM_B);
		api_answer_free(&a);
		/* 404, three of creation, the command. */
		assert_int_equal(server_seen(&s), 5);
		assert_int_equal(replaced_count, 0);
		stop(api, &s);
	}
}

static void
test_instance_is_not_created_unasked(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_creation, 10000, false);
	struct api_answer a;

	(void)state;
	assert_int_equal(run(api, API_META, &a), -ENODEV);
	assert_non_null(strstr(a.detail, "-o create"));
	api_answer_free(&a);
	assert_int_equal(run(api, API_USER, &a), -ENODEV);
	assert_int_equal(a.fate, FATE_NOT_RUN);
	api_answer_free(&a);
	assert_int_equal(server_seen(&s), 2);
	stop(api, &s);
}

/* A status that is not documented: a command that works will do. */
static bool
serve_strange_status(struct server *s, const struct server_request *r)
{
	(void)s;
	if (server_is(r, "POST " ROOM "/command"))
		return reply_command(r->fd, VM_A, "");
	return server_reply(r->fd, 200,
	    "{\"instance_id\":\"" VM_A "\","
	    "\"status\":\"active\"}");
}

static void
test_a_working_command_means_ready(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_strange_status, 10000, true);
	char detail[256];

	(void)state;
	assert_int_equal(api_create(api, detail), 0);
	stop(api, &s);
}

/*
 * As api.md has it: 200 and the statuses in their order, the first of them
 * without an instance; commands are refused until it is ready, in either way.
 */
struct start {
	atomic_uint polls;
	int status; /* of refused commands */
};

static bool
serve_start(struct server *s, const struct server_request *r)
{
	static const char *const statuses[] = {"active", "network_allocated",
	    "ftap_created", "image_generated", "vm_started", "vm_booted",
	    "ready"};
	struct start *start = s->arg;
	char json[256], id[64];

	if (server_is(r, "POST " ROOM "/command")) {
		if (start->polls >= 7)
			return reply_command(r->fd, VM_A, "hi");
		return reply_error(r->fd, start->status,
		    start->status == 404 ? "instance_not_found" : "not_ready");
	}
	snprintf(id, sizeof id, "\"%s\"", VM_A);
	snprintf(json, sizeof json, "{\"instance_id\":%s,\"status\":\"%s\"}",
	    start->polls == 0 ? "null" : id,
	    statuses[start->polls < 6 ? start->polls : 6]);
	start->polls++;
	return server_reply(r->fd, 200, json);
}

static void
test_a_starting_instance_is_waited_for(void **state)
{
	static const int refusals[] = {404, 503};
	struct server s;
	struct api *api;
	struct api_answer a;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct start start = {.status = refusals[i]};

		/* Far less than it takes: the start has a limit of its own. */
		api = open_api(&s, serve_start, 1000, true);
		s.arg = &start;
		assert_int_equal(run(api, API_META, &a), 0);
		assert_string_equal(a.output, "hi");
		api_answer_free(&a);
		assert_int_equal(start.polls, 7);
		assert_int_equal(replaced_count, 0);
		stop(api, &s);
	}
}

/* A service that takes bodies up to a limit, and what it does to others. */
struct limit {
	_Atomic size_t most;
	int status; /* 0: a reset; 200: the shell's "argument list too long" */
	atomic_uint refused;
};

static bool
serve_limit(struct server *s, const struct server_request *r)
{
	struct limit *limit = s->arg;

	if (r->body_len <= limit->most)
		return reply_command(r->fd, VM_A, "");
	limit->refused++;
	if (limit->status == 200)
		return server_reply(r->fd, 200,
		    "{\"instance_id\":\"" VM_A "\",\"result\":{\"output\":"
		    "\"sh: Argument list too long\",\"exit_code\":126},"
		    "\"status\":\"error\"}");
	return limit->status != 0 &&
	    server_reply(r->fd, limit->status, "{\"error\":\"x\"}");
}

static int
run_sized(struct api *api, enum api_kind kind, size_t len, enum fate *fate)
{
	char *text = malloc(len);
	struct api_answer a;
	int error;

	assert_non_null(text);
	memset(text, 'x', len);
	error = api_command(api, kind, text, len, &a);
	*fate = a.fate;
	api_answer_free(&a);
	free(text);
	return error;
}

static void
test_a_limit_of_the_body_is_found(void **state)
{
	static const int statuses[] = {413, 400, 422, 200, 0};
	struct server s;
	struct api *api;
	enum fate fate;

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		struct limit limit = {.most = 64000, .status = statuses[i]};

		api = open_api(&s, serve_limit, 20000, false);
		s.arg = &limit;
		assert_int_equal(api_body_max(api), SIZE_MAX);
		assert_int_equal(
		    run_sized(api, API_META, 90000, &fate), -E2BIG);
		/* Only of a reset nobody knows. */
		assert_int_equal(
		    fate, statuses[i] == 0 ? FATE_UNKNOWN : FATE_NOT_RUN);
		assert_int_equal(limit.refused, statuses[i] == 0 ? 2 : 1);
		assert_int_equal(api_body_max(api), 65536);
		assert_int_equal(
		    run_sized(api, API_META, 65000, &fate), -E2BIG);
		assert_int_equal(api_body_max(api), 32768);
		assert_int_equal(run_sized(api, API_META, 32000, &fate), 0);
		assert_true(api_body_proven(api) >= 32000);
		/* What went once is refused for another reason. */
		limit.most = 0;
		if (statuses[i] == 400 || statuses[i] == 422)
			assert_int_equal(
			    run_sized(api, API_META, 32000, &fate), -EIO);
		assert_int_equal(api_body_max(api), 32768);
		stop(api, &s);
	}
}

static void
test_size_of_a_body(void **state)
{
	static const char text[] = "a\"b\\c\b\f\n\r\t\v\x1f\x7f/\xc3\xa9";
	struct server s;
	struct api *api = open_api(&s, serve_ok, 5000, false);
	struct api_answer a;

	(void)state;
	assert_int_equal(
	    api_command(api, API_META, text, sizeof text - 1, &a), 0);
	api_answer_free(&a);
	assert_int_equal(
	    api_body_size(text, sizeof text - 1), strlen(s.bodies[0]));
	assert_int_equal(api_body_proven(api), strlen(s.bodies[0]));
	stop(api, &s);
}

/* An output that is longer than what is kept, and the rest of the answer. */
static bool
serve_flood(struct server *s, const struct server_request *r)
{
	static const char head[] =
	    "{\"instance_id\":\"" VM_A "\",\"result\":{\"output\":\"",
			  tail[] = "\",\"exit_code\":7,\"files_changed\":[{"
				   "\"path\":\"/x\",\"status\":\"created\"}]},"
				   "\"status\":\"error\"}";
	char block[65536];
	size_t i;

	(void)s;
	memset(block, 'x', sizeof block);
	if (!server_text(
		r->fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") ||
	    !server_text(r->fd, head))
		return false;
	for (i = 0; i < 70 * 16; i++)
		if (!server_send(r->fd, block, sizeof block))
			return false;
	server_text(r->fd, tail);
	return false;
}

static void
test_an_output_that_is_too_long_is_cut(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_flood, 60000, false);
	struct api_answer a;

	(void)state;
	assert_int_equal(run(api, API_USER, &a), 0);
	assert_int_equal(a.fate, FATE_RAN);
	assert_true(a.cut);
	assert_int_equal(a.exit_code, 7);
	assert_int_equal(a.len, 64 << 20);
	assert_int_equal(a.changes.count, 1);
	assert_int_equal(a.json_len, strlen(a.json));
	assert_int_equal(
	    strncmp(a.json, "{\"output_cut\":true,\"instance_id\"", 32), 0);
	api_answer_free(&a);
	/* Ours would make no sense of a part. */
	assert_int_equal(try_run(api, API_META), -EFBIG);
	stop(api, &s);
}

/* The first answer is of one VM, later ones are of another. */
static bool
serve_replacement(struct server *s, const struct server_request *r)
{
	return reply_command(r->fd, server_step(s) == 0 ? VM_A : VM_B, "hi");
}

static void
test_replaced_instance(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_replacement, 5000, false);

	(void)state;
	assert_int_equal(try_run(api, API_META), 0);
	assert_int_equal(replaced_count, 0);
	assert_int_equal(try_run(api, API_META), -ESTALE);
	assert_int_equal(replaced_count, 1);
	assert_string_equal(replaced_old, VM_A);
	assert_string_equal(replaced_now, VM_B);
	assert_int_equal(try_run(api, API_META), 0);
	assert_int_equal(replaced_count, 1);
	stop(api, &s);

	/* A user's command did run, wherever it was. */
	api = open_api(&s, serve_replacement, 5000, false);
	assert_int_equal(try_run(api, API_META), 0);
	assert_int_equal(try_run(api, API_USER), 0);
	assert_int_equal(replaced_count, 1);
	stop(api, &s);
}

/* The second request's answer is late: of the old VM. */
static bool
serve_late(struct server *s, const struct server_request *r)
{
	switch (server_step(s)) {
	case 0:
		return reply_command(r->fd, VM_A, "");
	case 1:
		server_hold(s);
		return reply_command(r->fd, VM_A, "");
	}
	return reply_command(r->fd, VM_B, "");
}

static void
test_late_answer_of_the_old_instance(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_late, 5000, false);
	struct call late = {0};
	char instance[37];

	(void)state;
	assert_int_equal(try_run(api, API_META), 0);
	call_start(&late, api, API_META);
	server_wait_held(&s, 1);
	assert_int_equal(try_run(api, API_META), -ESTALE);
	server_release(&s, 1);
	/* It began with VM_A and is answered by VM_A: true, but of the past. */
	assert_int_equal(call_join(&late), -ESTALE);
	assert_int_equal(replaced_count, 1);
	api_get_instance(api, instance);
	assert_string_equal(instance, VM_B);
	stop(api, &s);
}

/*
 * A file server: the wildcard means an absolute path only in one form; in the
 * others the path is taken as relative to the home directory.
 */
struct files {
	const char *form; /* what precedes the path without its slash */
	const char *content; /* as JSON */
	const char *mangled; /* file_path given instead, or NULL */
	bool home; /* the other forms find something in the home directory */
};

static bool
serve_files(struct server *s, const struct server_request *r)
{
	struct files *f = s->arg;
	char json[512], start[256], path[128];
	size_t n;
	const char *p;

	snprintf(start, sizeof start, "GET %s%s", ROOM, f->form);
	p = r->head + strlen(start);
	if (!server_is(r, start) || *p == '/' || *p == '%') {
		if (!f->home)
			return reply_error(r->fd, 404, "file_not_found");
		return server_reply(r->fd, 200,
		    "{\"file_path\":\"/home/user/x"
		    "\",\"content\":\"abc\",\"instance_id\":\"" VM_A "\"}");
	}
	n = strcspn(p, " ");
	assert(n < sizeof path);
	memcpy(path, p, n);
	path[n] = '\0';
	if (strcmp(path, "gone") == 0)
		return reply_error(r->fd, 404, "file_not_found");
	snprintf(json, sizeof json,
	    "{\"file_path\":\"/%s\",\"content\":\"%s\","
	    "\"instance_id\":\"" VM_A "\"}",
	    f->mangled != NULL ? f->mangled : path, f->content);
	return server_reply(r->fd, 200, json);
}

static int
read_file(struct api *api, const char *path, uint64_t size, const char *bytes)
{
	void *data;
	size_t len;
	int error = api_read_file(api, path, size, &data, &len);

	if (error == 0) {
		assert_int_equal(len, size);
		assert_memory_equal(data, bytes, len);
	} else
		assert_null(data);
	free(data);
	return error;
}

static void
test_form_of_the_wildcard_is_found(void **state)
{
	static const char *const forms[] = {"/file/", "/file//", "/file/%2F"};
	struct files f = {.content = "abc"};
	struct server s;
	struct api *api;
	int asked;

	(void)state;
	for (int home = 0; home < 2; home++)
		for (unsigned i = 0; i < 3; i++) {
			f.form = forms[i];
			f.home = home;
			api = open_api(&s, serve_files, 5000, false);
			s.arg = &f;
			/* One more to prove a form that might be an echo. */
			asked = i + 1 + (i > 0);
			assert_int_equal(read_file(api, "/tmp/x", 3, "abc"), 0);
			assert_int_equal(server_seen(&s), asked);
			/* Remembered; and now a "not found" is believed. */
			assert_int_equal(read_file(api, "/tmp/y", 3, "abc"), 0);
			assert_int_equal(server_seen(&s), asked + 1);
			assert_int_equal(
			    read_file(api, "/gone", 3, "abc"), -ENOENT);
			assert_int_equal(server_seen(&s), asked + 2);
			stop(api, &s);
		}
}

static void
test_no_form_works(void **state)
{
	struct files f = {.form = "/nowhere/", .content = "abc", .home = true};
	struct server s;
	struct api *api = open_api(&s, serve_files, 5000, false);
	unsigned seen;

	(void)state;
	s.arg = &f;
	/* In the home directory lies a file of just that size. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(
		    read_file(api, "/tmp/x", 3, "abc"), -EOPNOTSUPP);
	seen = server_seen(&s);
	assert_int_equal(seen, 12);
	assert_int_equal(read_file(api, "/tmp/x", 3, "abc"), -EOPNOTSUPP);
	assert_int_equal(server_seen(&s), seen);
	stop(api, &s);
}

static void
test_content_by_size(void **state)
{
	struct files f = {.form = "/file/", .content = "YWJj"};
	struct server s;
	struct api *api = open_api(&s, serve_files, 5000, false);

	(void)state;
	s.arg = &f;
	assert_int_equal(read_file(api, "/x", 3, "abc"), 0);
	assert_int_equal(read_file(api, "/x", 4, "YWJj"), 0);
	assert_int_equal(read_file(api, "/x", 5, ""), -EAGAIN);
	assert_int_equal(read_file(api, "relative", 5, ""), -EINVAL);
	f.content = "a\\u0000b";
	assert_int_equal(read_file(api, "/x", 3, "a\0b"), 0);
	f.content = "";
	assert_int_equal(read_file(api, "/x", 0, ""), 0);
	/* A name that JSON can't tell: use something else for it. */
	f.mangled = "\xef\xbf\xbd";
	assert_int_equal(read_file(api, "/a\xff", 0, ""), -EOPNOTSUPP);
	f.mangled = NULL;
	assert_int_equal(read_file(api, "/x", 0, ""), 0);
	stop(api, &s);
}

static bool
serve_no_instance(struct server *s, const struct server_request *r)
{
	int step = server_step(s);

	if (step == 0)
		return reply_command(r->fd, VM_A, "");
	if (server_is(r, "GET"))
		return reply_error(r->fd, 404, "instance_not_found");
	return server_reply(r->fd, 200,
	    "{\"instance_id\":\"" VM_B "\","
	    "\"status\":\"ready\"}");
}

static void
test_file_of_an_expired_instance(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_no_instance, 5000, false);

	(void)state;
	assert_int_equal(try_run(api, API_META), 0);
	assert_int_equal(read_file(api, "/x", 3, ""), -ENODEV);
	stop(api, &s);
	api = open_api(&s, serve_no_instance, 5000, true);
	assert_int_equal(try_run(api, API_META), 0);
	assert_int_equal(read_file(api, "/x", 3, ""), -ESTALE);
	assert_int_equal(replaced_count, 1);
	stop(api, &s);
}

#define RAW_SIZE 1000

enum raw_mode {
	RAW_RANGES,
	RAW_STINGY,
	RAW_NO_RANGES,
	RAW_REDIRECT,
	RAW_MISSING,
	RAW_LIAR,
	RAW_CUT
};

static char
raw_byte(uint64_t offset)
{
	return (char)(offset * 7 % 251);
}

static bool
serve_raw(struct server *s, const struct server_request *r)
{
	enum raw_mode mode = *(enum raw_mode *)s->arg;
	unsigned first = 0, last = RAW_SIZE - 1;
	char data[RAW_SIZE], headers[128];
	const char *p;

	if (!server_is(r, "GET /vm/"))
		return reply_command(r->fd, VM_A, "");
	assert(!server_has(r, "Authorization") && !server_has(r, "rk_test"));
	for (unsigned i = 0; i < RAW_SIZE; i++)
		data[i] = raw_byte(i);
	if (mode == RAW_MISSING || !server_is(r, "GET /vm/" VM_A "/file/tmp/x"))
		return server_reply(r->fd, 404, "<html>");
	if (mode == RAW_REDIRECT)
		return server_answer(r->fd, 302, "Location: /x\r\n", "", 0);
	if (mode == RAW_CUT && server_step(s) < 3) {
		server_text(r->fd,
		    "HTTP/1.1 200 OK\r\n"
		    "Content-Length: 1000\r\n\r\n");
		server_send(r->fd, data, 10);
		return false;
	}
	p = strstr(r->head, "Range: bytes=");
	if (mode == RAW_NO_RANGES || mode == RAW_CUT || p == NULL)
		return server_answer(r->fd, 200, "", data, RAW_SIZE);
	assert(sscanf(p, "Range: bytes=%u-%u", &first, &last) == 2);
	if (mode == RAW_STINGY && last - first >= 100)
		last = first + 99;
	snprintf(headers, sizeof headers, "Content-Range: bytes %u-%u/%u\r\n",
	    first + (mode == RAW_LIAR), last + (mode == RAW_LIAR), RAW_SIZE);
	return server_answer(
	    r->fd, 206, headers, data + first, last - first + 1);
}

static int
read_raw(struct api *api, uint64_t size, uint64_t offset, size_t len,
    size_t expected)
{
	char *buf = calloc(1, len + 1);
	size_t got;
	int error;

	assert_non_null(buf);
	error = api_read_raw(api, "/tmp/x", size, offset, len, buf, &got);
	if (error == 0) {
		assert_int_equal(got, expected);
		for (size_t i = 0; i < got; i++)
			assert_int_equal(buf[i], raw_byte(offset + i));
	}
	free(buf);
	return error;
}

static struct api *
open_raw(struct server *s, enum raw_mode *mode)
{
	struct api *api = open_api(s, serve_raw, 5000, false);

	s->arg = mode;
	assert_int_equal(try_run(api, API_META), 0);
	return api;
}

static void
test_raw_ranges(void **state)
{
	enum raw_mode mode = RAW_RANGES;
	struct server s;
	struct api *api = open_raw(&s, &mode);

	(void)state;
	assert_int_equal(read_raw(api, RAW_SIZE, 0, 10, 10), 0);
	assert_int_equal(read_raw(api, RAW_SIZE, 500, 100, 100), 0);
	assert_int_equal(read_raw(api, RAW_SIZE, 990, 100, 10), 0);
	assert_int_equal(read_raw(api, RAW_SIZE, 0, RAW_SIZE, RAW_SIZE), 0);
	assert_int_equal(server_seen(&s), 5);
	assert_int_equal(read_raw(api, RAW_SIZE, RAW_SIZE, 100, 0), 0);
	assert_int_equal(read_raw(api, 0, 0, 100, 0), 0);
	assert_int_equal(server_seen(&s), 5);
	/* The file has another size than the caller thinks. */
	assert_int_equal(read_raw(api, RAW_SIZE + 1, 0, 10, 0), -EAGAIN);
	assert_int_equal(read_raw(api, RAW_SIZE - 1, 0, 10, 0), -EAGAIN);
	/* It worked before: so the file or the instance is gone now. */
	mode = RAW_MISSING;
	assert_int_equal(read_raw(api, RAW_SIZE, 0, 10, 0), -EAGAIN);
	mode = RAW_STINGY;
	assert_int_equal(read_raw(api, RAW_SIZE, 100, 350, 350), 0);
	mode = RAW_LIAR;
	assert_int_equal(read_raw(api, RAW_SIZE, 100, 10, 0), -EOPNOTSUPP);
	stop(api, &s);
}

struct stream {
	char data[RAW_SIZE];
	uint64_t at;
	int result;
};

static int
stream_sink(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct stream *st = arg;

	assert_true(offset == st->at || offset == 0);
	assert_true(len <= RAW_SIZE - offset);
	memcpy(st->data + offset, data, len);
	st->at = offset + len;
	return st->result;
}

static void
test_raw_without_ranges(void **state)
{
	enum raw_mode mode = RAW_NO_RANGES;
	struct server s;
	struct api *api = open_raw(&s, &mode);
	struct stream st = {.at = 0};
	unsigned seen;

	(void)state;
	assert_int_equal(read_raw(api, RAW_SIZE, 10, 10, 0), -EOPNOTSUPP);
	seen = server_seen(&s);
	/* Remembered, but a whole file is fine. */
	assert_int_equal(read_raw(api, RAW_SIZE, 10, 10, 0), -EOPNOTSUPP);
	assert_int_equal(server_seen(&s), seen);
	assert_int_equal(read_raw(api, RAW_SIZE, 0, RAW_SIZE, RAW_SIZE), 0);
	assert_int_equal(
	    api_stream_raw(api, "/tmp/x", RAW_SIZE, stream_sink, &st), 0);
	assert_int_equal(st.at, RAW_SIZE);
	for (unsigned i = 0; i < RAW_SIZE; i++)
		assert_int_equal(st.data[i], raw_byte(i));
	assert_int_equal(
	    api_stream_raw(api, "/tmp/x", RAW_SIZE - 1, stream_sink, &st),
	    -EAGAIN);
	st = (struct stream){.result = -ENOSPC};
	assert_int_equal(
	    api_stream_raw(api, "/tmp/x", RAW_SIZE, stream_sink, &st), -ENOSPC);
	stop(api, &s);
}

static void
test_broken_stream_begins_anew(void **state)
{
	enum raw_mode mode = RAW_CUT;
	struct server s;
	struct api *api = open_raw(&s, &mode);
	struct stream st = {.at = 0};

	(void)state;
	assert_int_equal(
	    api_stream_raw(api, "/tmp/x", RAW_SIZE, stream_sink, &st), 0);
	assert_int_equal(st.at, RAW_SIZE);
	for (unsigned i = 0; i < RAW_SIZE; i++)
		assert_int_equal(st.data[i], raw_byte(i));
	stop(api, &s);
}

static void
test_raw_endpoint_is_off(void **state)
{
	static enum raw_mode modes[] = {RAW_MISSING, RAW_REDIRECT};
	struct server s;
	struct api *api;
	unsigned seen;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		api = open_raw(&s, &modes[i]);
		for (int n = 0; n < 3; n++)
			assert_int_equal(
			    read_raw(api, RAW_SIZE, 0, 10, 0), -EOPNOTSUPP);
		seen = server_seen(&s);
		assert_int_equal(
		    read_raw(api, RAW_SIZE, 0, 10, 0), -EOPNOTSUPP);
		assert_int_equal(server_seen(&s), seen);
		stop(api, &s);
	}
}

static bool
serve_refused(struct server *s, const struct server_request *r)
{
	(void)s;
	return reply_error(r->fd, 401, "unauthorized");
}

static void
test_refused_key(void **state)
{
	struct server s;
	struct api *api = open_api(&s, serve_refused, 5000, true);
	struct api_answer a;
	char detail[256];

	(void)state;
	assert_int_equal(run(api, API_META, &a), -EACCES);
	assert_null(strstr(a.detail, "rk_test"));
	api_answer_free(&a);
	assert_int_equal(read_file(api, "/x", 3, ""), -EACCES);
	assert_int_equal(api_create(api, detail), -EACCES);
	assert_int_equal(server_seen(&s), 3);
	stop(api, &s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_command),
	    cmocka_unit_test(test_command_must_be_text),
	    cmocka_unit_test(test_internal_commands_are_repeated),
	    cmocka_unit_test(test_user_command_is_sent_once),
	    cmocka_unit_test(test_user_command_waits_for_a_listener),
	    cmocka_unit_test(test_all_wait_after_a_429),
	    cmocka_unit_test(test_too_long_a_pause_is_an_error),
	    cmocka_unit_test(test_shutdown_ends_all_waits),
	    cmocka_unit_test(test_instance_is_created),
	    cmocka_unit_test(test_instance_is_not_created_unasked),
	    cmocka_unit_test(test_a_working_command_means_ready),
	    cmocka_unit_test(test_a_starting_instance_is_waited_for),
	    cmocka_unit_test(test_a_limit_of_the_body_is_found),
	    cmocka_unit_test(test_size_of_a_body),
	    cmocka_unit_test(test_an_output_that_is_too_long_is_cut),
	    cmocka_unit_test(test_replaced_instance),
	    cmocka_unit_test(test_late_answer_of_the_old_instance),
	    cmocka_unit_test(test_form_of_the_wildcard_is_found),
	    cmocka_unit_test(test_no_form_works),
	    cmocka_unit_test(test_content_by_size),
	    cmocka_unit_test(test_file_of_an_expired_instance),
	    cmocka_unit_test(test_raw_ranges),
	    cmocka_unit_test(test_raw_without_ranges),
	    cmocka_unit_test(test_broken_stream_begins_anew),
	    cmocka_unit_test(test_raw_endpoint_is_off),
	    cmocka_unit_test(test_refused_key),
	};

	return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
