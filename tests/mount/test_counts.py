"""How many requests the user waits for, counted in the room's log."""

import errno
import os

import pytest

from mountlib import (
    DEADLINE, MIB, Call, Mount, do, outcome, pattern, put, raises, read_file,
    sh, wait_until
)

ENTRIES = 1000


def total(count):
    return count["command"] + count["file"] + count["raw"] + count["create"]


def fill(room, where="big", entries=ENTRIES):
    for i in range(entries):
        put(room.workspace, f"{where}/file {i:04d}", b"x" * i)
    os.symlink("file 0001", room.workspace + f"/{where}/link")


def test_a_cold_ls_l_of_1000_entries_is_one_command(any_room):
    """A4: all attributes and link targets with it; within cache_timeout the
    next costs nothing (A5)."""
    fill(any_room)
    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.forget()
        done = m.sh("ls -l big")
        assert done.text.count("\n") == ENTRIES + 2
        count = m.count()
        assert count["command"] == total(count) <= 1, count
        m.sh("df . >/dev/null")  # find asks for that, too
        m.forget()
        assert m.sh("ls -l big").text == done.text
        m.sh("ls -lanR big; find big -size +1c; stat big/* >/dev/null; "
             "readlink big/link; du -s big")
        assert total(m.count()) == 0


def test_the_first_ls_of_the_mount_s_root_costs_nothing(any_room):
    """A4: the mount's first command brings the top of the tree along."""
    fill(any_room)
    with Mount(any_room, "cache_timeout=60", path="/workspace/big") as m:
        m.forget()
        assert m.sh("ls -l").text.count("\n") == ENTRIES + 2
        assert total(m.count()) <= 1


def test_mounting_costs_few_requests(any_room):
    """A4: a probe, and the top of the tree with it."""
    any_room.reset_log()
    with Mount(any_room) as m:
        m.ls()
        assert total(m.count()) <= 2


def test_looking_up_what_is_not_there_costs_nothing(any_room):
    """A4: in a directory that is known; shell prompts and git do it all the
    time."""
    fill(any_room)
    with Mount(any_room, "cache_timeout=60") as m:
        m.ls("workspace/big")
        m.forget()

        def ask(top):
            for name in (".git", "HEAD", ".hg", "x/y", "file", "FILE 0001"):
                assert not os.path.lexists(os.path.join(top, name))
            for i in range(300):
                assert not os.path.lexists(os.path.join(top, f"no{i}"))

        do(ask, m("workspace/big"))
        do(ask, m("workspace/big"))
        assert total(m.count()) == 0


def test_a_lookup_in_an_unknown_directory_answers_all_others(any_room):
    """A4: the whole directory is listed once."""
    fill(any_room)
    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.forget()
        raises(errno.ENOENT, os.lstat, m("big/nothing"))
        for i in range(20):
            m.lstat(f"big/file {i:04d}")
        assert total(m.count()) <= 1


def test_a_file_is_one_get_once_its_directory_is_known(any_room):
    """R6: and read again none (R3)."""
    data = pattern(50_000)
    put(any_room.workspace, "f", data)
    put(any_room.workspace, "max", pattern(MIB))
    put(any_room.workspace, "empty", b"")
    with Mount(any_room, "cache_timeout=60") as m:
        m.ls("workspace")
        for name, want in (("f", data), ("max", pattern(MIB))):
            m.forget()
            assert m.read("workspace", name) == want
            count = m.count()
            assert count["file"] + count["raw"] == 1, count
            assert count["command"] == 0, count
            m.forget()
            assert m.read("workspace", name) == want
            m.sh('sha256sum "workspace/$1"; head -c 10 "workspace/$1"', name)
            assert total(m.count()) == 0
        m.forget()
        assert m.read("workspace/empty") == b""
        assert total(m.count()) == 0


@pytest.mark.parametrize("where", ["workspace", ""])
def test_a_command_is_one_command_and_one_revalidation(any_room, where):
    """E11: whatever it changed, and however much is cached."""
    fill(any_room)
    with Mount(any_room, "cache_timeout=60") as m:
        m.sh("ls -lR workspace tmp home >/dev/null; cat 'workspace/big/file "
             "0900' >/dev/null")
        for script in ("true", "touch /workspace/new", "rm /workspace/new",
                       "echo x > '/workspace/big/file 0900'",
                       "mkdir /workspace/d; mv /workspace/d /workspace/e"):
            m.forget()
            m.exec(where, script)
            count = m.count()
            assert count["command"] <= 2, (script, count)
            assert total(count) == count["command"], (script, count)
            sent = [e for e in any_room.log("command")
                    if script.split("/")[0].strip() in e["command"]]
            assert len(sent) >= 1
        m.forget()
        m.sh("ls -l workspace >/dev/null")
        assert total(m.count()) <= 1


def test_concurrent_readers_of_one_file_share_one_get(any_room):
    """A11: eight at once."""
    data = pattern(300_000)
    put(any_room.workspace, "f", data)
    with Mount(any_room, "cache_timeout=60") as m:
        m.ls("workspace")
        m.forget()
        any_room.control(latency_ms=200)
        calls = [Call(read_file, m("workspace/f")) for _ in range(8)]
        assert all(c.result() == data for c in calls)
        any_room.control(latency_ms=0)
        count = m.count()
        assert count["file"] + count["raw"] == 1, count
        assert count["command"] == 0, count


def test_concurrent_listings_of_one_directory_share_one_command(any_room):
    """A11"""
    fill(any_room)
    with Mount(any_room, "cache_timeout=3", path="/workspace") as m:
        any_room.run("sleep 3.1")  # what the mount brought along is stale
        m.forget()
        any_room.control(latency_ms=200)
        calls = [Call(os.listdir, m("big")) for _ in range(8)]
        assert all(len(c.result()) == ENTRIES + 1 for c in calls)
        any_room.control(latency_ms=0)
        assert total(m.count()) <= 2


def test_needs_that_arrive_meanwhile_go_out_together(any_room):
    """A11: stats in 16 directories while a first is under way: few
    commands."""
    for i in range(16):
        put(any_room.workspace, f"d{i}/sub/file", b"x" * i)
    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.ls()
        m.forget()
        any_room.control(latency_ms=300)
        calls = [Call(os.lstat, m(f"d{i}/sub/file")) for i in range(16)]
        assert [c.result().st_size for c in calls] == list(range(16))
        any_room.control(latency_ms=0)
        assert total(m.count()) <= 6


def test_a_walk_of_many_directories_takes_few_commands(any_room):
    """A11: a traversal is seen, and subtrees are listed breadth first."""
    for i in range(8):
        for j in range(8):
            put(any_room.workspace, f"t/d{i}/e{j}/f/file")
    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.forget()
        done = m.sh("find t | wc -l")
        assert int(done.text) == 1 + 8 + 64 + 64 + 64
        count = m.count()
        assert total(count) <= 12, count  # of 137 directories


def test_a_search_through_many_small_files_takes_few_requests(any_room):
    """A11, R6: files about to be read are fetched in bulk."""
    for i in range(200):
        put(any_room.workspace, f"src/f{i:03d}.c", b"int f%d;\n" % i)
    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.ls("src")
        m.forget()
        assert m.sh("grep -rc int src | wc -l").text == "200\n"
        count = m.count()
        assert total(count) <= 60, count


def test_reading_only_the_last_files_of_each_directory_is_a_row_too(any_room):
    """As git status does with files as young as its index."""
    for d in range(20):
        for i in range(25):
            put(any_room.workspace, f"d{d:02}/f{i:02}", f"{d} {i}\n")

    def read_some(top):
        return [read_file(f"{top}/d{d:02}/f{i:02}")
                for d in range(20) for i in range(19, 25)]

    with Mount(any_room) as m:
        m.ls("workspace")
        m.forget()
        assert do(read_some, m("workspace")) == [
            b"%d %d\n" % (d, i) for d in range(20) for i in range(19, 25)]
        assert total(m.count()) <= 12


def test_stale_metadata_is_checked_in_one_request(any_room):
    """A10: everything that is stale and in use, together."""
    for i in range(10):
        put(any_room.workspace, f"d{i}/file")
    with Mount(any_room, "cache_timeout=0.5", path="/workspace") as m:
        m.sh("ls -lR . >/dev/null")
        any_room.run("sleep 0.6")
        m.forget()
        do(lambda: [os.listdir(m(f"d{i}")) for i in range(10)])
        assert total(m.count()) <= 2


def test_statfs_costs_at_most_one_request_a_minute(any_room):
    """A5: df again and again."""
    with Mount(any_room, "cache_timeout=60") as m:
        m.forget()
        for _ in range(5):
            do(os.statvfs, m.dir)
        assert total(m.count()) <= 1


def test_nothing_is_asked_while_nobody_asks(room):
    """A5: an idle mount leaves the room alone, so that it can expire."""
    put(room.workspace, "f", "x")
    with Mount(room, "cache_timeout=0.1") as m:
        m.ls("workspace")
        m.read("workspace/f")
        m.forget()
        sh("sleep 1.5")
        assert total(m.count()) == 0


# -- cache_timeout=0 -----------------------------------------------------------


def test_an_open_sees_the_change_made_just_before(any_room):
    """A10: strict close-to-open with cache_timeout=0: contents, sizes, names,
    links."""
    top = any_room.workspace
    with Mount(any_room, "cache_timeout=0") as m:
        for i in range(3):
            put(top, "f", f"version {i}" + "x" * (i % 2))
            assert m.read("workspace/f") == b"version %d" % i + b"x" * (i % 2)
            put(top, f"new{i}", "n")
            assert m.read(f"workspace/new{i}") == b"n"
            assert f"new{i}" in m.ls("workspace")
            os.unlink(f"{top}/new{i}")
            raises(errno.ENOENT, read_file, m(f"workspace/new{i}"))
            assert f"new{i}" not in m.ls("workspace")
            os.symlink("f", f"{top}/link{i}")
            assert do(os.readlink, m(f"workspace/link{i}")) == "f"
            os.mkdir(f"{top}/d{i}")
            assert m.ls(f"workspace/d{i}") == []
            put(top, f"d{i}/in", "")
            assert m.ls(f"workspace/d{i}") == ["in"]


def test_without_trust_unchanged_contents_are_not_transferred(any_room):
    """A10, R3: cache_timeout=0 asks for attributes, not for bytes."""
    data = pattern(100_000)
    put(any_room.workspace, "f", data)
    with Mount(any_room, "cache_timeout=0") as m:
        assert m.read("workspace/f") == data
        m.forget()
        for _ in range(3):
            assert m.read("workspace/f") == data
        count = m.count()
        assert count["file"] + count["raw"] == 0, count
        assert 1 <= count["command"] <= 12, count


def test_an_ls_l_without_trust_is_still_few_commands(any_room):
    """A4: cache_timeout=0 does not make a request per entry."""
    fill(any_room, entries=300)
    with Mount(any_room, "cache_timeout=0", path="/workspace") as m:
        m.forget()
        assert m.sh("ls -l big").text.count("\n") == 302
        assert total(m.count()) <= 8


def test_a_listing_without_trust_is_one_command(any_room):
    """A10: also when it has changed: opening it asks, reading it then does
    not."""
    fill(any_room, entries=10)
    with Mount(any_room, "cache_timeout=0", path="/workspace/big") as m:
        names = m.ls()
        m.settle()
        m.forget()
        for i in range(3):
            assert m.ls() == names
            names.append(f"new {i}")
            put(any_room.workspace, f"big/new {i}", "")
            assert m.ls() == sorted(names)
        assert total(m.count()) == 6


def test_the_mounted_directory_goes_and_comes(room):
    """A10: ENOENT meanwhile, for one request."""
    os.mkdir(room.workspace + "/top")
    put(room.workspace, "top/f", "")
    with Mount(room, "cache_timeout=1", path="/workspace/top") as m:
        assert m.ls() == ["f"]
        room.run("rm -r /workspace/top; sleep 1.2")
        m.forget()
        raises(errno.ENOENT, os.stat, m.dir)
        assert total(m.count()) == 1
        raises(errno.ENOENT, os.listdir, m.dir)
        put(room.workspace, "top/g", "")
        wait_until(lambda: do(outcome, os.listdir, m.dir) == ["g"], DEADLINE)
