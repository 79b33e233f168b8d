#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/listing.h"

void
probe_free(struct probe *p)
{
	free(p->groups);
	free(p->user);
	free(p->home);
	free(p->cwd);
	free(p->pseudo);
	free(p->have);
	free(p->system);
	*p = (struct probe){.gnu = false};
}

/* A decimal number and nothing after it but `after`. */
static int
get_number(const char **text, uint64_t max, char after, uint64_t *out)
{
	unsigned long long n;
	char *end;

	if ((*text)[0] < '0' || (*text)[0] > '9')
		return -EPROTO;
	errno = 0;
	n = strtoull(*text, &end, 10);
	if (errno != 0 || n > max || (*end != after && *end != '\0'))
		return -EPROTO;
	*text = *end == '\0' ? end : end + 1;
	*out = n;
	return 0;
}

static int
get_id(const char *text, uint32_t *out)
{
	uint64_t n;

	if (get_number(&text, UINT32_MAX, '\0', &n) != 0)
		return -EPROTO;
	*out = n;
	return 0;
}

static int
add_group(struct probe *p, uint32_t gid)
{
	uint32_t *groups;

	groups = reallocarray(p->groups, p->ngroups + 1, sizeof(*groups));
	if (groups == NULL)
		return -ENOMEM;
	groups[p->ngroups++] = gid;
	p->groups = groups;
	return 0;
}

static int
get_groups(struct probe *p, const char *text)
{
	uint64_t n;

	while (*text != '\0')
		if (get_number(&text, UINT32_MAX, ' ', &n) != 0)
			return -EPROTO;
		else if (add_group(p, n) != 0)
			return -ENOMEM;
	return 0;
}

static int
add_pseudo(struct probe *p, const char *text)
{
	uint64_t *pseudo, n;

	if (get_number(&text, UINT64_MAX, '\0', &n) != 0)
		return -EPROTO;
	pseudo = reallocarray(p->pseudo, p->npseudo + 1, sizeof(*pseudo));
	if (pseudo == NULL)
		return -ENOMEM;
	pseudo[p->npseudo++] = n;
	p->pseudo = pseudo;
	return 0;
}

static int
set_text(char **out, const char *text)
{
	free(*out);
	return (*out = strdup(text)) == NULL ? -ENOMEM : 0;
}

/* Seconds since 1970, and nine digits of a fraction if date(1) knows any. */
static int64_t
get_clock(const char *text)
{
	uint64_t sec, ns = 0;

	if (get_number(&text, UINT32_MAX, '.', &sec) != 0)
		return 0;
	if (strlen(text) != 9 || get_number(&text, 999999999, '\0', &ns) != 0)
		ns = 0;
	return attr_time((int64_t)sec, (int64_t)ns);
}

/* Is the word in the list, which is separated by blanks? */
static bool
has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	const char *p;

	for (p = list; (p = strstr(p, word)) != NULL; p += len)
		if ((p == list || p[-1] == ' ') &&
		    (p[len] == ' ' || p[len] == '\0'))
			return true;
	return false;
}

/* What the values are collected in until all are there. */
struct values {
	const char *tools, *have, *uname, *touch;
	bool uid, gid;
};

static int
set_value(struct probe *p, struct values *v, const char *key, size_t len,
    const char *value)
{
#define IS(name) (len == sizeof(name) - 1 && memcmp(key, name, len) == 0)
	if (IS("tools"))
		v->tools = value;
	else if (IS("have"))
		v->have = value;
	else if (IS("uname"))
		v->uname = value;
	else if (IS("uid")) {
		v->uid = true;
		return get_id(value, &p->uid);
	} else if (IS("gid")) {
		v->gid = true;
		return get_id(value, &p->gid);
	} else if (IS("groups"))
		return get_groups(p, value);
	else if (IS("user"))
		return set_text(&p->user, value);
	else if (IS("home"))
		return set_text(&p->home, value);
	else if (IS("cwd"))
		return set_text(&p->cwd, value);
	else if (IS("touch"))
		v->touch = value;
	else if (IS("clock"))
		p->clock = get_clock(value);
	else if (IS("pseudo"))
		return add_pseudo(p, value);
#undef IS
	/* A key that is not known is of a newer script. */
	return 0;
}

static int
finish(struct probe *p, const struct values *v)
{
	if (v->tools == NULL || v->have == NULL || v->uname == NULL ||
	    !v->uid || !v->gid || p->user == NULL || p->home == NULL ||
	    p->cwd == NULL)
		return -EPROTO;
	/* "" when the directory it was started in is gone. */
	if (p->home[0] != '/' || (p->cwd[0] != '/' && p->cwd[0] != '\0'))
		return -EPROTO;
	p->gnu = strcmp(v->tools, "gnu") == 0;
	p->gzip = has_word(v->have, "gzip");
	p->timeout = has_word(v->have, "timeout");
	p->python3 = has_word(v->have, "python3");
	p->perl = has_word(v->have, "perl");
	p->whole_seconds = !p->python3 &&
	    (v->touch != NULL ? strcmp(v->touch, "yes") != 0 : !p->gnu);
	if (set_text(&p->have, v->have) != 0)
		return -ENOMEM;
	if (asprintf(&p->system, "%s; %s tools; has %s", v->uname, v->tools,
		v->have) == -1) {
		p->system = NULL;
		return -ENOMEM;
	}
	return strcmp(v->tools, "none") == 0 ? -ENOTSUP : 0;
}

int
probe_parse(const char *payload, size_t len, struct probe *out, size_t *used)
{
	const char *p = payload, *end = payload + len, *nul, *equals;
	struct values v = {.tools = NULL};
	int error;

	*out = (struct probe){.gnu = false};
	/* The items' part begins with '#', no key does. */
	while (p < end && *p != '#') {
		if ((nul = memchr(p, '\0', end - p)) == NULL ||
		    (equals = memchr(p, '=', nul - p)) == NULL)
			return -EPROTO;
		error = set_value(out, &v, p, equals - p, equals + 1);
		if (error != 0)
			return error;
		p = nul + 1;
	}
	*used = p - payload;
	return finish(out, &v);
}
