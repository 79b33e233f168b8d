#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/source.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static bool
is_uuid(const char *text, size_t len)
{
	size_t i;

	if (len != 36)
		return false;
	for (i = 0; i < len; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return false;
		} else if (!isxdigit((unsigned char)text[i]))
			return false;
	}
	return true;
}

/* Decode %XX in place; false when one is malformed or stands for NUL. */
static bool
percent_decode(char *text)
{
	char *in, *out, hex[3] = "";

	for (in = out = text; *in != '\0'; in++) {
		if (*in == '%') {
			if (!isxdigit((unsigned char)in[1]) ||
			    !isxdigit((unsigned char)in[2]))
				return false;
			memcpy(hex, in + 1, 2);
			if ((*out++ = strtoul(hex, NULL, 16)) == '\0')
				return false;
			in += 2;
		} else
			*out++ = *in;
	}
	*out = '\0';
	return true;
}

static int
split(struct source *s, const char *slash)
{
	const char *colon = strchr(slash, ':');
	char *c;

	s->profile = strndup(s->text, slash - s->text);
	s->room = colon == NULL ? strdup(slash + 1)
				: strndup(slash + 1, colon - slash - 1);
	if (s->profile == NULL || s->room == NULL)
		return -ENOMEM;
	for (c = s->profile; *c != '\0'; c++)
		*c = tolower((unsigned char)*c);
	/* As with scp, nothing behind the colon is the home directory. */
	if (colon != NULL) {
		s->path = strdup(colon[1] != '\0' ? colon + 1 : "~");
		if (s->path == NULL)
			return -ENOMEM;
	}
	return 0;
}

int
source_parse(const char *text, struct source *s, char *detail, size_t size)
{
	static const char prefix[] = "gentilityfs#";
	static const char form[] =
	    "SOURCE is PROFILE/ROOM or PROFILE/ROOM:PATH";
	const char *slash;
	int error;

	*s = (struct source){0};
	if (strncmp(text, prefix, strlen(prefix)) == 0)
		text += strlen(prefix);
	if ((s->text = strdup(text)) == NULL)
		return -ENOMEM;
	error = -EINVAL;
	if ((slash = strchr(s->text, '/')) == NULL) {
		snprintf(
		    detail, size, "malformed SOURCE \"%s\": %s", text, form);
		goto fail;
	}
	if (!is_uuid(s->text, slash - s->text)) {
		snprintf(detail, size,
		    "malformed SOURCE \"%s\": PROFILE \"%.*s\" is not a UUID "
		    "such as 550e8400-e29b-41d4-a716-446655440000",
		    text, (int)(slash - s->text), text);
		goto fail;
	}
	if ((error = split(s, slash)) != 0)
		goto fail;
	error = -EINVAL;
	if (s->room[0] == '\0') {
		snprintf(detail, size,
		    "malformed SOURCE \"%s\": the room's name is missing; %s",
		    text, form);
		goto fail;
	}
	if (!percent_decode(s->room)) {
		snprintf(detail, size,
		    "malformed SOURCE \"%s\": a %% in a room's name is written "
		    "%%25",
		    text);
		goto fail;
	}
	/* The dots would be resolved as parts of the URL's path. */
	if (strchr(s->room, '/') != NULL || strcmp(s->room, ".") == 0 ||
	    strcmp(s->room, "..") == 0) {
		snprintf(detail, size,
		    "malformed SOURCE \"%s\": \"%s\" cannot be a room's name; "
		    "a PATH goes behind a colon",
		    text, s->room);
		goto fail;
	}
	return 0;
fail:
	source_free(s);
	return error;
}

void
source_free(struct source *s)
{
	free(s->text);
	free(s->profile);
	free(s->room);
	free(s->path);
	*s = (struct source){0};
}

/* --- URL ----------------------------------------------------------------- */

static bool
is_loopback(const char *host, bool bracketed)
{
	struct in6_addr six;
	struct in_addr four;

	if (bracketed)
		return inet_pton(AF_INET6, host, &six) == 1 &&
		    IN6_IS_ADDR_LOOPBACK(&six);
	if (strcasecmp(host, "localhost") == 0)
		return true;
	return inet_pton(AF_INET, host, &four) == 1 &&
	    ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET;
}

/*
 * The host of "host[:port][/prefix]" into name; NULL, or what is wrong.
 * Stricter than libcurl, so that the host checked here is the one that libcurl
 * connects to.
 */
static const char *
split_host(const char *host, char *name, size_t size, bool *bracketed)
{
	const char *rest;
	unsigned long port;
	struct in6_addr six;
	size_t len;
	char *end;

	if ((*bracketed = *host == '[')) {
		len = strcspn(++host, "]/");
		rest = host + len;
		if (*rest++ != ']')
			return "malformed host";
	} else {
		len = strspn(host, ALNUM "-._");
		rest = host + len;
	}
	if (len == 0)
		return "it names no host";
	if (len >= size)
		return "malformed host";
	memcpy(name, host, len);
	name[len] = '\0';
	if (*bracketed && inet_pton(AF_INET6, name, &six) != 1)
		return "malformed host";
	if (*rest == ':') {
		if (!isdigit((unsigned char)*++rest))
			return "malformed port";
		port = strtoul(rest, &end, 10);
		if (port < 1 || port > 65535)
			return "malformed port";
		rest = end;
	}
	if (strpbrk(rest, "?#") != NULL)
		return "leave out the ? or # and what follows";
	if (*rest != '\0' && *rest != '/')
		return "malformed host or port";
	if (rest[strspn(rest, ALNUM "-._~%/")] != '\0')
		return "malformed path";
	return NULL;
}

int
source_check_url(char *url, bool insecure_http, const char *origin,
    char *detail, size_t size)
{
	const char *wrong, *host;
	char name[256];
	bool bracketed, plain;
	size_t len;

	for (len = strlen(url); len > 0 && url[len - 1] == '/';)
		url[--len] = '\0';
	if (strncasecmp(url, "https://", 8) == 0) {
		plain = false;
		host = url + 8;
	} else if (strncasecmp(url, "http://", 7) == 0) {
		plain = true;
		host = url + 7;
	} else {
		snprintf(
		    detail, size, "%s=%s: not an https:// URL", origin, url);
		return -EINVAL;
	}
	/* Who writes a password here wants no message that shows it. */
	if (strchr(host, '@') != NULL) {
		snprintf(detail, size,
		    "%s: no user name or password goes into the URL; put the "
		    "key into a file (-o key_file=FILE)",
		    origin);
		return -EINVAL;
	}
	wrong = split_host(host, name, sizeof name, &bracketed);
	if (wrong != NULL) {
		snprintf(detail, size, "%s=%s: %s", origin, url, wrong);
		return -EINVAL;
	}
	if (plain && !insecure_http && !is_loopback(name, bracketed)) {
		snprintf(detail, size,
		    "%s=%s: http would send the key unencrypted; use https, "
		    "or allow it with -o insecure_http",
		    origin, url);
		return -EINVAL;
	}
	return 0;
}
