#ifndef INPUT_H
#define INPUT_H

#include <stdbool.h>
#include <stddef.h>

/* Standard input, on its way to the VM in numbered parts. */
struct input {
	bool wanted; /* it goes there at all */
	bool terminal; /* keys of one */
	bool ended; /* there is no more */
	bool told; /* of the end, and the VM has answered */
	bool hung_up; /* the user wants to end it all */
	unsigned long part; /* the number of the part that is at hand */
	char *data; /* that part, in base64; NULL: none */
	size_t chunk; /* how much the next one may have */
};

/* What is there at once: a part, or the end, or both.  Waits for a moment. */
void input_begin(struct input *);
/* It can be read. */
void input_read(struct input *);
/* The VM has the part at hand, and knows of the end if there was one. */
void input_given(struct input *);
void input_free(struct input *);

#endif
