#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tree/node.h"
#include "kernel/notify.h"
#include "room/room.h"

#define TRUST 5000

/* --- what the tree is linked with: a clock, and a kernel that takes notes ---
 */

static uint64_t now;
static char notices[512];

uint64_t
room_now(void)
{
	return now;
}

static void
note(const char *kind, const char *name)
{
	size_t len = strlen(notices);

	snprintf(notices + len, sizeof notices - len, "%s%s%s%s",
	    len > 0 ? " " : "", kind, *name ? ":" : "", name);
}

void
notify_inode(struct notify *n, uint64_t id)
{
	(void)n;
	note(id == 1 ? "root" : "inode", "");
}

void
notify_entry(struct notify *n, uint64_t parent, const char *name)
{
	(void)n;
	(void)parent;
	note("entry", name);
}

void
notify_deleted(
    struct notify *n, uint64_t parent, uint64_t child, const char *name)
{
	(void)n;
	(void)parent;
	(void)child;
	note("deleted", name);
}

/* The kernel was told this since the last call. */
static void
told(const char *expected)
{
	assert_string_equal(notices, expected);
	notices[0] = '\0';
}

/* --- listings ------------------------------------------------------------- */

static struct entry
file(const char *name, uint64_t ino, uint64_t size)
{
	return (struct entry){.name = (char *)name,
	    .attr = {
		.mode = S_IFREG | 0644, .nlink = 1, .ino = ino, .size = size}};
}

static struct entry
hard_link(const char *name, uint64_t ino, uint32_t nlink)
{
	struct entry e = file(name, ino, 0);

	e.attr.nlink = nlink;
	return e;
}

static struct entry
directory(const char *name, uint64_t ino)
{
	struct entry e = file(name, ino, 0);

	e.attr.mode = S_IFDIR | 0755;
	e.attr.nlink = 2;
	return e;
}

/* The VM lists a directory: entries until one without a name. */
static void
adopt(struct tree *t, const char *path, const struct entry *entries)
{
	struct listing l = {.path = (char *)path,
	    .self = {.mode = S_IFDIR | 0755, .nlink = 2, .ino = 1},
	    .complete = true,
	    .entries = (struct entry *)entries};

	while (entries[l.count].name != NULL)
		l.count++;
	tree_adopt_listing(t, &l, tree_epoch(t), now);
}

static struct node *
find(struct tree *t, const char *path)
{
	struct node *n;

	tree_lock(t);
	n = tree_find(t, path);
	tree_unlock(t);
	return n;
}

/* What has to be there; tree locked. */
static struct node *
present(struct tree *t, const char *path)
{
	struct node *n = tree_find(t, path);

	assert_non_null(n);
	return n;
}

static struct dentry *
named(struct node *dir, const char *name)
{
	struct dentry *d = tree_lookup(dir, name);

	assert_non_null(d);
	return d;
}

/* The kernel looks a name up, and so knows the node from now on. */
static struct node *
look_up(struct tree *t, const char *path)
{
	struct node *n = find(t, path);

	assert_non_null(n);
	tree_lock(t);
	node_remember(n);
	tree_unlock(t);
	return n;
}

static void
forget(struct tree *t, struct node *n)
{
	tree_lock(t);
	node_forget(t, n, 1);
	tree_unlock(t);
}

static int
set_up(void **state)
{
	struct tree *t;

	now = 1000;
	notices[0] = '\0';
	assert_int_equal(tree_open(&t, "/", TRUST), 0);
	/* Never looked into by the tree. */
	tree_set_notify(t, (struct notify *)&now);
	tree_hide_name(t, ".exec");
	*state = t;
	return 0;
}

static int
tear_down(void **state)
{
	tree_close(*state);
	return 0;
}

/* --- tests ---------------------------------------------------------------- */

static void
test_a_listing_adopted_twice_changes_nothing(void **state)
{
	const struct entry all[] = {directory("d", 2), file("f", 3, 10), {0}};
	struct tree *t = *state;
	struct node *d, *f;
	uint64_t version;

	adopt(t, "/", all);
	d = look_up(t, "/d");
	f = look_up(t, "/f");
	version = tree_root(t)->dir->version;
	now += 10;
	adopt(t, "/", all);
	assert_ptr_equal(find(t, "/d"), d);
	assert_ptr_equal(find(t, "/f"), f);
	assert_int_equal(f->checked, now);
	assert_int_equal(tree_root(t)->dir->version, version);
	assert_int_equal(tree_root(t)->dir->count, 2);
	assert_int_equal(tree_count(t), 3);
	told("");
}

static void
test_differences_are_told_to_the_kernel(void **state)
{
	const struct entry before[] = {file("a", 2, 1), file("b", 3, 1), {0}};
	const struct entry after[] = {file("b", 3, 2), file("c", 4, 1), {0}};
	struct tree *t = *state;
	struct node *a, *b;

	adopt(t, "/", before);
	told("");
	a = look_up(t, "/a");
	b = look_up(t, "/b");
	node_hold(b);
	now += 10;
	adopt(t, "/", after);
	told("deleted:a inode entry:c root");
	assert_null(find(t, "/a"));
	assert_ptr_equal(find(t, "/b"), b);
	assert_int_equal(b->attr.size, 2);
	/* When it was told that, and not again when told the same. */
	node_tell(b);
	assert_int_equal(b->told_at, now);
	now++;
	node_tell(b);
	assert_int_equal(b->told_at, now - 1);
	node_release(t, b);
	/* It lives until the kernel forgets it, and no longer. */
	assert_true(node_is_dead(t, a));
	assert_int_equal(tree_count(t), 4);
	forget(t, a);
	assert_int_equal(tree_count(t), 3);
}

static void
test_other_bytes_of_a_file_that_is_not_open_are_another_node(void **state)
{
	const struct entry one[] = {file("a", 2, 1), {0}};
	const struct entry two[] = {file("a", 2, 2), {0}};
	struct tree *t = *state;
	struct node *a, *b;

	adopt(t, "/", one);
	a = look_up(t, "/a");
	assert_true(node_is_settled(a));
	now += 10;
	adopt(t, "/", two);
	told("entry:a");
	b = look_up(t, "/a");
	assert_ptr_not_equal(a, b);
	assert_true(a->replaced);
	forget(t, a);
	assert_true(node_is_settled(b));
	/* A file that is replaced again and again is a moving one. */
	now += 10;
	adopt(t, "/", one);
	told("entry:a");
	a = look_up(t, "/a");
	assert_false(node_is_settled(a));
	forget(t, b);
	now += NODE_SETTLE_MS + 1;
	assert_true(node_is_settled(a));
	adopt(t, "/", two);
	told("entry:a");
	b = look_up(t, "/a");
	assert_true(node_is_settled(b));
	forget(t, a);
	/* It is open: the node stays, and readers know that it moved. */
	node_hold(b);
	now += 10;
	adopt(t, "/", one);
	told("inode");
	assert_ptr_equal(find(t, "/a"), b);
	assert_false(node_is_settled(b));
	now += NODE_SETTLE_MS + 1;
	assert_true(node_is_settled(b));
	/* After a command of ours it is no wonder. */
	tree_lock(t);
	tree_distrust(t);
	tree_unlock(t);
	now++;
	adopt(t, "/", two);
	assert_true(node_is_settled(b));
	node_release(t, b);
	forget(t, b);
}

static void
test_what_the_kernel_never_saw_is_no_notice(void **state)
{
	const struct entry before[] = {file("a", 2, 1), {0}};
	const struct entry after[] = {{0}};
	struct tree *t = *state;

	adopt(t, "/", before);
	now += 10;
	adopt(t, "/", after);
	told("root");
	assert_int_equal(tree_count(t), 1);
}

static void
test_a_name_that_becomes_something_else(void **state)
{
	const struct entry before[] = {directory("x", 2), {0}};
	const struct entry within[] = {file("y", 3, 1), {0}};
	const struct entry after[] = {file("x", 4, 1), {0}};
	struct tree *t = *state;
	struct node *old;

	adopt(t, "/", before);
	adopt(t, "/x", within);
	old = look_up(t, "/x");
	now += 10;
	adopt(t, "/", after);
	told("entry:x");
	assert_true(S_ISREG(find(t, "/x")->attr.mode));
	assert_ptr_not_equal(find(t, "/x"), old);
	assert_null(find(t, "/x/y"));
	forget(t, old);
	assert_int_equal(tree_count(t), 2);
}

static void
test_hidden_names_do_not_come_in(void **state)
{
	const struct entry all[] = {
	    file(".exec", 2, 1), file(".gentilityfs-x", 3, 1), {0}};
	struct tree *t = *state;

	adopt(t, "/", all);
	assert_int_equal(tree_root(t)->dir->count, 0);
}

static void
test_hard_links_are_one_node(void **state)
{
	const struct entry top[] = {
	    hard_link("a", 7, 3), hard_link("b", 7, 3), directory("d", 2), {0}};
	const struct entry below[] = {hard_link("c", 7, 3), {0}};
	const struct entry fewer[] = {
	    hard_link("b", 7, 2), directory("d", 2), {0}};
	const struct entry single[] = {directory("d", 2), {0}};
	const struct entry alone[] = {hard_link("c", 7, 1), {0}};
	struct tree *t = *state;
	struct node *n;

	adopt(t, "/", top);
	adopt(t, "/d", below);
	n = find(t, "/a");
	assert_ptr_equal(find(t, "/b"), n);
	assert_ptr_equal(find(t, "/d/c"), n);
	assert_int_equal(tree_count(t), 3);
	now += 10;
	adopt(t, "/", fewer);
	assert_null(find(t, "/a"));
	assert_ptr_equal(find(t, "/b"), n);
	assert_int_equal(n->attr.nlink, 2);
	now += 10;
	adopt(t, "/", single);
	adopt(t, "/d", alone);
	assert_ptr_equal(find(t, "/d/c"), n);
	assert_false(n->linked);
}

/* sed -i on one of two names: the other one keeps its file. */
static void
test_one_of_two_names_replaced(void **state)
{
	const struct entry before[] = {
	    hard_link("a", 7, 2), hard_link("b", 7, 2), {0}};
	const struct entry after[] = {
	    hard_link("a", 8, 1), hard_link("b", 7, 1), {0}};
	struct tree *t = *state;
	struct node *n;

	adopt(t, "/", before);
	n = find(t, "/b");
	now += 10;
	adopt(t, "/", after);
	assert_ptr_equal(find(t, "/b"), n);
	assert_ptr_not_equal(find(t, "/a"), n);
	assert_int_equal(find(t, "/a")->attr.ino, 8);
	assert_int_equal(find(t, "/b")->attr.ino, 7);
}

static void
test_renames(void **state)
{
	const struct entry top[] = {
	    file("a", 2, 1), directory("d", 3), file("f", 4, 1), {0}};
	const struct entry below[] = {file("x", 5, 1), {0}};
	struct tree *t = *state;
	struct node *a, *d, *root;
	char *path;

	adopt(t, "/", top);
	adopt(t, "/d", below);
	assert_non_null(a = find(t, "/a"));
	assert_non_null(d = find(t, "/d"));
	tree_lock(t);
	root = tree_root(t);
	/* Over an existing file, into a directory, a directory itself. */
	assert_int_equal(tree_rename(t, named(root, "a"), root, "f"), 0);
	assert_int_equal(tree_rename(t, named(root, "f"), d, "x"), 0);
	assert_int_equal(tree_rename(t, named(root, "d"), root, "e"), 0);
	assert_int_equal(tree_rename(t, named(root, "e"), root, "e"), 0);
	assert_ptr_equal(node_parent(a), d);
	path = tree_path(t, a, NULL);
	assert_string_equal(path, "/e/x");
	free(path);
	path = tree_path(t, d, "new");
	assert_string_equal(path, "/e/new");
	free(path);
	tree_unlock(t);
	assert_ptr_equal(find(t, "/e/x"), a);
	assert_null(find(t, "/a"));
	assert_null(find(t, "/d"));
	assert_int_equal(tree_count(t), 3);
}

static void
test_a_removed_file_that_is_open_has_no_path(void **state)
{
	const struct entry all[] = {file("a", 2, 1), {0}};
	struct tree *t = *state;
	struct node *a;

	adopt(t, "/", all);
	assert_non_null(a = find(t, "/a"));
	tree_lock(t);
	node_hold(a);
	tree_remove(t, named(tree_root(t), "a"));
	errno = 0;
	assert_null(tree_path(t, a, NULL));
	assert_int_equal(errno, ENOENT);
	assert_true(node_is_dead(t, a));
	node_release(t, a);
	tree_unlock(t);
	assert_int_equal(tree_count(t), 1);
}

/* What a listing of "/" says that was asked for at this epoch, now. */
static void
adopt_late(struct tree *t, const struct entry *entries, uint64_t epoch)
{
	struct listing l = {.path = (char *)"/",
	    .self = {.mode = S_IFDIR | 0755, .nlink = 2, .ino = 1},
	    .complete = true,
	    .entries = (struct entry *)entries};

	while (entries[l.count].name != NULL)
		l.count++;
	tree_adopt_listing(t, &l, epoch, now);
}

/* A name made by our own doing, with the tree locked. */
static struct node *
make(struct tree *t, struct node *dir, const struct entry *e)
{
	struct node *n;

	tree_touch_dir(t, dir);
	n = tree_adopt_entry(t, dir, e, UINT64_MAX, now);
	assert_non_null(n);
	n->changed = tree_epoch(t);
	return n;
}

/* The VM has these times of the node after a change of ours. */
static void
change_times(struct tree *t, struct node *n, int64_t mtime, int64_t ctime)
{
	struct attr a = n->attr;

	a.mtime = mtime;
	a.ctime = ctime;
	tree_next_epoch(t);
	tree_adopt_own(t, n, &a, now);
}

/* What somebody was told is shown for as long as the VM's is the one that the
 * change made. */
static void
test_times_that_were_told_are_shown(void **state)
{
	const struct entry top[] = {directory("d", 2), file("f", 3, 1), {0}};
	struct tree *t = *state;
	struct attr was;
	struct node *n, *d;

	adopt(t, "/", top);
	n = look_up(t, "/f");
	d = look_up(t, "/d");
	tree_lock(t);
	/* Unsent, and told. */
	n->local = true;
	n->attr.mtime = 10;
	n->attr.ctime = 11;
	node_see(n);
	assert_true(n->seen);
	was = node_shown(n);
	change_times(t, n, 10, 20);
	node_show(n, &was);
	n->local = false;
	assert_int_equal(node_shown(n).mtime, 10);
	assert_int_equal(node_shown(n).ctime, 11);
	/* Somebody changes its mode, then its bytes. */
	change_times(t, n, 10, 21);
	assert_int_equal(node_shown(n).mtime, 10);
	assert_int_equal(node_shown(n).ctime, 21);
	change_times(t, n, 30, 30);
	assert_int_equal(node_shown(n).mtime, 30);
	/* A directory in which something was made here. */
	change_times(t, d, 40, 40);
	dir_change_here(d, 50);
	assert_int_equal(node_shown(d).mtime, 50);
	assert_false(dir_was_told(d));
	node_see(d);
	assert_true(dir_was_told(d));
	was = node_shown(d);
	change_times(t, d, 60, 60);
	assert_false(dir_was_told(d));
	assert_int_equal(node_shown(d).mtime, 60);
	node_show(d, &was);
	assert_true(dir_was_told(d));
	assert_int_equal(node_shown(d).ctime, 50);
	node_show_vm(d);
	assert_int_equal(node_shown(d).ctime, 60);
	node_show_vm(n);
	tree_unlock(t);
}

static void
test_a_number_that_was_told_is_shown(void **state)
{
	const struct entry top[] = {file("f", 3, 0), {0}};
	struct tree *t = *state;
	struct node *n;

	adopt(t, "/", top);
	n = look_up(t, "/f");
	tree_lock(t);
	/* Told while it was empty, and then written. */
	node_show_ino(n, 99);
	node_see(n);
	node_change_here(n);
	assert_int_equal(node_shown_ino(n), 99);
	node_settle_ino(n);
	assert_int_equal(node_shown_ino(n), 0);
	/* Told afterwards: it stays, whatever is written. */
	node_show_ino(n, 99);
	n->attr.size = 5;
	node_see(n);
	node_change_here(n);
	node_settle_ino(n);
	assert_int_equal(node_shown_ino(n), 99);
	node_show_vm(n);
	tree_unlock(t);
}

/* A listing that was under way when we changed something does not undo that;
 * for all else it counts. */
static void
test_an_old_listing_does_not_undo_an_own_change(void **state)
{
	const struct entry first[] = {
	    file("a", 2, 1), file("c", 4, 1), file("d", 5, 1), {0}};
	const struct entry old[] = {
	    file("c", 4, 1), file("d", 5, 1), file("e", 6, 1), {0}};
	const struct entry made = file("b", 3, 1);
	struct attr saved = file("d", 5, 9).attr;
	struct tree *t = *state;
	uint64_t epoch;

	adopt(t, "/", first);
	epoch = tree_epoch(t);
	tree_lock(t);
	make(t, tree_root(t), &made);
	tree_touch_dir(t, tree_root(t));
	tree_lose_name(t, tree_root(t), "c");
	tree_remove(t, named(tree_root(t), "c"));
	saved.ctime = 7;
	tree_next_epoch(t);
	tree_adopt_own(t, present(t, "/d"), &saved, now);
	tree_unlock(t);
	now += 10;
	adopt_late(t, old, epoch);
	assert_null(find(t, "/a"));
	assert_non_null(find(t, "/b"));
	assert_null(find(t, "/c"));
	assert_int_equal(find(t, "/d")->attr.size, 9);
	assert_non_null(find(t, "/e"));
	/* It was asked for now, and what we left there is no older. */
	assert_int_equal(tree_root(t)->dir->listed, now);
	assert_int_equal(find(t, "/d")->checked, now);
	assert_int_equal(find(t, "/b")->checked, now - 10);
	/* So with single names. */
	tree_adopt_stat(t, "/c", 0, &old[0], epoch, now);
	tree_adopt_stat(t, "/b", -ENOENT, NULL, epoch, now);
	assert_null(find(t, "/c"));
	assert_non_null(find(t, "/b"));
	/* One that was asked for after it counts. */
	adopt_late(t, old, tree_epoch(t));
	assert_null(find(t, "/b"));
	assert_non_null(find(t, "/c"));
	assert_int_equal(find(t, "/d")->attr.size, 1);
}

/* What others did after us is not taken for ours. */
static void
test_a_later_change_is_asked_for_again(void **state)
{
	struct entry a[] = {file("a", 2, 1), {0}};
	struct attr ours = a[0].attr;
	struct tree *t = *state;
	uint64_t epoch;

	adopt(t, "/", a);
	epoch = tree_epoch(t);
	tree_lock(t);
	tree_next_epoch(t);
	ours.ctime = 7;
	tree_adopt_own(t, present(t, "/a"), &ours, now);
	tree_unlock(t);
	now += 10;
	a[0].attr.ctime = 8;
	adopt_late(t, a, epoch);
	assert_int_equal(find(t, "/a")->checked, now - 10);
	a[0].attr.ino = 3;
	a[0].attr.ctime = 6;
	adopt_late(t, a, epoch);
	assert_int_equal(find(t, "/a")->checked, now - 10);
}

/* Answers to our own changes: the older does not count, nor another type. */
static void
test_own_answers_in_the_other_order(void **state)
{
	const struct entry first[] = {file("a", 2, 1), directory("d", 3), {0}};
	struct attr newer = first[1].attr, older = newer, link = first[0].attr;
	struct tree *t = *state;
	struct node *d;

	adopt(t, "/", first);
	tree_lock(t);
	d = tree_find(t, "/d");
	newer.ctime = 8;
	newer.nlink = 4;
	older.ctime = 7;
	older.nlink = 3;
	assert_non_null(d);
	tree_adopt_own(t, d, &newer, now);
	tree_adopt_own(t, d, &older, now);
	assert_int_equal(d->attr.nlink, 4);
	link.mode = S_IFLNK | 0777;
	tree_adopt_own(t, present(t, "/a"), &link, now);
	assert_true(S_ISREG(tree_find(t, "/a")->attr.mode));
	assert_false(dir_fresh(t, tree_root(t)->dir, UINT64_MAX));
	tree_unlock(t);
}

/* An answer that lacks a name is older than what is known of it. */
static void
test_an_older_answer_takes_no_name(void **state)
{
	const struct entry a[] = {file("a", 2, 1), {0}}, none[] = {{0}};
	struct tree *t = *state;

	adopt(t, "/", none);
	now += 10;
	tree_adopt_stat(t, "/a", 0, &a[0], tree_epoch(t), now);
	now -= 5;
	adopt(t, "/", none);
	tree_adopt_stat(t, "/a", -ENOENT, NULL, tree_epoch(t), now);
	assert_non_null(find(t, "/a"));
	assert_false(dir_fresh(t, tree_root(t)->dir, UINT64_MAX));
	now += 5;
	adopt(t, "/", none);
	assert_null(find(t, "/a"));
}

/* More names went than are remembered: then an old listing is not adopted. */
static void
test_more_lost_names_than_are_remembered(void **state)
{
	const struct entry dirs[] = {directory("d", 2), {0}};
	const struct entry old[] = {directory("d", 2), file("n0", 3, 1), {0}};
	struct tree *t = *state;
	uint64_t epoch, other;
	char name[16];
	unsigned i;

	adopt(t, "/", dirs);
	epoch = tree_epoch(t);
	now += 10;
	tree_lock(t);
	tree_lose_name(t, tree_root(t), "n0");
	other = tree_epoch(t);
	for (i = 1; i < 300; i++) {
		snprintf(name, sizeof name, "n%u", i);
		tree_lose_name(t, present(t, "/d"), name);
	}
	tree_unlock(t);
	adopt_late(t, old, epoch);
	assert_null(find(t, "/n0"));
	assert_int_equal(tree_root(t)->dir->listed, now - 10);
	/* It was asked for after all that this directory lost. */
	adopt_late(t, old, other);
	assert_non_null(find(t, "/n0"));
}

/* A listing that was asked for by a path is not that of what moved there. */
static void
test_a_directory_that_moved_is_asked_for_again(void **state)
{
	const struct entry top[] = {directory("a", 2), {0}};
	const struct entry sub[] = {directory("s", 3), {0}};
	const struct entry mine[] = {file("mine", 4, 1), {0}};
	const struct entry old[] = {file("old", 5, 1), {0}};
	struct listing l = {.path = (char *)"/b/s",
	    .self = {.mode = S_IFDIR | 0755, .nlink = 2, .ino = 9},
	    .complete = true,
	    .entries = (struct entry *)old,
	    .count = 1};
	struct tree *t = *state;
	struct dir *d;
	uint64_t epoch;

	adopt(t, "/", top);
	adopt(t, "/a", sub);
	adopt(t, "/a/s", mine);
	epoch = tree_epoch(t);
	now += 10;
	tree_lock(t);
	tree_touch_dir(t, tree_root(t));
	assert_int_equal(
	    tree_rename(t, named(tree_root(t), "a"), tree_root(t), "b"), 0);
	tree_move_dir(t, tree_find(t, "/b"));
	tree_unlock(t);
	tree_adopt_listing(t, &l, epoch, now);
	assert_non_null(find(t, "/b/s/mine"));
	assert_null(find(t, "/b/s/old"));
	/* A listing of what we don't know what we did to. */
	epoch = tree_epoch(t);
	tree_lock(t);
	d = tree_find(t, "/b/s")->dir;
	assert_true(dir_fresh(t, d, UINT64_MAX));
	tree_doubt_dir(tree_find(t, "/b/s"));
	assert_false(dir_fresh(t, d, UINT64_MAX));
	assert_true(dir_fresh(t, d, d->listed));
	tree_unlock(t);
	/* Asked for before that, it is for those who began before only. */
	now += 10;
	tree_adopt_listing(t, &l, epoch, now - 10);
	assert_non_null(find(t, "/b/s/old"));
	assert_true(dir_fresh(t, d, now - 10));
	assert_false(dir_fresh(t, d, UINT64_MAX));
	tree_adopt_listing(t, &l, epoch, now);
	assert_true(dir_fresh(t, d, UINT64_MAX));
}

static void
test_unsent_changes_survive_a_listing(void **state)
{
	const struct entry before[] = {file("a", 2, 1), file("b", 3, 1), {0}};
	const struct entry after[] = {file("a", 2, 99), {0}};
	struct tree *t = *state;
	uint64_t ids[4];
	struct node *a, *b;

	adopt(t, "/", before);
	assert_non_null(a = find(t, "/a"));
	b = find(t, "/b");
	a->local = b->local = true;
	a->attr.size = 5;
	assert_int_equal(tree_local_nodes(t, false, ids, 4), 2);
	now += 10;
	adopt(t, "/", after);
	assert_ptr_equal(find(t, "/a"), a);
	assert_ptr_equal(find(t, "/b"), b);
	assert_int_equal(a->attr.size, 5);
	a->local = b->local = false;
}

static void
test_names_that_do_not_exist_are_known_from_a_listing(void **state)
{
	const struct entry all[] = {file("a", 2, 1), {0}};
	struct tree *t = *state;
	struct node *root = tree_root(t);

	adopt(t, "/", all);
	tree_lock(t);
	assert_non_null(tree_lookup(root, "a"));
	assert_null(tree_lookup(root, "A"));
	assert_null(tree_lookup(root, ""));
	/* For the time of trust only. */
	assert_true(tree_fresh(t, root->dir->listed, UINT64_MAX));
	now += TRUST;
	assert_false(tree_fresh(t, root->dir->listed, UINT64_MAX));
	assert_true(tree_fresh(t, root->dir->listed, root->dir->listed));
	now -= TRUST - 1;
	assert_true(tree_fresh(t, root->dir->listed, UINT64_MAX));
	/* Something happened: only who began before that is content with it. */
	tree_distrust(t);
	assert_false(tree_fresh(t, root->dir->listed, UINT64_MAX));
	assert_false(tree_known(t, root->dir->listed));
	assert_true(tree_fresh(t, root->dir->listed, root->dir->listed));
	assert_true(tree_trust(t, now) > 4.9);
	tree_unlock(t);
}

static void
test_a_single_answer_brings_and_takes_a_name(void **state)
{
	const struct entry none[] = {{0}};
	const struct entry a = file("whatever", 2, 3);
	struct tree *t = *state;

	adopt(t, "/", none);
	now += 10;
	tree_adopt_stat(t, "/a", 0, &a, tree_epoch(t), now);
	assert_int_equal(find(t, "/a")->attr.size, 3);
	forget(t, look_up(t, "/a"));
	look_up(t, "/a");
	/* An error that says nothing about its being there changes nothing. */
	tree_adopt_stat(t, "/a", -EACCES, NULL, tree_epoch(t), now);
	assert_non_null(find(t, "/a"));
	told("");
	tree_adopt_stat(t, "/a", -ENOENT, NULL, tree_epoch(t), now);
	assert_null(find(t, "/a"));
	told("deleted:a");
}

static void
test_a_new_machine_makes_everything_vanish(void **state)
{
	const struct entry top[] = {directory("d", 2), {0}};
	const struct entry below[] = {file("f", 3, 1), {0}};
	struct tree *t = *state;
	struct node *f;

	adopt(t, "/", top);
	adopt(t, "/d", below);
	f = look_up(t, "/d/f");
	tree_replace(t);
	assert_true(f->stale);
	assert_false(tree_root(t)->stale);
	assert_true(node_is_dead(t, f));
	assert_null(find(t, "/d"));
	assert_int_equal(tree_root(t)->dir->listed, 0);
	told("inode root");
	forget(t, f);
	assert_int_equal(tree_count(t), 1);
}

static void
test_stale_directories_the_latest_used_first(void **state)
{
	const struct entry top[] = {directory("a", 2), directory("b", 3), {0}};
	const struct entry none[] = {{0}};
	struct tree *t = *state;
	char *paths[4];

	adopt(t, "/", top);
	adopt(t, "/a", none);
	adopt(t, "/b", none);
	tree_use_dir(t, present(t, "/a"));
	tree_use_dir(t, present(t, "/b"));
	assert_int_equal(tree_stale_dirs(t, 0, 0, paths, 4), 0);
	now += TRUST;
	assert_int_equal(tree_stale_dirs(t, 0, 0, paths, 4), 2);
	assert_string_equal(paths[0], "/b");
	assert_string_equal(paths[1], "/a");
	free(paths[0]);
	free(paths[1]);
	assert_int_equal(tree_stale_dirs(t, 0, 0, paths, 1), 1);
	free(paths[0]);
}

static void
test_a_slow_answer_is_trusted_for_longer(void **state)
{
	struct tree *t = *state;

	tree_note_delay(t, TRUST * 2 / 5);
	assert_true(tree_fresh(t, now - TRUST + 1, UINT64_MAX));
	assert_false(tree_fresh(t, now - TRUST, UINT64_MAX));
	tree_note_delay(t, TRUST);
	assert_true(tree_fresh(t, now - 2 * TRUST + 1, UINT64_MAX));
	assert_false(tree_fresh(t, now - 2 * TRUST, UINT64_MAX));
}

static void
test_the_longest_unused_is_forgotten_first(void **state)
{
	const struct entry top[] = {directory("a", 2), directory("b", 3),
	    directory("c", 4), directory("d", 5), {0}};
	const struct entry in[] = {
	    file("1", 6, 1), file("2", 7, 1), file("3", 8, 1), {0}};
	const char *const dirs[] = {"/a", "/b", "/c", "/d"};
	struct tree *t = *state;
	struct node *known;
	size_t i;

	adopt(t, "/", top);
	for (i = 0; i < 4; i++) {
		adopt(t, dirs[i], in);
		now += 10000;
	}
	tree_use_dir(t, present(t, "/a"));
	known = look_up(t, "/b/2");
	node_hold(present(t, "/c/3"));
	now += 10000;
	tree_use_dir(t, present(t, "/"));
	assert_int_equal(tree_count(t), 17);
	tree_shrink(t, 17);
	assert_int_equal(tree_count(t), 17);
	tree_shrink(t, 15); /* to 14; one stays until the kernel forgets it */
	/* The kernel gives it back when it is told. */
	told("entry:2");
	assert_null(find(t, "/b/1"));
	assert_null(find(t, "/b/2"));
	assert_int_equal(find(t, "/b")->dir->listed, 0);
	assert_true(node_is_dead(t, known));
	forget(t, known);
	assert_int_equal(tree_count(t), 12);
	/* What is open stays; then its directory is not complete. */
	assert_null(find(t, "/c/1"));
	assert_non_null(find(t, "/c/3"));
	assert_int_equal(find(t, "/c")->dir->listed, 0);
	assert_non_null(find(t, "/d/1"));
	assert_non_null(find(t, "/a/1"));
	tree_shrink(t, 10);
	assert_null(find(t, "/d/1"));
	assert_non_null(find(t, "/a/1"));
	tree_shrink(t, 1);
	assert_null(find(t, "/a/1"));
	/* What was used just now stays. */
	assert_non_null(find(t, "/d"));
	told("");
	node_release(t, find(t, "/c/3"));
}

static void
test_a_mount_of_a_part_of_the_room(void **state)
{
	const struct entry all[] = {file("a", 2, 1), {0}};
	struct tree *t;
	char *path;

	(void)state;
	assert_int_equal(tree_open(&t, "/home/user", TRUST), 0);
	adopt(t, "/home/user", all);
	assert_non_null(find(t, "/home/user/a"));
	assert_null(find(t, "/home/username"));
	assert_null(find(t, "/a"));
	assert_ptr_equal(find(t, "/home/user"), tree_root(t));
	tree_lock(t);
	path = tree_path(t, tree_root(t), NULL);
	assert_string_equal(path, "/home/user");
	free(path);
	path = tree_path(t, tree_root(t), "b");
	assert_string_equal(path, "/home/user/b");
	free(path);
	tree_unlock(t);
	tree_close(t);
}

static void
test_control_files_belong_to_their_directory(void **state)
{
	const struct entry all[] = {directory("d", 2), {0}};
	struct tree *t = *state;
	struct node *d, *exec;

	adopt(t, "/", all);
	d = look_up(t, "/d");
	tree_lock(t);
	exec = tree_control(t, d, &(struct control_name){.json = false});
	assert_ptr_equal(
	    tree_control(t, d, &(struct control_name){.json = false}), exec);
	assert_ptr_not_equal(
	    tree_control(t, d, &(struct control_name){.json = true}), exec);
	assert_ptr_equal(tree_control_dir(t, exec), d);
	tree_unlock(t);
	assert_null(find(t, "/d/.exec"));
}

static void
test_names_of_control_files(void **state)
{
	static const struct {
		const char *name, *id;
		bool json;
	} cases[] = {
	    {".exec", "", false},
	    {".exec.json", "", true},
	    {".exec@a", "a", false},
	    {".exec@a.json", "a", true},
	    {".exec@A.b_c-9", "A.b_c-9", false},
	    {".exec@.json.json", ".json", true},
	    {".exec@", NULL, false},
	    {".exec@.json", NULL, false},
	    {".exec@a/b", NULL, false},
	    {".exec@\xc3\xa9", NULL, false},
	    {".execa", NULL, false},
	    {".exe", NULL, false},
	};
	char name[80] = ".exec@";
	struct control_name c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(control_name_parse(".exec", cases[i].name, &c),
		    cases[i].id != NULL);
		if (cases[i].id == NULL)
			continue;
		assert_string_equal(c.id, cases[i].id);
		assert_int_equal(c.json, cases[i].json);
	}
	memset(name + 6, 'x', CONTROL_ID_MAX);
	assert_true(control_name_parse(".exec", name, &c));
	name[6 + CONTROL_ID_MAX] = 'x';
	assert_false(control_name_parse(".exec", name, &c));
	assert_false(control_name_parse(NULL, ".exec", &c));
}

/* A file that is open, and is listed once more. */
static struct node *
open_file(struct tree *t, const char *path)
{
	struct node *n = look_up(t, path);

	tree_lock(t);
	node_hold(n);
	tree_unlock(t);
	return n;
}

static void
close_file(struct tree *t, struct node *n)
{
	tree_lock(t);
	n->nlookup = 0;
	node_release(t, n);
	tree_unlock(t);
}

static void
test_an_open_file_is_followed_to_another_name(void **state)
{
	const struct entry before[] = {
	    file("log", 7, 10), file("log.1", 6, 99), {0}};
	const struct entry behind[] = {
	    file("log", 8, 1), file("log.1", 7, 10), file("log.2", 6, 99), {0}};
	const struct entry ahead[] = {file("a", 7, 10), file("log", 8, 1), {0}};
	struct tree *t = *state;
	struct node *n;

	adopt(t, "/", before);
	n = open_file(t, "/log");
	now += 10;
	adopt(t, "/", behind);
	assert_ptr_equal(find(t, "/log.1"), n);
	assert_ptr_not_equal(find(t, "/log"), n);
	assert_null(n->guess);
	assert_false(n->replaced);
	now += 10;
	adopt(t, "/", ahead);
	assert_ptr_equal(find(t, "/a"), n);
	assert_null(SLIST_NEXT(SLIST_FIRST(&n->names), by_node));
	close_file(t, n);
}

static void
test_an_open_file_is_followed_to_another_directory(void **state)
{
	const struct entry top[] = {directory("d", 2), file("log", 7, 10), {0}};
	const struct entry gone[] = {directory("d", 2), {0}};
	const struct entry there[] = {file("log", 7, 10), {0}};
	struct tree *t = *state;
	struct node *n;

	adopt(t, "/", top);
	n = open_file(t, "/log");
	now += 10;
	/* The new directory is seen first, and is seen again. */
	adopt(t, "/d", there);
	assert_ptr_not_equal(find(t, "/d/log"), n);
	adopt(t, "/", gone);
	assert_true(SLIST_EMPTY(&n->names));
	now += 10;
	adopt(t, "/d", there);
	assert_ptr_equal(find(t, "/d/log"), n);
	close_file(t, n);
}

static void
test_a_file_that_has_grown_is_only_a_guess(void **state)
{
	const struct entry before[] = {file("log", 7, 10), {0}};
	const struct entry after[] = {file("log.1", 7, 12), {0}};
	struct tree *t = *state;
	struct attr guess;
	struct node *n;

	adopt(t, "/", before);
	n = open_file(t, "/log");
	now += 10;
	adopt(t, "/", after);
	assert_ptr_equal(find(t, "/log.1"), n);
	assert_non_null(n->guess);
	assert_int_equal(n->guess->size, 10);
	assert_int_equal(n->attr.size, 12);
	guess = *n->guess;
	tree_lock(t);
	node_confirm_guess(t, n, &guess, false);
	tree_unlock(t);
	/* It was not: it is what it was, and has no name. */
	assert_null(find(t, "/log.1"));
	assert_null(n->guess);
	assert_int_equal(n->attr.size, 10);
	now += 10;
	adopt(t, "/", after);
	tree_lock(t);
	node_confirm_guess(t, n, &guess, true);
	tree_unlock(t);
	assert_ptr_equal(find(t, "/log.1"), n);
	assert_int_equal(n->attr.size, 12);
	close_file(t, n);
}

static void
test_what_is_not_open_or_shorter_is_not_followed(void **state)
{
	const struct entry before[] = {
	    file("closed", 5, 1), file("log", 7, 10), {0}};
	const struct entry after[] = {
	    file("c", 5, 1), file("log", 8, 1), file("x", 7, 9), {0}};
	struct tree *t = *state;
	struct node *n, *closed;

	adopt(t, "/", before);
	n = open_file(t, "/log");
	closed = look_up(t, "/closed");
	now += 10;
	adopt(t, "/", after);
	assert_ptr_not_equal(find(t, "/x"), n);
	assert_true(SLIST_EMPTY(&n->names) && n->replaced);
	assert_ptr_not_equal(find(t, "/c"), closed);
	close_file(t, n);
	forget(t, closed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    TEST(test_an_open_file_is_followed_to_another_name),
	    TEST(test_an_open_file_is_followed_to_another_directory),
	    TEST(test_a_file_that_has_grown_is_only_a_guess),
	    TEST(test_what_is_not_open_or_shorter_is_not_followed),
	    TEST(test_names_of_control_files),
	    TEST(test_a_listing_adopted_twice_changes_nothing),
	    TEST(test_differences_are_told_to_the_kernel),
	    TEST(test_other_bytes_of_a_file_that_is_not_open_are_another_node),
	    TEST(test_what_the_kernel_never_saw_is_no_notice),
	    TEST(test_a_name_that_becomes_something_else),
	    TEST(test_hidden_names_do_not_come_in),
	    TEST(test_hard_links_are_one_node),
	    TEST(test_one_of_two_names_replaced),
	    TEST(test_renames),
	    TEST(test_a_removed_file_that_is_open_has_no_path),
	    TEST(test_times_that_were_told_are_shown),
	    TEST(test_a_number_that_was_told_is_shown),
	    TEST(test_an_old_listing_does_not_undo_an_own_change),
	    TEST(test_a_later_change_is_asked_for_again),
	    TEST(test_own_answers_in_the_other_order),
	    TEST(test_an_older_answer_takes_no_name),
	    TEST(test_more_lost_names_than_are_remembered),
	    TEST(test_a_directory_that_moved_is_asked_for_again),
	    TEST(test_unsent_changes_survive_a_listing),
	    TEST(test_names_that_do_not_exist_are_known_from_a_listing),
	    TEST(test_a_single_answer_brings_and_takes_a_name),
	    TEST(test_a_new_machine_makes_everything_vanish),
	    TEST(test_stale_directories_the_latest_used_first),
	    TEST(test_a_slow_answer_is_trusted_for_longer),
	    TEST(test_the_longest_unused_is_forgotten_first),
	    TEST(test_a_mount_of_a_part_of_the_room),
	    TEST(test_control_files_belong_to_their_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
