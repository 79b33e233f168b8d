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
