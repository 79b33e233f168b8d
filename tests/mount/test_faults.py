"""The errors table of design.md, played by the room: what the user's program
gets, that it is never wrong bytes or a hang, and that the mount recovers."""

import errno
import os
import signal
import threading

import pytest

from mountlib import (
    DEADLINE, MIB, Call, Mount, Program, Result, clock, late, pattern, put,
    raises, read_file, wait_until
)

SHORT = "cache_timeout=0"  # each open asks, so that each meets the fault


def fill(room, entries=100):
    for i in range(entries):
        put(room.workspace, f"d/f{i:03d}", b"%d" % i)
    put(room.workspace, "file", "contents\n")
    put(room.workspace, "big", pattern(3 * MIB))


PASSING = [
    {"status": 429}, {"status": 503, "retry_after": 1}, {"status": 500},
    {"status": 500, "html": True}, {"status": 502, "html": True},
    {"status": 504}, {"reset": "before"}, {"reset": "middle"},
    {"close": True}, {"lost": True}, {"json": "cut"}, {"json": "malformed"},
    {"json": "wrong_types"}, {"json": "missing_fields"},
    {"body_base64": ""}, {"body_base64": "PGh0bWw+"},
]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_what_passes_is_retried(room, fault):
    """F2: listing, a small file and a large one, each hit at first."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.settle()
        for kind in ("command", "file", "raw"):
            if kind == "raw" and "json" in fault:
                continue
            room.fault(fault, times=1, kind=kind)
            if kind == "command":
                assert len(m.ls("workspace/d", timeout=40)) == 100
            elif kind == "file":
                assert m.read("workspace/file", timeout=40) == b"contents\n"
            else:
                assert m.read("workspace/big", timeout=40) == pattern(3 * MIB)
            room.no_faults()


def test_retry_after_is_honoured(room):
    """F2: not before the time that the service names."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.forget()
        room.fault({"status": 503, "retry_after": 2}, times=1, kind="command")
        m.ls("workspace/d", timeout=30)
        m.settle()
        log = room.log("command")
        assert log[0]["status"] == 503
        assert log[1]["t_start"] - log[0]["t_end"] >= 1.9


def test_retries_are_spaced_with_growing_delays(room):
    """F2: a failing server is not hammered."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.forget()
        room.fault({"status": 500}, times=4, kind="command")
        assert len(m.ls("workspace/d", timeout=60)) == 100
        m.settle()
        starts = [e["t_start"] for e in room.log("command")][:5]
        gaps = [b - a for a, b in zip(starts, starts[1:])]
        assert min(gaps) > 0.02, gaps
        assert gaps[-1] > gaps[0], gaps


@pytest.mark.parametrize("fault", [
    {"status": 500}, {"status": 503}, {"reset": "before"}, {"close": True},
    {"json": "malformed"}, {"status": 200, "html": True},
], ids=str)
def test_a_server_that_stays_broken_gives_eio_and_then_recovers(room, fault):
    """F1: in bounded time; the mount works again when the server does."""
    fill(room)
    with Mount(room, SHORT, "timeout=2") as m:
        assert m.read("workspace/file") == b"contents\n"
        room.fault(fault)
        began = clock()
        raises((errno.EIO, errno.ETIMEDOUT), os.listdir, m("workspace/d"),
               timeout=60)
        assert not late(began, 45)
        room.no_faults()
        wait_until(lambda: listed(m) == 100, DEADLINE, "recovery")
        assert m.read("workspace/big") == pattern(3 * MIB)


def listed(m):
    try:
        return len(m.ls("workspace/d"))
    except OSError:
        return 0


def test_a_server_that_is_silent_gives_etimedout_and_then_recovers(room):
    """F1: within `timeout` for internal work."""
    fill(room)
    with Mount(room, SHORT, "timeout=2") as m:
        m.ls("workspace")
        room.fault({"hang": -1})
        began = clock()
        raises(errno.ETIMEDOUT, os.listdir, m("workspace/d"), timeout=30)
        assert not late(began, 8)
        raises((errno.ETIMEDOUT, errno.EIO), read_file, m("workspace/big"),
               timeout=30)
        room.no_faults()
        wait_until(lambda: listed(m) == 100, DEADLINE, "recovery")
        assert m.read("workspace/big") == pattern(3 * MIB)


def test_a_server_that_stands_still_and_goes_on(room):
    """F1: connections are accepted, nothing comes."""
    fill(room)
    with Mount(room, SHORT, "timeout=2") as m:
        m.ls("workspace")
        room.process.send_signal(signal.SIGSTOP)
        try:
            raises((errno.ETIMEDOUT, errno.EIO), os.listdir,
                   m("workspace/d"), timeout=40)
        finally:
            room.process.send_signal(signal.SIGCONT)
        wait_until(lambda: listed(m) == 100, DEADLINE, "recovery")


def test_what_is_known_is_there_while_the_server_is_silent(room):
    """F1: within cache_timeout neither names nor contents need it, nor does
    df of the root or a command's old result."""
    fill(room)
    with Mount(room, "cache_timeout=600", "timeout=2") as m:
        m.sh("ls -lR workspace >/dev/null")
        m.read("workspace/file")
        m.exec("workspace", "echo result")
        m.settle()
        m.ls("workspace/d")
        m.read("workspace/file")
        m.settle()
        room.fault({"hang": -1})
        assert len(m.ls("workspace/d", timeout=2)) == 100
        assert m.read("workspace/file", timeout=2) == b"contents\n"
        assert Result(m.read("workspace/.exec", timeout=2)).output == \
            b"result\n"
        m.lstat(".", timeout=2)
        room.no_faults()


def test_many_blocked_calls_do_not_block_the_others(room):
    """F1: sixty readers wait for a silent server; what is cached is served."""
    for i in range(60):
        put(room.workspace, f"s{i}", pattern(2000, i))
    put(room.workspace, "known", "known\n")
    with Mount(room, "cache_timeout=600", "timeout=5") as m:
        m.sh("ls -l workspace >/dev/null")
        m.read("workspace/known")
        m.settle()
        room.fault({"hang": -1}, kind="file")
        calls = [Call(read_file, m(f"workspace/s{i}")) for i in range(60)]
        wait_until(lambda: room.state()["inflight"] > 0, DEADLINE)
        assert m.read("workspace/known", timeout=3) == b"known\n"
        assert m.lstat("workspace/s59", timeout=3).st_size == 2000
        assert Result(m.exec("tmp", "echo hi", timeout=4)).output == b"hi\n"
        room.no_faults()
        for c in calls:
            c.end()


def test_a_waiting_call_can_be_killed(room):
    """F1: a process that waits for a silent server dies of SIGKILL."""
    fill(room)
    with Mount(room, SHORT, "timeout=15") as m:
        m.settle()
        room.fault({"hang": -1})
        program = Program(["ls", m("workspace/d")])
        wait_until(lambda: room.state()["inflight"] > 0, DEADLINE)
        program.signal(signal.SIGKILL)
        assert program.wait(5).status == -9
        room.no_faults()


def test_a_directory_first_seen_while_the_key_was_refused(room):
    """It is not taken for one that can't be read."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.ls("workspace")
        room.fault({"status": 403})
        raises(errno.EACCES, os.listdir, m("workspace/d"), timeout=20)
        room.no_faults()
        assert listed(m) == 100


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_eacces_and_logged_once(room, status):
    """F4: with the hint what to check, and it works again when let in."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.ls("workspace")
        before = m.stderr().count("\n")
        room.fault({"status": status})
        for _ in range(3):
            raises(errno.EACCES, os.listdir, m("workspace/d"), timeout=20)
        raises(errno.EACCES, read_file, m("workspace/file"), timeout=20)
        lines = m.stderr().splitlines()[before:]
        assert len([x for x in lines if "key" in x.lower()]) == 1, lines
        room.no_faults()
        wait_until(lambda: listed(m) == 100, DEADLINE)


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_a_file_that_is_gone_is_enoent_and_forgotten(any_room, size):
    """F7: 404 file_not_found, in spite of a long cache_timeout."""
    put(any_room.workspace, "gone", pattern(size))
    put(any_room.workspace, "stays", "x")
    with Mount(any_room, "cache_timeout=3600") as m:
        assert m.ls("workspace") == ["gone", "stays"]
        os.unlink(any_room.workspace + "/gone")
        raises(errno.ENOENT, read_file, m("workspace/gone"))
        raises(errno.ENOENT, os.lstat, m("workspace/gone"))
        assert m.ls("workspace") == ["stays"]


@pytest.mark.parametrize("cut", ["tail", "middle"])
@pytest.mark.parametrize("limit", [3000, 10_000, 65_536])
def test_cut_output_lists_1000_entries_right(any_room, cut, limit):
    """F6: what is cut is asked for again in smaller pieces."""
    import random
    rng = random.Random(3)
    names = {"".join(rng.choices("abcdefghij0123456789", k=40))
             for _ in range(1000)}
    for n in names:
        put(any_room.workspace, "d/" + n, n)
    any_room.control(output_limit=limit, output_cut=cut)
    with Mount(any_room, "cache_timeout=600") as m:
        assert set(m.ls("workspace/d", timeout=60)) == names
        done = m.sh("ls -l workspace/d | wc -l", timeout=60)
        assert int(done.text) == 1001
        some = sorted(names)[500]
        assert m.lstat("workspace/d", some).st_size == 40
        assert m.read("workspace/d", some) == some.encode()


@pytest.mark.parametrize("cut", ["tail", "middle"])
def test_cut_output_reads_files_right(any_room, cut):
    """F6: also where contents come by commands."""
    data = pattern(2 * MIB + 5)
    put(any_room.workspace, "f", data)
    any_room.control(output_limit=60_000, output_cut=cut, raw="off",
                     max_file=1000)
    with Mount(any_room) as m:
        assert m.read("workspace/f", timeout=60) == data


def test_cut_output_of_a_user_s_command_is_shown_as_it_came(any_room):
    """F6: it is not asked for again."""
    any_room.control(output_limit=20_000)
    with Mount(any_room) as m:
        data = m.exec("workspace", "seq 100000; echo x >> /tmp/count")
        assert data.startswith(b"1\n2\n3\n")
        assert data.splitlines()[-2].startswith(b"--- exit 0"), data[-300:]
    assert read_file(any_room.tmp + "/count") == b"x\n"


@pytest.mark.parametrize("before,after", [
    ("Welcome!\n", ""), ("", "\nBye.\n"), ("motd\r\nline 2\n\n", "\n$ "),
    ("no newline", "no newline"), ("\u00fc\x1b[0m\n", "\n\x00"),
    ("H4sIAAAA\n", "\nH4sIAAAA"),
])
def test_noise_around_output_does_no_harm(any_room, before, after):
    """F6: what a login shell says before and after."""
    fill(any_room)
    any_room.control(noise=before, noise_after=after.replace("\x00", ""))
    with Mount(any_room) as m:
        assert len(m.ls("workspace/d")) == 100
        assert m.read("workspace/file") == b"contents\n"
        assert m.read("workspace/big") == pattern(3 * MIB)
        data = m.exec("workspace", "echo ran; exit 4")
        assert b"ran" in data and b"\n--- exit 4, 0 files changed\n" in data
        assert m.exec("", "echo root").count(b"root") >= 1


def test_dropped_stderr_does_no_harm(any_room):
    """F6: whether stderr is merged or dropped."""
    fill(any_room)
    any_room.control(stderr="drop")
    with Mount(any_room) as m:
        assert len(m.ls("workspace/d")) == 100
        raises(errno.ENOENT, os.lstat, m("workspace/none"))
        assert Result(m.exec("workspace", "echo e >&2; echo o")).output == \
            b"o\n"


def test_output_forms_do_no_harm(any_room):
    """F6: trimmed or not, gzip answers or not."""
    fill(any_room)
    for space in ("trim", "exact"):
        for gzip in (False, True):
            any_room.control(output_space=space, gzip=gzip)
            with Mount(any_room) as m:
                assert len(m.ls("workspace/d")) == 100
                assert m.read("workspace/big") == pattern(3 * MIB)


def test_a_rate_limit_slows_but_does_not_break(room):
    """F2: 20 requests a second."""
    fill(room, 40)
    room.control(rate_limit=20)
    with Mount(room) as m:
        done = m.sh("cat workspace/d/* | wc -c", timeout=60)
        assert int(done.text) == sum(len(str(i)) for i in range(40))


def test_one_request_in_five_fails_and_nothing_is_noticed(any_room):
    """F2: a walk with reads while answers get lost at random."""
    fill(any_room)
    any_room.control(faults=[
        {"match": {"percent": 10, "seed": 5}, "fault": {"reset": "middle"}},
        {"match": {"percent": 10, "seed": 6}, "fault": {"status": 503}},
    ])
    with Mount(any_room) as m:
        done = m.sh("tar c workspace | tar xO | wc -c", timeout=90)
        assert int(done.text) == 3 * MIB + 9 + 190
        any_room.no_faults()


def test_an_answer_of_another_instance_is_noticed(room):
    """F3: any answer's instance_id is compared, also a file's."""
    fill(room)
    with Mount(room, "cache_timeout=600") as m:
        m.ls("workspace")
        room.control(renew=True)
        # Contents of the old VM may not be shown as the new one's.
        raises((errno.ENOENT, errno.ESTALE, errno.EIO), read_file,
               m("workspace/file"))
        wait_until(lambda: m.ls("workspace") == [], DEADLINE)


def test_a_new_instance_is_a_fresh_view(any_room):
    """F3: everything cached is dropped, open files give ESTALE, the log says
    it in one line."""
    put(any_room.workspace, "old", "old contents\n")
    put(any_room.workspace, "same", "of the old VM\n")

    def hold(path, ready, go):
        fd = os.open(path, os.O_RDONLY)
        before = os.pread(fd, 100, 0)
        os.write(ready, b"x")
        os.read(go, 1)
        # The kernel hears of it by a notice, which may take a moment.
        end = clock() + DEADLINE
        seen = {before}
        while clock() < end:
            try:
                seen.add(os.pread(fd, 100, 0))
            except OSError as e:
                return seen, e.errno
        return seen, 0

    with Mount(any_room, "cache_timeout=600") as m:
        old = any_room.instance_id
        assert m.ls("workspace") == ["old", "same"]
        m.read("workspace/old")
        m.read("workspace/same")
        ready, go = os.pipe(), os.pipe()
        call = Call(hold, m("workspace/same"), ready[1], go[0])
        os.read(ready[0], 1)
        any_room.control(renew=True)
        put(any_room.workspace, "same", "of the NEW VM\n")
        put(any_room.workspace, "fresh", "fresh\n")
        lines = m.stderr().count("\n")
        # Any answer brings the news.
        m.exec("tmp", "true")
        os.write(go[1], b"x")
        assert call.result() == ({b"of the old VM\n"}, errno.ESTALE)
        wait_until(lambda: m.ls("workspace") == ["fresh", "same"], DEADLINE)
        assert m.read("workspace/same") == b"of the NEW VM\n"
        raises(errno.ENOENT, os.lstat, m("workspace/old"))
        said = "\n".join(m.stderr().splitlines()[lines:])
        new = any_room.instance_id
        assert new != old and (new in said or "instance" in said), said


def test_the_old_instance_s_cache_is_not_the_new_one_s(any_room, tmp_path):
    """F3, R3: a file of the new VM with the same name, size and times."""
    cache = str(tmp_path / "cache")
    when = 1_500_000_000_000_000_000
    os.utime(put(any_room.workspace, "f", b"a" * 100), ns=(when, when))
    with Mount(any_room, cache=cache) as m:
        assert m.read("workspace/f") == b"a" * 100
    any_room.control(renew=True)
    os.utime(put(any_room.workspace, "f", b"b" * 100), ns=(when, when))
    with Mount(any_room, cache=cache) as m:
        assert m.read("workspace/f") == b"b" * 100


def test_an_expired_room_is_an_error_that_names_create(room):
    """F5: without -o create nothing is started behind the user's back."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.ls("workspace")
        room.reset_log()
        room.control(expire=True)
        raises((errno.EIO, errno.ESTALE), os.listdir, m("workspace/d"),
               timeout=40)
        assert "create" in m.stderr().splitlines()[-1]
        assert room.count()["create"] == 0
        room.create()
        wait_until(lambda: attempt(m) == [], DEADLINE, "the new room")


def attempt(m):
    try:
        return m.ls("workspace")
    except OSError:
        return None


@pytest.mark.parametrize("boot", [0, 2])
def test_an_expired_room_is_started_again_with_create(room, boot):
    """F5: also when its VM takes a while."""
    fill(room)
    with Mount(room, SHORT, "create") as m:
        m.ls("workspace")
        room.control(expire=True, boot=boot)
        wait_until(lambda: attempt(m) == [], DEADLINE, "the new room")
        assert Result(m.exec("workspace", "echo on")).output == b"on\n"


def test_a_room_that_is_not_ready_yet_is_waited_for(room):
    """F2: 503 for two seconds."""
    fill(room)
    with Mount(room, SHORT) as m:
        m.settle()
        room.control(not_ready=2)
        assert len(m.ls("workspace/d", timeout=40)) == 100


def test_a_redirect_does_not_take_the_key_elsewhere(room):
    """F1: an answer that points to another host is an error."""
    import http.server
    seen = []

    class Thief(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
        do_GET = do_POST = handle_any

        def log_message(self, *args):
            pass

    fill(room)
    thief = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Thief)
    threading.Thread(target=thief.serve_forever, daemon=True).start()
    try:
        with Mount(room, SHORT, "timeout=2") as m:
            m.ls("workspace")
            room.fault({"redirect":
                        f"http://localhost:{thief.server_port}/x"})
            raises((errno.EIO, errno.ETIMEDOUT, errno.EACCES), os.listdir,
                   m("workspace/d"), timeout=60)
            room.no_faults()
    finally:
        thief.shutdown()
        thief.server_close()
    assert not any(seen), seen
