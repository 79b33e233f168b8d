"""gentilityfs --stats: what a mount does, in its three forms."""

import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from mountlib import (DEADLINE, DRIVER, MIB, Call, Gate, Mount, Room, clock,
                      do, exec_script, pattern, put, run, wait_until)

W = "workspace"

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def stats(m, *words):
    done = run([DRIVER, "--stats", m.dir, *words])
    assert done.status == 0 and done.err == b"", done
    assert m.room.key.encode() not in done.out
    return done.text


def numbers(m):
    return json.loads(stats(m, "--json"))


def kinds(m):
    return {name: k["total"]
            for name, k in numbers(m)["requests"]["kinds"].items()
            if k["total"]}


def save(path, data):
    with open(path, "wb") as f:
        f.write(data)


def drain(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(MIB):
            pass


# --- what is counted ----------------------------------------------------------

def test_every_request_is_counted_as_what_it_is(any_room):
    """S5: the sum is the room's own count."""
    put(any_room.workspace, "small", "x" * 100)
    put(any_room.workspace, "large", pattern(4 * MIB))
    with Mount(any_room) as m:
        assert set(kinds(m)) == {"metadata"}
        m.read(W, "small")
        assert kinds(m)["file"] == 1
        m.read(W, "large")
        assert kinds(m)["raw"] >= 1
        do(save, m(W, "new"), b"y" * 1000)
        assert kinds(m)["change"] == 1
        do(save, m(W, "newer"), pattern(MIB))
        assert kinds(m)["upload"] >= 5
        m.exec(W, "true")
        assert kinds(m)["exec"] == 1
        m.settle()
        now, counted = numbers(m)["requests"], any_room.count()
        assert now["total"] == counted["total"]
        assert now["total"] == sum(k["total"] for k in now["kinds"].values())
        assert now["kinds"]["file"]["total"] == counted["file"]
        assert now["kinds"]["raw"]["total"] == counted["raw"]
        assert now["errors"] == now["retries"] == now["given_up"] == 0
        assert now["under_way"] == 0
        assert now["kinds"]["raw"]["received_bytes"] >= 4 * MIB
        assert now["kinds"]["upload"]["sent_bytes"] >= MIB


def test_looking_costs_nothing(any_m):
    """S5"""
    any_m.ls(W)
    any_m.forget()
    for words in ((), ("--json",), ("--prometheus",)):
        stats(any_m, *words)
    assert any_m.count()["total"] == 0


def test_retries_errors_and_what_is_given_up(room):
    """S5"""
    put(room.workspace, "f", "x")
    with Mount(room, "timeout=2") as m:
        room.fault({"status": 503}, kind="command", times=1)
        do(save, m(W, "g"), b"x")
        now = numbers(m)["requests"]
        assert now["errors"] == 1 and now["retries"] == 1, now
        assert now["given_up"] == 0
        room.fault({"status": 500}, kind="any")
        try:
            do(save, m(W, "g"), b"y")
            raise AssertionError("saved")
        except OSError as e:
            assert e.errno == errno.EIO
        room.no_faults()
        now = numbers(m)
        assert now["requests"]["given_up"] >= 1
        assert now["unsent"] == {"files": 1, "bytes": 1}
        do(save, m(W, "g"), b"z")
        assert numbers(m)["unsent"] == {"files": 0, "bytes": 0}


def test_latencies_are_those_of_the_service(room):
    """S5"""
    for n in range(5):
        put(room.workspace, f"f{n}", "x")
    with Mount(room) as m:
        m.ls(W)
        room.control(latency_ms=200)
        for n in range(5):
            do(save, m(W, f"f{n}"), b"new")
        of = numbers(m)["requests"]["kinds"]["change"]["latency_ms"]
        assert of["count"] == 5
        assert 200 <= of["p50"] <= of["p90"] <= of["p99"] <= of["max"]
        assert of["mean"] >= 200


def test_the_cache_is_counted(any_room):
    """S5"""
    put(any_room.workspace, "f", "x" * 5000)
    with Mount(any_room, "cache_timeout=600") as m:
        m.read(W, "f")
        before = numbers(m)["cache"]
        assert before["contents"]["misses"] >= 1
        assert before["bytes"] >= 5000 and before["limit_bytes"] == 1 << 30
        with open(m(W, "f"), "rb") as f:  # past the kernel's own pages
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert len(f.read()) == 5000
        m.exists(W, "none")
        after = numbers(m)["cache"]
        assert after["contents"]["hits"] > before["contents"]["hits"]
        assert after["contents"]["misses"] == before["contents"]["misses"]
        assert after["names"]["hits"] > before["names"]["hits"]
        assert after["names"]["misses"] == before["names"]["misses"]


def test_a_silent_service_and_a_running_command_show(room):
    """S5: the mount tells although nobody answers."""
    with Mount(room, "timeout=5") as m:
        assert numbers(m)["last_contact_s"] < DEADLINE
        gate = Gate(room)
        call = Call(exec_script, m(W, ".exec"), "cat gate")
        gate.wait()
        now = numbers(m)["requests"]["kinds"]["exec"]
        assert now["under_way"] == 1 and now["total"] == 0
        room.fault({"hang": -1}, kind="any")
        first = numbers(m)["last_contact_s"]
        wait_until(lambda: numbers(m)["last_contact_s"] > first + 0.2,
                   DEADLINE)
        room.no_faults()
        gate.open()
        call.result()
        wait_until(lambda: numbers(m)["requests"]["under_way"] == 0, DEADLINE)


# --- progress -----------------------------------------------------------------

def progress(m, direction, path):
    for t in numbers(m)["transfers"]:
        if t["direction"] == direction and t["path"] == path:
            return t
    return None


def watch(m, call, direction, path):
    """The steps seen until the call ends."""
    seen = []
    while not call.finished():
        t = progress(m, direction, path)
        if t is not None:
            seen.append((t["done_bytes"], t["total_bytes"]))
    call.result(60)
    return seen


def test_progress_of_an_upload(any_room):
    """S6"""
    data = pattern(6 * MIB)
    with Mount(any_room) as m:
        m.ls(W)
        any_room.control(latency_ms=250)
        call = Call(save, m(W, "up\xe4"), data)
        seen = watch(m, call, "upload", "/workspace/up\xe4")
        assert {total for _, total in seen} == {len(data)}
        done = [d for d, _ in seen]
        assert done == sorted(done)
        assert any(0 < d < len(data) for d in done), seen
        any_room.control(latency_ms=0)
        now = numbers(m)
        assert now["transfers"] == [] and now["unsent"]["files"] == 0


def test_unsent_data_shows_until_it_is_sent(any_m):
    """S6"""
    end, go_on = os.pipe()

    def hold():
        """In a process of its own: another one's fork and exec is a close."""
        os.close(go_on)
        fd = os.open(any_m(W, "f"), os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x" * 12345)
        os.read(end, 1)
        os.close(fd)

    call = Call(hold)
    os.close(end)
    try:
        wait_until(lambda: numbers(any_m)["unsent"]
                   == {"files": 1, "bytes": 12345}, DEADLINE)
        assert "unsent    1 file, 12 KB" in stats(any_m)
    finally:
        os.close(go_on)
    call.result()
    assert numbers(any_m)["unsent"] == {"files": 0, "bytes": 0}


def test_progress_of_a_download(any_room):
    """S6"""
    put(any_room.workspace, "down", pattern(48 * MIB))
    with Mount(any_room, "max_connections=3") as m:
        m.ls(W)
        any_room.control(latency_ms=200)
        call = Call(drain, m(W, "down"))
        seen = watch(m, call, "download", "/workspace/down")
        assert {total for _, total in seen} == {48 * MIB}
        assert any(0 < d < 48 * MIB for d, _ in seen), seen
        wait_until(lambda: numbers(m)["transfers"] == [], DEADLINE)


def test_progress_in_lines_and_with_any_name(room):
    """S6"""
    name = b'/workspace/"\\\n\xff'
    with Mount(room) as m:
        m.ls(W)
        room.control(latency_ms=200)
        call = Call(save, m(name.lstrip(b"/")), pattern(2 * MIB))

        def shown():
            lines = stats(m).splitlines()
            found = [x for x in lines if x.startswith("upload")
                     and "/workspace" in x]
            return found and "of 2.1 MB" in found[0] and found

        wait_until(shown, DEADLINE)
        json.loads(stats(m, "--json"))
        check_prometheus(stats(m, "--prometheus"))
        call.result(60)


# --- forms --------------------------------------------------------------------

SAMPLE = re.compile(r'(gentilityfs_[a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+)'
                    r'\} ([0-9.e+-]+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\.)*)"')


def check_prometheus(text):
    """Strictly by the text format; {(name, labels): value}."""
    assert text.endswith("\n")
    text.encode("ascii")
    found, kind, seen = {}, None, set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split()[2]
            assert helped not in seen, f"{helped} twice"
            seen.add(helped)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == helped and kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.endswith("_total"), name
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name = match[1]
        base = re.sub("_(bucket|sum|count)$", "", name) \
            if kind == "histogram" else name
        assert base == helped, line
        labels = tuple(sorted(LABEL.findall(match[2])))
        assert (name, labels) not in found, line
        found[name, labels] = float(match[3])
    return found


def test_prometheus(any_m):
    """S5"""
    any_m.exec(W, "echo hi >f")
    any_m.read(W, "f")
    found = check_prometheus(stats(any_m, "--prometheus"))
    mine = ("mount", any_m.dir)
    assert all(mine in labels for _, labels in found)
    exec_ = tuple(sorted((mine, ("kind", "exec"))))
    assert found["gentilityfs_requests_total", exec_] == 1
    assert found["gentilityfs_request_seconds_count", exec_] == 1
    buckets = sorted(
        (float(dict(labels)["le"].replace("+Inf", "inf")), value)
        for (name, labels), value in found.items()
        if name == "gentilityfs_request_seconds_bucket"
        and ("kind", "exec") in labels)
    counts = [n for _, n in buckets]
    assert counts == sorted(counts) and counts[-1] == 1
    assert buckets[-1][0] == float("inf") and buckets[0][0] < 0.01


def test_lines(any_m):
    """S5"""
    any_m.ls(W)
    text = stats(any_m)
    lines = text.splitlines()
    assert lines[0].startswith(f"{any_m.room.source} at {any_m.dir}, for ")
    assert any_m.room.instance_id in text and "last answer" in text
    assert any(x.startswith("metadata ") for x in lines)
    assert all(len(x) <= 120 for x in lines[2:]), text


def test_anywhere_in_the_mount(any_m):
    os.mkdir(os.path.join(any_m.room.workspace, "d"))
    any_m.ls(W)
    done = run([DRIVER, "--stats", any_m(W, "d"), "--json"])
    assert done.status == 0
    assert json.loads(done.out)["mountpoint"] == any_m.dir


# --- watching -----------------------------------------------------------------

def test_watch_goes_on_until_nobody_reads(any_m):
    """S5"""
    done = run(["bash", "-o", "pipefail", "-c",
                '"$0" --stats --watch=0.1 --json "$1" | head -n 3', DRIVER,
                any_m.dir])
    lines = done.text.splitlines()
    assert len(lines) == 3 and done.err == b"", done
    first, last = json.loads(lines[0]), json.loads(lines[2])
    assert last["uptime_s"] >= first["uptime_s"] + 0.2


def test_watch_in_a_terminal(any_m):
    """S5: one picture after the other, until Ctrl-C."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(DRIVER, [DRIVER, "--stats", "--watch=0.1", any_m.dir])
    try:
        text = b""
        end = clock() + DEADLINE
        while text.count(b"\x1b[H\x1b[J") < 3:
            left = max(0, end - clock())
            assert select.select([fd], [], [], left)[0], text
            text += os.read(fd, 65536)
        os.write(fd, b"\x03")
        assert any_m.room.source.encode() in text
        with pytest.raises(OSError):  # EIO: the other side is closed
            while True:
                assert select.select([fd], [], [], DEADLINE)[0]
                if not os.read(fd, 65536):
                    raise OSError
    finally:
        os.close(fd)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        status = os.waitpid(pid, 0)[1]
    assert os.WTERMSIG(status) in (signal.SIGINT, signal.SIGKILL)


def test_watch_fits_the_terminal_and_ends_with_q(any_m):
    """S5: 80 columns, and the terminal is afterwards as it was."""
    any_m.ls()
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(DRIVER, [DRIVER, "--stats", "--watch=600", any_m.dir])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        text = b""
        while b"metadata" not in text:
            assert select.select([fd], [], [], DEADLINE)[0], text
            text += os.read(fd, 65536)
        wait_until(lambda: not termios.tcgetattr(fd)[3] & termios.ECHO)
        os.write(fd, b"xq")
        status = os.waitpid(pid, 0)[1]
    finally:
        os.close(fd)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    for line in re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", text).splitlines():
        assert len(line) <= 80, line


def test_warnings_are_kept(any_m):
    """S8: what went wrong reaches who has no system log."""
    assert numbers(any_m)["warnings"] == []
    any_m.room.fault({"status": 401}, kind="any")
    with pytest.raises(PermissionError):
        do(os.listdir, any_m("tmp"))
    any_m.room.no_faults()
    found = numbers(any_m)["warnings"]
    assert found and abs(found[-1]["time"] - time.time()) < 600
    assert any("401" in w["text"] or "key" in w["text"] for w in found), found
    assert found[-1]["text"] in stats(any_m)


# --- what can't work ----------------------------------------------------------

def assert_fails(done, status, *parts):
    assert done.status == status and done.out == b"", done
    assert done.err.count(b"\n") == 1, done
    for part in parts:
        assert str(part).encode() in done.err, done


def test_no_mount_there(tmp_path):
    """S7"""
    assert_fails(run([DRIVER, "--stats", str(tmp_path)]), 1, tmp_path,
                 "no mount of gentilityfs")
    assert_fails(run([DRIVER, "--stats", "/proc"]), 1, "no mount")
    assert_fails(run([DRIVER, "--stats", str(tmp_path / "none")]), 1,
                 "does not exist")


def test_a_dead_mount_is_explained(room):
    """S7"""
    m = Mount(room).__enter__()
    try:
        m.kill()
        assert_fails(run([DRIVER, "--stats", m.dir]), 1, "is gone",
                     f"fusermount3 -u {m.dir}")
    finally:
        m.__exit__(AssertionError, None, None)  # it does not end well


@pytest.mark.parametrize("words,part", [
    (["--stats"], "MOUNTPOINT"), (["--stats", "/a", "/b"], "/b"),
    (["--stats", "/a", "--watch=x"], "--watch=x"),
    (["--stats", "/a", "--prometheus", "--json"], "--prometheus"),
    (["--json", "/a"], "--json"), (["--stats=/a"], "--stats=/a")])
def test_wrong_usage(words, part):
    """S7"""
    assert_fails(run([DRIVER, *words]), 2, part)


@root_only
def test_for_the_mounting_user_only():
    """S7: names of files are nobody else's business."""
    with Room() as room, Mount(room, "allow_other") as m:
        def as_nobody():
            os.setgid(65534)
            os.setuid(65534)
            return subprocess.run([DRIVER, "--stats", m.dir],
                                  capture_output=True, check=False)

        done = do(as_nobody)
        assert done.returncode == 1 and b"only the user" in done.stderr
        assert done.stdout == b""
