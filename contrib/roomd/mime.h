/* MIME types: by the name's extension, else by the first bytes. */
#ifndef ROOMD_MIME_H
#define ROOMD_MIME_H

#include <stddef.h>

#define MIME_HEAD 512 /* bytes worth looking at */

const char *mime_by_name(const char *path);
const char *mime_by_head(const void *head, size_t len);

#endif
