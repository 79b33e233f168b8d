"""Sockets and devices made in a mount."""

import errno
import os
import socket
import stat

import pytest

from helpers_write import (  # noqa: F401 (both_*: fixtures)
    W, both_m, both_rooms, host, outcome,
)
from mountlib import Mount, do

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
