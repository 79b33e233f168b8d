"""A service, or a VM, that takes only commands of some size."""

import errno
import os
import re

import pytest

from gxlib import gx
from helpers_write import W, noise, text
from mountlib import (
    DRIVER, Mount, Result, Room, do, raises, wait_until,
)
from mountlib import run as run_program

SLOW = pytest.mark.slow
LIMITS = [65536, 8192, *(pytest.param(n, marks=SLOW) for n in (32768, 16384))]
WAYS = ["413", "422", "e2big", "reset",
        *(pytest.param(w, marks=SLOW) for w in ("413-html", "400"))]


def refused(room):
    return [e for e in room.log("command") if e.get("fault") == "too_large"]


def host(room, name):
    return os.path.join(room.workspace, name)


def contents(room, name):
    with open(host(room, name), "rb") as f:
        return f.read()


def save(path, data):
    with open(path, "wb", buffering=0) as f:
        for at in range(0, len(data), 1 << 16):
            f.write(data[at:at + (1 << 16)])


def run(m, script):
    return Result(m.exec(W, script))


def patch(path):
    """In the middle, by append, by truncate."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, b"X" * 5000, 100_000)
        os.fsync(fd)
        os.ftruncate(fd, 150_000)
    finally:
        os.close(fd)
    with open(path, "ab") as f:
        f.write(noise(9000, 7))


def patched(data):
    data = bytearray(data)
    data[100_000:105_000] = b"X" * 5000
    return bytes(data[:150_000]) + noise(9000, 7)


@pytest.mark.parametrize("busybox", [False, pytest.param(True, marks=SLOW)],
                         ids=["gnu", "busybox"])
@pytest.mark.parametrize("limit", LIMITS)
def test_small_bodies_are_enough(limit, busybox):
    """R8: everything works, from the mount on."""
    data, prose = noise(200_000), text(200_000)
    with Room(busybox=busybox, body_limit=limit) as room, Mount(room) as m:
        do(save, m(W, "a"), data)
        do(save, m(W, "b"), prose)
        do(os.mkdir, m(W, "d"))
        do(os.rename, m(W, "a"), m(W, "d", "a"))
        assert contents(room, "d/a") == data
        assert contents(room, "b") == prose
        do(patch, m(W, "d", "a"))
        assert contents(room, "d/a") == patched(data)
        for i in range(300):
            name = f"d/a name that is rather long, since so many fit {i}"
            with open(host(room, name), "w") as f:
                f.write(f"{i}\n")
        m.forget()
        wait_until(lambda: len(do(os.listdir, m(W, "d"))) == 301)
        m.sh('[ "$(cat "$1"/d/a\\ name* | wc -l)" = 300 ]', m(W))
        done = run(m, "exit 3\n" + "# a comment\n" * 5000)
        assert done.exit == 3
        seen = len(refused(room))
        # Learned: a few steps down at the start, and those under way then.
        assert seen <= 24
        do(save, m(W, "a"), data)
        do(save, m(W, "b"), prose + prose)
        assert contents(room, "a") == data
        assert contents(room, "b") == prose + prose
        assert len(refused(room)) == seen


@pytest.mark.parametrize("limit", ["max_body", "command_limit"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_refusing(room, way, limit):
    """R8: from the first refusal on, smaller ones are used, at once."""
    with Mount(room) as m:
        room.control(**{limit: 60_000}, too_large=way)
        room.reset_log()
        for i in range(3):
            do(save, m(W, "a"), noise(500_000, i))
            assert contents(room, "a") == noise(500_000, i)
        seen = len(refused(room))
        # Two steps down; and of each those that were under way.
        assert 1 <= seen <= 40
        room.reset_log()
        do(save, m(W, "b"), noise(500_000, 9))
        assert contents(room, "b") == noise(500_000, 9)
        assert refused(room) == []
        # And they are not much smaller than they may be.
        assert len(room.log("command")) < 40


@pytest.mark.parametrize("way", WAYS)
def test_a_users_large_command_runs_once(any_room, way):
    """E4, R8: whether the service takes it or not."""
    room = any_room
    with Mount(room) as m:
        room.control(command_limit=20_000, too_large=way)
        script = "echo x >>/workspace/ran\n" + "# so long\n" * 5000 + "exit 7"
        done = run(m, script)
        assert done.exit == 7
        assert contents(room, "ran") == b"x\n"
        m.sh('cd "$1" && [ ! -e .gentilityfs-* ]', m("tmp"))
        left = [n for n in os.listdir(room.tmp) if "gentilityfs" in n]
        assert left == []


def test_any_bytes_in_a_large_command(room):
    """E1: also what JSON can't carry."""
    with Mount(room) as m:
        room.control(max_body=10_000)
        odd = b"printf %s '\xff\x80\xc3\xa9\xe2\x82'\\''x\\n'\n"
        done = run(m, odd + b"#" + b"\xfe" * 3000 + b"\n")
        assert done.exit == 0
        run(m, odd[:-1] + b" >o\n#" + b"\xfe" * 3000 + b"\n")
        assert contents(room, "o") == b"\xff\x80\xc3\xa9\xe2\x82'x\\n"


def test_a_refusal_that_is_not_for_the_size(room):
    """R8: what a smaller one does not get either changes nothing."""
    with Mount(room) as m:
        room.fault({"status": 400}, kind="command")
        raises(errno.EIO, save, m(W, "a"), noise(80_000))
        room.no_faults()
        room.reset_log()
        do(save, m(W, "b"), noise(60_000))
        assert contents(room, "b") == noise(60_000)
        assert len(room.log("command")) <= 2


def test_a_large_command_that_was_never_tried(room):
    """E11: one more, since nobody should have to guess about his own."""
    with Mount(room) as m:
        room.reset_log()
        script = "# " + "x" * 40_000 + "\nexit 4"
        assert run(m, script).exit == 4
        first = len(room.log("command"))
        room.reset_log()
        assert run(m, script).exit == 4
        assert len(room.log("command")) == first - 1


@pytest.mark.parametrize("limit", [65536, 8192])
def test_gx_and_the_check(limit):
    """R8"""
    with Room(body_limit=limit) as room, Mount(room) as m:
        done = gx(m, "-c", "wc -c <<'END'\n" + "y" * 70_000 + "\nEND")
        assert done.text.strip() == "70001", done
        check = run_program(
            [DRIVER, "--check", "-o", "url=" + room.url, room.source],
            env={"GENTILITY_API_KEY": room.key})
        assert check.status == 0, check
        low = limit // 1024 // 2
        said = re.search(r"commands up to (\d+) KiB only", check.text)
        assert said and low <= int(said[1]) <= limit // 1024, check
