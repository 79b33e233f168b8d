#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/check.h"
#include "kernel/fs.h"
#include "cli/key.h"
#include "base/log.h"
#include "cli/mountpoint.h"
#include "cli/options.h"
#include "cli/rooms.h"
#include "room/room.h"
#include "cli/stats_show.h"
#include "cli/supervisor.h"
#include "cli/version.h"

#define THREAD_STACK ((size_t)1024 * 1024)

/* Of a daemon not yet mounted: where its parent hears how it went; or -1. */
static int parent_fd = -1;

/* One line for the user, whatever bytes a name in it has. */
static void
complain(const char *detail)
{
	char line[OPTIONS_DETAIL], *c;

	snprintf(line, sizeof line, "%s", detail);
	for (c = line; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	fprintf(stderr, "gentilityfs: %s\n", line);
}

static int
fail(const char *detail)
{
	supervisor_tell(NULL, detail);
	if (parent_fd == -1)
		complain(detail);
	else {
		(void)write(parent_fd, detail, strlen(detail));
		log_error("%s", detail);
	}
	return EXIT_FAILURE;
}

/*
 * In the parent: wait until the child has mounted, and end.  It sends a NUL
 * for success, else what went wrong.
 */
static void
await(pid_t child, int fd)
{
	char answer[OPTIONS_DETAIL];
	ssize_t len = 0, n;
	int status;

	while (len < (ssize_t)sizeof answer - 1) {
		n = read(fd, answer + len, sizeof answer - 1 - len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += n;
	}
	answer[len] = '\0';
	if (len > 0 && answer[0] == '\0')
		_exit(EXIT_SUCCESS);
	if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
		snprintf(answer, sizeof answer, "ended by signal %d (%s)",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (len == 0)
		snprintf(answer, sizeof answer,
		    "ended unexpectedly; see the system's log");
	complain(answer);
	_exit(EXIT_FAILURE);
}

/*
 * Go on in a child in the background.  Before any thread is started: threads
 * do not survive a fork.
 */
static int
detach(void)
{
	int fds[2];
	pid_t child;

	closefrom(3);
	if (pipe2(fds, O_CLOEXEC) == -1 || (child = fork()) == -1)
		return fail(strerror(errno));
	if (child > 0) {
		close(fds[1]);
		await(child, fds[0]);
	}
	close(fds[0]);
	parent_fd = fds[1];
	log_attend(true);
	/* Who interrupts the command interrupts the mount. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setsid();
	if (chdir("/") == -1)
		return fail(strerror(errno));
	return 0;
}

/* The mount works: from here on the daemon stands alone. */
static void
release_parent(void)
{
	int null;

	if (parent_fd == -1)
		return;
	log_attend(false);
	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) != -1) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	prctl(PR_SET_PDEATHSIG, 0);
	(void)write(parent_fd, "", 1);
	close(parent_fd);
	parent_fd = -1;
}

static struct room_config
room_config(const struct options *o)
{
	return (struct room_config){
	    .profile = o->profile,
	    .room = o->room,
	    .base_url = o->url,
	    .key = o->key,
	    .cacert = o->cacert,
	    .path = o->path,
	    .max_connections = o->max_connections,
	    .timeout_ms = o->timeout_s * 1000,
	    .create = o->create,
	};
}

/* First contact, mount, serve, unmount. */
static int
serve(struct options *o)
{
	const struct room_config config = room_config(o);
	char detail[512] = "";
	struct room *room = NULL;
	struct fs *fs = NULL;
	sigset_t ends;
	int error;

	if (o->log_file != NULL && (error = log_open_file(o->log_file)) != 0) {
		snprintf(detail, sizeof detail, "-o log_file=%s: %s",
		    o->log_file, strerror(-error));
		return fail(detail);
	}
	error = room_open(&room, &config, detail);
	/* The room has its own copy. */
	key_free(o->key);
	o->key = NULL;
	if (error != 0)
		return fail(detail[0] != '\0' ? detail : strerror(-error));
	/* Once mounted, a signal is fs_loop()'s: it would leave a dead mount.
	 */
	sigemptyset(&ends);
	sigaddset(&ends, SIGHUP);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	if ((error = fs_mount(&fs, o, room, detail)) != 0) {
		room_close(room);
		return fail(detail[0] != '\0' ? detail : strerror(-error));
	}
	log_info("%s mounted at %s", o->source, o->mountpoint);
	supervisor_tell("READY=1", o->source);
	release_parent();
	if ((error = fs_loop(fs)) != 0)
		log_error("%s: %s", o->mountpoint, strerror(-error));
	supervisor_tell("STOPPING=1", "unmounting");
	fs_unmount(fs);
	room_close(room);
	log_info("%s unmounted from %s", o->source, o->mountpoint);
	return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Descriptors 0 to 2 must not become the room's connections. */
static void
open_stdio(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) != -1 && fd <= STDERR_FILENO)
		continue;
	if (fd != -1)
		close(fd);
}

/*
 * A core would hold the key, and files of the room; so would what a debugger
 * sees.  The limit alone does not stop a core that goes to a program.
 * Before any thread is started: what is dropped is dropped for each of them.
 */
static void
harden(bool debug)
{
	const struct rlimit no_core = {0, 0};

	setrlimit(RLIMIT_CORE, &no_core);
	if (!debug)
		prctl(PR_SET_DUMPABLE, 0);
	/* Users need the setuid fusermount3, also for the unmount. */
	if (geteuid() == 0)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Hundreds of threads, most of them asleep, in little address space. */
static void
limit_stacks(void)
{
	pthread_attr_t attr;
	size_t size;

	if (pthread_getattr_default_np(&attr) != 0)
		return;
	if (pthread_attr_getstacksize(&attr, &size) == 0 &&
	    size > THREAD_STACK &&
	    pthread_attr_setstacksize(&attr, THREAD_STACK) == 0)
		pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

int
main(int argc, char **argv)
{
	char detail[OPTIONS_DETAIL];
	struct options options;
	int status;

	open_stdio();
	if ((status = options_parse(&options, argc, argv, detail)) != 0) {
		complain(detail);
		goto out;
	}
	if (options.show_help)
		options_usage(stdout);
	if (options.show_version)
		version_print(stdout);
	if (options.show_help || options.show_version)
		goto out;

	harden(options.debug);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	limit_stacks();
	/* A heap for each thread would be mostly holes. */
	mallopt(M_ARENA_MAX, 2);
	/* Blocks on their way to the cache: used again, not mapped again. */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 16 << 20);
	if (options.task == OPTIONS_CHECK) {
		struct room_config config = room_config(&options);

		log_open(false, options.debug);
		status = check_run(&options, &config);
		goto out;
	}
	status = EXIT_FAILURE;
	if (options.task == OPTIONS_STATS) {
		signal(SIGPIPE, SIG_DFL); /* --watch | head */
		if ((status = stats_show(&options, detail)) != 0)
			complain(detail);
		goto out;
	}
	if (options.task == OPTIONS_LIST || options.task == OPTIONS_UNMOUNT ||
	    options.task == OPTIONS_RECOVERED) {
		status = options.task == OPTIONS_LIST
		    ? rooms_list(&options, detail)
		    : options.task == OPTIONS_UNMOUNT
		    ? rooms_unmount(&options, detail)
		    : rooms_recovered(&options, detail);
		if (status != 0 && detail[0] != '\0')
			complain(detail);
		goto out;
	}
	if (mountpoint_check(&options, detail) != 0 ||
	    key_load(options.key_file, &options.key, &options.key_from, detail,
		sizeof detail) != 0) {
		supervisor_tell(NULL, detail);
		complain(detail);
		goto out;
	}
	if (options.fake) {
		status = EXIT_SUCCESS;
		goto out;
	}
	log_open(!options.foreground, options.debug);
	if (options.foreground || (status = detach()) == 0)
		status = serve(&options);
out:
	options_free(&options);
	return status;
}
