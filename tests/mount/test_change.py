"""Changing names, kinds, links and attributes."""

import errno
import os
import stat
import time

import pytest

from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    CREAT, RENAME_EXCHANGE, RENAME_NOREPLACE, SAVE, UTIME_NOW, UTIME_OMIT, W,
    any_room, assert_same_tree, both_m, both_rooms, host, image, no_leftovers,
    noise, outcome, quick_if, renameat2, room_bytes, save, stamp, utimensat,
)
from mountlib import (
    Call, MIB, Mount, Result, Room, TEST_USER, do, put, raises, read_file,
    wait_until,
)
from test_names import NAMES


# -- names ------------------------------------------------------------------------


def test_names_of_all_kinds(any_m):
    """Create, write, rename, link, symlink, mkdir, chmod, remove: each name."""
    room = any_m.room
    any_m.sh("mkdir workspace/a workspace/b")
    some = [n for n in NAMES if n not in (b"con", b"0")]

    def make(top):
        for i, name in enumerate(some):
            path = os.path.join(top, b"a", name)
            save(path, b"contents %d" % i, mode=0o600)
            os.chmod(path, 0o640)

    def more(top):
        for i, name in enumerate(some):
            path = os.path.join(top, b"a", name)
            other = os.path.join(top, b"b", name)
            if i % 4 == 0:
                os.rename(path, other)
            elif i % 4 == 1:
                os.link(path, other)
            elif i % 4 == 2:
                os.symlink(name, other)
            else:
                os.mkdir(other)
                save(os.path.join(other, name), b"inside")
                os.unlink(path)

    def want(top):
        os.umask(0o022)
        make(top)
        more(top)

    def both(top):
        os.umask(0o022)
        want(top)

    model = os.fsencode(any_m.top) + b"/model"
    os.makedirs(model + b"/a")
    os.makedirs(model + b"/b")
    do(both, model)
    do(both, os.fsencode(any_m(W)), timeout=100)
    assert image(host(room), times=False)[0] == {
        **image(model, times=False)[0]}
    assert_same_tree(any_m)


def test_hostile_names_as_link_texts(any_m):
    texts = [n for n in NAMES if n] + [b"../a", b"a//b/", b"x" * 1000, b"$(id)"]

    def make(top):
        for i, t in enumerate(texts):
            os.symlink(t, os.path.join(top, b"l%d" % i))
        return [os.readlink(os.path.join(top, b"l%d" % i))
                for i in range(len(texts))]

    assert do(make, os.fsencode(any_m(W)), timeout=60) == texts
    assert [os.readlink(host(any_m.room, f"l{i}"))
            for i in range(len(texts))] == [os.fsdecode(t) for t in texts]


def test_absolute_links_are_kept_as_they_are_in_the_room(any_m):
    """A21: one to a file of this machine, one to a file of the mount."""
    do(os.symlink, "/workspace/target", any_m(W, "l"))
    do(os.symlink, any_m(W, "target"), any_m(W, "inside"))
    for name in ("l", "inside"):
        assert os.readlink(host(any_m.room, name)) == "/workspace/target"
    do(save, any_m(W, "target"), b"there")
    assert any_m.read(W, "inside") == b"there"
    raises(errno.ENOENT, read_file, any_m(W, "l"))


def test_names_that_are_too_long(any_m):
    long = "n" * 256

    def run(top):
        save(top + "/f", b"x")
        return [outcome(*c) for c in (
            (save, top + "/" + long, b"x"), (os.mkdir, top + "/" + long),
            (os.symlink, "a", top + "/" + long),
            (os.rename, top + "/f", top + "/" + long),
            (os.link, top + "/f", top + "/" + long))]

    assert set(do(run, any_m(W))) == {errno.ENAMETOOLONG}
    assert os.listdir(any_m.room.workspace) == ["f"]


def test_a_symlink_text_that_is_too_long(any_m):
    assert do(outcome, os.symlink, "x" * 4096, any_m(W, "l")) in (
        errno.ENAMETOOLONG, errno.EINVAL)
    do(os.symlink, "x" * 4095, any_m(W, "l"))
    assert os.readlink(host(any_m.room, "l")) == "x" * 4095


# -- create -------------------------------------------------------------------------


def test_o_excl_on_what_exists(both_m):
    put(both_m.room.workspace, "f", b"old")
    os.symlink("nowhere", host(both_m.room, "l"))
    os.mkdir(host(both_m.room, "d"))
    for name in ("f", "l", "d"):
        raises(errno.EEXIST, save, both_m(W, name), b"new", CREAT | os.O_EXCL)
    assert room_bytes(both_m.room, "f") == b"old"
    do(save, both_m(W, "new"), b"new", CREAT | os.O_EXCL)
    assert room_bytes(both_m.room, "new") == b"new"


def test_o_excl_asks_the_vm(any_m):
    """A file that the VM made since the listing was cached."""
    any_m.ls(W)
    assert not any_m.exists(W, "lock")
    any_m.room.run("echo other > /workspace/lock")
    raises(errno.EEXIST, save, any_m(W, "lock"), b"new", CREAT | os.O_EXCL)
    assert room_bytes(any_m.room, "lock") == b"other\n"
    assert any_m.read(W, "lock") == b"other\n"


def race(mounts, func, *args):
    """The same from each mount at once; their outcomes."""
    calls = [Call(outcome, func, *[a(m) for a in args]) for m in mounts]
    return [c.result() for c in calls]


@pytest.mark.parametrize("kind", quick_if(
    ["file", "written", "mkdir", "symlink", "link", "rename"],
    "written", "mkdir", "rename"))
def test_two_mounts_race_for_one_lock(both_rooms, kind):
    """Exactly one wins, each time, and the room has the winner's."""
    put(both_rooms.workspace, "from0", b"0")
    put(both_rooms.workspace, "from1", b"1")
    with Mount(both_rooms, "cache_timeout=0") as a, \
            Mount(both_rooms, "cache_timeout=0") as b:
        which = {a.dir: 0, b.dir: 1}

        def attempt(top):
            lock, i = top + "/race.lock", which[top[:-len("/" + W)]]
            if kind == "file":
                os.close(os.open(lock, CREAT | os.O_EXCL, 0o644))
            elif kind == "written":
                save(lock, b"%d" % i, CREAT | os.O_EXCL)
            elif kind == "mkdir":
                os.mkdir(lock)
            elif kind == "symlink":
                os.symlink(f"owner{i}", lock)
            elif kind == "link":
                os.link(f"{top}/from{i}", lock)
            else:
                renameat2(f"{top}/mine{i}", lock, RENAME_NOREPLACE)

        for turn in range(10):
            if kind == "rename":
                put(both_rooms.workspace, "mine0", b"0")
                put(both_rooms.workspace, "mine1", b"1")
                for m in (a, b):
                    m.ls(W)
            got = race([a, b], attempt, lambda m: m(W))
            assert sorted(got, key=str) == [errno.EEXIST, None], (turn, got)
            winner = got.index(None)
            lock = host(both_rooms, "race.lock")
            if kind == "written":
                assert read_file(lock) == b"%d" % winner, turn
            elif kind == "symlink":
                assert os.readlink(lock) == f"owner{winner}"
            elif kind in ("link", "rename"):
                assert read_file(lock) == b"%d" % winner
            m = (a, b)[winner]
            do(os.rmdir if kind == "mkdir" else os.unlink, m(W, "race.lock"))
            for m in (a, b):
                wait_until(lambda: not m.exists(W, "race.lock"), 10,
                           "the lock's end")


def test_two_mounts_race_to_remove(both_rooms):
    """One unlink, rmdir or rename wins, the other gets ENOENT."""
    names = [f"f{i}" for i in range(6)] + [f"d{i}" for i in range(4)] + [
        f"r{i}" for i in range(6)]
    for n in names:
        os.mkdir(host(both_rooms, n)) if n[0] == "d" else put(
            both_rooms.workspace, n, b"x")
    with Mount(both_rooms) as a, Mount(both_rooms) as b:
        def attempt(top, name):
            if name[0] == "f":
                os.unlink(top + "/" + name)
            elif name[0] == "d":
                os.rmdir(top + "/" + name)
            else:
                os.rename(top + "/" + name, f"{top}/to-{os.getpid()}-{name}")

        for m in (a, b):
            m.ls(W)
        for name in names:
            got = race([a, b], attempt, lambda m: m(W), lambda m: name)
            assert sorted(got, key=str) == [errno.ENOENT, None], (name, got)
    left = os.listdir(both_rooms.workspace)
    assert sorted(n[-2:] for n in left) == [f"r{i}" for i in range(6)]


# -- rename -----------------------------------------------------------------------


def test_rename_over_an_existing_file(both_m):
    room = both_m.room
    put(room.workspace, "a", b"new", 0o600)
    put(room.workspace, "b", b"old", 0o644)
    before = os.lstat(host(room, "a"))
    do(os.rename, both_m(W, "a"), both_m(W, "b"))
    assert os.listdir(room.workspace) == ["b"]
    after = os.lstat(host(room, "b"))
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert both_m.ls(W) == ["b"]
    assert both_m.read(W, "b") == b"new"


def test_renameat2_flags(both_m):
    room = both_m.room
    put(room.workspace, "a", b"a")
    put(room.workspace, "b", b"b")
    raises(errno.EEXIST, renameat2, both_m(W, "a"), both_m(W, "b"),
           RENAME_NOREPLACE)
    assert (room_bytes(room, "a"), room_bytes(room, "b")) == (b"a", b"b")
    do(renameat2, both_m(W, "a"), both_m(W, "c"), RENAME_NOREPLACE)
    assert sorted(os.listdir(room.workspace)) == ["b", "c"]
    got = do(outcome, renameat2, both_m(W, "b"), both_m(W, "c"),
             RENAME_EXCHANGE)
    assert got in (None, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
    both = (room_bytes(room, "b"), room_bytes(room, "c"))
    assert both == ((b"b", b"a") if got else (b"a", b"b"))


def test_noreplace_asks_the_vm(both_m):
    room = both_m.room
    put(room.workspace, "a", b"a")
    both_m.ls(W)
    assert not both_m.exists(W, "b")
    room.run("echo made > /workspace/b")
    raises(errno.EEXIST, renameat2, both_m(W, "a"), both_m(W, "b"),
           RENAME_NOREPLACE)
    assert room_bytes(room, "b") == b"made\n"
    assert room_bytes(room, "a") == b"a"


def test_renaming_directories(any_m):
    room = any_m.room
    put(room.workspace, "d/sub/f", b"deep")
    put(room.workspace, "full/x", b"x")
    os.mkdir(host(room, "empty"))
    put(room.workspace, "file", b"f")

    def run(top):
        fd = os.open(top + "/d/sub/f", os.O_RDWR)
        got = [outcome(*c) for c in (
            (os.rename, top + "/d", top + "/full"),      # not empty
            (os.rename, top + "/d", top + "/file"),      # not a directory
            (os.rename, top + "/file", top + "/empty"),  # a directory
            (os.rename, top + "/d", top + "/d/sub/d"),   # into itself
            (os.rename, top + "/d", top + "/empty"),
            (os.rename, top + "/empty", top + "/full/d"))]
        os.pwrite(fd, b"DEEP", 0)
        os.close(fd)
        return got

    got = do(run, any_m(W))
    assert got[0] in (errno.ENOTEMPTY, errno.EEXIST)
    assert got[1:] == [errno.ENOTDIR, errno.EISDIR, errno.EINVAL, None, None]
    assert room_bytes(room, "full/d/sub/f") == b"DEEP"
    assert_same_tree(any_m)


def test_rename_while_open(any_m):
    """What is written after the rename goes to the file, wherever it is."""
    room = any_m.room
    put(room.workspace, "a", b"0123456789")
    put(room.workspace, "other", b"other")

    def run(top):
        fd = os.open(top + "/a", os.O_RDWR)
        os.pwrite(fd, b"AB", 0)
        os.rename(top + "/a", top + "/b")
        os.pwrite(fd, b"CD", 4)
        os.rename(top + "/other", top + "/a")
        os.pwrite(fd, b"EF", 8)
        seen = os.pread(fd, 100, 0)
        os.close(fd)
        return seen

    want = b"AB23CD67EF"
    assert do(run, any_m(W)) == want
    assert room_bytes(room, "b") == want
    assert room_bytes(room, "a") == b"other"


def test_rename_of_a_new_file_before_its_close(any_m):
    """write, rename over, close: the order some programs have."""
    room = any_m.room
    put(room.workspace, "target", b"old")

    def run(top):
        fd = os.open(top + "/temp", CREAT | os.O_EXCL, 0o600)
        os.write(fd, b"new contents")
        os.rename(top + "/temp", top + "/target")
        os.close(fd)

    do(run, any_m(W))
    assert os.listdir(room.workspace) == ["target"]
    assert room_bytes(room, "target") == b"new contents"


def test_rename_of_a_parent_of_an_open_new_file(any_m):
    room = any_m.room

    def run(top):
        os.mkdir(top + "/d")
        fd = os.open(top + "/d/f", CREAT, 0o644)
        os.write(fd, b"one")
        os.rename(top + "/d", top + "/e")
        os.write(fd, b"two")
        os.close(fd)

    do(run, any_m(W))
    assert room_bytes(room, "e/f") == b"onetwo"
    assert os.listdir(room.workspace) == ["e"]


def test_rename_to_itself_and_between_its_links(any_m):
    room = any_m.room
    put(room.workspace, "a", b"x")
    os.link(host(room, "a"), host(room, "b"))
    do(os.rename, any_m(W, "a"), any_m(W, "a"))
    do(os.rename, any_m(W, "a"), any_m(W, "b"))
    assert sorted(os.listdir(room.workspace)) == ["a", "b"]
    assert_same_tree(any_m)


def test_rename_across_file_systems_of_the_vm_is_exdev_or_works(any_m):
    """mv then copies; nothing is lost either way."""
    put(any_m.room.workspace, "f", b"contents")
    any_m.sh("mv workspace/f tmp/g")
    assert read_file(any_m.room.tmp + "/g") == b"contents"
    assert not os.path.exists(host(any_m.room, "f"))


# -- unlink ------------------------------------------------------------------------


def test_unlink_while_open(both_m):
    """The open descriptor goes on working, for reading and writing."""
    room = both_m.room
    data = noise(100_000)
    put(room.workspace, "f", data)

    def run(top):
        fd = os.open(top + "/f", os.O_RDWR)
        os.unlink(top + "/f")
        first = os.pread(fd, 200_000, 0)
        os.pwrite(fd, b"changed", 50_000)
        second = os.pread(fd, 200_000, 0)
        os.ftruncate(fd, 60_000)
        st = os.fstat(fd)
        gone = not os.path.lexists(top + "/f")
        os.fsync(fd)
        os.close(fd)
        return first, second, st.st_size, st.st_nlink, gone

    first, second, size, links, gone = do(run, both_m(W))
    assert first == data
    want = bytearray(data)
    want[50_000:50_007] = b"changed"
    assert second == want
    assert (size, links, gone) == (60_000, 0, True)
    # the kernel does not wait for the release after close()
    wait_until(lambda: os.listdir(room.workspace) == [], 10, "the file's end")
    assert both_m.ls(W) == []


def test_unlink_of_a_large_uncached_file_while_open(any_m):
    room = any_m.room
    data = noise(5 * MIB)
    put(room.workspace, "f", data)

    def run(top):
        fd = os.open(top + "/f", os.O_RDONLY)
        os.unlink(top + "/f")
        got = b"".join(os.pread(fd, MIB, i * MIB) for i in range(5))
        os.close(fd)
        return got

    assert do(run, any_m(W), timeout=60) == data
    wait_until(lambda: os.listdir(room.workspace) == [], 10, "the file's end")
    assert not no_leftovers(room)


def test_a_new_file_unlinked_before_close(any_m):
    """tmpfile(3): create, unlink, use."""
    room = any_m.room

    def run(top):
        fd = os.open(top + "/t", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(top + "/t")
        os.write(fd, b"temporary")
        got = os.pread(fd, 100, 0)
        os.close(fd)
        return got

    assert do(run, any_m(W)) == b"temporary"
    wait_until(lambda: os.listdir(room.workspace) == [], 10, "the file's end")
    assert not no_leftovers(room)


def test_unlink_while_open_then_create_anew(both_m):
    """The name's new file gets none of the old descriptor's writes."""
    room = both_m.room
    put(room.workspace, "f", b"old")

    def run(top):
        old = os.open(top + "/f", os.O_RDWR)
        os.unlink(top + "/f")
        save(top + "/f", b"brand new")
        os.pwrite(old, b"OLD!", 0)
        seen = os.pread(old, 10, 0)
        os.close(old)
        return seen

    assert do(run, both_m(W)) == b"OLD!"
    assert room_bytes(room, "f") == b"brand new"
    assert both_m.read(W, "f") == b"brand new"


def test_replaced_while_open(any_m):
    """The reader of the old version keeps it, the next open has the new."""
    room = any_m.room
    put(room.workspace, "f", b"old version")
    put(room.workspace, "g", b"new")

    def run(top):
        fd = os.open(top + "/f", os.O_RDWR)
        os.pread(fd, 3, 0)
        os.rename(top + "/g", top + "/f")
        os.pwrite(fd, b"OLD", 0)
        old = os.pread(fd, 100, 0)
        new = read_file(top + "/f")
        os.close(fd)
        return old, new

    assert do(run, any_m(W)) == (b"OLD version", b"new")
    assert room_bytes(room, "f") == b"new"


def test_unlink_of_one_of_two_links_while_open(any_m):
    """The other name gets what is written."""
    room = any_m.room
    put(room.workspace, "a", b"0123456789")
    os.link(host(room, "a"), host(room, "b"))
    any_m.ls(W)

    def run(top):
        fd = os.open(top + "/a", os.O_RDWR)
        os.unlink(top + "/a")
        os.pwrite(fd, b"new", 0)
        os.close(fd)

    do(run, any_m(W))
    assert os.listdir(room.workspace) == ["b"]
    assert room_bytes(room, "b") == b"new3456789"


# -- directories ----------------------------------------------------------------------


def test_directories(both_m):
    room = both_m.room
    put(room.workspace, "full/x", b"")
    put(room.workspace, "f", b"")

    def run(top):
        os.umask(0o027)
        os.mkdir(top + "/d", 0o777)
        os.mkdir(top + "/s", 0o1777)
        os.mkdir(top + "/d/e")
        return [outcome(*c) for c in (
            (os.mkdir, top + "/d"), (os.mkdir, top + "/f"),
            (os.mkdir, top + "/none/x"), (os.mkdir, top + "/f/x"),
            (os.rmdir, top + "/full"), (os.rmdir, top + "/f"),
            (os.unlink, top + "/d"), (os.rmdir, top + "/none"),
            (os.rmdir, top + "/d"), (os.rmdir, top + "/d/e"),
            (os.rmdir, top + "/s"))]

    got = do(run, both_m(W))
    assert got[:4] == [errno.EEXIST, errno.EEXIST, errno.ENOENT,
                       errno.ENOTDIR]
    assert got[4] in (errno.ENOTEMPTY, errno.EEXIST)
    assert got[5] == errno.ENOTDIR
    assert got[6] in (errno.EISDIR, errno.EPERM)
    assert got[7:] == [errno.ENOENT, errno.ENOTEMPTY, None, None]
    assert stat.S_IMODE(os.lstat(host(room, "d")).st_mode) == 0o750
    assert sorted(os.listdir(room.workspace)) == ["d", "f", "full"]
    assert_same_tree(both_m)


def test_directory_that_the_vm_filled_is_not_removed(any_m):
    room = any_m.room
    os.mkdir(host(room, "d"))
    assert any_m.ls(W, "d") == []
    room.run("echo x > /workspace/d/new")
    raises((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, any_m(W, "d"))
    assert room_bytes(room, "d/new") == b"x\n"


def test_set_group_id_directories_pass_their_group_on(any_m):
    room = any_m.room
    os.mkdir(host(room, "d"))
    os.chown(host(room, "d"), -1, 1234)
    os.chmod(host(room, "d"), 0o2775)
    do(save, any_m(W, "d", "f"), b"x")
    do(os.mkdir, any_m(W, "d", "e"))
    assert os.lstat(host(room, "d/f")).st_gid == 1234
    assert os.lstat(host(room, "d/e")).st_gid == 1234
    assert_same_tree(any_m)


# -- links and special files ---------------------------------------------------------


def test_hard_links(both_m):
    room = both_m.room
    put(room.workspace, "a", b"first")
    os.mkdir(host(room, "d"))

    def run(top):
        os.link(top + "/a", top + "/d/b")
        save(top + "/d/b", b"second", os.O_WRONLY | os.O_TRUNC)
        st, other = os.lstat(top + "/a"), os.lstat(top + "/d/b")
        return (read_file(top + "/a"), st.st_nlink, st.st_ino == other.st_ino,
                outcome(os.link, top + "/a", top + "/d/b"),
                outcome(os.link, top + "/d", top + "/e"),
                outcome(os.link, top + "/none", top + "/e"))

    got = do(run, both_m(W))
    assert got[:4] == (b"second", 2, True, errno.EEXIST)
    assert got[4] in (errno.EPERM, errno.EACCES)
    assert got[5] == errno.ENOENT
    assert room_bytes(room, "a") == b"second"
    assert (os.lstat(host(room, "a")).st_ino
            == os.lstat(host(room, "d/b")).st_ino)
    do(os.unlink, both_m(W, "a"))
    assert both_m.lstat(W, "d/b").st_nlink == 1
    assert room_bytes(room, "d/b") == b"second"


def test_a_hard_link_of_a_file_just_written(any_m):
    """git: write a temporary file, link it to its name, remove it."""
    def run(top):
        fd = os.open(top + "/tmp_obj", CREAT | os.O_EXCL, 0o444)
        os.write(fd, b"object")
        os.link(top + "/tmp_obj", top + "/obj")
        os.close(fd)
        os.unlink(top + "/tmp_obj")

    do(run, any_m(W))
    assert os.listdir(any_m.room.workspace) == ["obj"]
    assert room_bytes(any_m.room, "obj") == b"object"


def test_mkfifo_and_its_use_by_local_processes(both_m):
    room = both_m.room

    def run(path):
        os.umask(0)
        os.mkfifo(path, 0o620)
        pid = os.fork()
        if pid == 0:
            fd = os.open(path, os.O_WRONLY)
            os.write(fd, b"through")
            os._exit(0)
        fd = os.open(path, os.O_RDONLY)
        got = os.read(fd, 100)
        os.waitpid(pid, 0)
        return got

    assert do(run, both_m(W, "p")) == b"through"
    st = os.lstat(host(room, "p"))
    assert stat.S_ISFIFO(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o620
    do(os.unlink, both_m(W, "p"))
    assert os.listdir(room.workspace) == []


def test_mknod_of_a_regular_file_and_of_others(any_m):
    def run(top):
        os.mknod(top + "/f", stat.S_IFREG | 0o644)
        return outcome(os.mknod, top + "/n", stat.S_IFCHR | 0o600,
                       os.makedev(1, 3))

    device = do(run, any_m(W))
    assert room_bytes(any_m.room, "f") == b""
    refused = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)
    assert device is None or device in refused, device
    if device is not None:
        assert not os.path.lexists(host(any_m.room, "n"))


# -- attributes -----------------------------------------------------------------------


def test_chmod(both_m):
    room = both_m.room
    put(room.workspace, "f", b"#!/bin/sh\necho ran\n", 0o644)
    os.mkdir(host(room, "d"))
    for mode in (0o755, 0o600, 0o4755, 0o2711, 0o1644, 0):
        do(os.chmod, both_m(W, "f"), mode)
        assert stat.S_IMODE(os.lstat(host(room, "f")).st_mode) == mode
        assert stat.S_IMODE(both_m.lstat(W, "f").st_mode) == mode
    for mode in (0o700, 0o1777, 0o2755):
        do(os.chmod, both_m(W, "d"), mode)
        assert stat.S_IMODE(os.lstat(host(room, "d")).st_mode) == mode
    raises(errno.ENOENT, os.chmod, both_m(W, "none"), 0o600)


def test_fchmod_of_a_file_being_written(any_m):
    def run(path):
        fd = os.open(path, CREAT, 0o600)
        os.write(fd, b"#!/bin/sh\n")
        os.fchmod(fd, 0o755)
        os.write(fd, b"echo hi\n")
        os.close(fd)

    do(run, any_m(W, "run.sh"))
    assert room_bytes(any_m.room, "run.sh") == b"#!/bin/sh\necho hi\n"
    assert stat.S_IMODE(
        os.lstat(host(any_m.room, "run.sh")).st_mode) == 0o755
    assert any_m.room.output("/workspace/run.sh").strip() == "hi"


@pytest.mark.root_room
def test_chown_where_the_vms_user_may(any_room):
    put(any_room.workspace, "f", b"x")
    os.symlink("f", host(any_room, "l"))
    with Mount(any_room, "idmap=none") as m:
        do(os.chown, m(W, "f"), 1234, 5678)
        do(os.lchown, m(W, "l"), 11, 22)
        st = m.lstat(W, "f")
        assert (st.st_uid, st.st_gid) == (1234, 5678)
        do(os.chown, m(W, "f"), -1, 77)
    st = os.lstat(host(any_room, "f"))
    assert (st.st_uid, st.st_gid) == (1234, 77)
    st = os.lstat(host(any_room, "l"))
    assert (st.st_uid, st.st_gid) == (11, 22)


def test_chown_where_the_vms_user_may_not():
    with Room(user=1000) as room:
        put(room.workspace, "f", b"x")
        os.chown(host(room, "f"), 1000, 1000)
        with Mount(room, "idmap=none") as m:
            raises(errno.EPERM, os.chown, m(W, "f"), 4321, -1)
        assert os.lstat(host(room, "f")).st_uid == 1000


def test_chown_to_the_own_user_is_mapped(any_m):
    """tar x and cp -a chown to whom they see as the owner."""
    put(any_m.room.workspace, "f", b"x")
    st = any_m.lstat(W, "f")
    do(os.chown, any_m(W, "f"), st.st_uid, st.st_gid)
    now = any_m.lstat(W, "f")
    assert (now.st_uid, now.st_gid) == (st.st_uid, st.st_gid)
    real = os.lstat(host(any_m.room, "f"))
    assert (real.st_uid, real.st_gid) == (TEST_USER, TEST_USER)


TIMES = [(0, 0), (1_000_000_000, 123_456_789), (1_000_000_000, 1),
         (1_600_000_000, 999_999_999), (2_000_000_000, 100_000_000),
         (-1, 500_000_000), (-100_000, 0), (5_000_000_000, 7)]


def ns(t):
    return t[0] * 10**9 + t[1]


def near(room, got, want):
    """busybox's touch knows whole seconds only."""
    if room.busybox:
        return abs(got - want) < 10**9
    return got == want


def test_times_to_the_nanosecond(both_m):
    """The local room reads files whose mtime changed, to tell their type,
    and that moves their atime: so atime is set alone."""
    room = both_m.room
    put(room.workspace, "f", b"x")
    os.mkdir(host(room, "d"))
    os.symlink("nowhere", host(room, "l"))
    for a, b in zip(TIMES, reversed(TIMES)):
        for name in ("f", "d", "l"):
            do(utimensat, both_m(W, name), UTIME_OMIT, b, 0x100)
            do(utimensat, both_m(W, name), a, UTIME_OMIT, 0x100)
            real, seen = os.lstat(host(room, name)), both_m.lstat(W, name)
            assert near(room, real.st_mtime_ns, ns(b)), (name, b)
            assert seen.st_mtime_ns == real.st_mtime_ns, name
            # readlink(2), for the answer, and a listing move it again.
            if name != "l":
                assert near(room, real.st_atime_ns, ns(a)), (name, a)
            if name == "f":
                assert seen.st_atime_ns == real.st_atime_ns, name
            do(utimensat, both_m(W, name), b, a, 0x100)
            real, seen = os.lstat(host(room, name)), both_m.lstat(W, name)
            assert near(room, real.st_mtime_ns, ns(a)), (name, a)
            assert seen.st_mtime_ns == real.st_mtime_ns, name


def test_utime_now_and_omit(both_m):
    room = both_m.room
    put(room.workspace, "f", b"x")
    set_times = lambda a, b: do(utimensat, both_m(W, "f"), a, b)

    def have(a, b):
        st = os.lstat(host(room, "f"))
        assert near(room, st.st_mtime_ns, ns(b)), st.st_mtime_ns
        assert a is None or near(room, st.st_atime_ns, ns(a)), st.st_atime_ns

    set_times((9, 8), (3, 4))
    have(None, (3, 4))
    set_times((5, 6), UTIME_OMIT)
    have((5, 6), (3, 4))
    set_times(UTIME_OMIT, UTIME_OMIT)
    have((5, 6), (3, 4))
    before = time.time_ns()
    set_times(UTIME_NOW, UTIME_OMIT)
    have(None, (3, 4))
    assert abs(os.lstat(host(room, "f")).st_atime_ns - before) < 30 * 10**9
    set_times(UTIME_OMIT, UTIME_NOW)
    assert abs(os.lstat(host(room, "f")).st_mtime_ns - before) < 30 * 10**9
    set_times((9, 8), (3, 4))
    do(os.utime, both_m(W, "f"))  # both now
    real = os.lstat(host(room, "f"))
    assert abs(real.st_atime_ns - before) < 60 * 10**9
    assert abs(real.st_mtime_ns - before) < 60 * 10**9
    assert both_m.lstat(W, "f").st_mtime_ns == real.st_mtime_ns


def test_times_set_on_a_descriptor_before_close_stay(any_m):
    """cp -p, tar, rsync: write, futimens, close; the save must not undo it."""
    room = any_m.room

    def run(path, data):
        fd = os.open(path, SAVE, 0o644)
        os.write(fd, data)
        os.utime(fd, ns=(10**18 + 1, 10**18 + 2))
        os.close(fd)

    for name, data in (("small", b"x"), ("large", noise(2 * MIB))):
        do(run, any_m(W, name), data)
        st = os.lstat(host(room, name))
        assert near(room, st.st_mtime_ns, 10**18 + 2)
        assert any_m.lstat(W, name).st_mtime_ns == st.st_mtime_ns
        assert room_bytes(room, name) == data


def test_writing_after_the_times_were_set_moves_mtime(any_m):
    room = any_m.room
    put(room.workspace, "f", b"x")
    os.utime(host(room, "f"), (1000, 1000))

    def run(path):
        fd = os.open(path, os.O_RDWR)
        os.utime(fd, (2000, 2000))
        os.pwrite(fd, b"y", 0)
        os.close(fd)

    do(run, any_m(W, "f"))
    st = os.lstat(host(room, "f"))
    assert st.st_mtime > 10**9
    assert any_m.lstat(W, "f").st_mtime_ns == st.st_mtime_ns


def test_directory_times_follow_changes(any_m):
    """make and rsync look at them."""
    room = any_m.room
    os.mkdir(host(room, "d"))
    os.utime(host(room, "d"), (1000, 1000))
    any_m.ls(W, "d")
    for change, name in ((save, "f"), (os.unlink, "f"), (os.mkdir, "e")):
        args = (b"x",) if change is save else ()
        do(change, any_m(W, "d", name), *args)
        want = os.lstat(host(room, "d"))
        assert want.st_mtime > 1000
        got = any_m.lstat(W, "d")
        assert got.st_mtime_ns == want.st_mtime_ns
        assert got.st_nlink == want.st_nlink
        do(os.utime, any_m(W, "d"), (1000, 1000))


@pytest.mark.root_room
def test_saving_keeps_mode_owner_links_and_inode(both_m):
    room = both_m.room
    for i, mode in enumerate((0o755, 0o600, 0o664, 0o444)):
        put(room.workspace, f"f{i}", b"old" * 100, mode)
        os.chown(host(room, f"f{i}"), 1234, 4321)
        os.link(host(room, f"f{i}"), host(room, f"link{i}"))
    for size in (10, 70_000, 2 * MIB):
        for i in range(4):
            kept = stamp(host(room, f"f{i}"))
            do(save, both_m(W, f"f{i}"), noise(size, i))
            assert stamp(host(room, f"f{i}")) == kept
            assert room_bytes(room, f"link{i}") == noise(size, i)
    assert not no_leftovers(room)


# -- what the VM does meanwhile ---------------------------------------------------


def test_removed_in_the_vm_while_open(any_m):
    """A save then recreates it or fails; never silence without the bytes."""
    room = any_m.room
    put(room.workspace, "f", b"old")

    def run(path):
        fd = os.open(path, os.O_RDWR)
        os.pread(fd, 10, 0)
        room.run("rm /workspace/f")
        os.pwrite(fd, b"new", 0)
        try:
            os.close(fd)
        except OSError as e:
            return e.errno
        return None

    got = do(run, any_m(W, "f"))
    if got is None:
        assert room_bytes(room, "f") == b"new"
    else:
        assert got in (errno.ENOENT, errno.ESTALE, errno.EIO), got


def test_replaced_in_the_vm_while_open(any_m):
    """The other file under that name never becomes a mixture."""
    room = any_m.room
    put(room.workspace, "f", b"old" * 1000)

    def run(path):
        fd = os.open(path, os.O_RDWR)
        os.pread(fd, 10, 0)
        room.run("cd /workspace; printf other >g; mv g f")
        os.pwrite(fd, b"NEW", 6)
        try:
            os.close(fd)
        except OSError as e:
            return e.errno
        return None

    got = do(run, any_m(W, "f"))
    now = room_bytes(room, "f")
    want = b"oldoldNEW" + b"old" * 997
    if got is None:
        assert now == want
    else:
        assert now in (b"other", want)


def test_a_directory_that_the_vm_removed(any_m):
    room = any_m.room
    os.mkdir(host(room, "d"))
    any_m.ls(W, "d")
    room.run("rmdir /workspace/d")
    raises((errno.ENOENT, errno.ESTALE), save, any_m(W, "d", "f"), b"x")
    raises((errno.ENOENT, errno.ESTALE), os.mkdir, any_m(W, "d", "e"))
    assert os.listdir(room.workspace) == []


def test_a_directory_that_the_vm_replaced_by_a_link_is_not_followed(any_m):
    """What is below d was d's; it must not land elsewhere unnoticed."""
    room = any_m.room
    put(room.workspace, "d/f", b"x")
    put(room.workspace, "elsewhere/f", b"keep")
    any_m.ls(W, "d")
    room.run("cd /workspace; rm -r d; ln -s elsewhere d")
    got = do(outcome, os.unlink, any_m(W, "d", "f"))
    if got is None:
        wait_until(lambda: not os.path.exists(
            host(room, "elsewhere/f")), 5, "the file's end")
    else:
        assert room_bytes(room, "elsewhere/f") == b"keep"


# -- permissions --------------------------------------------------------------------


def test_a_read_only_directory():
    with Room(user=1000) as room:
        put(room.workspace, "d/f", b"old")
        os.chmod(host(room, "d"), 0o555)
        os.chown(host(room, "d"), 1000, 1000)
        put(room.workspace, "other", b"not yours", 0o644)  # root's
        os.chmod(room.workspace, 0o777)
        with Mount(room) as m:
            def run(top):
                return [outcome(*c) for c in (
                    (save, top + "/d/new", b"x"), (os.mkdir, top + "/d/e"),
                    (os.unlink, top + "/d/f"), (os.symlink, "a", top + "/d/l"),
                    (os.rename, top + "/d/f", top + "/f"),
                    (os.rename, top + "/other", top + "/d/f"),
                    (os.link, top + "/d/f", top + "/d/g"),
                    (os.mkfifo, top + "/d/p"))]

            assert set(do(run, m(W))) == {errno.EACCES}
            got = do(outcome, save, m(W, "other"), b"mine now",
                     os.O_WRONLY | os.O_TRUNC)
            assert got == errno.EACCES
            assert do(outcome, os.chmod, m(W, "other"), 0o666) == errno.EPERM
        assert room_bytes(room, "other") == b"not yours"
        assert room_bytes(room, "d/f") == b"old"
        assert os.listdir(host(room, "d")) == ["f"]


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_writable_file_in_a_read_only_directory_can_be_saved(size):
    """There is no room beside it for a staging file."""
    with Room(user=1000) as room:
        put(room.workspace, "d/f", b"old", 0o644)
        os.chown(host(room, "d/f"), 1000, 1000)
        os.chmod(host(room, "d"), 0o555)
        kept = stamp(host(room, "d/f"))
        with Mount(room) as m:
            do(save, m(W, "d/f"), noise(size))
        assert room_bytes(room, "d/f") == noise(size)
        assert stamp(host(room, "d/f")) == kept
        assert not no_leftovers(room)


def test_a_file_that_only_others_may_write():
    """The VM decides, not the bits that the mounting user sees."""
    with Room(user=1000) as room:
        put(room.workspace, "f", b"old", 0o666)  # root's, for everybody
        with Mount(room) as m:
            do(save, m(W, "f"), b"new", os.O_WRONLY | os.O_TRUNC)
        assert room_bytes(room, "f") == b"new"
        assert os.lstat(host(room, "f")).st_uid == 0


# -- the mix with .exec ---------------------------------------------------------------


def test_a_save_is_seen_by_the_next_command(both_m):
    for i in range(3):
        do(save, both_m(W, "script.sh"), b"echo version %d\n" % i)
        out = Result(both_m.exec(W, "sh script.sh")).output
        assert out == b"version %d\n" % i


def test_a_name_change_is_seen_by_the_next_command(both_m):
    def run(top):
        os.mkdir(top + "/d")
        save(top + "/d/a", b"x")
        os.rename(top + "/d/a", top + "/d/b")
        os.symlink("b", top + "/d/l")
        os.chmod(top + "/d/b", 0o711)

    do(run, both_m(W))
    out = Result(both_m.exec(W, "stat -c '%a %F %n' d/*")).output
    assert out == b"711 regular file d/b\n777 symbolic link d/l\n"


def test_a_change_by_a_command_is_seen_by_the_next_open(both_m):
    do(save, both_m(W, "f"), b"from here\n")
    assert both_m.read(W, "f") == b"from here\n"
    both_m.exec(W, "echo from the command >> f")
    assert both_m.read(W, "f") == b"from here\nfrom the command\n"
    do(save, both_m(W, "f"), b"and\n", os.O_WRONLY | os.O_APPEND)
    assert room_bytes(both_m.room, "f") == (
        b"from here\nfrom the command\nand\n")


def test_who_holds_the_old_version_sees_the_commands_change(any_m):
    put(any_m.room.workspace, "f", b"old contents")

    def run(top):
        fd = os.open(top + "/f", os.O_RDONLY)
        first = os.pread(fd, 100, 0)
        save(top + "/.exec", b"printf 'new and longer contents' > f",
             os.O_WRONLY)
        size = os.stat(top + "/f").st_size
        new = read_file(top + "/f")
        return first, size, new, os.pread(fd, 100, 0), os.fstat(fd).st_size

    first, size, new, again, held = do(run, any_m(W))
    want = b"new and longer contents"
    assert first == b"old contents"
    assert (size, new) == (len(want), want)
    assert (again, held) == (want, len(want))


def test_unsaved_changes_meet_a_command(any_m):
    """Written, not closed: the command sees the old or the new, and the
    later close delivers."""
    room = any_m.room
    put(room.workspace, "f", b"old")

    def run(top):
        fd = os.open(top + "/f", os.O_RDWR)
        os.pwrite(fd, b"new", 0)
        save(top + "/.exec", b"cat f; echo more > g", os.O_WRONLY)
        seen = os.pread(fd, 10, 0)
        got = read_file(top + "/.exec")
        os.close(fd)
        return seen, got

    seen, got = do(run, any_m(W))
    assert seen == b"new"
    assert got[:3] in (b"old", b"new")
    assert room_bytes(room, "f") == b"new"
    assert any_m.read(W, "g") == b"more\n"


def test_a_command_that_removes_what_was_saved(any_m):
    do(save, any_m(W, "f"), b"x")
    any_m.exec(W, "rm f; mkdir f; echo y > f/g")
    assert stat.S_ISDIR(any_m.lstat(W, "f").st_mode)
    assert any_m.read(W, "f", "g") == b"y\n"
    any_m.exec(W, "rm -r f")
    assert not any_m.exists(W, "f")
    do(save, any_m(W, "f"), b"again")
    assert room_bytes(any_m.room, "f") == b"again"


def test_the_control_file_stays_what_it_is(any_m):
    """E7: it cannot be removed, renamed, linked or replaced."""
    put(any_m.room.workspace, "f", b"x")

    def run(top):
        c = top + "/.exec"
        return [outcome(*a) for a in (
            (os.unlink, c), (os.rename, c, top + "/g"),
            (os.rename, top + "/f", c), (os.link, c, top + "/g"),
            (os.link, top + "/f", c), (os.symlink, "a", c), (os.mkdir, c),
            (os.chmod, c, 0o666), (os.mkfifo, c))]

    got = do(run, any_m(W))
    assert set(got) <= {errno.EPERM, errno.EEXIST}, got
    assert os.listdir(any_m.room.workspace) == ["f"]


@pytest.mark.parametrize("flags", [CREAT, CREAT | os.O_EXCL,
                                   os.O_RDWR | os.O_CREAT | os.O_TRUNC])
def test_a_new_files_inode_number_stays(any_m, flags):
    """tar and sqlite3 compare fstat() after the creation with a later
    stat(): another number means another file."""
    def run(path):
        fd = os.open(path, flags, 0o600)
        seen = [os.fstat(fd).st_ino]
        os.write(fd, b"some")
        os.fsync(fd)
        seen += [os.fstat(fd).st_ino, os.stat(path).st_ino]
        os.write(fd, b"more")
        os.close(fd)
        seen.append(os.stat(path).st_ino)
        os.chmod(path, 0o644)
        seen.append(os.stat(path).st_ino)
        return seen

    assert len(set(do(run, any_m(W, "f")))) == 1
