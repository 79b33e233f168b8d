"""What .exec says when a command could not be run or nobody knows whether it
ran; that it is never run twice; interrupts; and long commands."""

import errno
import json
import os
import signal

import pytest

from mountlib import (
    DEADLINE, MIB, Call, Gate, Mount, Program, Result, do, exec_script,
    failure, put, settle, wait_until, write_file,
)

COUNT = "echo x >> /tmp/count # marker\n"


def runs(room):
    try:
        with open(room.tmp + "/count") as f:
            return len(f.read().split())
    except FileNotFoundError:
        return 0


def sent(room):
    """How many requests had the script in them."""
    settle(room)
    return sum("# marker" in e["command"] for e in room.log("command"))


def failed_close(m, script=COUNT, where="workspace", timeout=None):
    """Write it; the errno of the close, and what is read then."""
    def attempt(path):
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, script.encode())
        try:
            os.close(fd)
        except OSError as e:
            return e.errno
        return 0
    number = do(attempt, m(where, ".exec"), timeout=timeout)
    return number, m.read(where, ".exec")


LOST = [
    {"lost": True}, {"lost": "reset"}, {"reset": "middle"},
    {"json": "cut"}, {"json": "malformed"}, {"json": "wrong_types"},
    {"json": "missing_fields"},
    {"status": 500, "run": True}, {"status": 502, "html": True, "run": True},
    {"status": 504, "run": True},
]


@pytest.mark.parametrize("where", ["workspace", ""])
@pytest.mark.parametrize("fault", LOST, ids=str)
def test_a_command_whose_answer_is_lost_is_never_sent_again(
        room, fault, where):
    """E4, E5: it ran once; close() fails, and the file says that the outcome
    is unknown.  Connections are warm, so that libcurl would send again."""
    with Mount(room) as m:
        m.ls("workspace")
        for i in range(3):
            m.exec("tmp", "true")
        m.forget()
        room.fault(fault, kind="command", contains="# marker")
        number, data = failed_close(m, where=where)
        assert sent(room) == 1
        assert runs(room) == 1
        assert number in (errno.EIO, errno.ETIMEDOUT), number
        fate, name = failure(data)
        assert fate == "outcome unknown"
        assert name == errno.errorcode[number]
        answer = json.loads(m.read(where, ".exec.json"))
        assert answer["fate"] == "unknown" and answer["error"] == name
        assert answer["message"]
        room.no_faults()
        # What it did is seen all the same, and all goes on.
        assert m.read("tmp/count") == b"x\n"
        assert Result(m.exec(where, "echo on")).output == b"on\n"


@pytest.mark.parametrize("fault", [
    {"close": True}, {"reset": "before"}, {"status": 500},
    {"status": 502}, {"status": 504, "html": True},
], ids=str)
def test_a_command_whose_connection_dies_is_not_repeated(room, fault):
    """E4: nobody knows on this side that it did not run."""
    with Mount(room) as m:
        for i in range(3):
            m.exec("tmp", "true")
        m.forget()
        room.fault(fault, kind="command", contains="# marker")
        number, data = failed_close(m)
        assert sent(room) == 1 and runs(room) == 0
        assert number == errno.EIO
        assert failure(data)[0] == "outcome unknown"


@pytest.mark.parametrize("fault,number", [
    ({"status": 401}, errno.EACCES), ({"status": 403}, errno.EACCES),
], ids=str)
def test_a_refused_command_has_not_run(room, fault, number):
    """E5: and the file says so with the reason."""
    with Mount(room) as m:
        m.ls("workspace")
        room.fault(fault, kind="command", contains="# marker")
        got, data = failed_close(m)
        assert got == number
        assert failure(data) == ("not run", errno.errorcode[number])
        assert json.loads(m.read("workspace/.exec.json"))["fate"] == "not_run"
        assert runs(room) == 0


@pytest.mark.parametrize("fault", [
    {"status": 429, "retry_after": 1}, {"status": 503, "retry_after": 1},
    {"status": 429},
], ids=str)
def test_a_command_that_was_turned_away_runs_once_at_most(room, fault):
    """E4: too many requests, or not ready: it has not started, so it may be
    sent again; in any case it runs once or the file says that it did not."""
    with Mount(room) as m:
        m.ls("workspace")
        room.fault(fault, times=1, kind="command", contains="# marker")
        number, data = failed_close(m, timeout=40)
        if number == 0:
            assert runs(room) == 1
            assert Result(data).exit == 0
        else:
            assert runs(room) == 0
            assert failure(data)[0] in ("not run", "outcome unknown")


def test_a_shell_s_echo_that_hides_the_error_leaves_it_to_be_read(room):
    """E5: bash's echo exits 0, the next read shows the failure."""
    with Mount(room) as m:
        m.exec("workspace", "echo before")
        room.fault({"lost": True}, kind="command", contains="# marker")
        m.sh("echo 'echo x # marker' > workspace/.exec", ok=False)
        fate, name = failure(m.read("workspace/.exec"))
        assert fate == "outcome unknown"
        assert failure(m.read("tmp/.exec")) == (fate, name)


def test_every_close_of_the_failed_descriptor_and_its_reads_say_so(room):
    """E5: a read after the write fails or gives the reason; the descriptor's
    own result is the failure."""
    def talk(path):
        fd = os.open(path, os.O_RDWR)
        os.write(fd, COUNT.encode())
        try:
            data = os.pread(fd, 1000, 0)
        except OSError as e:
            data = e.errno
        try:
            os.close(fd)
        except OSError:
            pass
        return data

    with Mount(room) as m:
        m.ls("workspace")
        m.forget()
        room.fault({"lost": True}, kind="command", contains="# marker")
        data = do(talk, m("workspace/.exec"))
        if data != errno.EIO:
            assert failure(data)[0] == "outcome unknown"
        assert (sent(room), runs(room)) == (1, 1)


def test_a_server_that_is_gone_means_not_run(room):
    """E5: nobody listens: it has certainly not started."""
    with Mount(room, "timeout=3") as m:
        m.ls("workspace")
        room.stop()
        number, data = failed_close(m, timeout=40)
        assert number in (errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH,
                          errno.ECONNREFUSED)
        assert failure(data)[0] == "not run"


def test_a_large_script_is_staged_once_and_run_once(room):
    """E4, E10: also when answers of the staging commands are lost."""
    script = "#" * 300_000 + "\n" + COUNT
    with Mount(room) as m:
        m.ls("workspace")
        room.fault({"lost": True}, every=3, kind="command")
        try:
            do(write_file, m("workspace/.exec"), script.encode(), timeout=60)
        except OSError as e:
            assert e.errno in (errno.EIO, errno.ETIMEDOUT), e
        room.no_faults()
        settle(room)
        assert runs(room) <= 1
        data = m.read("workspace/.exec")
        if data.startswith(b"gentilityfs: not run"):
            assert runs(room) == 0
        elif not data.startswith(b"gentilityfs: outcome unknown"):
            assert runs(room) == 1


# -- long commands and interrupts --------------------------------------------------


def test_a_command_has_no_time_limit_of_ours(room):
    """E6: it may take longer than `timeout`."""
    gate = Gate(room)
    with Mount(room, "timeout=2") as m:
        call = Call(exec_script, m("workspace/.exec"),
                    f"cat {gate.vm}; echo late")
        gate.wait()
        # Well past timeout, on the room's own clock.
        room.run("sleep 3")
        assert not call.finished()
        gate.open()
        assert Result(call.result()).output == b"late\n"


def test_a_command_that_outlives_an_answer_is_over_when_it_answers(room):
    """E6: silence on the connection is no reason to give up."""
    with Mount(room, "timeout=2") as m:
        result = Result(m.exec("workspace", "sleep 2.5; echo slept"))
        assert result.output == b"slept\n"


@pytest.mark.parametrize("count", [1, 30])
def test_long_commands_hold_up_nobody(any_room, count):
    """E6: browsing, reading and further commands go on beside them."""
    gates = [Gate(any_room, f"gate{i}") for i in range(count)]
    put(any_room.tmp, "f", "contents")
    put(any_room.tmp, "big", b"z" * (2 * MIB))
    with Mount(any_room) as m:
        calls = [Call(exec_script, m("workspace/.exec"),
                      f"cat {g.vm}; echo done") for g in gates]
        for g in gates:
            g.wait()
        assert m.read("tmp/f", timeout=10) == b"contents"
        assert m.read("tmp/big", timeout=10) == b"z" * (2 * MIB)
        assert "user" in m.ls("home", timeout=10)
        assert Result(m.exec("tmp", "echo beside", timeout=10)).output == \
            b"beside\n"
        assert Result(m.exec("workspace", "echo same", timeout=10)).output == \
            b"same\n"
        assert not any(c.finished() for c in calls)
        for g in gates:
            g.open()
        for c in calls:
            assert b"done" in c.result()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM,
                                    signal.SIGKILL])
def test_a_signal_ends_the_wait_at_once(any_room, number):
    """E6: Ctrl-C, TERM and KILL; other operations go on, and the command in
    the VM is not sent again."""
    gate = Gate(any_room)
    put(any_room.tmp, "f", "contents")
    with Mount(any_room) as m:
        m.ls("tmp")
        m.forget()
        program = Program(["python3", "-c", """if True:
            import os, sys
            fd = os.open(sys.argv[1], os.O_WRONLY)
            os.write(fd, sys.argv[2].encode())
            try:
                os.close(fd)
            except KeyboardInterrupt:
                sys.exit(42)
            except OSError as e:
                sys.exit(e.errno)
            """, m("workspace/.exec"), f"cat {gate.vm}; {COUNT}"])
        gate.wait()
        program.signal(number)
        done = program.wait(5)
        want = 42 if number == signal.SIGINT else -number
        assert done.status == want, done
        assert m.read("tmp/f", timeout=5) == b"contents"
        gate.open()
        settle(any_room)
        assert runs(any_room) == 1


def test_an_interrupted_close_is_eintr(any_room):
    """E6: what a program with a signal handler gets."""
    gate = Gate(any_room)

    def attempt(path):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        signal.signal(signal.SIGINT, lambda *_: None)
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, f"cat {gate.vm}".encode())
        ctypes.set_errno(0)
        status = libc.close(fd)
        return status, ctypes.get_errno()

    with Mount(any_room) as m:
        call = Call(attempt, m("workspace/.exec"))
        gate.wait()
        call.signal(signal.SIGINT)
        assert call.result(5) == (-1, errno.EINTR)
        gate.open()


def test_an_interrupted_read_is_eintr(any_room):
    """E6: a read that follows a write waits, and can be interrupted, too."""
    gate = Gate(any_room)

    def attempt(path):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        signal.signal(signal.SIGINT, lambda *_: None)
        fd = os.open(path, os.O_RDWR)
        os.write(fd, f"cat {gate.vm}".encode())
        n = libc.pread(fd, ctypes.create_string_buffer(100), 100, 0)
        return n, ctypes.get_errno()

    with Mount(any_room) as m:
        call = Call(attempt, m("workspace/.exec"))
        gate.wait()
        call.signal(signal.SIGINT)
        assert call.result(5) == (-1, errno.EINTR)
        gate.open()


def test_ctrl_c_in_a_shell_comes_back_to_it(any_room):
    """E6: bash's redirection of a builtin."""
    gate = Gate(any_room)
    with Mount(any_room) as m:
        program = Program(["bash", "-c", 'echo "cat $1" > "$2"; echo back',
                           "bash", gate.vm, m("workspace/.exec")])
        gate.wait()
        program.signal(signal.SIGINT)
        done = program.wait(5)
        assert done.status in (0, 130, -signal.SIGINT), done
        gate.open()


def test_the_result_of_an_interrupted_command_is_read_when_it_has_ended(
        any_room):
    """E6, E9: the interrupt ends the wait, not the command."""
    gate = Gate(any_room)
    with Mount(any_room) as m:
        m.exec("workspace", "echo before")
        call = Call(exec_script, m("workspace/.exec"),
                    f"cat {gate.vm}; echo finished after all")
        gate.wait()
        call.signal(signal.SIGINT)
        with pytest.raises((KeyboardInterrupt, InterruptedError)):
            call.result(5)
        gate.open()
        wait_until(lambda: b"finished after all\n--- exit 0" in
                   m.read("workspace/.exec"), DEADLINE)


def test_a_gate_that_never_opens_does_not_hold_the_unmount(room):
    """E6, U1: unmounting while a command runs, its waiter being gone."""
    gate = Gate(room)
    with Mount(room) as m:
        call = Call(exec_script, m("workspace/.exec"), f"cat {gate.vm}")
        gate.wait()
        call.signal(signal.SIGKILL)
        call._collect(5)
        assert call.done
    # Mount's end has checked that the driver ended well.
    gate.open()
