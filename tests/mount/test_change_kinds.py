"""What is rarely made in a mount: sockets, and paths that are too long for a
system call."""

import errno
import os
import socket
import stat

import pytest

from helpers_write import (  # noqa: F401 (both_*: fixtures)
    W, both_m, both_rooms, host, noise, outcome, save,
)
from mountlib import MIB, Mount, Room, do, read_file

TALK = 10  # seconds


def bind(directory, name, umask):
    """A bound socket; by a short name, since bind(2) takes no long one."""
    os.umask(umask)
    os.chdir(directory)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(TALK)
    s.bind(name)
    return s


@pytest.mark.parametrize("name", ["s", "-a b'c\n", "n" * 100])
def test_sockets_are_made_by_bind(both_m, name):
    """It is one in the room, and leads to who made it, on this machine."""
    def run(directory):
        with bind(directory, name, 0o027) as s:
            s.listen(1)
            with socket.socket(socket.AF_UNIX) as c:
                c.settimeout(TALK)
                c.connect(name)
                there, _ = s.accept()
                there.sendall(b"hello")
                got = c.recv(100)
                there.close()
            again = outcome(socket.socket(socket.AF_UNIX).bind, name)
        dead = outcome(socket.socket(socket.AF_UNIX).connect, name)
        return got, again, dead

    got = do(run, both_m(W))
    assert got == (b"hello", errno.EADDRINUSE, errno.ECONNREFUSED)
    st = os.lstat(host(both_m.room, name))
    assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o750
    seen = both_m.lstat(W, name)
    assert seen.st_mode == st.st_mode
    do(os.unlink, both_m(W, name))
    assert os.listdir(both_m.room.workspace) == []


@pytest.mark.root_room
def test_a_socket_by_mknod_is_one_request(both_m):
    """Any mode and a name of any length, also in a setgid directory."""
    both_m.ls(W)
    os.mkdir(host(both_m.room, "g"))
    os.chown(host(both_m.room, "g"), 0, 4321)
    os.chmod(host(both_m.room, "g"), 0o2755)
    both_m.exec(W, ":")
    both_m.ls(W, "g")

    def run(path):
        os.umask(0)
        os.mknod(path, 0o777 | stat.S_IFSOCK)

    for name in ("n" * 255, *map("x".__mul__, range(1, 6))):
        path = os.path.join(W, "g", name)
        both_m.forget()
        do(run, both_m(path))
        assert both_m.count()["total"] == 1
        st = os.lstat(host(both_m.room, "g/" + name))
        assert stat.S_ISSOCK(st.st_mode), name
        assert stat.S_IMODE(st.st_mode) == 0o777
        assert (st.st_uid, st.st_gid) == (0, 4321)
    assert len(os.listdir(host(both_m.room, "g"))) == 6


def test_where_no_socket_can_be_made(both_m):
    def make(path):
        os.mknod(path, stat.S_IFSOCK | 0o600)

    def run(top):
        os.mkdir(top + "/d")
        make(top + "/s")
        return [outcome(make, top + p) for p in ("/d", "/s", "/none/s")]

    got = do(run, both_m(W))
    assert got == [errno.EEXIST, errno.EEXIST, errno.ENOENT]
    with Mount(both_m.room, "ro") as m:
        assert do(outcome, make, m(W, "t")) == errno.EROFS


# -- deeper than 4,096 bytes -----------------------------------------------------

DEEP = "d" * 250
LEVELS = 18


def descend(top, levels=LEVELS):
    os.chdir(top)
    for _ in range(levels):
        os.chdir(DEEP)


@pytest.fixture(params=["sh", "bash", "busybox"])
def deep_m(request):
    opts = {"sh": {}, "bash": {"shell": "/bin/bash"},
            "busybox": {"busybox": True}}[request.param]
    with Room(**opts) as room, Mount(room) as mount:
        yield mount


def test_paths_that_are_too_long_for_a_system_call(deep_m):
    """A2: everything works in a directory of any depth."""
    large = noise(3 * MIB, 7)

    def make(top):
        os.chdir(top)
        for depth in range(LEVELS):
            os.mkdir(DEEP)
            os.chdir(DEEP)
            save("f", b"at %d" % depth)
            # A name that fits, beside which nothing longer does.
            save("s", b"short")

    def change(top):
        descend(top)
        os.rename("f", "g")
        os.link("g", "h")
        os.symlink("g", "l")
        os.mkfifo("p")
        os.mkdir("sub")
        os.rename("g", "sub/g")
        os.chmod("h", 0o640)
        os.utime("h", (5, 6))
        save("large", large)
        with open("large", "r+b") as f:
            f.write(b"changed")
        os.truncate("s", 2)
        os.mkdir("away")
        os.rmdir("away")
        os.unlink("l")
        os.rename("sub/g", top + "/up")
        os.rename(top + "/up", "g")
        return [outcome(os.mkdir, "sub"), outcome(os.unlink, "none"),
                outcome(os.rmdir, ".."), outcome(os.mkdir, "g/x")]

    def look(top):
        descend(top)
        st = os.lstat("h")
        return (sorted(os.listdir(".")), os.listdir("sub"), read_file("g"),
                read_file("s"), read_file("large"), st.st_nlink,
                st.st_mode & 0o7777, st.st_mtime)

    do(make, deep_m(W), timeout=60)
    errors = do(change, deep_m(W), timeout=60)
    assert errors[0] == errno.EEXIST and errors[1] == errno.ENOENT
    assert errors[2] in (errno.ENOTEMPTY, errno.EBUSY, errno.EINVAL)
    assert errors[3] == errno.ENOTDIR
    want = (["f", "g", "h", "large", "p", "s", "sub"], [],
            b"at %d" % (LEVELS - 1), b"sh", b"changed" + large[7:], 2, 0o640,
            6)
    want[0].remove("f")
    assert do(look, deep_m.room.workspace) == want
    assert do(look, deep_m(W), timeout=60) == want
    # Checked anew, and by a mount that did not make it.
    deep_m.exec(W, ":")
    assert do(look, deep_m(W), timeout=60) == want
    with Mount(deep_m.room) as other:
        assert do(look, other(W), timeout=60) == want


def test_removing_what_is_too_deep(deep_m):
    def run(top):
        os.chdir(top)
        for _ in range(LEVELS):
            os.mkdir(DEEP)
            os.chdir(DEEP)
            save("f", b"x")

    do(run, deep_m(W), timeout=60)
    deep_m.sh("rm -r workspace/d*", timeout=60)
    assert os.listdir(deep_m.room.workspace) == []
