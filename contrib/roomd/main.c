/*
 * gentility-roomd: a room of one's own, to try and test gentilityfs with.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drain.h"
#include "server.h"
#include "tree.h"

static const char usage_text[] =
    "usage: gentility-roomd [--root ROOTFS | --dir DIR] [--busybox]\n"
    "           [--port N] [--log FILE] [--profile UUID] [--room NAME]\n"
    "           [--key-file FILE] [--ready-file FILE] [--home PATH]\n"
    "           [--shell PATH] [--user UID] [--workdir PATH]\n"
    "           [--env NAME=VALUE]... [--without TOOL,...] [--no-instance]\n"
    "           [--body-limit N] [--command-limit N] [--set SWITCH=VALUE]...\n"
    "           [--allow-unconfined] [--die-with-parent]\n";

enum option_id {
	OPT_ROOT = 256,
	OPT_DIR,
	OPT_BUSYBOX,
	OPT_PORT,
	OPT_LOG,
	OPT_PROFILE,
	OPT_ROOM,
	OPT_KEY_FILE,
	OPT_READY_FILE,
	OPT_HOME,
	OPT_SHELL,
	OPT_USER,
	OPT_WORKDIR,
	OPT_ENV,
	OPT_WITHOUT,
	OPT_SET,
	OPT_BODY_LIMIT,
	OPT_COMMAND_LIMIT,
	OPT_NO_INSTANCE,
	OPT_UNCONFINED,
	OPT_FOREGROUND,
	OPT_DIE,
};

static const struct option long_options[] = {
    {"root", required_argument, NULL, OPT_ROOT},
    {"dir", required_argument, NULL, OPT_DIR},
    {"busybox", no_argument, NULL, OPT_BUSYBOX},
    {"port", required_argument, NULL, OPT_PORT},
    {"log", required_argument, NULL, OPT_LOG},
    {"profile", required_argument, NULL, OPT_PROFILE},
    {"room", required_argument, NULL, OPT_ROOM},
    {"key-file", required_argument, NULL, OPT_KEY_FILE},
    {"ready-file", required_argument, NULL, OPT_READY_FILE},
    {"home", required_argument, NULL, OPT_HOME},
    {"shell", required_argument, NULL, OPT_SHELL},
    {"user", required_argument, NULL, OPT_USER},
    {"workdir", required_argument, NULL, OPT_WORKDIR},
    {"env", required_argument, NULL, OPT_ENV},
    {"without", required_argument, NULL, OPT_WITHOUT},
    {"set", required_argument, NULL, OPT_SET},
    {"body-limit", required_argument, NULL, OPT_BODY_LIMIT},
    {"command-limit", required_argument, NULL, OPT_COMMAND_LIMIT},
    {"no-instance", no_argument, NULL, OPT_NO_INSTANCE},
    {"allow-unconfined", no_argument, NULL, OPT_UNCONFINED},
    {"foreground", no_argument, NULL, OPT_FOREGROUND},
    {"die-with-parent", no_argument, NULL, OPT_DIE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct settings {
	const char *root;
	const char *dir;
	const char *log;
	const char *profile;
	const char *room;
	const char *key_file;
	const char *ready_file;
	const char *home;
	const char *shell;
	const char *workdir;
	const char *without;
	const char *env[VM_ENV_MAX + 1];
	size_t nenv;
	struct switches *switches; /* as they are at the start */
	unsigned port;
	uid_t uid;
	bool busybox;
	bool no_instance;
	bool unconfined;
	bool die;
};

static void *
check(void *p)
{
	if (p == NULL)
		err(1, NULL);
	return p;
}

static char *
join(const char *a, const char *b)
{
	char *s;

	if (asprintf(&s, "%s%s", a, b) == -1)
		err(1, NULL);
	return s;
}

static unsigned
parse_number(const char *option, const char *s, unsigned max)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(s, &end, 10);
	if (s[0] < '0' || s[0] > '9' || *end != '\0' || errno != 0 || n > max)
		errx(2, "--%s wants a number up to %u, not '%s'", option, max,
		    s);
	return (unsigned)n;
}

/* Throw a switch before the start; prefix: "" or NAME=. */
static void
throw_switch(struct settings *set, const char *prefix, const char *value)
{
	char *text = join(prefix, value), why[ROOM_WHY];

	if (switches_set(set->switches, text, why, sizeof(why)) != 0)
		errx(2, "%s", why);
	free(text);
}

static void
add_env(struct settings *set, const char *setting)
{
	if (setting[0] == '=' || strchr(setting, '=') == NULL)
		errx(2, "--env wants NAME=VALUE, not '%s'", setting);
	if (set->nenv == VM_ENV_MAX)
		errx(2, "--env at most %d times", VM_ENV_MAX);
	set->env[set->nenv++] = check(strdup(setting));
}

static void
parse_options(int argc, char **argv, struct settings *set)
{
	int c;

	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_ROOT:
			set->root = optarg;
			break;
		case OPT_DIR:
			set->dir = optarg;
			break;
		case OPT_BUSYBOX:
			set->busybox = true;
			break;
		case OPT_PORT:
			set->port = parse_number("port", optarg, 65535);
			break;
		case OPT_LOG:
			set->log = optarg;
			break;
		case OPT_PROFILE:
			if (!uuid_valid(optarg, strlen(optarg)))
				errx(2, "--profile wants a UUID, not '%s'",
				    optarg);
			set->profile = optarg;
			break;
		case OPT_ROOM:
			if (optarg[0] == '\0')
				errx(2, "--room wants a name");
			set->room = optarg;
			break;
		case OPT_KEY_FILE:
			set->key_file = optarg;
			break;
		case OPT_READY_FILE:
			set->ready_file = optarg;
			break;
		case OPT_HOME:
			if (optarg[0] != '/')
				errx(2, "--home wants an absolute path");
			set->home = optarg;
			break;
		case OPT_SHELL:
			if (optarg[0] != '/')
				errx(2, "--shell wants an absolute path");
			set->shell = optarg;
			break;
		case OPT_USER:
			set->uid = parse_number("user", optarg, 65533);
			break;
		case OPT_WORKDIR:
			if (optarg[0] != '/')
				errx(2, "--workdir wants an absolute path");
			/* Its init wipes the arguments. */
			set->workdir = check(strdup(optarg));
			break;
		case OPT_ENV:
			add_env(set, optarg);
			break;
		case OPT_WITHOUT:
			set->without = optarg;
			break;
		case OPT_SET:
			throw_switch(set, "", optarg);
			break;
		case OPT_BODY_LIMIT:
			throw_switch(set, "max_body=", optarg);
			break;
		case OPT_COMMAND_LIMIT:
			throw_switch(set, "command_limit=", optarg);
			break;
		case OPT_NO_INSTANCE:
			set->no_instance = true;
			break;
		case OPT_UNCONFINED:
			set->unconfined = true;
			break;
		case OPT_FOREGROUND:
			break;
		case OPT_DIE:
			set->die = true;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			exit(0);
		default: /* getopt has said what is wrong */
			exit(2);
		}
	}
	if (optind < argc)
		errx(2, "unexpected argument '%s'", argv[optind]);
	if (set->root != NULL && set->dir != NULL)
		errx(2, "--root and --dir exclude each other");
	if (set->root != NULL && set->busybox)
		errx(2, "--root and --busybox exclude each other");
	if (set->root != NULL && set->without != NULL)
		errx(2, "--root and --without exclude each other");
	if (set->uid != 0 && geteuid() != 0)
		errx(2, "--user needs to be started as root");
}

/* Choose the walls, or say that there are none. */
static void
choose_walls(const struct settings *set, struct vm_spec *spec)
{
	int error;

	spec->kind = set->root != NULL ? VM_ROOTFS : VM_DIR;
	spec->userns = geteuid() != 0;
	error = vm_probe(spec->userns);
	if (error != 0 && !spec->userns && set->uid == 0) {
		/* Root without privileges, as in a container. */
		spec->userns = true;
		error = vm_probe(true);
	}
	if (error == 0)
		return;
	if (!set->unconfined)
		errx(1,
		    "cannot confine commands, namespaces are not to be "
		    "had here: %s (--allow-unconfined runs them without)",
		    strerror(-error));
	if (set->root != NULL || set->busybox)
		errx(1, "--root and --busybox need namespaces: %s",
		    strerror(-error));
	warnx("no namespaces (%s): commands are NOT confined and can do "
	      "whatever you can",
	    strerror(-error));
	spec->kind = VM_HOST;
}

static bool
is_dir(const char *root, const char *path)
{
	char full[PATH_MAX];
	struct stat st;

	(void)snprintf(full, sizeof(full), "%s%s", root, path);
	return stat(full, &st) == 0 && S_ISDIR(st.st_mode);
}

static void
make_spec(const struct settings *set, struct vm_spec *spec)
{
	const char *tmp = getenv("TMPDIR");
	char *mnt, *data;

	choose_walls(set, spec);
	spec->busybox = set->busybox;
	spec->uid = set->uid;
	spec->shell =
	    check(strdup(set->shell != NULL ? set->shell : "/bin/sh"));
	spec->workdir = set->workdir;
	spec->without = set->without;
	memcpy(spec->env, set->env, sizeof(spec->env));
	(void)getrlimit(RLIMIT_NOFILE, &spec->nofile);
	spec->scratch = join(tmp != NULL && tmp[0] == '/' ? tmp : "/tmp",
	    "/gentility-roomd.XXXXXX");
	if (mkdtemp(spec->scratch) == NULL)
		err(1, "%s", spec->scratch);
	mnt = join(spec->scratch, "/mnt");
	if (mkdir(mnt, 0755) == -1)
		err(1, "%s", mnt);
	free(mnt);
	if (set->root == NULL && set->dir == NULL) {
		spec->temporary = true;
		data = join(spec->scratch, "/data");
		if (mkdir(data, 0755) == -1)
			err(1, "%s", data);
	} else {
		data = check(strdup(set->root != NULL ? set->root : set->dir));
		if (set->dir != NULL && mkdir(data, 0755) == -1 &&
		    errno != EEXIST) {
			warn("%s", data);
			goto fail;
		}
	}
	spec->data = realpath(data, NULL);
	if (spec->data == NULL || !is_dir(spec->data, "")) {
		warnx("%s: not a directory", data);
		goto fail;
	}
	free(data);
	if (set->home != NULL)
		spec->home = check(strdup(set->home));
	else if (spec->kind == VM_ROOTFS)
		spec->home = check(strdup(
		    is_dir(spec->data, "/home/user") ? "/home/user" : "/root"));
	else
		spec->home = check(strdup("/home/user"));
	spec->home_host = spec->kind == VM_ROOTFS ? join(spec->data, spec->home)
						  : join(spec->data, "/home");
	if (spec->kind == VM_HOST) {
		free(spec->home);
		spec->home = check(strdup(spec->home_host));
	}
	spec->tmp_host = join(spec->data, "/tmp");
	spec->workspace_host = join(spec->data, "/workspace");
	return;
fail:
	(void)tree_remove(spec->scratch);
	exit(1);
}

static void
free_spec(struct vm_spec *spec)
{
	free(spec->scratch);
	free(spec->data);
	free(spec->home_host);
	free(spec->tmp_host);
	free(spec->workspace_host);
	free(spec->home);
	free(spec->shell);
}

static void
make_key(char key[KEY_LEN])
{
	unsigned char b[16];
	size_t i;

	arc4random_buf(b, sizeof(b));
	(void)strlcpy(key, "rk_test_", KEY_LEN);
	for (i = 0; i < sizeof(b); i++)
		(void)snprintf(key + 8 + 2 * i, 3, "%02x", b[i]);
}

/* Write a file so that nobody sees half of it. */
static int
write_file(const char *path, const char *data, size_t len, mode_t mode)
{
	char *temp = join(path, ".new");
	int fd, error = 0;

	(void)unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd == -1 || fchmod(fd, mode) == -1 ||
	    write(fd, data, len) != (ssize_t)len || rename(temp, path) == -1) {
		error = -errno;
		warn("%s", path);
	}
	if (fd != -1)
		(void)close(fd);
	free(temp);
	return error;
}

/* The line that tells tests where everything is. */
static void
put_ready(struct server *srv, struct buf *b)
{
	const struct vm_spec *spec = srv->room.spec;
	struct instance *in = room_get(&srv->room);

	buf_printf(b, "{\"url\":\"http://127.0.0.1:%u\",\"key\":\"%s\",",
	    srv->port, srv->key);
	buf_printf(b, "\"profile\":\"%s\",\"room\":", srv->room.profile);
	buf_put_json_str(b, srv->room.name);
	buf_puts(b, ",\"instance_id\":");
	buf_put_json_str(b, in != NULL ? in->id : "");
	buf_puts(b, ",\"home\":");
	buf_put_json_str(b, spec->home_host);
	buf_puts(b, ",\"tmp\":");
	buf_put_json_str(b, spec->tmp_host);
	buf_puts(b, ",\"workspace\":");
	buf_put_json_str(b, spec->workspace_host);
	buf_puts(b, ",\"root\":");
	if (spec->kind == VM_ROOTFS)
		buf_put_json_str(b, spec->data);
	else if (in != NULL && spec->kind == VM_DIR)
		buf_printf(b, "\"/proc/%d/root\"", (int)in->pid);
	else
		buf_puts(b, "\"\"");
	buf_puts(b, ",\"vm_home\":");
	buf_put_json_str(b, spec->home);
	buf_printf(b, ",\"control\":\"http://127.0.0.1:%u/_control\",\"log\":",
	    srv->port);
	buf_put_json_str(b, srv->log_path != NULL ? srv->log_path : "");
	buf_puts(b, "}\n");
	instance_unref(in);
}

static int
announce(struct server *srv, const struct settings *set)
{
	struct buf line = {0};
	int error = 0;

	put_ready(srv, &line);
	if (line.failed)
		errx(1, "out of memory");
	if (set->key_file != NULL)
		error =
		    write_file(set->key_file, srv->key, strlen(srv->key), 0600);
	if (error == 0 && set->ready_file != NULL)
		error = write_file(set->ready_file, line.data, line.len, 0600);
	if (error == 0) {
		(void)fputs(line.data, stdout);
		(void)fflush(stdout);
	}
	explicit_bzero(line.data, line.len);
	buf_free(&line);
	return error;
}

/* Everything from the spawner on; the exit code. */
static int
serve(struct server *srv, const struct settings *set, struct vm_spec *spec,
    struct spawner *sp, const sigset_t *signals)
{
	struct instance *in = NULL;
	char why[ROOM_WHY];
	bool fresh;
	int error, sig;

	error = reqlog_open(&srv->log, set->log);
	if (error != 0) {
		warnx("%s: %s", set->log, strerror(-error));
		return 1;
	}
	srv->log_path = set->log;
	make_key(srv->key);
	faults_init(&srv->faults);
	(void)pthread_mutex_init(&srv->lock, NULL);
	(void)pthread_mutex_init(&srv->serial, NULL);
	srv->switches = set->switches;
	room_init(&srv->room, spec, sp);
	srv->room.name = check(strdup(set->room));
	if (set->profile != NULL)
		(void)strlcpy(srv->room.profile, set->profile, UUID_LEN);
	else
		uuid_make(srv->room.profile);

	error = drain_start();
	if (error != 0)
		errx(1, "cannot start a thread: %s", strerror(-error));
	if (!set->no_instance) {
		error = room_create(&srv->room, &in, &fresh, why);
		if (error != 0)
			warnx("cannot make the room: %s", why);
		else
			instance_unref(in);
	}
	if (error == 0) {
		error = http_start(srv, set->port);
		if (error != 0)
			warnx("cannot listen on port %u: %s", set->port,
			    strerror(-error));
	}
	if (error == 0) {
		error = announce(srv, set);
		if (error == 0)
			(void)sigwait(signals, &sig);
		room_close(&srv->room);
		http_stop(srv);
	} else {
		room_close(&srv->room);
	}
	drain_stop();
	room_destroy(&srv->room);
	switches_unref(srv->switches);
	faults_destroy(&srv->faults);
	reqlog_close(&srv->log);
	(void)pthread_mutex_destroy(&srv->serial);
	(void)pthread_mutex_destroy(&srv->lock);
	explicit_bzero(srv->key, sizeof(srv->key));
	return error != 0 ? 1 : 0;
}

int
main(int argc, char **argv)
{
	struct settings set = {.room = "demo"};
	struct vm_spec spec = {0};
	struct server srv = {0};
	struct spawner *sp;
	struct rlimit files;
	sigset_t signals;
	int error, null, status;

	/* Our sockets must not become somebody's stdout. */
	do {
		null = open("/dev/null", O_RDWR);
	} while (null >= 0 && null <= 2);
	(void)close(null);
	set.switches = check(switches_default());
	parse_options(argc, argv, &set);
	if (set.die)
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	vminit_set_args(argc, argv);
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	make_spec(&set, &spec);
	files = spec.nofile;
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
	error = tree_prepare(&spec);
	if (error != 0) {
		warnx("%s: %s", spec.data, strerror(-error));
		(void)tree_remove(spec.scratch);
		return 1;
	}
	error = spawner_start(&spec, &sp);
	if (error != 0) {
		warnx("cannot fork: %s", strerror(-error));
		(void)tree_remove(spec.scratch);
		return 1;
	}
	status = serve(&srv, &set, &spec, sp, &signals);
	spawner_stop(sp);
	free_spec(&spec);
	return status;
}
