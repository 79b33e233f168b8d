#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "term.h"

static struct termios before;
static bool taken;

void
term_take(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &before) == -1)
		return;
	raw = before;
	cfmakeraw(&raw);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == -1)
		return;
	taken = true;
	atexit(term_release);
}

void
term_release(void)
{
	if (taken)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	taken = false;
}

bool
term_taken(void)
{
	return taken;
}

bool
term_size(unsigned *rows, unsigned *columns)
{
	struct winsize w;

	if ((ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == -1 &&
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == -1) ||
	    w.ws_row == 0 || w.ws_col == 0)
		return false;
	*rows = w.ws_row;
	*columns = w.ws_col;
	return true;
}

void
term_describe(struct text *t)
{
	static const char *const names[] = {"TERM", "COLORTERM", "LANG",
	    "LC_ALL", "LC_CTYPE", "COLUMNS", "LINES"};
	const char *value;
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		/* The last two only where they are exported: what believes
		 * them does not follow the window. */
		if ((value = getenv(names[i])) == NULL)
			continue;
		text_printf(t, "export %s=", names[i]);
		text_quote(t, value);
		text_puts(t, "\n");
	}
	if (getenv("TERM") == NULL)
		text_puts(t, "export TERM=dumb\n");
}

bool
term_escape(char *keys, size_t *len)
{
	/* A line begins; it did, with the ~ that is held back. */
	static bool begin = true, tilde;
	static char out[65536 + 2];
	size_t i, n = 0;
	char c;

	for (i = 0; i < *len; i++) {
		c = keys[i];
		if (tilde && c == '.')
			return false;
		if (tilde && c != '~')
			out[n++] = '~';
		if (begin && !tilde && c == '~') {
			tilde = true;
			continue;
		}
		tilde = false;
		out[n++] = c;
		begin = c == '\r' || c == '\n';
	}
	memcpy(keys, out, n);
	*len = n;
	return true;
}
