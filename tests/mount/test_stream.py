"""Large files where the service answers a Range with the whole file."""

import errno
import hashlib
import os
import random

import pytest

from mountlib import (
    DEADLINE, MIB, Call, Mount, do, outcome, pattern, put, wait_until,
)

BIG = pattern(24 * MIB, 5)


@pytest.fixture
def whole_room(any_room):
    any_room.control(raw="norange")
    return any_room


def summary(*parts):
    return sum(map(len, parts)), hashlib.sha1(b"".join(parts)).hexdigest()


WHOLE = summary(BIG)


def read_through(path, block=1 << 17):
    """As cat: one block after the other."""
    parts = []
    with open(path, "rb", buffering=0) as f:
        while data := f.read(block):
            parts.append(data)
    return summary(*parts)


def test_it_comes_as_one_stream(whole_room):
    put(whole_room.workspace, "big", BIG)
    put(whole_room.workspace, "next", BIG[1:])
    with Mount(whole_room, path="/workspace") as m:
        m.ls()
        m.forget()
        assert do(read_through, m("big")) == WHOLE
        # Range is tried, commands bring the beginning.
        n = m.count()
        assert n["raw"] <= 6 and n["command"] <= 4, n
        m.forget()
        assert do(read_through, m("next")) == summary(BIG[1:])
        n = m.count()
        assert n["raw"] == 1 and n["command"] <= 1, n
        m.forget()
        assert do(read_through, m("big")) == WHOLE
        assert m.count()["total"] == 0


def read_somewhere(path, want, seed):
    rand = random.Random(seed)
    with open(path, "rb", buffering=0) as f:
        for _ in range(30):
            at = rand.randrange(len(want))
            n = rand.choice([1, 4096, 70000, 300000])
            got = os.pread(f.fileno(), n, at)
            assert got == want[at:at + n], (at, n, len(got))
    return True


def test_many_readers_of_it(whole_room):
    put(whole_room.workspace, "big", BIG)
    with Mount(whole_room, path="/workspace") as m:
        calls = [Call(read_somewhere, m("big"), BIG, i) for i in range(4)]
        through = [Call(read_through, m("big"), 1 << n) for n in (13, 17, 20)]
        assert all(c.result(60) for c in calls)
        for c in through:
            assert c.result(60) == WHOLE


def test_the_end_of_it_is_not_waited_for(whole_room):
    """tail: one command, however large the file."""
    put(whole_room.workspace, "big", BIG)
    with Mount(whole_room, path="/workspace") as m:
        m.ls()
        m.forget()
        out = m.sh("tail -c 4096 big")
        assert out.out == BIG[-4096:]
        assert m.count()["total"] <= 2, m.count()


@pytest.mark.parametrize("times", [1, 1000])
def test_a_stream_that_breaks(whole_room, times):
    """In the middle, once or each time: then by commands."""
    put(whole_room.workspace, "first", BIG[:2 * MIB])
    put(whole_room.workspace, "big", BIG)
    with Mount(whole_room, path="/workspace") as m:
        # So that it is known that there is no Range.
        assert do(read_through, m("first")) == summary(BIG[:2 * MIB])
        whole_room.fault({"reset": "middle"}, times=times, kind="raw")
        assert do(read_through, m("big"), timeout=120) == WHOLE


def test_a_file_that_does_not_fit_into_the_cache(whole_room):
    put(whole_room.workspace, "big", BIG)
    with Mount(whole_room, "cache_size=32M", path="/workspace") as m:
        assert do(read_through, m("big"), timeout=120) == WHOLE


def read_begun(path, opened):
    """Read a little, and the rest when the file is another one."""
    with open(path, "rb", buffering=0) as f:
        parts = [f.read(1 << 17) for _ in range(3)]
        opened()
        while data := f.read(1 << 17):
            parts.append(data)
    return summary(*parts)


def test_a_file_that_is_replaced_meanwhile(whole_room):
    """All of the one, or an error: never a mixture."""
    put(whole_room.workspace, "first", BIG[:2 * MIB])
    put(whole_room.workspace, "big", BIG)
    with Mount(whole_room, "cache_timeout=0", path="/workspace") as m:
        assert do(read_through, m("first")) == summary(BIG[:2 * MIB])

        def replace():
            whole_room.run("head -c 9000000 /dev/zero >/workspace/new && "
                           "mv /workspace/new /workspace/big")

        got = do(outcome, read_begun, m("big"), replace, timeout=60)
        assert got in (WHOLE, errno.ESTALE, errno.EIO)


def test_an_unmount_ends_it(whole_room):
    put(whole_room.workspace, "first", BIG[:2 * MIB])
    put(whole_room.workspace, "big", BIG)
    with Mount(whole_room, path="/workspace") as m:
        assert do(read_through, m("first")) == summary(BIG[:2 * MIB])
        whole_room.fault({"hang": -1}, kind="raw")
        call = Call(outcome, read_through, m("big"))
        wait_until(lambda: whole_room.state()["inflight"] > 0, DEADLINE)
        m.process.terminate()
        got = call.result(60)
        assert isinstance(got, int) or got == WHOLE, got
        wait_until(lambda: m.process.poll() is not None, DEADLINE)
        whole_room.no_faults()
