#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/fs_impl.h"
#include "kernel/procfd.h"

#define BIT(sig) (1ull << ((sig)-1))

struct fs *
fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/*
 * Does a signal wait for this thread that is meant to stop it?  The kernel
 * interrupts a request for every signal, also for those that programs use by
 * the dozen (a progress timer, a runtime's preemption, a resized window), and
 * most of them do not expect EINTR from stat() or open().
 */
bool
fs_signal_ends(pid_t pid)
{
	const uint64_t stop = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGQUIT) |
	    BIT(SIGHUP) | BIT(SIGKILL);
	const uint64_t harmless = BIT(SIGCHLD) | BIT(SIGURG) | BIT(SIGWINCH) |
	    BIT(SIGCONT) | BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) |
	    BIT(SIGTTOU);
	unsigned long long pending = 0, v, ignored = 0, caught = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return true; /* can't know: believe the kernel */
	while (fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "SigPnd: %llx", &v) == 1 ||
		    sscanf(line, "ShdPnd: %llx", &v) == 1)
			pending |= v;
		else
			sscanf(line, "SigIgn: %llx", &ignored);
		sscanf(line, "SigCgt: %llx", &caught);
	}
	fclose(f);
	pending &= ~ignored;
	return (pending & stop) != 0 || (pending & ~caught & ~harmless) != 0;
}

static bool
signal_ends_wait(void *arg)
{
	return fs_signal_ends((pid_t)(intptr_t)arg);
}

static void
fs_interrupted(fuse_req_t req, void *arg)
{
	pid_t pid = fuse_req_ctx(req)->pid;
	struct wait *w = arg;

	if (pid == 0 || !procfd_is_ours() || fs_signal_ends(pid))
		wait_interrupt(w);
	else /* the kernel tells only of the first signal */
		wait_watch(w, signal_ends_wait, (void *)(intptr_t)pid);
}

void
fs_wait_begin(fuse_req_t req, struct wait *w)
{
	wait_init(w);
	fuse_req_interrupt_func(req, fs_interrupted, w);
}

void
fs_wait_end(fuse_req_t req, struct wait *w)
{
	fuse_req_interrupt_func(req, NULL, NULL);
	wait_destroy(w);
}
