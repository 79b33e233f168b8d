"""gx -t: a terminal in the VM."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios

from gxlib import ENTER, FAILED, GX, alive, gone, gx, jobs, marker, one_line
from mountlib import DEADLINE, clock, put, wait_until


class Screen:
    """gx on a terminal of its own."""

    def __init__(self, m, *args, rows=33, columns=111, where="workspace",
                 **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="vt100", LANG="C.UTF-8", **env)
            os.execvp("bash", ["bash", "-c", "read -r x; " + ENTER, "bash",
                               m(where), GX, *args])
        self.resize(rows, columns)
        os.write(self.fd, b"\n")
        self.seen = b""
        self.status = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.close(self.fd)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if self.status is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, what, timeout=DEADLINE):
        end = clock() + timeout
        while what not in self.seen:
            left = end - clock()
            assert left > 0, f"no {what!r} in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    more = os.read(self.fd, 65536)
                except OSError:
                    more = b""
                assert more, f"ended without {what!r}: {self.seen!r}"
                self.seen += more.replace(b"\r", b"")
        before, _, self.seen = self.seen.partition(what)
        return before

    def type(self, data):
        os.write(self.fd, data)

    def end(self):
        """Its exit code, and what it said to the end."""
        deadline = clock() + DEADLINE
        while True:
            assert clock() < deadline, self.seen
            if not select.select([self.fd], [], [], 1)[0]:
                continue
            try:
                more = os.read(self.fd, 65536)
            except OSError:
                break
            if not more:
                break
            self.seen += more.replace(b"\r", b"")
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


def test_it_is_a_terminal(m):
    """G14: with the size and the kind of the one here."""
    with Screen(m, "-t", "sh", "-c", "tty; stty size; echo $TERM $LANG") as s:
        s.expect(b"/dev/pts/")
        s.expect(b"33 111\n")
        s.expect(b"vt100 C.UTF-8\n")
        assert s.end() == 0
    with Screen(m, "-t", "sh", "-c", "exit 7") as s:
        assert s.end() == 7
    assert jobs(m) == {}


def test_what_is_typed_gets_there(m):
    """G14: keys, in order; echo; Ctrl-D."""
    with Screen(m, "-t", "cat") as s:
        s.type(b"hello\r")
        s.expect(b"hello\nhello\n")
        for i in range(30):
            s.type(b"%d" % (i % 10))
        s.type(b"\r")
        line = b"0123456789" * 3 + b"\n"
        s.expect(line + line)
        s.type(b"\x04")
        assert s.end() == 0


def test_control_keys_are_the_vm_s(m):
    """G14: Ctrl-C, Ctrl-Z and Ctrl-backslash go to the program there."""
    with Screen(m, SHELL="/bin/sh") as s:
        s.type(b"PS1='here> '; cd /tmp; pwd\r")
        s.expect(b"/tmp\n")
        seconds = marker()
        s.type(f"sleep {seconds}\r".encode())
        wait_until(lambda: alive(seconds), DEADLINE, "the command")
        s.type(b"\x03")
        gone(seconds)
        s.type(b"echo st$?\r")
        s.expect(b"st130\n")
        s.type(f"sleep {seconds}\r".encode())
        wait_until(lambda: alive(seconds), DEADLINE, "the command")
        s.type(b"\x1c")
        gone(seconds)
        s.type(f"sleep {seconds}\r".encode())
        wait_until(lambda: alive(seconds), DEADLINE, "the command")
        s.type(b"\x1a")
        s.type(b"jobs; kill -9 %1; echo st$?\r")
        s.expect(b"Stopped")
        s.expect(b"st0\n")
        gone(seconds)
        s.type(b"wait; jobs; exit 5\r")
        s.type(b"exit 5\r")  # for a shell that still spoke of stopped jobs
        assert s.end() == 5


def test_gx_alone_is_a_shell_in_this_directory(m):
    """G14: the user's; job control works."""
    os.mkdir(m.room.workspace + "/d")
    with Screen(m, where="workspace/d") as s:
        s.type(b"pwd; echo $((6 * 7))\r")
        s.expect(b"/workspace/d\n")
        s.expect(b"42\n")
        s.type(b"sleep 0.1 & wait; echo done$?\r")
        s.expect(b"done0\n")
        s.type(b"\x04")
        assert s.end() == 0


def test_the_size_is_followed(m):
    """G14: as the window changes."""
    with Screen(m, "-t", "sh", "-c",
                "trap 'stty size' WINCH; echo on; "
                "while :; do sleep 0.1; done") as s:
        s.expect(b"on\n")
        s.resize(44, 99)
        s.expect(b"44 99\n")
        s.type(b"\x03")
        assert s.end() == 130


def test_the_way_out(m):
    """G14: ~. at the begin of a line, as with ssh."""
    seconds = marker()
    with Screen(m, "-t", "sh", "-c", f"echo on; sleep {seconds}") as s:
        s.expect(b"on\n")
        wait_until(lambda: alive(seconds), DEADLINE, "the command")
        s.type(b"\r~.")
        assert s.end() == 129
    gone(seconds)
    with Screen(m, "-t", "cat") as s:
        s.type(b"a~.\r")
        s.expect(b"a~.\na~.\n")
        s.type(b"\x04")
        s.end()


def test_typing_ahead_is_gathered(m):
    """G14: many keys, few requests."""
    with Screen(m, "-t", "cat") as s:
        s.type(b"x\r")
        s.expect(b"x\nx\n")
        m.room.control(latency_ms=200)
        m.room.control(log_reset=True)
        for i in range(40):
            s.type(b"k")
        s.type(b"\r")
        s.expect(b"k" * 40 + b"\n" + b"k" * 40 + b"\n")
        given = [r for r in m.room.log("command") if "\nW " in r["command"]]
        assert len(given) <= 10
        m.room.control(latency_ms=0)
        s.type(b"\x04")
        assert s.end() == 0


def test_a_vm_without_means_says_so(any_m):
    """G14: one line; busybox has none of them."""
    done = gx(any_m, "-t", "echo", "x")
    if done.status == 0:  # no terminal here, but one there
        assert done.out == b"x\r\n"
    else:
        assert done.status == FAILED
        one_line(done, "python3, perl and script")


def test_input_from_elsewhere(m):
    """G14: the end of it is the end there."""
    put(m.room.workspace, "in", "one\ntwo\n")
    with open(m.room.workspace + "/in", "rb") as f:
        done = gx(m, "-t", "cat", stdin=f)
    assert done.status == 0
    assert done.out.replace(b"\r", b"").count(b"two\n") == 2
