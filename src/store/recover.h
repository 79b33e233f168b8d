#ifndef STORE_RECOVER_H
#define STORE_RECOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The recovery folder, CACHE_DIR/recovery: what could not be sent to the VM is
 * put there, one folder a time, under its path in the VM.  Nothing is ever
 * removed from it by us.
 */

/*
 * Open a file for the bytes of a file of the VM; its name is put into `where`.
 * Where the cache directory can't be used, /var/tmp/gentilityfs-UID is.  The
 * descriptor, or -errno.
 */
int recover_open(const char *cache_dir, const char *room, const char *path,
    char *where, size_t size);
/* The same with a work file as it is, for a disk that has no room for a copy.
 * 0 or -errno. */
int recover_link(const char *cache_dir, const char *room, const char *path,
    const char *work_path, char *where, size_t size);

/*
 * Move a work file that a killed mount left (and the note beside it, "NAME
 * .note", that says what it is) into the recovery folder, and log where.
 * False: it is another room's, whose next mount is to be told.
 */
bool recover_work(const char *cache_dir, const char *run_dir, const char *name,
    const char *room);

/* Write the note for a work file: of which room and path it is. */
void recover_note(const char *work_path, const char *room, const char *path);
/* Remove a work file's note. */
void recover_forget(const char *work_path);

#endif
