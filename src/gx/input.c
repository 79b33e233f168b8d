#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "gx.h"
#include "input.h"
#include "term.h"

/* One part fits a command; when more is at hand they grow, to what fits the
 * control file. */
#define CHUNK_MIN ((size_t)48 * 1024)
#define CHUNK_MAX ((size_t)640 * 1024)
/* So long we wait for the first of it, and for more of it (ms). */
#define MOMENT 10

static bool
readable(int timeout)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&p, 1, timeout) > 0;
}

/* Up to a part; stops when nothing is there for so long. */
static void
gather(struct input *in, int moment)
{
	size_t len = 0, encoded;
	char *buf = malloc(in->chunk + 2);
	ssize_t n;

	while (buf != NULL && len < in->chunk && readable(moment)) {
		n = read(STDIN_FILENO, buf + len, in->chunk - len);
		if (n == -1 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n == -1)
			gx_warn("standard input: %s", strerror(errno));
		if (n <= 0) {
			in->ended = true;
			break;
		}
		len += (size_t)n;
		if (in->terminal)
			break;
	}
	if (buf == NULL)
		in->ended = true;
	if (len == in->chunk && in->chunk < CHUNK_MAX)
		in->chunk =
		    in->chunk * 4 < CHUNK_MAX ? in->chunk * 4 : CHUNK_MAX;
	if (in->terminal && len > 0 && !term_escape(buf, &len))
		in->hung_up = true;
	if (len > 0) {
		in->data = base64_encode(buf, len, &encoded);
		in->part++;
		if (in->data == NULL) {
			gx_warn("%s", strerror(ENOMEM));
			exit(GX_FAILED);
		}
	}
	free(buf);
}

void
input_begin(struct input *in)
{
	in->chunk = CHUNK_MIN;
	if (in->wanted && !in->terminal)
		gather(in, MOMENT);
}

void
input_read(struct input *in)
{
	gather(in, 0);
}

void
input_given(struct input *in)
{
	free(in->data);
	in->data = NULL;
	in->told = in->told || in->ended;
}

void
input_free(struct input *in)
{
	free(in->data);
	in->data = NULL;
}
