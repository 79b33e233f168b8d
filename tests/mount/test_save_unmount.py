"""Nothing written is lost at the end: what can be sent is sent, what can't
be lies in a recovery folder, and the log says where."""

import errno
import os
import re
import signal

import pytest

from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    CREAT, EndedMount, SAVE, W, any_room, at, both_m, both_rooms, host, noise,
    outcome, quick_if, room_bytes, save, text, write_all,
)
from mountlib import (
    Call, MIB, do, put, read_file, unmount, wait_until,
)

NEW = text(5000, 3)


class Cache:
    """A cache directory that outlives mounts."""

    def __init__(self, tmp_path):
        self.path = str(tmp_path / "cache")

    def recovered(self, data):
        """Files below the cache that hold exactly this, but for the cache's
        own blocks: those that the log names."""
        found = []
        for where, _, names in os.walk(os.fsencode(self.path)):
            for n in names:
                path = os.path.join(where, n)
                if os.path.isfile(path) and read_file(path) == data:
                    found.append(os.fsdecode(path))
        return found


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def failed_save(path, data, flags=SAVE):
    return outcome(save, path, data, flags)


def hold_open(path, data):
    """Write, and keep the descriptor until killed."""
    fd = os.open(path, CREAT, 0o644)
    os.write(fd, data)
    os.write(1, b"")
    signal.pause()


def named_in(log, cache_path):
    """Paths below the cache that the log names."""
    return re.findall(re.escape(cache_path) + r"[^\s'\"]*", log)


def check_recovered(m, cache, name, data, log=None):
    """A file with the data, whose path ends with the file's path in the VM,
    below a folder that the log names."""
    log = m.stderr() if log is None else log
    found = [p for p in cache.recovered(data)
             if p.endswith("/" + W + "/" + name) or p.endswith(name)]
    assert found, (cache.recovered(data), log[-2000:])
    named = [p.rstrip(".,:;)") for p in named_in(log, cache.path)]
    assert any(f == n or f.startswith(n.rstrip("/") + "/")
               for f in found for n in named), (found, named, log[-2000:])
    for f in found:
        assert os.stat(f).st_mode & 0o077 == 0, "readable for others"
    return found


def test_unmount_sends_what_a_failed_save_left(both_rooms, cache):
    put(both_rooms.workspace, "f", b"old")
    with EndedMount(both_rooms, "timeout=2", cache=cache.path) as m:
        m.ls(W)
        both_rooms.fault({"status": 500}, kind="command")
        assert do(failed_save, m(W, "f"), NEW, timeout=60) == errno.EIO
        both_rooms.no_faults()
        assert m.unmount() == 0
        assert room_bytes(both_rooms, "f") == NEW
        log = m.stderr()
    assert not named_in(log, cache.path), log


def test_unmount_sends_what_is_not_closed_yet(any_room, cache):
    """A lazy unmount while a program still writes: its close delivers."""
    with EndedMount(any_room, cache=cache.path) as m:
        def run(path):
            fd = os.open(path, CREAT, 0o644)
            os.write(fd, b"first ")
            assert unmount(m.dir, lazy=True).status == 0
            os.write(fd, b"second")
            os.close(fd)

        do(run, m(W, "f"))
        m.wait_end()
    assert room_bytes(any_room, "f") == b"first second"


@pytest.mark.parametrize("how", quick_if(
    ["unmount", "SIGTERM", "SIGINT"], "unmount", "SIGTERM"))
@pytest.mark.parametrize("size", quick_if([5000, 3 * MIB], 5000))
def test_what_cannot_be_sent_goes_to_the_recovery_folder(
        room, cache, how, size):
    old, new = noise(size, 1), noise(size + 10, 2)
    put(room.workspace, "dir/f", old)
    with EndedMount(room, "timeout=2", cache=cache.path) as m:
        m.ls(W, "dir")
        room.fault({"status": 500}, kind="command")
        assert do(failed_save, m(W, "dir/f"), new, timeout=60) == errno.EIO
        if how == "unmount":
            m.unmount()
        else:
            m.signal(getattr(signal, how))
            m.wait_end()
        log = m.stderr()
        check_recovered(m, cache, "dir/f", new, log)
        assert "/workspace/dir/f" in log or "dir/f" in log
        room.no_faults()
    assert room_bytes(room, "dir/f") == old


def test_a_change_in_the_middle_is_recovered_whole(room, cache):
    """Not only the range that was written."""
    data = noise(300_000)
    put(room.workspace, "f", data)
    with EndedMount(room, "timeout=2", cache=cache.path) as m:
        assert m.read(W, "f") == data
        room.fault({"status": 500}, kind="command")
        assert do(outcome, at, m(W, "f"), (1000, b"changed"), timeout=60)
        m.unmount()
        room.no_faults()
        new = data[:1000] + b"changed" + data[1007:]
        assert cache.recovered(new), m.stderr()[-2000:]


@pytest.mark.slow
def test_names_in_the_recovery_folder_cannot_lead_out_of_it(room, cache):
    """Any name is recovered under its own name, whatever it is."""
    names = [b"..a", b"a b", b"-rf", b"new\nline", b"%s%n", b"\xff",
             b"n" * 255]
    for n in names:
        put(room.workspace, n, b"old")
    with EndedMount(room, "timeout=2", "cache_timeout=600",
                    cache=cache.path) as m:
        m.ls(W)
        room.fault({"status": 500}, kind="command")
        for i, n in enumerate(names):
            assert do(failed_save, m(W, n), NEW + b"%d" % i,
                      os.O_WRONLY | os.O_TRUNC, timeout=60)
        m.unmount(timeout=120)
        room.no_faults()
    for i, n in enumerate(names):
        assert cache.recovered(NEW + b"%d" % i), n


def test_sigterm_sends_what_it_can(any_room, cache):
    put(any_room.workspace, "f", b"old")
    with EndedMount(any_room, "timeout=2", cache=cache.path) as m:
        m.ls(W)
        any_room.fault({"status": 500}, kind="command")
        assert do(failed_save, m(W, "f"), NEW, timeout=60) == errno.EIO
        any_room.no_faults()
        m.signal(signal.SIGTERM)
        m.wait_end()
        assert room_bytes(any_room, "f") == NEW


def test_sigterm_with_a_writer_still_writing(room, cache):
    """Its unsaved bytes are in the room or in the recovery folder."""
    with EndedMount(room, "timeout=2", cache=cache.path) as m:
        call = Call(hold_open, m(W, "f"), NEW)
        try:
            wait_until(lambda: m.exists(W, "f")
                       and m.lstat(W, "f").st_size == len(NEW), 10,
                       "the writer")
            m.signal(signal.SIGTERM)
            m.wait_end()
        finally:
            call.signal(signal.SIGKILL)
            call._collect(10)
        log = m.stderr()
    there = os.path.exists(host(room, "f")) and room_bytes(room, "f") == NEW
    assert there or cache.recovered(NEW), log[-2000:]


def test_the_target_is_gone_at_unmount(room, cache):
    put(room.workspace, "d/f", b"old")
    with EndedMount(room, "timeout=2", cache=cache.path) as m:
        m.ls(W, "d")

        def run(path):
            fd = os.open(path, os.O_RDWR)
            write_all(fd, NEW)
            room.run("rm -r /workspace/d")
            return outcome(os.close, fd)

        got = do(run, m(W, "d/f"), timeout=60)
        m.unmount()
        if got is None:
            assert room_bytes(room, "d/f") == NEW
        else:
            check_recovered(m, cache, "d/f", NEW, m.stderr())


def test_a_full_disk_at_unmount(cache):
    from helpers_write import TinyRoom
    from test_save_faults import fill_up
    with TinyRoom("1m") as room:
        put(room.workspace, "f", b"old")
        fill_up(room, 0)
        with EndedMount(room, "timeout=2", cache=cache.path) as m:
            m.ls(W)
            assert do(failed_save, m(W, "f"), noise(50_000),
                      timeout=60) == errno.ENOSPC
            m.unmount()
            check_recovered(m, cache, "f", noise(50_000), m.stderr())
        assert room_bytes(room, "f") == b"old"


@pytest.mark.parametrize("size", quick_if([5000, 3 * MIB], 5000))
def test_after_sigkill_the_next_mount_finds_it(room, cache, size):
    old, new = noise(size, 1), noise(size + 10, 2)
    put(room.workspace, "dir/f", old)
    with EndedMount(room, "timeout=2", cache=cache.path) as m:
        m.ls(W, "dir")
        room.fault({"status": 500}, kind="command")
        assert do(failed_save, m(W, "dir/f"), new, timeout=60) == errno.EIO
        m.signal(signal.SIGKILL)
        m.wait_end()
    room.no_faults()
    with EndedMount(room, cache=cache.path) as m:
        wait_until(lambda: named_in(m.stderr(), cache.path)
                   or room_bytes(room, "dir/f") == new, 20,
                   "word of what was not sent")
        log = m.stderr()
        if room_bytes(room, "dir/f") != new:
            check_recovered(m, cache, "dir/f", new, log)
            assert "dir/f" in log
        m.unmount()
    # Said once; it is not said again for ever, and never thrown away.
    if room_bytes(room, "dir/f") != new:
        assert cache.recovered(new)


def test_after_sigkill_of_an_open_writer(room, cache):
    """Written, neither closed nor synced: found all the same."""
    with EndedMount(room, cache=cache.path) as m:
        call = Call(hold_open, m(W, "f"), NEW)
        try:
            wait_until(lambda: m.exists(W, "f")
                       and m.lstat(W, "f").st_size == len(NEW), 10,
                       "the writer")
            m.signal(signal.SIGKILL)
            m.wait_end()
        finally:
            call.signal(signal.SIGKILL)
            call._collect(10)
    with EndedMount(room, cache=cache.path) as m:
        wait_until(lambda: named_in(m.stderr(), cache.path), 20,
                   "word of what was not sent")
        check_recovered(m, cache, "f", NEW, m.stderr())
        m.unmount()


def test_another_rooms_unsent_data_is_not_mixed_in(room, cache):
    from mountlib import Room
    put(room.workspace, "f", b"old")
    with EndedMount(room, "timeout=2", cache=cache.path) as m:
        m.ls(W)
        room.fault({"status": 500}, kind="command")
        assert do(failed_save, m(W, "f"), NEW, timeout=60)
        m.signal(signal.SIGKILL)
        m.wait_end()
    with Room() as other:
        put(other.workspace, "f", b"other's")
        with EndedMount(other, cache=cache.path) as m:
            assert m.read(W, "f") == b"other's"
            do(save, m(W, "g"), b"g")
            m.unmount()
        assert room_bytes(other, "f") == b"other's"
    assert cache.recovered(NEW)
    # The mount of the room itself says so, whoever mounted in between.
    room.no_faults()
    with EndedMount(room, cache=cache.path) as m:
        wait_until(lambda: named_in(m.stderr(), cache.path)
                   or room_bytes(room, "f") == NEW, 10,
                   "word of what was not sent")
        m.unmount()


def test_a_new_vm_sends_unsaved_data_to_the_recovery_folder(room, cache):
    """Consistency: open files get ESTALE, their data is kept."""
    put(room.workspace, "f", b"old")
    with EndedMount(room, "create,timeout=2", cache=cache.path) as m:
        def run(path):
            fd = os.open(path, os.O_RDWR)
            write_all(fd, NEW)
            room.control(renew=True)
            return outcome(os.close, fd)

        got = do(run, m(W, "f"), timeout=60)
        assert got == errno.ESTALE, got and errno.errorcode[got]
        wait_until(lambda: cache.recovered(NEW), 10, "the recovered data")
        check_recovered(m, cache, "f", NEW, m.stderr())
        assert not os.path.exists(host(room, "f"))
        m.unmount()


def test_a_good_mount_leaves_no_recovery_folder(any_room, cache):
    with EndedMount(any_room, cache=cache.path) as m:
        do(save, m(W, "f"), NEW)
        do(save, m(W, "g"), noise(MIB + 1))
        m.unmount()
        assert not named_in(m.stderr(), cache.path)
    assert room_bytes(any_room, "f") == NEW
    for where, dirs, files in os.walk(cache.path):
        assert "recover" not in where.lower() or not files


def test_unmount_waits_for_a_slow_save(any_room):
    any_room.control(latency_ms=300)
    with EndedMount(any_room) as m:
        call = Call(save, m(W, "f"), noise(400_000))
        wait_until(lambda: any_room.state()["inflight"] > 0, 10, "the save")
        unmount(m.dir, lazy=True)
        call.result(60)
        m.wait_end()
    assert room_bytes(any_room, "f") == noise(400_000)
