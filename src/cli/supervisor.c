#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/supervisor.h"

void
supervisor_tell(const char *state, const char *status)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char text[1024], *c;
	int fd, head;

	if (path == NULL || (path[0] != '/' && path[0] != '@') ||
	    strlen(path) >= sizeof to.sun_path)
		return;
	memcpy(to.sun_path, path, strlen(path));
	/* '@' stands for the NUL of an abstract name. */
	if (path[0] == '@')
		to.sun_path[0] = '\0';

	/* The process id for the case that it started another one. */
	head = snprintf(text, sizeof text,
	    "MAINPID=%d\n%s%sSTATUS=", (int)getpid(),
	    state != NULL ? state : "", state != NULL ? "\n" : "");
	snprintf(text + head, sizeof text - head, "%s", status);
	for (c = text + head; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return;
	/* A supervisor that does not read must not hold us up. */
	(void)sendto(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
	    (struct sockaddr *)&to,
	    offsetof(struct sockaddr_un, sun_path) + strlen(path));
	close(fd);
}
