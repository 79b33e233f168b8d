#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/base64.h"
#include "call.h"
#include "compose.h"
#include "gx.h"
#include "text.h"

/* No command can be longer, with its input. */
#define INPUT_MAX ((size_t)1024 * 1024)

enum action { RUN, FOLLOW, ATTACH, JOBS, KILL, CLEAN };

struct arguments {
	enum action action;
	unsigned long job;
	const char *text, *control;
	bool input, verbose;
	char **words;
};

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
	if (line != NULL)
		fprintf(stderr, "gx: %s\n", line);
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
gx_output(const char *data, size_t len, int *number)
{
	/* What poll() has room for in a pipe never blocks. */
	const size_t piece = 4096;
	ssize_t n;
	int r;

	while (len > 0) {
		if ((r = call_wait_output(STDOUT_FILENO, number)) < 0)
			return r;
		n = write(STDOUT_FILENO, data, len < piece ? len : piece);
		if (n == -1 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int
gx_output_failed(int error, int number)
{
	if (error == -EINTR)
		return 128 + number;
	/* Where SIGPIPE is ignored: end as if it were not. */
	if (error == -EPIPE)
		return 128 + SIGPIPE;
	gx_warn("writing the output: %s", strerror(-error));
	return GX_FAILED;
}

static void
usage(FILE *f)
{
	fputs("usage: gx [-iv] [--follow] COMMAND [ARGUMENT...]\n"
	      "       gx [-iv] [--follow] -c TEXT\n"
	      "       gx --jobs | --attach N | --kill N | --clean\n"
	      "Run a command in the VM, in the current directory of a mounted "
	      "room.\n"
	      "  -c TEXT         a command line for the VM's shell\n"
	      "  -i              send standard input along\n"
	      "  -v              list the files that it changed, on stderr\n"
	      "  --follow        run it as a job, which goes on by itself, and "
	      "show its output\n"
	      "  --jobs          list the jobs of this VM\n"
	      "  --attach N      show the output of job N, until it ends\n"
	      "  --kill N        end it\n"
	      "  --clean         forget the jobs that have ended\n"
	      "  --control NAME  the mount's control file (.exec)\n"
	      "  -h, -V          this help; the version\n",
	    f);
}

static int
misused(const char *why)
{
	if (why != NULL)
		gx_warn("%s; see gx -h", why);
	return GX_USAGE;
}

static bool
parse_job(const char *text, unsigned long *job)
{
	char *end;

	if (text == NULL || text[0] < '1' || text[0] > '9')
		return false;
	errno = 0;
	*job = strtoul(text, &end, 10);
	return *end == '\0' && errno == 0;
}

/* 0, or the status to exit with, -1: 0. */
static int
parse(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
	    {"follow", no_argument, NULL, FOLLOW},
	    {"attach", required_argument, NULL, ATTACH},
	    {"jobs", no_argument, NULL, JOBS},
	    {"kill", required_argument, NULL, KILL},
	    {"clean", no_argument, NULL, CLEAN},
	    {"control", required_argument, NULL, 'C'},
	    {"help", no_argument, NULL, 'h'},
	    {"verbose", no_argument, NULL, 'v'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+c:ihvV", options, NULL)) != -1) {
		switch (c) {
		case FOLLOW:
		case ATTACH:
		case JOBS:
		case KILL:
		case CLEAN:
			if (a->action != RUN && a->action != (enum action)c)
				return misused("one of --follow, --attach, "
					       "--jobs, --kill and --clean");
			a->action = (enum action)c;
			if ((c == ATTACH || c == KILL) &&
			    !parse_job(optarg, &a->job)) {
				gx_warn("%s: not the number of a job; see gx "
					"--jobs",
				    optarg);
				return GX_USAGE;
			}
			break;
		case 'C':
			a->control = optarg;
			break;
		case 'c':
			if (a->text != NULL)
				return misused("one -c only");
			a->text = optarg;
			break;
		case 'i':
			a->input = true;
			break;
		case 'v':
			a->verbose = true;
			break;
		case 'h':
			usage(stdout);
			return -1;
		case 'V':
			puts("gx " PACKAGE_VERSION);
			return -1;
		default:
			return GX_USAGE; /* getopt has said why */
		}
	}
	a->words = argv + optind;
	return 0;
}

static int
check(const struct arguments *a)
{
	bool command = a->text != NULL || a->words[0] != NULL;

	if (a->control != NULL &&
	    (*a->control == '\0' || strchr(a->control, '/') != NULL))
		return misused("--control: a file's name without any slash");
	if (a->action != RUN && a->action != FOLLOW)
		return command || a->input
		    ? misused("--attach, --jobs, --kill and --clean take no "
			      "command")
		    : 0;
	if (a->text != NULL && a->words[0] != NULL)
		return misused("-c TEXT or a command, not both");
	if (!command) {
		usage(stderr);
		return GX_USAGE;
	}
	return 0;
}

/* All of stdin, in base64; NULL: said why. */
static char *
read_input(void)
{
	struct text t = {0};
	char buf[65536], *encoded = NULL;
	ssize_t n = 0;
	size_t len;

	while (!t.failed && t.len <= INPUT_MAX &&
	    ((n = read(STDIN_FILENO, buf, sizeof buf)) > 0 ||
		(n == -1 && errno == EINTR)))
		if (n > 0)
			text_add(&t, buf, (size_t)n);
	if (n == -1)
		gx_warn("standard input: %s", strerror(errno));
	else if (t.len / 3 * 4 > INPUT_MAX)
		gx_warn("standard input is too long for -i; write it to a file "
			"in the mount");
	else if (t.failed ||
	    (encoded = base64_encode(t.len == 0 ? "" : t.data, t.len, &len)) ==
		NULL)
		gx_warn("%s", strerror(ENOMEM));
	text_free(&t);
	return encoded;
}

/* The command as one text for the VM's shell. */
static int
compose(const struct arguments *a, struct text *out)
{
	struct text t = {0};
	char *input = NULL;

	if (a->text != NULL) {
		text_puts(&t, a->text);
	} else {
		text_quote_words(&t, a->words);
		/* A job has no input anyway; -c may be read from there. */
		if (!a->input && a->action == RUN)
			text_puts(&t, " </dev/null");
	}
	if (a->input) {
		if ((input = read_input()) == NULL) {
			text_free(&t);
			return GX_FAILED;
		}
		compose_input(out, t.failed ? "" : t.data, input);
		free(input);
		out->failed = out->failed || t.failed;
		text_free(&t);
	} else {
		*out = t;
	}
	if (!out->failed)
		return 0;
	gx_warn("%s", strerror(ENOMEM));
	return GX_FAILED;
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

int
main(int argc, char **argv)
{
	struct arguments a = {.action = RUN};
	struct text command = {0};
	struct place place;
	char why[PLACE_WHY];
	int status;

	open_standard();
	a.control = getenv("GX_CONTROL");
	if (a.control != NULL && *a.control == '\0')
		a.control = NULL;
	if ((status = parse(argc, argv, &a)) != 0)
		return status == -1 ? 0 : status;
	if ((status = check(&a)) != 0)
		return status;
	if (place_find(&place, a.control, why) != 0) {
		gx_warn("%s", why);
		return GX_FAILED;
	}
	if (a.action == RUN || a.action == FOLLOW)
		status = compose(&a, &command);
	if (status == 0) {
		switch (a.action) {
		case RUN:
			status = run_command(&place, command.data, a.verbose);
			break;
		case FOLLOW:
			status = job_follow(&place, command.data);
			break;
		case ATTACH:
			status = job_attach(&place, a.job);
			break;
		case JOBS:
			status = job_list(&place);
			break;
		case KILL:
			status = job_kill(&place, a.job);
			break;
		case CLEAN:
			status = job_clean(&place);
			break;
		}
	}
	text_free(&command);
	place_free(&place);
	return status;
}
