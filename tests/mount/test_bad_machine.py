"""Trouble on this side: a cache that is full, read-only, broken or somebody
else's; too few descriptors or too little memory; clocks that jump; and what
the process gives away."""

import errno
import os
import re
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import pytest

from helpers_write import save
from mountlib import (
    DEADLINE, DRIVER, MIB, SANITIZED, TOP, Call, Mount, do, outcome, pattern,
    put, raises, read_file, run, settle, wait_until,
)

W = "workspace"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def small_disk(tmp_path):
    """A file system with little room, for the cache."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o",
                           "size=1m,mode=700", "none", str(place)])
    if done.returncode != 0:
        pytest.skip("mount is not allowed here")
    yield str(place)
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)


# -- the cache directory ----------------------------------------------------------

@root_only
def test_a_full_cache_disk_only_costs_time(room, small_disk):
    """L1: reading goes on; what can't be kept is ENOSPC before close() says
    that all is well, and small saves work as long as there is any room."""
    big, small = pattern(5 * MIB), pattern(3000, 2)
    put(room.workspace, "big", big)
    for i in range(40):
        put(room.workspace, f"d/f{i}", pattern(60_000, i))
    with Mount(room, cache=small_disk + "/cache") as m:
        assert m.read(W, "big", timeout=60) == big
        for i in range(40):
            assert m.read(W, "d", f"f{i}") == pattern(60_000, i)
        got = do(outcome, save, m(W, "new"), big, timeout=60)
        assert got == errno.ENOSPC
        # What write() took, as on any disk that fills up.
        now = outcome(read_file, room.workspace + "/new")
        assert now == errno.ENOENT or big.startswith(now)
        do(outcome, os.unlink, m(W, "new"))
        do(save, m(W, "small"), small)
        assert read_file(room.workspace + "/small") == small
        # Not a byte is left.
        fill_up(small_disk + "/filler")
        assert m.read(W, "big", timeout=60) == big
        assert m.read(W, "d/f7") == pattern(60_000, 7)
        got = do(outcome, save, m(W, "small"), small[::-1])
        now = read_file(room.workspace + "/small")
        assert now == small[::-1] if got is None else \
            got == errno.ENOSPC and now in (small, b"")
        os.unlink(small_disk + "/filler")
        do(save, m(W, "small"), small[::-1])
        assert read_file(room.workspace + "/small") == small[::-1]


@root_only
def test_unsaved_data_survives_a_full_cache_disk(room, small_disk):
    """L1, W6: there is no room for a copy of it."""
    data = pattern(600_000)
    put(room.workspace, "f", "old\n")
    with Mount(room, "timeout=2", cache=small_disk + "/cache") as m:
        m.ls(W)
        room.fault({"status": 500}, kind="command")
        assert isinstance(do(outcome, save, m(W, "f"), data, timeout=30), int)
        fill_up(small_disk + "/filler")
    room.no_faults()
    assert data in all_files(small_disk + "/cache/recovery"), m.last_words


def all_files(top):
    return [read_file(os.path.join(path, name))
            for path, _, names in os.walk(top) for name in names]


@root_only
def test_a_read_only_cache_is_done_without(room, small_disk):
    """L1"""
    data = pattern(3 * MIB)
    put(room.workspace, "big", data)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with Mount(room, cache=small_disk + "/cache") as m:
        assert m.read(W, "big", timeout=60) == data
        do(save, m(W, "f"), b"saved\n")
        assert read_file(room.workspace + "/f") == b"saved\n"
        assert "contents are kept in " in m.stderr()


def is_a_file(path, victim):
    with open(path, "w") as f:
        f.write("not a directory\n")


def is_open_to_all(path, victim):
    os.mkdir(path)
    os.chmod(path, 0o777)


def is_somebody_elses(path, victim):
    os.mkdir(path, 0o700)
    os.chown(path, 12345, 12345)


def is_a_dead_link(path, victim):
    os.symlink("/nonexistent/of/course", path)


@pytest.mark.parametrize("what", [is_a_file, is_open_to_all, is_a_dead_link,
                                  pytest.param(is_somebody_elses,
                                               marks=root_only)])
def test_a_cache_directory_that_is_not_ours(room, tmp_path, what):
    """L2: nothing is put there; unsaved data finds another place."""
    path = str(tmp_path / "cache")
    put(room.workspace, "f", "file\n")
    what(path, None)
    before = outcome(os.listdir, path)
    with Mount(room, "timeout=2", cache=path) as m:
        assert m.read(W, "f") == b"file\n"
        do(save, m(W, "g"), b"saved\n")
        assert read_file(room.workspace + "/g") == b"saved\n"
        assert "contents are kept in " in m.stderr()
        room.fault({"status": 500}, kind="command")
        unsaved = b"unsaved " + os.urandom(8).hex().encode()
        assert isinstance(do(outcome, save, m(W, "g"), unsaved,
                             timeout=30), int)
    room.no_faults()
    assert outcome(os.listdir, path) == before
    place = re.search(rb"contents are in (/\S+)", m.last_words)
    assert place, m.last_words
    try:
        assert read_file(place[1]) == unsaved
        assert os.stat(place[1]).st_mode & 0o77 == 0
    finally:
        shutil.rmtree(place[1].split(b"/recovery/")[0] + b"/recovery/" +
                      place[1].split(b"/recovery/")[1].split(b"/")[0])


def test_an_old_or_corrupt_cache_is_not_believed(room, tmp_path):
    """L2, R3: junk under any name, other bytes under the right one, links to
    elsewhere, directories and fifos in the place of files."""
    cache = str(tmp_path / "cache")
    victim = tmp_path / "victim"
    victim.write_text("mine\n")
    data = {f"f{i}": pattern(50_000, i) for i in range(6)}
    for name, bytes_ in data.items():
        put(room.workspace, name, bytes_)
    with Mount(room, cache=cache) as m:
        for name in data:
            m.read(W, name)
    saved = [os.path.join(cache, n) for n in os.listdir(cache)
             if n.startswith("saved-")]
    assert len(saved) == 1
    names = sorted(os.listdir(saved[0]))
    assert len(names) >= 6
    paths = [os.path.join(saved[0], n) for n in names]
    with open(paths[0], "r+b") as f:
        f.seek(25_000)
        f.write(b"CORRUPT")
    os.truncate(paths[1], 100)
    os.truncate(paths[2], 10 * MIB)
    os.unlink(paths[3])
    os.symlink(victim, paths[3])
    os.unlink(paths[4])
    os.mkfifo(paths[4])
    os.unlink(paths[5])
    os.mkdir(paths[5])
    for junk in ("0-0-0-0-0-00000000", "ffff-1-2-3-4-zzzzzzzz", "x" * 200,
                 "-" * 50, "1" * 100 + "-1-1-1-1-00000000", "new"):
        with open(os.path.join(saved[0], junk), "wb") as f:
            f.write(b"junk")
    for junk in ("run-junk", "run-dir", "index.db", "version", "saved-..",
                 "recovery"):
        path = os.path.join(cache, junk)
        if junk == "run-dir":
            os.mkdir(path, 0o700)
            os.symlink(victim, path + "/lock")
            os.symlink(victim, path + "/work-1")
        else:
            with open(path, "wb") as f:
                f.write(b"\0\1\2 of version 0\n")
    with Mount(room, cache=cache) as m:
        for name, bytes_ in data.items():
            assert m.read(W, name) == bytes_, name
        do(save, m(W, "new"), b"new\n")
    assert victim.read_text() == "mine\n"
    for name, bytes_ in data.items():
        assert read_file(room.workspace + "/" + name) == bytes_


def test_two_mounts_of_one_room_with_one_cache(room, tmp_path):
    """L3: they share what is safe to share, and neither's end, good or bad,
    harms the other."""
    cache = str(tmp_path / "cache")
    for i in range(6):
        put(room.workspace, f"f{i}", pattern(30_000, i))

    def work(path, seed):
        for i in range(6):
            assert read_file(f"{path}/f{i}") == pattern(30_000, i), i
            save(f"{path}/own{seed}", pattern(5000 + i, seed))
        return read_file(f"{path}/own{seed}")

    with Mount(room, cache=cache) as a:
        with Mount(room, cache=cache) as b:
            calls = [Call(work, a(W), 1), Call(work, b(W), 2)]
            assert [c.result(60) for c in calls] == \
                [pattern(5005, 1), pattern(5005, 2)]
        assert do(work, a(W), 3, timeout=60) == pattern(5005, 3)
        b = Mount(room, cache=cache)
        try:
            b.__enter__()
            do(work, b(W), 4, timeout=60)
            b.kill()
            assert do(work, a(W), 5, timeout=60) == pattern(5005, 5)
            with Mount(room, cache=cache) as c:
                assert do(work, c(W), 6, timeout=60) == pattern(5005, 6)
                assert do(work, a(W), 7, timeout=60) == pattern(5005, 7)
        finally:
            b.__exit__(1, None, None)
    for seed in (1, 2, 3, 4, 5, 6, 7):
        assert read_file(room.workspace + f"/own{seed}") == \
            pattern(5005, seed)


def test_two_failures_of_one_file_in_one_second(room, tmp_path):
    """L3, W6: what both mounts could not save is there, twice."""
    cache = str(tmp_path / "cache")
    put(room.workspace, "f", "old\n")
    with Mount(room, "timeout=2", cache=cache) as a, \
            Mount(room, "timeout=2", cache=cache) as b:
        a.ls(W)
        b.ls(W)
        room.fault({"status": 500}, kind="command")
        for m, data in ((a, b"of a\n"), (b, b"of b\n")):
            assert isinstance(do(outcome, save, m(W, "f"), data,
                                 timeout=30), int)
        for m in (a, b):
            m.process.send_signal(signal.SIGKILL)
            m.process.wait(10)
            subprocess.run(["fusermount3", "-uz", m.dir], check=True)
        room.no_faults()
        with Mount(room, cache=cache):
            pass
        found = all_files(cache + "/recovery")
        assert sorted(found) == [b"of a\n", b"of b\n"]
        for m in (a, b):
            m.status, m.process = 0, None


# -- limits -----------------------------------------------------------------------

def limited(room, m, limits):
    """A mount whose process has these limits."""
    def start():
        command = ["prlimit", *limits, *type(m).command_line(m)]
        return command
    m.command_line = start
    return m


@pytest.mark.skipif(SANITIZED, reason="sanitizers need all there is")
@pytest.mark.parametrize("limits", [
    ["--nofile=16"], ["--nofile=32"], ["--nofile=64"],
    ["--as=150000000"], ["--as=400000000"], ["--as=1200000000"],
    ["--stack=262144"], ["--fsize=100000"],
    ["--memlock=0"]], ids=lambda x: x[0][2:])
def test_short_of_something(room, limits):
    """L4: it works, or an operation says what is short; nothing wrong, and no
    crash."""
    files = {f"f{i}": pattern(20_000, i) for i in range(30)}
    files["big"] = pattern(3 * MIB, 99)
    for name, data in files.items():
        put(room.workspace, name, data)
    m = limited(room, Mount(room, "timeout=5"), limits)
    try:
        m.__enter__()
    except AssertionError as e:
        assert "no mount" in str(e) and "gentilityfs:" in str(e), e
        return
    good = False
    try:
        calls = {n: Call(outcome, read_file, m(W, n)) for n in files}
        calls["save"] = Call(outcome, save, m(W, "new"), files["big"])
        calls["exec"] = Call(outcome, save, m(W, ".exec"), b"true\n")
        hold = [Call(hold_open, m(W), 40)]
        for name, call in calls.items():
            got = call.result(60)
            assert isinstance(got, int) or got in (files.get(name), None), (
                name, got and len(got))
            assert got != errno.ENOTCONN, m.stderr()
        for call in hold:
            call.result(60)
        assert m.process.poll() is None, m.stderr()
        # When it is over, all is well.
        settle(room)
        wait_until(lambda: do(outcome, read_file, m(W, "f3")) ==
                   files["f3"], DEADLINE)
        assert isinstance(m.ls(W), list)
        good = True
    finally:
        m.__exit__(None if good else 1, None, None)


def hold_open(path, count):
    """Many files open at once."""
    fds, failed = [], set()
    for i in range(count):
        try:
            fds.append(os.open(f"{path}/f{i % 30}", os.O_RDONLY))
        except OSError as e:
            failed.add(e.errno)
    for fd in fds:
        os.close(fd)
    return failed


# -- what others left in the VM -------------------------------------------------

def test_what_a_dead_mount_left_in_the_room_goes(any_room):
    """U1: our own hidden files, once they are old, when somebody comes by; with
    one command, and by no mount that is read-only."""
    def make(name, age):
        path = os.path.join(any_room.workspace, name)
        put(any_room.workspace, name, "staged")
        then = time.time() - age
        os.utime(path, (then, then))
        return path

    hour = 3600
    old = [make(f".gentilityfs-{i:016x}", 2 * hour) for i in range(3)]
    young = [make(".gentilityfs-aaaaaaaaaaaaaaaa", hour // 2),
             make(".gentilityfs-open-bbbbbbbbbbbbbbbb", 900 * hour),
             make(".gentilityfs.conf", 900 * hour)]
    with Mount(any_room, "ro") as m:
        m.ls(W)
        m.settle()
    assert all(os.path.exists(path) for path in old)
    with Mount(any_room) as m:
        assert m.ls(W) == [".gentilityfs.conf"]
        wait_until(lambda: not any(map(os.path.exists, old)), DEADLINE,
                   "the end of what is old")
        assert all(map(os.path.exists, young))
        m.exec(W, "true")
        m.forget()
        assert m.ls(W) == [".gentilityfs.conf"]
        m.exec(W, "touch x")
        m.ls(W)
        assert m.count()["command"] <= 3


# -- clocks -----------------------------------------------------------------------

def test_no_wait_and_no_age_is_told_by_the_clock_on_the_wall():
    """F14: time that can jump is for people, and for files' times, alone."""
    allowed = {
        "store/recover.c",  # the recovery folder's name
        "store/disk.c",  # weeks, for what nobody has used
        "kernel/made.c",  # months, for that
        "base/log.c",  # when a line was said
        "kernel/attr.c",  # the control file's times
        "room/room.c",  # the VM's clock, before that is known
        "base/log.c",  # the times of its lines
        "kernel/made.c",  # months, for what nobody has mounted
        "store/run.c",  # an hour, for what was never finished
        "room/check.c",  # shown by --check
    }
    jumps = re.compile(r"CLOCK_REALTIME|\btime\((NULL|&|0)|gettimeofday|"
                       r"TIME_UTC|pthread_cond_timedwait_np")
    found = set()
    src = os.path.join(TOP, "src")
    for top, _, names in os.walk(src):
        for name in names:
            if not name.endswith((".c", ".h")):
                continue
            with open(os.path.join(top, name)) as f:
                text = f.read()
            name = os.path.relpath(os.path.join(top, name), src)
            if jumps.search(text):
                found.add(name)
            # Each wait with a limit is on a clock that does not jump.
            if "pthread_cond_timedwait" in text:
                assert "CLOCK_MONOTONIC" in text or name in (
                    "api/call.c",), name
    assert found <= allowed, found - allowed


# -- what the process gives away ----------------------------------------------------

def status_of(m):
    with open(f"/proc/{m.pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f
                    if ":\t" in line)


def test_the_process_keeps_the_key_and_drops_what_it_can(room):
    """L5"""
    with Mount(room) as m:
        m.ls(W)
        with open(f"/proc/{m.pid}/limits") as f:
            core = [line for line in f if line.startswith("Max core")]
        assert core[0].split()[4:6] == ["0", "0"], core
        status = status_of(m)
        # The pages with the key.
        assert int(status["VmLck"].split()[0]) > 0, status["VmLck"]
        if os.geteuid() == 0:
            for task in os.listdir(f"/proc/{m.pid}/task"):
                with open(f"/proc/{m.pid}/task/{task}/status") as f:
                    assert "NoNewPrivs:\t1" in f.read(), task
        for name in ("environ", "cmdline"):
            path = f"/proc/{m.pid}/{name}"
            if os.access(path, os.R_OK):
                assert room.key.encode() not in read_file(path)
        # No file of it is open to others.
        for path, dirs, names in os.walk(m.cache):
            for name in dirs + names:
                st = os.lstat(os.path.join(path, name))
                assert stat.S_ISLNK(st.st_mode) or st.st_mode & 0o77 == 0


@root_only
def test_users_can_not_trace_it():
    """L5: not even those who run it; so no core dump either, wherever cores
    go."""
    try:
        import pwd
        user = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("no user nobody")
    tmp_path = pathlib.Path(tempfile.mkdtemp(prefix="gentilityfs-test-"))
    key = tmp_path / "key"
    key.write_text("rk_test_" + "0" * 32)
    os.chmod(tmp_path, 0o755)
    os.chown(key, user.pw_uid, user.pw_gid)
    os.chmod(key, 0o600)
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(DEADLINE)
    process = subprocess.Popen(
        [DRIVER, "--check", "-o", f"key_file={key},timeout=20,url=http://127.0.0.1:"
         f"{server.getsockname()[1]}",
         "550e8400-e29b-41d4-a716-446655440000/x"],
        user=user.pw_uid, group=user.pw_gid, extra_groups=[],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        try:
            connection = server.accept()[0]  # it has read the key by now
        except TimeoutError:
            process.kill()
            raise AssertionError(process.communicate()[1])
        # What belongs to root here is what can't be dumped.
        assert os.stat(f"/proc/{process.pid}/mem").st_uid == 0
        connection.close()
    finally:
        process.terminate()
        process.communicate(timeout=30)
        server.close()
        shutil.rmtree(tmp_path)


def test_the_key_is_overwritten_before_it_is_freed():
    """L5: where it is kept; the rest is libcurl's."""
    for name, word in (("cli/key.c", "explicit_bzero(key"),
                       ("http/setup.c", "explicit_bzero(l->data"),
                       ("http/setup.c", "explicit_bzero(line")):
        with open(os.path.join(TOP, "src", name)) as f:
            assert word in f.read(), (name, word)
