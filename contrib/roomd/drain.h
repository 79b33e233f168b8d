/*
 * Reads away what background processes still write after their command was
 * answered: with nobody at the other end of the pipe they would die of it.
 */
#ifndef ROOMD_DRAIN_H
#define ROOMD_DRAIN_H

int drain_start(void);
void drain_take(int fd);
void drain_stop(void);

#endif
