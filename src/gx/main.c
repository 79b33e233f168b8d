#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "call.h"
#include "gx.h"
#include "options.h"
#include "run.h"
#include "term.h"

/* The cursor stands behind output, on the terminal that we complain to. */
static bool inside_line;

void
gx_warn(const char *fmt, ...)
{
	va_list ap;
	char *line, *p;

	va_start(ap, fmt);
	if (vasprintf(&line, fmt, ap) == -1)
		line = NULL;
	va_end(ap);
	/* Some of it may come from the VM: one line, and no tricks. */
	for (p = line; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = p[1] == '\0' ? '\0' : '?';
	if (inside_line)
		fputs(term_taken() ? "\r\n" : "\n", stderr);
	inside_line = false;
	if (line != NULL)
		fprintf(
		    stderr, term_taken() ? "\rgx: %s\r\n" : "gx: %s\n", line);
	free(line);
}

void
gx_token(char token[17])
{
	unsigned char bytes[8];
	size_t i;

	if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
		gx_warn("no random numbers: %s", strerror(errno));
		exit(GX_FAILED);
	}
	for (i = 0; i < sizeof bytes; i++)
		snprintf(token + 2 * i, 3, "%02x", bytes[i]);
}

int
gx_exit_code(int code)
{
	return code < 0 || code > 255 ? GX_FAILED : code;
}

int
gx_output(int fd, const char *data, size_t len, size_t *written, int *number)
{
	/* What poll() has room for in a pipe never blocks. */
	const size_t piece = 4096;
	ssize_t n;
	int r;

	*written = 0;
	if (len > 0)
		inside_line = data[len - 1] != '\n' && isatty(fd) &&
		    isatty(STDERR_FILENO);
	while (*written < len) {
		if ((r = call_wait_output(fd, number)) < 0)
			return r;
		n = len - *written < piece ? (ssize_t)(len - *written)
					   : (ssize_t)piece;
		n = write(fd, data + *written, (size_t)n);
		if (n == -1 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0)
			*written += (size_t)n;
	}
	return 0;
}

/* The address at which anybody can read it; asks nothing. */
static int
url(const char *file)
{
	char text[8192];
	ssize_t n;

	n = getxattr(file, "user.gentility.public_url", text, sizeof text - 1);
	if (n == -1) {
		gx_warn("%s: %s", file,
		    errno == ENODATA || errno == ENOTSUP
			? "not a file of a mounted room"
			: strerror(errno));
		return GX_FAILED;
	}
	text[n] = '\0';
	puts(text);
	return 0;
}

/* A file that we open must not become one of the standard ones. */
static void
open_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd != -1)
		close(fd);
}

static int
act(const struct place *p, const struct options *o)
{
	switch (o->action) {
	case JOBS:
		return job_list(p, o->json);
	case KILL:
		return job_kill(p, o->job);
	case CLEAN:
		return job_clean(p);
	case PROGRAMS:
		return programs_list(p);
	default:
		return run(p, o);
	}
}

int
main(int argc, char **argv)
{
	struct options o = {.action = RUN};
	struct place place;
	char why[PLACE_WHY];
	int status;

	open_standard();
	o.control = getenv("GX_CONTROL");
	if (o.control != NULL && *o.control == '\0')
		o.control = NULL;
	if ((status = options_parse(argc, argv, &o)) != 0)
		return status == -1 ? 0 : status;
	if (o.action == URL)
		return url(o.file);
	if (place_find(&place, o.control, why) != 0) {
		gx_warn("%s", why);
		return GX_FAILED;
	}
	status = act(&place, &o);
	text_free(&o.before);
	place_free(&place);
	return status;
}
