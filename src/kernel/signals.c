#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernel/control.h"
#include "kernel/fs_impl.h"
#include "kernel/signals.h"
#include "base/log.h"
#include "base/thread.h"

/* So often (ms) the thread that serves is told to stop. */
#define SIGNALS_NUDGE 50
/* So long (ms) is what is unsent still sent after a first SIGTERM, when the
 * mount is gone already. */
#define SIGNALS_GRACE 5000

/*
 * Signals are waited for, not handled: TERM must get through however busy
 * every other thread is.
 */
struct signals {
	struct fs *fs;
	pthread_t thread, serving;
	int signals, wake; /* descriptors */

	pthread_mutex_t lock; /* guards all below */
	enum { SERVING, STOPPING, UNMOUNTING, DONE } stage;
	uint64_t limit; /* when UNMOUNTING ends; 0: never */
	unsigned ends; /* signals to end that came */
};

/* Only to have the serving thread's sleep interrupted. */
static void
wake_up(int sig)
{
	(void)sig;
}

/* End libfuse's loop, also when somebody has files open or waits. */
static void
stop_serving(struct fs *fs)
{
	fuse_session_exit(fs->session);
	control_interrupt(fs->control);
	fs_saves_interrupt(fs);
	pool_interrupt(fs->pool);
	pool_interrupt(fs->saves.small);
	pool_interrupt(fs->saves.large);
	store_interrupt(fs->store);
	room_interrupt(fs->room);
}

/* A signal to end came. */
static void
signals_end(struct signals *s, int sig)
{
	uint64_t now = room_now();
	bool stop, last;

	pthread_mutex_lock(&s->lock);
	s->ends++;
	stop = s->stage == SERVING;
	last = s->ends > 1;
	if (stop)
		s->stage = STOPPING;
	else if (last)
		s->limit = now;
	else if (s->limit == 0 || s->limit > now + SIGNALS_GRACE)
		s->limit = now + SIGNALS_GRACE;
	/* With the lock, so that what it stops stays there until it has. */
	if (stop)
		stop_serving(s->fs);
	pthread_mutex_unlock(&s->lock);
	log_info("signal %d: %s", sig,
	    stop       ? "unmounting"
		: last ? "what is not sent yet is kept in the recovery folder"
		       : "a few seconds are left to send what is unsent");
	if (last)
		fs_saves_end(s->fs);
}

/* One step; how long (ms) to sleep after it, -1: until something comes. */
static int
signals_step(struct signals *s, bool *done)
{
	uint64_t now = room_now();
	bool nudge, over;
	int sleep = -1;

	pthread_mutex_lock(&s->lock);
	*done = s->stage == DONE;
	nudge = s->stage == STOPPING;
	over = s->stage == UNMOUNTING && s->limit != 0 && s->limit <= now;
	if (over)
		s->limit = 0;
	else if (s->stage == UNMOUNTING && s->limit != 0)
		sleep = s->limit - now < 60000 ? (int)(s->limit - now) : 60000;
	pthread_mutex_unlock(&s->lock);
	/* It looks whether to end when it is woken; it may just be about to
	 * sleep. */
	if (nudge) {
		pthread_kill(s->serving, SIGUSR2);
		sleep = SIGNALS_NUDGE;
	}
	if (over)
		fs_saves_end(s->fs);
	return sleep;
}

static void *
signals_run(void *arg)
{
	struct signals *s = arg;
	struct pollfd fds[2] = {
	    {.fd = s->signals, .events = POLLIN},
	    {.fd = s->wake, .events = POLLIN},
	};
	struct signalfd_siginfo info;
	uint64_t count;
	bool done;
	int sleep;

	for (;;) {
		sleep = signals_step(s, &done);
		if (done)
			return NULL;
		poll(fds, 2, sleep);
		if (read(s->wake, &count, sizeof count) == -1 &&
		    errno != EAGAIN)
			log_warn("signals: can't be woken");
		if (read(s->signals, &info, sizeof info) != sizeof info)
			continue;
		if (info.ssi_signo != SIGHUP) {
			signals_end(s, (int)info.ssi_signo);
			continue;
		}
		log_reopen_file();
		log_info("SIGHUP: checking everything anew");
		pthread_mutex_lock(&s->lock);
		if (s->stage == SERVING)
			fs_check_later(s->fs);
		pthread_mutex_unlock(&s->lock);
	}
}

/* What a program or a person may send, and would kill us. */
static void
ignore_strays(void)
{
	static const int strays[] = {SIGPIPE, SIGUSR1, SIGALRM, SIGVTALRM,
	    SIGPROF, SIGIO, SIGPWR, SIGSTKFLT, SIGXCPU, SIGXFSZ};
	size_t i;

	for (i = 0; i < sizeof strays / sizeof *strays; i++)
		signal(strays[i], SIG_IGN);
}

int
signals_open(struct signals **out, struct fs *fs)
{
	struct sigaction wake = {.sa_handler = wake_up};
	struct signals *s;
	sigset_t set;
	int error = 0;

	if ((s = calloc(1, sizeof *s)) == NULL)
		return -ENOMEM;
	s->fs = fs;
	s->serving = pthread_self();
	s->wake = -1;
	pthread_mutex_init(&s->lock, NULL);
	ignore_strays();
	sigaction(SIGUSR2, &wake, NULL); /* not SA_RESTART */
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->signals == -1 ||
	    (s->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) == -1)
		error = -errno;
	else
		error = thread_create(&s->thread, NULL, signals_run, s);
	if (error != 0) {
		if (s->signals != -1)
			close(s->signals);
		if (s->wake != -1)
			close(s->wake);
		pthread_mutex_destroy(&s->lock);
		free(s);
		return error;
	}
	*out = s;
	return 0;
}

static void
signals_enter(struct signals *s, int stage, uint64_t limit)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&s->lock);
	s->stage = stage;
	s->limit = limit;
	pthread_mutex_unlock(&s->lock);
	if (write(s->wake, &one, sizeof one) == -1)
		log_warn("signals: can't wake");
}

void
signals_unmount(struct signals *s, unsigned seconds)
{
	signals_enter(s, UNMOUNTING, room_now() + seconds * 1000ull);
}

void
signals_close(struct signals *s)
{
	if (s == NULL)
		return;
	signals_enter(s, DONE, 0);
	pthread_join(s->thread, NULL);
	close(s->signals);
	close(s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
