/* The answers of the programs in vm/, honest and hostile. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "script/listing.h"
#include "script/script.h"

#define TIMES " 1.5000000000 2.0000000000 -1.5000000000"
#define DIR   "d 755 2 0 0 4096 8 7 1" TIMES "\0"
#define OTHER "d 755 2 0 0 4096 8 9 1" TIMES "\0"
#define SHUT  "ud 700 2 0 0 4096 8 7 1" TIMES "\0"
#define FILE_ "f 644 1 1000 1001 5 8 7 2" TIMES "\0"
#define LINK_ "l 777 1 0 0 3 0 7 3" TIMES "\0"
#define BTIMES                                 \
	" 1970-01-01 00:00:01.500000000 +0000" \
	" 1970-01-01 00:00:02 +0000"           \
	" 1969-12-31 23:59:59.500000000 +0000 "
#define BDIR  "//41ed 2 0 0 4096 8 7 1" BTIMES
#define BFILE "//81a4 1 1000 1001 5 8 7 2" BTIMES
#define BLINK "//a1ff 1 0 0 3 0 7 3" BTIMES

static const struct script_item list = {SCRIPT_LIST, "/x", 9};
static struct reply *replies;

/* Of a literal with NULs inside. */
#define PARSE(text, items, n) parse(text, sizeof(text) - 1, items, n)

static int
parse(const char *text, size_t len, const struct script_item *items, size_t n)
{
	/* A copy of its exact length, so that asan sees reads past it. */
	char *copy = malloc(len + 1);
	int error;

	assert_non_null(copy);
	memcpy(copy, text, len);
	copy[len] = '\0';
	error = listing_parse(copy, len, items, n, &replies);
	free(copy);
	if (error != 0)
		assert_null(replies);
	return error;
}

static void
done(size_t n)
{
	reply_free_all(replies, n);
	replies = NULL;
}

static const struct listing *
only_listing(void)
{
	assert_int_equal(replies[0].error, 0);
	assert_int_equal(replies[0].nlistings, 1);
	return &replies[0].listings[0];
}

static void
gnu_records(void **state)
{
	const struct listing *l;

	(void)state;
	assert_int_equal(PARSE("#0 OK G 1\0" DIR "\0\0" LINK_
			       "b\n\0t/\n\0" FILE_ "a\0\0#. 0\0",
			     &list, 1),
	    0);
	l = only_listing();
	assert_string_equal(l->path, "/x");
	assert_true(l->complete);
	assert_int_equal(l->self.mode, S_IFDIR | 0755);
	assert_int_equal(l->count, 2);
	assert_string_equal(l->entries[0].name, "a");
	assert_null(l->entries[0].target);
	assert_int_equal(l->entries[0].attr.uid, 1000);
	assert_int_equal(l->entries[0].attr.gid, 1001);
	assert_int_equal(l->entries[0].attr.size, 5);
	assert_int_equal(l->entries[0].attr.blocks, 8);
	assert_int_equal(l->entries[0].attr.dev, 7);
	assert_int_equal(l->entries[0].attr.ino, 2);
	assert_true(l->entries[0].attr.atime == 1500000000);
	assert_true(l->entries[0].attr.mtime == 2000000000);
	assert_true(l->entries[0].attr.ctime == -500000000);
	assert_string_equal(l->entries[1].name, "b\n");
	assert_string_equal(l->entries[1].target, "t/\n");
	done(1);
}

static void
busybox_records(void **state)
{
	const struct listing *l;

	(void)state;
	assert_int_equal(PARSE("#0 OK B 1\0" BDIR ".\n" BLINK
			       "./b\n//'./b\n' -> 'abc'\n" BFILE "./a\n#. 0\0",
			     &list, 1),
	    0);
	l = only_listing();
	assert_int_equal(l->count, 2);
	assert_string_equal(l->entries[0].name, "a");
	assert_int_equal(l->entries[0].attr.mode, S_IFREG | 0644);
	assert_true(l->entries[0].attr.atime == 1500000000);
	assert_true(l->entries[0].attr.mtime == 2000000000);
	assert_true(l->entries[0].attr.ctime == -500000000);
	assert_string_equal(l->entries[1].name, "b\n");
	assert_string_equal(l->entries[1].target, "abc");
	done(1);
}

/* Quotes of one kind or none, sizes that lie, borders inside. */
static void
busybox_link_targets(void **state)
{
	static const struct {
		const char *record, *target;
	} cases[] = {{BLINK "./l//'./l' -> 'abc'\n", "abc"},
	    {BLINK "./l//`./l' -> `abc'\n", "abc"},
	    {BLINK "./l//./l -> abc\n", "abc"},
	    {BLINK "./l//'./l' -> 'longer'\n", "longer"},
	    {BLINK "./l//'./l' -> 'x'\n'\n", "x'\n"},
	    {BLINK "./l//./l -> longer\n", "longer"}, {BLINK "./l//\n", ""},
	    {"//a1ff 1 0 0 0 0 7 3" BTIMES "./l//'./l' -> 'pipe:[1]'\n",
		"pipe:[1]"},
	    {"//a1ff 1 0 0 2 0 7 3" BTIMES "./l//'./l' -> '\n/'\n", "\n/"},
	    {"//a1ff 1 0 0 9 0 7 3" BTIMES "./l//'./l' -> 'a'\n//81a4'\n",
		"a'\n//81a4"},
	    {"//a1ff 1 0 0 5 0 7 3" BTIMES "./'\n//'./'\n' -> '' -> '\n", NULL},
	    {BLINK "./l//'./m' -> 'abc'\n", NULL},
	    {BLINK "./l//'./l' => 'abc'\n", NULL},
	    {BLINK "./l//'./l' -> 'abc\n", NULL}, {BLINK "./l", NULL},
	    {BLINK "./l\n", NULL}, {BLINK "./l//", NULL}};
	char text[1024];
	size_t i;
	int n, error;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		n = snprintf(text, sizeof(text), "#0 OK B 1%c" BDIR ".\n%s#. 0",
		    0, cases[i].record);
		error = parse(text, n + 1, &list, 1);
		if (cases[i].target == NULL && i != 10) {
			assert_int_equal(error, -EPROTO);
			continue;
		}
		assert_int_equal(error, 0);
		assert_string_equal(only_listing()->entries[0].target,
		    i == 10 ? "' -> " : cases[i].target);
		done(1);
	}
}

static void
hostile_names(void **state)
{
	static const char *const names[] = {
	    ".", "..", "/", "a/", "/a", "a//b", "a/../b", "a/.", "../a"};
	char text[512];
	size_t i;
	int n;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		n = snprintf(text, sizeof(text),
		    "#0 OK G 3%cd 755 2 0 0 1 8 7 1" TIMES "%c%c%c"
		    "f 644 1 0 0 5 8 7 2" TIMES "%c%s%c%c#. 0",
		    0, 0, 0, 0, 0, names[i], 0, 0);
		assert_int_equal(parse(text, n + 1, &list, 1), -EPROTO);
		n = snprintf(text, sizeof(text),
		    "#0 OK B 3%c" BDIR ".\n" BFILE "./%s\n#. 0", 0, names[i]);
		assert_int_equal(parse(text, n + 1, &list, 1), -EPROTO);
	}
	/* Not the directory itself first, twice, or not at all. */
	assert_int_equal(
	    PARSE("#0 OK G 1\0" FILE_ "a\0\0" DIR "\0\0#. 0\0", &list, 1),
	    -EPROTO);
	assert_int_equal(
	    PARSE("#0 OK G 1\0" DIR "\0\0" DIR "\0\0#. 0\0", &list, 1),
	    -EPROTO);
	assert_int_equal(PARSE("#0 OK G 1\0#. 0\0", &list, 1), -EPROTO);
	assert_int_equal(
	    PARSE("#0 OK G 1\0" FILE_ "\0\0#. 0\0", &list, 1), -EPROTO);
	assert_int_equal(
	    PARSE("#0 OK B 1\0" BFILE "a\n#. 0\0", &list, 1), -EPROTO);
}

/* A time whose fraction is lost. */
static void
assert_seconds(int64_t time, int64_t sec)
{
	long ns;

	assert_true(attr_time_split(time, &ns) == sec);
	assert_int_equal(ns, 0);
}

static void
numbers(void **state)
{
	static const struct {
		const char *record;
		bool good;
	} cases[] = {
	    {"f 644 1 0 0 18446744073709551615 8 7 2 1.0 2.0 3.0", true},
	    {"f 644 1 0 0 18446744073709551616 8 7 2 1.0 2.0 3.0", false},
	    {"f 644 1 0 0 -1 8 7 2 1.0 2.0 3.0", false},
	    {"f 644 1 0 0 +1 8 7 2 1.0 2.0 3.0", false},
	    {"f 644 1 0 0  1 8 7 2 1.0 2.0 3.0", false},
	    {"f 644 4294967295 0 0 1 8 7 2 1.0 2.0 3.0", true},
	    {"f 644 4294967296 0 0 1 8 7 2 1.0 2.0 3.0", false},
	    {"f 7777 1 0 0 1 8 7 2 1.0 2.0 3.0", true},
	    {"f 10000 1 0 0 1 8 7 2 1.0 2.0 3.0", false},
	    {"f 648 1 0 0 1 8 7 2 1.0 2.0 3.0", false},
	    {"z 644 1 0 0 1 8 7 2 1.0 2.0 3.0", false},
	    {"f 644 1 0 0 1 8 7 2 1.0 2.0", false},
	    {"f 644 1 0 0 1 8 7 2 1.0 2.0 ", false},
	    {"f 644 1 0 0 1 8 7 2 1.0 2.0 x", false},
	    {"f 644 1 0 0 1 8 7 2 1.0 2.0 3.0 4", false},
	    {"f 644 1 0 0 1 8 7 2 1 2 3", true},
	    {"f 644 1 0 0 1 8 7 2 99999999999999 -99999999999999.5 3.0", true},
	    {"f 644 1 0 0 1 8 7 2 9223372036854775808 2.0 3.0", false},
	    {"f 644 1 0 0 1 8 7 2 - 2.0 3.0", false}, {"", false}, {"f", false},
	    {"f ", false}, {"u", false}};
	char text[512];
	size_t i;
	int n;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		n = snprintf(text, sizeof(text),
		    "#0 OK G 1%cd 755 2 0 0 1 8 7 1" TIMES "%c%c%c"
		    "%s%ca%c%c#. 0",
		    0, 0, 0, 0, cases[i].record, 0, 0, 0);
		assert_int_equal(
		    parse(text, n + 1, &list, 1), cases[i].good ? 0 : -EPROTO);
		if (cases[i].good)
			done(1);
	}
	/* Past 2262, and before 1677: whole seconds. */
	assert_int_equal(PARSE("#0 OK G 1\0d 755 2 0 0 1 8 7 1 99999999999 "
			       "-99999999999 1\0\0\0#. 0\0",
			     &list, 1),
	    0);
	assert_seconds(only_listing()->self.atime, 99999999999);
	assert_seconds(only_listing()->self.mtime, -99999999999);
	done(1);
	assert_int_equal(PARSE("#0 OK B 1\0//41ed 2 0 0 1 8 7 1 "
			       "9999-12-31 23:59:60 +0000 "
			       "1000-01-01 00:00:00 +0000 "
			       "2000-02-29 00:00:00.000000001 +0000 .\n#. 0\0",
			     &list, 1),
	    0);
	assert_seconds(only_listing()->self.atime, 253402300800);
	assert_seconds(only_listing()->self.mtime, -30610224000);
	assert_true(only_listing()->self.ctime == 951782400000000001);
	done(1);
}

/* Every cut and every single changed byte: an error or sane values. */
static void
cut_and_changed(void **state)
{
	static const char text[] = "#0 OK G 2\0" DIR "\0\0" DIR "d\0\0" FILE_
				   "d/f\0\0" LINK_ "l\0t\0#. 0\0";
	static const char busybox[] =
	    "#0 OK B 2\0" BDIR ".\n" BDIR "./d\n" BFILE "./d/f\n" BLINK
	    "./l//'./l' -> 'abc'\n#. 0\0";
	char copy[sizeof(busybox) > sizeof(text) ? sizeof(busybox)
						 : sizeof(text)];
	size_t i, k, len;
	const char *from;

	(void)state;
	for (k = 0; k < 2; k++) {
		from = k == 0 ? text : busybox;
		len = (k == 0 ? sizeof(text) : sizeof(busybox)) - 1;
		for (i = 0; i < len - 1; i++)
			assert_int_equal(parse(from, i, &list, 1), -EPROTO);
		for (i = 0; i < len * 256; i++) {
			memcpy(copy, from, len);
			copy[i / 256] = i % 256;
			if (parse(copy, len, &list, 1) == 0)
				done(1);
		}
	}
}

static void
subtrees(void **state)
{
	const struct reply *r;

	(void)state;
	/* Order is no matter; orphans are dropped; the last of twins stays. */
	assert_int_equal(
	    PARSE("#0 OK G 3\0" DIR "\0\0" FILE_ "d/e/deep\0\0" FILE_
		  "gone/x\0\0" FILE_ "d/f\0\0" DIR "d\0\0" DIR "d/e\0\0" SHUT
		  "shut\0\0" FILE_ "shut/x\0\0" OTHER "mnt\0\0" DIR
		  "empty\0\0" FILE_ "file\0\0" FILE_ "file/x\0\0" DIR
		  "d/e/last\0\0" FILE_ "twin\0\0" LINK_ "twin\0t\0#. 0\0",
		&list, 1),
	    0);
	r = &replies[0];
	assert_int_equal(r->nlistings, 4);
	assert_string_equal(r->listings[0].path, "/x");
	assert_int_equal(r->listings[0].count, 6);
	assert_string_equal(r->listings[0].entries[4].name, "shut");
	assert_string_equal(r->listings[0].entries[5].target, "t");
	assert_string_equal(r->listings[1].path, "/x/d");
	assert_int_equal(r->listings[1].count, 2);
	assert_string_equal(r->listings[2].path, "/x/empty");
	assert_int_equal(r->listings[2].count, 0);
	assert_string_equal(r->listings[3].path, "/x/d/e");
	assert_int_equal(r->listings[3].count, 2);
	done(1);
	/* Something went wrong below. */
	assert_int_equal(
	    PARSE("#0 OK G 3\0" DIR "\0\0" DIR "d\0\0" FILE_ "d/x\0\0#. 1\0",
		&list, 1),
	    0);
	assert_int_equal(only_listing()->count, 1);
	done(1);
	/* The directory could not be read to its end. */
	assert_int_equal(
	    PARSE("#0 OK G 3\0" DIR "\0\0" FILE_ "f\0\0#. EIO\0", &list, 1), 0);
	assert_int_equal(replies[0].error, -EIO);
	assert_int_equal(replies[0].nlistings, 0);
	done(1);
}

static void
root_directory(void **state)
{
	static const struct script_item root = {SCRIPT_LIST, "/", 9};

	(void)state;
	assert_int_equal(
	    PARSE("#0 OK G 2\0" DIR "\0\0" DIR "d\0\0#. 0\0", &root, 1), 0);
	assert_int_equal(replies[0].nlistings, 2);
	assert_string_equal(replies[0].listings[0].path, "/");
	assert_string_equal(replies[0].listings[1].path, "/d");
	done(1);
}

static void
many_directories(void **state)
{
	static const struct script_item items[] = {{SCRIPT_LIST_ALSO, "/", 0},
	    {SCRIPT_LIST_ALSO, "/a", 0}, {SCRIPT_LIST_ALSO, "/a/b", 0},
	    {SCRIPT_LIST_ALSO, "/gone", 0}, {SCRIPT_LIST_ALSO, "/f", 0},
	    {SCRIPT_LIST_ALSO, "/late", 0}};

	(void)state;
	assert_int_equal(
	    PARSE("#3 ENOENT\0#0 OK G 6\0" DIR "./\0\0" DIR "./a\0\0" FILE_
		  "./f\0\0" DIR "./a\0\0" FILE_ "./a/x\0\0" DIR "./a/b\0\0" DIR
		  "./a/b\0\0" FILE_ "./f\0\0#. 0\0",
		items, 6),
	    0);
	assert_int_equal(replies[0].nlistings, 1);
	assert_string_equal(replies[0].listings[0].path, "/");
	assert_int_equal(replies[0].listings[0].count, 2);
	assert_string_equal(replies[0].listings[0].entries[0].name, "a");
	assert_string_equal(replies[1].listings[0].path, "/a");
	assert_int_equal(replies[1].listings[0].count, 2);
	assert_string_equal(replies[1].listings[0].entries[1].name, "x");
	assert_string_equal(replies[2].listings[0].path, "/a/b");
	assert_true(replies[2].listings[0].complete);
	assert_int_equal(replies[2].listings[0].count, 0);
	assert_int_equal(replies[3].error, -ENOENT);
	assert_int_equal(replies[4].error, -ENOTDIR);
	assert_int_equal(replies[5].error, -ENOENT);
	done(6);
	/* Something could not be read: nothing is known to be complete. */
	assert_int_equal(PARSE("#0 OK B 1\0" BDIR "./\n#. 1\0", items, 1), 0);
	assert_int_equal(replies[0].error, -EAGAIN);
	assert_int_equal(replies[0].nlistings, 0);
	done(1);
	assert_int_equal(
	    PARSE("#0 OK G 1\0" DIR "/a\0\0#. 0\0", items, 1), -EPROTO);
	assert_int_equal(
	    PARSE("#0 OK G 2\0" DIR "./\0\0#. 0\0", items, 1), -EPROTO);
}

static void
errors_by_name(void **state)
{
	(void)state;
	assert_int_equal(PARSE("#0 EACCES\0", &list, 1), 0);
	assert_int_equal(replies[0].error, -EACCES);
	done(1);
	assert_int_equal(PARSE("#0 EWHATEVER\0", &list, 1), 0);
	assert_int_equal(replies[0].error, -EIO);
	done(1);
	assert_int_equal(listing_errno("ENOTEMPTY", 9), -ENOTEMPTY);
	assert_int_equal(listing_errno("ENOTEMPTY", 8), -EIO);
	assert_int_equal(listing_errno("", 0), -EIO);
}

static void
many_items(void **state)
{
	static const struct script_item items[] = {{SCRIPT_STAT, "/a/b", 0},
	    {SCRIPT_STAT, "/a", 0}, {SCRIPT_STAT, "/a/b", 0},
	    {SCRIPT_STATFS, "/", 0}, {SCRIPT_STAT, "/", 0}};

	(void)state;
	assert_int_equal(PARSE("#1 ENOENT\0#0 OK G 3\0" FILE_ "/a/b\0\0" LINK_
			       "/a/b\0t\0#. 0\0#3 OK\0001 2 3 4 5 6 7 255\n\0"
			       "#4 OK G 1\0" DIR "/\0\0#. 0\0",
			     items, 5),
	    0);
	assert_true(replies[0].found);
	assert_string_equal(replies[0].entry.name, "b");
	assert_int_equal(replies[1].error, -ENOENT);
	assert_true(replies[2].found);
	assert_string_equal(replies[2].entry.target, "t");
	assert_int_equal(replies[3].fs[6], 7);
	assert_int_equal(replies[3].namemax, 255);
	assert_true(replies[4].found);
	assert_string_equal(replies[4].entry.name, "");
	done(5);
	/* Found, but then without a record: it vanished. */
	assert_int_equal(
	    PARSE("#0 OK B 3\0#. 0\0#3 EIO\0#4 OK B 1\0" BDIR "/x///\n#. 0\0",
		items, 5),
	    -EPROTO);
	assert_int_equal(
	    PARSE("#0 OK B 3\0#. 0\0#3 EIO\0#4 OK B 1\0" BDIR "////\n#. 0\0",
		items, 5),
	    0);
	assert_int_equal(replies[0].error, -ENOENT);
	assert_int_equal(replies[3].error, -EIO);
	assert_true(replies[4].found);
	done(5);
	/* Answers that were not asked for, twice, or missing. */
	assert_int_equal(PARSE("#5 ENOENT\0", items, 5), -EPROTO);
	assert_int_equal(PARSE("#8 ENOENT\0", items, 5), -EPROTO);
	assert_int_equal(PARSE("#0 ENOENT\0#0 ENOENT\0", items, 5), -EPROTO);
	assert_int_equal(PARSE("#0 ENOENT\0", items, 5), -EPROTO);
	assert_int_equal(PARSE("#0 OK G 6\0#. 0\0", items, 5), -EPROTO);
	assert_int_equal(PARSE("#3 OK\0001 2 3\n\0", items, 5), -EPROTO);
	assert_int_equal(
	    PARSE("#0 OK\0001 2 3 4 5 6 7 255\n\0", items, 5), -EPROTO);
	assert_int_equal(PARSE("noise", items, 5), -EPROTO);
	assert_int_equal(PARSE("", items, 5), -EPROTO);
	assert_int_equal(PARSE("", items, 0), 0);
	done(0);
	assert_int_equal(PARSE("#0 ENOENT\0", items, 0), -EPROTO);
}

#define PROBE                                                              \
	"tools=gnu\0uid=1000\0gid=1001\0groups=1001 4\0user=me\0home=/h\0" \
	"cwd=/\n\0clock=12.000000345\0uname=Linux\0have=gzip dd "          \
	"python3\0pseudo=5\0pseudo=77\0"

static void
probes(void **state)
{
	static const char good[] = PROBE "new=thing\0#0 ENOENT\0";
	static const char none[] = "tools=none\0uid=0\0gid=0\0groups=0\0user=\0"
				   "home=/\0cwd=/\0uname=X\0have=\0";
	static const char *const bad[] = {"uid=x", "uid=", "uid=4294967296",
	    "gid=-1", "groups=1,2", "groups=1 x", "pseudo=", "home=h", "cwd=x",
	    "novalue"};
	struct probe p;
	char text[512];
	size_t used, i;

	(void)state;
	assert_int_equal(probe_parse(good, sizeof(good) - 1, &p, &used), 0);
	assert_int_equal(used, sizeof(good) - 1 - 10);
	assert_true(p.gnu && p.gzip && p.python3 && !p.perl && !p.timeout);
	assert_true(p.clock == 12000000345);
	assert_int_equal(p.uid, 1000);
	assert_int_equal(p.gid, 1001);
	assert_int_equal(p.ngroups, 2);
	assert_int_equal(p.groups[1], 4);
	assert_string_equal(p.user, "me");
	assert_string_equal(p.home, "/h");
	assert_string_equal(p.cwd, "/\n");
	assert_int_equal(p.npseudo, 2);
	assert_int_equal(p.pseudo[1], 77);
	probe_free(&p);
	for (i = 0; i < sizeof(PROBE) - 1; i++) {
		/* Cut where a value that may be missing ends, it is whole. */
		if (probe_parse(good, i, &p, &used) == 0)
			assert_non_null(strstr(p.system, "has"));
		probe_free(&p);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(text, PROBE, sizeof(PROBE) - 1);
		strcpy(text + sizeof(PROBE) - 1, bad[i]);
		assert_int_equal(probe_parse(text,
				     sizeof(PROBE) + strlen(bad[i]), &p, &used),
		    -EPROTO);
		probe_free(&p);
	}
	assert_int_equal(
	    probe_parse(none, sizeof(none) - 1, &p, &used), -ENOTSUP);
	assert_non_null(strstr(p.system, "none"));
	probe_free(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(gnu_records),
	    cmocka_unit_test(busybox_records),
	    cmocka_unit_test(busybox_link_targets),
	    cmocka_unit_test(hostile_names),
	    cmocka_unit_test(numbers),
	    cmocka_unit_test(cut_and_changed),
	    cmocka_unit_test(subtrees),
	    cmocka_unit_test(root_directory),
	    cmocka_unit_test(many_directories),
	    cmocka_unit_test(errors_by_name),
	    cmocka_unit_test(many_items),
	    cmocka_unit_test(probes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
