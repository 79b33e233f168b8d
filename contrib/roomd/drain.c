/*
 * One thread that reads pipes to their end and forgets what it read.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "drain.h"

static pthread_t drain_thread;
static int drain_epoll = -1;
static int drain_end = -1; /* eventfd: time to go */

static void *
drain_main(void *arg)
{
	struct epoll_event ev;
	char space[65536];
	ssize_t n;

	for (;;) {
		if (epoll_wait(drain_epoll, &ev, 1, -1) != 1)
			continue;
		if (ev.data.fd == drain_end)
			return arg;
		n = read(ev.data.fd, space, sizeof(space));
		if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
			(void)close(ev.data.fd);
	}
}

static int
watch(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = fd}};

	return epoll_ctl(drain_epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* Start the thread; 0 or -errno. */
int
drain_start(void)
{
	drain_epoll = epoll_create1(EPOLL_CLOEXEC);
	drain_end = eventfd(0, EFD_CLOEXEC);
	if (drain_epoll == -1 || drain_end == -1 || watch(drain_end) == -1)
		return -errno;
	return -pthread_create(&drain_thread, NULL, drain_main, NULL);
}

/* Read fd, a non-blocking pipe, to its end; it is the drain's now. */
void
drain_take(int fd)
{
	if (watch(fd) == -1)
		(void)close(fd);
}

/* Pipes that are left are the exit's to close; their writers are dead. */
void
drain_stop(void)
{
	uint64_t one = 1;

	(void)!write(drain_end, &one, sizeof(one));
	(void)pthread_join(drain_thread, NULL);
	(void)close(drain_end);
	(void)close(drain_epoll);
}
