#ifndef ROOM_CHECK_H
#define ROOM_CHECK_H

#include "room/room.h"

/*
 * A look at a room and the way to it, for people (--check): what works, in
 * which form, and how fast.  Leaves nothing behind in the VM.
 */
enum { ROOM_CHECK_TIMES = 5 };

struct room_check {
	/* The first contact: 0, or why the room can't be mounted. */
	int error;
	char detail[512]; /* and what to do; "" if 0 */

	bool reached; /* something there speaks HTTP */
	char address[64]; /* of the peer; "": none or unknown */
	unsigned name_us, connect_us, tls_us; /* of a new connection */

	bool has_vm; /* all below is about it */
	char instance[37];
	char *user, *home, *cwd, *root; /* root: of the mount */
	uint32_t uid, gid;
	bool gnu, whole_seconds;
	char *uname;
	char *tools; /* names, separated by blanks */
	/* The file in which the VM keeps what commands need; with a slash at
	 * its end the directory where it would; "": nowhere; NULL: unknown. */
	char *toolkit;

	unsigned times; /* how many commands were timed, */
	unsigned min_us, median_us; /* with their answers */
	bool has_clock;
	int64_t clock_s; /* the VM's clock minus ours */

	/* 0: works; or -errno.  -ENODATA: not tried. */
	int tmp; /* writing in /tmp */
	int file_text, file_binary; /* the file endpoint */
	const char *file_form; /* how it has /tmp/x; NULL: unknown */
	int raw, raw_range; /* the raw endpoint, whole and in parts */
	int long_command; /* as long as the driver makes them */
	size_t command_max; /* so long that is */
	size_t output_cut; /* where outputs are cut; 0: not at */
	size_t output_tried; /* this length */
};

/* Never fails but for lack of memory; room_check_free() in any case. */
int room_check(const struct room_config *, struct room_check *);
void room_check_free(struct room_check *);

#endif
