/*
 * sftpcount: count the requests to an sftp server, for the benchmark.
 *
 *	sftpcount FILE COMMAND [ARGUMENT...]
 *
 * Runs the server with its input passing through here, and adds each message
 * (a length in four bytes, then so many bytes) to the number in FILE, eight
 * bytes in the machine's order, which all connections share.  The server
 * answers past this program.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void
fail(const char *what)
{
	fprintf(stderr, "sftpcount: %s: %s\n", what, strerror(errno));
	exit(1);
}

static _Atomic uint64_t *
number_open(const char *path)
{
	void *at;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd == -1 || ftruncate(fd, sizeof(uint64_t)) == -1)
		fail(path);
	at = mmap(
	    NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		fail(path);
	return at;
}

/* How many messages begin in these bytes? */
static unsigned
messages_begun(const unsigned char *data, size_t len)
{
	static unsigned char head[4];
	static size_t have, left; /* bytes of the head, of the message */
	unsigned count = 0;
	size_t n;

	while (len > 0) {
		if (left > 0) {
			n = left < len ? left : len;
			left -= n;
			data += n;
			len -= n;
			continue;
		}
		head[have++] = *data++;
		len--;
		if (have == sizeof(head)) {
			left = (size_t)head[0] << 24 | (size_t)head[1] << 16 |
			    (size_t)head[2] << 8 | head[3];
			have = 0;
			count++;
		}
	}
	return count;
}

/* Start the command; the end of the pipe that it reads. */
static int
server_start(char **argv, pid_t *pid)
{
	int ends[2];

	if (pipe(ends) == -1 || (*pid = fork()) == -1)
		fail("start");
	if (*pid == 0) {
		dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		execv(argv[0], argv);
		fail(argv[0]);
	}
	close(ends[0]);
	/* The server's alone, or its client would wait for its end. */
	close(STDOUT_FILENO);
	return ends[1];
}

int
main(int argc, char **argv)
{
	static unsigned char buf[256 * 1024];
	_Atomic uint64_t *number;
	ssize_t n, done, part;
	int out, status = 0;
	pid_t pid;

	if (argc < 3) {
		fprintf(
		    stderr, "usage: sftpcount FILE COMMAND [ARGUMENT...]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	number = number_open(argv[1]);
	out = server_start(argv + 2, &pid);
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0) {
		*number += messages_begun(buf, (size_t)n);
		for (done = 0; done < n; done += part) {
			part = write(out, buf + done, (size_t)(n - done));
			if (part == -1)
				goto out;
		}
	}
out:
	close(out);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
