#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

/*
 * pthread_create() of a thread that takes no signals: those are for the main
 * thread and whom it asks to wait for them.  0 or -errno.
 */
int thread_create(
    pthread_t *, const pthread_attr_t *, void *(*)(void *), void *arg);

#endif
