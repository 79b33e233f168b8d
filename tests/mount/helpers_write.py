"""What the tests of changing files share.

Functions that touch a mount are meant for do(): they run in a process of
their own, under its deadline.
"""

import contextlib
import ctypes
import os
import random
import shutil
import stat
import subprocess
import tempfile
import zlib

import pytest

from mountlib import (
    Mount, Room, TEST_USER, do, mounts, read_file, unmount,
)

W = "workspace"
CREAT = os.O_WRONLY | os.O_CREAT
SAVE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
libc = ctypes.CDLL(None, use_errno=True)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2


def noise(size, seed=1):
    """Bytes that no compressor makes smaller."""
    return random.Random(seed).randbytes(size)


def text(size, seed=1):
    """Bytes that compress well, no two lines the same."""
    lines, have, i = [], 0, 0
    while have < size:
        lines.append(b"line %d of %d, all work and no play\n" % (i, seed))
        have += len(lines[-1])
        i += 1
    return b"".join(lines)[:size]


# -- rooms: the core runs with both kinds of tools in the quick suite, the rest
# with busybox only in the slow one (run without -m "not slow") ----------------


@pytest.fixture(params=["gnu", pytest.param(
    "busybox", marks=pytest.mark.slow)])
def any_room(request):
    """Takes the place of conftest's, and so of any_m's room, where it is
    imported."""
    with Room(busybox=request.param == "busybox") as room:
        yield room


@pytest.fixture(params=["gnu", "busybox"])
def both_rooms(request):
    with Room(busybox=request.param == "busybox") as room:
        yield room


@pytest.fixture
def both_m(both_rooms):
    with Mount(both_rooms) as mount:
        yield mount


def quick_if(values, *quick):
    """Parameters, of which all but these are slow."""
    return [v if v in quick else pytest.param(
        *(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow)
        for v in values]


# -- a mount whose end is part of the test ------------------------------------


class EndedMount(Mount):
    """A mount that the test itself may unmount, signal or kill."""

    def unmount(self, timeout=60):
        """fusermount3 -u, then wait for the driver's end; its status."""
        done = unmount(self.dir)
        assert done.status == 0, done
        return self.wait_end(timeout)

    def signal(self, number):
        self.process.send_signal(number)

    def wait_end(self, timeout=60):
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the driver still runs after {timeout} s") from None
        if self.dir in mounts():
            unmount(self.dir, lazy=True)
        self.process = None
        self.status = 0
        return status


# -- small calls ----------------------------------------------------------------


def check(result, *names):
    if result == -1:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), *names)
    return result


def renameat2(old, new, flags):
    check(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD,
                         os.fsencode(new), flags), old)


def fallocate(fd, mode, offset, length):
    check(libc.fallocate(fd, mode, ctypes.c_long(offset),
                         ctypes.c_long(length)))


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def utimensat(path, atime, mtime, flags=0):
    """Times are (seconds, nanoseconds), or UTIME_NOW, UTIME_OMIT."""
    pair = (Timespec * 2)()
    for t, value in zip(pair, (atime, mtime)):
        t.sec, t.nsec = value if isinstance(value, tuple) else (0, value)
    check(libc.utimensat(AT_FDCWD, os.fsencode(path), pair, flags), path)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def pwrite_all(fd, data, offset):
    view = memoryview(data)
    while view:
        n = os.pwrite(fd, view, offset)
        view, offset = view[n:], offset + n


def close_quietly(fd):
    with contextlib.suppress(OSError):
        os.close(fd)


def save(path, data, flags=SAVE, mode=0o644, sync=False):
    """Open, write, close, as a plain editor does; each error shows."""
    fd = os.open(path, flags, mode)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    except BaseException:
        close_quietly(fd)
        raise
    os.close(fd)


def at(path, *changes, flags=os.O_RDWR):
    """Write each (offset, bytes) on one descriptor."""
    fd = os.open(path, flags)
    try:
        for offset, data in changes:
            pwrite_all(fd, data, offset)
    except BaseException:
        close_quietly(fd)
        raise
    os.close(fd)


def outcome(func, *args, **kw):
    """None, or the errno that it failed with."""
    try:
        func(*args, **kw)
    except OSError as e:
        return e.errno
    return None


# -- both sides -------------------------------------------------------------------


def host(room, *parts):
    """A path of /workspace on the host's side."""
    top = room.workspace
    if any(isinstance(p, bytes) for p in parts):
        parts = [os.fsencode(p) for p in parts]
        top = os.fsencode(top)
    return os.path.join(top, *parts)


def room_bytes(room, *parts):
    return read_file(host(room, *parts))


def image(path, times=True, contents=True):
    """A tree as comparable values: type, mode, links, size, mtime, content."""
    top = os.fsencode(path)
    found, inodes = {}, {}
    todo = [b""]
    while todo:
        rel = todo.pop()
        full = os.path.join(top, rel) if rel else top
        st = os.lstat(full)
        kind = stat.S_IFMT(st.st_mode)
        row = [stat.filemode(st.st_mode)]
        if kind == stat.S_IFDIR:
            todo += [os.path.join(rel, n) for n in os.listdir(full)]
        elif kind == stat.S_IFLNK:
            row.append(os.readlink(full))
        elif kind == stat.S_IFREG:
            row += [st.st_size, st.st_nlink]
            if contents:
                row.append(zlib.crc32(read_file(full)))
            if times:
                row.append(st.st_mtime_ns)
            # names of one inode stay names of one inode
            inodes.setdefault((st.st_dev, st.st_ino), []).append(rel)
        found[rel] = row
    groups = sorted(sorted(names) for names in inodes.values()
                    if len(names) > 1)
    return found, groups


def differences(a, b):
    """What two images have different, for a message."""
    (fa, ga), (fb, gb) = a, b
    rows = [(n, fa.get(n), fb.get(n)) for n in sorted(set(fa) | set(fb))
            if fa.get(n) != fb.get(n)]
    if ga != gb:
        rows.append((b"hard links", ga, gb))
    return rows


def assert_same_tree(m, *parts, other=None, times=True, timeout=60):
    """The mount shows what the room's own tree is."""
    other = other or host(m.room, *parts)
    rows = differences(
        do(image, m(W, *parts), times=times, timeout=timeout),
        image(other, times=times))
    assert not rows, rows[:20]


def stamp(path):
    """What a save has to keep."""
    st = os.lstat(path)
    return (st.st_ino, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid,
            st.st_nlink)


def no_leftovers(room):
    """Staging files of ours that stay in the room; should be none.

    A directory of small notes about finished requests may stay in /tmp.
    """
    left = []
    for top in (room.home, room.tmp, room.workspace):
        for where, dirs, files in os.walk(os.fsencode(top)):
            for name in files:
                path = os.path.join(where, name)
                if b"gentilityfs" in name or (
                        b".gentilityfs" in path
                        and os.lstat(path).st_size > 256):
                    left.append(path)
    return left


# -- rooms of particular kinds ------------------------------------------------------


class TinyRoom:
    """A room whose /workspace (or all of it) is a small tmpfs.

    Used as `with TinyRoom(size) as room`.  Skips where tmpfs can't be
    mounted.
    """

    def __init__(self, size, everything=False, options="", **opts):
        self.size, self.everything = size, everything
        self.options = options
        self.opts = opts

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="gentilityfs-tiny-")
        os.chmod(self.top, 0o755)
        self.tmpfs = self.top if self.everything else self.top + "/workspace"
        os.makedirs(self.tmpfs, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o",
             f"size={self.size},mode=755,uid={TEST_USER}{self.options}",
             "tmpfs", self.tmpfs],
            capture_output=True)
        if done.returncode != 0:
            shutil.rmtree(self.top, ignore_errors=True)
            pytest.skip("no tmpfs can be mounted here: "
                        + done.stderr.decode().strip())
        self.room = Room(dir=self.top, **self.opts)
        try:
            self.room.start()
        except BaseException:
            self.drop()
            raise
        return self.room

    def __exit__(self, *exc):
        try:
            self.room.stop()
        finally:
            self.drop()

    def drop(self):
        subprocess.run(["umount", "-l", self.tmpfs], capture_output=True)
        shutil.rmtree(self.top, ignore_errors=True)


def from_nth(n, fault, kind="any", count=400):
    """Fault rules for the nth request and all after it."""
    return [{"match": {"kind": kind, "nth": n + i}, "fault": fault}
            for i in range(count)]


def fds_path(fd):
    return f"/proc/self/fd/{fd}"
