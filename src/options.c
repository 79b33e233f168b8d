#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "key.h"
#include "option_value.h"
#include "options.h"
#include "source.h"

#define DEFAULT_URL	"https://api.gentility.ai"
#define DEFAULT_CONTROL ".exec"
#define JSON_SUFFIX	".json"

enum { STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* What goes along while parsing. */
struct parse {
	struct options *options;
	char *detail;
	bool mount_helper; /* started by mount(8), with its flags */
	bool sloppy; /* mount(8)'s -s: pass over unknown options */
	char *fsname;
	/* for the kernel as given; see kernel_options() */
	bool noexec, noatime, sync, dirsync, auto_unmount;
};

static int usage(struct parse *, const char *, ...)
    __attribute__((format(printf, 2, 3)));

/* Out of memory at start-up ends the program. */
static void *
need(void *memory)
{
	if (memory == NULL) {
		fputs("gentilityfs: out of memory\n", stderr);
		exit(STATUS_FAILED);
	}
	return memory;
}

static int
usage(struct parse *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->detail, OPTIONS_DETAIL, fmt, ap);
	va_end(ap);
	return STATUS_USAGE;
}

static void
set_string(char **to, char *value)
{
	free(*to);
	*to = need(value);
}

static const char *
home_directory(void)
{
	const char *home = getenv("HOME");
	struct passwd *pw;

	/* mount(8) and init may leave HOME out. */
	if (home != NULL && home[0] == '/')
		return home;
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
		return need(full);
	}
	return need(strdup(path));
}

/* --- -o name[=value],... ------------------------------------------------- */

enum kind {
	KIND_ON, /* bool: true */
	KIND_OFF, /* bool: false */
	KIND_STRING, /* char * */
	KIND_PATH, /* char *, with ~/ */
	KIND_SPECIAL, /* see set_special() */
	KIND_KERNEL, /* bool in struct parse */
	KIND_IGNORED, /* with or without a value */
};

#define FIELD(member)  offsetof(struct options, member)
#define KERNEL(member) offsetof(struct parse, member)

static const struct option_name {
	const char *name;
	enum kind kind;
	size_t field;
} option_names[] = {
    {"url", KIND_STRING, FIELD(url)},
    {"cacert", KIND_PATH, FIELD(cacert)},
    {"key_file", KIND_PATH, FIELD(key_file)},
    {"ro", KIND_ON, FIELD(read_only)},
    {"rw", KIND_OFF, FIELD(read_only)},
    {"allow_other", KIND_ON, FIELD(allow_other)},
    {"default_permissions", KIND_ON, FIELD(default_permissions)},
    {"nonempty", KIND_ON, FIELD(nonempty)},
    {"create", KIND_ON, FIELD(create)},
    {"insecure_http", KIND_ON, FIELD(insecure_http)},
    {"transform_symlinks", KIND_ON, FIELD(transform_symlinks)},
    {"no_transform_symlinks", KIND_OFF, FIELD(transform_symlinks)},
    {"cache_dir", KIND_PATH, FIELD(cache_dir)},
    {"uid", KIND_SPECIAL, 0},
    {"gid", KIND_SPECIAL, 0},
    {"umask", KIND_SPECIAL, 0},
    {"idmap", KIND_SPECIAL, 0},
    {"cache_timeout", KIND_SPECIAL, 0},
    {"cache_size", KIND_SPECIAL, 0},
    {"timeout", KIND_SPECIAL, 0},
    {"max_connections", KIND_SPECIAL, 0},
    {"control", KIND_SPECIAL, 0},
    {"no_control", KIND_SPECIAL, 0},
    {"list_control", KIND_SPECIAL, 0},
    {"no_list_control", KIND_SPECIAL, 0},
    {"fsname", KIND_SPECIAL, 0},
    {"remount", KIND_SPECIAL, 0},
    /* What the kernel does for us. */
    {"noexec", KIND_KERNEL, KERNEL(noexec)},
    {"noatime", KIND_KERNEL, KERNEL(noatime)},
    {"sync", KIND_KERNEL, KERNEL(sync)},
    {"dirsync", KIND_KERNEL, KERNEL(dirsync)},
    {"auto_unmount", KIND_KERNEL, KERNEL(auto_unmount)},
    /* Meant for mount(8), or without a meaning here: nodev and nosuid
     * always hold, access times are the VM's. */
    {"_netdev", KIND_IGNORED, 0},
    {"async", KIND_IGNORED, 0},
    {"atime", KIND_IGNORED, 0},
    {"auto", KIND_IGNORED, 0},
    {"comment", KIND_IGNORED, 0},
    {"defaults", KIND_IGNORED, 0},
    {"dev", KIND_IGNORED, 0},
    {"diratime", KIND_IGNORED, 0},
    {"exec", KIND_IGNORED, 0},
    {"group", KIND_IGNORED, 0},
    {"helper", KIND_IGNORED, 0},
    {"iversion", KIND_IGNORED, 0},
    {"lazytime", KIND_IGNORED, 0},
    {"loud", KIND_IGNORED, 0},
    {"mand", KIND_IGNORED, 0},
    {"noauto", KIND_IGNORED, 0},
    {"nodev", KIND_IGNORED, 0},
    {"nodiratime", KIND_IGNORED, 0},
    {"nofail", KIND_IGNORED, 0},
    {"nogroup", KIND_IGNORED, 0},
    {"noiversion", KIND_IGNORED, 0},
    {"nolazytime", KIND_IGNORED, 0},
    {"nomand", KIND_IGNORED, 0},
    {"noowner", KIND_IGNORED, 0},
    {"norelatime", KIND_IGNORED, 0},
    {"nostrictatime", KIND_IGNORED, 0},
    {"nosuid", KIND_IGNORED, 0},
    {"nouser", KIND_IGNORED, 0},
    {"nousers", KIND_IGNORED, 0},
    {"owner", KIND_IGNORED, 0},
    {"relatime", KIND_IGNORED, 0},
    {"silent", KIND_IGNORED, 0},
    {"sloppy", KIND_IGNORED, 0},
    {"strictatime", KIND_IGNORED, 0},
    {"subtype", KIND_IGNORED, 0},
    {"suid", KIND_IGNORED, 0},
    {"uhelper", KIND_IGNORED, 0},
    {"user", KIND_IGNORED, 0},
    {"users", KIND_IGNORED, 0},
};

#define MIB ((uint64_t)1 << 20)

static int
bad_value(
    struct parse *p, const char *name, const char *value, const char *wanted)
{
	return usage(p, "-o %s=%s: %s", name, value, wanted);
}

/* Set an option that is more than one member.  value: NULL if there is none. */
static int
set_special(struct parse *p, const char *name, const char *value)
{
	struct options *o = p->options;
	uint64_t number = 0;
	unsigned mask;

	if (strcmp(name, "no_control") == 0) {
		if (value != NULL)
			return usage(p, "-o %s takes no value", name);
		free(o->control);
		o->control = NULL;
		return 0;
	}
	if (strcmp(name, "list_control") == 0 ||
	    strcmp(name, "no_list_control") == 0) {
		if (value != NULL)
			return usage(p, "-o %s takes no value", name);
		o->list_control =
		    name[0] == 'l' ? LIST_CONTROL_ALL : LIST_CONTROL_NONE;
		return 0;
	}
	if (strcmp(name, "remount") == 0)
		return usage(p,
		    "-o remount is not supported: unmount, then "
		    "mount with the new options");

	if (value == NULL || value[0] == '\0')
		return usage(p, "-o %s needs a value", name);
	if (strcmp(name, "uid") == 0 || strcmp(name, "gid") == 0) {
		/* The largest number means "unchanged" to chown(2). */
		if (!option_number(value, 0, UINT32_MAX - 1, &number))
			return bad_value(p, name, value, "not a number");
		if (name[0] == 'u') {
			o->set_uid = true;
			o->uid = number;
		} else {
			o->set_gid = true;
			o->gid = number;
		}
	} else if (strcmp(name, "umask") == 0) {
		if (!option_octal(value, 0777, &mask))
			return bad_value(p, name, value,
			    "not an octal number from 0 to 777");
		o->set_umask = true;
		o->umask = mask;
	} else if (strcmp(name, "idmap") == 0) {
		if (strcmp(value, "none") != 0 && strcmp(value, "user") != 0)
			return bad_value(
			    p, name, value, "it must be \"user\" or \"none\"");
		o->idmap = value[0] == 'u';
	} else if (strcmp(name, "cache_timeout") == 0) {
		if (!option_seconds(value, 86400, &o->cache_timeout_ms))
			return bad_value(p, name, value,
			    "not a number of seconds from 0 to 86400");
	} else if (strcmp(name, "timeout") == 0) {
		if (!option_number(value, 1, 3600, &number))
			return bad_value(p, name, value,
			    "not a whole number of seconds from 1 to 3600");
		o->timeout_s = number;
	} else if (strcmp(name, "cache_size") == 0) {
		if (!option_size(value, MIB, MIB << 30, &o->cache_size))
			return bad_value(p, name, value,
			    "not a size of 1M or more, such as 500M or 2G");
	} else if (strcmp(name, "max_connections") == 0) {
		if (!option_number(value, 1, 64, &number))
			return bad_value(
			    p, name, value, "not a number from 1 to 64");
		o->max_connections = number;
	} else if (strcmp(name, "control") == 0) {
		/* NAME.json must be a file name, too. */
		if (strchr(value, '/') != NULL || strcmp(value, ".") == 0 ||
		    strcmp(value, "..") == 0 ||
		    strlen(value) > NAME_MAX - strlen(JSON_SUFFIX))
			return bad_value(p, name, value, "not a file name");
		set_string(&o->control, strdup(value));
	} else if (strcmp(name, "fsname") == 0)
		set_string(&p->fsname, strdup(value));
	return 0;
}

static int
set_option(struct parse *p, const char *name, const char *value)
{
	const struct option_name *found = NULL;
	char **string;
	size_t i;

	/* x-systemd.automount and the like; X-mount.mkdir */
	if (strncasecmp(name, "x-", 2) == 0)
		return 0;
	for (i = 0; i < sizeof option_names / sizeof *option_names; i++)
		if (strcmp(option_names[i].name, name) == 0)
			found = &option_names[i];
	if (found == NULL) {
		if (p->sloppy)
			return 0;
		/* The mistake that would show the key to everybody. */
		if (strcmp(name, "key") == 0 || strcmp(name, "api_key") == 0)
			return usage(p,
			    "-o %s: a key on the command line can "
			    "be seen by others; put it into a file "
			    "(-o key_file=FILE)",
			    name);
		return usage(
		    p, "unknown option: -o %s (see gentilityfs -h)", name);
	}
	switch (found->kind) {
	case KIND_IGNORED:
		return 0;
	case KIND_SPECIAL:
		return set_special(p, name, value);
	case KIND_STRING:
	case KIND_PATH:
		if (value == NULL || value[0] == '\0')
			return usage(p, "-o %s needs a value", name);
		string = (char **)((char *)p->options + found->field);
		set_string(string,
		    found->kind == KIND_PATH ? options_home(value)
					     : strdup(value));
		return 0;
	case KIND_ON:
	case KIND_OFF:
	case KIND_KERNEL:
		break;
	}
	if (value != NULL)
		return usage(p, "-o %s takes no value", name);
	if (found->kind == KIND_KERNEL)
		*(bool *)((char *)p + found->field) = true;
	else
		*(bool *)((char *)p->options + found->field) =
		    found->kind == KIND_ON;
	return 0;
}

/* Options between commas; a backslash takes the next byte as it is. */
static int
set_options(struct parse *p, const char *list)
{
	char *item = need(malloc(strlen(list) + 1)), *value;
	size_t len = 0;
	int status = 0;

	for (;; list++) {
		if (*list == '\\' && list[1] != '\0') {
			item[len++] = *++list;
			continue;
		}
		if (*list != ',' && *list != '\0') {
			item[len++] = *list;
			continue;
		}
		item[len] = '\0';
		if ((value = strchr(item, '=')) != NULL)
			*value++ = '\0';
		if (len > 0 && (status = set_option(p, item, value)) != 0)
			break;
		if (*list == '\0')
			break;
		len = 0;
	}
	free(item);
	return status;
}

/* --- the whole ----------------------------------------------------------- */

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
		return usage(p,
		    "no home directory for the cache: "
		    "give one with -o cache_dir=DIR");
	if (n == -1)
		o->cache_dir = NULL;
	need(o->cache_dir);
	return 0;
}

static char *
absolute(char *path)
{
	char *cwd, *full = NULL;

	if (path[0] == '/')
		return path;
	cwd = need(getcwd(NULL, 0));
	if (asprintf(&full, "%s/%s", cwd, path) == -1)
		full = NULL;
	free(cwd);
	free(path);
	return need(full);
}

/*
 * What the kernel or fusermount3 is told: nothing but what both understand.
 */
static void
kernel_options(struct parse *p)
{
	struct options *o = p->options;
	const char *in = p->fsname != NULL ? p->fsname : o->source;
	char *name = need(malloc(2 * strlen(in) + 1)), *out = name;

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
	need(o->fuse_options);
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
		set_string(&o->url, strdup(url));
	}
	if (source_check_url(o->url, o->insecure_http, origin, p->detail,
		OPTIONS_DETAIL) != 0)
		return STATUS_USAGE;
	if (o->cache_dir == NULL && (status = default_cache_dir(p)) != 0)
		return status;
	if (o->cache_dir[0] != '/')
		return bad_value(p, "cache_dir", o->cache_dir,
		    "it must be an absolute path");
	/* The daemon leaves the directory it was started in. */
	if (o->cacert != NULL)
		o->cacert = absolute(o->cacert);
	if (o->key_file != NULL)
		o->key_file = absolute(o->key_file);
	if (o->debug)
		o->foreground = true;
	kernel_options(p);
	return 0;
}

static int
unknown_flag(struct parse *p, char **argv)
{
	const char *word = argv[optind - 1];

	/* A long one is where getopt stands; of a cluster it tells the letter.
	 */
	if (optopt == 0 || strncmp(word, "--", 2) == 0)
		return usage(
		    p, "unknown option: %s (see gentilityfs -h)", word);
	return usage(p, "unknown option: -%c (see gentilityfs -h)", optopt);
}

static int
parse_arguments(struct parse *p, int argc, char **argv)
{
	static const struct option longopts[] = {
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	struct options *o = p->options;
	const char *words[2] = {NULL, NULL};
	/* '-': also words between options, whatever POSIXLY_CORRECT says. */
	const char *letters = p->mount_helper ? "-:fnsvVho:t:N:" : "-:dfhsVo:";
	struct source source;
	size_t count = 0;
	int c, status, error;

	opterr = 0;
	optind = 0; /* glibc: start over */
	while ((c = getopt_long(argc, argv, letters, longopts, NULL)) != -1) {
		switch (c) {
		case 1:
			if (count == 2)
				return usage(p,
				    "unexpected argument: %s (see "
				    "gentilityfs -h)",
				    optarg);
			words[count++] = optarg;
			break;
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
			return 0;
		case 'V':
			o->show_version = true;
			return 0;
		case 'o':
			if ((status = set_options(p, optarg)) != 0)
				return status;
			break;
		case ':':
			return usage(p, "option -%c needs a value", optopt);
		default:
			return unknown_flag(p, argv);
		}
	}
	for (; optind < argc && count < 2; optind++) /* behind "--" */
		words[count++] = argv[optind];
	if (optind < argc)
		return usage(p, "unexpected argument: %s (see gentilityfs -h)",
		    argv[optind]);
	if (count == 0)
		return usage(p,
		    "SOURCE is missing: gentilityfs [options] "
		    "PROFILE/ROOM[:PATH] MOUNTPOINT (see gentilityfs -h)");
	error = source_parse(words[0], &source, p->detail, OPTIONS_DETAIL);
	if (error == -ENOMEM)
		need(NULL);
	if (error != 0)
		return STATUS_USAGE;
	o->source = source.text;
	o->profile = source.profile;
	o->room = source.room;
	o->path = source.path;
	if (count == 1 || words[1][0] == '\0')
		return usage(p,
		    "MOUNTPOINT is missing: gentilityfs [options] "
		    "PROFILE/ROOM[:PATH] MOUNTPOINT");
	set_string(&o->mountpoint, strdup(words[1]));
	return complete(p);
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
	    .cache_size = 1024 * MIB,
	    .timeout_s = 30,
	    .max_connections = 8,
	    .control = need(strdup(DEFAULT_CONTROL)),
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
"usage: gentilityfs [options] PROFILE/ROOM[:PATH] MOUNTPOINT\n"
"       fusermount3 -u MOUNTPOINT\n"
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
"  timeout=S            give a stalled transfer up (30)\n"
"  max_connections=N    at a time (8)\n"
"  control=NAME         the file that runs commands (.exec); or no_control\n"
"  list_control         listed in every directory; no_list_control: in none\n"
"  no_transform_symlinks, insecure_http, cacert=FILE   see gentilityfs(1)\n"
"\n"
"Run a command in the room: echo 'ls -l' > DIR/.exec; cat DIR/.exec\n",
	    out);
	/* clang-format on */
}
