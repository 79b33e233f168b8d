#ifndef RUN_H
#define RUN_H

/*
 * Directories in the cache directory, each of one mount that runs, which holds
 * a lock in it for as long: run-XXXXXX.
 */

/* Remove what mounts that ended badly left: nobody holds their locks.  What
 * they could not send is recovered (label: recover.h).  at: the directory. */
void run_sweep(const char *cache_dir, int at, const char *label);

/*
 * Make one.  It gets its name when its lock is held, or another mount could
 * sweep it between the two.  0: all three are set; -errno: the descriptors are
 * -1 or the caller's to close.
 */
int run_make(const char *cache_dir, char **path, int *dir_fd, int *lock_fd);

#endif
