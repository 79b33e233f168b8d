#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "script/script.h"
#include "script/command.h"
#include "script/toolkit.h"
#include "script/vm_scripts.h"

void
command_add(struct command *c, const char *text)
{
	size_t n = strlen(text);
	char *p;

	if (c->text == NULL)
		return;
	if (c->len + n >= c->size) {
		c->size = (c->len + n) * 2 + 1;
		if ((p = realloc(c->text, c->size)) == NULL) {
			command_fail(c, ENOMEM);
			return;
		}
		c->text = p;
	}
	memcpy(c->text + c->len, text, n + 1);
	c->len += n;
}

void
command_fail(struct command *c, int error)
{
	if (c->text != NULL)
		c->error = error;
	free(c->text);
	c->text = NULL;
}

void
command_addf(struct command *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	command_add(c, line);
}

void
command_add_quoted(struct command *c, const char *text)
{
	char *quoted = script_quote(text);

	if (quoted == NULL) {
		command_fail(c, ENOMEM);
		return;
	}
	command_add(c, quoted);
	free(quoted);
}

static bool
nonce_valid(const char *nonce)
{
	return nonce[0] != '\0' && strlen(nonce) <= 64 &&
	    strspn(nonce, "0123456789abcdef") == strlen(nonce);
}

void
command_begin(struct command *c, const char *nonce)
{
	c->len = 0;
	c->deep = false;
	c->size = 8192;
	c->error = ENOMEM;
	c->text = nonce_valid(nonce) ? malloc(c->size) : NULL;
	command_add(c, "");
}

void
command_start(struct command *c, const char *nonce)
{
	command_begin(c, nonce);
	command_add(c, vm_prelude);
}

/* The text for the tools that there are; for each kind, by a test. */
static void
command_add_for_tools(struct command *c, enum script_tools tools,
    const char *gnu, const char *busybox)
{
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		command_add(c,
		    "if [ \"$(find / -maxdepth 0 -printf x)\" = x ]"
		    "\nthen\n");
	if (tools != SCRIPT_TOOLS_BUSYBOX)
		command_add(c, gnu);
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		command_add(c, "else\n");
	if (tools != SCRIPT_TOOLS_GNU)
		command_add(c, busybox);
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		command_add(c, "fi\n");
}

void
command_add_records(struct command *c, enum script_tools tools)
{
	command_add_for_tools(c, tools, vm_record_gnu, vm_record_busybox);
}

void
command_add_frame(struct command *c)
{
	command_add(c, vm_frame);
}

char *
command_end(struct command *c, size_t *len)
{
	size_t programs = c->text == NULL ? 0 : script_programs_size(c->text);

	/* With the toolkit it does not carry these. */
	if (c->len - programs > SCRIPT_MAX - SCRIPT_LOAD_MAX)
		command_fail(c, ENAMETOOLONG);
	*len = c->len;
	if (c->text == NULL)
		errno = c->error;
	return c->text;
}

/*
 * Write the quoted form of text to out (when it is not NULL); its length.
 * $(...) removes newlines at the end of what is printed, but only bytes that
 * are not UTF-8 are ever written that way.
 */
static size_t
quote(const char *text, char *out)
{
	static const char end[] = "'", escaped[] = "'\\''",
			  open_raw[] = "'\"$(printf '", close_raw[] = "')\"'";
	const char *s = text, *text_end = s + strlen(s);
	char octal[5];
	bool raw = false;
	size_t len = 0, n;

#define PUT(bytes, count)                                \
	do {                                             \
		if (out != NULL)                         \
			memcpy(out + len, bytes, count); \
		len += count;                            \
	} while (0)
	PUT(end, 1);
	while (*s != '\0') {
		n = utf8_length(s, (size_t)(text_end - s));
		if (raw != (n == 0)) {
			raw = !raw;
			if (raw)
				PUT(open_raw, sizeof(open_raw) - 1);
			else
				PUT(close_raw, sizeof(close_raw) - 1);
		}
		if (raw) {
			snprintf(octal, sizeof(octal), "\\%03o",
			    (unsigned char)*s++);
			PUT(octal, 4);
			continue;
		}
		if (*s == '\'')
			PUT(escaped, 4);
		else
			PUT(s, n);
		s += n;
	}
	if (raw)
		PUT(close_raw, sizeof(close_raw) - 1);
	PUT(end, 1);
#undef PUT
	return len;
}

char *
script_quote(const char *text)
{
	size_t len = quote(text, NULL);
	char *out;

	if ((out = malloc(len + 1)) == NULL)
		return NULL;
	quote(text, out);
	out[len] = '\0';
	return out;
}

/* "list_tree 4294967295 4294967295 " and the newline, with room to spare. */
size_t
script_item_size(const struct script_item *item)
{
	size_t n = quote(item->path, NULL) + 40;

	if (command_is_deep(item->path))
		n += sizeof(vm_deep) + 64;
	return n;
}

size_t
script_base_size(enum script_tools tools)
{
	size_t n =
	    sizeof(vm_prelude) + sizeof(vm_frame) + sizeof(vm_list) + 224;

	if (tools != SCRIPT_TOOLS_BUSYBOX)
		n += sizeof(vm_record_gnu) + sizeof(vm_list_gnu);
	if (tools != SCRIPT_TOOLS_GNU)
		n += sizeof(vm_record_busybox) + sizeof(vm_list_busybox);
	if (tools == SCRIPT_TOOLS_UNKNOWN)
		n += sizeof(vm_probe);
	return n;
}

/* The call for items of this op that come one after another; NULL: each has
 * its own. */
static const char *
call_for_many(enum script_op op)
{
	return op == SCRIPT_STAT     ? "stat_many"
	    : op == SCRIPT_LIST_ALSO ? "list_many"
				     : NULL;
}

static void
command_add_items(struct command *c, const struct script_item *items, size_t n)
{
	const char *many;
	size_t i;

	for (i = 0; i < n; i++) {
		many = call_for_many(items[i].op);
		if (i > 0 && (many == NULL || items[i].op != items[i - 1].op))
			command_add(c, "\n");
		if (many == NULL)
			command_open_deep(c, 8, items[i].path);
		if (items[i].op == SCRIPT_LIST)
			command_addf(c, "list_tree %zu %u", i, items[i].bound);
		else if (items[i].op == SCRIPT_STATFS)
			command_addf(c, "stat_fs %zu", i);
		else if (i == 0 || items[i].op != items[i - 1].op)
			command_addf(c, "%s %zu", many, i);
		command_add(c, " ");
		if (many == NULL)
			command_add_path(c, 8, items[i].path);
		else /* the path itself stands in the answer */
			command_add_quoted(c, items[i].path);
	}
	command_add(c, "\n");
}

/*
 * Is the answer too short for gzip to be worth a process?  Of a listing nobody
 * knows.
 */
static bool
is_small(const struct script_item *items, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (items[i].op != SCRIPT_STAT && items[i].op != SCRIPT_STATFS)
			return false;
	return n <= 8;
}

static char *
compose(enum script_tools tools, bool probe, const char *nonce,
    const struct script_item *items, size_t n, size_t *len)
{
	struct command c;

	command_start(&c, nonce);
	command_add_frame(&c);
	command_add_records(&c, tools);
	command_add_for_tools(&c, tools, vm_list_gnu, vm_list_busybox);
	command_add(&c, vm_list);
	if (probe)
		command_add(&c, vm_probe);
	command_add(&c, probe ? "calls() {\nprobe\n" : "calls() {\n:\n");
	command_add_items(&c, items, n);
	command_addf(&c, "}\nanswer %s%s\n", nonce,
	    !probe && is_small(items, n) ? " s" : "");
	return command_end(&c, len);
}

char *
script_compose(enum script_tools tools, const char *nonce,
    const struct script_item *items, size_t n, size_t *len)
{
	return compose(tools, false, nonce, items, n, len);
}

char *
script_compose_probe(
    const char *nonce, const struct script_item *items, size_t n, size_t *len)
{
	return compose(SCRIPT_TOOLS_UNKNOWN, true, nonce, items, n, len);
}

char *
script_compose_read(enum script_tools tools, const char *nonce,
    const char *path, uint64_t offset, uint64_t len, bool lend, size_t *out_len)
{
	struct command c;

	command_start(&c, nonce);
	command_add_frame(&c);
	command_add_records(&c, tools);
	command_add(&c, vm_read);
	command_add(&c, "calls() {\n");
	command_open_deep(&c, 8, path);
	command_add(&c, "read_part ");
	command_add_path(&c, 8, path);
	if (len == UINT64_MAX)
		command_add(&c, " 0 all");
	else
		command_addf(&c, " %" PRIu64 " %" PRIu64, offset, len);
	command_addf(&c, " %d", lend);
	command_addf(&c, "\n}\nanswer %s%s\n", nonce, len <= 4096 ? " s" : "");
	return command_end(&c, out_len);
}

char *
script_compose_stage(const char *command, const char *nonce, size_t *len)
{
	struct command c;

	command_start(&c, nonce);
	command_add_frame(&c);
	command_add(&c, vm_stage);
	/* A subshell: the command may change whatever it likes. */
	command_add(&c, "kept_command() (\n");
	command_add(&c, command);
	command_addf(&c, "\n)\ncalls() {\nkeep_output %s\n}\nanswer %s s\n",
	    nonce, nonce);
	return command_end(&c, len);
}

char *
script_compose_piece(
    const char *nonce, uint64_t offset, uint64_t len, int last, size_t *out_len)
{
	struct command c;

	command_start(&c, nonce);
	command_add_frame(&c);
	command_add(&c, vm_stage);
	command_addf(&c,
	    "calls() {\nprint_part %s %" PRIu64 " %" PRIu64
	    " %d\n}\nanswer %s\n",
	    nonce, offset, len, last != 0, nonce);
	return command_end(&c, out_len);
}
