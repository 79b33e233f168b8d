"""The end of a mount: nothing is left behind, whatever was going on."""

import os
import shutil
import signal
import tempfile

import pytest

from mountlib import (
    COMPLAINT, DEADLINE, DRIVER, MIB, Call, Gate, Mount, do, exec_script,
    mounts, pattern, put, read_file, run, unmount, wait_until,
)


def used(m):
    """Some of everything, so that there is something to leave behind."""
    put(m.room.workspace, "f", "x" * 1000)
    put(m.room.workspace, "big", pattern(3 * MIB))
    m.sh("ls -lR workspace home tmp >/dev/null; cat workspace/* >/dev/null; "
         "cat proc/version >/dev/null")
    m.exec("workspace", "echo hi; touch new")
    m.exec("workspace", "rm new", ".exec.json")


@pytest.mark.parametrize("way", ["fusermount3", "umount", "lazy", "TERM",
                                 "INT"])
def test_every_way_of_unmounting_ends_the_driver(any_room, way):
    """U1: status 0, not mounted, and nothing to complain of for sanitizers."""
    if way == "umount" and os.getuid() != 0:
        pytest.skip("needs root")
    with Mount(any_room) as m:
        used(m)
        if way == "umount":
            assert run(["umount", m.dir]).status == 0
        elif way in ("fusermount3", "lazy"):
            assert unmount(m.dir, lazy=way == "lazy").status == 0
        else:
            m.process.send_signal(getattr(signal, "SIG" + way))
        assert m.process.wait(DEADLINE) == 0
        assert m.dir not in mounts()
        assert not COMPLAINT.search(m.stderr_bytes())


def test_nothing_but_contents_is_left_in_the_cache_directory(
        any_room, tmp_path):
    """U1: no run files: a second, idle mount leaves what the first left."""
    cache = tmp_path / "cache"

    def files():
        return sorted((str(p.relative_to(cache)), p.stat().st_size)
                      for p in cache.rglob("*"))

    with Mount(any_room, cache=str(cache)) as m:
        used(m)
    left = files()
    for _ in range(2):
        with Mount(any_room, cache=str(cache)) as m:
            m.ls("workspace")
        assert files() == left
    assert not any(p.is_socket() or p.is_fifo() for p in cache.rglob("*"))


def test_no_process_is_left(room):
    """U1: in the background, too: the program has returned, the daemon ends
    with the mount."""
    top = tempfile.mkdtemp(prefix="gentilityfs-test-")
    point = os.path.join(top, "mnt")
    os.mkdir(point)

    def daemons():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if point.encode() in words and b"gentilityfs" in words[0]:
                found.append(int(pid))
        return found

    try:
        done = run([DRIVER, "-o",
                    f"url={room.url},cache_dir={top}/cache", room.source,
                    point],
                   env={"GENTILITY_API_KEY": room.key})
        assert done.status == 0, done
        # It has returned because the mount works.
        assert "workspace" in do(os.listdir, point)
        assert len(daemons()) == 1
        assert unmount(point).status == 0
        wait_until(lambda: not daemons(), DEADLINE, "the daemon's end")
    finally:
        if point in mounts():
            unmount(point, lazy=True)
        for pid in daemons():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(top, ignore_errors=True)


def test_a_busy_mount_is_not_unmounted(room):
    """U1: EBUSY while a file is open, and it works on."""
    put(room.workspace, "f", "x")

    def hold(path, ready, go):
        fd = os.open(path, os.O_RDONLY)
        os.write(ready, b"x")
        os.read(go, 1)
        return os.read(fd, 10)

    with Mount(room) as m:
        ready, go = os.pipe(), os.pipe()
        call = Call(hold, m("workspace/f"), ready[1], go[0])
        os.read(ready[0], 1)
        assert unmount(m.dir).status != 0
        os.write(go[1], b"x")
        assert call.result() == b"x"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_mount_that_waits_for_a_command(any_room, number):
    """U2: with a command running and its waiter in close()."""
    gate = Gate(any_room)
    with Mount(any_room) as m:
        call = Call(exec_script, m("workspace/.exec"), f"cat {gate.vm}")
        gate.wait()
        m.process.send_signal(number)
        assert m.process.wait(DEADLINE) == 0
        with pytest.raises(OSError):
            call.result()
        wait_until(lambda: m.dir not in mounts(), DEADLINE)


def test_a_signal_ends_a_mount_whose_server_is_silent(any_room):
    """U2: it does not wait for `timeout`."""
    put(any_room.workspace, "f", "x")
    with Mount(any_room, "timeout=60", "cache_timeout=0") as m:
        m.ls("workspace")
        any_room.fault({"hang": -1})
        calls = [Call(os.listdir, m("workspace")) for _ in range(3)]
        wait_until(lambda: any_room.state()["inflight"] > 0, DEADLINE)
        m.process.send_signal(signal.SIGTERM)
        assert m.process.wait(DEADLINE) == 0
        for call in calls:
            with pytest.raises(OSError):
                call.result()
        any_room.no_faults()


def test_unmounting_ends_a_mount_whose_server_is_gone(any_room):
    """U2: fusermount3 -u comes back, and the driver ends."""
    with Mount(any_room, "timeout=2") as m:
        m.ls()
        any_room.stop()
        assert unmount(m.dir).status == 0
        assert m.process.wait(DEADLINE) == 0


def test_mounting_again_works_at_once(any_room):
    """U1: ten times on the same directory."""
    put(any_room.workspace, "f", "x")
    with Mount(any_room) as m:
        for _ in range(4):
            assert m.read("workspace/f") == b"x"
            assert unmount(m.dir).status == 0
            assert m.process.wait(DEADLINE) == 0
            m._start()


def test_two_mounts_of_one_room_stand_side_by_side(any_room, tmp_path):
    """U1, E3: with one cache directory; each sees what the other's commands
    did, once it asks."""
    put(any_room.workspace, "f", "old")
    cache = str(tmp_path / "cache")
    with Mount(any_room, "cache_timeout=0.1", cache=cache) as one:
        with Mount(any_room, "cache_timeout=0.1", cache=cache) as two:
            assert one.read("workspace/f") == two.read("workspace/f") == b"old"
            one.exec("workspace", "echo new > f")
            wait_until(lambda: two.read("workspace/f") == b"new\n", DEADLINE)
        assert one.read("workspace/f") == b"new\n"


def test_the_driver_does_not_keep_its_own_mount_busy(room):
    """U1: started with the mount point's parent as working directory or not,
    it holds nothing inside."""
    with Mount(room) as m:
        used(m)
        links = [os.readlink(f"/proc/{m.pid}/fd/{n}")
                 for n in os.listdir(f"/proc/{m.pid}/fd")]
        assert not any(x.startswith(m.dir) for x in links), links


def test_descriptors_and_threads_do_not_grow(room):
    """U1: after a thousand operations there are no more than before."""
    def state(m):
        m.settle()
        with open(f"/proc/{m.pid}/status") as f:
            threads = next(int(x.split()[1]) for x in f
                           if x.startswith("Threads"))
        return len(os.listdir(f"/proc/{m.pid}/fd")), threads

    for i in range(50):
        put(room.workspace, f"f{i}", pattern(2000, i))
    with Mount(room, "cache_timeout=0.1") as m:
        def work():
            for i in range(50):
                read_file(m(f"workspace/f{i}"))
            for i in range(5):
                exec_script(m("workspace/.exec"), f"echo {i}")

        do(work, timeout=60)
        fds, threads = state(m)
        for _ in range(3):
            do(work, timeout=60)
        more_fds, more_threads = state(m)
        # A cache may keep some files open; it has a bound.
        assert more_fds <= fds + 60, (fds, more_fds)
        assert more_threads <= threads + 20, (threads, more_threads)
