#include <string.h>

#include "script/command.h"
#include "script/vm_scripts.h"

/*
 * No system call takes a path of 4096 bytes or more, and some of the hidden
 * files that a change stages lie beside its target.  A directory above such a
 * path is opened in the VM, and /proc/self/fd leads on from there.
 */
#define DEEP_FROM 4000
/* What is left then has a directory and a name: no name is longer than 255. */
#define DEEP_PART 3600

bool
command_is_deep(const char *path)
{
	return strlen(path) >= DEEP_FROM;
}

/* How much of a path that is too long goes into the next part. */
static size_t
deep_part(const char *path)
{
	size_t n;

	for (n = DEEP_PART; n > 0; n--)
		if (path[n] == '/')
			break;
	return n;
}

void
command_open_deep(struct command *c, int fd, const char *path)
{
	char part[DEEP_PART + 1];
	size_t n;

	if (!command_is_deep(path))
		return;
	if (!c->deep)
		command_add(c, vm_deep);
	c->deep = true;
	command_addf(c, "open_deep %d", fd);
	while (command_is_deep(path) && (n = deep_part(path)) > 0) {
		memcpy(part, path, n);
		part[n] = '\0';
		command_add(c, " ");
		command_add_quoted(c, part);
		path += n + 1;
	}
	command_add(c, "\n");
}

void
command_add_path(struct command *c, int fd, const char *path)
{
	size_t n;

	if (command_is_deep(path)) {
		command_addf(c, "/proc/self/fd/%d/", fd);
		while (command_is_deep(path) && (n = deep_part(path)) > 0)
			path += n + 1;
	}
	command_add_quoted(c, path);
}
