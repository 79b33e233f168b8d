"""gx: commands in the VM from the current directory of a mount."""

import hashlib
import os
import re
import shutil
import signal
import subprocess

import pytest

from gxlib import (
    ENTER, FAILED, GX, INTERRUPTED, UNKNOWN, Terminal, alive, gone, gx, gx_in,
    marker, one_line, pipe, said, start,
)
from mountlib import (
    DEADLINE, MIB, Gate, Mount, Program, pattern, put, run, unmount,
    wait_until,
)


# -- running ---------------------------------------------------------------------


def test_it_runs_in_the_directory_and_exits_as_the_command(any_m):
    """G1: the directory, the output, the exit code."""
    os.makedirs(any_m.room.workspace + "/d e/f")
    assert gx(any_m, "pwd").out == b"/workspace\n"
    assert gx(any_m, "pwd", where="workspace/d e/f").out == \
        b"/workspace/d e/f\n"
    for code in (0, 1, 2, 7, 126, 127, 129, 255):
        done = gx(any_m, "sh", "-c", f"exit {code}")
        assert (done.status, done.out, done.err) == (code, b"", b"")
    done = gx(any_m, "no-such-program-here")
    assert done.status == 127 and b"not found" in done.err
    assert done.out == b""


def test_in_the_room_s_root_it_runs_where_the_service_does(any_m):
    """G1: as .exec of the room's own root does."""
    home = any_m.room.vm_home.encode()
    assert gx(any_m, "pwd", where="").out == home + b"\n"


WORDS = [
    [b"a b", b"c"], [b""], [b"", b"", b"x"], [b"'"], [b"''", b"'\"'"],
    [b'"', b"\\", b"\\\\n", b"\\'"], [b"$HOME", b"`id`", b"$(id)", b"!x"],
    [b"new\nline", b"\n", b"end\n"], [b"*", b"?", b"[a]", b"~", b"{a,b}"],
    [b"-n", b"--", b"-"], [b"a;b", b"a&b", b"a|b", b"<", b">", b"(", b"#x"],
    [b"\xff\xfe", b"\xc3", b"ok\x80'"], ["æøå €".encode()],
    [b"\x01\x02\x7f\t\r"], [b"x" * 70000], [b"x=y", b"=", b"a=b c"],
]


def test_each_argument_arrives_as_it_is(any_m):
    """G1: whatever bytes it has."""
    script = ('for x; do printf %s "$x" | od -An -v -tx1 | tr -d " \\n"; '
              'echo; done')
    for words in WORDS:
        done = gx(any_m, "sh", "-c", script, "sh", *words)
        assert done.status == 0, (words, done)
        assert done.out.decode().split("\n") == \
            [w.hex() for w in words] + [""], words


def test_a_text_is_run_as_it_is(any_m):
    """G1: -c, any shell syntax."""
    os.mkdir(any_m.room.workspace + "/x")
    done = gx(any_m, "-c", "cd x && pwd; v='a  b'; echo $v \"$v\"")
    assert done.out == b"/workspace/x\na b a  b\n"
    assert gx(any_m, "-c", "cat <<X\nhere\nX").out == b"here\n"
    assert gx(any_m, "-c", "exit 9").status == 9
    assert gx(any_m, "-c", "exec sh -c 'exit 8'").status == 8
    assert gx(any_m, "-c", "").status == 0
    assert gx(any_m, "-c", "echo a # comment").out == b"a\n"
    # Neither in a file that the text sends its output to ...
    gx(any_m, "-c", "exec >log; echo logged")
    assert any_m.read("workspace/log") == b"logged\n"
    # ... nor in a trace is there anything of ours.
    assert gx(any_m, "-c", "set -x; echo x").out.count(b"gx-end") == 0


def test_options_end_where_the_command_begins(m):
    """G1: gx ls -v, and -- before a command that looks like an option."""
    assert gx(m, "echo", "-v", "--jobs", "-c").out == b"-v --jobs -c\n"
    assert gx(m, "--", "echo", "x").out == b"x\n"
    assert gx(m, "-v", "--", "echo", "--", "x").out == b"-- x\n"
    assert gx(m, "--", "-x").status == 127


OUTPUTS = [
    b"", b"x", b"x\n", b"\n", b"a\n\n\n", b"  \t \n ", b"\nx", b"\r\n",
    "€\n".encode(), b'"\\\\/\n', b"a\0b\0\n",
]


@pytest.mark.parametrize("space", ["trim", "exact"])
def test_the_output_is_what_the_command_gave(any_m, space):
    """G1: also its white space at the end, and NULs."""
    any_m.room.control(output_space=space)
    for data in OUTPUTS:
        put(any_m.room.workspace, "data", data)
        assert gx(any_m, "cat", "data").out == data
        assert gx(any_m, "-c", "cat data").out == data


def test_long_output_and_pipes(m):
    """G1: all of it, and quietly when the reader has enough."""
    put(m.room.workspace, "big.log",
        b"".join(b"line %d\n" % i for i in range(200000)))
    with open(m.room.workspace + "/big.log", "rb") as f:
        digest = hashlib.md5(f.read()).hexdigest()
    assert digest in pipe(m, "gx cat big.log | md5sum").text
    done = pipe(m, 'gx cat big.log | head -n 1; echo "${PIPESTATUS[0]}"')
    assert done.text == "line 0\n141\n" and done.err == b""
    # As under programs that ignore SIGPIPE.
    done = pipe(m, 'trap "" PIPE; gx cat big.log | head -n 1\n'
                   'echo "${PIPESTATUS[0]}"')
    assert done.text == "line 0\n141\n" and done.err == b""


def test_output_that_cannot_be_written(m):
    """G2: one line, and not the command's exit code."""
    done = pipe(m, "gx echo x >/dev/full", ok=False)
    assert done.status == FAILED
    one_line(done, "No space left")


def test_standard_input(any_m):
    """G8: that of a file goes along, but with -n."""
    put(any_m.room.workspace, "in", pattern(100000))
    with open(any_m.room.workspace + "/in", "rb") as f:
        done = gx(any_m, "-n", "cat", stdin=f)
        assert (done.status, done.out) == (0, b"")
        done = gx(any_m, "md5sum", stdin=f)
        f.seek(0)
        digest = hashlib.md5(f.read()).hexdigest()
        assert digest in done.text
        f.seek(0)
        done = gx(any_m, "-c", "md5sum; exit 3", stdin=f)
        assert digest in done.text and done.status == 3
    assert gx(any_m, "-i", "wc", "-c").text.strip() == "0"


def test_a_command_that_is_too_long_is_refused(m):
    """G2: a command over the limit."""
    words = ["x" * 100000] * 11
    done = gx(m, "echo", *words)
    assert (done.status, done.out) == (FAILED, b"")
    one_line(done, "1 MiB")


def test_changes_are_listed_on_request(any_m):
    """G6: on stderr, with -v; nothing of our own; visible in the mount."""
    put(any_m.room.workspace, "old", "x")
    any_m.ls("workspace")
    script = "echo new > 'n w'; rm old; echo out"
    done = gx(any_m, "-v", "-c", script)
    assert done.out == b"out\n"
    lines = sorted(done.err.decode().splitlines())
    assert len(lines) == 2, done
    assert re.fullmatch(
        r"created +4 +text/plain +/workspace/n w +\S*/file/workspace/n\S*",
        lines[0]), lines
    assert any_m.room.url + "/vm/" in lines[0]
    assert re.fullmatch(r"deleted +- +- +/workspace/old", lines[1]), lines
    assert any_m.ls("workspace") == ["n w"]
    assert gx(any_m, "-c", "echo 2 > 'n w'").err == b""
    # Though it leaves no mark, after which the list would stand in .exec.
    done = gx(any_m, "-v", "-c", "exec rm 'n w'")
    assert re.fullmatch(rb"deleted +- +- +/workspace/n w\n", done.err), done
    # Not UTF-8: it goes through a file in the VM.
    done = gx(any_m, "-v", "printf", "%s", b"\xff")
    assert done.err == b""


def test_it_costs_one_command(m):
    """G1: nothing is asked but what .exec asks."""
    gx(m, "true")
    m.forget()
    gx(m, "true")
    assert m.count()["total"] <= 2


# -- where it does not work --------------------------------------------------------


def test_outside_of_a_mount(tmp_path):
    """G2: one line that says so."""
    done = gx_in(str(tmp_path), "ls")
    assert (done.status, done.out) == (FAILED, b"")
    one_line(done, "not in a room")
    done = gx_in("/proc", "ls")
    assert done.status == FAILED
    one_line(done, "not in a room")
    for args in (["--jobs"], ["--follow", "ls"], ["--attach", "1"]):
        assert gx_in(str(tmp_path), *args).status == FAILED


USES = [
    [], ["-v"], ["--follow"], ["--follow", "-v"], ["-c"], ["--no-such"],
    ["-x", "ls"], ["-c", "a", "b"], ["-c", "a", "-c", "b"], ["--attach"],
    ["--attach", "x"], ["--attach", "0"], ["--attach", "-1"],
    ["--kill", "1x"], ["--jobs", "ls"], ["--jobs", "--clean"],
    ["--follow", "--jobs"], ["--control", "a/b", "ls"], ["--clean", "1"],
    ["--kill", "99999999999999999999999"],
]


@pytest.mark.parametrize("args", USES, ids=" ".join)
def test_wrong_usage(args, tmp_path):
    """G2: status 2, and what is right, in a mount or not."""
    done = gx_in(str(tmp_path), *args)
    assert (done.status, done.out) == (2, b""), done
    if not any(a not in ("-v", "--follow") for a in args):
        assert done.err.startswith(b"usage: gx ")
    else:
        assert re.fullmatch(rb"\S*gx: [^\n]+\n", done.err)


def test_help_and_version(tmp_path):
    """G2: on stdout."""
    done = gx_in(str(tmp_path), "-h")
    assert done.status == 0 and b"usage: gx" in done.out and not done.err
    assert gx_in(str(tmp_path), "--help").out == done.out
    done = gx_in(str(tmp_path), "-V")
    assert re.fullmatch(rb"gx \S+\n", done.out) and done.status == 0


def test_the_control_file_s_name(room):
    """G2: one that is not listed is to be told; an ordinary file is left
    alone."""
    put(room.workspace, ".exec.json", "mine", 0o600)
    with Mount(room, "control=run me") as m:
        assert gx(m, "echo", "x").out == b"x\n"
        assert gx(m, "echo", "x", where="tmp").out == b"x\n"
    for name in ("a", "a.json"):
        put(room.root, name, "", 0o600)
    with Mount(room, "control=.run,no_list_control") as m:
        done = gx(m, "ls")
        assert done.status == FAILED
        one_line(done, "control", "GX_CONTROL")
        assert gx(m, "--control", ".run", "echo", "x").out == b"x\n"
        assert gx(m, "echo", "x", env={"GX_CONTROL": ".run"}).out == b"x\n"
    with Mount(room, "no_control") as m:
        done = gx(m, "ls")
        assert done.status == FAILED
        one_line(done, "no_control")
    with open(room.workspace + "/.exec.json") as f:
        assert f.read() == "mine"
    assert os.path.getsize(room.root + "/a.json") == 0


def test_a_read_only_mount(room):
    """G2: says so."""
    with Mount(room, "ro") as m:
        done = gx(m, "ls")
        assert done.status == FAILED
        one_line(done, "read-only")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_another_user(room):
    """G2: commands are for who mounted."""
    with Mount(room, "allow_other") as m:
        done = run(["setpriv", "--reuid=65534", "--clear-groups", "bash",
                    "-c", ENTER, "bash", m("workspace"), GX, "id"])
        assert done.status == FAILED
        one_line(done, "only the user who mounted")


def test_a_mount_whose_driver_is_gone(room):
    """G2: says what to do."""
    with Mount(room) as m:
        program = Program(
            ["bash", "-c", 'cd "$1" || exit 99; echo in; read -r x; exec "$2" '
             'ls', "bash", m("workspace"), GX], stdin=subprocess.PIPE)
        wait_until(lambda: said(program) == b"in\n", DEADLINE, "a shell there")
        m.kill()
        program.process.stdin.close()
        done = program.wait()
        assert done.status == FAILED
        one_line(done, "process behind it is gone", "fusermount3 -u " + m.dir)
        unmount(m.dir)
        m.process = None  # its end was no good one
        m.status = 0


def test_a_path_mount(room):
    """G1: PATH in SOURCE makes no difference."""
    os.mkdir(room.workspace + "/d")
    with Mount(room, path="/workspace") as m:
        assert gx(m, "pwd", where="").out == b"/workspace\n"
        assert gx(m, "pwd", where="d").out == b"/workspace/d\n"
        assert gx(m, "--follow", "pwd", where="d").out == b"/workspace/d\n"


def test_a_directory_that_is_gone_in_the_vm(m):
    """G2: the shell of the VM says so."""
    os.mkdir(m.room.workspace + "/d")
    script = 'cd d && gx rmdir ../d; gx ls; echo "$?"'
    done = pipe(m, script, ok=False)
    assert done.text.strip().split("\n")[-1] in ("2", "255"), done


# -- failures ----------------------------------------------------------------------


def test_a_command_that_was_not_run(room):
    """G2: the reason, and 255."""
    with Mount(room) as m:
        gx(m, "true")
        room.fault({"status": 401}, kind="command", contains="GX_RUN")
        done = gx(m, "true")
        assert (done.status, done.out) == (FAILED, b"")
        one_line(done, "not run", "EACCES")
        room.no_faults()


@pytest.mark.parametrize("fault", [
    {"lost": True}, {"reset": "middle"}, {"json": "cut"}], ids=str)
def test_a_command_whose_answer_is_lost(m, fault):
    """G2: it is asked for again, and runs once."""
    gx(m, "true")
    m.room.fault(fault, kind="command", contains="M begin\nS ", times=1)
    done = gx(m, "-c", "echo x >>/tmp/count; cat /tmp/count")
    assert (done.status, done.out) == (0, b"x\n")


def test_a_command_of_which_nothing_is_heard(m):
    """G2: 254, and it was not run twice."""
    gx(m, "true")
    m.room.fault({"lost": True}, kind="command", contains="M begin\nS ")
    program = start(m, "-c", "echo x >>/tmp/count")
    wait_until(lambda: m.room.state()["faults"][0]["fired"] > 1, DEADLINE,
               "the second try")
    m.room.no_faults()
    m.room.fault({"status": 401}, kind="command", contains="M begin\nS ")
    done = program.wait(DEADLINE * 2)
    assert (done.status, done.out) == (UNKNOWN, b"")
    one_line(done, "not known", "EACCES")
    m.room.no_faults()
    assert gx(m, "cat", "/tmp/count").out == b"x\n"


# -- signals -----------------------------------------------------------------------


@pytest.mark.parametrize("number,status", [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_command(any_m, number, status):
    """G3: with all that it started, and shows what it had to say."""
    seconds = marker()
    script = f"echo begun; sleep {seconds} & sleep {seconds}; echo never"
    program = start(any_m, "sh", "-c", script)
    wait_until(lambda: len(alive(seconds)) == 2, DEADLINE, "the command")
    program.signal(number)
    done = program.wait()
    assert done.status == status
    assert done.out.strip() == b"begun"
    one_line(done, "ended")
    gone(seconds)


def test_a_shell_that_only_computes_is_ended(any_m):
    """G3: the shell that runs a text, too; KILL follows TERM."""
    gate = Gate(any_m.room)
    program = start(any_m, "-c", f"trap '' TERM; cat {gate.vm}; "
                                 "while :; do :; done")
    gate.open()
    program.signal(signal.SIGINT)
    done = program.wait()
    assert done.status == INTERRUPTED
    assert b"was ended" in done.err


def test_a_second_signal_ends_the_wait(m):
    """G3: when the command cannot be ended, gx says that it may go on."""
    gate = Gate(m.room)
    program = start(m, "cat", gate.vm)
    gate.wait()
    m.room.fault({"hang": -1}, kind="command", contains="GX_RUN=[")
    program.signal(signal.SIGINT)
    wait_until(lambda: m.room.state()["faults"][0]["fired"] > 0, DEADLINE,
               "the second command")
    program.signal(signal.SIGINT)
    done = program.wait()
    assert done.status == INTERRUPTED
    one_line(done, "may go on")
    m.room.no_faults()
    gate.open()
    program.wait_for_children()


def test_ignored_signals_stay_ignored(m):
    """G3: under nohup a hangup ends nothing."""
    gate = Gate(m.room)
    program = Program(["bash", "-c", 'trap "" HUP; ' + ENTER, "bash",
                       m("workspace"), GX, "cat", gate.vm])
    gate.wait()
    program.signal(signal.SIGHUP)
    os.write(gate.fd, b"data\n")
    gate.open()
    done = program.wait()
    assert (done.status, done.out) == (0, b"data\n")


# -- a terminal ----------------------------------------------------------------------


def test_control_c_at_a_terminal(any_m):
    """G3: ends the command; the prompt is on a line of its own."""
    seconds = marker()
    with Terminal(any_m) as t:
        t.say(f"gx sh -c 'printf begun; sleep {seconds}'")
        wait_until(lambda: alive(seconds), DEADLINE, "the command")
        t.type(b"\x03")
        said = t.expect(b"ready> ")
        assert said.endswith(b"begun\ngx: interrupted; the command in the VM "
                             b"was ended\n"), said
        assert t.say("echo status $?", b"ready> ") == b"status 130\n"
    gone(seconds)


def test_control_z_at_a_terminal(m):
    """G3: stops gx, not the command; fg goes on."""
    gate = Gate(m.room)
    with Terminal(m) as t:
        t.say(f"gx cat {gate.vm}")
        gate.wait()
        t.type(b"\x1a")
        assert b"Stopped" in t.expect(b"ready> ")
        os.write(gate.fd, b"data\n")
        gate.open()
        t.say("fg")
        assert b"data\n" in t.expect(b"ready> ")
        assert t.say("echo status $?", b"ready> ") == b"status 0\n"


@pytest.mark.skipif(not shutil.which("less"), reason="no less here")
def test_a_pager_at_a_terminal(m):
    """G1: gx cat big.log | less, left early."""
    put(m.room.workspace, "big.log",
        b"".join(b"line %d\n" % i for i in range(100000)))
    with Terminal(m) as t:
        t.say("gx cat big.log | TERM=vt100 less")
        t.expect(b"line 5\n")
        t.type(b"q")
        t.expect(b"ready> ")
        assert t.say("echo status ${PIPESTATUS[1]}", b"ready> ") == \
            b"status 0\n"
