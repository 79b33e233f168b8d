#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "script/carry.h"

#define FILE_FORMAT "${TMPDIR:-/tmp}/.gentilityfs-%s"

/* What the text of a part is written with: 'as it is', or '\ooo'. */
enum mode { NONE, PLAIN, OCTAL };

static const char *const opening[] = {
    [NONE] = "", [PLAIN] = "printf %s '", [OCTAL] = "printf '"};

static void
change_mode(FILE *f, enum mode *mode, enum mode to)
{
	if (*mode == to)
		return;
	if (*mode != NONE)
		fputs("'\n", f);
	fputs(opening[to], f);
	*mode = to;
}

static void
put_bytes(FILE *f, const char *bytes, size_t len)
{
	const char *p = bytes, *end = bytes + len;
	enum mode mode = NONE;
	size_t n;

	for (; p < end; p += n) {
		n = utf8_length(p, (size_t)(end - p));
		if (n == 0 || *p == '\0') {
			change_mode(f, &mode, OCTAL);
			fprintf(f, "\\%03o", (unsigned char)*p);
			n = 1;
			continue;
		}
		change_mode(f, &mode, PLAIN);
		if (*p == '\'')
			fputs("'\\''", f);
		else
			fwrite(p, 1, n, f);
	}
	change_mode(f, &mode, NONE);
}

char *
script_carry_part(const char *token, unsigned part, const char *bytes,
    size_t len, size_t *out_len)
{
	char *text = NULL;
	FILE *f;

	*out_len = 0;
	if ((f = open_memstream(&text, out_len)) == NULL)
		return NULL;
	fputs("(umask 077;{ :\n", f);
	put_bytes(f, bytes, len);
	fprintf(f, "} >\"" FILE_FORMAT ".%03u\")\n", token, part);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

char *
script_carry_head(const char *token)
{
	char *text;

	if (asprintf(&text, "rm -f \"" FILE_FORMAT "\"\n", token) < 0)
		text = NULL;
	return text;
}

char *
script_carry_join(const char *token, size_t len, bool run)
{
	char *text, *then = run ? script_carry_run(token) : strdup(":");

	if (then == NULL)
		return NULL;
	/* The parts in their order, whatever the locale: digits only. */
	if (asprintf(&text,
		"(set +f;t=\"" FILE_FORMAT "\";umask 077\n"
		"cat \"$t\".[0-9][0-9][0-9] >\"$t\";"
		"rm -f \"$t\".[0-9][0-9][0-9]\n"
		"[ \"$(wc -c <\"$t\")\" -eq %zu ]||"
		"{ rm -f \"$t\";printf '%%s%%s>' '%s' %s;exit 70; }"
		") 2>/dev/null&&%s\n",
		token, len, SCRIPT_CARRY_LOST, token, then) < 0)
		text = NULL;
	free(then);
	return text;
}

char *
script_carry_run(const char *token)
{
	char *text;

	if (asprintf(&text, ". \"" FILE_FORMAT "\"", token) < 0)
		text = NULL;
	return text;
}
