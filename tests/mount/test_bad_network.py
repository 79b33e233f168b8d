"""The network of somebody on a train: silence, dead connections, drips, a
stopped process, no names.  Waits are bounded, Ctrl-C ends them, what is known
is there, and the mount goes on by itself."""

import errno
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from hostile import Answer, Hostile
from helpers_write import save
from mountlib import (
    DEADLINE, DRIVER, MIB, Call, Gate, Hang, Mount, Program, Result, clock, do,
    exec_script, late, mounts, outcome, pattern, put, raises, read_file, run,
    unmount, wait_until
)

FRESH = "cache_timeout=0"
W = "workspace"
SILENT = (errno.ETIMEDOUT, errno.EIO)


@pytest.fixture
def bad(room):
    with Hostile(room) as server:
        yield server


# -- too slow -------------------------------------------------------------------

def dripping(answer, pause):
    """The answer byte by byte."""
    wire = answer.wire()
    head = wire.index(b"\r\n\r\n") + 4
    yield wire[:head]
    for i in range(head, len(wire)):
        pause.wait(0.02)
        yield wire[i:i + 1]


def test_an_answer_that_drips_is_given_up(room, bad):
    """F1: fifty bytes a second are a stalled transfer; to a listing, a small
    file and a large one."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "d/text", "t" * 20000)
    put(room.workspace, "d/big", pattern(3 * MIB))
    pause = threading.Event()
    with Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W)
        bad.rule = lambda r, f: dripping(f(r), pause)
        began = clock()
        raises(SILENT, os.listdir, m(W, "d"), timeout=30)
        assert not late(began, 10)
        bad.rule = lambda r, f: None if r.kind == "command" else \
            dripping(f(r), pause)
        for name in ("text", "big"):
            began = clock()
            got = do(outcome, read_file, m(W, "d", name), timeout=30)
            assert got in (b"t" * 20000, pattern(3 * MIB), *SILENT), got
            assert not late(began, 15)
        pause.set()
        bad.rule = None
        wait_until(lambda: do(outcome, os.listdir, m(W, "d")) ==
                   sorted(["real", "text", "big"]) or True, DEADLINE)
        assert m.read(W, "d/big") == pattern(3 * MIB)


def test_a_slow_answer_is_waited_for(room, bad):
    """F1: what moves is not given up, however long it takes."""
    put(room.workspace, "text", "t" * 6000)

    def slow(answer):
        wire = answer.wire()
        pause = threading.Event()
        for i in range(0, len(wire), 1500):
            pause.wait(1)
            yield wire[i:i + 1500]

    with Mount(bad, FRESH, "timeout=3") as m:
        m.ls(W)
        bad.rule = lambda r, f: slow(f(r)) if r.kind == "file" else None
        assert m.read(W, "text", timeout=30) == b"t" * 6000


# -- silence --------------------------------------------------------------------

def test_dead_connections_are_replaced(room, bad):
    """F11: an address that changed leaves connections that say nothing and
    are not reset.  One wait, then new ones are used."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "f", pattern(5000))
    with Mount(bad, FRESH, "timeout=4") as m:
        calls = [Call(os.listdir, m(W)) for _ in range(12)]
        calls += [Call(exec_script, m(W, ".exec"), "true") for _ in range(4)]
        for call in calls:
            call.result()
        m.settle()
        bad.mute()
        began = clock()
        first = do(outcome, os.listdir, m(W, "d"), timeout=20)
        assert first == ["real"] or first in SILENT, first
        assert not late(began, 12)
        began = clock()
        for _ in range(3):
            assert m.ls(W, "d", timeout=9) == ["real"]
            assert m.read(W, "f", timeout=9) == pattern(5000)
            do(save, m(W, "new"), b"saved\n", timeout=9)
            assert read_file(room.workspace + "/new") == b"saved\n"
            assert m.exec(W, "echo on", timeout=9).startswith(b"on\n")
        assert not late(began, 10)


def test_a_save_on_a_dead_connection(room, bad):
    """F11, W2: it gets there, or close() says so and the next does it."""
    put(room.workspace, "f", "old\n")
    with Mount(bad, FRESH, "timeout=4") as m:
        m.read(W, "f")
        m.settle()
        bad.mute()
        got = do(outcome, save, m(W, "f"), b"new contents\n", timeout=20)
        now = read_file(room.workspace + "/f")
        assert now == b"new contents\n" if got is None else \
            now in (b"old\n", b"new contents\n")
        if got is not None:  # by open() or by close()
            assert got in SILENT
            do(save, m(W, "f"), b"new contents\n", timeout=20)
        assert read_file(room.workspace + "/f") == b"new contents\n"


def test_a_command_on_a_dead_connection_runs_once_or_is_unknown(room, bad):
    """F11, E4: it goes on a connection of its own, which is not dead."""
    with Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W)
        m.settle()
        bad.mute()
        m.exec(W, "echo x >> /tmp/count", timeout=20)
        assert read_file(room.tmp + "/count") == b"x\n"


def known(m):
    """What a look at the mount's known part says."""
    return (m.ls(W), m.ls(W, "d"), m.lstat(W, "d/real").st_size,
            m.read(W, "d/real"), run(["df", m.dir], timeout=DEADLINE).status,
            m.exists(W, "d/none"))


KNOWN = (["d", "f"], ["real"], 5, b"real\n", 0, False)


def test_what_is_known_is_shown_while_the_service_is_silent(room, bad):
    """F12: df and ls of cached directories, after cache_timeout, too; the
    first waits some seconds at most, and nobody after it."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "f", "f\n")
    go = threading.Event()
    with Mount(bad, "cache_timeout=1", "timeout=6") as m:
        assert known(m) == KNOWN
        m.settle()
        bad.rule = lambda r, f: go.wait() and None
        # When the listing is no longer trusted.
        pause = threading.Event()
        pause.wait(1.2)
        began = clock()
        assert m.ls(W, "d", timeout=10) == ["real"]
        assert not late(began, 8)
        began = clock()
        assert known(m) == KNOWN
        assert known(m) == KNOWN
        assert not late(began, 8)
        assert m.stderr().count("does not answer") == 1
        # What is not known can't be told.
        raises(SILENT, os.listdir, m("tmp", "none"), timeout=60)
        put(room.workspace, "d/fresh", "fresh\n")
        bad.rule = None
        go.set()
        wait_until(lambda: m.ls(W, "d") == ["fresh", "real"], 5)
        assert m.read(W, "d/fresh") == b"fresh\n"


def test_what_is_known_is_shown_while_the_service_is_gone(room):
    """F12: nobody listens; and it is back within seconds."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "f", "f\n")
    bad = Hostile(room)
    with bad:
        m = Mount(bad, "cache_timeout=1", "timeout=6").__enter__()
        try:
            assert known(m) == KNOWN
            bad.__exit__()
            threading.Event().wait(1.2)
            began = clock()
            assert known(m) == KNOWN
            assert known(m) == KNOWN
            assert not late(began, 12)
            raises((errno.EHOSTUNREACH, errno.ECONNREFUSED, *SILENT), save,
                   m(W, "f"), b"new\n", timeout=60)
            assert m.read(W, "f") == b"new\n"
            bad.ended.clear()
            bad.server = socket.create_server(
                ("127.0.0.1", bad.port), backlog=128)
            bad.accepter = threading.Thread(target=bad._accept, daemon=True)
            bad.accepter.start()
            put(room.workspace, "d/fresh", "fresh\n")
            wait_until(lambda: m.ls(W, "d") == ["fresh", "real"], 5)
            do(save, m(W, "f"), b"newer\n", timeout=10)
            assert read_file(room.workspace + "/f") == b"newer\n"
        except BaseException:
            m.__exit__(1, None, None)
            raise
        m.__exit__(None, None, None)


def test_with_cache_timeout_0_silence_is_an_error(room, bad):
    """F12, A10: who wants to know exactly is not told the past."""
    put(room.workspace, "d/real", "real\n")
    go = threading.Event()
    with Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W, "d")
        bad.rule = lambda r, f: go.wait() and None
        threading.Event().wait(1.1)  # a listing answers for a second
        raises(SILENT, os.listdir, m(W, "d"), timeout=20)
        go.set()
        bad.rule = None


def test_a_slow_answer_is_waited_for_while_others_come(room, bad):
    """That is a slow command, and no silence."""
    put(room.workspace, "listed-here/real", "real\n")
    put(room.workspace, "busy", "busy\n")
    slow = threading.Event()
    ended = threading.Event()

    def rule(request, forward):
        if request.is_about("listed-here"):
            slow.set()
            ended.wait(10)

    def keep_saving(file):
        while not ended.wait(0.2):
            os.pwrite(file, b"busy\n", 0)
            os.fsync(file)

    with Mount(bad, "cache_timeout=1", "timeout=15") as m:
        assert m.ls(W, "listed-here") == ["real"]
        m.settle()
        bad.rule = rule
        file = os.open(m(W, "busy"), os.O_WRONLY)
        saver = threading.Thread(target=keep_saving, args=(file,))
        saver.start()
        try:
            threading.Event().wait(1.2)
            put(room.workspace, "listed-here/fresh", "fresh\n")
            listed = m.ls(W, "listed-here", timeout=30)
        finally:
            ended.set()
            saver.join()
            os.close(file)
        assert slow.is_set()
        assert listed == ["fresh", "real"]


def test_a_room_that_is_gone_is_not_shown_as_it_was(room):
    """F12, F5: that is an answer, and no silence."""
    put(room.workspace, "d/real", "real\n")
    with Mount(room, "cache_timeout=1") as m:
        m.ls(W, "d")
        room.control(expire=True)
        threading.Event().wait(1.2)
        raises((errno.EIO, errno.ESTALE), os.listdir, m(W, "d"), timeout=20)


# -- a rate limit ---------------------------------------------------------------

@pytest.mark.parametrize("retry_after", [None, 1])
def test_a_rate_limit_slows_all_requests_down_together(room, bad, retry_after):
    """F17: ten a second for many readers at a time.  What was under way at the
    first refusal counts for nothing."""
    for i in range(24):
        put(room.workspace, f"d{i}/f", pattern(3000, i))
    lock = threading.Lock()
    tokens = [time.monotonic(), 10.0]
    good_at, refused_at = [], []

    def rule(request, forward):
        with lock:
            now = time.monotonic()
            tokens[1] = min(10.0, tokens[1] + (now - tokens[0]) * 10)
            tokens[0] = now
            good = tokens[1] >= 1
            tokens[1] -= good
            (good_at if good else refused_at).append(now)
        if good:
            return None
        return Answer(429, {"error": "rate_limited", "message": "slow down"},
                      {"Retry-After": str(retry_after)} if retry_after else {})

    with Mount(bad, FRESH) as m:
        m.ls(W)
        bad.rule = rule
        calls = [Call(lambda p: [read_file(p) for _ in range(2)],
                      m(W, f"d{i}", "f")) for i in range(24)]
        for i, call in enumerate(calls):
            assert call.result(100) == [pattern(3000, i)] * 2
        later = [t for t in refused_at if t > refused_at[0] + 0.1]
        assert len(later) <= len(good_at) // 4, (later, good_at)
        bad.rule = None


# -- Ctrl-C ---------------------------------------------------------------------

ACTIONS = {
    "ls": "ls unknown", "stat": "stat unknown/f", "cat": "cat d/small",
    "cat-big": "cat d/big", "head-big": "head -c 10 d/big",
    "cp": "cp /etc/passwd d/copy", "save": "exec cat > d/small <<<new",
    "append": "exec cat >> d/small <<<new", "touch": "touch d/touched",
    "mkdir": "mkdir d/new", "rmdir": "rmdir d/empty", "rm": "rm -f d/small",
    "mv": "mv d/small d/other", "ln": "ln d/small d/link",
    "ln-s": "ln -s x d/soft", "chmod": "chmod 600 d/f1",
    "truncate": "truncate -s 3 d/f2", "dd":
    # Not of=d/big: a page that is being read keeps the kernel itself waiting.
    "dd if=/dev/zero of=d/big2 bs=1M count=3 conv=notrunc",
    "find": "find .", "grep": "grep -r x .", "exec": "exec cat > .exec <<<id",
    "lock": "set -C; exec cat > d/x.lock",
    "sync": "exec 3<>d/small; echo x >&3; exec sync d/small",
}


def test_ctrl_c_ends_every_wait(room, bad):
    """F13: whatever a program waits for while the server is silent."""
    for name in ("small", "f1", "f2"):
        put(room.workspace, "d/" + name, "x" * 3000)
    put(room.workspace, "d/big", pattern(3 * MIB))
    put(room.workspace, "d/big2", pattern(3 * MIB))
    os.mkdir(room.workspace + "/d/empty")
    go = threading.Event()
    with Mount(bad, "cache_timeout=600", "timeout=60") as m:
        m.sh("ls -l workspace workspace/d >/dev/null")
        # Of a directory that a command made only the name is known.
        m.exec(W, "mkdir unknown; echo f > unknown/f")
        m.settle()
        bad.rule = lambda r, f: go.wait() and Answer(500)
        try:
            for name, script in ACTIONS.items():
                p = Program(["bash", "-c", script], cwd=m(W))
                wait_until(lambda: not p.running() or waiting(p.process.pid),
                           DEADLINE, name)
                assert p.running(), (name, p.wait())
                p.signal(signal.SIGINT)
                try:
                    wait_until(lambda: not p.running(), 4, name)
                except TimeoutError:
                    # It was interrupted before its last call, and cleans up.
                    p.signal(signal.SIGINT)
                p.wait(6)
        finally:
            bad.rule = None
            go.set()


def waiting(pid):
    """Does some process of the group wait in a request to the mount?"""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            if int(fields[2]) != pid:
                continue
            with open(f"/proc/{entry}/wchan") as f:
                place = f.read()
        except (OSError, IndexError):
            continue
        if place in ("request_wait_answer", "folio_wait_bit_common"):
            return True
    return False


def unmounts_in(m, seconds):
    """SIGTERM, and the driver ends."""
    m.process.terminate()
    m.process.wait(seconds)
    return m.dir not in mounts()


# -- the process and the machine ---------------------------------------------------

def test_a_driver_that_was_stopped_goes_on(room):
    """F14: as a suspended laptop: for longer than `timeout`, with requests
    under way and none."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "big", pattern(8 * MIB))
    room.control(latency_ms=300)
    with Mount(room, FRESH, "timeout=3") as m:
        m.ls(W)
        gate = Gate(room)
        calls = [Call(read_file, m(W, "big")), Call(os.listdir, m(W, "d")),
                 Call(save, m(W, "new"), pattern(200_000)),
                 Call(exec_script, m(W, ".exec"), f"cat {gate.vm}; echo on")]
        gate.wait()
        os.kill(m.pid, signal.SIGSTOP)
        try:
            threading.Event().wait(5)
        finally:
            os.kill(m.pid, signal.SIGCONT)
        gate.open()
        data, names, _, said = [c.result(40) for c in calls]
        assert data == pattern(8 * MIB)
        assert names == ["real"]
        assert Result(said).output == b"on\n"
        assert read_file(room.workspace + "/new") == pattern(200_000)
        assert m.read(W, "d/real") == b"real\n"


def test_signals_are_heard_while_sighup_waits(room, bad):
    """U2: checking everything anew can take as long as the service likes."""
    put(room.workspace, "d/real", "real\n")
    go = threading.Event()
    with Mount(bad, "timeout=60") as m:
        m.ls(W, "d")
        asked = bad.count()
        bad.rule = lambda r, f: go.wait() and Answer(500)
        m.process.send_signal(signal.SIGHUP)
        wait_until(lambda: bad.count() > asked, DEADLINE, "the check")
        began = clock()
        assert unmounts_in(m, DEADLINE)
        assert not late(began, 8)
        go.set()
        bad.rule = None


def test_no_names_are_an_error_in_time(room, tmp_path):
    """F1: a name server that says nothing, at mount time."""
    unshare = ["unshare", "-mn", "--"]
    if subprocess.run([*unshare, "true"]).returncode != 0:
        pytest.skip("needs namespaces")
    point = tmp_path / "mnt"
    point.mkdir()
    resolv = tmp_path / "resolv.conf"
    # A name server on a loopback that is up, where nobody answers.
    resolv.write_text("nameserver 127.0.0.2\noptions timeout:30 attempts:5\n")
    script = (
        'ip link set lo up; mount --bind "$1" /etc/resolv.conf; exec 9<>'
        '/dev/udp/127.0.0.1/9; python3 -c "import socket,time\n'
        's=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n'
        's.bind((\\"127.0.0.2\\",53)); print(1,flush=True)\n'
        's.recv(1)\ntime.sleep(600)" & p=$!; sleep 0.3\n'
        'shift; "$@"; s=$?; kill $p; exit $s')
    env = {"GENTILITY_API_KEY": room.key, "HOME": str(tmp_path)}
    began = clock()
    done = run([*unshare, "bash", "-c", script, "x", str(resolv), DRIVER, "-f",
                "-o", "timeout=2,url=https://api.example.test", room.source,
                str(point)], timeout=60, env=env)
    assert done.status == 1, done
    assert b"api.example.test" in done.err
    assert not late(began, 25)
