#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "script/bulk.h"
#include "script/command.h"
#include "script/record.h"
#include "script/vm_scripts.h"

char *
script_compose_bulk(enum script_tools tools, const char *nonce,
    const char *const *paths, size_t n, size_t *len)
{
	struct command c;
	size_t i;

	command_start(&c, nonce);
	command_add_frame(&c);
	command_add_records(&c, tools);
	command_add(&c, vm_bulk);
	command_add(&c, "calls() {\nread_many");
	for (i = 0; i < n; i++) {
		command_add(&c, " ");
		command_add_quoted(&c, paths[i]);
	}
	command_addf(&c, "\n}\nanswer %s\n", nonce);
	return command_end(&c, len);
}

size_t
script_bulk_size(const char *path)
{
	size_t size = 4;

	for (; *path != '\0'; path++)
		size += *path == '\'' ? 4 : (*path & 0x80) ? 20 : 1;
	return size;
}

/* Records in the order of the paths; a missing one leaves seen[i] false. */
static int
parse_records(struct cursor *c, char form, const char *const *paths, size_t n,
    struct bulk_file *out)
{
	struct cursor part = cursor_records(c, form), before;
	struct record r;
	size_t i;

	for (i = 0; i < n && cursor_records_left(&part, form); i++) {
		before = part;
		if (record_parse(&part, form, paths[i], &r) != 0) {
			part = before;
			continue;
		}
		out[i].good = S_ISREG(r.attr.mode);
		out[i].attr = r.attr;
	}
	if (cursor_records_left(&part, form))
		return -EPROTO;
	c->p = part.p;
	return 0;
}

static bool
take(struct cursor *c, const char *mark, size_t len)
{
	if ((size_t)(c->end - c->p) < len || memcmp(c->p, mark, len) != 0)
		return false;
	c->p += len;
	return true;
}

int
script_parse_bulk(const char *payload, size_t len, const char *const *paths,
    size_t n, struct bulk_file *out)
{
	struct cursor c = {payload, payload + len};
	struct bulk_file after;
	struct validator before, now;
	uint64_t total = 0;
	size_t i;
	char form;

	memset(out, 0, n * sizeof *out);
	if (!take(&c, "#0 OK ", 6) || c.end - c.p < 2)
		return -EPROTO;
	form = *c.p++;
	if ((form != 'G' && form != 'B') || !take(&c, "", 1) ||
	    parse_records(&c, form, paths, n, out) != 0 || !take(&c, "#d", 3))
		return -EPROTO;
	for (i = 0; i < n; i++) {
		if (!out[i].good)
			continue;
		if (out[i].attr.size > (uint64_t)(c.end - c.p) - total)
			return -EPROTO;
		out[i].data = c.p + total;
		total += out[i].attr.size;
	}
	c.p += total;
	/* One has another length by now: where which begins is not known. */
	if (!take(&c, "\0#e", 4))
		return -EPROTO;
	for (i = 0; i < n; i++) {
		struct cursor one = cursor_records(&c, form), start = one;
		struct record r;

		memset(&after, 0, sizeof after);
		if (cursor_records_left(&one, form) &&
		    record_parse(&one, form, paths[i], &r) == 0) {
			after.attr = r.attr;
			c.p = one.p;
		} else {
			c.p = start.p;
			out[i].good = false;
		}
		before = attr_validator(&out[i].attr);
		now = attr_validator(&after.attr);
		if (out[i].good && !validator_equal(&before, &now))
			out[i].good = false;
	}
	return 0;
}
