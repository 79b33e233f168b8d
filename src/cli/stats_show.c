#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/stats_show.h"

enum { SHOW_MAX = 65536 }; /* the longest extended attribute */

/* Why the mount did not tell, and what to do. */
static void
explain(const char *path, int error, char *detail)
{
	switch (error) {
	case ENOTCONN:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s is still mounted, but the process behind it is gone: "
		    "fusermount3 -u %s",
		    path, path);
		break;
	case ENOENT:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s does not exist: give the directory where a room is "
		    "mounted",
		    path);
		break;
	case ENOTSUP:
	case ENODATA:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s is no mount of gentilityfs: give the directory where a "
		    "room is mounted (findmnt -t fuse.gentilityfs)",
		    path);
		break;
	case EACCES:
	case EPERM:
		snprintf(detail, OPTIONS_DETAIL,
		    "%s: %s; only the user who mounted it may look", path,
		    strerror(error));
		break;
	default:
		snprintf(
		    detail, OPTIONS_DETAIL, "%s: %s", path, strerror(error));
	}
}

/* Is it worth a look: something unsent, or warnings? */
static bool
stands_out(const char *line)
{
	if (strncmp(line, "unsent ", 7) == 0)
		return strtoull(line + 7, NULL, 10) != 0;
	return strncmp(line, "warnings ", 9) == 0;
}

/* On a terminal: as many columns and lines as it has, headings in bold. */
static void
draw(char *text)
{
	struct winsize size = {.ws_col = 80, .ws_row = 24};
	const char *style;
	char *line;
	unsigned row;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	if (size.ws_col == 0 || size.ws_row == 0)
		size = (struct winsize){.ws_col = 80, .ws_row = 24};
	fputs("\033[H\033[J", stdout);
	for (row = 1; row < size.ws_row && text != NULL; row++) {
		line = strsep(&text, "\n");
		style = stands_out(line)		     ? "\033[33m"
		    : row == 1				     ? "\033[1m"
		    : strncmp(line, "requests sent", 8) == 0 ? "\033[1m"
							     : "";
		printf("%s%.*s%s\n", style, size.ws_col, line,
		    *style != '\0' ? "\033[0m" : "");
	}
}

static int
print(const struct options *o, char *buf, bool terminal, char *detail)
{
	const char *name = o->prometheus ? "user.gentility.stats.prometheus"
	    : o->json			 ? "user.gentility.stats.json"
					 : "user.gentility.stats";
	ssize_t len = getxattr(o->mountpoint, name, buf, SHOW_MAX);

	if (len == -1) {
		explain(o->mountpoint, errno, detail);
		return EXIT_FAILURE;
	}
	buf[len] = '\0';
	if (terminal)
		draw(buf);
	else
		fwrite(buf, 1, (size_t)len, stdout);
	if (fflush(stdout) == EOF) {
		snprintf(detail, OPTIONS_DETAIL, "output: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	return 0;
}

/* Of the signal that ends it, after the terminal is as it was; 0: none. */
static volatile sig_atomic_t ended_by;

static void
end(int sig)
{
	ended_by = sig;
}

/* Keys come one by one and are not shown.  False: standard input is none. */
static bool
keys_begin(struct termios *before)
{
	const struct sigaction action = {.sa_handler = end};
	struct termios keys;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, before) == -1)
		return false;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	keys = *before;
	keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	return tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
}

/* Until it is time, or it is to end: then true. */
static bool
wait_for_end(unsigned ms, bool keys)
{
	struct pollfd in = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
	struct timespec now;
	int64_t until, left;
	char key;

	clock_gettime(CLOCK_MONOTONIC, &now);
	until = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + ms;
	for (left = ms; left > 0 && ended_by == 0;) {
		if (poll(&in, 1, (int)left) == 1) {
			if (read(in.fd, &key, 1) != 1)
				in.fd = -1;
			else if (key == 'q' || key == 'Q')
				return true;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		left =
		    until - (int64_t)now.tv_sec * 1000 - now.tv_nsec / 1000000;
	}
	return ended_by != 0;
}

int
stats_show(const struct options *o, char detail[OPTIONS_DETAIL])
{
	/* A terminal shows one picture, a file or a program all of them. */
	bool terminal = o->watch_ms != 0 && !o->json && isatty(STDOUT_FILENO);
	struct termios before;
	bool keys = terminal && keys_begin(&before);
	int status;
	char *buf;

	if ((buf = malloc(SHOW_MAX + 1)) == NULL) {
		snprintf(detail, OPTIONS_DETAIL, "%s", strerror(ENOMEM));
		status = EXIT_FAILURE;
		goto out;
	}
	while ((status = print(o, buf, terminal, detail)) == 0 &&
	    o->watch_ms != 0) {
		if (!terminal && !o->json)
			putchar('\n');
		if (wait_for_end(o->watch_ms, keys))
			break;
	}
out:
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	free(buf);
	if (ended_by != 0) {
		signal(ended_by, SIG_DFL);
		raise(ended_by);
	}
	return status;
}
