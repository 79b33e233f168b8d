#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/*
 * The command line, in all the forms that mount(8) and fstab have, and the
 * SOURCE.  Every string is owned by the struct.
 */
struct options {
	/* SOURCE: PROFILE/ROOM[:PATH], without "gentilityfs#" */
	char *source;
	char *profile; /* UUID, lower case */
	char *room; /* with %XX decoded */
	char *path; /* as given: absolute, "~...", relative to home; or NULL */
	/* as given; absolute and resolved after mountpoint_check() */
	char *mountpoint;

	char *url; /* scheme://host[:port][/prefix], no trailing slash */
	char *cacert; /* absolute; NULL: the system's */
	char *key_file; /* -o key_file=, or NULL */
	char *log_file; /* absolute; NULL: none */
	char *key; /* filled in by key_load(); wiped by options_free() */
	char *key_from; /* where it was found, for messages */

	enum options_task {
		OPTIONS_MOUNT,
		OPTIONS_CHECK, /* mountpoint is NULL */
		OPTIONS_STATS, /* nothing but mountpoint is set */
		OPTIONS_LIST, /* nothing is set */
		OPTIONS_UNMOUNT, /* mountpoint, or all */
		OPTIONS_RECOVERED /* cache_dir */
	} task;
	bool all, forget; /* --unmount --all, --recovered --forget */
	bool by_name; /* from the configuration: make the mount point */
	bool json, prometheus; /* how the result is shown */
	unsigned watch_ms; /* show it again and again; 0: once */

	bool foreground, debug, single; /* -f -d -s; -d implies -f */
	bool show_help, show_version;
	bool fake; /* mount(8)'s -f: all but the mount itself */
	bool read_only, allow_other, default_permissions, nonempty;
	bool create, insecure_http, transform_symlinks;
	bool idmap; /* the VM's user is shown as the mounting user */
	bool set_uid, set_gid, set_umask;
	uid_t uid;
	gid_t gid;
	mode_t umask;

	unsigned cache_timeout_ms;
	char *cache_dir; /* absolute */
	uint64_t cache_size;
	size_t cache_entries;
	unsigned timeout_s;
	unsigned max_connections;

	char *control; /* name of the magic file; NULL with no_control */
	enum {
		LIST_CONTROL_ROOT,
		LIST_CONTROL_ALL,
		LIST_CONTROL_NONE
	} list_control;

	char *fuse_options; /* "-o" text for the kernel's mount */
};

/* Room for one line of explanation for the user. */
#define OPTIONS_DETAIL 1024

/*
 * 0, or the exit status (2 wrong usage, 1 else) with a line in detail that
 * names the thing and the way out.  With show_help or show_version nothing
 * else is looked at.  options_free() is due in any case.
 */
int options_parse(
    struct options *, int argc, char **argv, char detail[OPTIONS_DETAIL]);
void options_free(struct options *);
void options_usage(FILE *); /* fits a screen */

/* "~/x" -> $HOME/x, for values that no shell expands.  The caller frees. */
char *options_home(const char *path);

#endif
