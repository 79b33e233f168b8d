"""gx in a mount, for its tests: as a program, in a pipe, on a terminal."""

import contextlib
import os
import pty
import re
import select
import signal
import time

from mountlib import BUILD, DEADLINE, Program, clock, run, wait_until

GX = os.path.join(BUILD, "gx")
FAILED, UNKNOWN, INTERRUPTED = 255, 254, 130
ENTER = 'cd "$1" || exit 99; shift; exec "$@"'


def start(m, *args, where="workspace", **kw):
    """gx in a directory of the mount, running."""
    return Program(["bash", "-c", ENTER, "bash", m(where), GX, *args], **kw)


def gx(m, *args, where="workspace", timeout=None, **kw):
    return start(m, *args, where=where, **kw).wait(timeout)


def gx_in(directory, *args, env=None):
    return run(["bash", "-c", ENTER, "bash", directory, GX, *args], env=env)


def pipe(m, script, **kw):
    """A bash script in the mounted directory workspace, gx in its path."""
    return m.sh("cd workspace || exit 99\n" + script,
                PATH=BUILD + ":" + os.environ["PATH"], **kw)


def one_line(done, *parts):
    """stderr is one line of gx's, with these parts in it."""
    text = done.err.decode()
    assert re.fullmatch(r"gx: [^\n]+\n", text), done
    for part in parts:
        assert part in text, done
    return text


def alive(marker):
    """Processes, in the VM or not, that are `sleep MARKER`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if f.read() == b"sleep\0" + marker.encode() + b"\0":
                    found.append(pid)
    return found


def marker():
    """Seconds that no other sleep has."""
    return f"{9000 + os.getpid()}.{time.monotonic_ns()}"


def gone(seconds):
    wait_until(lambda: not alive(seconds), DEADLINE, "the end of sleep")


class Terminal:
    """A shell on a terminal, in the mounted directory workspace."""

    def __init__(self, m):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(
                PATH=BUILD + ":" + os.environ["PATH"], PS1="ready> ",
                TERM="dumb", LC_ALL="C", HISTFILE="")
            os.chdir("/")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.seen = b""
        self.expect(b"ready> ")
        self.say(f"cd {m('workspace')}", b"ready> ")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        os.close(self.fd)  # hangs it up
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def expect(self, what, timeout=DEADLINE):
        """Read until that was seen; what came before it."""
        end = clock() + timeout
        while what not in self.seen:
            left = end - clock()
            assert left > 0, f"no {what!r} in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536).replace(b"\r", b"")
        before, _, self.seen = self.seen.partition(what)
        return before

    def type(self, data):
        os.write(self.fd, data)

    def say(self, line, then=None):
        self.type(line.encode() + b"\n")
        self.expect(line.encode()[-20:] + b"\n")  # the echo
        return self.expect(then) if then else None


# -- jobs --------------------------------------------------------------------------


def follow(m, *args, **kw):
    """A job begun; its number is known."""
    program = start(m, "--follow", *args, **kw)

    def number():
        with open(f"/proc/self/fd/{program.err.fileno()}", "rb") as f:
            match = re.search(rb"gx: job (\d+)\n", f.read())
        assert match or program.running(), program.wait()
        return match and int(match[1])

    program.job = wait_until(number, DEADLINE, "the job's number")
    return program


def said(program):
    with open(f"/proc/self/fd/{program.out.fileno()}", "rb") as f:
        return f.read()


def jobs(m):
    """Number -> (state, command)."""
    done = gx(m, "--jobs")
    assert done.status == 0 and done.err == b"", done
    found = {}
    for line in done.text.splitlines():
        match = re.fullmatch(
            r" *(\d+)  (running|dead|exit \d+) +(\d{4}-\d\d-\d\d \d\d:\d\d)"
            r"  (.*)", line)
        assert match, line
        found[int(match[1])] = match[2], match[4]
    return found
