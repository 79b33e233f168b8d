#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/config.h"
#include "cli/key.h"
#include "cli/option_value.h"
#include "cli/options_impl.h"
#include "cli/source.h"

#define DEFAULT_URL	"https://api.gentility.ai"
#define DEFAULT_CONTROL ".exec"

void *
options_need(void *memory)
{
	if (memory == NULL) {
		fputs("gentilityfs: out of memory\n", stderr);
		exit(STATUS_FAILED);
	}
	return memory;
}

int
options_wrong(struct parse *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->detail, OPTIONS_DETAIL, fmt, ap);
	va_end(ap);
	return STATUS_USAGE;
}

void
options_set_string(char **to, char *value)
{
	free(*to);
	*to = options_need(value);
}

static const char *
home_directory(void)
{
	const char *home = getenv("HOME");
	struct passwd *pw;

	/* mount(8) and init may leave HOME out. */
	if (home != NULL && home[0] == '/')
		return home;
	/* Nobody else runs yet. */
	/* cppcheck-suppress getpwuidCalled */
	if ((pw = getpwuid(getuid())) != NULL && pw->pw_dir[0] == '/')
		return pw->pw_dir;
	return NULL;
}

char *
options_home(const char *path)
{
	const char *home;
	char *full;

	if (strncmp(path, "~/", 2) == 0 && (home = home_directory()) != NULL) {
		if (asprintf(&full, "%s%s", home, path + 1) == -1)
			full = NULL;
		return options_need(full);
	}
	return options_need(strdup(path));
}

static int
default_cache_dir(struct parse *p)
{
	struct options *o = p->options;
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = home_directory();
	int n;

	if (xdg != NULL && xdg[0] == '/')
		n = asprintf(&o->cache_dir, "%s/gentilityfs", xdg);
	else if (getenv("HOME") == NULL && getuid() == 0)
		/* At boot: root's home may not be mounted yet. */
		n = asprintf(&o->cache_dir, "/var/cache/gentilityfs");
	else if (home != NULL)
		n = asprintf(&o->cache_dir, "%s/.cache/gentilityfs", home);
	else
		return options_wrong(p,
		    "no home directory for the cache: "
		    "give one with -o cache_dir=DIR");
	if (n == -1)
		o->cache_dir = NULL;
	options_need(o->cache_dir);
	return 0;
}

static char *
absolute(char *path)
{
	char *cwd, *full = NULL;

	if (path[0] == '/')
		return path;
	cwd = options_need(getcwd(NULL, 0));
	if (asprintf(&full, "%s/%s", cwd, path) == -1)
		full = NULL;
	free(cwd);
	free(path);
	return options_need(full);
}

/*
 * What the kernel or fusermount3 is told: nothing but what both understand.
 */
static void
kernel_options(struct parse *p)
{
	struct options *o = p->options;
	const char *in = p->fsname != NULL ? p->fsname : o->source;
	char *name = options_need(malloc(2 * strlen(in) + 1)), *out = name;

	for (; *in != '\0'; in++) {
		if (*in == ',' || *in == '\\')
			*out++ = '\\';
		*out++ = *in;
	}
	*out = '\0';
	if (asprintf(&o->fuse_options,
		"fsname=%s,subtype=gentilityfs,nosuid,nodev%s%s%s%s%s%s%s%s",
		name, o->read_only ? ",ro" : "",
		o->allow_other ? ",allow_other" : "",
		o->default_permissions ? ",default_permissions" : "",
		p->noexec ? ",noexec" : "", p->noatime ? ",noatime" : "",
		p->sync ? ",sync" : "", p->dirsync ? ",dirsync" : "",
		p->auto_unmount ? ",auto_unmount" : "") == -1)
		o->fuse_options = NULL;
	options_need(o->fuse_options);
	free(name);
}

/* All that depends on more than one option. */
static int
complete(struct parse *p)
{
	struct options *o = p->options;
	const char *url = getenv("GENTILITY_API_URL"), *origin = "-o url";
	int status;

	if (o->url == NULL) {
		if (url != NULL && url[0] != '\0')
			origin = "GENTILITY_API_URL";
		else
			url = DEFAULT_URL;
		options_set_string(&o->url, strdup(url));
	}
	if (source_check_url(o->url, o->insecure_http, origin, p->detail,
		OPTIONS_DETAIL) != 0)
		return STATUS_USAGE;
	if (o->cache_dir == NULL && (status = default_cache_dir(p)) != 0)
		return status;
	if (o->cache_dir[0] != '/')
		return options_wrong(p,
		    "-o cache_dir=%s: it must be an absolute path",
		    o->cache_dir);
	/* The daemon leaves the directory it was started in. */
	if (o->cacert != NULL) {
		o->cacert = absolute(o->cacert);
		if (access(o->cacert, R_OK) == -1) {
			options_wrong(
			    p, "-o cacert=%s: %s", o->cacert, strerror(errno));
			return STATUS_FAILED;
		}
	}
	if (o->key_file != NULL)
		o->key_file = absolute(o->key_file);
	if (o->log_file != NULL)
		o->log_file = absolute(o->log_file);
	if (o->debug)
		o->foreground = true;
	kernel_options(p);
	return 0;
}

/* Long options without a letter. */
enum {
	FLAG_CHECK = 256,
	FLAG_STATS,
	FLAG_LIST,
	FLAG_UNMOUNT,
	FLAG_RECOVERED,
	FLAG_ALL,
	FLAG_FORGET,
	FLAG_JSON,
	FLAG_PROMETHEUS,
	FLAG_WATCH
};

static const struct option longopts[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"check", no_argument, NULL, FLAG_CHECK},
    {"stats", no_argument, NULL, FLAG_STATS},
    {"list", no_argument, NULL, FLAG_LIST},
    {"unmount", no_argument, NULL, FLAG_UNMOUNT},
    {"recovered", no_argument, NULL, FLAG_RECOVERED},
    {"all", no_argument, NULL, FLAG_ALL},
    {"forget", no_argument, NULL, FLAG_FORGET},
    {"json", no_argument, NULL, FLAG_JSON},
    {"prometheus", no_argument, NULL, FLAG_PROMETHEUS},
    {"watch", optional_argument, NULL, FLAG_WATCH},
    {NULL, 0, NULL, 0},
};

/* The long option that was probably meant; NULL: none is like it. */
static const char *
similar_flag(const char *word)
{
	const char *names[sizeof longopts / sizeof *longopts] = {NULL};
	size_t i;

	for (i = 0; longopts[i].name != NULL; i++)
		names[i] = longopts[i].name;
	return option_similar(word, names);
}

static int
unknown_flag(struct parse *p, char **argv)
{
	const char *word = argv[optind - 1], *similar;

	/* A long one is where getopt stands; of a cluster it tells the letter.
	 */
	if (optopt == 0 || strncmp(word, "--", 2) == 0) {
		if ((similar = similar_flag(word + 2)) != NULL)
			return options_wrong(p,
			    "unknown option: %s (did you mean --%s?)", word,
			    similar);
		return options_wrong(
		    p, "unknown option: %s (see gentilityfs -h)", word);
	}
	return options_wrong(
	    p, "unknown option: -%c (see gentilityfs -h)", optopt);
}

/* What is to be done instead of a mount, and how its result is shown. */
static int
set_task(struct parse *p, int flag, const char *value)
{
	struct options *o = p->options;
	static const enum options_task tasks[] = {OPTIONS_CHECK, OPTIONS_STATS,
	    OPTIONS_LIST, OPTIONS_UNMOUNT, OPTIONS_RECOVERED};
	enum options_task task = o->task;

	switch (flag) {
	case FLAG_CHECK:
	case FLAG_STATS:
	case FLAG_LIST:
	case FLAG_UNMOUNT:
	case FLAG_RECOVERED:
		o->task = tasks[flag - FLAG_CHECK];
		if (task != OPTIONS_MOUNT && task != o->task)
			return options_wrong(p,
			    "--check, --stats, --list, --unmount and "
			    "--recovered exclude each other");
		break;
	case FLAG_ALL:
		o->all = true;
		break;
	case FLAG_FORGET:
		o->forget = true;
		break;
	case FLAG_JSON:
		o->json = true;
		break;
	case FLAG_PROMETHEUS:
		o->prometheus = true;
		break;
	case FLAG_WATCH:
		o->watch_ms = 2000;
		if (value != NULL &&
		    (!option_seconds(value, 86400, &o->watch_ms) ||
			o->watch_ms < 100))
			return options_wrong(p,
			    "--watch=%s: not a number of seconds from 0.1 to "
			    "86400",
			    value);
		break;
	}
	return 0;
}

static int
check_task(struct parse *p)
{
	const struct options *o = p->options;

	if (o->json && (o->task == OPTIONS_MOUNT || o->task == OPTIONS_UNMOUNT))
		return options_wrong(p,
		    "--json goes with --check, --stats, --list or --recovered "
		    "only");
	if (o->all && o->task != OPTIONS_UNMOUNT)
		return options_wrong(p, "--all goes with --unmount only");
	if (o->forget && (o->task != OPTIONS_RECOVERED || o->json))
		return options_wrong(p, "--forget goes with --recovered only");
	if (o->prometheus && o->task != OPTIONS_STATS)
		return options_wrong(p, "--prometheus goes with --stats only");
	if (o->watch_ms != 0 && o->task != OPTIONS_STATS)
		return options_wrong(p, "--watch goes with --stats only");
	if (o->prometheus && (o->json || o->watch_ms != 0))
		return options_wrong(
		    p, "--prometheus excludes --json and --watch");
	return 0;
}

/* Those of the command line come after the configuration's, and win. */
static int
remember_options(struct parse *p, const char *list)
{
	char *all;

	if (asprintf(&all, "%s%s%s", p->given != NULL ? p->given : "",
		p->given != NULL ? "," : "", list) == -1)
		all = NULL;
	options_set_string(&p->given, all);
	return 0;
}

/* Flags that only mount(8) gives to its helpers mean nothing here. */
static int
set_flag(struct parse *p, int c, char **argv)
{
	struct options *o = p->options;

	switch (c) {
	case 'd':
		o->debug = true;
		break;
	case 'f':
		if (p->mount_helper)
			o->fake = true;
		else
			o->foreground = true;
		break;
	case 's':
		if (p->mount_helper)
			p->sloppy = true;
		else
			o->single = true;
		break;
	case 'n': /* mount(8): no mtab, -v, the type, a namespace */
	case 'v':
	case 't':
	case 'N':
		break;
	case 'h':
		o->show_help = true;
		break;
	case 'V':
		o->show_version = true;
		break;
	case 'o':
		return remember_options(p, optarg);
	case FLAG_CHECK:
	case FLAG_STATS:
	case FLAG_LIST:
	case FLAG_UNMOUNT:
	case FLAG_RECOVERED:
	case FLAG_ALL:
	case FLAG_FORGET:
	case FLAG_JSON:
	case FLAG_PROMETHEUS:
	case FLAG_WATCH:
		return set_task(p, c, optarg);
	case ':':
		return options_wrong(p, "option -%c needs a value", optopt);
	default:
		return unknown_flag(p, argv);
	}
	return 0;
}

#define USAGE_MOUNT "gentilityfs [options] PROFILE/ROOM[:PATH] MOUNTPOINT"

/*
 * A word that is no SOURCE may be the name of a room: its SOURCE, its options,
 * and where it is mounted.
 */
static int
use_name(struct parse *p, const char *name, char **source)
{
	struct options *o = p->options;
	struct config_room room;
	int error, status = STATUS_USAGE;

	error = config_find(name, &room, p->detail, OPTIONS_DETAIL);
	if (error == 0) {
		options_set_string(source, strdup(room.source));
		if (room.mountpoint == NULL &&
		    asprintf(&room.mountpoint, "~/rooms/%s", name) == -1)
			room.mountpoint = NULL;
		options_need(room.mountpoint);
		options_set_string(
		    &o->mountpoint, absolute(options_home(room.mountpoint)));
		o->by_name = true;
		status =
		    room.options != NULL ? options_set(p, room.options) : 0;
	}
	config_room_free(&room);
	return status;
}

/* SOURCE, or a name that stands for one. */
static int
set_source(struct parse *p, const char *word)
{
	struct options *o = p->options;
	struct source source;
	char *named = NULL;
	int error = 0, status = 0;

	if (*word != '\0' && strchr(word, '/') == NULL &&
	    strchr(word, '#') == NULL)
		status = use_name(p, word, &named);
	if (status == 0 && p->given != NULL)
		status = options_set(p, p->given);
	if (status == 0) {
		error = source_parse(named != NULL ? named : word, &source,
		    p->detail, OPTIONS_DETAIL);
		if (error == -ENOMEM)
			options_need(NULL);
		status = error != 0 ? STATUS_USAGE : 0;
	}
	free(named);
	if (status != 0)
		return status;
	o->source = source.text;
	o->profile = source.profile;
	o->room = source.room;
	o->path = source.path;
	return 0;
}

static int
are_swapped(struct parse *p, const char *first, const char *second)
{
	struct source source;

	if (first == NULL || second == NULL || first[0] != '/' ||
	    source_parse(second, &source, p->detail, OPTIONS_DETAIL) != 0)
		return 0;
	source_free(&source);
	return options_wrong(p,
	    "SOURCE comes first, then MOUNTPOINT: gentilityfs %s %s", second,
	    first);
}

/* What a task other than check and mount is about. */
static int
set_subject(struct parse *p, const char *word)
{
	struct options *o = p->options;
	int status;

	if (p->given != NULL && (status = options_set(p, p->given)) != 0)
		return status;
	if (o->task == OPTIONS_RECOVERED || o->task == OPTIONS_LIST) {
		if (word != NULL)
			return options_wrong(p,
			    "unexpected argument: %s (see gentilityfs -h)",
			    word);
		return o->cache_dir == NULL ? default_cache_dir(p) : 0;
	}
	if (o->all && word != NULL)
		return options_wrong(p, "--all takes no MOUNTPOINT: %s", word);
	if (o->all)
		return 0;
	if (word == NULL || word[0] == '\0')
		return options_wrong(p,
		    "MOUNTPOINT is missing: gentilityfs --%s MOUNTPOINT",
		    o->task == OPTIONS_STATS ? "stats" : "unmount");
	options_set_string(&o->mountpoint, strdup(word));
	/* A name of the configuration, else a directory. */
	if (o->task == OPTIONS_UNMOUNT && strchr(word, '/') == NULL) {
		char *source = NULL;

		status = use_name(p, word, &source);
		free(source);
		if (status != 0 && access(word, F_OK) == -1)
			return status;
		p->detail[0] = '\0';
	}
	return 0;
}

/* The arguments that are no options; NULL: not given. */
static int
set_words(struct parse *p, const char *first, const char *second)
{
	struct options *o = p->options;
	int status;

	if (o->task != OPTIONS_MOUNT && o->task != OPTIONS_CHECK)
		return set_subject(p, first);
	if (first == NULL)
		return options_wrong(p, "SOURCE is missing: %s%s",
		    o->task == OPTIONS_CHECK
			? "gentilityfs --check PROFILE/ROOM[:PATH]"
			: USAGE_MOUNT,
		    " (see gentilityfs -h)");
	if ((status = are_swapped(p, first, second)) != 0 ||
	    (status = set_source(p, first)) != 0)
		return status;
	if (o->task == OPTIONS_CHECK) {
		free(o->mountpoint);
		o->mountpoint = NULL;
		return complete(p);
	}
	if (second != NULL && second[0] != '\0') {
		o->by_name = false;
		options_set_string(&o->mountpoint, strdup(second));
	} else if (o->mountpoint == NULL)
		return options_wrong(p, "MOUNTPOINT is missing: " USAGE_MOUNT);
	return complete(p);
}

static int
parse_arguments(struct parse *p, int argc, char **argv)
{
	struct options *o = p->options;
	const char *words[2] = {NULL, NULL}, *more = NULL;
	/* '-': also words between options, whatever POSIXLY_CORRECT says. */
	const char *letters = p->mount_helper ? "-:fnsvVho:t:N:" : "-:dfhsVo:";
	size_t count = 0;
	int c, status;

	opterr = 0;
	optind = 0; /* glibc: start over */
	while ((c = getopt_long(argc, argv, letters, longopts, NULL)) != -1) {
		if (c != 1) {
			if ((status = set_flag(p, c, argv)) != 0)
				return status;
			if (o->show_help || o->show_version)
				return 0;
		} else if (count < 2)
			words[count++] = optarg;
		else if (more == NULL)
			more = optarg;
	}
	for (; optind < argc; optind++) /* behind "--" */
		if (count < 2)
			words[count++] = argv[optind];
		else if (more == NULL)
			more = argv[optind];
	if ((status = check_task(p)) != 0)
		return status;
	if (o->task != OPTIONS_MOUNT && words[1] != NULL)
		more = words[1];
	if (more != NULL)
		return options_wrong(
		    p, "unexpected argument: %s (see gentilityfs -h)", more);
	return set_words(p, words[0], words[1]);
}

int
options_parse(
    struct options *o, int argc, char **argv, char detail[OPTIONS_DETAIL])
{
	struct parse p = {.options = o, .detail = detail};
	const char *name;
	int status;

	*o = (struct options){
	    .transform_symlinks = true,
	    .idmap = true,
	    .cache_timeout_ms = 5000,
	    .cache_size = (uint64_t)1 << 30,
	    .cache_entries = 2000000,
	    .timeout_s = 30,
	    .max_connections = 8,
	    .control = options_need(strdup(DEFAULT_CONTROL)),
	    .list_control = LIST_CONTROL_ROOT,
	};
	detail[0] = '\0';
	if (argc > 0) {
		name = strrchr(argv[0], '/');
		name = name != NULL ? name + 1 : argv[0];
		p.mount_helper = strncmp(name, "mount.", 6) == 0;
	}
	status = parse_arguments(&p, argc, argv);
	free(p.fsname);
	free(p.given);
	return status;
}

void
options_free(struct options *o)
{
	free(o->source);
	free(o->profile);
	free(o->room);
	free(o->path);
	free(o->mountpoint);
	free(o->url);
	free(o->cacert);
	free(o->key_file);
	free(o->log_file);
	key_free(o->key);
	free(o->key_from);
	free(o->cache_dir);
	free(o->control);
	free(o->fuse_options);
	*o = (struct options){0};
}

void
options_usage(FILE *out)
{
	/* clang-format off */
	fputs(
"usage: gentilityfs [options] PROFILE/ROOM[:PATH] MOUNTPOINT, or NAME\n"
"       gentilityfs --check SOURCE, --stats MOUNTPOINT, --list, --recovered,\n"
"       --unmount MOUNTPOINT|NAME|--all\n"
" -f  stay in the foreground   -d  and show each request   -s  one thread\n"
" -h  this help                -V  version                 -o  NAME[=VALUE],...\n"
"  key_file=FILE        the key; else $GENTILITY_API_KEY, or what is in\n"
"                       ~/.config/gentilityfs/key or /etc/gentilityfs/key\n"
"  url=URL              the service (" DEFAULT_URL ")\n"
"  create               start the room's VM if it has none\n"
"  ro, allow_other, default_permissions, uid=N, gid=N, umask=M, nonempty\n"
"                       as with every FUSE file system\n"
"  idmap=none           show the VM's owners, not you\n"
"  cache_timeout=S      trust metadata for so many seconds (5)\n"
"  cache_dir=DIR, cache_size=SIZE   contents kept (~/.cache/gentilityfs, 1G)\n"
"  cache_entries=N      names and attributes kept (2000000)\n"
"  timeout=S            give a stalled transfer up (30); max_connections=N (8)\n"
"  log_file=FILE        instead of syslog or standard error\n"
"  control=NAME         the file that runs commands (.exec); or no_control\n"
"  list_control         listed in every directory; no_list_control: in none\n"
"  no_transform_symlinks, insecure_http, cacert=FILE   see gentilityfs(1)\n"
"\n"
"Run a command in the room: echo 'ls -l' > DIR/.exec; cat DIR/.exec\n",
	    out);
	/* clang-format on */
}
