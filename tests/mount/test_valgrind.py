"""One session with all kinds of operations, under valgrind's memcheck: bytes
that were never set are not looked at, and freed ones are not touched."""

import os
import re
import shutil
import signal

import pytest

from mountlib import DEADLINE, MIB, SANITIZED, Mount, do, outcome, put, \
    wait_until

pytestmark = [
    pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind here"),
    pytest.mark.skipif(SANITIZED, reason="built with a sanitizer"),
]

# What memcheck says of itself, not of the program.
HEADS = re.compile(
    r"^==\d+== ((?:Conditional jump|Use of uninit|Invalid |Mismatched |"
    r"Syscall param|Jump to the invalid|Argument '|Process terminating).*"
    r"(?:\n==\d+==  .*)*)", re.M)


class Checked(Mount):
    """A mount whose driver runs under memcheck, which writes to a file."""

    def __init__(self, report, room, *options, **kw):
        super().__init__(room, *options, **kw)
        self.report = str(report)

    def command_line(self):
        return ["valgrind", "-q", "--num-callers=20", "--fair-sched=yes",
                f"--log-file={self.report}", *super().command_line()]


def complaints(report):
    return HEADS.findall(report.read_text(errors="replace"))


SESSION = r"""
set -e
cd "$1/workspace"
ls -la . d >/dev/null; find . -name '*1*' >/dev/null
cat small >/dev/null; cat large >/dev/null; tail -c 100 large >/dev/null
dd if=large of=/dev/null bs=64k skip=20 count=3 2>/dev/null
grep -rl text d >/dev/null
echo new >made; echo more >>made; cp made copy; cp large big
truncate -s 3 copy; truncate -s 4M copy; printf x | dd of=big bs=1 seek=1500000 conv=notrunc 2>/dev/null
mkdir -p a/b/c; mv made a/b; mv a/b a/e; ln a/e/made hard; ln -s a/e/made soft
ln -s "$1/workspace/small" absolute; cat soft absolute >/dev/null; readlink absolute >/dev/null
chmod 600 hard; touch -d @1000000000 hard; touch hard; stat hard a . >/dev/null
mkfifo fifo; rm fifo
exec 9<>open; rm open; echo kept >&9; exec 9>&-
(umask 077; set -C; echo lock >x.lock); rm x.lock
tar cf - d | tar xf - -C a
cp -a d a/d2; rm -r a/d2
mv copy small; rm big hard soft absolute; rm -r a
df . >/dev/null
"""


def exec_all(m):
    for command in ("echo hello; echo x >by", "exit 3", "printf '\\377\\000'",
                    "head -c 300000 /dev/zero | tr '\\0' y"):
        with open(m("workspace", ".exec"), "wb", buffering=0) as f:
            f.write(command.encode())
        for name in (".exec", ".exec.json"):
            with open(m("workspace", name), "rb") as f:
                f.read()


def attributes(m):
    for name in ("public_url", "mime_type", "cached", "instance_id"):
        os.getxattr(m("workspace/small"), "user.gentility." + name)
    for name in ("stats", "stats.json", "stats.prometheus"):
        os.getxattr(m.dir, "user.gentility." + name)


def save(path):
    with open(path, "wb") as f:
        f.write(os.urandom(50000))


def test_no_byte_is_looked_at_that_was_not_set(any_room, tmp_path):
    """R10: in good and bad answers, and with a new VM."""
    report = tmp_path / "memcheck"
    for i in range(30):
        put(any_room.workspace, f"d/f{i:02d}", b"text %d\n" % i)
    put(any_room.workspace, "small", b"small\n")
    put(any_room.workspace, "large", os.urandom(3 * MIB))
    with Checked(report, any_room, "timeout=60", args=["-d"]) as m:
        m.sh(SESSION, m.dir, timeout=140)
        do(exec_all, m, timeout=100)
        do(attributes, m, timeout=100)
        for fault in ({"status": 503}, {"status": 500}, {"close": True},
                      {"json": "cut"}, {"reset": "before"}):
            any_room.fault(fault, times=2, kind="command")
            do(save, m("workspace/saved"), timeout=100)
            do(outcome, os.listdir, m("workspace/d"), timeout=100)
        any_room.no_faults()
        os.kill(m.pid, signal.SIGHUP)
        any_room.control(renew=True)
        wait_until(lambda: do(outcome, os.listdir, m("home"), timeout=100),
                   DEADLINE)
    assert complaints(report) == []


def test_starting_and_failing(any_room, tmp_path):
    """R10: what is freed when nothing came of it."""
    report = tmp_path / "memcheck"
    any_room.control(expire=True, boot_polls=1, boot_answer="200")
    with Checked(report, any_room, "create", "timeout=60") as m:
        assert "workspace" in m.ls()
    assert complaints(report) == []
    any_room.control(expire=True)
    with pytest.raises(AssertionError, match="no instance"):
        Checked(report, any_room, "timeout=20").__enter__()
    assert complaints(report) == []
