/*
 * Messages with file descriptors over local SEQPACKET sockets.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fdpass.h"

union fdpass_control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * FDPASS_MAX)];
};

/* Send one message; 0 or -errno.  The descriptors stay the caller's. */
int
fdpass_send(int sock, const void *p, size_t len, const int *fds, int nfds)
{
	union fdpass_control ctl;
	struct iovec iov = {.iov_base = (void *)p, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (nfds > 0) {
		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = &ctl;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
	}
	while (sendmsg(sock, &msg, MSG_NOSIGNAL) == -1) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/*
 * Receive one message: its length, 0 at the end, or -errno.  *nfds is the
 * room in fds before and their number after; they are the caller's then.
 */
ssize_t
fdpass_recv(int sock, void *p, size_t len, int *fds, int *nfds)
{
	union fdpass_control ctl;
	struct iovec iov = {.iov_base = p, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	int got[FDPASS_MAX];
	int i, n, room = nfds != NULL ? *nfds : 0;
	ssize_t r;

	if (nfds != NULL)
		*nfds = 0;
	msg.msg_control = &ctl;
	msg.msg_controllen = sizeof(ctl);
	while ((r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC)) == -1) {
		if (errno != EINTR)
			return -errno;
	}
	for (c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(got, CMSG_DATA(c), sizeof(int) * (size_t)n);
		for (i = 0; i < n; i++) {
			if (nfds != NULL && *nfds < room)
				fds[(*nfds)++] = got[i];
			else
				(void)close(got[i]);
		}
	}
	return r;
}

/* Close a descriptor that may be -1 already. */
void
fdpass_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}
