#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/base64.h"
#include "script/command.h"
#include "script/toolkit.h"
#include "script/vm_scripts.h"

/* The line at which a command's calls begin. */
#define CALLS "calls() {\n"

static struct {
	pthread_once_t once;
	char *text;
	char *packed; /* gzip, then base64 */
	char hash[65];
} toolkit = {.once = PTHREAD_ONCE_INIT};

static void
toolkit_pack(size_t len)
{
	z_stream z = {
	    .next_in = (unsigned char *)toolkit.text, .avail_in = (uInt)len};
	unsigned char *out = malloc(len);

	if (out == NULL ||
	    deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) !=
		Z_OK)
		goto out;
	z.next_out = out;
	z.avail_out = (uInt)len;
	if (deflate(&z, Z_FINISH) == Z_STREAM_END)
		toolkit.packed = base64_encode(out, z.total_out, &len);
	deflateEnd(&z);
out:
	free(out);
}

/*
 * The functions that begin with the work are in the last two files: without its
 * end, should a full disk or a crash have taken that, the toolkit does nothing.
 */
static void
toolkit_make(void)
{
	static const char find_kind[] =
	    "[ -n \"$kind\" ] || "
	    "if [ \"$(find / -maxdepth 0 -printf x)\" = x ]\n"
	    "then\nkind=G\nelse\nkind=B\nfi\n"
	    "if [ \"$kind\" = G ]\nthen\n";
	static const char *const parts[] = {vm_prelude, find_kind,
	    vm_record_gnu, vm_list_gnu, "else\n", vm_record_busybox,
	    vm_list_busybox, "fi\n", vm_list, vm_probe, vm_read, vm_bulk,
	    vm_name, vm_socket, vm_attr, vm_piece, vm_evidence, vm_write,
	    vm_commit, vm_range, vm_keep, vm_frame, vm_change};
	size_t i, size = 1;
	char *end;

	for (i = 0; i < sizeof parts / sizeof *parts; i++)
		size += strlen(parts[i]);
	if ((toolkit.text = end = malloc(size)) == NULL)
		return;
	for (i = 0; i < sizeof parts / sizeof *parts; i++)
		end = stpcpy(end, parts[i]);
	/* As the shell's $(cat) gives it back. */
	while (end > toolkit.text && end[-1] == '\n')
		*--end = '\0';
	script_sha256(toolkit.text, (size_t)(end - toolkit.text), toolkit.hash);
	toolkit_pack((size_t)(end - toolkit.text));
}

const char *
script_toolkit(const char **hash)
{
	pthread_once(&toolkit.once, toolkit_make);
	*hash = toolkit.hash;
	return toolkit.text;
}

size_t
script_programs_size(const char *command)
{
	const char *calls = strstr(command, "\n" CALLS);

	return calls == NULL ? 0 : (size_t)(calls + 1 - command);
}

static void
add_tools(struct command *c, enum script_tools tools)
{
	command_add(c,
	    tools == SCRIPT_TOOLS_GNU		? "kind=G "
		: tools == SCRIPT_TOOLS_BUSYBOX ? "kind=B "
						: "kind= ");
}

/* What can be sent only as it is. */
static char *
whole_end(struct command *c, size_t *len)
{
	if (c->len > SCRIPT_MAX)
		command_fail(c, ENAMETOOLONG);
	*len = c->len;
	return c->text;
}

char *
script_with_toolkit(const char *command, enum script_tools tools,
    const char *nonce, const char *place, size_t *len)
{
	struct command c;

	command_begin(&c, nonce);
	add_tools(&c, tools);
	command_addf(&c, "nonce=%s toolkit=", nonce);
	command_add_quoted(&c, place);
	command_add(&c, "\n");
	command_add(&c, vm_load);
	command_add(&c, command + script_programs_size(command));
	return whole_end(&c, len);
}

/* Set k to the text. */
static void
add_text(struct command *c, bool plain)
{
	const char *text = toolkit.text;

	if (text == NULL || (!plain && toolkit.packed == NULL)) {
		command_fail(c, ENOMEM);
		return;
	}
	if (plain) {
		command_add(c, "toolkit=");
		command_add_quoted(c, text);
		command_add(c, "\n");
		return;
	}
	command_add(c, "toolkit=$(printf %s '");
	command_add(c, toolkit.packed);
	command_addf(
	    c, "' | base64 -d | gzip -dc)\nlength=%zu\n", strlen(text));
	command_add(c, vm_unpacked);
}

char *
script_store_toolkit(const char *command, enum script_tools tools,
    const char *nonce, unsigned flags, size_t *len)
{
	const char *hash;
	struct command c;

	script_toolkit(&hash);
	command_begin(&c, nonce);
	add_tools(&c, tools);
	command_addf(&c, "nonce=%s\n", nonce);
	add_text(&c, (flags & SCRIPT_STORE_PLAIN) != 0);
	command_addf(&c,
	    "eval \"$toolkit\"\nkeep_toolkit %s %s \"$toolkit\"%s\n", nonce,
	    hash, (flags & SCRIPT_STORE_CLEAN) != 0 ? " c" : "");
	command_add(&c, command + script_programs_size(command));
	return whole_end(&c, len);
}

char *
script_find_toolkit(const char *nonce, size_t *len)
{
	const char *hash;
	struct command c;

	script_toolkit(&hash);
	command_start(&c, nonce);
	command_add(&c, vm_evidence);
	command_add(&c, vm_keep);
	command_addf(&c, "find_toolkit %s %s\n", nonce, hash);
	return command_end(&c, len);
}

/* What follows the mark with the nonce; NULL: it is not there. */
static const char *
find_mark(const char *output, size_t len, const char *mark, const char *nonce)
{
	char line[128];
	const char *at;
	int n;

	n = snprintf(line, sizeof line, "<gfs-%s %s", mark, nonce);
	if (output == NULL || n < 0 || (size_t)n >= sizeof line)
		return NULL;
	at = memmem(output, len, line, (size_t)n);
	/* On a line of its own. */
	return at == NULL || (at > output && at[-1] != '\n') ? NULL : at + n;
}

bool
script_toolkit_missed(const char *output, size_t len, const char *nonce)
{
	const char *p = find_mark(output, len, "none", nonce);

	return p != NULL && p < output + len && *p == '>';
}

bool
script_toolkit_place(const char *output, size_t len, const char *nonce,
    char place[SCRIPT_PLACE_MAX])
{
	const char *p = find_mark(output, len, "kept", nonce), *end;
	size_t n;

	place[0] = '\0';
	if (p == NULL || p == output + len || *p++ != ' ' ||
	    (end = memchr(p, '>', (size_t)(output + len - p))) == NULL)
		return false;
	n = (size_t)(end - p);
	if (n == 0 || n >= SCRIPT_PLACE_MAX || *p != '/' ||
	    memchr(p, '\0', n) != NULL)
		return true;
	memcpy(place, p, n);
	place[n] = '\0';
	return true;
}
