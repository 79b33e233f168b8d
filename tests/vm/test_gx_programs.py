"""The programs of src/gx/vm: terminals by each of their means, SIGINT, ends."""
import base64
import os
import re
import shlex
import shutil
import subprocess
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE = 30
MEANS = ["python3", "perl", "script"]
SHELLS = ["dash", "bash"]


def program(name):
    with open(os.path.join(TOP, "src", "gx", "vm", name)) as f:
        return f.read()


class Vm:
    """A home directory and a PATH without some programs."""

    def __init__(self, top, shell, hidden=()):
        self.home, self.path = f"{top}/home", f"{top}/bin"
        self.shell = shutil.which(shell)
        os.mkdir(self.home)
        os.mkdir(self.path)
        for directory in ("/usr/bin", "/bin"):
            for name in os.listdir(directory):
                if name not in hidden and name != "env":
                    if not os.path.lexists(f"{self.path}/{name}"):
                        os.symlink(f"{directory}/{name}",
                                   f"{self.path}/{name}")
        os.symlink("/usr/bin/env", f"{self.path}/env")

    def ask(self, *parts):
        text = "r=x\n" + program("jobs.sh") + "\n".join(parts)
        done = subprocess.run(
            [self.shell, "-c", text], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=DEADLINE, env={"PATH": self.path, "HOME": self.home})
        return done.stdout.decode()

    def start(self, token, command, flags="x", wait="1", part="", timeout=0):
        def quoted(name, value):
            return f"{name}={shlex.quote(value)}"

        return self.ask(
            program("start.sh"),
            quoted("R", (program("find.sh") if timeout else "") +
                   program("runner.sh")),
            quoted("T_", program("inner.sh")),
            quoted("Y", program("terminal_python.py")),
            quoted("L", program("terminal_perl.pl")),
            f"C() {{\nprintf %s {shlex.quote(command)}\n}}", "V() {\n:\n}",
            f"B() {{\nprintf %s {shlex.quote(part)}\n}}",
            f"S {token} {wait} 100000 {flags} {timeout} 0 33 111")

    def poll(self, token):
        return self.ask(f"P t.{token} 0 0 100000 100 0 999999")

    def ended(self, token):
        """The state and the output, when it is over."""
        end = time.monotonic() + DEADLINE
        while True:
            head, _, data = self.poll(token).partition("\n")
            state = head.split(" ", 6)[6]
            if state != "running":
                out, _, err = data.partition(".")
                return state, base64.b64decode(out), base64.b64decode(err)
            assert time.monotonic() < end, head


@pytest.fixture(params=MEANS)
def means(request, tmp_path):
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param} here")
    return Vm(tmp_path, "dash", [m for m in MEANS if m != request.param])


def test_a_terminal_by_each_of_its_means(means):
    answer = means.start("abc", "tty; stty size; exit 7", "xp")
    state, out, _ = means.ended("abc")
    assert state == "exit 7", answer
    lines = out.replace(b"\r", b"").split(b"\n")
    assert re.fullmatch(rb"/dev/pts/\d+", lines[0]), out
    assert lines[1] == b"33 111"


def test_what_is_typed_and_interrupted(means):
    means.start("abc", "trap 'echo caught; exit 5' INT; read x; echo got $x; "
                       "while :; do sleep 0.1; done", "xip", "0",
                part="hello\r")
    end = time.monotonic() + DEADLINE
    while b"got hello" not in means.home_out("abc"):
        assert time.monotonic() < end, means.home_out("abc")
        time.sleep(0.02)
    means.ask(program("input.sh"), "B() {\nprintf '\\003'\n}",
              "W abc 2 '' '' '' 0 0 0 0")
    state, out, _ = means.ended("abc")
    assert (state, b"caught" in out) == ("exit 5", True), out


def home_out(vm, token):
    with open(f"{vm.home}/.cache/gentility-jobs/t.{token}/out", "rb") as f:
        return f.read()


Vm.home_out = home_out


def test_without_any_means_it_is_said(tmp_path):
    vm = Vm(tmp_path, "dash", MEANS)
    assert vm.start("abc", "true", "xp").startswith("!the VM has none of")


@pytest.mark.parametrize("shell", SHELLS)
def test_signals_are_as_for_any_command(shell, tmp_path):
    """A shell has what it starts with & ignore SIGINT."""
    vm = Vm(tmp_path, shell)
    vm.start("abc", "kill -INT $$; echo survived")
    state, out, _ = vm.ended("abc")
    assert (state, out) == ("exit 130", b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_it_starts_once(shell, tmp_path):
    vm = Vm(tmp_path, shell)
    for _ in range(2):
        vm.start("abc", f"echo x >>{vm.home}/count; echo done; exit 3")
        assert vm.ended("abc") == ("exit 3", b"done\n", b"")
    with open(vm.home + "/count") as f:
        assert f.read() == "x\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_its_time_is_over(shell, tmp_path):
    vm = Vm(tmp_path, shell)
    vm.start("abc", "echo begun; sleep 1000", timeout=1)
    assert vm.ended("abc") == ("exit 124", b"begun\n", b"")
    vm.start("abd", "exit 3", timeout=1000)
    assert vm.ended("abd")[0] == "exit 3"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_was_fetched_is_forgotten(shell, tmp_path):
    """In time, and not what is kept."""
    vm = Vm(tmp_path, shell)
    jobs = vm.home + "/.cache/gentility-jobs"
    for i in range(12):
        vm.start(f"a{i}", "true", "xk" if i == 0 else "x")
        assert vm.ended(f"a{i}")[0] == "exit 0"
    for i in range(12):
        os.utime(f"{jobs}/t.a{i}/got", (0, 0))
    vm.start("b", "true")
    assert sorted(x for x in os.listdir(jobs) if x.startswith("t.")) == [
        "t.a0", "t.b"]
