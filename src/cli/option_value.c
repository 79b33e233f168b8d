#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/option_value.h"

bool
option_number(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
	char *end;

	/* strtoull() would take signs and white space. */
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' && *number >= min && *number <= max;
}

bool
option_seconds(const char *text, unsigned max, unsigned *ms)
{
	unsigned long long whole, part = 0, unit = 100;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	whole = strtoull(text, &end, 10);
	if (errno != 0 || whole > max)
		return false;
	if (*end == '.') {
		if (!isdigit((unsigned char)*++end))
			return false;
		for (; isdigit((unsigned char)*end); end++, unit /= 10)
			part += (*end - '0') * unit;
	}
	*ms = whole * 1000 + part;
	return *end == '\0';
}

bool
option_size(const char *text, uint64_t min, uint64_t max, uint64_t *size)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t factor;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*size = strtoull(text, &end, 10);
	if (errno != 0)
		return false;
	if (*end != '\0') {
		unit = strchr(units, toupper((unsigned char)*end));
		if (unit == NULL || end[1] != '\0')
			return false;
		factor = (uint64_t)1 << (10 * (unit - units + 1));
		if (*size > UINT64_MAX / factor)
			return false;
		*size *= factor;
	}
	return *size >= min && *size <= max;
}

bool
option_octal(const char *text, unsigned max, unsigned *number)
{
	unsigned long n;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	n = strtoul(text, &end, 8);
	*number = n;
	return errno == 0 && *end == '\0' && n <= max;
}

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many bytes have to be added, removed, changed or swapped. */
static size_t
distance(const char *a, const char *b)
{
	enum { LONGEST = 32 };
	size_t d[LONGEST + 1][LONGEST + 1];
	size_t len_a = strlen(a), len_b = strlen(b), i, j;

	if (len_a > LONGEST || len_b > LONGEST)
		return LONGEST;
	for (i = 0; i <= len_a; i++)
		d[i][0] = i;
	for (j = 0; j <= len_b; j++)
		d[0][j] = j;
	for (i = 1; i <= len_a; i++)
		for (j = 1; j <= len_b; j++) {
			d[i][j] =
			    least(d[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
				least(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	return d[len_a][len_b];
}

const char *
option_similar(const char *word, const char *const *names)
{
	const char *found = NULL;
	size_t best = 3, d;

	for (; *names != NULL; names++) {
		d = distance(word, *names);
		/* Of a short word, too much would be another one. */
		if (d < best && 2 * d < strlen(*names)) {
			best = d;
			found = *names;
		}
	}
	return found;
}
