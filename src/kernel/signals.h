#ifndef KERNEL_SIGNALS_H
#define KERNEL_SIGNALS_H

/*
 * The signals that are meant for a mount, and the end that they bring about.
 * SIGHUP has everything checked anew.  SIGTERM and SIGINT unmount, after which
 * what is unsent is sent; the second one ends that, too.  (After an unmount by
 * other means the first one leaves it a few seconds.)  What is not sent by then
 * goes to the recovery folder.  Any other signal that only programs send does
 * nothing.
 */
struct fs;
struct signals;

/* On the thread that is about to serve.  0 or -errno. */
int signals_open(struct signals **, struct fs *);
/* It serves no more: sending may take so long now. */
void signals_unmount(struct signals *, unsigned seconds);
void signals_close(struct signals *);

#endif
