/*
 * The process that makes rooms.  It is forked before the server has threads,
 * stays single-threaded, and is the parent of every room's init.  It outlives
 * the server just long enough to end the rooms and remove temporary files,
 * even when the server was killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdpass.h"
#include "spawner.h"
#include "tree.h"

enum spawn_op { SPAWN_CREATE = 1, SPAWN_DESTROY };

struct spawn_msg {
	int32_t op;
	int32_t pid;
};

struct spawner {
	pthread_mutex_t lock; /* one question at a time */
	pid_t pid;
	int sock;
};

/* Fork a room's init, two generations down so that it is pid 1 in there. */
static int
make_init(const struct vm_spec *spec, pid_t *pid, int *ctl)
{
	struct spawn_msg msg = {0};
	int pair[2], tell[2], error;
	pid_t middle;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return -errno;
	if (pipe2(tell, O_CLOEXEC) == -1) {
		error = -errno;
		(void)close(pair[0]);
		(void)close(pair[1]);
		return error;
	}
	middle = fork();
	if (middle == 0) {
		if (spec->kind != VM_HOST)
			msg.op = vm_unshare(spec);
		if (msg.op == 0) {
			msg.pid = fork();
			if (msg.pid == 0) {
				(void)close_range(3, (unsigned)pair[1] - 1, 0);
				(void)close_range(
				    (unsigned)pair[1] + 1, ~0U, 0);
				vminit_main(spec, pair[1]);
			}
			if (msg.pid == -1)
				msg.op = -errno;
		}
		(void)!write(tell[1], &msg, sizeof(msg));
		_exit(0);
	}
	(void)close(pair[1]);
	(void)close(tell[1]);
	if (middle == -1 || read(tell[0], &msg, sizeof(msg)) != sizeof(msg))
		msg.op = -EAGAIN;
	(void)close(tell[0]);
	if (middle > 0)
		(void)waitpid(middle, NULL, 0);
	if (msg.op != 0) {
		(void)close(pair[0]);
		return msg.op;
	}
	*pid = msg.pid;
	*ctl = pair[0];
	return 0;
}

static void
end_init(pid_t pid, bool gently)
{
	/* Without a pid namespace init ends its children itself, on EOF. */
	if (!gently)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
		continue;
}

static void __attribute__((noreturn))
spawner_main(const struct vm_spec *spec, int sock)
{
	struct spawn_msg msg;
	bool gently = spec->kind == VM_HOST;
	sigset_t set;
	pid_t pid;
	int ctl, null;

	/* Ctrl-C reaches the whole group; the server decides when to end. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null != -1) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
	}
	while (fdpass_recv(sock, &msg, sizeof(msg), NULL, NULL) ==
	    (ssize_t)sizeof(msg)) {
		if (msg.op == SPAWN_CREATE) {
			ctl = -1;
			pid = 0;
			msg.op = make_init(spec, &pid, &ctl);
			msg.pid = pid;
			(void)fdpass_send(
			    sock, &msg, sizeof(msg), &ctl, ctl == -1 ? 0 : 1);
			fdpass_close(&ctl);
		} else {
			end_init(msg.pid, gently);
			(void)fdpass_send(sock, &msg, sizeof(msg), NULL, 0);
		}
	}
	/* The server is gone, and with it all control sockets. */
	while (waitpid(-1, NULL, 0) != -1 || errno == EINTR)
		continue;
	(void)tree_remove(spec->scratch);
	_exit(0);
}

/* Fork the spawner.  Call it before any thread is made. */
int
spawner_start(const struct vm_spec *spec, struct spawner **out)
{
	struct spawner *s;
	int pair[2], error;

	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1) {
		error = -errno;
		free(s);
		return error;
	}
	s->pid = fork();
	if (s->pid == -1) {
		error = -errno;
		(void)close(pair[0]);
		(void)close(pair[1]);
		free(s);
		return error;
	}
	if (s->pid == 0) {
		(void)close(pair[0]);
		free(s);
		spawner_main(spec, pair[1]);
	}
	(void)close(pair[1]);
	s->sock = pair[0];
	(void)pthread_mutex_init(&s->lock, NULL);
	*out = s;
	return 0;
}

/*
 * Make a room.  On success *ctl is its control socket, the caller's; on
 * failure `why` says in words what went wrong.
 */
int
spawner_create(
    struct spawner *s, pid_t *pid, int *ctl, char *why, size_t why_len)
{
	struct spawn_msg msg = {.op = SPAWN_CREATE};
	ssize_t n;
	int error, nfds = 1;

	*ctl = -1;
	(void)strlcpy(why, "the spawner is gone", why_len);
	(void)pthread_mutex_lock(&s->lock);
	error = fdpass_send(s->sock, &msg, sizeof(msg), NULL, 0);
	if (error == 0 &&
	    fdpass_recv(s->sock, &msg, sizeof(msg), ctl, &nfds) !=
		(ssize_t)sizeof(msg))
		error = -EPIPE;
	(void)pthread_mutex_unlock(&s->lock);
	if (error != 0)
		return error;
	if (msg.op != 0 || nfds != 1) {
		(void)snprintf(why, why_len, "cannot make namespaces: %s",
		    strerror(-msg.op));
		return msg.op != 0 ? msg.op : -EPROTO;
	}
	*pid = msg.pid;
	n = fdpass_recv(*ctl, why, why_len - 1, NULL, NULL);
	why[n > 0 ? n : 0] = '\0';
	if (n == 2 && memcmp(why, "ok", 2) == 0)
		return 0;
	if (n <= 0)
		(void)strlcpy(why, "the room's init died", why_len);
	fdpass_close(ctl);
	spawner_destroy(s, *pid);
	return -EIO;
}

/* End a room and everything in it; back when nothing of it runs. */
void
spawner_destroy(struct spawner *s, pid_t pid)
{
	struct spawn_msg msg = {.op = SPAWN_DESTROY, .pid = pid};

	(void)pthread_mutex_lock(&s->lock);
	if (fdpass_send(s->sock, &msg, sizeof(msg), NULL, 0) == 0)
		(void)fdpass_recv(s->sock, &msg, sizeof(msg), NULL, NULL);
	(void)pthread_mutex_unlock(&s->lock);
}

/* End the spawner, which removes the temporary files. */
void
spawner_stop(struct spawner *s)
{
	if (s == NULL)
		return;
	(void)close(s->sock);
	while (waitpid(s->pid, NULL, 0) == -1 && errno == EINTR)
		continue;
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}
