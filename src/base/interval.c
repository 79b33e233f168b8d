#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/interval.h"

void
intervals_free(struct intervals *s)
{
	free(s->v);
	*s = (struct intervals){0};
}

/* Index of the first interval that ends at `at` or later. */
static size_t
intervals_find(const struct intervals *s, uint64_t at)
{
	size_t low = 0, high = s->count, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (s->v[mid].end < at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int
intervals_reserve(struct intervals *s)
{
	struct interval *v;
	size_t room;

	if (s->count < s->room)
		return 0;
	room = s->room == 0 ? 4 : s->room * 2;
	if ((v = reallocarray(s->v, room, sizeof *v)) == NULL)
		return -ENOMEM;
	s->v = v;
	s->room = room;
	return 0;
}

/* Put n intervals in the place of those from i to j. */
static void
intervals_splice(struct intervals *s, size_t i, size_t j,
    const struct interval *with, size_t n)
{
	size_t k;

	for (k = i; k < j; k++)
		s->bytes -= s->v[k].end - s->v[k].start;
	for (k = 0; k < n; k++)
		s->bytes += with[k].end - with[k].start;
	memmove(s->v + i + n, s->v + j, (s->count - j) * sizeof *s->v);
	memcpy(s->v + i, with, n * sizeof *s->v);
	s->count = s->count - (j - i) + n;
}

int
intervals_add(struct intervals *s, uint64_t start, uint64_t end)
{
	struct interval merged = {start, end};
	size_t i, j;

	if (start >= end)
		return 0;
	if (intervals_reserve(s) != 0)
		return -ENOMEM;
	i = intervals_find(s, start);
	for (j = i; j < s->count && s->v[j].start <= end; j++) {
		if (s->v[j].start < merged.start)
			merged.start = s->v[j].start;
		if (s->v[j].end > merged.end)
			merged.end = s->v[j].end;
	}
	intervals_splice(s, i, j, &merged, 1);
	return 0;
}

int
intervals_remove(struct intervals *s, uint64_t start, uint64_t end)
{
	struct interval rest[2];
	size_t i, j, n = 0;

	if (start >= end || s->count == 0)
		return 0;
	i = intervals_find(s, start);
	if (i < s->count && s->v[i].end == start)
		i++;
	for (j = i; j < s->count && s->v[j].start < end; j++) {
		if (s->v[j].start < start)
			rest[n++] = (struct interval){s->v[j].start, start};
		if (s->v[j].end > end)
			rest[n++] = (struct interval){end, s->v[j].end};
	}
	/* Only one that is split makes more of them. */
	if (n > j - i && intervals_reserve(s) != 0)
		return -ENOMEM;
	intervals_splice(s, i, j, rest, n);
	return 0;
}

bool
intervals_first_gap(const struct intervals *s, uint64_t start, uint64_t end,
    struct interval *gap)
{
	size_t i;

	for (i = intervals_find(s, start); i < s->count; i++) {
		if (s->v[i].start > start)
			break;
		if (s->v[i].end > start)
			start = s->v[i].end;
	}
	if (start >= end)
		return false;
	gap->start = start;
	gap->end = end;
	if (i < s->count && s->v[i].start < end)
		gap->end = s->v[i].start;
	return true;
}

bool
intervals_first(const struct intervals *s, uint64_t start, uint64_t end,
    struct interval *out)
{
	size_t i;

	i = intervals_find(s, start);
	if (i < s->count && s->v[i].end == start)
		i++;
	if (start >= end || i >= s->count || s->v[i].start >= end)
		return false;
	out->start = s->v[i].start > start ? s->v[i].start : start;
	out->end = s->v[i].end < end ? s->v[i].end : end;
	return true;
}

bool
intervals_cover(const struct intervals *s, uint64_t start, uint64_t end)
{
	struct interval gap;

	return !intervals_first_gap(s, start, end, &gap);
}

uint64_t
intervals_bytes(const struct intervals *s)
{
	return s->bytes;
}
