/* The command line: what is accepted, what is refused and how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli/key.h"
#include "cli/option_value.h"
#include "cli/options.h"
#include "cli/source.h"

#define PROFILE	  "550e8400-e29b-41d4-a716-446655440000"
#define ROOM	  PROFILE "/r"
#define MAX_WORDS 12

static struct options o;
static char detail[OPTIONS_DETAIL];

/* Parse words up to NULL, behind the program's name. */
static int
parse_as(const char *program, const char *const *words)
{
	char *argv[MAX_WORDS + 2] = {(char *)program};
	int argc = 1;

	options_free(&o);
	for (; *words != NULL; words++) {
		assert_true(argc <= MAX_WORDS);
		argv[argc++] = (char *)*words;
	}
	return options_parse(&o, argc, argv, detail);
}

#define parse(...) \
	parse_as("gentilityfs", (const char *const[]){__VA_ARGS__, NULL})
#define helper(...)                              \
	parse_as("/sbin/mount.fuse.gentilityfs", \
	    (const char *const[]){__VA_ARGS__, NULL})

#define assert_says(part)                                                     \
	do {                                                                  \
		if (strstr(detail, part) == NULL)                             \
			fail_msg("\"%s\" does not say \"%s\"", detail, part); \
	} while (0)

#define assert_refused(part, ...)                        \
	do {                                             \
		assert_int_equal(parse(__VA_ARGS__), 2); \
		assert_says(part);                       \
		assert_null(strchr(detail, '\n'));       \
	} while (0)

static int
clean(void **state)
{
	unsetenv("GENTILITY_API_KEY");
	unsetenv("GENTILITY_API_URL");
	unsetenv("XDG_CACHE_HOME");
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", "/home/somebody", 1);
	return 0;
}

static int
release(void **state)
{
	options_free(&o);
	return 0;
}

static void
defaults_are_those_of_the_manual(void **state)
{
	assert_int_equal(parse(ROOM, "/mnt"), 0);
	assert_string_equal(o.source, ROOM);
	assert_string_equal(o.profile, PROFILE);
	assert_string_equal(o.room, "r");
	assert_null(o.path);
	assert_string_equal(o.mountpoint, "/mnt");
	assert_string_equal(o.url, "https://api.gentility.ai");
	assert_int_equal(o.cache_timeout_ms, 5000);
	assert_int_equal(o.timeout_s, 30);
	assert_int_equal(o.max_connections, 8);
	assert_true(o.cache_size == 1UL << 30);
	assert_int_equal(o.cache_entries, 2000000);
	assert_string_equal(o.cache_dir, "/home/somebody/.cache/gentilityfs");
	assert_string_equal(o.control, ".exec");
	assert_int_equal(o.list_control, LIST_CONTROL_ROOT);
	assert_true(o.transform_symlinks && o.idmap);
	assert_false(o.foreground || o.debug || o.single || o.read_only ||
	    o.allow_other || o.create || o.insecure_http || o.nonempty ||
	    o.set_uid || o.set_gid || o.set_umask || o.fake);
	assert_string_equal(
	    o.fuse_options, "fsname=" ROOM ",subtype=gentilityfs,nosuid,nodev");
}

static void
options_may_stand_anywhere(void **state)
{
	assert_int_equal(parse(ROOM, "-f", "/mnt", "-o", "ro", "-ocreate"), 0);
	assert_true(o.foreground && o.read_only && o.create);
	assert_int_equal(parse("-sd", "--", ROOM, "/mnt"), 0);
	assert_true(o.single && o.debug && o.foreground);
	setenv("POSIXLY_CORRECT", "1", 1);
	assert_int_equal(parse(ROOM, "/mnt", "-o", "ro"), 0);
	unsetenv("POSIXLY_CORRECT");
	assert_true(o.read_only);
}

static void
help_and_version_need_nothing_else(void **state)
{
	assert_int_equal(parse("-h"), 0);
	assert_true(o.show_help);
	assert_int_equal(parse("--version"), 0);
	assert_true(o.show_version);
}

static void
a_check_takes_a_source_alone(void **state)
{
	assert_int_equal(parse("--check", ROOM, "-o", "timeout=3"), 0);
	assert_int_equal(o.task, OPTIONS_CHECK);
	assert_string_equal(o.room, "r");
	assert_int_equal(o.timeout_s, 3);
	assert_null(o.mountpoint);
	assert_false(o.json);
	assert_int_equal(parse(ROOM, "--json", "--check"), 0);
	assert_true(o.json);
	assert_refused("SOURCE is missing", "--check");
	assert_refused("malformed SOURCE", "--check", "x");
	assert_refused("/mnt", "--check", ROOM, "/mnt");
	assert_refused("--prometheus", "--check", ROOM, "--prometheus");
	assert_refused("--watch", "--check", ROOM, "--watch");
}

static void
stats_take_a_mount_point_alone(void **state)
{
	assert_int_equal(parse("--stats", "/mnt"), 0);
	assert_int_equal(o.task, OPTIONS_STATS);
	assert_string_equal(o.mountpoint, "/mnt");
	assert_int_equal(o.watch_ms, 0);
	assert_int_equal(parse("--stats", "--watch", "--json", "/mnt"), 0);
	assert_int_equal(o.watch_ms, 2000);
	assert_true(o.json);
	assert_int_equal(parse("--watch=0.5", "/mnt", "--stats"), 0);
	assert_int_equal(o.watch_ms, 500);
	assert_int_equal(parse("--stats", "--prometheus", "/mnt"), 0);
	assert_true(o.prometheus);
	assert_refused("MOUNTPOINT is missing", "--stats");
	assert_refused("/b", "--stats", "/a", "/b");
	assert_refused("--watch=0", "--stats", "/a", "--watch=0");
	assert_refused("--watch=x", "--stats", "/a", "--watch=x");
	assert_refused(
	    "--prometheus", "--stats", "/a", "--prometheus", "--json");
	assert_refused("exclude", "--stats", "--check", "/a");
	assert_refused("--json", "--json", ROOM, "/mnt");
	assert_refused("--watch", "--watch", ROOM, "/mnt");
}

static void
every_option_is_understood(void **state)
{
	assert_int_equal(
	    parse(ROOM, "/mnt", "-o",
		"url=https://h.example/api//,key_file=/k,cacert=/dev/"
		"null,allow_other,"
		"default_permissions,nonempty,uid=7,gid=8,umask=027,idmap=none,"
		"cache_timeout=0.25,cache_dir=/d,cache_size=3M,timeout=9,"
		"max_connections=2,control=.run,list_control,"
		"no_transform_symlinks,create,insecure_http"),
	    0);
	assert_string_equal(o.url, "https://h.example/api");
	assert_string_equal(o.key_file, "/k");
	assert_string_equal(o.cacert, "/dev/null");
	assert_true(o.allow_other && o.default_permissions && o.nonempty);
	assert_true(o.set_uid && o.uid == 7 && o.set_gid && o.gid == 8);
	assert_true(o.set_umask && o.umask == 027);
	assert_false(o.idmap || o.transform_symlinks);
	assert_int_equal(o.cache_timeout_ms, 250);
	assert_string_equal(o.cache_dir, "/d");
	assert_true(o.cache_size == 3 << 20);
	assert_int_equal(o.timeout_s, 9);
	assert_int_equal(o.max_connections, 2);
	assert_string_equal(o.control, ".run");
	assert_int_equal(o.list_control, LIST_CONTROL_ALL);
	assert_string_equal(o.fuse_options,
	    "fsname=" ROOM ",subtype=gentilityfs,nosuid,nodev,allow_other,"
	    "default_permissions");
	assert_int_equal(
	    parse(ROOM, "/mnt", "-o", "no_control,no_list_control"), 0);
	assert_null(o.control);
	assert_int_equal(o.list_control, LIST_CONTROL_NONE);
}

static void
the_last_of_two_holds(void **state)
{
	assert_int_equal(
	    parse(ROOM, "/mnt", "-o", "ro,timeout=3,rw", "-o", "timeout=4,,"),
	    0);
	assert_false(o.read_only);
	assert_int_equal(o.timeout_s, 4);
}

static void
unknown_options_are_named(void **state)
{
	assert_refused("-o bogus", "-o", "ro,bogus,rw", ROOM, "/mnt");
	assert_refused("-o bogus", "-o", "bogus=1", ROOM, "/mnt");
	assert_refused("-x", "-x", ROOM, "/mnt");
	assert_refused("-z", "-fz", ROOM, "/mnt");
	assert_refused("--checks", "--checks", ROOM);
	assert_refused("--long", "--long=1", ROOM, "/mnt");
	assert_refused("-o needs", ROOM, "/mnt", "-o");
	assert_refused("extra", ROOM, "/mnt", "extra");
	assert_refused("remount", ROOM, "/mnt", "-o", "remount");
}

static void
a_key_is_never_an_option(void **state)
{
	assert_refused("key_file", "-o", "key=rk_live_1", ROOM, "/mnt");
	assert_null(strstr(detail, "rk_live_1"));
	assert_refused(
	    "key_file", "-o", "url=https://rk_live_1@h", ROOM, "/mnt");
	assert_null(strstr(detail, "rk_live_1"));
}

static void
values_out_of_bounds_are_refused(void **state)
{
	static const char *const bad[] = {"timeout=0", "timeout=-1",
	    "timeout=1x", "timeout= 1", "timeout=+1", "timeout=3601",
	    "timeout=99999999999999999999", "timeout=1.5",
	    "timeout=", "timeout", "cache_timeout=-1", "cache_timeout=-0",
	    "cache_timeout=x", "cache_timeout=1.", "cache_timeout=.5",
	    "cache_timeout=nan", "cache_timeout=1e3", "cache_timeout=86401",
	    "cache_entries=999", "cache_entries=x", "cache_size=0",
	    "cache_size=1", "cache_size=-1M", "cache_size=1X", "cache_size=1MB",
	    "cache_size=99999999T", "max_connections=0", "max_connections=65",
	    "uid=x", "uid=-1", "uid=4294967295", "gid=", "umask=9",
	    "umask=1000", "umask=-1", "idmap=all", "control=", "control=.",
	    "control=..", "control=a/b", "ro=1", "create=yes", "no_control=1",
	    "list_control=1", "cache_dir=relative", "key_file=", "url="};
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (parse(ROOM, "/mnt", "-o", bad[i]) != 2)
			fail_msg("accepted: %s", bad[i]);
		assert_memory_equal(detail, "-o ", 3);
		assert_memory_equal(detail + 3, bad[i], strcspn(bad[i], "="));
	}
}

static void
a_control_name_leaves_room_for_its_json_form(void **state)
{
	char option[8 + 252] = "control=";

	memset(option + 8, 'x', 250);
	assert_int_equal(parse(ROOM, "/mnt", "-o", option), 0);
	option[8 + 250] = 'x';
	assert_refused("control", ROOM, "/mnt", "-o", option);
}

static void
what_mount_and_fstab_pass_along_is_no_error(void **state)
{
	assert_int_equal(
	    parse(ROOM, "/mnt", "-o",
		"rw,user,users,nouser,owner,group,_netdev,nofail,auto,noauto,"
		"defaults,comment=a b,x-systemd.automount,X-mount.mkdir=0700,"
		"dev,suid,exec,nodev,nosuid,async,atime,relatime,strictatime,"
		"user=alice,sloppy,subtype=x,lazytime"),
	    0);
	/* fusermount3 is told what it knows, and nodev and nosuid hold. */
	assert_string_equal(
	    o.fuse_options, "fsname=" ROOM ",subtype=gentilityfs,nosuid,nodev");
	assert_int_equal(
	    parse(ROOM, "/mnt", "-o", "ro,noexec,noatime,sync"), 0);
	assert_string_equal(o.fuse_options,
	    "fsname=" ROOM
	    ",subtype=gentilityfs,nosuid,nodev,ro,noexec,noatime,sync");
}

static void
called_by_mount_its_flags_hold(void **state)
{
	assert_int_equal(helper("gentilityfs#" ROOM, "/mnt", "-n", "-v", "-o",
			     "rw,create", "-t", "fuse.gentilityfs"),
	    0);
	assert_string_equal(o.source, ROOM);
	assert_true(o.create);
	assert_false(o.foreground || o.single);
	assert_int_equal(helper(ROOM, "/mnt", "-f"), 0);
	assert_true(o.fake);
	assert_false(o.foreground);
	assert_int_equal(helper(ROOM, "/mnt", "-o", "bogus"), 2);
	assert_int_equal(helper(ROOM, "/mnt", "-s", "-o", "bogus,ro"), 0);
	assert_true(o.read_only);
}

static void
source_has_a_profile_a_room_and_a_path(void **state)
{
	assert_int_equal(
	    parse("gentilityfs#550E8400-E29B-41D4-A716-446655440000/my room",
		"/mnt"),
	    0);
	assert_string_equal(o.profile, PROFILE);
	assert_string_equal(o.room, "my room");
	assert_int_equal(parse(PROFILE "/r:/srv/a:b", "/mnt"), 0);
	assert_string_equal(o.room, "r");
	assert_string_equal(o.path, "/srv/a:b");
	assert_int_equal(parse(PROFILE "/r:~/x", "/mnt"), 0);
	assert_string_equal(o.path, "~/x");
	assert_int_equal(parse(PROFILE "/r:a%20b", "/mnt"), 0);
	assert_string_equal(o.path, "a%20b");
	assert_int_equal(parse(PROFILE "/r:", "/mnt"), 0);
	assert_string_equal(o.path, "~");
	assert_int_equal(parse(PROFILE "/a%3Ab%25", "/mnt"), 0);
	assert_string_equal(o.room, "a:b%");
	/* Commas and backslashes in it are the kernel's business, too. */
	assert_int_equal(parse(PROFILE "/a,b\\c", "/mnt"), 0);
	assert_string_equal(o.fuse_options,
	    "fsname=" PROFILE "/a\\,b\\\\c,subtype=gentilityfs,nosuid,nodev");
}

static void
malformed_sources_are_refused(void **state)
{
	assert_refused("SOURCE is missing", "-f");
	assert_refused("MOUNTPOINT is missing", ROOM);
	assert_refused("MOUNTPOINT is missing", ROOM, "");
	assert_refused("malformed SOURCE \"\"", "", "/mnt");
	assert_refused("malformed SOURCE", "r", "/mnt");
	assert_refused("malformed SOURCE", PROFILE, "/mnt");
	assert_refused("not a UUID", "550e8400/r", "/mnt");
	assert_refused("not a UUID", "/r", "/mnt");
	assert_refused(
	    "not a UUID", "550e8400-e29b-41d4-a716-44665544000g/r", "/mnt");
	assert_refused(
	    "not a UUID", "550e8400ae29b-41d4-a716-446655440000/r", "/mnt");
	assert_refused("name is missing", PROFILE "/", "/mnt");
	assert_refused("name is missing", PROFILE "/:/x", "/mnt");
	assert_refused("behind a colon", PROFILE "/r/x", "/mnt");
	assert_refused("behind a colon", PROFILE "/%2e%2E", "/mnt");
	assert_refused("behind a colon", PROFILE "/a%2fb", "/mnt");
	assert_refused("%25", PROFILE "/50%", "/mnt");
	assert_refused("%25", PROFILE "/a%zz", "/mnt");
	assert_refused("%25", PROFILE "/a%00", "/mnt");
}

static int
check_url(const char *text, bool insecure)
{
	char url[256];

	snprintf(url, sizeof url, "%s", text);
	return source_check_url(url, insecure, "url", detail, sizeof detail);
}

static void
http_is_for_loopback_only(void **state)
{
	static const char *const loopback[] = {"http://localhost",
	    "http://LocalHost:8080/", "http://127.0.0.1:1", "http://[::1]",
	    "HTTP://127.9.8.7:65535/api", "http://[::1]:80/x"};
	static const char *const elsewhere[] = {"http://example.com",
	    "http://127.0.0.1.example.com", "http://localhost.example.com",
	    "http://128.0.0.1", "http://[::2]", "http://10.0.0.1:8080",
	    "http://[::ffff:127.0.0.1]", "http://2130706433",
	    "http://0177.0.0.1", "http://0.0.0.0"};
	size_t i;

	for (i = 0; i < sizeof loopback / sizeof *loopback; i++)
		assert_int_equal(check_url(loopback[i], false), 0);
	for (i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
		if (check_url(elsewhere[i], false) == 0)
			fail_msg("accepted: %s", elsewhere[i]);
		assert_says("insecure_http");
		assert_int_equal(check_url(elsewhere[i], true), 0);
	}
	assert_int_equal(check_url("https://example.com:444/a", false), 0);
}

static void
malformed_urls_are_refused(void **state)
{
	static const char *const bad[] = {"", "/", "example.com", "ftp://h",
	    "file:///etc/passwd", "https://", "https:///x", "https://:1",
	    "https://h:", "https://h:0", "https://h:65536", "https://h:1x",
	    "https://h:-1", "https://h?q", "https://h/#f", "https://h/a b",
	    "https://u:p@h", "https://[::1", "https://[zz]", "https://[]",
	    "https://[::1]x", "https://h\\@i", "https://h\nx",
	    "https://h/\r\nX: y", "https://h%00i"};
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++)
		if (check_url(bad[i], true) == 0)
			fail_msg("accepted: %s", bad[i]);
}

static void
the_environment_names_the_service(void **state)
{
	setenv("GENTILITY_API_URL", "http://localhost:99/", 1);
	assert_int_equal(parse(ROOM, "/mnt"), 0);
	assert_string_equal(o.url, "http://localhost:99");
	assert_int_equal(parse(ROOM, "/mnt", "-o", "url=https://h"), 0);
	assert_string_equal(o.url, "https://h");
	setenv("GENTILITY_API_URL", "http://example.com", 1);
	assert_refused("GENTILITY_API_URL=http://example.com", ROOM, "/mnt");
}

static void
the_cache_is_where_xdg_says(void **state)
{
	setenv("XDG_CACHE_HOME", "/xdg", 1);
	assert_int_equal(parse(ROOM, "/mnt"), 0);
	assert_string_equal(o.cache_dir, "/xdg/gentilityfs");
	setenv("XDG_CACHE_HOME", "relative", 1);
	assert_int_equal(parse(ROOM, "/mnt"), 0);
	assert_string_equal(o.cache_dir, "/home/somebody/.cache/gentilityfs");
	if (getuid() == 0) {
		unsetenv("HOME");
		assert_int_equal(parse(ROOM, "/mnt"), 0);
		assert_string_equal(o.cache_dir, "/var/cache/gentilityfs");
	}
	setenv("HOME", "/home/somebody", 1);
	assert_int_equal(
	    parse(ROOM, "/mnt", "-o", "cache_dir=~/c,key_file=~/k"), 0);
	assert_string_equal(o.cache_dir, "/home/somebody/c");
	assert_string_equal(o.key_file, "/home/somebody/k");
}

/* --- keys ---------------------------------------------------------------- */

static char key_path[] = "/tmp/test_options.XXXXXX";
static char *key, *from;

static int
make_key_file(void **state)
{
	int fd;

	clean(state);
	strcpy(key_path + strlen(key_path) - 6, "XXXXXX");
	if ((fd = mkstemp(key_path)) == -1)
		return -1;
	close(fd);
	return 0;
}

static int
remove_key_file(void **state)
{
	key_free(key);
	free(from);
	key = from = NULL;
	return unlink(key_path);
}

static int
load(const char *file)
{
	key_free(key);
	free(from);
	return key_load(file, &key, &from, detail, sizeof detail);
}

static void
put(const char *text, mode_t mode)
{
	FILE *f = fopen(key_path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(key_path, mode), 0);
}

static void
a_key_file_holds_one_word(void **state)
{
	char big[600];

	put(" \t rk_test_0123 \r\n\n", 0600);
	assert_int_equal(load(key_path), 0);
	assert_string_equal(key, "rk_test_0123");
	assert_string_equal(from, key_path);
	put("", 0600);
	assert_true(load(key_path) < 0);
	assert_says("is empty");
	assert_says(key_path);
	put(" \n", 0600);
	assert_true(load(key_path) < 0);
	assert_says("is empty");
	put("two words", 0600);
	assert_true(load(key_path) < 0);
	put("r\xc3\xa9", 0600);
	assert_true(load(key_path) < 0);
	memset(big, 'x', sizeof big);
	big[513] = '\0';
	put(big, 0600);
	assert_true(load(key_path) < 0);
	big[512] = '\0';
	put(big, 0600);
	assert_int_equal(load(key_path), 0);
	assert_int_equal(strlen(key), 512);
}

static void
a_key_file_is_its_owners_alone(void **state)
{
	put("rk_test_0123", 0640);
	assert_true(load(key_path) < 0);
	assert_says("chmod 600");
	put("rk_test_0123", 0604);
	assert_true(load(key_path) < 0);
	put("rk_test_0123", 0400);
	assert_int_equal(load(key_path), 0);
	if (getuid() == 0) {
		assert_int_equal(chown(key_path, 65534, 65534), 0);
		assert_true(load(key_path) < 0);
		assert_says("somebody else");
	}
	assert_true(load("/tmp") < 0);
	assert_says("regular file");
	assert_true(load("/nonexistent/key") < 0);
	assert_says("/nonexistent/key");
}

static void
the_variable_comes_second_and_is_wiped(void **state)
{
	char variable[] = "GENTILITY_API_KEY=rk_test_variable";

	putenv(variable);
	assert_int_equal(load(NULL), 0);
	assert_string_equal(key, "rk_test_variable");
	assert_string_equal(from, "$GENTILITY_API_KEY");
	assert_null(getenv("GENTILITY_API_KEY"));
	assert_string_equal(variable, "GENTILITY_API_KEY=");

	put("rk_test_file", 0600);
	setenv("GENTILITY_API_KEY", "rk_test_variable", 1);
	assert_int_equal(load(key_path), 0);
	assert_string_equal(key, "rk_test_file");
	assert_null(getenv("GENTILITY_API_KEY"));
}

static void
without_a_key_all_places_are_named(void **state)
{
	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
	if (access("/etc/gentilityfs/key", F_OK) == 0)
		skip();
	assert_true(load(NULL) < 0);
	assert_says("/nonexistent/gentilityfs/key");
	assert_says("/etc/gentilityfs/key");
	assert_says("-o key_file=");
	assert_says("$GENTILITY_API_KEY");
	unsetenv("XDG_CONFIG_HOME");
	assert_true(load(NULL) < 0);
	assert_says("/home/somebody/.config/gentilityfs/key");
}

#define option_test(f) cmocka_unit_test_setup_teardown(f, clean, release)
#define key_test(f) \
	cmocka_unit_test_setup_teardown(f, make_key_file, remove_key_file)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    option_test(defaults_are_those_of_the_manual),
	    option_test(options_may_stand_anywhere),
	    option_test(help_and_version_need_nothing_else),
	    option_test(a_check_takes_a_source_alone),
	    option_test(stats_take_a_mount_point_alone),
	    option_test(every_option_is_understood),
	    option_test(the_last_of_two_holds),
	    option_test(unknown_options_are_named),
	    option_test(a_key_is_never_an_option),
	    option_test(values_out_of_bounds_are_refused),
	    option_test(a_control_name_leaves_room_for_its_json_form),
	    option_test(what_mount_and_fstab_pass_along_is_no_error),
	    option_test(called_by_mount_its_flags_hold),
	    option_test(source_has_a_profile_a_room_and_a_path),
	    option_test(malformed_sources_are_refused),
	    option_test(http_is_for_loopback_only),
	    option_test(malformed_urls_are_refused),
	    option_test(the_environment_names_the_service),
	    option_test(the_cache_is_where_xdg_says),
	    key_test(a_key_file_holds_one_word),
	    key_test(a_key_file_is_its_owners_alone),
	    key_test(the_variable_comes_second_and_is_wiped),
	    key_test(without_a_key_all_places_are_named),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
