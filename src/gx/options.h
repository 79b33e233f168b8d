#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

#include "text.h"

enum action { RUN, ATTACH, JOBS, KILL, CLEAN, URL, PROGRAMS };

struct options {
	enum action action;
	unsigned long job;
	const char *text; /* of -c */
	const char *control, *timeout, *file;
	char **words;
	struct text before; /* what --env gives, for the shell */
	bool follow, detach, terminal, input, no_input, verbose, json;
	bool shell; /* no command: the user's shell */
};

/* 0, or the status to exit with, -1: 0. */
int options_parse(int argc, char **argv, struct options *);

#endif
