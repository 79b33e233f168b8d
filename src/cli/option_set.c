#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/option_value.h"
#include "cli/options_impl.h"

/* -o name[=value],... */

#define JSON_SUFFIX ".json"

enum kind {
	KIND_ON, /* bool: true */
	KIND_OFF, /* bool: false */
	KIND_STRING, /* char * */
	KIND_PATH, /* char *, with ~/ */
	KIND_SPECIAL, /* see set_special() */
	KIND_KERNEL, /* bool in struct parse */
	KIND_IGNORED, /* with or without a value */
};

#define FIELD(member)  offsetof(struct options, member)
#define KERNEL(member) offsetof(struct parse, member)

static const struct option_name {
	const char *name;
	enum kind kind;
	size_t field;
} option_names[] = {
    {"url", KIND_STRING, FIELD(url)},
    {"cacert", KIND_PATH, FIELD(cacert)},
    {"key_file", KIND_PATH, FIELD(key_file)},
    {"log_file", KIND_PATH, FIELD(log_file)},
    {"ro", KIND_ON, FIELD(read_only)},
    {"rw", KIND_OFF, FIELD(read_only)},
    {"allow_other", KIND_ON, FIELD(allow_other)},
    {"default_permissions", KIND_ON, FIELD(default_permissions)},
    {"nonempty", KIND_ON, FIELD(nonempty)},
    {"create", KIND_ON, FIELD(create)},
    {"insecure_http", KIND_ON, FIELD(insecure_http)},
    {"transform_symlinks", KIND_ON, FIELD(transform_symlinks)},
    {"no_transform_symlinks", KIND_OFF, FIELD(transform_symlinks)},
    {"cache_dir", KIND_PATH, FIELD(cache_dir)},
    {"uid", KIND_SPECIAL, 0},
    {"gid", KIND_SPECIAL, 0},
    {"umask", KIND_SPECIAL, 0},
    {"idmap", KIND_SPECIAL, 0},
    {"cache_timeout", KIND_SPECIAL, 0},
    {"cache_size", KIND_SPECIAL, 0},
    {"cache_entries", KIND_SPECIAL, 0},
    {"timeout", KIND_SPECIAL, 0},
    {"max_connections", KIND_SPECIAL, 0},
    {"control", KIND_SPECIAL, 0},
    {"no_control", KIND_SPECIAL, 0},
    {"list_control", KIND_SPECIAL, 0},
    {"no_list_control", KIND_SPECIAL, 0},
    {"fsname", KIND_SPECIAL, 0},
    {"remount", KIND_SPECIAL, 0},
    /* What the kernel does for us. */
    {"noexec", KIND_KERNEL, KERNEL(noexec)},
    {"noatime", KIND_KERNEL, KERNEL(noatime)},
    {"sync", KIND_KERNEL, KERNEL(sync)},
    {"dirsync", KIND_KERNEL, KERNEL(dirsync)},
    {"auto_unmount", KIND_KERNEL, KERNEL(auto_unmount)},
    /* Meant for mount(8), or without a meaning here: nodev and nosuid
     * always hold, access times are the VM's. */
    {"_netdev", KIND_IGNORED, 0},
    {"async", KIND_IGNORED, 0},
    {"atime", KIND_IGNORED, 0},
    {"auto", KIND_IGNORED, 0},
    {"comment", KIND_IGNORED, 0},
    {"defaults", KIND_IGNORED, 0},
    {"dev", KIND_IGNORED, 0},
    {"diratime", KIND_IGNORED, 0},
    {"exec", KIND_IGNORED, 0},
    {"group", KIND_IGNORED, 0},
    {"helper", KIND_IGNORED, 0},
    {"iversion", KIND_IGNORED, 0},
    {"lazytime", KIND_IGNORED, 0},
    {"loud", KIND_IGNORED, 0},
    {"mand", KIND_IGNORED, 0},
    {"noauto", KIND_IGNORED, 0},
    {"nodev", KIND_IGNORED, 0},
    {"nodiratime", KIND_IGNORED, 0},
    {"nofail", KIND_IGNORED, 0},
    {"nogroup", KIND_IGNORED, 0},
    {"noiversion", KIND_IGNORED, 0},
    {"nolazytime", KIND_IGNORED, 0},
    {"nomand", KIND_IGNORED, 0},
    {"noowner", KIND_IGNORED, 0},
    {"norelatime", KIND_IGNORED, 0},
    {"nostrictatime", KIND_IGNORED, 0},
    {"nosuid", KIND_IGNORED, 0},
    {"nouser", KIND_IGNORED, 0},
    {"nousers", KIND_IGNORED, 0},
    {"owner", KIND_IGNORED, 0},
    {"relatime", KIND_IGNORED, 0},
    {"silent", KIND_IGNORED, 0},
    {"sloppy", KIND_IGNORED, 0},
    {"strictatime", KIND_IGNORED, 0},
    {"subtype", KIND_IGNORED, 0},
    {"suid", KIND_IGNORED, 0},
    {"uhelper", KIND_IGNORED, 0},
    {"user", KIND_IGNORED, 0},
    {"users", KIND_IGNORED, 0},
};

#define MIB ((uint64_t)1 << 20)

static int
bad_value(
    struct parse *p, const char *name, const char *value, const char *wanted)
{
	return options_wrong(p, "-o %s=%s: %s", name, value, wanted);
}

/* Set an option that is more than one member.  value: NULL if there is none. */
static int
set_special(struct parse *p, const char *name, const char *value)
{
	struct options *o = p->options;
	uint64_t number = 0;
	unsigned mask;

	if (strcmp(name, "no_control") == 0) {
		if (value != NULL)
			return options_wrong(p, "-o %s takes no value", name);
		free(o->control);
		o->control = NULL;
		return 0;
	}
	if (strcmp(name, "list_control") == 0 ||
	    strcmp(name, "no_list_control") == 0) {
		if (value != NULL)
			return options_wrong(p, "-o %s takes no value", name);
		o->list_control =
		    name[0] == 'l' ? LIST_CONTROL_ALL : LIST_CONTROL_NONE;
		return 0;
	}
	if (strcmp(name, "remount") == 0)
		return options_wrong(p,
		    "-o remount is not supported: unmount, then "
		    "mount with the new options");

	if (value == NULL || value[0] == '\0')
		return options_wrong(p, "-o %s needs a value", name);
	if (strcmp(name, "uid") == 0 || strcmp(name, "gid") == 0) {
		/* The largest number means "unchanged" to chown(2). */
		if (!option_number(value, 0, UINT32_MAX - 1, &number))
			return bad_value(p, name, value, "not a number");
		if (name[0] == 'u') {
			o->set_uid = true;
			o->uid = number;
		} else {
			o->set_gid = true;
			o->gid = number;
		}
	} else if (strcmp(name, "umask") == 0) {
		if (!option_octal(value, 0777, &mask))
			return bad_value(p, name, value,
			    "not an octal number from 0 to 777");
		o->set_umask = true;
		o->umask = mask;
	} else if (strcmp(name, "idmap") == 0) {
		if (strcmp(value, "none") != 0 && strcmp(value, "user") != 0)
			return bad_value(
			    p, name, value, "it must be \"user\" or \"none\"");
		o->idmap = value[0] == 'u';
	} else if (strcmp(name, "cache_timeout") == 0) {
		if (!option_seconds(value, 86400, &o->cache_timeout_ms))
			return bad_value(p, name, value,
			    "not a number of seconds from 0 to 86400");
	} else if (strcmp(name, "timeout") == 0) {
		if (!option_number(value, 1, 3600, &number))
			return bad_value(p, name, value,
			    "not a whole number of seconds from 1 to 3600");
		o->timeout_s = number;
	} else if (strcmp(name, "cache_size") == 0) {
		if (!option_size(value, MIB, MIB << 30, &o->cache_size))
			return bad_value(p, name, value,
			    "not a size of 1M or more, such as 500M or 2G");
	} else if (strcmp(name, "cache_entries") == 0) {
		if (!option_number(value, 1000, 1000000000, &number))
			return bad_value(p, name, value,
			    "not a number from 1000 to 1000000000");
		o->cache_entries = number;
	} else if (strcmp(name, "max_connections") == 0) {
		if (!option_number(value, 1, 64, &number))
			return bad_value(
			    p, name, value, "not a number from 1 to 64");
		o->max_connections = number;
	} else if (strcmp(name, "control") == 0) {
		/* NAME.json must be a file name, too. */
		if (strchr(value, '/') != NULL || strcmp(value, ".") == 0 ||
		    strcmp(value, "..") == 0 ||
		    strlen(value) > NAME_MAX - strlen(JSON_SUFFIX))
			return bad_value(p, name, value, "not a file name");
		options_set_string(&o->control, strdup(value));
	} else if (strcmp(name, "fsname") == 0)
		options_set_string(&p->fsname, strdup(value));
	return 0;
}

static int
unknown_option(struct parse *p, const char *name)
{
	const char *names[sizeof option_names / sizeof *option_names + 1];
	const char *similar;
	size_t i, count = 0;

	/* The mistake that would show the key to everybody. */
	if (strcmp(name, "key") == 0 || strcmp(name, "api_key") == 0)
		return options_wrong(p,
		    "-o %s: a key on the command line can be seen by others; "
		    "put it into a file (-o key_file=FILE)",
		    name);
	for (i = 0; i < sizeof option_names / sizeof *option_names; i++)
		if (option_names[i].kind != KIND_IGNORED)
			names[count++] = option_names[i].name;
	names[count] = NULL;
	if ((similar = option_similar(name, names)) != NULL)
		return options_wrong(p,
		    "unknown option: -o %s (did you mean %s?)", name, similar);
	return options_wrong(
	    p, "unknown option: -o %s (see gentilityfs -h)", name);
}

static int
set_option(struct parse *p, const char *name, const char *value)
{
	const struct option_name *found = NULL;
	char **string;
	size_t i;

	/* x-systemd.automount and the like; X-mount.mkdir */
	if (strncasecmp(name, "x-", 2) == 0)
		return 0;
	for (i = 0; i < sizeof option_names / sizeof *option_names; i++)
		if (strcmp(option_names[i].name, name) == 0)
			found = &option_names[i];
	if (found == NULL)
		return p->sloppy ? 0 : unknown_option(p, name);
	switch (found->kind) {
	case KIND_IGNORED:
		return 0;
	case KIND_SPECIAL:
		return set_special(p, name, value);
	case KIND_STRING:
	case KIND_PATH:
		if (value == NULL || value[0] == '\0')
			return options_wrong(p, "-o %s needs a value", name);
		string = (char **)((char *)p->options + found->field);
		options_set_string(string,
		    found->kind == KIND_PATH ? options_home(value)
					     : strdup(value));
		return 0;
	case KIND_ON:
	case KIND_OFF:
	case KIND_KERNEL:
		break;
	}
	if (value != NULL)
		return options_wrong(p, "-o %s takes no value", name);
	if (found->kind == KIND_KERNEL)
		*(bool *)((char *)p + found->field) = true;
	else
		*(bool *)((char *)p->options + found->field) =
		    found->kind == KIND_ON;
	return 0;
}

/* Options between commas; a backslash takes the next byte as it is. */
int
options_set(struct parse *p, const char *list)
{
	char *item = options_need(malloc(strlen(list) + 1)), *value;
	size_t len = 0;
	int status = 0;

	for (;; list++) {
		if (*list == '\\' && list[1] != '\0') {
			item[len++] = *++list;
			continue;
		}
		if (*list != ',' && *list != '\0') {
			item[len++] = *list;
			continue;
		}
		item[len] = '\0';
		if ((value = strchr(item, '=')) != NULL)
			*value++ = '\0';
		if (len > 0 && (status = set_option(p, item, value)) != 0)
			break;
		if (*list == '\0')
			break;
		len = 0;
	}
	free(item);
	return status;
}
