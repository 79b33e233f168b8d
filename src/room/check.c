#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "room/room_check.h"
#include "room/room_impl.h"

/* Longer outputs than this are seen to be whole by their end mark anyway. */
#define CHECK_OUTPUT 200000

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int
compare_numbers(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

/* Run a command that is to succeed; what it printed is *a's. */
static int
run(struct room *r, const char *command, struct api_answer *a)
{
	int error;

	error = api_command(r->api, API_META, command, strlen(command), a);
	return error == 0 && a->exit_code != 0 ? -EIO : error;
}

/* The least that can be asked, several times, and what time it is there. */
static void
measure(struct room *r, struct room_check *c)
{
	unsigned us[ROOM_CHECK_TIMES], n = 0, i;
	struct api_answer a;
	uint64_t began;
	time_t before;
	long long there;
	char *end;

	for (i = 0; i < ROOM_CHECK_TIMES; i++) {
		before = time(NULL);
		began = now_us();
		if (run(r, "date +%s", &a) == 0) {
			us[n++] = (unsigned)(now_us() - began);
			there = strtoll(a.output, &end, 10);
			if (end != a.output && there > 0) {
				c->has_clock = true;
				c->clock_s = there - before;
			}
		}
		api_answer_free(&a);
	}
	if ((c->times = n) == 0)
		return;
	qsort(us, n, sizeof *us, compare_numbers);
	c->min_us = us[0];
	c->median_us = us[n / 2];
}

/* One file of known contents by each way there is. */
static void
read_back(struct room *r, const char *path, const char *want, size_t size,
    struct room_check *c, int *file)
{
	void *data = NULL;
	size_t len;

	*file = api_read_file(r->api, path, size, &data, &len);
	if (*file == 0 && memcmp(data, want, size) != 0)
		*file = -EAGAIN;
	free(data);
	c->file_form = api_file_form(r->api);
}

struct sunk {
	char bytes[32];
	uint64_t len;
};

static int
sink(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct sunk *s = arg;

	if (offset + len > sizeof s->bytes)
		return -EFBIG;
	memcpy(s->bytes + offset, data, len);
	s->len = offset + len;
	return 0;
}

static void
try_raw(struct room *r, const char *path, const char *want, size_t size,
    struct room_check *c)
{
	struct sunk s = {.len = 0};
	char part[4];
	size_t got;

	c->raw = api_stream_raw(r->api, path, size, sink, &s);
	if (c->raw == 0 && (s.len != size || memcmp(s.bytes, want, size) != 0))
		c->raw = -EAGAIN;
	c->raw_range =
	    api_read_raw(r->api, path, size, 1, sizeof part, part, &got);
	if (c->raw_range == 0 &&
	    (got != sizeof part || memcmp(part, want + 1, got) != 0))
		c->raw_range = -EAGAIN;
}

/* Two small files in /tmp, a text and one that is none. */
static void
try_files(struct room *r, struct room_check *c)
{
	static const char text[] = "gentilityfs looks\n";
	static const char binary[] = "\xff\xfe\0\1\x80\n";
	char nonce[17], stem[64], path[80], command[512];
	struct api_answer a;

	room_nonce(nonce);
	snprintf(stem, sizeof stem, "/tmp/.gentilityfs-%s", nonce);
	snprintf(command, sizeof command,
	    "printf 'gentilityfs looks\\n' >%s.txt && "
	    "printf '\\377\\376\\000\\001\\200\\n' >%s.bin",
	    stem, stem);
	c->tmp = run(r, command, &a);
	api_answer_free(&a);
	if (c->tmp == 0) {
		snprintf(path, sizeof path, "%s.txt", stem);
		read_back(r, path, text, sizeof text - 1, c, &c->file_text);
		snprintf(path, sizeof path, "%s.bin", stem);
		read_back(
		    r, path, binary, sizeof binary - 1, c, &c->file_binary);
		try_raw(r, path, binary, sizeof binary - 1, c);
		c->file_form = api_file_form(r->api);
	}
	snprintf(command, sizeof command, "rm -f %s.txt %s.bin", stem, stem);
	run(r, command, &a);
	api_answer_free(&a);
}

/* How long may a command be?  Those that are refused are tried shorter. */
static void
try_commands(struct room *r, struct room_check *c)
{
	struct api_answer a;
	size_t len = SCRIPT_MAX;
	char *command;

	if ((command = malloc(len + 1)) == NULL)
		return;
	memset(command, 'x', len);
	memcpy(command, ": ", 2);
	do {
		command[len] = '\0';
		c->command_max = len;
		c->long_command = run(r, command, &a);
		api_answer_free(&a);
		len = len * 2 / 3;
	} while (c->long_command == -E2BIG);
	free(command);
}

static void
try_lengths(struct room *r, struct room_check *c)
{
	struct api_answer a;
	char text[128];

	try_commands(r, c);
	c->output_tried = CHECK_OUTPUT;
	snprintf(text, sizeof text, "head -c %d /dev/zero | tr '\\000' x",
	    CHECK_OUTPUT);
	if (run(r, text, &a) == 0 && a.len < CHECK_OUTPUT)
		c->output_cut = a.len;
	api_answer_free(&a);
}

/* Where the VM keeps the programs of a mount, or would. */
static void
find_toolkit(struct room *r, struct room_check *c)
{
	struct api_answer a = {0};
	char nonce[17], *command, place[SCRIPT_PLACE_MAX];
	size_t len;

	room_nonce(nonce);
	if ((command = script_find_toolkit(nonce, &len)) == NULL)
		return;
	if (run(r, command, &a) == 0 &&
	    script_toolkit_place(a.output, a.len, nonce, place))
		c->toolkit = strdup(place);
	api_answer_free(&a);
	free(command);
}

static int
take_probe(struct room *r, struct room_check *c)
{
	const struct probe *p = room_probe(r);
	const char *semicolon = strchr(p->system, ';');

	c->has_vm = true;
	c->uid = p->uid;
	c->gid = p->gid;
	c->gnu = p->gnu;
	c->whole_seconds = p->whole_seconds;
	room_instance(r, c->instance);
	c->user = strdup(p->user);
	c->home = strdup(p->home);
	c->cwd = strdup(p->cwd);
	c->tools = strdup(p->have);
	c->uname = strndup(p->system,
	    semicolon == NULL ? strlen(p->system)
			      : (size_t)(semicolon - p->system));
	if (r->root != NULL)
		c->root = strdup(r->root);
	return c->user == NULL || c->home == NULL || c->cwd == NULL ||
		c->tools == NULL || c->uname == NULL
	    ? -ENOMEM
	    : 0;
}

int
room_check(const struct room_config *config, struct room_check *c)
{
	struct room_config harmless = *config;
	struct api_contact contact;
	struct room *r;
	int error = 0;

	*c = (struct room_check){.tmp = -ENODATA,
	    .file_text = -ENODATA,
	    .file_binary = -ENODATA,
	    .raw = -ENODATA,
	    .raw_range = -ENODATA,
	    .long_command = -ENODATA};
	harmless.leave_nothing = true;
	if ((c->error = room_begin(&r, &harmless, c->detail)) != 0)
		return c->error == -ENOMEM ? -ENOMEM : 0;
	c->error = room_find_root(r, c->detail);
	if (c->error == 0)
		c->detail[0] = '\0';
	c->reached = api_last_contact(r->api) != 0;
	if (r->probes != NULL) {
		error = take_probe(r, c);
		find_toolkit(r, c);
		measure(r, c);
		try_files(r, c);
		try_lengths(r, c);
	}
	api_get_contact(r->api, &contact);
	memcpy(c->address, contact.address, sizeof c->address);
	c->name_us = contact.name_us;
	c->connect_us = contact.connect_us;
	c->tls_us = contact.tls_us;
	room_close(r);
	return error;
}

void
room_check_free(struct room_check *c)
{
	free(c->user);
	free(c->home);
	free(c->cwd);
	free(c->root);
	free(c->uname);
	free(c->tools);
	free(c->toolkit);
	*c = (struct room_check){0};
}
