#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "call.h"

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
#define NCAUGHT (sizeof caught / sizeof caught[0])

/* What signal handlers can tell. */
static volatile sig_atomic_t arrived, resized;
static sigset_t unblocked; /* the mask as it was */

static void
note_signal(int number)
{
	arrived = number;
}

static void
note_size(int number)
{
	(void)number;
	resized = 1;
}

bool
call_resized(void)
{
	bool was = resized != 0;

	resized = 0;
	return was;
}

void
call_catch_signals(bool terminal)
{
	struct sigaction size = {.sa_handler = note_size};
	struct sigaction act = {.sa_handler = note_signal}, old;
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < NCAUGHT; i++) {
		/* What nohup or a shell's & has set to be ignored stays so. */
		if (sigaction(caught[i], NULL, &old) == -1 ||
		    old.sa_handler == SIG_IGN)
			continue;
		sigaction(caught[i], &act, NULL);
		sigaddset(&set, caught[i]);
	}
	if (terminal) {
		sigaction(SIGWINCH, &size, NULL);
		sigaddset(&set, SIGWINCH);
	}
	sigprocmask(SIG_BLOCK, &set, &unblocked);
	for (i = 0; i < NCAUGHT; i++)
		sigdelset(&unblocked, caught[i]);
	sigdelset(&unblocked, SIGWINCH);
}

void
call_release_signals(void)
{
	struct sigaction act = {.sa_handler = SIG_DFL}, old;
	size_t i;

	for (i = 0; i < NCAUGHT; i++)
		if (sigaction(caught[i], NULL, &old) == 0 &&
		    old.sa_handler == note_signal)
			sigaction(caught[i], &act, NULL);
	sigprocmask(SIG_SETMASK, &unblocked, NULL);
}

static bool
write_all(int fd, const char *data, size_t len)
{
	ssize_t n;

	while (len > 0) {
		if ((n = write(fd, data, len)) == -1)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* First the errno of the exchange, then what was read. */
static void
report(int fd, int error)
{
	write_all(fd, (const char *)&error, sizeof error);
}

static void
exchange(int out, int dir, const char *name, const char *command, size_t len)
{
	static char buf[128 * 1024];
	off_t at = 0;
	ssize_t n;
	int fd;

	if ((fd = openat(dir, name, O_RDWR | O_CLOEXEC)) == -1 ||
	    !write_all(fd, command, len)) {
		report(out, errno);
		return;
	}
	/* This runs it; the file reads as the answer also after a failure. */
	n = pread(fd, buf, sizeof buf, 0);
	report(out, n == -1 ? errno : 0);
	for (; n > 0; n = pread(fd, buf, sizeof buf, at)) {
		write_all(out, buf, (size_t)n);
		at += n;
	}
}

int
call_start(struct call *c, const struct place *p, int dir, const char *command,
    size_t len)
{
	pid_t parent = getpid();
	sigset_t all, old;
	int fds[2];

	*c = (struct call){.fd = -1};
	if (pipe2(fds, O_CLOEXEC) == -1)
		return -errno;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	if ((c->pid = fork()) == 0) {
		/* Whoever reads our output waits for us alone. */
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			exchange(fds[1], dir, p->control, command, len);
		_exit(0);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(fds[1]);
	if (c->pid == -1) {
		close(fds[0]);
		c->pid = 0;
		return -EAGAIN;
	}
	c->fd = fds[0];
	return 0;
}

/* There is something to read, or the end. */
static void
take(struct call *c)
{
	size_t size = c->size;
	char *more;
	ssize_t n;

	if (c->size - c->len < 64 * 1024) {
		size = c->size * 2 + 128 * 1024;
		if ((more = realloc(c->data, size)) == NULL) {
			c->done = true;
			return;
		}
		c->data = more;
		c->size = size;
	}
	n = read(c->fd, c->data + c->len, c->size - c->len);
	if (n > 0)
		c->len += (size_t)n;
	else if (n == 0 || errno != EINTR)
		c->done = true;
}

/* ppoll() with the signals let in. */
static int
await(struct pollfd *fds, nfds_t n, int timeout, int *number)
{
	struct timespec t = {timeout / 1000, timeout % 1000 * 1000000L};
	int r = 0;

	if (arrived == 0)
		r = ppoll(fds, n, timeout == -1 ? NULL : &t, &unblocked);
	if (arrived != 0) {
		*number = arrived;
		arrived = 0;
		return -EINTR;
	}
	return r == -1 ? 0 : r;
}

static long long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int
call_wait_any(struct call *const *calls, size_t n, int fd, bool *readable,
    int timeout, int *number)
{
	long long end = now_ms() + timeout, now;
	struct pollfd fds[CALL_MAX + 1];
	size_t i;
	int r, left;

	for (;;) {
		for (i = 0; i < n; i++) {
			fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
			if (calls[i]->pid == 0)
				continue;
			if (calls[i]->done)
				return 1;
			fds[i].fd = calls[i]->fd;
		}
		fds[n] = (struct pollfd){.fd = fd, .events = POLLIN};
		now = now_ms();
		left = timeout == -1 ? -1 : now < end ? (int)(end - now) : 0;
		if ((r = await(fds, n + 1, left, number)) == -EINTR)
			return r;
		for (i = 0; i < n; i++)
			if (r > 0 && fds[i].fd != -1 && fds[i].revents != 0)
				take(calls[i]);
		if (r > 0 && fd != -1 && fds[n].revents != 0) {
			*readable = true;
			return 1;
		}
		if (resized != 0)
			return 1;
		if (r == 0 && left == 0)
			return 0;
	}
}

int
call_wait(struct call *c, int timeout, int *number)
{
	bool readable;

	return call_wait_any(
	    &c, c == NULL ? 0 : 1, -1, &readable, timeout, number);
}

int
call_wait_output(int fd, int *number)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int r;

	do {
		r = await(&p, 1, -1, number);
	} while (r == 0);
	return r;
}

static void
reap(struct call *c)
{
	if (c->pid != 0)
		waitpid(c->pid, NULL, 0);
	if (c->fd != -1)
		close(c->fd);
	free(c->data);
	*c = (struct call){.fd = -1};
}

int
call_finish(struct call *c, const struct place *p, struct answer *a,
    char why[PLACE_WHY])
{
	int error = EIO;

	*a = (struct answer){0};
	if (c->len < sizeof error) {
		place_explain(p, -EIO, why);
		reap(c);
		return -EIO;
	}
	memcpy(&error, c->data, sizeof error);
	if (error != 0) {
		place_explain(p, -error, why);
		reap(c);
		return -error;
	}
	c->len -= sizeof error;
	memmove(c->data, c->data + sizeof error, c->len);
	error = answer_parse(a, c->data, c->len);
	c->data = NULL; /* the answer has it now */
	reap(c);
	if (error != 0) {
		place_explain(p, error, why);
		answer_free(a);
	}
	return error;
}

void
call_abandon(struct call *c)
{
	const struct timespec moment = {0, 5000000};
	int tries;

	if (c->pid != 0)
		kill(c->pid, SIGKILL);
	/* It has the mount in use; but it may have to wait for a driver that
	 * hangs, and we do not. */
	for (tries = 0;
	     c->pid != 0 && tries < 60 && waitpid(c->pid, NULL, WNOHANG) == 0;
	     tries++)
		nanosleep(&moment, NULL);
	if (c->fd != -1)
		close(c->fd);
	free(c->data);
	*c = (struct call){.fd = -1};
}
