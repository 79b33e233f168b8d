#include <stdlib.h>
#include <string.h>

#include "kernel/control_last.h"

/* So many are kept, and so many bytes of them but for the latest. */
#define LASTS_MAX   256
#define LASTS_BYTES ((size_t)64 * 1024 * 1024)

struct last {
	TAILQ_ENTRY(last) next; /* the latest first */
	struct result *result;
	char *id; /* behind dir */
	char dir[];
};

void
result_put(struct result *r)
{
	if (r == NULL || --r->refs > 0)
		return;
	free(r->text);
	free(r->json);
	free(r);
}

static struct last *
find(struct lasts *all, const char *dir, const char *id)
{
	struct last *l;

	TAILQ_FOREACH (l, all, next)
		if (strcmp(l->dir, dir) == 0 && strcmp(l->id, id) == 0)
			break;
	return l;
}

static void
drop(struct lasts *all, struct last *l)
{
	TAILQ_REMOVE(all, l, next);
	result_put(l->result);
	free(l);
}

/* The oldest go. */
static void
trim(struct lasts *all)
{
	struct last *l, *next;
	size_t n = 0, bytes = 0;

	TAILQ_FOREACH_SAFE (l, all, next, next) {
		bytes += l->result->text_len + l->result->json_len;
		if (++n > 1 && (n > LASTS_MAX || bytes > LASTS_BYTES))
			drop(all, l);
	}
}

struct result *
lasts_find(struct lasts *all, const char *dir, const char *id)
{
	struct last *l = find(all, dir, id);

	return l == NULL ? NULL : l->result;
}

void
lasts_set(struct lasts *all, const char *dir, const char *id, struct result *r)
{
	size_t len = strlen(dir) + 1;
	struct last *l = find(all, dir, id);

	if (l != NULL)
		drop(all, l);
	if ((l = malloc(sizeof *l + len + strlen(id) + 1)) == NULL)
		return;
	memcpy(l->dir, dir, len);
	l->id = l->dir + len;
	strcpy(l->id, id);
	l->result = r;
	r->refs++;
	TAILQ_INSERT_HEAD(all, l, next);
	trim(all);
}

void
lasts_free(struct lasts *all)
{
	struct last *l;

	while ((l = TAILQ_FIRST(all)) != NULL)
		drop(all, l);
}
