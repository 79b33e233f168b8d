#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content.h"
#include "fs_impl.h"
#include "log.h"

void
fs_recover(struct fs *fs, uint64_t id, int error)
{
	(void)fs; (void)id; (void)error;
}

void
fs_recover_old(struct fs *fs)
{
	(void)fs;
}
