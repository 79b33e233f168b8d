"""What README says is safe when; the details are in test_write.py,
test_change.py and test_save_faults.py."""

import contextlib
import os
import signal
import stat

import pytest

from helpers_write import (
    CREAT, EndedMount, W, from_nth, host, noise, room_bytes, save,
)
from mountlib import (
    MIB, Call, Mount, do, put, raises, read_file, wait_until,
)

BAD = {"status": 500}


def requests(m):
    count = m.count()
    return count["command"] + count["file"] + count["raw"] + count["create"]


@pytest.mark.parametrize("size", [0, 5000, 200_000, 3 * MIB])
def test_what_is_closed_is_in_the_room(any_m, size):
    """W2: a new file, and saved over."""
    for data in (noise(size), noise(size + 1)):
        do(save, any_m(W, "f"), data)
        assert room_bytes(any_m.room, "f") == data


def sync_twice(path, data, between):
    """What a first fsync says, what is read then, and a second one."""
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    os.write(fd, data)
    try:
        os.fsync(fd)
        said = 0
    except OSError as e:
        said = e.errno
    kept = os.pread(fd, 2 * len(data), 0)
    between()
    os.fsync(fd)
    os.close(fd)
    return said, kept


def test_what_could_not_be_sent_is_sent_by_the_next_fsync(any_room):
    """W3, W4: the old bytes stay in the room, the new ones here."""
    put(any_room.workspace, "f", "old bytes\n", 0o640)
    os.link(host(any_room, "f"), host(any_room, "other"))
    before = os.stat(host(any_room, "f"))
    with Mount(any_room, "timeout=2") as m:
        m.ls(W)
        any_room.control(faults=from_nth(1, BAD, kind="command"))

        def between():
            assert room_bytes(any_room, "f") == b"old bytes\n"
            any_room.no_faults()

        said, kept = do(sync_twice, m(W, "f"), b"new bytes, more\n", between,
                        timeout=120)
        assert said != 0
        assert kept == b"new bytes, more\n"
        assert room_bytes(any_room, "f") == b"new bytes, more\n"
        assert room_bytes(any_room, "other") == b"new bytes, more\n"
        after = os.stat(host(any_room, "f"))
        assert (after.st_ino, after.st_mode, after.st_uid, after.st_nlink) \
            == (before.st_ino, before.st_mode, before.st_uid, 2)


def test_a_save_is_seen_here_and_by_the_next_command(any_m):
    """W5"""
    def write_and_look(path):
        fd = os.open(path, CREAT, 0o644)
        os.write(fd, b"half")
        seen = read_file(path)
        os.write(fd, b" done\n")
        os.close(fd)
        return seen

    assert do(write_and_look, any_m(W, "f")) == b"half"
    assert any_m.exec(W, "cat f").startswith(b"half done\n")


def hold(path, data, stop):
    """Write, and keep the file open until somebody ends the process."""
    fd = os.open(path, CREAT, 0o644)
    os.write(fd, data)
    with open(stop, "w"):
        pass
    signal.pause()
    return fd


@contextlib.contextmanager
def holder(m, data):
    """A process that has written to workspace/f and not closed it."""
    stop = os.path.join(m.top, "written")
    call = Call(hold, m(W, "f"), data, stop)
    try:
        wait_until(lambda: os.path.exists(stop), what="the write")
        yield
    finally:
        call.end()


def recovered(cache, data):
    """Is there a file of these bytes under workspace/f in the folder?"""
    for top, _, names in os.walk(os.path.join(cache, "recovery")):
        for name in names:
            path = os.path.join(top, name)
            if path.endswith("/workspace/f"):
                with open(path, "rb") as f:
                    return f.read() == data
    return False


def test_sigterm_sends_what_was_not_closed(any_room):
    """W6"""
    with EndedMount(any_room) as m:
        m.ls(W)
        with holder(m, b"unsaved\n"):
            m.signal(signal.SIGTERM)
            m.wait_end()
        assert room_bytes(any_room, "f") == b"unsaved\n"


def test_what_cannot_be_sent_at_the_end_is_kept(any_room, tmp_path):
    """W6: under its path in the room, and the log says so."""
    cache = str(tmp_path / "cache")
    with EndedMount(any_room, "timeout=2", cache=cache) as m:
        m.ls(W)
        with holder(m, b"unsaved\n"):
            any_room.control(faults=from_nth(1, BAD))
            m.signal(signal.SIGTERM)
            m.wait_end(120)
        assert recovered(cache, b"unsaved\n"), m.stderr()
        assert cache + "/recovery/" in m.stderr()
        any_room.no_faults()


def test_after_a_sigkill_the_next_mount_finds_it(any_room, tmp_path):
    """W7"""
    cache = str(tmp_path / "cache")
    with EndedMount(any_room, cache=cache) as m:
        m.ls(W)
        with holder(m, b"unsaved\n"):
            m.signal(signal.SIGKILL)
            m.wait_end()
    with Mount(any_room, cache=cache) as m:
        wait_until(lambda: recovered(cache, b"unsaved\n"), what="it")
        assert cache + "/recovery/" in m.stderr()


@pytest.mark.parametrize("name", ["index.lock", ".#f", "d.pid", "a.lck",
                                  "b.lk"])
def test_a_lock_is_made_in_the_room_at_once(any_m, name):
    """W8: before it is closed, so the other mount's O_EXCL fails."""
    def take(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        there = os.path.exists(host(any_m.room, name))
        os.close(fd)
        return there

    assert do(take, any_m(W, name))


COSTS = {
    "save": lambda p: save(p + "/old", b"x" * 4096),
    "mkdir": lambda p: os.mkdir(p + "/new"),
    "rename": lambda p: os.rename(p + "/old", p + "/new"),
    "unlink": lambda p: os.unlink(p + "/old"),
    "chmod": lambda p: os.chmod(p + "/old", 0o600),
    "symlink": lambda p: os.symlink("old", p + "/new"),
}


@pytest.mark.parametrize("change", COSTS)
def test_a_change_is_one_request(any_room, change):
    """W9: in a directory that is known."""
    put(any_room.workspace, "old", "x" * 4096)
    with Mount(any_room, "cache_timeout=60") as m:
        m.ls(W)
        m.lstat(W, "old")
        m.settle()
        m.forget()
        do(COSTS[change], m(W))
        assert requests(m) <= 1, m.count()


def test_extended_attributes_cost_nothing(any_m):
    """W10"""
    put(any_m.room.workspace, "f", "x")
    any_m.ls(W)
    any_m.settle()
    any_m.forget()
    for call in (lambda p: os.getxattr(p, "user.a"),
                 lambda p: os.setxattr(p, "user.a", b"x")):
        raises((95,), call, any_m(W, "f"))
    assert requests(any_m) == 0
