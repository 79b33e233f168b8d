#include <cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/json_text.h"
#include "base/stats_text.h"
#include "cli/recovered.h"
#include "cli/rooms.h"

enum {
	ROOMS_MAX = 256, /* mounts that are looked at */
	ROOMS_TEXT = 65536, /* the longest extended attribute */
	ROOMS_WAIT_MS = 3000 /* for a mount to tell of itself */
};

struct mounted {
	char *source, *dir;
	int error; /* it did not tell: -ENOTCONN, -EACCES, -ETIMEDOUT, ... */
	int pid;
	double contact_s; /* < 0: no answer yet */
	uint64_t unsent_files, unsent_bytes;
	char *cache_dir;
};

/* --- what is there ---------------------------------------------------------
 */

bool
rooms_is_mount(const char *path)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	bool ours = false;

	if (f == NULL)
		return false;
	while ((m = getmntent(f)) != NULL)
		if (strcmp(m->mnt_dir, path) == 0)
			ours = strcmp(m->mnt_type, "fuse.gentilityfs") == 0;
	endmntent(f);
	return ours;
}

/* What the mount says of itself, by a process that may be left behind when
 * the mount does not answer.  Its length, or -errno. */
static ssize_t
ask(const char *dir, char *text)
{
	struct pollfd in;
	ssize_t len = 0, n;
	int fds[2], error = 0;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) == -1)
		return -errno;
	if ((child = fork()) == -1) {
		error = -errno;
		close(fds[0]);
		close(fds[1]);
		return error;
	}
	if (child == 0) {
		len = getxattr(
		    dir, "user.gentility.stats.json", text, ROOMS_TEXT);
		error = len == -1 ? errno : 0;
		if (write(fds[1], &error, sizeof error) != sizeof error ||
		    (len > 0 && write(fds[1], text, (size_t)len) != len))
			_exit(EXIT_FAILURE);
		_exit(EXIT_SUCCESS);
	}
	close(fds[1]);
	in = (struct pollfd){.fd = fds[0], .events = POLLIN};
	if (poll(&in, 1, ROOMS_WAIT_MS) != 1) {
		error = ETIMEDOUT;
		kill(child, SIGKILL);
	} else if (read(fds[0], &error, sizeof error) != sizeof error)
		error = EIO;
	while (error == 0 && len < ROOMS_TEXT &&
	    (n = read(fds[0], text + len, (size_t)(ROOMS_TEXT - len))) > 0)
		len += n;
	close(fds[0]);
	/* Who is stuck in the kernel may not be gone yet. */
	waitpid(child, NULL, error == ETIMEDOUT ? WNOHANG : 0);
	return error != 0 ? -error : len;
}

static double
number(const cJSON *object, const char *name)
{
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsNumber(n) ? n->valuedouble : -1;
}

static void
look_at(struct mounted *m)
{
	char *text = malloc(ROOMS_TEXT + 1);
	const cJSON *unsent, *dir;
	ssize_t len = text != NULL ? ask(m->dir, text) : -ENOMEM;
	cJSON *answer = NULL;

	if (len >= 0)
		answer = cJSON_ParseWithLength(text, (size_t)len);
	m->error = len < 0 ? (int)len : answer == NULL ? -EIO : 0;
	m->contact_s = number(answer, "last_contact_s");
	m->pid = (int)number(answer, "pid");
	unsent = cJSON_GetObjectItemCaseSensitive(answer, "unsent");
	if (unsent != NULL) {
		m->unsent_files = (uint64_t)number(unsent, "files");
		m->unsent_bytes = (uint64_t)number(unsent, "bytes");
	}
	dir = cJSON_GetObjectItemCaseSensitive(answer, "cache_dir");
	if (cJSON_IsString(dir))
		m->cache_dir = strdup(dir->valuestring);
	cJSON_Delete(answer);
	free(text);
}

/* All mounts of ours, in the order in which they were made. */
static size_t
find_all(struct mounted *out)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	size_t n = 0;

	if (f == NULL)
		return 0;
	while (n < ROOMS_MAX && (m = getmntent(f)) != NULL) {
		if (strcmp(m->mnt_type, "fuse.gentilityfs") != 0)
			continue;
		out[n] = (struct mounted){
		    .source = strdup(m->mnt_fsname), .dir = strdup(m->mnt_dir)};
		if (out[n].source == NULL || out[n].dir == NULL)
			break;
		n++;
	}
	endmntent(f);
	return n;
}

static void
free_all(struct mounted *mounts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(mounts[i].source);
		free(mounts[i].dir);
		free(mounts[i].cache_dir);
	}
	free(mounts);
}

/* --- --list ----------------------------------------------------------------
 */

static const char *
state_name(const struct mounted *m)
{
	switch (m->error) {
	case 0:
		return m->contact_s < 0 ? "silent" : "mounted";
	case -ENOTCONN:
		return "dead";
	case -EACCES:
	case -EPERM:
		return "foreign";
	}
	return "silent";
}

static void
print_json(const struct mounted *m, size_t n)
{
	for (size_t i = 0; i < n; i++, m++) {
		fputs(i > 0 ? ",{\"source\":" : "{\"source\":", stdout);
		json_write_string(stdout, m->source);
		fputs(",\"mountpoint\":", stdout);
		json_write_string(stdout, m->dir);
		printf(",\"state\":\"%s\"", state_name(m));
		if (m->error == 0)
			printf(",\"pid\":%d,\"unsent\":{\"files\":%llu,"
			       "\"bytes\":%llu},\"last_contact_s\":",
			    m->pid, (unsigned long long)m->unsent_files,
			    (unsigned long long)m->unsent_bytes);
		if (m->error == 0 && m->contact_s >= 0)
			printf("%.3f}", m->contact_s);
		else
			fputs(m->error == 0 ? "null}" : "}", stdout);
	}
}

static void
print_line(const struct mounted *m)
{
	char size[16];

	printf("%-8s %s  %s", state_name(m), m->dir, m->source);
	if (m->error == 0 && m->contact_s >= 0)
		printf(", last answer %.0f s ago", m->contact_s);
	if (m->unsent_files > 0)
		printf(", unsent %llu file%s, %s",
		    (unsigned long long)m->unsent_files,
		    m->unsent_files == 1 ? "" : "s",
		    stats_bytes(size, m->unsent_bytes));
	if (m->error == -ENOTCONN)
		printf(": fusermount3 -u %s", m->dir);
	putchar('\n');
}

int
rooms_list(const struct options *o, char detail[OPTIONS_DETAIL])
{
	struct mounted *mounts = calloc(ROOMS_MAX, sizeof *mounts);
	size_t n, i;

	if (mounts == NULL) {
		snprintf(detail, OPTIONS_DETAIL, "%s", strerror(ENOMEM));
		return EXIT_FAILURE;
	}
	n = find_all(mounts);
	for (i = 0; i < n; i++)
		look_at(&mounts[i]);
	if (o->json) {
		putchar('[');
		print_json(mounts, n);
		puts("]");
	} else
		for (i = 0; i < n; i++)
			print_line(&mounts[i]);
	free_all(mounts, n);
	return 0;
}

/* --- --unmount -------------------------------------------------------------
 */

/* 0 or -errno, with a line on standard error. */
static int
detach(const struct mounted *m)
{
	int status;
	pid_t child;

	/* fusermount3 says itself what is wrong. */
	if ((child = fork()) == 0) {
		execlp("fusermount3", "fusermount3", "-u", "--", m->dir,
		    (char *)NULL);
		fprintf(
		    stderr, "gentilityfs: fusermount3: %s\n", strerror(errno));
		_exit(EXIT_FAILURE);
	}
	if (child == -1 || waitpid(child, &status, 0) != child || status != 0) {
		fprintf(stderr,
		    "gentilityfs: %s is still mounted: leave it (a shell "
		    "inside? an editor?) and try again\n",
		    m->dir);
		return -EBUSY;
	}
	return 0;
}

/* The process sends what is left, and ends. */
static void
await_end(const struct mounted *m)
{
	struct pollfd end = {.events = POLLIN};
	char size[16];

	end.fd = m->pid > 0 ? (int)syscall(SYS_pidfd_open, m->pid, 0) : -1;
	if (end.fd == -1)
		return;
	/* A mount without anything unsent is gone in a moment. */
	if (poll(&end, 1, 1000) == 0) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr,
			    "gentilityfs: %s: waiting until all is sent (%llu "
			    "file%s, %s)\n",
			    m->source, (unsigned long long)m->unsent_files,
			    m->unsent_files == 1 ? "" : "s",
			    stats_bytes(size, m->unsent_bytes));
		while (poll(&end, 1, -1) == -1 && errno == EINTR)
			continue;
	}
	close(end.fd);
}

static int
unmount(struct mounted *m)
{
	struct recovered before = {0}, after = {0};
	int status = EXIT_SUCCESS;

	look_at(m);
	if (m->cache_dir != NULL)
		recovered_list(&before, m->cache_dir);
	if (detach(m) != 0) {
		status = EXIT_FAILURE;
		goto out;
	}
	await_end(m);
	if (m->cache_dir != NULL)
		recovered_list(&after, m->cache_dir);
	if (recovered_print_new(stderr, &before, &after) > 0)
		status = EXIT_FAILURE;
out:
	recovered_free(&before);
	recovered_free(&after);
	return status;
}

int
rooms_unmount(const struct options *o, char detail[OPTIONS_DETAIL])
{
	struct mounted *mounts = calloc(ROOMS_MAX, sizeof *mounts);
	char *path = o->all ? NULL : realpath(o->mountpoint, NULL);
	const char *where = path != NULL ? path : o->mountpoint;
	int status = EXIT_SUCCESS;
	bool found = o->all;
	size_t n, i;

	if (mounts == NULL) {
		free(path);
		snprintf(detail, OPTIONS_DETAIL, "%s", strerror(ENOMEM));
		return EXIT_FAILURE;
	}
	n = find_all(mounts);
	/* The last made first: one may lie in another. */
	for (i = n; i-- > 0;) {
		if (!o->all &&
		    (where == NULL || strcmp(mounts[i].dir, where) != 0))
			continue;
		if (o->all && geteuid() != 0 &&
		    getxattr(mounts[i].dir, "user.gentility.stats", NULL, 0) ==
			-1 &&
		    errno == EACCES)
			continue; /* somebody else's */
		found = true;
		if (unmount(&mounts[i]) != 0)
			status = EXIT_FAILURE;
		if (!o->all)
			break;
	}
	if (!found) {
		snprintf(detail, OPTIONS_DETAIL,
		    "no room is mounted at %s (gentilityfs --list shows those "
		    "that are)",
		    o->mountpoint);
		status = EXIT_FAILURE;
	} else
		detail[0] = '\0';
	free_all(mounts, n);
	free(path);
	return status;
}

/* --- --recovered -----------------------------------------------------------
 */

int
rooms_recovered(const struct options *o, char detail[OPTIONS_DETAIL])
{
	struct recovered r = {0};
	int error;

	error = recovered_list(&r, o->cache_dir);
	if (error == 0 && o->forget)
		error = recovered_forget(&r);
	else if (error == 0 && o->json)
		recovered_print_json(stdout, &r);
	else if (error == 0)
		recovered_print(stdout, &r);
	recovered_free(&r);
	if (error != 0)
		snprintf(detail, OPTIONS_DETAIL, "%s/recovery: %s",
		    o->cache_dir, strerror(-error));
	return error == 0 ? 0 : EXIT_FAILURE;
}
