#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/config.h"
#include "cli/options.h"

#define CONFIG_SYSTEM "/etc/gentilityfs/config"

struct reading {
	const char *path, *name;
	struct config_room *room;
	bool found;
	char names[512]; /* all that there are, for a message */
	char wrong[512];
};

static int
take(char **to, const char *value)
{
	free(*to);
	return (*to = strdup(value)) != NULL;
}

/* Remember that there is such a name. */
static void
note_name(struct reading *r, const char *section)
{
	char last[128], *at = strrchr(r->names, ' ');

	strlcpy(last, at != NULL ? at + 1 : r->names, sizeof last);
	if (strcmp(last, section) == 0)
		return;
	if (r->names[0] != '\0')
		strlcat(r->names, ", ", sizeof r->names);
	strlcat(r->names, section, sizeof r->names);
}

/* inih's: 0 is an error of this line. */
static int
take_value(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;

	if (r->wrong[0] != '\0')
		return 1;
	if (section[0] == '\0') {
		snprintf(r->wrong, sizeof r->wrong,
		    "\"%s\" stands before the first [NAME]", name);
		return 1;
	}
	note_name(r, section);
	if (strcmp(section, r->name) != 0)
		return 1;
	r->found = true;
	if (strcmp(name, "source") == 0)
		return take(&r->room->source, value);
	if (strcmp(name, "mountpoint") == 0) {
		free(r->room->mountpoint);
		return (r->room->mountpoint = options_home(value)) != NULL;
	}
	if (strcmp(name, "options") == 0)
		return take(&r->room->options, value);
	snprintf(r->wrong, sizeof r->wrong,
	    "[%s]: unknown word \"%s\"; known are source, mountpoint and "
	    "options",
	    section, name);
	return 1;
}

/* 0, -ENOENT (no such file or name), or -EINVAL with a line in detail. */
static int
read_file(struct reading *r, char *detail, size_t size)
{
	int line = ini_parse(r->path, take_value, r);

	if (line == -1)
		return -ENOENT;
	if (line > 0)
		snprintf(detail, size, "%s, line %d: not NAME = VALUE", r->path,
		    line);
	else if (line < 0)
		snprintf(detail, size, "%s: %s", r->path, strerror(ENOMEM));
	else if (r->wrong[0] != '\0')
		snprintf(detail, size, "%s: %s", r->path, r->wrong);
	else if (!r->found)
		return -ENOENT;
	else if (r->room->source == NULL)
		snprintf(detail, size,
		    "%s: [%s] has no line source = PROFILE/ROOM[:PATH]",
		    r->path, r->name);
	else
		return 0;
	return -EINVAL;
}

int
config_find(
    const char *name, struct config_room *room, char *detail, size_t size)
{
	struct reading r = {.name = name, .room = room};
	const char *xdg = getenv("XDG_CONFIG_HOME");
	char *user;
	int error;

	*room = (struct config_room){0};
	if (xdg == NULL || xdg[0] != '/')
		user = options_home("~/.config/gentilityfs/config");
	else if (asprintf(&user, "%s/gentilityfs/config", xdg) == -1)
		return -ENOMEM;
	r.path = user;
	if ((error = read_file(&r, detail, size)) == -ENOENT) {
		r.path = CONFIG_SYSTEM;
		error = read_file(&r, detail, size);
	}
	if (error == -ENOENT && r.names[0] != '\0')
		snprintf(detail, size,
		    "malformed SOURCE \"%s\": no room has that name in %s; "
		    "there are: %s",
		    name, user, r.names);
	else if (error == -ENOENT)
		snprintf(detail, size,
		    "malformed SOURCE \"%s\": it is neither PROFILE/ROOM nor "
		    "PROFILE/ROOM:PATH, nor a name in %s",
		    name, user);
	free(user);
	return error;
}

void
config_room_free(struct config_room *room)
{
	free(room->source);
	free(room->mountpoint);
	free(room->options);
	*room = (struct config_room){0};
}
