#ifndef BASE_FATE_H
#define BASE_FATE_H

/*
 * What became of a user's command, as far as anybody can know.  One that ran
 * is never said not to have run, and is never sent again.
 */
enum fate {
	FATE_NOT_RUN, /* surely; nothing was done */
	FATE_RAN, /* to its end, whether its exit code is known or not */
	FATE_UNKNOWN /* it may have run, or run still */
};

#endif
