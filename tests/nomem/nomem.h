#ifndef NOMEM_H
#define NOMEM_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * Allocations of the modules that fail on demand.  `make nomem' links programs
 * whose modules allocate here: objcopy gives them the names in `symbols'.
 */
struct nomem {
	_Atomic uint64_t count; /* allocations until now */
	_Atomic uint64_t from, to; /* those that fail; numbers begin at 1 */
	_Atomic uint64_t failed;
	_Atomic uint64_t where; /* the last one that failed: for addr2line */
};

extern struct nomem *nomem;

#endif
