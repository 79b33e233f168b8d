/* Messages with file descriptors over local sockets. */
#ifndef ROOMD_FDPASS_H
#define ROOMD_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

#define FDPASS_MAX 4

int fdpass_send(int sock, const void *p, size_t len, const int *fds, int nfds);
ssize_t fdpass_recv(int sock, void *p, size_t len, int *fds, int *nfds);
void fdpass_close(int *fd);

#endif
