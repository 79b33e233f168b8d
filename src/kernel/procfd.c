#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernel/procfd.h"

static bool proc_is_ours;

static void
proc_look(void)
{
	char link[32];
	ssize_t n = readlink("/proc/self", link, sizeof link - 1);

	link[n > 0 ? n : 0] = '\0';
	proc_is_ours = atoi(link) == (int)getpid();
}

bool
procfd_is_ours(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, proc_look);
	return proc_is_ours;
}

pid_t
procfd_process(pid_t thread)
{
	char path[64], line[128];
	int tgid = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
	if (thread == 0 || !procfd_is_ours() || (f = fopen(path, "re")) == NULL)
		return 0;
	while (fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "Tgid: %d", &tgid) == 1)
			break;
	fclose(f);
	return tgid;
}

bool
procfd_name(pid_t thread, char out[PROCFD_NAME])
{
	char path[64];
	bool got;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/comm", (int)thread);
	if ((f = fopen(path, "re")) == NULL)
		return false;
	got = fgets(out, PROCFD_NAME, f) != NULL;
	fclose(f);
	if (got)
		out[strcspn(out, "\n")] = '\0';
	return got;
}

/* What /proc tells of a descriptor: enough to see that two are one file. */
struct fd_info {
	long long pos;
	unsigned flags;
	unsigned long long ino;
	int mount;
};

static bool
fd_info_read(const char *path, struct fd_info *out)
{
	char line[256];
	FILE *f;

	*out = (struct fd_info){.mount = -1};
	if ((f = fopen(path, "re")) == NULL)
		return false;
	while (fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "pos: %lld", &out->pos) == 1 ||
		    sscanf(line, "flags: %o", &out->flags) == 1 ||
		    sscanf(line, "mnt_id: %d", &out->mount) == 1)
			continue;
		else
			sscanf(line, "ino: %llu", &out->ino);
	fclose(f);
	return true;
}

bool
procfd_still_open(pid_t process, uint64_t ino, off_t pos)
{
	char path[320];
	struct fd_info info;
	struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%d/fdinfo", (int)process);
	if (process == 0 || (dir = opendir(path)) == NULL)
		return false;
	while (!found && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", (int)process,
		    e->d_name);
		found = fd_info_read(path, &info) && info.ino == ino &&
		    (pos == -1 || info.pos == pos) &&
		    (info.flags & O_ACCMODE) != O_RDONLY;
	}
	closedir(dir);
	return found;
}
