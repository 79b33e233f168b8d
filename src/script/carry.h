#ifndef SCRIPT_CARRY_H
#define SCRIPT_CARRY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A text that is too large for one command is carried to the VM in parts, each
 * a file of the temporary directory; there they are put together and run.
 * Nothing but sh, printf, cat, wc and rm is needed.  Each of these commands
 * does no harm when it runs twice.  Pure; token: 16 hex digits.
 */
#define SCRIPT_CARRY_PARTS 1000

/* Any bytes; malloc'ed, with its length in *out_len.  NULL: no memory. */
char *script_carry_part(const char *token, unsigned part, const char *bytes,
    size_t len, size_t *out_len);

/*
 * What a text to be carried begins with: it removes its own file, which the
 * shell has open.  And how a text of this length, that included, is made of
 * its parts and, if that is wanted, run: behind the last part.  When a part is
 * not there the exit code is not 0, and SCRIPT_CARRY_LOST and the token are
 * printed.
 */
#define SCRIPT_CARRY_LOST "<gfs-lost "
char *script_carry_head(const char *token);
char *script_carry_join(const char *token, size_t len, bool run);
/* How it is run by a command of its own. */
char *script_carry_run(const char *token);

#endif
