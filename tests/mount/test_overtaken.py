"""Who looks at a directory while this mount changes it, or runs commands."""

import collections
import os
import threading
import time

import pytest

from hostile import Hostile
from mountlib import (DEADLINE, Call, Mount, exec_script, put, read_file,
                      wait_until)

W = "workspace"
STABLE = ["a", "b", "c"]


def save_when_told(path, told, done):
    """Save the file each time a byte comes, until none does."""
    fd = os.open(path, os.O_RDWR)
    while os.read(told, 1):
        os.pwrite(fd, b"saved", 0)
        os.fsync(fd)
        os.write(done, b"x")


def test_a_listing_that_a_save_overtakes_counts(any_room):
    """A13: it is not asked for again, and the save is not undone."""
    for name in STABLE:
        put(any_room.workspace, "d/" + name, "old")
    armed, held, go = threading.Event(), threading.Event(), threading.Event()

    def rule(request, forward):
        if request.kind != "command" or not armed.is_set():
            return None
        armed.clear()
        answer = forward(request)
        held.set()
        go.wait(60)
        return answer

    with Hostile(any_room) as bad, \
            Mount(bad, "cache_timeout=0", path="/workspace/d") as m:
        told, done = os.pipe(), os.pipe()
        saver = Call(save_when_told, m("b"), told[0], done[1])
        assert m.ls() == STABLE
        os.write(told[1], b"x")
        os.read(done[0], 1)
        m.settle()
        bad.rule = rule
        put(any_room.workspace, "d/d", "new")
        armed.set()
        look = Call(os.listdir, m.dir)
        wait_until(held.is_set, DEADLINE, "the listing")
        held.clear()
        os.write(told[1], b"x")
        os.read(done[0], 1)
        armed.set()
        go.set()
        wait_until(lambda: look.finished() or held.is_set(), DEADLINE,
                   "the look's end")
        assert look.finished() and not held.is_set()
        assert sorted(look.result()) == STABLE + ["d"]
        bad.rule = None
        os.close(told[1])
        assert m.lstat("b").st_size == 5
        # The other end is the child's, too.
        saver.end()
    assert read_file(any_room.workspace + "/d/b") == b"saved"


def look(top):
    names = os.listdir(top)
    assert set(names) >= set(STABLE), names
    os.stat(top)
    assert read_file(top + "/b") == b"old"


def command(top):
    exec_script(os.path.dirname(top) + "/.exec", "true")


def save(top):
    with open(f"{top}/own-{os.getpid()}", "w") as f:
        f.write(str(time.monotonic_ns()))


def scratch(top):
    path = f"{top}/tmp-{os.getpid()}"
    with open(path, "w") as f:
        f.write("x")
    assert os.path.basename(path) in os.listdir(top)
    os.rename(path, path + ".new")
    os.unlink(path + ".new")
    assert os.path.basename(path) + ".new" not in os.listdir(top)


def again_and_again(func, top, end):
    """How often it went well; and how it failed."""
    seen = collections.Counter()
    while time.monotonic() < end:
        try:
            func(top)
            seen["well"] += 1
        except OSError as e:
            seen[repr(e)] += 1
    return seen


@pytest.mark.parametrize("trust", [0, 1])
@pytest.mark.parametrize("other", [command, save, scratch])
def test_looking_while_others_work_there(any_room, trust, other):
    """A13: commands, saves and new names, faster than a listing comes."""
    for name in STABLE:
        put(any_room.workspace, "d/" + name, "old")
    any_room.control(latency_ms=20)
    with Mount(any_room, f"cache_timeout={trust}") as m:
        end = time.monotonic() + 2
        calls = [Call(again_and_again, func, m(W, "d"), end)
                 for func in [look] * 2 + [other] * 6]
        for call in calls:
            assert set(call.result()) == {"well"}
