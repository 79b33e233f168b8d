"""What close() waits for and what it does not, and that work ends when nobody
wants it any more."""

import errno
import json
import os
import resource
import signal

import pytest

from helpers_write import (  # noqa: F401 (both_*: fixtures)
    CREAT, EndedMount, SAVE, W, both_m, both_rooms, close_quietly, host, noise,
    no_leftovers, outcome, pwrite_all, room_bytes, save, write_all,
)
from mountlib import (
    Call, DEADLINE, DRIVER, MIB, Mount, Room, do, put, read_file, run,
    unmount, wait_until,
)

GIB = 1 << 30
LINE = b"one more line of a log that never ends\n"


def data_of(path):
    """Length and (offset, bytes) of what is not a hole."""
    parts = []
    with open(path, "rb", buffering=0) as f:
        end = f.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                start = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(f.fileno(), start, os.SEEK_HOLE)
            parts.append((start, os.pread(f.fileno(), at - start, start)))
    return end, parts


def assert_sparse(path, size, parts):
    """That long, these bytes, zeros elsewhere, and hardly more on disk."""
    want = sum(len(data) for _, data in parts)
    assert os.stat(path).st_size == size
    assert os.stat(path).st_blocks * 512 <= want + (len(parts) + 1) * 128 * 1024
    for start, found in data_of(path)[1]:
        image = bytearray(len(found))
        for offset, data in parts:
            low, high = max(offset, start), min(
                offset + len(data), start + len(found))
            if low < high:
                image[low - start:high - start] = \
                    data[low - offset:high - offset]
        assert found == bytes(image), (start, len(found))
    with open(path, "rb", buffering=0) as f:
        for offset, data in parts:
            assert os.pread(f.fileno(), len(data), offset) == data, offset


# -- whose bytes a close() owes --------------------------------------------------


def append_until(path, stop):
    """A line every few milliseconds, on a descriptor that stays open."""
    import select
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    lines = 0
    while not select.select([stop], [], [], 0.005)[0]:
        write_all(fd, LINE)
        lines += 1
    os.close(fd)
    return lines


def write_here(path, how):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    write_all(fd, b"mine\n")
    if how == "fsync":
        os.fsync(fd)
        there = True
    else:
        there = None
    os.close(fd)
    return there


@pytest.mark.parametrize("how", ["close", "fsync"])
def test_who_appends_keeps_nobody_waiting(room, how):
    """W18"""
    put(room.workspace, "log", b"")
    room.control(latency_ms=100)
    stop = os.pipe()
    with Mount(room) as m:
        m.ls(W)
        call = Call(append_until, m(W, "log"), stop[0])
        wait_until(lambda: m.lstat(W, "log").st_size > 0, DEADLINE, "a line")
        for _ in range(3):
            do(write_here, m(W, "log"), how, timeout=20)
            assert not call.finished()
        assert room_bytes(room, "log").count(b"mine\n") == 3
        os.write(stop[1], b"x")
        lines = call.result()
    assert room_bytes(room, "log").count(LINE) == lines
    for fd in stop:
        os.close(fd)


def test_an_fsync_has_what_was_written_while_another_was_under_way(both_m):
    """W2, W18: what a save under way does not have in it goes with the
    next."""
    both_m.ls(W)
    both_m.room.control(latency_ms=200)

    def run_it(path):
        fd = os.open(path, CREAT, 0o644)
        write_all(fd, b"first\n")
        child = os.fork()
        if child == 0:
            os.fsync(fd)
            os._exit(0)
        wait_until(lambda: both_m.room.state()["inflight"] > 0, DEADLINE)
        write_all(fd, b"second\n")
        os.fsync(fd)
        there = room_bytes(both_m.room, "f")
        os.waitpid(child, 0)
        os.close(fd)
        return there

    assert do(run_it, both_m(W, "f")) == b"first\nsecond\n"


# -- holes ------------------------------------------------------------------------


def make_sparse(path, size, parts, flags=CREAT):
    fd = os.open(path, flags, 0o640)
    try:
        for offset, data in parts:
            pwrite_all(fd, data, offset)
        os.ftruncate(fd, size)
    except BaseException:
        close_quietly(fd)
        raise
    os.close(fd)


LAYOUTS = {
    "hole": [],
    "head": [(0, noise(3000))],
    "tail": [(4 * GIB - 70_000, noise(70_000))],
    "parts": [(0, noise(10)), (GIB, noise(200_000)), (GIB + 300_000, b"x"),
              (3 * GIB + 1, noise(2 * MIB, 2))],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_holes_of_a_new_file_cost_nothing(both_m, layout):
    """W19"""
    room, parts = both_m.room, LAYOUTS[layout]
    both_m.ls(W)
    both_m.forget()
    do(make_sparse, both_m(W, "f"), 4 * GIB, parts, timeout=60)
    count = both_m.count()
    assert count["command"] <= 1 + sum(
        1 + len(data) // 30_000 for _, data in parts), count
    assert_sparse(host(room, "f"), 4 * GIB, parts)
    assert os.stat(host(room, "f")).st_mode & 0o7777 == 0o640
    assert both_m.lstat(W, "f").st_size == 4 * GIB
    assert not no_leftovers(room)


def test_holes_over_an_existing_file(both_m):
    """W4, W19"""
    room, m = both_m.room, both_m
    put(room.workspace, "f", noise(100_000), 0o604)
    os.link(host(room, "f"), host(room, "g"))
    before = os.stat(host(room, "f"))
    parts = LAYOUTS["parts"]
    do(make_sparse, m(W, "f"), 4 * GIB, parts, SAVE, timeout=60)
    assert_sparse(host(room, "g"), 4 * GIB, parts)
    after = os.stat(host(room, "f"))
    assert (after.st_ino, after.st_mode, after.st_nlink) == \
        (before.st_ino, before.st_mode, 2)
    assert not no_leftovers(room)


@pytest.mark.parametrize("fault", [{"lost": True}, {"status": 503}])
@pytest.mark.parametrize("flags", [CREAT, CREAT | os.O_EXCL])
def test_a_sparse_file_whose_answer_is_lost(both_m, fault, flags):
    """W2, W19"""
    room, parts = both_m.room, [(GIB, noise(300_000))]
    both_m.ls(W)
    for nth in range(1, 12):
        name = f"f{nth}"
        room.control(faults=[{"match": {"kind": "command", "nth": nth},
                              "fault": fault}])
        do(make_sparse, both_m(W, name), 2 * GIB, parts, flags, timeout=60)
        room.no_faults()
        assert_sparse(host(room, name), 2 * GIB, parts)
    both_m.sh("true > workspace/last")
    assert not no_leftovers(room)


def test_recovered_holes_stay_holes(room, tmp_path):
    """W6, W19"""
    cache = str(tmp_path / "cache")
    put(room.workspace, "old", noise(200_000))
    parts = [(0, noise(5000)), (3 * GIB, noise(100_000))]
    with EndedMount(room, "timeout=2", "cache_timeout=600",
                    cache=cache) as m:
        m.ls(W)
        m.read(W, "old")
        room.fault({"status": 500}, kind="command")
        assert do(outcome, make_sparse, m(W, "new"), 5 * GIB, parts,
                  timeout=60) == errno.EIO
        assert do(outcome, make_sparse, m(W, "hole"), 5 * GIB, [],
                  timeout=60) == errno.EIO
        assert do(outcome, make_sparse, m(W, "old"), 5 * GIB,
                  [(GIB, b"changed")], os.O_WRONLY, timeout=60) == errno.EIO
        m.unmount()
        room.no_faults()
    found = {}
    for where, _, names in os.walk(cache + "/recovery"):
        found.update((n, os.path.join(where, n)) for n in names)
    assert sorted(found) == ["hole", "new", "old"], m.stderr()[-2000:]
    assert_sparse(found["new"], 5 * GIB, parts)
    assert_sparse(found["hole"], 5 * GIB, [])
    assert_sparse(found["old"], 5 * GIB,
                  [(0, noise(200_000)), (GIB, b"changed")])


# -- what nobody wants any more -----------------------------------------------------


def uploading(room, m, call):
    """Until pieces of it have come."""
    began = room.state()["arrived"]
    wait_until(lambda: call.finished() or room.state()["arrived"] > began + 8,
               DEADLINE, "the upload")
    assert not call.finished()


@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "existing"])
def test_a_removed_file_is_not_uploaded_any_further(both_rooms, old):
    """W20"""
    room = both_rooms
    data = noise(12 * MIB)
    pieces = len(data) // 75_000
    if old:
        put(room.workspace, "f", old)
    with Mount(room) as m:
        m.ls(W)
        room.control(latency_ms=500)
        m.forget()
        call = Call(save, m(W, "f"), data)
        uploading(room, m, call)
        m.sh("rm workspace/f")
        call.result()
        assert m.count()["command"] < pieces * 3 // 4
        room.control(latency_ms=0)
        assert not os.path.exists(host(room, "f"))
        assert not no_leftovers(room)
        assert not m.exists(W, "f")


def test_a_removal_that_is_refused_loses_nothing(tmp_path):
    """W20: it is uploaded all the same, then."""
    with Room(user=1000) as room:
        put(room.workspace, "d/f", b"old", 0o666)
        os.chmod(host(room, "d"), 0o777)
        with Mount(room, "cache_timeout=600") as m:
            m.ls(W, "d")
            m.read(W, "d", "f")
            os.chmod(host(room, "d"), 0o555)
            room.control(latency_ms=300)
            call = Call(save, m(W, "d", "f"), noise(3 * MIB))
            uploading(room, m, call)
            assert m.sh("rm -f workspace/d/f", ok=False).status != 0
            room.control(latency_ms=0)
            call.result()
            assert room_bytes(room, "d/f") == noise(3 * MIB)


def recovered(cache):
    found = {}
    for where, _, names in os.walk(cache + "/recovery"):
        found.update((n, read_file(os.path.join(where, n))) for n in names)
    return found


@pytest.mark.parametrize("signals", [0, 1, 2])
def test_an_unmount_during_an_upload_ends(room, tmp_path, signals):
    """W6, W22: by itself after three times `timeout`, at a first SIGTERM after
    some seconds, at a second one at once."""
    cache, data = str(tmp_path / "cache"), noise(12 * MIB)
    with EndedMount(room, "timeout=%d" % (3 if signals == 0 else 60),
                    cache=cache) as m:
        m.ls(W)
        # More than a minute for all of it.
        room.control(latency_ms=2500)
        call = Call(save, m(W, "f"), data)
        uploading(room, m, call)
        call.signal(signal.SIGKILL)
        call._collect(DEADLINE)
        assert unmount(m.dir).status == 0
        wait_until(lambda: "1 unsent" in m.stderr(), DEADLINE)
        for i in range(signals):
            m.signal(signal.SIGTERM)
            wait_until(lambda: m.stderr().count("signal 15") > i, DEADLINE)
        assert m.wait_end(40) == 0
        room.control(latency_ms=0)
        assert recovered(cache) == {"f": data}, m.stderr()[-2000:]
        assert not os.path.exists(host(room, "f"))


def test_two_sigterms_end_a_mount_in_an_upload(room, tmp_path):
    """W22"""
    cache, data = str(tmp_path / "cache"), noise(12 * MIB)
    with EndedMount(room, "timeout=60", cache=cache) as m:
        m.ls(W)
        room.control(latency_ms=2500)
        call = Call(outcome, save, m(W, "f"), data)
        uploading(room, m, call)
        m.signal(signal.SIGTERM)
        assert call.result() in (errno.EINTR, errno.ENOTCONN, errno.EIO)
        wait_until(lambda: "signal 15" in m.stderr(), DEADLINE)
        m.signal(signal.SIGTERM)
        assert m.wait_end(40) == 0
        assert recovered(cache) == {"f": data}, m.stderr()[-2000:]


# -- many at once -----------------------------------------------------------------


def hold_many(directory, count, ready):
    low, high = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (high, high))
    for i in range(count):
        os.write(os.open(f"{directory}/{i}", CREAT, 0o644), b"%d\n" % i)
    os.write(ready, b"x")
    signal.pause()


def threads(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(f.read().split("Threads:")[1].split()[0])


def statistics(m):
    return json.loads(run([DRIVER, "--stats", m.dir, "--json"]).out)


def test_many_files_closed_at_once_take_few_threads(room):
    """W21, S5"""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, most // 3)
    put(room.workspace, "other", b"other")
    ready = os.pipe()
    with Mount(room) as m:
        m.ls(W)
        os.mkdir(host(room, "d"))
        m.exec("workspace", "true")
        call = Call(hold_many, m(W, "d"), count, ready[1])
        os.read(ready[0], 1)
        found = statistics(m)["unsent"]
        assert found["files"] == count, found
        assert found["bytes"] == sum(len(b"%d\n" % i) for i in range(count))
        room.control(latency_ms=100)
        call.signal(signal.SIGKILL)
        seen = 0
        while statistics(m)["unsent"]["files"] > count // 4:
            seen = max(seen, threads(m.pid))
            assert m.read(W, "other") == b"other"
        assert 0 < seen < 120, seen
        call._collect(DEADLINE)
        room.control(latency_ms=0)
        wait_until(lambda: statistics(m)["unsent"]["files"] == 0, DEADLINE,
                   "all of them")
    for i in range(count):
        assert room_bytes(room, "d", str(i)) == b"%d\n" % i
    for fd in ready:
        os.close(fd)


def test_uploads_do_not_keep_a_small_file_waiting(room):
    """W21"""
    with Mount(room) as m:
        m.ls(W)
        room.control(latency_ms=1000)
        calls = [Call(save, m(W, f"big{i}"), noise(8 * MIB, i))
                 for i in range(6)]
        uploading(room, m, calls[0])
        do(save, m(W, "small"), b"small", timeout=20)
        assert not any(c.finished() for c in calls)
        room.control(latency_ms=0)
        for c in calls:
            c.result()
    for i in range(6):
        assert room_bytes(room, f"big{i}") == noise(8 * MIB, i)


def test_a_dead_service_does_not_let_them_fail_one_after_another(
        room, tmp_path):
    """F1, W21: those that wait for their turn share the time."""
    cache, ready = str(tmp_path / "cache"), os.pipe()
    with EndedMount(room, "timeout=2", cache=cache) as m:
        os.mkdir(host(room, "d"))
        m.ls(W, "d")
        call = Call(hold_many, m(W, "d"), 400, ready[1])
        os.read(ready[0], 1)
        room.fault({"status": 500}, kind="command")
        call.signal(signal.SIGKILL)
        call._collect(DEADLINE)
        wait_until(lambda: m.stderr().count("not saved") >= 400, 20,
                   "all to fail")
        room.no_faults()
        assert m.unmount() == 0
    # As many as could be sent in the time that an unmount has.
    kept = recovered(cache)
    for i in range(400):
        assert kept.get(str(i)) == b"%d\n" % i or \
            room_bytes(room, "d", str(i)) == b"%d\n" % i
    for fd in ready:
        os.close(fd)


# -- a new VM -----------------------------------------------------------------------


def save_all(directory, count):
    """How the saving of each went: 0 or the errno."""
    return [outcome(save, f"{directory}/new{i}", b"new %d" % i)
            for i in range(count)]


def test_what_is_written_to_the_new_vm_is_saved_there(room, tmp_path):
    """F15, F18: while the old one's unsent files are being recovered."""
    cache, count = str(tmp_path / "cache"), 1500
    ready = os.pipe()
    with Mount(room, cache=cache) as m:
        m.ls(W)
        call = Call(hold_many, m(W), count, ready[1])
        os.read(ready[0], 1)
        room.control(renew=True)
        wait_until(lambda: m.exists(W) and W in m.ls(), DEADLINE)
        said = do(save_all, m(W), 200)
        call.signal(signal.SIGKILL)
        call._collect(DEADLINE)
        there = {n for n in os.listdir(host(room)) if n.startswith("new")}
        saved = {f"new{i}" for i, e in enumerate(said) if e is None}
        assert saved, said[:20]
        assert saved <= there, sorted(saved - there)[:10]
        for name in saved:
            assert room_bytes(room, name) == b"new " + name[3:].encode()
        wait_until(lambda: len(recovered(cache)) >= count, DEADLINE,
                   "the old one's files")
        assert not saved & set(recovered(cache))
    assert sum(n.isdigit() for n in recovered(cache)) == count
    assert not [n for n in os.listdir(host(room)) if n.isdigit()]
    for fd in ready:
        os.close(fd)


# -- signals --------------------------------------------------------------------------


def test_stray_signals_change_nothing(room):
    """F19"""
    with EndedMount(room) as m:
        m.ls()
        for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF",
                     "SIGIO", "SIGPWR", "SIGPIPE", "SIGWINCH", "SIGCHLD",
                     "SIGURG", "SIGUSR1"):
            m.signal(getattr(signal, name))
        do(save, m(W, "f"), b"here")
        assert room_bytes(room, "f") == b"here"
        m.signal(signal.SIGHUP)
        m.signal(signal.SIGTERM)
        assert m.wait_end() == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_each_signal_that_ends(room, name):
    """U2, F19"""
    with EndedMount(room, args=["-s"]) as m:
        m.ls()
        m.signal(signal.SIGUSR1)
        m.signal(getattr(signal, name))
        assert m.wait_end() == 0
