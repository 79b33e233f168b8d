#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* p is at a quote: behind the one that ends the string, or NULL. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p + 1;
	}
	return NULL;
}

/* Behind the value at p, or NULL. */
static const char *
skip_value(const char *p, const char *end)
{
	const char *start;
	size_t depth = 0;

	do {
		if ((p = skip_space(p, end)) == end)
			return NULL;
		switch (*p) {
		case '"':
			if ((p = skip_string(p, end)) == NULL)
				return NULL;
			break;
		case '{':
		case '[':
			depth++;
			p++;
			break;
		case '}':
		case ']':
			if (depth == 0)
				return NULL;
			depth--;
			p++;
			break;
		case ',':
		case ':':
			if (depth == 0)
				return NULL;
			p++;
			break;
		default:
			start = p;
			while (p < end && *p != '\0' &&
			    strchr(",:]}\" \t\r\n", *p) == NULL)
				p++;
			if (p == start)
				return NULL;
		}
	} while (depth > 0);
	return p;
}

bool
json_find(struct json object, const char *name, struct json *out)
{
	const char *p = skip_space(object.p, object.end), *end = object.end;
	char *key;
	size_t len;
	bool same;

	if (p == end || *p != '{')
		return false;
	for (p++;; p++) {
		p = skip_space(p, end);
		if (p == end || *p != '"')
			return false;
		key = json_string((struct json){p, end}, &len);
		same = key != NULL && strlen(name) == len &&
		    memcmp(key, name, len) == 0;
		free(key);
		if ((p = skip_string(p, end)) == NULL)
			return false;
		p = skip_space(p, end);
		if (p == end || *p != ':')
			return false;
		p = skip_space(p + 1, end);
		*out = (struct json){p, end};
		if ((p = skip_value(p, end)) == NULL)
			return false;
		if (same) {
			out->end = p;
			return true;
		}
		p = skip_space(p, end);
		if (p == end || *p != ',')
			return false;
	}
}

bool
json_next(struct json *at, struct json *out)
{
	const char *p = skip_space(at->p, at->end), *end = at->end;

	if (p == end || (*p != '[' && *p != ','))
		return false;
	out->p = skip_space(p + 1, end);
	if (out->p == end || (out->end = skip_value(out->p, end)) == NULL)
		return false;
	at->p = out->end;
	return true;
}

/* The value of \uXXXX at p, or -1. */
static long
unit(const char *p, const char *end)
{
	char digits[5] = {0}, *rest;
	long value;

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	memcpy(digits, p + 2, 4);
	if (strspn(digits, "0123456789abcdefABCDEF") != 4)
		return -1;
	value = strtol(digits, &rest, 16);
	return value;
}

static char *
put_utf8(char *out, long c)
{
	if (c < 0x80) {
		*out++ = (char)c;
	} else if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
		*out++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	}
	return out;
}

/* What the escape at p stands for; an escape is longer than that. */
static const char *
take_escape(const char *p, const char *end, char **out)
{
	static const char letters[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
	const char *found;
	long c, low;

	if (end - p < 2)
		return NULL;
	if (p[1] != 'u') {
		if (p[1] == '\0' || (found = strchr(letters, p[1])) == NULL)
			return NULL;
		*(*out)++ = bytes[found - letters];
		return p + 2;
	}
	if ((c = unit(p, end)) == -1)
		return NULL;
	p += 6;
	if (c >= 0xd800 && c < 0xe000) {
		low = unit(p, end);
		if (c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			p += 6;
		} else {
			c = 0xfffd; /* half a pair */
		}
	}
	*out = put_utf8(*out, c);
	return p;
}

char *
json_string(struct json value, size_t *len)
{
	const char *p = skip_space(value.p, value.end), *end;
	char *text, *out;

	if (p == value.end || *p != '"' ||
	    (end = skip_string(p, value.end)) == NULL ||
	    (text = malloc((size_t)(end - p))) == NULL)
		return NULL;
	end--;
	for (p++, out = text; p < end;) {
		if (*p != '\\') {
			*out++ = *p++;
		} else if ((p = take_escape(p, end, &out)) == NULL) {
			free(text);
			return NULL;
		}
	}
	*out = '\0';
	*len = (size_t)(out - text);
	return text;
}

char *
json_find_string(struct json object, const char *name, size_t *len)
{
	struct json value;
	size_t dummy;

	if (!json_find(object, name, &value))
		return NULL;
	return json_string(value, len == NULL ? &dummy : len);
}

long long
json_find_number(struct json object, const char *name, long long other)
{
	struct json value;
	char digits[32] = {0}, *rest;
	long long n;

	if (!json_find(object, name, &value) ||
	    (size_t)(value.end - value.p) >= sizeof digits)
		return other;
	memcpy(digits, value.p, (size_t)(value.end - value.p));
	errno = 0;
	n = strtoll(digits, &rest, 10);
	return rest == digits || errno != 0 ? other : n;
}
