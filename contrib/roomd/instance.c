/*
 * One running instance of the room.  Any number of threads may run commands
 * and open files in it at the same time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "drain.h"
#include "fdpass.h"
#include "instance.h"

#define OUTPUT_MAX (256UL << 20) /* more is read, but not kept */
#define POLL_MS	   50

/* A random (version 4) UUID. */
void
uuid_make(char out[UUID_LEN])
{
	unsigned char b[16];
	size_t i, n = 0;

	arc4random_buf(b, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	for (i = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[n++] = '-';
		(void)snprintf(out + n, UUID_LEN - n, "%02x", b[i]);
		n += 2;
	}
}

bool
uuid_valid(const char *s, size_t len)
{
	size_t i;

	if (len != UUID_LEN - 1)
		return false;
	for (i = 0; i < len; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (s[i] != '-')
				return false;
		} else if (strchr("0123456789abcdefABCDEF", s[i]) == NULL) {
			return false;
		}
	}
	return true;
}

/* Make an instance over the room's directories; its one reference is ours. */
int
instance_new(const struct vm_spec *spec, struct spawner *sp,
    struct instance **out, char *why, size_t why_len)
{
	struct track_root roots[3];
	struct instance *in;
	size_t n = 0;
	int error;

	in = calloc(1, sizeof(*in));
	if (in == NULL) {
		(void)strlcpy(why, "out of memory", why_len);
		return -ENOMEM;
	}
	uuid_make(in->id);
	in->spec = spec;
	in->spawner = sp;
	in->refs = 1;
	error = spawner_create(sp, &in->pid, &in->ctl, why, why_len);
	if (error != 0) {
		free(in);
		return error;
	}
	if (spec->kind == VM_ROOTFS) {
		roots[n++] = (struct track_root){spec->data, ""};
	} else {
		bool host = spec->kind == VM_HOST;

		roots[n++] = (struct track_root){spec->home_host, spec->home};
		roots[n++] = (struct track_root){
		    spec->tmp_host, host ? spec->tmp_host : "/tmp"};
		roots[n++] = (struct track_root){spec->workspace_host,
		    host ? spec->workspace_host : "/workspace"};
	}
	error = track_new(roots, n, &in->track);
	if (error != 0) {
		(void)snprintf(
		    why, why_len, "cannot track changes: %s", strerror(-error));
		(void)shutdown(in->ctl, SHUT_RDWR);
		spawner_destroy(sp, in->pid);
		(void)close(in->ctl);
		free(in);
		return error;
	}
	*out = in;
	return 0;
}

struct instance *
instance_ref(struct instance *in)
{
	__atomic_add_fetch(&in->refs, 1, __ATOMIC_RELAXED);
	return in;
}

void
instance_unref(struct instance *in)
{
	if (in == NULL ||
	    __atomic_sub_fetch(&in->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	track_free(in->track);
	(void)close(in->ctl);
	free(in);
}

/* Kill everything in it; the object lives on until its last user is done. */
void
instance_end(struct instance *in)
{
	(void)shutdown(in->ctl, SHUT_RDWR);
	spawner_destroy(in->spawner, in->pid);
}

static long
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Read once, at most `most` bytes: 1 when there may be more, now or later, 0
 * at the end.  Never until the pipe is empty: a busy writer would hold us.
 */
static int
read_output(int fd, struct buf *out, size_t most)
{
	char space[65536];
	ssize_t n;

	n = read(fd, space, most < sizeof(space) ? most : sizeof(space));
	if (n == -1)
		return errno == EAGAIN || errno == EINTR;
	if (n > 0 && out->len < OUTPUT_MAX)
		buf_put(out, space, (size_t)n);
	return n > 0;
}

/* Read what the pipe holds at this moment. */
static void
read_rest(int fd, struct buf *out)
{
	size_t end;
	int held;

	if (ioctl(fd, FIONREAD, &held) == -1)
		held = 0;
	for (end = out->len + (size_t)held; out->len < end;) {
		if (out->len >= OUTPUT_MAX || out->failed ||
		    read_output(fd, out, end - out->len) == 0)
			break;
	}
}

/*
 * Wait for the shell's exit, reading its output.  Background children may
 * keep the pipe open: what is there when the shell has gone is the answer.
 */
static int
wait_command(struct instance *in, unsigned id, int reply, int *out,
    const struct run_options *opts, struct run_result *res)
{
	struct pollfd pfd[2] = {
	    {.fd = reply, .events = POLLIN}, {.fd = *out, .events = POLLIN}};
	struct vm_msg kill_msg = {.op = VM_OP_KILL, .id = id};
	struct vm_reply status;
	long end = opts->timeout_ms > 0 ? now_ms() + opts->timeout_ms : 0;

	for (;;) {
		if (poll(pfd, 2, POLL_MS) == -1 && errno != EINTR)
			return -errno;
		if (opts->track)
			track_relieve(in->track);
		if (pfd[1].revents != 0 &&
		    read_output(*out, &res->output, SIZE_MAX) == 0)
			pfd[1].fd = -1;
		if (pfd[0].revents != 0)
			break;
		if (end != 0 && now_ms() >= end) {
			(void)fdpass_send(
			    in->ctl, &kill_msg, sizeof(kill_msg), NULL, 0);
			end = 0;
		}
	}
	if (fdpass_recv(reply, &status, sizeof(status), NULL, NULL) !=
	    (ssize_t)sizeof(status))
		return -EREMOTEIO;
	if (pfd[1].fd != -1) {
		read_rest(*out, &res->output);
		drain_take(*out);
		*out = -1;
	}
	res->exit_code = WIFSIGNALED(status.value)
	    ? 128 + WTERMSIG(status.value)
	    : WEXITSTATUS(status.value);
	return 0;
}

/* A memfd with the command and its NUL. */
static int
command_file(const char *command, size_t len)
{
	int fd = memfd_create("command", MFD_CLOEXEC);
	size_t done = 0;
	ssize_t n;

	if (fd == -1)
		return -errno;
	while (done < len + 1) {
		n = write(fd, command + done, len + 1 - done);
		if (n == -1) {
			(void)close(fd);
			return -errno;
		}
		done += (size_t)n;
	}
	return fd;
}

/*
 * Run a command.  0 whatever its exit code was; -EREMOTEIO when the instance
 * ended before the command did.  The caller frees *res in any case.
 */
int
instance_run(struct instance *in, const char *command, size_t len,
    const struct run_options *opts, struct run_result *res)
{
	struct track_session *session = NULL;
	struct vm_msg msg = {.op = VM_OP_RUN};
	int pair[2] = {-1, -1}, out[2] = {-1, -1}, text = -1;
	int fds[3], error, e;

	memset(res, 0, sizeof(*res));
	buf_put(&res->output, "", 0);
	msg.id = __atomic_add_fetch(&in->next_id, 1, __ATOMIC_RELAXED);
	msg.flags = opts->drop_stderr ? VM_FLAG_DROP_STDERR : 0;
	text = command_file(command, len);
	if (text < 0)
		return text;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    pipe2(out, O_CLOEXEC) == -1 ||
	    fcntl(out[0], F_SETFL, O_NONBLOCK) == -1) {
		error = -errno;
		goto done;
	}
	if (opts->track) {
		error = track_begin(in->track, &session);
		if (error != 0)
			goto done;
	}
	fds[0] = pair[1];
	fds[1] = out[1];
	fds[2] = text;
	error = fdpass_send(in->ctl, &msg, sizeof(msg), fds, 3);
	fdpass_close(&pair[1]);
	fdpass_close(&out[1]);
	if (error == 0)
		error = wait_command(in, msg.id, pair[0], &out[0], opts, res);
	else
		error = -ENOTCONN;
	if (session != NULL) {
		e = track_end(in->track, session, &res->changes);
		if (error == 0)
			error = e;
	}
	if (error == 0 && res->output.failed)
		error = -ENOMEM;
done:
	fdpass_close(&text);
	fdpass_close(&pair[0]);
	fdpass_close(&pair[1]);
	fdpass_close(&out[0]);
	fdpass_close(&out[1]);
	return error;
}

void
run_result_free(struct run_result *res)
{
	buf_free(&res->output);
	track_changes_free(&res->changes);
}

/* Open a regular file of the room for reading; 0 or -errno. */
int
instance_open(struct instance *in, const char *path, int *fd)
{
	char space[VM_MSG_MAX];
	struct vm_msg msg = {.op = VM_OP_OPEN};
	struct vm_reply reply;
	size_t len = strlen(path) + 1;
	int pair[2], error, nfds = 1;

	*fd = -1;
	if (len > sizeof(space) - sizeof(msg))
		return -ENAMETOOLONG;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return -errno;
	memcpy(space, &msg, sizeof(msg));
	memcpy(space + sizeof(msg), path, len);
	error = fdpass_send(in->ctl, space, sizeof(msg) + len, &pair[1], 1);
	(void)close(pair[1]);
	if (error != 0)
		error = -ENOTCONN;
	else if (fdpass_recv(pair[0], &reply, sizeof(reply), fd, &nfds) !=
	    (ssize_t)sizeof(reply))
		error = -EREMOTEIO;
	else
		error = reply.value;
	(void)close(pair[0]);
	if (error == 0 && *fd == -1)
		error = -EPROTO;
	return error;
}
