"""Memory that is not there: the n-th allocation of the driver fails.

`make check TESTS=` builds tests/nomem/gentilityfs, whose allocations fail on
demand, and the unit tests likewise.  CHECK_LONG=1 lets each one fail in turn;
else some of them, evenly spread.
"""

import errno
import glob
import mmap
import os
import stat
import struct

import pytest

from helpers_write import close_quietly, outcome, save
from mountlib import (
    BUILD, DEADLINE, Mount, Room, do, put, read_file, run,
)

NOMEM = os.path.join(BUILD, "tests", "nomem")
DRIVER = os.path.join(NOMEM, "gentilityfs")
LONG = bool(os.environ.get("CHECK_LONG"))
MOST = 1000 if LONG else 12
BIG = bytes(range(256)) * 1200  # more than a command carries

pytestmark = pytest.mark.skipif(
    "TSAN_OPTIONS" in os.environ, reason="too slow for that")


class Memory:
    """What the driver and its test share; see tests/nomem/nomem.h."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.write(bytes(40))
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 40)

    def get(self, at):
        return struct.unpack_from("=Q", self.map, 8 * at)[0]

    def set(self, at, value):
        struct.pack_into("=Q", self.map, 8 * at, value)

    count = property(lambda self: self.get(0))
    failed = property(lambda self: self.get(3))
    where = property(lambda self: self.get(4))

    def fail(self, n, many=1):
        """The n-th from now, and those after it."""
        self.set(3, 0)
        self.set(1, 0)
        self.set(2, self.count + n + many)
        self.set(1, self.count + n)

    def fine(self):
        self.set(1, 0)
        self.set(2, 0)

    def site(self):
        """Where it failed, for whoever reads the failure."""
        return run(["addr2line", "-f", "-p", "-e", DRIVER,
                    hex(self.where)]).text.strip()


class ShortMount(Mount):
    """A mount of the driver whose memory runs out."""

    def __init__(self, room, memory, *options, **kw):
        super().__init__(room, *options,
                         env={"NOMEM_CONTROL": memory.path}, **kw)

    def command_line(self):
        return [DRIVER, *super().command_line()[1:]]


@pytest.fixture
def memory(tmp_path):
    return Memory(str(tmp_path / "memory"))


# -- what is done ----------------------------------------------------------------


def fail(error):
    raise error


def image(top):
    """Everything below: type, mode, and bytes or text."""
    found = {}
    for where, dirs, files in os.walk(top, onerror=fail):
        for name in dirs + files:
            if name.startswith(".gentilityfs-"):
                continue  # of an open file; removed a moment later
            path = os.path.join(where, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            what = os.readlink(path) if stat.S_ISLNK(st.st_mode) else \
                read_file(path) if stat.S_ISREG(st.st_mode) else None
            found[os.path.relpath(path, top)] = (
                kind, None if what is None else len(what),
                0 if stat.S_ISLNK(st.st_mode) else st.st_mode & 0o777,
                st.st_nlink if stat.S_ISREG(st.st_mode) else 0, what)
    return found


def sync_all(top):
    """What could not be sent before must be possible now."""
    for where, _, files in os.walk(top, onerror=fail):
        for name in files:
            path = os.path.join(where, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)


def read_all(d):
    seen = image(d)
    assert seen["file"][4] == b"some bytes\n" and seen["big"][4] == BIG
    assert seen["d/below"][4] == b"below" and seen["l"][4] == "file"


def append(d):
    fd = os.open(d + "/big", os.O_RDWR)
    try:
        os.pwrite(fd, b"new", 1000)
        os.fsync(fd)
        os.pwrite(fd, b"end", len(BIG))
    except OSError:
        close_quietly(fd)
        raise
    os.close(fd)


def remove_open(d):
    fd = os.open(d + "/big", os.O_RDWR)
    try:
        os.unlink(d + "/big")
        assert os.pread(fd, len(BIG) + 1, 0) == BIG
    finally:
        close_quietly(fd)


def replace_open(d):
    fd = os.open(d + "/big", os.O_RDONLY)
    try:
        os.rename(d + "/file", d + "/big")
        assert os.pread(fd, len(BIG) + 1, 0) == BIG
    finally:
        close_quietly(fd)


def copy(d):
    a = os.open(d + "/big", os.O_RDONLY)
    b = os.open(d + "/file", os.O_WRONLY)
    try:
        n = os.copy_file_range(a, b, len(BIG), 0, 0)
        assert n == len(BIG)
    except OSError:
        close_quietly(a)
        close_quietly(b)
        raise
    os.close(a)
    os.close(b)


def look(d):
    os.statvfs(d)
    assert os.getxattr(d + "/file", "user.gentility.cached") in (
        b"no", b"yes", b"partly")
    os.getxattr(d + "/file", "user.gentility.mime_type")


def command(d):
    save(d + "/.exec", b"echo made >made; echo out", os.O_WRONLY)
    said = read_file(d + "/.exec")
    assert said.startswith(b"out\n--- exit 0, 1 files changed\n"), said


def long_command(d):
    save(d + "/.exec", b"printf %s '" + b"x" * 100000 + b"' >made",
         os.O_WRONLY)
    assert read_file(d + "/.exec").startswith(b"--- exit 0, 1 files changed")


# By name: the act, and how the room differs after it: a path below, what is
# there then (None: nothing; a number: so many names; True: something).
ACTS = {
    "look": (look, {}),
    "read": (read_all, {}),
    "save_new": (lambda d: save(d + "/new", b"new bytes"),
                 {"new": b"new bytes"}),
    "save_large": (lambda d: save(d + "/new", BIG), {"new": BIG}),
    "save_old": (lambda d: save(d + "/file", b"other"), {"file": b"other"}),
    "append": (append, {"big": BIG[:1000] + b"new" + BIG[1003:] + b"end"}),
    "truncate": (lambda d: os.truncate(d + "/big", 5), {"big": BIG[:5]}),
    "lock": (lambda d: save(d + "/a.lock", b"1", os.O_WRONLY | os.O_CREAT |
                            os.O_EXCL), {"a.lock": b"1"}),
    "mkdir": (lambda d: os.mkdir(d + "/new"), {"new": True}),
    "mkfifo": (lambda d: os.mkfifo(d + "/new"), {"new": True}),
    "symlink": (lambda d: os.symlink("file", d + "/new"), {"new": True}),
    "link": (lambda d: os.link(d + "/file", d + "/new"),
             {"new": b"some bytes\n"}),
    "rename": (lambda d: os.rename(d + "/file", d + "/d/new"),
               {"file": None, "d/new": b"some bytes\n"}),
    "rename_over": (lambda d: os.rename(d + "/file", d + "/d/below"),
                    {"file": None, "d/below": b"some bytes\n"}),
    "rename_over_open": (replace_open,
                         {"file": None, "big": b"some bytes\n"}),
    "rename_linked": (lambda d: os.rename(d + "/file", d + "/h1"),
                      {"file": None, "h1": b"some bytes\n", "h2": b"h"}),
    "rename_dir": (lambda d: os.rename(d + "/d", d + "/e"),
                   {"d": None, "e/below": b"below"}),
    "rmdir": (lambda d: os.rmdir(d + "/empty"), {"empty": None}),
    "unlink": (lambda d: os.unlink(d + "/file"), {"file": None}),
    "unlink_linked": (lambda d: os.unlink(d + "/h1"),
                      {"h1": None, "h2": b"h"}),
    "unlink_open": (remove_open, {"big": None}),
    "chmod": (lambda d: os.chmod(d + "/file", 0o600), {"file": 0o600}),
    "utime": (lambda d: os.utime(d + "/file", (1000, 2000)), {}),
    "copy": (copy, {"file": BIG}),
    "exec": (command, {"made": b"made\n"}),
    "exec_long": (long_command, {"made": b"x" * 100000}),
}


def furnish(top):
    """What each act finds."""
    put(top, "file", b"some bytes\n")
    put(top, "big", BIG)
    put(top, "d/below", b"below")
    put(top, "h1", b"h")
    os.link(top + "/h1", top + "/h2")
    os.mkdir(top + "/empty")
    os.symlink("file", top + "/l")


def happened(top, changes):
    """Is it in the room as the program was told?"""
    for name, what in changes.items():
        path = os.path.join(top, name)
        if what is None or what is True:
            assert os.path.lexists(path) == bool(what), name
        elif isinstance(what, int):
            assert stat.S_IMODE(os.stat(path).st_mode) == what, name
        else:
            assert read_file(path) == what, name


def spread(total):
    """Which allocations fail, of so many."""
    return range(1, total + 1, max(1, -(-total // MOST)))


@pytest.mark.parametrize("many", [1, pytest.param(
    4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ACTS)
def test_an_act_without_memory(memory, name, many):
    """R10"""
    act, changes = ACTS[name]
    with Room() as room:
        for n in range(MOST + 1):
            top = os.path.join(room.workspace, f"{n}")
            os.mkdir(top)
            furnish(top)
        with ShortMount(room, memory) as m:
            assert do(os.listdir, m("workspace"))
            before = memory.count
            do(act, m("workspace/0"))
            happened(os.path.join(room.workspace, "0"), changes)
            total = memory.count - before
            wrong = []
            for k, n in enumerate(spread(total), 1):
                try:
                    one_failure(room, m, memory, str(k), act, changes, n, many)
                except (AssertionError, OSError) as e:
                    wrong.append((n, memory.site(), str(e)[:300]))
                    if m.process.poll() is not None:
                        break
            assert not wrong, "\n".join(map(str, wrong))


def one_failure(room, m, memory, k, act, changes, n, many):
    here, there = m("workspace", k), os.path.join(room.workspace, k)
    memory.fail(n, many)
    try:
        error = do(outcome, act, here)
    finally:
        memory.fine()
    assert m.process.poll() is None, "the driver is gone"
    if error is None:
        happened(there, changes)
    else:
        assert error in (errno.ENOMEM, errno.EIO), os.strerror(error)
    do(sync_all, here)
    mine, its = do(image, here), image(there)
    for path in sorted(set(mine) | set(its)):
        assert mine.get(path) == its.get(path), (
            error, path, (mine.get(path) or ())[:4],
            (its.get(path) or ())[:4])


# -- its begin and its end ---------------------------------------------------------


def test_the_begin_without_memory(memory):
    """R10"""
    with Room() as room:
        with ShortMount(room, memory) as m:
            m.ls()
            total = memory.count
        wrong = []
        for n in spread(total):
            memory.set(0, 0)
            memory.fail(n)
            m = ShortMount(room, memory)
            try:
                with m:
                    failed = memory.failed
                    memory.fine()
                    assert "workspace" in m.ls(), "wrong names"
            except (AssertionError, OSError) as e:
                # It may refuse, with a word.
                if m.status != 1 or not m.last_words.endswith(b"\n"):
                    wrong.append((n, memory.site(), m.status, str(e)[:300],
                                  m.last_words[-300:]))
        assert not wrong, "\n".join(map(str, wrong))


def test_the_end_without_memory(memory):
    """R10: what is unsent goes to the room or to the recovery folder."""
    with Room() as room:
        wrong, n, step = [], 1, 1 if LONG else 5
        while n < 2000:
            with ShortMount(room, memory) as m:
                m.ls("workspace")
                fd = os.open(m("workspace", f"f{n}"),
                             os.O_WRONLY | os.O_CREAT)
                os.write(fd, BIG)
                mark = memory.count
                memory.fail(n)
                os.kill(m.pid, 15)
                status = m.process.wait(DEADLINE)
                close_quietly(fd)
                memory.fine()
                saved = os.path.join(room.workspace, f"f{n}")
                found = [saved] + glob.glob(
                    m.cache + "/recovery/**/f*", recursive=True)
                found = [f for f in found if os.path.isfile(f)
                         and read_file(f) == BIG]
                if status != 0 or not found:
                    wrong.append((n, memory.site(), status, m.stderr()[-300:]))
                over = not memory.failed
                total = memory.count - mark
            if over:
                break
            n += max(step, 1 if LONG else total // 12)
        assert not wrong, "\n".join(map(str, wrong))


# -- the units -----------------------------------------------------------------------

# These wait for requests or threads that are then never made.
SKIP = {"test_api": "test_shutdown_ends_all_waits",
        "test_wait": "test_a_long_job_holds_up_nobody"}


@pytest.mark.parametrize("name", [
    os.path.basename(path) for path in sorted(glob.glob(NOMEM + "/test_*"))])
def test_a_unit_without_memory(name):
    """R10"""
    # Servers that are slow on purpose, and large listings.
    slow = name in ("test_api", "test_http", "test_listing")
    most = "0" if LONG else "2" if slow else "10"
    done = run([os.path.join(NOMEM, name)], 3000,
               {"NOMEM_MAX": most, "NOMEM_SKIP": SKIP.get(name, "")})
    assert done.status == 0, done.text[-3000:]
