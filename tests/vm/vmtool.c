/*
 * Compose commands for the VM and take answers apart, for the tests here.
 *	vmtool quote TEXT
 *	vmtool compose|probe TOOLS NONCE ITEM...
 *	vmtool parse|parse-probe NONCE ITEM... <output
 *	vmtool read TOOLS NONCE PATH OFFSET LENGTH|all
 *	vmtool parse-read NONCE <output
 *	vmtool stage NONCE <command
 *	vmtool piece NONCE OFFSET LENGTH LAST
 *	vmtool unwrap NONCE <output
 *	vmtool change TOOLS NONCE OP KEY=VALUE... <data
 *	vmtool parse-change NONCE OP KEY=VALUE... <output
 *	vmtool toolkit text|hash
 *	vmtool find NONCE
 *	vmtool place NONCE <output
 *	vmtool carry-head NONCE
 *	vmtool carry-part NONCE PART <bytes
 *	vmtool carry-join NONCE LENGTH RUN
 * TOOLS: unknown, gnu or busybox.  ITEM: list BOUND PATH, also PATH, stat PATH,
 * statfs PATH.  Answers are printed as JSON, with names and data in
 * hexadecimal.  $VMTOOL_FORM: see put_in_form().  Exit: 0, 1 when composing
 * failed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/carry.h"
#include "script/listing.h"
#include "script/script.h"
#include "script/toolkit.h"

#define MAX_PAYLOAD (1UL << 30)

static char *
slurp(size_t *len)
{
	size_t size = 65536, n;
	char *buf = malloc(size);

	*len = 0;
	while (buf != NULL &&
	    (n = fread(buf + *len, 1, size - *len - 1, stdin)) > 0) {
		*len += n;
		if (size - *len < 2)
			buf = realloc(buf, size *= 2);
	}
	if (buf == NULL)
		abort();
	buf[*len] = '\0';
	/* Exactly as long as it is, so that asan sees reads past its end. */
	return realloc(buf, *len + 1);
}

static void
print_hex(const char *key, const char *data, size_t len)
{
	size_t i;

	printf("\"%s\": \"", key);
	for (i = 0; i < len; i++)
		printf("%02x", (unsigned char)data[i]);
	printf("\"");
}

static void
print_attr(const char *key, const struct attr *a)
{
	printf("\"%s\": {\"mode\": %" PRIu32 ", \"nlink\": %" PRIu32
	       ", \"uid\": %" PRIu32 ", \"gid\": %" PRIu32
	       ", \"size\": %" PRIu64 ", \"blocks\": %" PRIu64
	       ", \"ino\": %" PRIu64 ", \"dev\": %" PRIu64
	       ", \"atime\": %" PRId64 ", \"mtime\": %" PRId64
	       ", \"ctime\": %" PRId64 "}",
	    key, a->mode, a->nlink, a->uid, a->gid, a->size, a->blocks, a->ino,
	    a->dev, a->atime, a->mtime, a->ctime);
}

static void
print_entry(const struct entry *e)
{
	printf("{");
	print_hex("name", e->name, strlen(e->name));
	printf(", ");
	if (e->target != NULL) {
		print_hex("target", e->target, strlen(e->target));
		printf(", ");
	}
	print_attr("attr", &e->attr);
	printf("}");
}

static void
print_reply(const struct reply *r)
{
	size_t i, j;

	printf("{\"error\": %d, \"listings\": [", r->error);
	for (i = 0; i < r->nlistings; i++) {
		printf("%s{", i > 0 ? ", " : "");
		print_hex(
		    "path", r->listings[i].path, strlen(r->listings[i].path));
		printf(", ");
		print_attr("self", &r->listings[i].self);
		printf(", \"entries\": [");
		for (j = 0; j < r->listings[i].count; j++) {
			printf("%s", j > 0 ? ",\n" : "");
			print_entry(&r->listings[i].entries[j]);
		}
		printf("]}");
	}
	printf("]");
	if (r->found) {
		printf(", \"entry\": ");
		print_entry(&r->entry);
	}
	printf(", \"fs\": [");
	for (i = 0; i < 7; i++)
		printf("%" PRIu64 ", ", r->fs[i]);
	printf("%" PRIu32 "]}", r->namemax);
}

static struct script_item *
get_items(char **argv, size_t *n)
{
	struct script_item *items = calloc(100000, sizeof(*items));

	if (items == NULL)
		abort();
	for (*n = 0; *argv != NULL; (*n)++) {
		if (strcmp(argv[0], "list") == 0) {
			items[*n].op = SCRIPT_LIST;
			items[*n].bound = strtoul(*++argv, NULL, 10);
		} else if (strcmp(argv[0], "also") == 0)
			items[*n].op = SCRIPT_LIST_ALSO;
		else if (strcmp(argv[0], "stat") == 0)
			items[*n].op = SCRIPT_STAT;
		else if (strcmp(argv[0], "statfs") == 0)
			items[*n].op = SCRIPT_STATFS;
		else
			abort();
		items[*n].path = *++argv;
		argv++;
	}
	return items;
}

static enum script_tools
get_tools(const char *name)
{
	return strcmp(name, "gnu") == 0	   ? SCRIPT_TOOLS_GNU
	    : strcmp(name, "busybox") == 0 ? SCRIPT_TOOLS_BUSYBOX
					   : SCRIPT_TOOLS_UNKNOWN;
}

static void
print_probe(const struct probe *p)
{
	size_t i;

	printf("\"probe\": {\"gnu\": %d, \"uid\": %u, \"gid\": %u, ", p->gnu,
	    p->uid, p->gid);
	print_hex("user", p->user, strlen(p->user));
	printf(", ");
	print_hex("home", p->home, strlen(p->home));
	printf(", ");
	print_hex("cwd", p->cwd, strlen(p->cwd));
	printf(", ");
	print_hex("system", p->system, strlen(p->system));
	printf(", \"groups\": [");
	for (i = 0; i < p->ngroups; i++)
		printf("%s%u", i > 0 ? ", " : "", p->groups[i]);
	printf("], \"pseudo\": [");
	for (i = 0; i < p->npseudo; i++)
		printf("%s%" PRIu64, i > 0 ? ", " : "", p->pseudo[i]);
	printf("], \"tools\": [%d, %d, %d, %d]}, ", p->gzip, p->timeout,
	    p->python3, p->perl);
}

static int
parse(const char *nonce, char **argv, int probe)
{
	struct script_item *items;
	struct reply *replies = NULL;
	struct probe p = {.gnu = false};
	size_t n, len, used = 0, i;
	char *output = slurp(&len), *payload = NULL;
	int error;

	items = get_items(argv, &n);
	error = script_unwrap(output, len, nonce, MAX_PAYLOAD, &payload, &len);
	printf("{");
	if (error == 0 && probe &&
	    (error = probe_parse(payload, len, &p, &used)) == 0)
		print_probe(&p);
	if (error == 0)
		error = listing_parse(
		    payload + used, len - used, items, n, &replies);
	printf("\"error\": %d, \"replies\": [", error);
	for (i = 0; error == 0 && i < n; i++) {
		printf("%s", i > 0 ? ", " : "");
		print_reply(&replies[i]);
	}
	printf("]}\n");
	reply_free_all(replies, n);
	probe_free(&p);
	free(payload);
	free(output);
	free(items);
	return 0;
}

static int
parse_read(const char *nonce)
{
	struct attr before = {.mode = 0}, after = {.mode = 0};
	const char *data = NULL;
	size_t len, data_len = 0;
	char *output = slurp(&len), *payload = NULL;
	int error;

	error = script_unwrap(output, len, nonce, MAX_PAYLOAD, &payload, &len);
	if (error == 0)
		error = script_parse_read(
		    payload, len, &data, &data_len, &before, &after);
	printf("{\"error\": %d, ", error);
	print_attr("before", &before);
	printf(", ");
	print_attr("after", &after);
	printf(", ");
	print_hex("data", data, data_len);
	printf("}\n");
	free(payload);
	free(output);
	return 0;
}

static int
unwrap(const char *nonce)
{
	size_t len;
	char *output = slurp(&len), *payload = NULL;
	int error;

	error = script_unwrap(output, len, nonce, MAX_PAYLOAD, &payload, &len);
	printf("{\"error\": %d, ", error);
	print_hex("payload", payload, payload == NULL ? 0 : len);
	printf(", \"length\": %zu}\n", len);
	free(payload);
	free(output);
	return 0;
}

static const char *const op_names[] = {"mkdir", "rmdir", "unlink", "rename",
    "symlink", "link", "mknod", "chmod", "chown", "utimens", "truncate",
    "create", "write", "ranges", "spread", "append", "piece", "commit", "abort",
    "copy", "look", "clean", NULL};

static int64_t
get_time(const char *text)
{
	return strcmp(text, "now") == 0 ? SCRIPT_TIME_NOW
	    : strcmp(text, "omit") == 0 ? SCRIPT_TIME_OMIT
					: strtoll(text, NULL, 10);
}

/* OP KEY=VALUE... */
static struct script_change
get_change(char **argv)
{
	static struct attr expect;
	static struct script_range ranges[1000];
	struct script_change c = {.mode = UINT32_MAX,
	    .uid = UINT32_MAX,
	    .gid = UINT32_MAX,
	    .data = "",
	    .expect = &expect,
	    .ranges = ranges};
	char *value, *end;

	while (strcmp(op_names[c.op], argv[0]) != 0)
		if (op_names[++c.op] == NULL)
			abort();
	for (argv++; *argv != NULL; argv++) {
		if ((value = strchr(*argv, '=')) == NULL)
			abort();
		*value++ = '\0';
#define NUMBER(key, base) \
	else if (strcmp(*argv, #key) == 0) c.key = strtoull(value, NULL, base)
#define TEXT(key) else if (strcmp(*argv, #key) == 0) c.key = value
		if (strcmp(*argv, "ranges") == 0) {
			for (end = value; *end != '\0'; c.nranges++) {
				ranges[c.nranges].offset =
				    strtoull(end, &end, 10);
				ranges[c.nranges].len =
				    strtoull(end + 1, &end, 10);
				end += *end == ',';
			}
		} else if (strcmp(*argv, "expect") == 0) {
			expect.ino = strtoull(value, &end, 10);
			expect.size = strtoull(end + 1, &end, 10);
			expect.mtime = strtoll(end + 1, NULL, 10);
		} else if (strcmp(*argv, "atime") == 0) {
			c.atime = get_time(value);
			c.set_times = 1;
		} else if (strcmp(*argv, "mtime") == 0) {
			c.mtime = get_time(value);
			c.set_times = 1;
		} else if (strcmp(*argv, "uid") == 0) {
			c.uid = strtoul(value, NULL, 10);
			c.set_owner = 1;
		} else if (strcmp(*argv, "gid") == 0) {
			c.gid = strtoul(value, NULL, 10);
			c.set_owner = 1;
		}
		TEXT(path);
		TEXT(to);
		TEXT(token);
		TEXT(forget);
		TEXT(keep);
		TEXT(sha256);
		NUMBER(data_len, 10);
		NUMBER(again, 10);
		NUMBER(verify, 10);
		NUMBER(staged, 10);
		NUMBER(mode, 8);
		NUMBER(lend, 8);
		NUMBER(major, 10);
		NUMBER(minor, 10);
		NUMBER(ino, 10);
		NUMBER(noreplace, 10);
		NUMBER(how, 10);
		NUMBER(size, 10);
		NUMBER(space, 10);
		NUMBER(offset, 10);
		NUMBER(to_offset, 10);
		else abort();
	}
	return c;
}

static int
parse_change(const char *nonce, char **argv)
{
	static const char *const keys[] = {
	    "path", "dir", "to", "to_dir", "kept"};
	struct script_change c = get_change(argv);
	struct script_result r = {.error = 0};
	size_t len;
	char *output = slurp(&len), *payload = NULL;
	int error, i;

	error = script_unwrap(output, len, nonce, MAX_PAYLOAD, &payload, &len);
	if (error == 0)
		error = script_parse_changes(payload, len, &c, 1, &r);
	printf("{\"failed\": %d, \"error\": %d, \"whole_seconds\": %d, "
	       "\"replaced\": %d, \"number\": %" PRIu64,
	    error, r.error, r.whole_seconds, r.replaced, r.number);
	for (i = 0; i < 5; i++)
		if (r.found & (1u << i)) {
			printf(", ");
			print_attr(keys[i], &r.attr[i]);
		}
	printf("}\n");
	free(payload);
	free(output);
	return 0;
}

/*
 * The command in the form that $VMTOOL_FORM names: "store", "clean" (it also
 * removes others), "plain" (it is not packed), or the file of the VM that keeps
 * the toolkit; as it is without it.
 */
static char *
put_in_form(char *text, enum script_tools tools, const char *nonce, size_t *len)
{
	const char *form = getenv("VMTOOL_FORM");
	char *other;

	if (form == NULL || text == NULL)
		return text;
	other = form[0] != '/'
	    ? script_store_toolkit(text, tools, nonce,
		  strcmp(form, "clean") == 0	   ? SCRIPT_STORE_CLEAN
		      : strcmp(form, "plain") == 0 ? SCRIPT_STORE_PLAIN
						   : 0,
		  len)
	    : script_with_toolkit(text, tools, nonce, form, len);
	free(text);
	return other;
}

static int
print_command(char *text, size_t len)
{
	if (text == NULL)
		return 1;
	if (strlen(text) != len)
		abort();
	fwrite(text, 1, len, stdout);
	free(text);
	return 0;
}

static int
toolkit(const char *what)
{
	const char *hash, *text = script_toolkit(&hash);

	printf("%s", strcmp(what, "hash") == 0 ? hash : text);
	return 0;
}

static int
place(const char *nonce)
{
	char path[SCRIPT_PLACE_MAX] = "";
	size_t len;
	char *output = slurp(&len);
	bool said = script_toolkit_place(output, len, nonce, path);
	bool missed = script_toolkit_missed(output, len, nonce);

	printf("{\"said\": %d, \"missed\": %d, \"place\": \"%s\"}\n", said,
	    missed, path);
	free(output);
	return 0;
}

int
main(int argc, char **argv)
{
	struct script_item *items;
	size_t n, len;
	char *text, *input;
	int status;

	if (argc < 3)
		return 2;
	if (strcmp(argv[1], "quote") == 0) {
		text = script_quote(argv[2]);
		return print_command(text, strlen(text));
	}
	if (strcmp(argv[1], "toolkit") == 0)
		return toolkit(argv[2]);
	if (strcmp(argv[1], "place") == 0)
		return place(argv[2]);
	if (strcmp(argv[1], "find") == 0) {
		text = script_find_toolkit(argv[2], &len);
		return print_command(text, len);
	}
	if (strcmp(argv[1], "parse") == 0)
		return parse(argv[2], argv + 3, 0);
	if (strcmp(argv[1], "parse-probe") == 0)
		return parse(argv[2], argv + 3, 1);
	if (strcmp(argv[1], "parse-read") == 0)
		return parse_read(argv[2]);
	if (strcmp(argv[1], "unwrap") == 0)
		return unwrap(argv[2]);
	if (strcmp(argv[1], "stage") == 0) {
		input = slurp(&len);
		text = script_compose_stage(input, argv[2], &len);
		free(input);
		return print_command(text, len);
	}
	if (strcmp(argv[1], "carry-head") == 0) {
		text = script_carry_head(argv[2]);
		return print_command(text, strlen(text));
	}
	if (strcmp(argv[1], "carry-part") == 0 && argc == 4) {
		input = slurp(&n);
		text = script_carry_part(
		    argv[2], (unsigned)atoi(argv[3]), input, n, &len);
		free(input);
		return print_command(text, len);
	}
	if (strcmp(argv[1], "carry-join") == 0 && argc == 5) {
		text = script_carry_join(
		    argv[2], strtoul(argv[3], NULL, 10), atoi(argv[4]) != 0);
		return print_command(text, strlen(text));
	}
	if (strcmp(argv[1], "change") == 0 && argc > 4) {
		struct script_change c = get_change(argv + 4);

		input = slurp(&n);
		c.data = input;
		if (c.op != SCRIPT_SPREAD)
			c.data_len = n;
		text = script_compose_changes(
		    get_tools(argv[2]), argv[3], &c, 1, &len);
		free(input);
		text = put_in_form(text, get_tools(argv[2]), argv[3], &len);
		return print_command(text, len);
	}
	if (strcmp(argv[1], "parse-change") == 0 && argc > 3)
		return parse_change(argv[2], argv + 3);
	if (strcmp(argv[1], "piece") == 0 && argc == 6) {
		text =
		    script_compose_piece(argv[2], strtoull(argv[3], NULL, 10),
			strtoull(argv[4], NULL, 10), atoi(argv[5]), &len);
		return print_command(text, len);
	}
	if ((strcmp(argv[1], "read") == 0 || strcmp(argv[1], "lend") == 0) &&
	    argc == 7) {
		text = script_compose_read(get_tools(argv[2]), argv[3], argv[4],
		    strtoull(argv[5], NULL, 10),
		    strcmp(argv[6], "all") == 0 ? UINT64_MAX
						: strtoull(argv[6], NULL, 10),
		    strcmp(argv[1], "lend") == 0, &len);
		text = put_in_form(text, get_tools(argv[2]), argv[3], &len);
		return print_command(text, len);
	}
	if (argc < 4)
		return 2;
	items = get_items(argv + 4, &n);
	text = strcmp(argv[1], "probe") == 0
	    ? script_compose_probe(argv[3], items, n, &len)
	    : script_compose(get_tools(argv[2]), argv[3], items, n, &len);
	text = put_in_form(text,
	    strcmp(argv[1], "probe") == 0 ? SCRIPT_TOOLS_UNKNOWN
					  : get_tools(argv[2]),
	    argv[3], &len);
	status = print_command(text, len);
	free(items);
	return status;
}
