"""The room's VM is replaced in the middle of what a program does: before each
request in turn.  Nothing of the old VM is shown as the new one's, and no bytes
are lost."""

import errno
import os
import re
import shutil
import threading

import pytest

import actions
from hostile import Hostile
from mountlib import (
    DEADLINE, MIB, Call, Mount, do, outcome, pattern, put, raises, read_file,
    wait_until,
)

W = "workspace"
LONG = bool(os.environ.get("CHECK_LONG"))
OLD = "of the old VM "
CLEAN = {errno.ESTALE, errno.EIO, errno.ENOENT, errno.EREMOTEIO,
         errno.ENOTCONN} - {errno.ENOTCONN}


def attempt(run, directory):
    try:
        return run(directory), 0
    except OSError as e:
        return None, e.errno


class Renewing:
    """A rule: before the nth request from now the VM is another one, in which
    fill(directory) has put what it has."""

    def __init__(self, room, nth, fill):
        self.room, self.left, self.fill = room, nth, fill
        self.lock = threading.Lock()
        self.done = False

    def __call__(self, request, forward):
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.room.control(renew=True)
                self.fill(self.room)
                self.done = True
        return None


def other(data):
    """The same length, and never the same."""
    return bytes(b ^ 0x55 for b in data)


def fill_new(room):
    """The names, sizes and times are those of the old, and so might the
    inodes be; the bytes are not."""
    d = room.workspace + "/d"
    actions.fill(d)
    for name, data in (("small", actions.SMALL), ("large", actions.LARGE)):
        with open(f"{d}/{name}", "wb") as f:
            f.write(other(data))
        os.utime(f"{d}/{name}", ns=(10**18, 10**18))


def recovered(m):
    """All that is in the recovery folder, by name."""
    found = {}
    for path, _, names in os.walk(m.cache + "/recovery"):
        for name in names:
            found[name] = read_file(os.path.join(path, name))
    return found


SAVES = {"save": ("small", actions.NEW), "save new": ("new", actions.NEW),
         "save large": ("large", actions.BIG_NEW),
         "append": ("small", actions.SMALL + b"line\n"),
         "patch": ("large", actions.PATCHED)}
READS = {"cat small": actions.SMALL, "cat large": actions.LARGE,
         "head large": actions.LARGE[:1000]}
QUICK = ["cat large", "save", "save new", "save large", "append", "rename",
         "ls -l", ".exec"]


@pytest.mark.parametrize("name", actions.ACTIONS if LONG else QUICK)
def test_the_vm_is_replaced_before_each_request(name, tmp_path):
    """F3, F15"""
    from mountlib import Room
    run, right = actions.ACTIONS[name]
    for nth in range(1, 12):
        with Room() as room, Hostile(room) as bad:
            actions.fill(room.workspace + "/d")
            cache = str(tmp_path / f"cache{nth}")
            with Mount(bad, "cache_timeout=60", cache=cache) as m:
                m.ls(W, "d")
                m.settle()
                rule = bad.rule = Renewing(room, nth, fill_new)
                value, error = do(attempt, run, m(W, "d"), timeout=40)
                bad.rule = None
                if not rule.done:
                    assert right(room.workspace + "/d", value) and not error
                    break
                check(room, m, name, value, error)
            after_unmount(room, m, name, value, error)


def check(room, m, name, value, error):
    d = room.workspace + "/d"
    if name in READS:
        good = [READS[name], other(READS[name])]
        assert value in good or error in CLEAN, (error, value and value[:60])
    elif name not in SAVES:
        assert value is not None or error in CLEAN, errno.errorcode[error]
    # The new VM has its own files, or the new contents whole.
    saved = SAVES.get(name, ("", b""))
    for file, data in (("small", actions.SMALL), ("large", actions.LARGE)):
        now = actions.bytes_of(f"{d}/{file}")
        good = [other(data)] + ([saved[1]] if file == saved[0] else [])
        if file == "small" and name == "append":
            good.append(other(data) + b"line\n")
        if file == "large" and name == "patch":
            good.append(other(data)[:1_000_000] + b"PATCHED" +
                        other(data)[1_000_007:])
        assert now in good, (name, error, now and (len(now), now[:60]))
    # What the mount shows from now on is the new VM's.
    wait_until(lambda: shows(m, room), DEADLINE, "the new VM's files")


def shows(m, room):
    try:
        names = m.ls(W, "d")
    except OSError:
        return False
    # What was staged for the old one, unnoticed, is hidden.
    local = {n for n in os.listdir(room.workspace + "/d")
             if not n.startswith(".gentilityfs-")}
    if set(names) != local:
        return False
    return all(m.read(W, "d", n) == read_file(room.workspace + "/d/" + n)
               for n in ("small", "large"))


def after_unmount(room, m, name, value, error):
    """What a failed close() was about is in the recovery folder."""
    if name in SAVES and value is None and error == errno.ESTALE:
        file, data = SAVES[name]
        if name in ("save", "save new", "save large"):
            found = recovered(m)
            if file in found:
                assert found[file] == data
            else:  # refused by open(), before anything was written
                assert not found, found


def hold_and_write(path, data, ready, go):
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    os.write(fd, data)
    os.write(ready, b"x")
    os.read(go, 1)
    said = {}
    for name, call in (("write", lambda: os.write(fd, b"more")),
                       ("read", lambda: os.pread(fd, 5, 0)),
                       ("fsync", lambda: os.fsync(fd)),
                       ("close", lambda: os.close(fd))):
        try:
            call()
            said[name] = 0
        except OSError as e:
            said[name] = e.errno
    return said


def test_what_was_written_to_the_old_vm_s_file_is_recovered(room, tmp_path):
    """F15: a program that had written, and not closed, when the VM went."""
    put(room.workspace, "f", "old\n", 0o666)
    ready, go = os.pipe(), os.pipe()
    cache = str(tmp_path / "cache")
    with Mount(room, cache=cache) as m:
        call = Call(hold_and_write, m(W, "f"), b"precious\n", ready[1], go[0])
        os.read(ready[0], 1)
        room.control(renew=True)
        put(room.workspace, "f", "the new VM's\n", 0o666)
        m.exec("tmp", "true")
        wait_until(lambda: "recovery" in m.stderr(), DEADLINE)
        os.write(go[1], b"x")
        said = call.result()
        assert said["fsync"] == errno.ESTALE or said["close"] == \
            errno.ESTALE, said
        wait_until(lambda: outcome(m.read, W, "f") == b"the new VM's\n",
                   DEADLINE)
        place = re.search(r"(/\S*recovery/\S+/f)\b", m.stderr())
        assert place, m.stderr()
        assert read_file(place[1]).startswith(b"precious\n")
    assert read_file(room.workspace + "/f") == b"the new VM's\n"
    for fd in ready + go:
        os.close(fd)


@pytest.mark.parametrize("form", ["range", "off"])
def test_a_large_read_never_mixes_two_vms(room, form):
    """F15: bytes of one VM, then an error; not of the other."""
    room.control(raw=form)
    size = 24 * MIB
    old, new = pattern(size, 1), pattern(size, 2)

    def place(data):
        path = put(room.workspace, "big", data)
        os.utime(path, ns=(10**18, 10**18))

    def read_on(path, ready, go):
        fd = os.open(path, os.O_RDONLY)
        parts = [os.read(fd, 65536)]
        os.write(ready, b"x")
        os.read(go, 1)
        try:
            while part := os.read(fd, 65536):
                parts.append(part)
        except OSError as e:
            return b"".join(parts), e.errno
        return b"".join(parts), 0

    place(old)
    with Mount(room) as m:
        m.ls(W)
        ready, go = os.pipe(), os.pipe()
        call = Call(read_on, m(W, "big"), ready[1], go[0])
        os.read(ready[0], 1)
        room.control(renew=True)
        place(new)
        os.write(go[1], b"x")
        data, error = call.result(60)
        assert data == old[:len(data)], "bytes of another file"
        assert error in (errno.ESTALE, errno.EIO, errno.ENOENT) or \
            data == old, (error, len(data))
        wait_until(lambda: outcome(m.read, W, "big") == new, 40)
        for fd in ready + go:
            os.close(fd)
