#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/key.h"
#include "cli/options.h"

#define KEY_VARIABLE "GENTILITY_API_KEY"
#define KEY_SYSTEM   "/etc/gentilityfs/key"
#define KEY_MAX	     512

void
key_free(char *key)
{
	if (key == NULL)
		return;
	explicit_bzero(key, KEY_MAX + 1);
	munlock(key, KEY_MAX + 1);
	free(key);
}

/* A key without the white space around it, in memory of its own; or NULL. */
static int
take(const char *text, size_t len, char **key)
{
	static const char blanks[] = " \t\r\n";
	size_t i;

	while (len > 0 && strchr(blanks, text[len - 1]) != NULL &&
	    text[len - 1] != '\0')
		len--;
	while (len > 0 && strchr(blanks, *text) != NULL && *text != '\0') {
		text++;
		len--;
	}
	if (len == 0)
		return -ENODATA;
	if (strchr("\"'", text[0]) != NULL ||
	    strchr("\"'", text[len - 1]) != NULL)
		return -EILSEQ;
	if (len > KEY_MAX)
		return -EINVAL;
	for (i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return -EINVAL;
	if ((*key = calloc(1, KEY_MAX + 1)) == NULL)
		return -ENOMEM;
	mlock(*key, KEY_MAX + 1); /* out of swap, where that is allowed */
	memcpy(*key, text, len);
	return 0;
}

/* What is wrong with a key's form, for the user. */
static void
explain(const char *from, int error, char *detail, size_t size)
{
	if (error == -ENODATA)
		snprintf(
		    detail, size, "%s is empty: put the key into it", from);
	else if (error == -EILSEQ)
		snprintf(detail, size,
		    "%s has the key in quotes: leave them out", from);
	else if (error == -EINVAL)
		snprintf(detail, size,
		    "%s does not hold a key (one word such as rk_live_...)",
		    from);
	else
		snprintf(detail, size, "%s: %s", from, strerror(-error));
}

static int
read_file(const char *path, char **key, char *detail, size_t size)
{
	/* Half for the key, half for white space around it. */
	char text[2 * KEY_MAX + 1];
	struct stat st;
	ssize_t len = 0, n;
	int fd, error = 0;

	/* O_NONBLOCK: a FIFO must not hang us. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1 || fstat(fd, &st) == -1) {
		error = -errno;
		snprintf(detail, size, "cannot read the key file %s: %s", path,
		    strerror(errno));
		goto out;
	}
	error = -EPERM;
	if (!S_ISREG(st.st_mode)) {
		snprintf(detail, size, "the key file %s is not a regular file",
		    path);
		goto out;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		snprintf(detail, size,
		    "the key file %s belongs to somebody else: use a file of "
		    "your own",
		    path);
		goto out;
	}
	if (st.st_mode & (S_IRWXG | S_IRWXO)) {
		snprintf(detail, size,
		    "the key file %s is open to other users: chmod 600 %s",
		    path, path);
		goto out;
	}
	error = 0;
	while (len < (ssize_t)sizeof text &&
	    (n = read(fd, text + len, sizeof text - len)) != 0) {
		if (n == -1) {
			error = -errno;
			snprintf(detail, size,
			    "cannot read the key file %s: %s", path,
			    strerror(errno));
			goto out;
		}
		len += n;
	}
	error = len == sizeof text ? -EINVAL : take(text, len, key);
	if (error != 0) {
		char name[OPTIONS_DETAIL];

		snprintf(name, sizeof name, "the key file %s", path);
		explain(name, error, detail, size);
	}
out:
	explicit_bzero(text, sizeof text);
	if (fd != -1)
		close(fd);
	return error;
}

static char *
user_file(void)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	char *path;

	if (xdg == NULL || xdg[0] != '/')
		return options_home("~/.config/gentilityfs/key");
	if (asprintf(&path, "%s/gentilityfs/key", xdg) == -1)
		return NULL;
	return path;
}

int
key_load(const char *file, char **key, char **from, char *detail, size_t size)
{
	char *variable = getenv(KEY_VARIABLE), *path = NULL;
	int error;

	*key = *from = NULL;
	if (file != NULL) {
		error = read_file(file, key, detail, size);
		*from = strdup(file);
		goto out;
	}
	if (variable != NULL && variable[0] != '\0') {
		if ((error = take(variable, strlen(variable), key)) != 0)
			explain("$" KEY_VARIABLE, error, detail, size);
		*from = strdup("$" KEY_VARIABLE);
		goto out;
	}
	error = -ENOMEM;
	if ((path = user_file()) == NULL)
		goto out;
	error = read_file(path, key, detail, size);
	if (error != -ENOENT && error != -ENOTDIR) {
		*from = strdup(path);
		goto out;
	}
	error = read_file(KEY_SYSTEM, key, detail, size);
	*from = strdup(KEY_SYSTEM);
	if (error == -ENOENT || error == -ENOTDIR)
		snprintf(detail, size,
		    "no key: put it into %s (chmod 600) or " KEY_SYSTEM
		    ", name its file with -o key_file=FILE, or set "
		    "$" KEY_VARIABLE,
		    path);
out:
	/* Not for /proc/PID/environ, nor for programs that we start. */
	if (variable != NULL) {
		explicit_bzero(variable, strlen(variable));
		unsetenv(KEY_VARIABLE);
	}
	free(path);
	return error;
}
