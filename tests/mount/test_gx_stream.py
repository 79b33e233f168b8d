"""gx: output as it comes, input as it comes, and what ends a command."""

import hashlib
import json
import os
import re
import signal
import subprocess

import pytest

from gxlib import (
    FAILED, GX, INTERRUPTED, Terminal, alive, gone, gx, jobs, marker, one_line,
    pipe, said, start,
)
from mountlib import (
    DEADLINE, MIB, Gate, Mount, Program, clock, pattern, put, wait_until,
)


def err_of(program):
    with open(f"/proc/self/fd/{program.err.fileno()}", "rb") as f:
        return f.read()


def asked(m):
    """Requests of gx's; each of the driver's own has its own tests."""
    return len([r for r in m.room.log("command")
                if "#gentilityfs: 0 is no change" in r["command"]])


def shown(program, text):
    wait_until(lambda: said(program) == text, DEADLINE, f"{text!r}")


# -- output ------------------------------------------------------------------------


def test_a_short_command_is_one_request(any_m):
    """G7: also with both outputs, and input that is there."""
    gx(any_m, "true")
    put(any_m.room.workspace, "in", "some\n")
    for args in (["true"], ["-c", "echo a; echo b >&2; exit 3"],
                 ["--json", "echo", "x"], ["sh", "-c", "cat; echo æ"]):
        any_m.forget()
        with open(any_m.room.workspace + "/in", "rb") as f:
            gx(any_m, *args, stdin=f)
        assert asked(any_m) == 1, args
    any_m.forget()
    done = pipe(any_m, "echo x | gx cat")
    assert done.out == b"x\n"
    assert asked(any_m) <= 3


def test_output_comes_as_it_is_written(any_m):
    """G7: each on its own stream, though the command goes on."""
    gate = Gate(any_m.room)
    program = start(any_m, "sh", "-c",
                    f"echo one; echo e1 >&2; cat {gate.vm}; echo e2 >&2")
    shown(program, b"one\n")
    wait_until(lambda: err_of(program) == b"e1\n", DEADLINE, "e1")
    gate.wait()
    for i in range(3):
        os.write(gate.fd, b"%d\n" % i)
        shown(program, b"one\n" + b"".join(b"%d\n" % k for k in range(i + 1)))
    gate.open()
    done = program.wait()
    assert (done.status, done.err) == (0, b"e1\ne2\n")
    assert jobs(any_m) == {}


def test_both_outputs_are_exact(any_m):
    """G7: byte for byte, and much of them."""
    out, err = pattern(3 * MIB), pattern(2 * MIB + 7)[5:]
    put(any_m.room.workspace, "out", out)
    put(any_m.room.workspace, "err", err)
    done = gx(any_m, "-c", "cat out & cat err >&2; wait; exit 5",
              timeout=DEADLINE * 3)
    assert done.status == 5
    assert hashlib.md5(done.out).digest() == hashlib.md5(out).digest()
    assert hashlib.md5(done.err).digest() == hashlib.md5(err).digest()


def test_one_file_for_both_keeps_their_order(any_m):
    """G7: as with 2>&1, and on a terminal."""
    script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done"
    done = pipe(any_m, f"gx -c '{script}' 2>&1 | cat")
    assert done.text.split() == ["o1", "e1", "o2", "e2", "o3", "e3"]


def test_silence_costs_little(m):
    """G7: one request in many seconds, where commands run side by side."""
    gate = Gate(m.room)
    m.forget()
    program = start(m, "cat", gate.vm)
    gate.wait()
    end = clock() + 8
    wait_until(lambda: clock() > end, DEADLINE)
    assert asked(m) <= 4
    gate.open()
    assert program.wait().status == 0
    assert asked(m) <= 5


@pytest.mark.parametrize("fault", [
    {"lost": True}, {"reset": "before"}, {"status": 503}, {"json": "cut"}],
    ids=str)
def test_a_long_command_survives_lost_connections(any_m, fault):
    """G7: nothing of its output is lost or comes twice."""
    gate = Gate(any_m.room)
    program = start(any_m, "sh", "-c", f"seq 1000; cat {gate.vm}; exit 4")
    wait_until(lambda: said(program).endswith(b"1000\n"), DEADLINE, "output")
    any_m.room.fault(fault, kind="command", contains="M begin\nP t", times=2)
    gate.wait()
    os.write(gate.fd, b"more\n")
    gate.open()
    done = program.wait(DEADLINE * 3)
    assert done.status == 4
    assert done.out == b"".join(b"%d\n" % i for i in range(1, 1001)) + \
        b"more\n"


def test_its_reader_may_have_enough(any_m):
    """G7: then the command is ended, as in any pipe."""
    seconds = marker()
    done = pipe(any_m, f"gx sh -c 'sleep {seconds} & while echo y; do sleep 0.05; done' | head -n 1\n"
                       'echo "${PIPESTATUS[0]}"', timeout=DEADLINE)
    assert done.text == "y\n141\n" and done.err == b""
    gone(seconds)


def test_what_it_did_is_seen_when_it_has_ended(any_m):
    """G7: in the mount, where the old state was known."""
    put(any_m.room.workspace, "f", "old")
    assert any_m.read("workspace/f") == b"old"
    gate = Gate(any_m.room)
    program = start(any_m, "-v", "sh", "-c", f"cat {gate.vm}; echo new >f")
    gate.wait()
    gate.open()
    done = program.wait()
    assert done.status == 0
    assert any_m.read("workspace/f") == b"new\n"
    assert b"modified" in done.err and b"gentility-jobs" not in done.err


def test_the_plain_control_file_shows_what_was_written_to_it(any_m):
    """E15: and nothing of gx's."""
    any_m.exec("workspace", "echo mine")
    gx(any_m, "echo", "other")
    assert any_m.read("workspace/.exec").startswith(b"mine\n")


# -- input -------------------------------------------------------------------------


def feed(m, *args):
    return start(m, *args, stdin=subprocess.PIPE)


def give(program, data):
    program.process.stdin.write(data)
    program.process.stdin.flush()


def test_input_is_forwarded_as_it_comes(any_m):
    """G8: before its end is there."""
    program = feed(any_m, "-c", "while read x; do echo got $x; done; echo end")
    for i in range(3):
        give(program, b"line %d\n" % i)
        shown(program, b"".join(b"got line %d\n" % k for k in range(i + 1)))
    program.process.stdin.close()
    done = program.wait()
    assert done.out.endswith(b"got line 2\nend\n") and done.status == 0


def test_input_of_any_size(any_m):
    """G8: byte for byte."""
    data = pattern(5 * MIB)
    put(any_m.room.workspace, "in", data)
    with open(any_m.room.workspace + "/in", "rb") as f:
        done = gx(any_m, "md5sum", stdin=f, timeout=DEADLINE * 3)
    assert hashlib.md5(data).hexdigest() in done.text
    done = pipe(any_m, "cat in | gx cat | md5sum", timeout=DEADLINE * 3)
    assert hashlib.md5(data).hexdigest() in done.text


def test_a_command_need_not_read_its_input(any_m):
    """G8: gx ends when the command does."""
    program = feed(any_m, "sh", "-c", "read x; echo got $x; exit 3")
    give(program, b"one\n")
    done = program.wait()
    assert (done.status, done.out) == (3, b"got one\n")
    done = pipe(any_m, "yes | gx -c 'head -n 3'", timeout=DEADLINE)
    assert done.out == b"y\ny\ny\n"


def test_an_open_pipe_holds_nothing_up(any_m):
    """G8: which nobody writes to."""
    program = feed(any_m, "echo", "x")
    done = program.wait()
    assert (done.status, done.out) == (0, b"x\n")
    program = feed(any_m, "-n", "cat")
    assert program.wait().status == 0


def test_input_that_is_lost_is_sent_again(any_m):
    """G8: each part once."""
    program = feed(any_m, "cat")
    give(program, b"one\n")
    shown(program, b"one\n")
    any_m.room.fault({"lost": True}, kind="command", contains="M begin\nW ",
                     times=2)
    give(program, b"two\n")
    shown(program, b"one\ntwo\n")
    program.process.stdin.close()
    done = program.wait()
    assert (done.status, done.out) == (0, b"one\ntwo\n")


def test_without_input_it_is_empty(any_m):
    """G8: as from /dev/null."""
    done = gx(any_m, "wc", "-c")
    assert done.text.strip() == "0"
    any_m.forget()
    assert gx(any_m, "cat").status == 0
    assert asked(any_m) == 1


# -- leaving and ending -------------------------------------------------------------


def test_control_backslash_leaves_it_running(any_m):
    """G9: as a job, which ends as any other."""
    gate = Gate(any_m.room)
    program = start(any_m, "sh", "-c", f"echo one; cat {gate.vm}; exit 6")
    shown(program, b"one\n")
    gate.wait()
    os.kill(program.process.pid, signal.SIGQUIT)
    done = program.wait()
    assert done.status == 128 + signal.SIGQUIT
    number = int(re.search(rb"gx --attach (\d+)\n", done.err)[1])
    assert jobs(any_m)[number][0] == "running"
    os.write(gate.fd, b"two\n")
    gate.open()
    done = gx(any_m, "--attach", str(number))
    assert (done.status, done.out) == (6, b"one\ntwo\n")
    assert jobs(any_m)[number][0] == "exit 6"


def test_detach_starts_a_job_and_leaves_it(any_m):
    """G9: in one request."""
    gx(any_m, "true")
    gate = Gate(any_m.room)
    any_m.forget()
    done = gx(any_m, "--detach", "sh", "-c", f"echo one; cat {gate.vm}")
    assert (done.status, done.out) == (0, b"")
    number = re.fullmatch(rb"gx: job (\d+)\n", done.err)[1].decode()
    assert asked(any_m) == 1
    gate.wait()
    gate.open()
    done = gx(any_m, "--attach", number)
    assert (done.status, done.out) == (0, b"one\n")


def test_what_runs_is_listed_and_can_be_attached_to(any_m):
    """G9: a command that takes longer is a job."""
    gate = Gate(any_m.room)
    program = start(any_m, "sh", "-c", f"echo one; cat {gate.vm}; exit 2")
    gate.wait()
    wait_until(lambda: jobs(any_m), DEADLINE, "the job")
    (number, (state, command)), = jobs(any_m).items()
    assert state == "running" and command.startswith("sh -c")
    listed = json.loads(gx(any_m, "--jobs", "--json").text)
    assert [j["job"] for j in listed] == [number]
    assert listed[0]["state"] == "running"
    assert listed[0]["command"] == command
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
                        listed[0]["started"])
    other = start(any_m, "--attach", str(number))
    shown(other, b"one\n")
    gate.open()
    assert program.wait().status == 2
    assert other.wait().status == 2


def test_gx_killed_leaves_its_command(any_m):
    """G9: SIGKILL; as a job, without a limit of time."""
    gate = Gate(any_m.room)
    program = start(any_m, "sh", "-c", f"cat {gate.vm}; echo x >done")
    gate.wait()
    wait_until(lambda: jobs(any_m), DEADLINE, "the job")
    program.signal(signal.SIGKILL)
    program.wait()
    program.wait_for_children()
    gate.open()
    wait_until(lambda: any_m.ls("workspace") and
               os.path.exists(any_m.room.workspace + "/done"), DEADLINE)


def test_a_timeout_ends_what_it_started(any_m):
    """G10: exit 124, and it says so."""
    seconds = marker()
    done = gx(any_m, "--timeout", "1.5", "sh", "-c",
              f"echo begun; sleep {seconds} & sleep {seconds}")
    assert (done.status, done.out) == (124, b"begun\n")
    one_line(done, "timed out after 1.5 s")
    gone(seconds)
    assert gx(any_m, "--timeout", "60", "sh", "-c", "exit 4").status == 4


def test_a_timeout_holds_without_gx(any_m):
    """G10: also when gx was killed."""
    seconds = marker()
    program = start(any_m, "--timeout", "4", "sleep", seconds)
    wait_until(lambda: alive(seconds), DEADLINE, "the command")
    program.signal(signal.SIGKILL)
    program.wait()
    program.wait_for_children()
    gone(seconds)


def test_nobody_follows_what_has_a_limit(any_m):
    """G10: it is ended long before that."""
    seconds = marker()
    program = start(any_m, "--timeout", "9999", "sleep", seconds)
    wait_until(lambda: jobs(any_m), DEADLINE, "the job")
    program.signal(signal.SIGKILL)
    program.wait()
    program.wait_for_children()
    wait_until(lambda: not alive(seconds), DEADLINE + 100, "the end of it")


# -- options ------------------------------------------------------------------------


def test_variables_go_along(any_m):
    """G11: --env."""
    done = gx(any_m, "--env", "A=x 'y'\n$z", "--env", "B", "--env", "C",
              "sh", "-c", 'printf "%s|%s|%s" "$A" "$B" "${C-none}"',
              env={"B": "from here"})
    assert done.out == b"x 'y'\n$z|from here|none"
    for name in ("", "1x", "a-b", "=x"):
        done = gx(any_m, "--env", name, "true")
        assert done.status == 2
        one_line(done, "variable")


def test_a_directory_to_begin_in(any_m):
    """G11: -C, in the mount; also from outside of it."""
    os.makedirs(any_m.room.workspace + "/d/e")
    assert gx(any_m, "-C", "d/e", "pwd").out == b"/workspace/d/e\n"
    assert gx(any_m, "-C", "d", "-C", "e", "pwd").out == b"/workspace/d/e\n"
    done = Program([GX, "-C", any_m("workspace"), "pwd"], cwd="/").wait()
    assert done.out == b"/workspace\n"
    done = gx(any_m, "-C", "none", "pwd")
    assert done.status == FAILED
    one_line(done, "none", "No such file")


def test_a_line_for_the_shell_is_hinted_at(any_m):
    """G11: the habit from ssh."""
    done = gx(any_m, "cd /tmp && pwd")
    assert done.status == 127
    assert b"gx: there is no program of that name; a line for the shell is " \
        b"run by gx -c 'cd /tmp && pwd'\n" in done.err
    done = gx(any_m, "no-such-program")
    assert b"gx -c" not in done.err


def test_json_tells_all_of_it(any_m):
    """G11: one object."""
    put(any_m.room.workspace, "old", "x")
    done = gx(any_m, "--json", "-c",
              "echo out; echo err >&2; echo x >new; rm old; exit 3")
    assert done.status == 3 and done.err == b""
    answer = json.loads(done.text)
    changed = {c["path"]: c for c in answer.pop("files_changed")}
    assert changed.keys() == {"/workspace/new", "/workspace/old"}
    assert changed["/workspace/new"]["status"] == "created"
    assert changed["/workspace/new"]["size"] == 2
    assert changed["/workspace/new"]["public_url"].startswith(
        any_m.room.url + "/vm/")
    assert changed["/workspace/old"] == {
        "path": "/workspace/old", "status": "deleted"}
    assert answer.pop("duration") > 0
    assert answer == {
        "command": "echo out; echo err >&2; echo x >new; rm old; exit 3",
        "fate": "ran", "exit_code": 3, "stdout": "out\n", "stderr": "err\n",
        "timed_out": False, "job": None}


def test_json_of_what_is_no_text_and_of_failures(any_m):
    """G11: base64 besides; fates."""
    answer = json.loads(gx(any_m, "--json", "printf", r"a\377b\000c").text)
    assert answer["stdout"] == "a\ufffdb\0c"
    assert answer["stdout_base64"] == "Yf9iAGM="
    assert "stderr_base64" not in answer
    done = gx(any_m, "--json", "--timeout", "1", "sleep", "100")
    answer = json.loads(done.text)
    assert (answer["fate"], answer["exit_code"]) == ("ran", 124)
    assert answer["timed_out"] is True and done.status == 124
    any_m.room.fault({"status": 401}, kind="command", contains="M begin\nS ")
    done = gx(any_m, "--json", "true")
    answer = json.loads(done.text)
    assert (answer["fate"], answer["exit_code"]) == ("not_run", None)
    assert "401" in answer["message"] and done.status == FAILED


def test_the_address_of_a_file(m):
    """G11: --url, without a request."""
    put(m.room.workspace, "a b", "x")
    m.ls("workspace")
    m.read("workspace/a b")
    m.forget()
    done = gx(m, "--url", "a b")
    assert done.status == 0 and m.count()["total"] == 0
    address = done.text.strip()
    assert address.startswith(m.room.url + "/vm/")
    answer = m.room.request("GET", address[len(m.room.url):], key=False)
    assert answer.body == b"x"
    done = gx(m, "--url", "none")
    assert done.status == FAILED
    done = Program([GX, "--url", "/etc/passwd"]).wait()
    assert done.status == FAILED
    one_line(done, "not a file of a mounted room")


def test_a_terminal_is_told_of_a_slow_service(m):
    """G11: after 2 s without an answer."""
    gx(m, "true")
    with Terminal(m) as t:
        m.room.fault({"hang": 4}, kind="command", contains="M begin\nS ",
                     times=1)
        t.say("gx echo x")
        before = t.expect(b"x\n")
        assert b"gx: waiting for the service\n" in before
    done = gx(m, "true")
    assert done.err == b""


def test_programs_are_asked_for_once(any_m, tmp_path):
    """G12: for completion; then they are remembered, for that mount."""
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = gx(any_m, "--programs", env=env)
    assert done.status == 0
    names = done.text.splitlines()
    assert {"sh", "ls", "cat"} <= set(names) and len(names) == len(set(names))
    any_m.forget()
    assert gx(any_m, "--programs", env=env).out == done.out
    assert any_m.count()["total"] == 0


# -- one at a time ------------------------------------------------------------------


def test_a_service_that_runs_one_at_a_time_is_not_held_up(room):
    """G13: who waits in the VM gives way."""
    if not serial(room):
        pytest.skip("the local room cannot play it")
    for i in range(5):
        put(room.workspace, f"d{i}/f", "x")
    with Mount(room) as m:
        gx(m, "true")
        seconds = marker()
        program = start(m, "sleep", seconds)
        wait_until(lambda: alive(seconds), DEADLINE, "the command")
        for i in range(5):
            assert m.ls(f"workspace/d{i}") == ["f"]
        program.signal(signal.SIGINT)
        assert program.wait().status == INTERRUPTED
        gone(seconds)
        polls = [r["t_end"] - r["t_start"] for r in room.log("command")
                 if "M begin\nP " in r["command"]]
        # Not the 20 s that a wait takes where others can run beside it.
        assert polls and max(polls) < 8, polls


def serial(room):
    try:
        room.control(serial=True)
        return True
    except Exception:
        return False
