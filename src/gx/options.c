#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gx.h"
#include "options.h"

enum {
	OPT_FOLLOW = 256,
	OPT_DETACH,
	OPT_ATTACH,
	OPT_JOBS,
	OPT_KILL,
	OPT_CLEAN,
	OPT_CONTROL,
	OPT_TIMEOUT,
	OPT_ENV,
	OPT_JSON,
	OPT_URL,
	OPT_PROGRAMS,
};

static const struct option long_options[] = {
    {"follow", no_argument, NULL, OPT_FOLLOW},
    {"detach", no_argument, NULL, OPT_DETACH},
    {"attach", required_argument, NULL, OPT_ATTACH},
    {"jobs", no_argument, NULL, OPT_JOBS},
    {"kill", required_argument, NULL, OPT_KILL},
    {"clean", no_argument, NULL, OPT_CLEAN},
    {"control", required_argument, NULL, OPT_CONTROL},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"env", required_argument, NULL, OPT_ENV},
    {"json", no_argument, NULL, OPT_JSON},
    {"url", required_argument, NULL, OPT_URL},
    {"programs", no_argument, NULL, OPT_PROGRAMS},
    {"terminal", no_argument, NULL, 't'},
    {"help", no_argument, NULL, 'h'},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void
usage(FILE *f)
{
	fputs(
	    "usage: gx [OPTION...] COMMAND [ARGUMENT...]\n"
	    "       gx [OPTION...] -c TEXT\n"
	    "       gx [OPTION...] [-t]            the shell of the VM\n"
	    "       gx --jobs | --attach N | --kill N | --clean | --url "
	    "FILE\n"
	    "Run a command in the VM, in the current directory of a mounted "
	    "room.\n"
	    "  -c TEXT           a command line for the VM's shell\n"
	    "  -t, --terminal    in a terminal of the VM\n"
	    "  -n                no standard input; -i: also that of a "
	    "terminal\n"
	    "  -C DIR            begin in DIR\n"
	    "  --env NAME[=VALUE]\n"
	    "                    with this variable, its value here if none "
	    "is given\n"
	    "  --timeout S       end it after so many seconds (exit 124)\n"
	    "  -v, --verbose     list the files that it changed, on stderr\n"
	    "  --json            one object: exit code, output, changed "
	    "files\n"
	    "  --follow          run it as a job, which --attach can find "
	    "later\n"
	    "  --detach          start a job and leave it\n"
	    "  --jobs            list the jobs of this VM (also with --json)\n"
	    "  --attach N        show the output of job N, until it ends\n"
	    "  --kill N          end it\n"
	    "  --clean           forget the jobs that have ended\n"
	    "  --url FILE        where anybody can read this file\n"
	    "  --control NAME    the mount's control file (.exec)\n"
	    "  -h, -V            this help; the version\n"
	    "Ctrl-C ends the command, Ctrl-\\ leaves it running as a job.\n",
	    f);
}

static int
misused(const char *why)
{
	gx_warn("%s; see gx -h", why);
	return GX_USAGE;
}

static bool
parse_job(const char *text, unsigned long *job)
{
	char *end;

	if (text[0] < '1' || text[0] > '9')
		return false;
	errno = 0;
	*job = strtoul(text, &end, 10);
	return *end == '\0' && errno == 0;
}

/* Digits, and perhaps a fraction; not 0. */
static bool
is_seconds(const char *text)
{
	size_t n = strspn(text, "0123456789");
	const char *rest = text + n;

	if (n == 0 || n > 8)
		return false;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	return *rest == '\0' && strlen(text) < 16 &&
	    strpbrk(text, "123456789") != NULL;
}

static int
add_variable(struct options *o, const char *text)
{
	size_t n = strcspn(text, "="), i;
	const char *value = text[n] == '=' ? text + n + 1 : NULL;
	char *name;

	for (i = 0; i < n; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '_')
			break;
	if (n == 0 || i < n || isdigit((unsigned char)text[0])) {
		gx_warn("--env %s: not the name of a variable", text);
		return GX_USAGE;
	}
	if ((name = strndup(text, n)) == NULL)
		exit(GX_FAILED);
	if (value == NULL)
		value = getenv(name);
	if (value != NULL) {
		text_printf(&o->before, "export %s=", name);
		text_quote(&o->before, value);
		text_puts(&o->before, "\n");
	}
	free(name);
	return 0;
}

static int
set_action(struct options *o, enum action action)
{
	if (o->action != RUN && o->action != action)
		return misused("one of --attach, --jobs, --kill, --clean and "
			       "--url");
	o->action = action;
	return 0;
}

static int
set_job(struct options *o, enum action action)
{
	if (!parse_job(optarg, &o->job)) {
		gx_warn("%s: not the number of a job; see gx --jobs", optarg);
		return GX_USAGE;
	}
	return set_action(o, action);
}

/* Those that take a value or exclude others. */
static int
parse_more(struct options *o, int c)
{
	switch (c) {
	case OPT_ATTACH:
		return set_job(o, ATTACH);
	case OPT_KILL:
		return set_job(o, KILL);
	case OPT_JOBS:
		return set_action(o, JOBS);
	case OPT_CLEAN:
		return set_action(o, CLEAN);
	case OPT_PROGRAMS:
		return set_action(o, PROGRAMS);
	case OPT_URL:
		o->file = optarg;
		return set_action(o, URL);
	case OPT_ENV:
		return add_variable(o, optarg);
	case OPT_CONTROL:
		o->control = optarg;
		return 0;
	case OPT_TIMEOUT:
		o->timeout = optarg;
		return is_seconds(optarg)
		    ? 0
		    : misused("--timeout: a number of seconds");
	case 'c':
		if (o->text != NULL)
			return misused("one -c only");
		o->text = optarg;
		return 0;
	case 'C':
		if (chdir(optarg) == 0)
			return 0;
		gx_warn("%s: %s", optarg, strerror(errno));
		return GX_FAILED;
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

static int
check(struct options *o)
{
	bool command = o->text != NULL || o->words[0] != NULL;

	if (o->control != NULL &&
	    (*o->control == '\0' || strchr(o->control, '/') != NULL))
		return misused("--control: a file's name without any slash");
	if (o->action != RUN) {
		if (command || o->input || o->terminal || o->follow ||
		    o->detach || o->timeout != NULL)
			return misused("--attach, --jobs, --kill, --clean and "
				       "--url take no command");
		return o->json && o->action != JOBS
		    ? misused("--json: with a command, or with --jobs")
		    : 0;
	}
	if (o->text != NULL && o->words[0] != NULL)
		return misused("-c TEXT or a command, not both");
	if (o->input && o->no_input)
		return misused("-i or -n, not both");
	if (o->terminal && (o->detach || o->json))
		return misused("-t: neither with --detach nor with --json");
	if (o->detach && o->json)
		return misused("--detach or --json, not both");
	if (command)
		return 0;
	/* gx alone is a shell, where there is somebody to type. */
	if (o->follow || o->detach || o->json ||
	    (!o->terminal && !isatty(STDIN_FILENO))) {
		usage(stderr);
		return GX_USAGE;
	}
	o->terminal = o->shell = true;
	return 0;
}

int
options_parse(int argc, char **argv, struct options *o)
{
	int c, status;

	while ((c = getopt_long(
		    argc, argv, "+c:C:hintvV", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_FOLLOW:
			o->follow = true;
			break;
		case OPT_DETACH:
			o->detach = true;
			break;
		case OPT_JSON:
			o->json = true;
			break;
		case 'i':
			o->input = true;
			break;
		case 'n':
			o->no_input = true;
			break;
		case 't':
			o->terminal = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		default:
			if ((status = parse_more(o, c)) != 0)
				return status;
		}
	}
	o->words = argv + optind;
	return check(o);
}
