#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/check.h"
#include "base/json_text.h"
#include "base/stats_text.h"
#include "cli/key.h"
#include "base/log.h"
#include "cli/mountpoint.h"
#include "room/room_check.h"

enum {
	CHECK_SLOW_US = 300000, /* a request; worth a word from there on */
	CHECK_CLOCK_S = 2, /* what clocks may differ by */
	CHECK_COMMAND = 96 << 10 /* a command that nobody need be shorter for */
};

enum verdict {
	VERDICT_OK,
	VERDICT_NOTE, /* works, but slower or with a limit */
	VERDICT_FAIL /* does not work */
};

struct finding {
	enum verdict verdict;
	const char *name;
	char text[OPTIONS_DETAIL];
};

struct report {
	const struct options *options;
	const struct room_check *check; /* NULL: not done */
	struct finding findings[32];
	size_t count, failures, notes;
};

static void say(struct report *, enum verdict, const char *name,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void
say(struct report *r, enum verdict verdict, const char *name, const char *fmt,
    ...)
{
	struct finding *f = &r->findings[r->count];
	va_list ap;
	char *c;

	if (r->count == sizeof r->findings / sizeof *r->findings)
		return;
	f->verdict = verdict;
	f->name = name;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	/* A name from outside must not steer the terminal. */
	for (c = f->text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	r->count++;
	r->failures += verdict == VERDICT_FAIL;
	r->notes += verdict == VERDICT_NOTE;
}

/* --- this machine ----------------------------------------------------------
 */

static int
look_at_key(struct report *r, struct options *o)
{
	char detail[OPTIONS_DETAIL];
	struct stat st;

	if (key_load(o->key_file, &o->key, &o->key_from, detail,
		sizeof detail) != 0) {
		say(r, VERDICT_FAIL, "key", "%s", detail);
		return -EACCES;
	}
	if (o->key_from[0] == '/' && stat(o->key_from, &st) == 0)
		say(r, VERDICT_OK, "key", "found in %s (mode %04o)",
		    o->key_from, (unsigned)st.st_mode & 07777);
	else
		say(r, VERDICT_OK, "key", "found in %s", o->key_from);
	return 0;
}

/* Could the directory be written, or made? */
static bool
can_write(const char *dir)
{
	char *path = strdup(dir), *slash;
	bool can = false;

	while (path != NULL) {
		if (access(path, F_OK) == 0) {
			can = access(path, W_OK | X_OK) == 0;
			break;
		}
		if ((slash = strrchr(path, '/')) == NULL || slash == path)
			break;
		*slash = '\0';
	}
	free(path);
	return can;
}

static void
look_at_machine(struct report *r)
{
	const struct options *o = r->options;
	char detail[OPTIONS_DETAIL], size[16];

	if (mountpoint_check_fuse(detail) != 0)
		say(r, VERDICT_FAIL, "fuse", "%s", detail);
	else
		say(r, VERDICT_OK, "fuse", "/dev/fuse can be used");
	if (can_write(o->cache_dir))
		say(r, VERDICT_OK, "cache", "%s, at most %s", o->cache_dir,
		    stats_bytes(size, o->cache_size));
	else
		say(r, VERDICT_NOTE, "cache",
		    "%s cannot be written: contents are not kept, and unsent "
		    "ones are lost with a crash; choose another directory "
		    "with -o cache_dir=DIR",
		    o->cache_dir);
}

/* --- the way to the room ---------------------------------------------------
 */

/* Which line a failure of the first contact belongs to. */
static const char *
blame(const struct room_check *c)
{
	switch (c->error) {
	case -EACCES:
		return c->has_vm ? "path" : "key";
	case -EKEYREJECTED:
		return "tls";
	case -ENODEV:
		return "room";
	case -ENOTSUP:
		return "tools";
	}
	return c->has_vm ? "path" : "service";
}

static void
look_at_way(struct report *r)
{
	const struct options *o = r->options;
	const struct room_check *c = r->check;
	bool tls = strncasecmp(o->url, "https:", 6) == 0;
	const char *failed = c->error != 0 ? blame(c) : "";

	/* What does not speak the API is not the service. */
	if (c->reached && strcmp(failed, "service") != 0 &&
	    c->address[0] != '\0')
		say(r, VERDICT_OK, "service",
		    "%s answers (%s; name %.1f ms, connection %.1f ms)", o->url,
		    c->address, c->name_us / 1e3, c->connect_us / 1e3);
	else if (c->reached && strcmp(failed, "service") != 0)
		say(r, VERDICT_OK, "service", "%s answers", o->url);
	if (c->reached && tls)
		say(r, VERDICT_OK, "tls",
		    "the certificate is trusted; TLS 1.2 or later (handshake "
		    "%.1f ms)",
		    c->tls_us / 1e3);
	else if (c->reached && o->insecure_http)
		say(r, VERDICT_NOTE, "tls",
		    "not used: whoever is on the way can read the key and all "
		    "contents; use an https:// address");
	else if (c->reached)
		say(r, VERDICT_OK, "tls",
		    "not used, nor needed: the service is on this machine");
	if (c->error != 0)
		say(r, VERDICT_FAIL, failed, "%s",
		    c->detail[0] != '\0' ? c->detail : strerror(-c->error));
}

static void
look_at_speed(struct report *r)
{
	const struct room_check *c = r->check;

	if (c->times == 0) {
		say(r, VERDICT_NOTE, "latency",
		    "commands fail: try again in a while");
		return;
	}
	say(r, VERDICT_OK, "latency", "%.1f ms at best, %.1f ms median of %u",
	    c->min_us / 1e3, c->median_us / 1e3, c->times);
	if (c->median_us >= CHECK_SLOW_US)
		say(r, VERDICT_NOTE, "latency",
		    "slow: what asks for one thing after another, such as "
		    "rm -rf, takes %.1f s for each; run it in the room, by "
		    ".exec",
		    c->median_us / 1e6);
}

/* --- the VM ----------------------------------------------------------------
 */

static bool
has_tool(const struct room_check *c, const char *name)
{
	size_t len = strlen(name);
	const char *p;

	for (p = c->tools; (p = strstr(p, name)) != NULL; p += len)
		if ((p == c->tools || p[-1] == ' ') &&
		    (p[len] == ' ' || p[len] == '\0'))
			return true;
	return false;
}

static void
look_at_vm(struct report *r)
{
	const struct room_check *c = r->check;

	say(r, VERDICT_OK, "room", "instance %s%s%s", c->instance,
	    c->root != NULL ? "; mounted would be " : "",
	    c->root != NULL ? c->root : "");
	say(r, VERDICT_OK, "vm",
	    "%s; user %s (uid %u), home %s, commands start in %s", c->uname,
	    c->user[0] != '\0' ? c->user : "without a name", c->uid, c->home,
	    c->cwd[0] != '\0' ? c->cwd : "a directory that is gone");
	say(r, VERDICT_OK, "tools", "%s; also %s", c->gnu ? "GNU" : "busybox",
	    c->tools);
	if (c->toolkit != NULL && c->toolkit[0] == '\0')
		say(r, VERDICT_NOTE, "toolkit",
		    "the VM has no place for it that is its user's alone: each "
		    "command carries its programs, up to 10 KB; give the user "
		    "a home directory that only he can write");
	else if (c->toolkit != NULL)
		say(r, VERDICT_OK, "toolkit", "%s%s",
		    c->toolkit[strlen(c->toolkit) - 1] == '/'
			? "not there yet; a mount leaves it in "
			: "",
		    c->toolkit);
	if (!has_tool(c, "gzip"))
		say(r, VERDICT_NOTE, "tools",
		    "no gzip: listings and saved files are transferred "
		    "uncompressed; install gzip in the VM");
	if (c->whole_seconds)
		say(r, VERDICT_NOTE, "tools",
		    "no touch but busybox's, and no python3: times that "
		    "programs set, such as cp -p, are whole seconds; install "
		    "python3 in the VM");
	if (!has_tool(c, "sha256sum") && !has_tool(c, "openssl"))
		say(r, VERDICT_FAIL, "tools",
		    "neither sha256sum nor openssl: files cannot be saved; "
		    "install one of them in the VM, or mount with -o ro");
	if (c->has_clock && llabs(c->clock_s) > CHECK_CLOCK_S)
		say(r, VERDICT_NOTE, "clock",
		    "the VM's clock is %lld s %s this machine's: programs that "
		    "compare times, such as make and rsync, may err; set the "
		    "clock that is wrong",
		    llabs(c->clock_s), c->clock_s > 0 ? "before" : "behind");
}

static const char *
why(int error)
{
	switch (error) {
	case -EAGAIN:
		return "other bytes come";
	case -EOPNOTSUPP:
	case -ENOENT:
		return "not served";
	}
	return strerror(-error);
}

static void
look_at_api(struct report *r)
{
	const struct room_check *c = r->check;

	if (c->tmp != 0)
		say(r, VERDICT_NOTE, "api",
		    "/tmp of the VM cannot be written, so the endpoints for "
		    "files were not tried; commands over 96 KiB will not run");
	else if (c->file_text == 0 && c->file_binary == 0)
		say(r, VERDICT_OK, "api",
		    "file endpoint: text and base64, absolute paths as %s",
		    c->file_form != NULL ? c->file_form : "they are");
	else
		say(r, VERDICT_NOTE, "api",
		    "file endpoint: %s fails (%s): such files are read by "
		    "commands, which is a little slower",
		    c->file_text == 0	      ? "base64"
			: c->file_binary == 0 ? "text"
					      : "all",
		    why(c->file_text != 0 ? c->file_text : c->file_binary));
	if (c->tmp == 0 && c->raw_range == 0)
		say(r, VERDICT_OK, "api",
		    "raw endpoint: whole files, and parts of them (Range)");
	else if (c->tmp == 0 && c->raw == 0)
		say(r, VERDICT_NOTE, "api",
		    "raw endpoint: no parts of files (Range): those over 1 MiB "
		    "come as a whole, or in parts by commands, which is "
		    "slower");
	else if (c->tmp == 0)
		say(r, VERDICT_NOTE, "api",
		    "raw endpoint: does not work: files over 1 MiB are read "
		    "by commands, which is slower");
	if (c->long_command == 0 && c->command_max < CHECK_COMMAND)
		say(r, VERDICT_NOTE, "api",
		    "commands up to %zu KiB only: what is longer goes there in "
		    "parts, so that saving takes more requests",
		    c->command_max >> 10);
	else if (c->long_command == 0)
		say(r, VERDICT_OK, "api", "commands up to %zu KiB",
		    c->command_max >> 10);
	else if (c->long_command != -ENODATA)
		say(r, VERDICT_FAIL, "api",
		    "a command of %zu KiB fails (%s), so files that are not "
		    "small cannot be saved: mount with -o ro, or ask the "
		    "service for its limits",
		    c->command_max >> 10, why(c->long_command));
	if (c->output_cut != 0)
		say(r, VERDICT_NOTE, "api",
		    "outputs are cut after %zu bytes: large directories and "
		    "files take more requests",
		    c->output_cut);
}

/* --- the report ------------------------------------------------------------
 */

static const char *
verdict_name(enum verdict verdict)
{
	return verdict == VERDICT_OK  ? "ok"
	    : verdict == VERDICT_NOTE ? "note"
				      : "fail";
}

static void
print_lines(const struct report *r)
{
	const struct finding *f;
	size_t i;

	printf("gentilityfs --check %s\n", r->options->source);
	for (i = 0; i < r->count; i++) {
		f = &r->findings[i];
		printf("%-4s  %-8s %s\n", verdict_name(f->verdict), f->name,
		    f->text);
	}
	if (r->failures > 0)
		printf("The room cannot be used as it should: see \"fail\".\n");
	else if (r->notes > 0)
		printf("The room can be mounted; see the notes for what will "
		       "be slow or will not work.\n");
	else
		printf("The room can be mounted.\n");
}

static void
print_member(const char *name, const char *value)
{
	printf("\"%s\":", name);
	json_write_string(stdout, value);
}

/* "a b" as ["a","b"] */
static void
print_words(const char *words)
{
	const char *comma = "";
	char word[64];
	size_t len;

	putchar('[');
	for (; *words != '\0'; words += len) {
		words += strspn(words, " ");
		len = strcspn(words, " ");
		if (len == 0)
			break;
		snprintf(word, sizeof word, "%.*s", (int)len, words);
		fputs(comma, stdout);
		json_write_string(stdout, word);
		comma = ",";
	}
	putchar(']');
}

static const char *
works(int error)
{
	return error == 0 ? "true" : error == -ENODATA ? "null" : "false";
}

static void
print_vm(const struct room_check *c)
{
	printf(",\"latency_ms\":{\"count\":%u", c->times);
	if (c->times > 0)
		printf(",\"min\":%.3f,\"median\":%.3f", c->min_us / 1e3,
		    c->median_us / 1e3);
	printf("},");
	print_member("instance_id", c->instance);
	putchar(',');
	print_member("root", c->root);
	printf(",\"vm\":{");
	print_member("system", c->uname);
	putchar(',');
	print_member("user", c->user);
	printf(",\"uid\":%u,\"gid\":%u,", c->uid, c->gid);
	print_member("home", c->home);
	putchar(',');
	print_member("directory", c->cwd);
	printf(",\"kind\":\"%s\",\"tools\":", c->gnu ? "gnu" : "busybox");
	print_words(c->tools);
	putchar(',');
	print_member("toolkit", c->toolkit);
	if (c->has_clock)
		printf(",\"clock_offset_s\":%lld", (long long)c->clock_s);
	printf("},\"api\":{\"file\":{\"text\":%s,\"base64\":%s,",
	    works(c->file_text), works(c->file_binary));
	print_member("form", c->file_form);
	printf("},\"raw\":{\"whole\":%s,\"range\":%s},\"command_bytes\":",
	    works(c->raw), works(c->raw_range));
	if (c->long_command == 0)
		printf("%zu", c->command_max);
	else
		printf("null");
	printf(",\"output_cut_at\":");
	if (c->output_cut != 0)
		printf("%zu}", c->output_cut);
	else
		printf("null}");
}

static void
print_json(const struct report *r)
{
	const struct room_check *c = r->check;
	const struct finding *f;
	size_t i;

	putchar('{');
	print_member("source", r->options->source);
	putchar(',');
	print_member("url", r->options->url);
	printf(",\"ok\":%s,\"checks\":[", r->failures == 0 ? "true" : "false");
	for (i = 0; i < r->count; i++) {
		f = &r->findings[i];
		fputs(i > 0 ? ",{" : "{", stdout);
		print_member("name", f->name);
		putchar(',');
		print_member("result", verdict_name(f->verdict));
		putchar(',');
		print_member("text", f->text);
		putchar('}');
	}
	printf("],\"key_from\":");
	json_write_string(stdout, r->options->key_from);
	if (c != NULL) {
		printf(",\"reached\":%s", c->reached ? "true" : "false");
		printf(",\"tls\":%s",
		    strncasecmp(r->options->url, "https:", 6) == 0 ? "true"
								   : "false");
		if (c->address[0] != '\0') {
			putchar(',');
			print_member("address", c->address);
			printf(",\"connection_ms\":{\"name\":%.3f,"
			       "\"connect\":%.3f,\"tls\":%.3f}",
			    c->name_us / 1e3, c->connect_us / 1e3,
			    c->tls_us / 1e3);
		}
		if (c->has_vm)
			print_vm(c);
	}
	printf("}\n");
}

int
check_run(struct options *o, struct room_config *config)
{
	struct report r = {.options = o};
	struct room_check c;
	bool done = false;

	if (!o->debug)
		log_silence();
	if (look_at_key(&r, o) == 0) {
		config->key = o->key;
		if (room_check(config, &c) == 0) {
			done = true;
			r.check = &c;
		} else
			say(&r, VERDICT_FAIL, "memory", "%s", strerror(ENOMEM));
		config->key = NULL;
	}
	look_at_machine(&r);
	if (done) {
		look_at_way(&r);
		if (c.has_vm) {
			look_at_vm(&r);
			look_at_speed(&r);
			look_at_api(&r);
		}
	}
	if (o->json)
		print_json(&r);
	else
		print_lines(&r);
	if (done)
		room_check_free(&c);
	return r.failures == 0 ? 0 : EXIT_FAILURE;
}
