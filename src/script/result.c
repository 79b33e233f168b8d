#include <errno.h>
#include <string.h>

#include "script/listing.h"
#include "script/command.h"
#include "script/record.h"

/* What the changes say of themselves (X of vm/change.sh). */

/* Text up to the next ';'; both are taken.  False when there is none. */
static bool
get_part(struct cursor *c, struct cursor *out)
{
	const char *end = memchr(c->p, ';', c->end - c->p);

	if (end == NULL)
		return false;
	*out = (struct cursor){c->p, end};
	c->p = end + 1;
	return true;
}

/* The records, a line each, of the paths whose digit in `exist` is 1; what
 * comes behind `paths` was kept. */
static int
parse_states(struct cursor *c, char form, const char *exist, size_t n,
    size_t paths, struct script_result *out)
{
	bool shut, first = true;
	size_t i, at;

	for (i = 0; i < n; i++) {
		if (exist[i] == '0')
			continue;
		at = i < paths ? i : SCRIPT_RESULT_KEPT;
		if (exist[i] != '1' || (!first && !cursor_get_char(c, '\n')) ||
		    (c->p = listing_parse_attr(
			 form, c->p, c->end, &out->attr[at], &shut)) == NULL)
			return -EPROTO;
		out->found |= 1u << at;
		first = false;
	}
	return c->p == c->end ? 0 : -EPROTO;
}

static int
parse_result(struct cursor *c, const struct script_change *ch, size_t n,
    struct script_result *out)
{
	size_t paths = script_has_two_paths(ch->op) ? 4 : 2;
	size_t most = ch->keep != NULL ? paths + 1 : paths, found;
	struct cursor h, records;
	const char *space;
	uint64_t number;
	char form;

	*out = (struct script_result){.error = -EPROTO};
	/* "#N E K EXIST" */
	if (!get_part(c, &h) || !cursor_get_char(&h, '#') ||
	    !cursor_get_number(&h, SIZE_MAX, &number) || number != n ||
	    !cursor_get_char(&h, ' ') ||
	    (space = memchr(h.p, ' ', h.end - h.p)) == NULL ||
	    h.end - space < 3 || space[2] != ' ')
		return -EPROTO;
	form = space[1];
	if (form != 'G' && form != 'B')
		return -EPROTO;
	out->error = space - h.p == 2 && memcmp(h.p, "OK", 2) == 0
	    ? 0
	    : listing_errno(h.p, space - h.p);
	h.p = space + 3;
	/* A change that nobody asks about may leave them all out. */
	found = h.end - h.p;
	if ((found != 0 && found != paths && found != most) ||
	    !get_part(c, &records) ||
	    parse_states(&records, form, h.p, found, paths, out) != 0)
		return -EPROTO;
	/* "#. FLAGS NUMBER" */
	if (!get_part(c, &h) || !cursor_get_char(&h, '#') ||
	    !cursor_get_char(&h, '.') || !cursor_get_char(&h, ' ') ||
	    !cursor_get_number(&h, 3, &number) || !cursor_get_char(&h, ' ') ||
	    !cursor_get_number(&h, UINT64_MAX, &out->number) || h.p != h.end)
		return -EPROTO;
	out->whole_seconds = number & 1;
	out->replaced = (number & 2) != 0;
	return 0;
}

int
script_parse_changes(const char *payload, size_t len,
    const struct script_change *changes, size_t n, struct script_result *out)
{
	struct cursor c = {payload, payload + len};
	size_t i;
	int error;

	for (i = 0; i < n; i++)
		if (changes[i].chained && i > 0 && out[i - 1].error != 0)
			out[i] = (struct script_result){.error = -ECANCELED};
		else if ((error = parse_result(&c, &changes[i], i, &out[i])))
			return error;
	return c.p == c.end ? 0 : -EPROTO;
}
