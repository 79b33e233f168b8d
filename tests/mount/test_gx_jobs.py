"""gx --follow and what belongs to it: jobs that go on in the VM."""

import hashlib
import os
import signal
import time

import pytest

from gxlib import (
    FAILED, INTERRUPTED, UNKNOWN, Terminal, alive, follow, gone, gx, jobs,
    marker, one_line, pipe, said, start,
)
from mountlib import (
    DEADLINE, MIB, Gate, Mount, Room, pattern, put, wait_until,
)


def test_a_job_is_followed_to_its_end(any_m):
    """G4: its output as it comes, and its exit code."""
    gate = Gate(any_m.room)
    program = follow(
        any_m, "sh", "-c", f"echo one; cat {gate.vm}; echo err >&2; exit 7")
    wait_until(lambda: said(program) == b"one\n", DEADLINE, "the first line")
    gate.wait()
    assert jobs(any_m)[1][0] == "running"
    os.write(gate.fd, b"two\n")
    wait_until(lambda: said(program) == b"one\ntwo\n", DEADLINE, "the next")
    gate.open()
    done = program.wait()
    assert done.status == 7
    assert done.out == b"one\ntwo\n"
    assert done.err == b"gx: job 1\nerr\n"
    state, command = jobs(any_m)[1]
    assert state == "exit 7" and command.startswith("sh -c 'echo one; cat ")
    done = gx(any_m, "--attach", "1")
    assert (done.status, done.out) == (7, b"one\ntwo\n")
    assert done.err == b"err\n"


def test_a_job_runs_as_any_command(any_m):
    """G4: the directory, the words, the umask, the environment, the input."""
    os.mkdir(any_m.room.workspace + "/d")
    plain = gx(any_m, "-c", "pwd; umask; echo $HOME $PATH; cat",
               where="workspace/d")
    job = gx(any_m, "--follow", "-c", "pwd; umask; echo $HOME $PATH; cat",
             where="workspace/d")
    assert job.out == plain.out and job.status == 0
    words = ["a b", "'", "$HOME", "x\ny", "", b"\xff"]
    done = gx(any_m, "--follow", "sh", "-c",
              'for x; do printf "%s|" "$x"; done; echo $#', "sh", *words)
    assert done.out == b"a b|'|$HOME|x\ny||\xff|6\n"
    assert gx(any_m, "--follow", "-c", "no-such-program").status == 127
    done = gx(any_m, "--follow", "-c", "set -- ; echo $# $0 > f; cat f")
    assert done.out.startswith(b"0 ")


def test_the_output_of_a_job_is_exact(any_m):
    """G4: any bytes, and much of them."""
    data = pattern(3 * MIB)
    put(any_m.room.workspace, "data", data)
    done = gx(any_m, "--follow", "cat", "data", timeout=DEADLINE * 3)
    assert done.status == 0
    assert hashlib.md5(done.out).digest() == hashlib.md5(data).digest()


def test_a_job_has_input_with_i(m):
    """G4: -i."""
    put(m.room.workspace, "in", b"some\0thing\n")
    with open(m.room.workspace + "/in", "rb") as f:
        done = gx(m, "--follow", "-i", "tr", "a-z", "A-Z", stdin=f)
    assert done.out == b"SOME\0THING\n"


def test_what_a_job_did_shows_when_it_has_ended(any_m):
    """G4: in the mount, where the old state was known."""
    put(any_m.room.workspace, "f", "old")
    assert any_m.read("workspace/f") == b"old"
    gate = Gate(any_m.room)
    program = follow(any_m, "sh", "-c", f"cat {gate.vm}; echo new >f; mkdir d")
    gate.wait()
    gate.open()
    assert program.wait().status == 0
    assert any_m.read("workspace/f") == b"new\n"
    assert any_m.ls("workspace") == ["d", "f", "gate"]


def test_a_quiet_job_costs_little(m):
    """G4: one request in some seconds, not one for each look."""
    gate = Gate(m.room)
    m.forget()
    program = follow(m, "cat", gate.vm)
    gate.wait()
    end = time.monotonic() + 3
    wait_until(lambda: time.monotonic() > end, DEADLINE)
    assert len(m.room.log("command")) <= 4
    gate.open()
    assert program.wait().status == 0
    assert m.count()["command"] <= 6


@pytest.mark.parametrize("fault", [
    {"lost": True}, {"reset": "before"}, {"status": 503}, {"json": "cut"},
    {"status": 502, "html": True, "run": True},
], ids=str)
def test_a_lost_connection_is_survived(m, fault):
    """G4: nothing of the output is lost or comes twice."""
    gate = Gate(m.room)
    program = follow(m, "sh", "-c", f"seq 1000; cat {gate.vm}; exit 4")
    wait_until(lambda: said(program).endswith(b"1000\n"), DEADLINE, "output")
    m.room.fault(fault, kind="command", contains="M begin\nP 1", times=2)
    gate.wait()
    os.write(gate.fd, b"more\n")
    gate.open()
    done = program.wait(DEADLINE * 3)
    assert done.status == 4
    assert done.out == b"".join(b"%d\n" % i for i in range(1, 1001)) + \
        b"more\n"
    if b"trying again" in done.err:
        assert b"the connection is back\n" in done.err


@pytest.mark.parametrize("fault", [
    {"lost": True}, {"reset": "before"}, {"json": "cut"}], ids=str)
def test_a_job_starts_once(any_m, fault):
    """G4: though the answer to its start was lost."""
    gx(any_m, "true")
    any_m.room.fault(fault, kind="command", contains="M begin\nS ", times=1)
    done = gx(any_m, "--follow", "-c", "echo x >>/tmp/count; cat /tmp/count",
              timeout=DEADLINE * 3)
    assert (done.status, done.out) == (0, b"x\n"), done
    assert list(jobs(any_m)) == [1]


def test_a_job_that_is_not_started(m):
    """G4: says so, in one line; no number is used."""
    gx(m, "true")
    m.room.fault({"status": 401}, kind="command", contains="M begin\nS ")
    done = gx(m, "--follow", "true")
    assert (done.status, done.out) == (FAILED, b"")
    one_line(done, "EACCES", "not run")
    m.room.fault({"hang": -1}, kind="command", contains="M begin\nS ")
    program = start(m, "--follow", "true")
    wait_until(lambda: m.room.state()["faults"][0]["fired"] > 0, DEADLINE,
               "the start")
    program.signal(signal.SIGINT)
    done = program.wait()
    assert done.status == INTERRUPTED
    one_line(done, "was ended")
    m.room.no_faults()
    assert jobs(m) == {}


def test_short_answers_are_coped_with(any_m):
    """G4: a service that cuts long outputs."""
    any_m.room.control(output_limit=9000)
    data = pattern(100000)
    put(any_m.room.workspace, "data", data)
    done = gx(any_m, "--follow", "cat", "data", timeout=DEADLINE * 3)
    assert done.status == 0 and done.out == data


def test_noise_around_answers(any_m):
    """G4: what the service adds is not the job's."""
    any_m.room.control(noise="motd\n", noise_after="\nbye\n")
    done = gx(any_m, "--follow", "echo", "x")
    assert (done.status, done.out) == (0, b"x\n")


def test_a_job_is_killed(any_m):
    """G5: with all that it started; it shows as such."""
    seconds = marker()
    program = follow(any_m, "sh", "-c",
                     f"sleep {seconds} & sleep {seconds}; echo never")
    wait_until(lambda: len(alive(seconds)) == 2, DEADLINE, "the job")
    done = gx(any_m, "--kill", str(program.job))
    assert (done.status, done.out, done.err) == (0, b"", b"")
    gone(seconds)
    done = program.wait()
    assert (done.status, done.out) == (143, b"")
    assert jobs(any_m)[1][0] == "exit 143"
    done = gx(any_m, "--kill", "1")
    assert done.status == FAILED
    one_line(done, "does not run", "exit 143")


def test_a_stubborn_job_is_killed(any_m):
    """G5: KILL follows TERM."""
    gate = Gate(any_m.room)
    program = follow(any_m, "-c", f"trap '' TERM; cat {gate.vm}; "
                                  "while :; do sleep 0.1; done")
    gate.open()
    assert gx(any_m, "--kill", "1").status == 0
    assert program.wait().status == 137
    assert jobs(any_m)[1][0] == "exit 137"


def test_jobs_are_numbered_listed_and_forgotten(any_m):
    """G5: --jobs, --clean."""
    assert jobs(any_m) == {}
    gate = Gate(any_m.room)
    program = follow(any_m, "cat", gate.vm)
    for code in range(2, 12):
        done = gx(any_m, "--follow", "sh", "-c", f"exit {code}")
        assert done.status == code
    gx(any_m, "--follow", "-c", "echo 'a\tb\\'\ntrue")
    listed = jobs(any_m)
    assert list(listed) == list(range(1, 13))
    assert listed[1] == ("running", "cat " + gate.vm)
    assert listed[11] == ("exit 11", "sh -c 'exit 11'")
    assert listed[12] == ("exit 0", r"echo 'a\011b\\'\012true")
    assert gx(any_m, "--clean").status == 0
    assert list(jobs(any_m)) == [1]
    for option in ("--attach", "--kill"):
        done = gx(any_m, option, "5")
        assert done.status == FAILED
        one_line(done, "no job 5")
    gate.open()
    assert program.wait().status == 0
    gx(any_m, "--clean")
    assert jobs(any_m) == {}
    home = any_m.room.home
    assert os.listdir(home + "/.cache/gentility-jobs") == []


def test_jobs_are_private(any_m):
    """G5: their directory is for the VM's user only."""
    os.makedirs(any_m.room.home + "/.cache/gentility-jobs")
    os.chmod(any_m.room.home + "/.cache/gentility-jobs", 0o777)
    gx(any_m, "--follow", "true")
    for path in ("", "/1", "/1/out", "/1/cmd"):
        st = os.stat(any_m.room.home + "/.cache/gentility-jobs" + path)
        assert st.st_mode & 0o077 == 0


def test_a_job_whose_runner_was_killed_is_dead(any_m):
    """G5: it shows as such, and nobody waits for it."""
    seconds = marker()
    program = follow(any_m, "sleep", seconds)
    wait_until(lambda: alive(seconds), DEADLINE, "the job")
    gx(any_m, "-c", 'read -r p x <~/.cache/gentility-jobs/1/pid; kill -9 $p')
    done = program.wait()
    assert done.status == UNKNOWN
    assert b"gx: job 1 died without an exit code" in done.err
    assert jobs(any_m)[1][0] == "dead"
    assert gx(any_m, "--attach", "1").status == UNKNOWN
    # What it left behind can still be ended.
    one_line(gx(any_m, "--kill", "1"), "dead")
    gone(seconds)
    gx(any_m, "--clean")
    assert jobs(any_m) == {}


def test_a_job_of_before_a_restart_is_dead(any_m):
    """G5: though another process has its number now."""
    program = follow(any_m, "true")
    assert program.wait().status == 0
    gx(any_m, "-c", "cd ~/.cache/gentility-jobs/1 && rm exit && "
                    "read -r p s b <pid && echo 1 $s other-boot >pid")
    assert jobs(any_m)[1][0] == "dead"
    assert gx(any_m, "--attach", "1").status == UNKNOWN


def test_a_vm_whose_shell_is_bash():
    """G1, G3, G5: its own shell runs a text, also in a job."""
    text = "a=(1 2 3); echo ${a[1]} $BASH_VERSION; sleep %s; echo never"
    with Room(shell="/bin/bash") as room, Mount(room) as m:
        version = gx(m, "-c", "echo $BASH_VERSION").out
        assert version != b"\n"
        for args in (), ("--follow",):
            seconds = marker()
            program = start(m, *args, "-c", text % seconds)
            wait_until(lambda: alive(seconds), DEADLINE, "the command")
            if args:
                assert gx(m, "--kill", "1").status == 0
            else:
                program.signal(signal.SIGINT)
            done = program.wait()
            assert done.status == (143 if args else INTERRUPTED)
            assert done.out.strip() == b"2 " + version.strip()
            gone(seconds)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_without_a_home_jobs_are_in_tmp():
    """G5: in a directory that nobody else can have made."""
    with Room(user=1000) as room, Mount(room) as m:
        os.chmod(room.home, 0o555)
        os.chown(room.home, 0, 0)
        path = room.tmp + "/gentility-jobs-1000"
        os.mkdir(path)
        os.chmod(path, 0o777)
        done = gx(m, "--follow", "true")
        assert done.status == FAILED
        one_line(done, "not run", "/tmp/gentility-jobs-1000")
        os.rmdir(path)
        assert gx(m, "--follow", "sh", "-c", "exit 3").status == 3
        assert os.stat(path).st_mode & 0o777 == 0o700
        assert jobs(m)[1][0] == "exit 3"


def test_a_new_vm_has_no_such_job(room):
    """G5: following ends when the VM was replaced."""
    with Mount(room) as m:
        gate = Gate(room)
        program = follow(m, "cat", gate.vm)
        gate.wait()
        room.control(renew=True)
        os.close(gate.fd)
        done = program.wait(DEADLINE * 3)
        assert done.status == UNKNOWN
        assert b"job 1" in done.err
        m.status = None


def test_a_room_without_a_vm_has_no_such_job(room):
    """G5: following ends when the VM has expired."""
    with Mount(room) as m:
        gate = Gate(room)
        program = follow(m, "cat", gate.vm)
        gate.wait()
        room.control(expire=True)
        os.close(gate.fd)
        done = program.wait(DEADLINE * 3)
        assert done.status == UNKNOWN
        assert b"no instance" in done.err
        assert b"job 1 went with its VM" in done.err


def test_a_job_may_remove_the_directory_it_is_followed_from(m):
    """G4: following does not depend on it."""
    os.mkdir(m.room.workspace + "/d")
    done = gx(m, "--follow", "sh", "-c", "rmdir /workspace/d; echo x; exit 2",
              where="workspace/d")
    assert (done.status, done.out) == (2, b"x\n")


def test_following_ends_when_its_reader_has_enough(m):
    """G4: as in any pipe; the job goes on."""
    gate = Gate(m.room)
    done = pipe(m, f"gx --follow sh -c 'seq 100000; cat {gate.vm}' | head -1\n"
                   'echo "${PIPESTATUS[0]}"', timeout=DEADLINE * 3)
    assert done.text == "1\n141\n"
    assert jobs(m)[1][0] == "running"
    gate.open()


def test_control_backslash_detaches_from_a_job(m):
    """G9: it goes on, and --attach shows all of it."""
    gate = Gate(m.room)
    with Terminal(m) as t:
        t.say(f"gx --follow sh -c 'echo begun; cat {gate.vm}; exit 3'")
        t.expect(b"begun\n")
        gate.wait()
        t.type(b"\x1c")
        said = t.expect(b"ready> ")
        assert b"gx: detached; job 1 goes on: gx --attach 1\n" in said
        assert t.say("echo status $?", b"ready> ") == b"status 131\n"
        t.say("gx --attach 1")
        t.expect(b"begun\n")
        os.write(gate.fd, b"data\n")
        gate.open()
        assert b"data\n" in t.expect(b"ready> ")
        assert t.say("echo status $?", b"ready> ") == b"status 3\n"
