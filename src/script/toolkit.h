#ifndef SCRIPT_TOOLKIT_H
#define SCRIPT_TOOLKIT_H

#include <stdbool.h>
#include <stddef.h>

#include "script/script.h"

/*
 * All programs of vm/ *.sh together are the toolkit.  A file in the VM keeps
 * it, so that a command names that instead of carrying what it needs.  Pure.
 *
 * What script_compose_*() make is a command that carries its programs: they
 * are the beginning, the calls follow.  These turn it into its other forms,
 * which do and answer the same.  `nonce` is the command's own; malloc'ed, NULL:
 * no memory, or longer than SCRIPT_MAX.
 */

/* No file that keeps a toolkit has a longer name, its NUL included. */
#define SCRIPT_PLACE_MAX 256
/* What script_with_toolkit() adds to a command's calls, at most. */
#define SCRIPT_LOAD_MAX 1024

/* The length of the programs that a composed command carries. */
size_t script_programs_size(const char *command);

/*
 * As if the VM had the programs in the file `place`.  When it does not, or it
 * is not ours alone, the command does nothing; script_toolkit_missed() sees
 * that in its output.
 */
char *script_with_toolkit(const char *command, enum script_tools,
    const char *nonce, const char *place, size_t *len);
bool script_toolkit_missed(const char *output, size_t len, const char *nonce);

/*
 * Carry the whole toolkit and leave it in the VM.  script_toolkit_place() finds
 * in the output where it is now: "" when there is no place for it; false: the
 * output does not say.  It goes packed, to fit with the rest into what a new
 * connection sends at first; a VM that can't unpack that does nothing, as
 * above.
 */
enum script_store {
	SCRIPT_STORE_CLEAN = 1, /* those of other versions go */
	SCRIPT_STORE_PLAIN = 2 /* not packed */
};
char *script_store_toolkit(const char *command, enum script_tools,
    const char *nonce, unsigned flags, size_t *len);
bool script_toolkit_place(const char *output, size_t len, const char *nonce,
    char place[SCRIPT_PLACE_MAX]);

/*
 * Only look where it is (script_toolkit_place()), or would be: a directory with
 * a slash at its end.
 */
char *script_find_toolkit(const char *nonce, size_t *len);

/* The text itself and its SHA-256; NULL: no memory. */
const char *script_toolkit(const char **hash);

#endif
