"""What nobody waits for is in nobody's way: a walk's listings, read-ahead."""

import os
import threading

import pytest

from hostile import Hostile
from mountlib import DEADLINE, MIB, Call, Mount, pattern, put, wait_until

W = "workspace"
SOON = 10  # seconds, for what must not wait for what is held


@pytest.fixture
def bad(any_room):
    with Hostile(any_room) as server:
        yield server


def walk(top):
    return sum(len(files) for _, _, files in os.walk(top))


@pytest.mark.parametrize("stale", [False, True])
def test_a_listing_passes_that_of_a_walk(any_room, bad, stale):
    """A11: `ls` elsewhere, while what `find` will want is on its way; of what
    was not known, or was in use and has to be checked."""
    for i in range(1800):
        put(any_room.workspace, f"tree/d{i % 60}/f{i}", "x")
    put(any_room.workspace, "other/a/b/c/file", "x")
    held, go = threading.Event(), threading.Event()

    def rule(request, forward):
        if " 16000 " in request.command:
            held.set()
            go.wait(60)

    with Mount(bad, f"cache_timeout={1 if stale else 5}") as m:
        m.ls(W)
        if stale:
            assert m.ls(W, "other/a/b/c") == ["file"]
            any_room.run("sleep 1.2")
        bad.rule = rule
        found = Call(walk, m(W, "tree"))
        wait_until(held.is_set, DEADLINE, "the walk's listing")
        assert m.ls(W, "other/a/b/c", timeout=SOON) == ["file"]
        assert not found.finished()
        go.set()
        assert found.result() == 1800


def read_at(path, *offsets):
    fd = os.open(path, os.O_RDONLY)
    try:
        return [os.pread(fd, 128 << 10, offset) for offset in offsets]
    finally:
        os.close(fd)


def test_a_seek_passes_what_was_read_ahead(any_room, bad):
    """R7: neither who seeks nor who reads another file waits behind it."""
    data = pattern(MIB) * 64
    put(any_room.workspace, "big", data)
    put(any_room.workspace, "small", "small\n")
    step = 128 << 10
    held, go = [], threading.Event()

    def rule(request, forward):
        if request.begins and 4 * MIB <= request.begins < 48 * MIB:
            held.append(request.begins)
            go.wait(60)

    with Mount(bad) as m:
        bad.rule = rule
        first = Call(read_at, m(W, "big"), *range(0, 2 * MIB, step))
        assert b"".join(first.result()) == data[:2 * MIB]
        wait_until(lambda: held, DEADLINE, "read-ahead")
        there = Call(read_at, m(W, "big"), 60 * MIB).result(SOON)
        assert there == [data[60 * MIB:60 * MIB + step]]
        assert m.read(W, "small", timeout=SOON) == b"small\n"
        # 24 MiB would have been wanted; most of it is not asked for.
        assert len(held) <= 5, held
        go.set()
        bad.rule = None
        assert m.read(W, "big", timeout=60) == data
