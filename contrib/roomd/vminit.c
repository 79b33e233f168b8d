/*
 * The first process of a room: starts commands, opens files on behalf of the
 * server, reaps.  One thread, one loop; it ends when the server's end of the
 * control socket closes, and the kernel ends the rest of the room with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdpass.h"
#include "vm.h"

struct job {
	pid_t pid;
	uint32_t id;
	int reply;
};

static struct job *jobs;
static size_t njobs, jobs_cap;
static char *args_start, *args_end;

extern char **environ;

/*
 * What root needs inside a room.  Not SYS_ADMIN (the host's programs could be
 * remounted writable), not MKNOD (the host's disks), not DAC_READ_SEARCH
 * (handles open files outside of the tree).
 */
static const int kept_caps[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER,
    CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE};

/* Remember where the program's arguments lie, to wipe them in a room. */
void
vminit_set_args(int argc, char **argv)
{
	char **p;

	args_start = argv[0];
	args_end = argv[argc - 1] + strlen(argv[argc - 1]);
	for (p = environ; *p != NULL; p++) {
		if (*p > args_end)
			args_end = *p + strlen(*p);
	}
}

static void
drop_caps(void)
{
	struct __user_cap_header_struct head = {
	    .version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	uint64_t keep = 0;
	size_t i;
	int cap;

	for (i = 0; i < sizeof(kept_caps) / sizeof(kept_caps[0]); i++)
		keep |= 1ULL << kept_caps[i];
	for (cap = 0; cap < 64; cap++) {
		if ((keep >> cap & 1) == 0)
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	}
	data[0].effective = data[0].permitted = (uint32_t)keep;
	data[1].effective = data[1].permitted = (uint32_t)(keep >> 32);
	(void)syscall(SYS_capset, &head, data);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Into the environment, in the place of what has the same name. */
static void
put_env(char **env, const char *setting)
{
	size_t len = strcspn(setting, "=") + 1;

	while (*env != NULL && strncmp(*env, setting, len) != 0)
		env++;
	*env = (char *)(uintptr_t)setting;
}

/* Runs in the child; never returns. */
static void __attribute__((noreturn))
run_child(const struct vm_spec *spec, uint32_t flags, int out, int text)
{
	static char path_env[] = "PATH=/usr/local/sbin:/usr/local/bin:"
				 "/usr/sbin:/usr/bin:/sbin:/bin";
	static char lang_env[] = "LANG=C.UTF-8";
	char home_env[512], shell_env[512], user_env[32], log_env[32];
	char *env[7 + VM_ENV_MAX] = {
	    path_env, home_env, shell_env, user_env, log_env, lang_env};
	char *argv[4], sh[] = "sh", dash_c[] = "-c";
	const char *user = spec->uid == 0 ? "root" : "user";
	const char *why;
	struct stat st;
	sigset_t none;
	char *command;
	int null, i;

	(void)setsid();
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)setrlimit(RLIMIT_NOFILE, &spec->nofile);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(out, STDOUT_FILENO);
	(void)dup2(flags & VM_FLAG_DROP_STDERR ? null : out, STDERR_FILENO);
	(void)snprintf(home_env, sizeof(home_env), "HOME=%s", spec->home);
	(void)snprintf(shell_env, sizeof(shell_env), "SHELL=%s", spec->shell);
	(void)snprintf(user_env, sizeof(user_env), "USER=%s", user);
	(void)snprintf(log_env, sizeof(log_env), "LOGNAME=%s", user);
	if (fstat(text, &st) == -1)
		_exit(126);
	command =
	    mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, text, 0);
	if (command == MAP_FAILED)
		_exit(126);
	if (spec->uid != 0 &&
	    (setgroups(0, NULL) == -1 ||
		setresgid(spec->uid, spec->uid, spec->uid) == -1 ||
		setresuid(spec->uid, spec->uid, spec->uid) == -1))
		_exit(126);
	if (chdir(spec->workdir != NULL ? spec->workdir : spec->home) == -1)
		(void)!chdir("/");
	for (i = 0; spec->env[i] != NULL; i++)
		put_env(env, spec->env[i]);
	argv[0] = sh;
	argv[1] = dash_c;
	argv[2] = command;
	argv[3] = NULL;
	(void)execve(spec->shell, argv, env);
	why = errno == E2BIG ? "argument list too long" : strerror(errno);
	(void)!write(STDOUT_FILENO, why, strlen(why));
	_exit(errno == ENOENT ? 127 : 126);
}

static void
start_job(const struct vm_spec *spec, const struct vm_msg *msg, int *fds)
{
	struct vm_reply reply = {.value = 126 << 8};
	struct job *p;
	pid_t pid;

	if (njobs == jobs_cap) {
		p = reallocarray(jobs, jobs_cap * 2 + 16, sizeof(*jobs));
		if (p == NULL)
			return;
		jobs = p;
		jobs_cap = jobs_cap * 2 + 16;
	}
	pid = fork();
	if (pid == 0)
		run_child(spec, msg->flags, fds[1], fds[2]);
	if (pid == -1) {
		(void)dprintf(fds[1], "cannot fork: %s", strerror(errno));
		(void)fdpass_send(fds[0], &reply, sizeof(reply), NULL, 0);
		return;
	}
	jobs[njobs].pid = pid;
	jobs[njobs].id = msg->id;
	jobs[njobs].reply = fds[0];
	njobs++;
	fds[0] = -1;
}

static void
reap(void)
{
	struct vm_reply reply;
	int status;
	pid_t pid;
	size_t i;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (i = 0; i < njobs && jobs[i].pid != pid; i++)
			continue;
		if (i == njobs)
			continue;
		reply.value = status;
		(void)fdpass_send(
		    jobs[i].reply, &reply, sizeof(reply), NULL, 0);
		(void)close(jobs[i].reply);
		jobs[i] = jobs[--njobs];
	}
}

/*
 * Open a regular file as the room's user.  Anything else would block (a fifo)
 * or has no contents to send.
 */
static void
open_file(const struct vm_spec *spec, const char *path, int reply)
{
	struct vm_reply answer = {0};
	struct stat st;
	int fd = -1;

	(void)setfsgid(spec->uid);
	(void)setfsuid(spec->uid);
	if (stat(path, &st) == -1)
		answer.value = -errno;
	else if (!S_ISREG(st.st_mode))
		answer.value = S_ISDIR(st.st_mode) ? -EISDIR : -ENXIO;
	else if ((fd = open(path,
		      O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) == -1)
		answer.value = -errno;
	(void)setfsuid(0);
	(void)setfsgid(0);
	(void)fdpass_send(
	    reply, &answer, sizeof(answer), &fd, fd == -1 ? 0 : 1);
	fdpass_close(&fd);
}

static void
kill_job(uint32_t id)
{
	size_t i;

	for (i = 0; i < njobs; i++) {
		if (jobs[i].id == id)
			(void)kill(-jobs[i].pid, SIGKILL);
	}
}

/* Without a pid namespace nobody else ends what commands left behind. */
static void
kill_children(void)
{
	char text[4096];
	char *p, *end;
	ssize_t n;
	int fd, round;
	long pid;

	for (round = 0; round < 100; round++) {
		fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
		if (fd == -1)
			return;
		n = read(fd, text, sizeof(text) - 1);
		(void)close(fd);
		if (n <= 0)
			return;
		text[n] = '\0';
		for (p = text; (pid = strtol(p, &end, 10)) > 0; p = end)
			(void)kill((pid_t)pid, SIGKILL);
		(void)waitpid(-1, NULL, 0);
	}
}

static void
serve(const struct vm_spec *spec, int ctl, int sigs)
{
	char space[VM_MSG_MAX + 1];
	struct signalfd_siginfo info;
	struct vm_msg msg;
	struct pollfd pfd[2] = {
	    {.fd = ctl, .events = POLLIN}, {.fd = sigs, .events = POLLIN}};
	int fds[FDPASS_MAX], i, n;
	ssize_t len;

	for (;;) {
		if (poll(pfd, 2, -1) == -1 && errno != EINTR)
			return;
		if (pfd[1].revents & POLLIN) {
			(void)!read(sigs, &info, sizeof(info));
			reap();
		}
		if ((pfd[0].revents & (POLLIN | POLLHUP)) == 0)
			continue;
		n = FDPASS_MAX;
		len = fdpass_recv(ctl, space, sizeof(space) - 1, fds, &n);
		if (len <= 0)
			return;
		if ((size_t)len >= sizeof(msg)) {
			memcpy(&msg, space, sizeof(msg));
			space[len] = '\0';
			if (msg.op == VM_OP_RUN && n == 3)
				start_job(spec, &msg, fds);
			else if (msg.op == VM_OP_OPEN && n == 1)
				open_file(spec, space + sizeof(msg), fds[0]);
			else if (msg.op == VM_OP_KILL)
				kill_job(msg.id);
		}
		for (i = 0; i < n; i++)
			fdpass_close(&fds[i]);
	}
}

/* The life of a room's init.  The first message says how the set-up went. */
void
vminit_main(const struct vm_spec *spec, int ctl)
{
	const char *what = "start";
	char text[256];
	sigset_t set;
	int null, sigs, error = 0;

	(void)setsid();
	(void)umask(022);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	sigs = signalfd(-1, &set, SFD_CLOEXEC);
	if (spec->kind == VM_HOST)
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	else
		error = vmroot_enter(spec, &what);
	if (error != 0) {
		(void)snprintf(text, sizeof(text), "cannot %s: %s", what,
		    strerror(-error));
		(void)fdpass_send(ctl, text, strlen(text), NULL, 0);
		_exit(1);
	}
	if (spec->kind != VM_HOST) {
		drop_caps();
		/* The VM reads /proc/1/environ: nothing of the host's there. */
		memset(args_start, 0, (size_t)(args_end - args_start));
		(void)strlcpy(
		    args_start, "init", (size_t)(args_end - args_start));
		(void)prctl(PR_SET_NAME, "init", 0, 0, 0);
		environ = NULL;
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null != -1) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
	}
	(void)fdpass_send(ctl, "ok", 2, NULL, 0);
	serve(spec, ctl, sigs);
	if (spec->kind == VM_HOST)
		kill_children();
	_exit(0);
}
