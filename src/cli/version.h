#ifndef CLI_VERSION_H
#define CLI_VERSION_H

#include <stdio.h>

/* "gentilityfs 1.2.3", and the libraries it runs with. */
void version_print(FILE *);

#endif
