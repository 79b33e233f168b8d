"""Who looks at a directory while this mount changes it, or runs commands; and
changes of what the room has changed, too, unseen."""

import collections
import errno
import os
import threading
import time

import pytest

from helpers_write import save
from hostile import Hostile
from mountlib import (DEADLINE, Call, Mount, Room, do, exec_script, outcome,
                      put, raises, read_file, wait_until)

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


def save_own(top):
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
@pytest.mark.parametrize("other", [command, save_own, scratch])
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


def answered_late(what, held, go):
    """A rule: that command runs at once, and its answer waits."""
    def rule(request, forward):
        if not request.is_about(what) or held.is_set():
            return None
        answer = forward(request)
        held.set()
        go.wait(60)
        return answer
    return rule


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_listing_comes_before_the_renames_answer(any_room, kind):
    """A13: what has the new name then is what was renamed."""
    held, go = threading.Event(), threading.Event()
    put(any_room.workspace, "d/old" + ("/sub" if kind == "directory" else ""),
        "contents\n")
    with Hostile(any_room) as bad, \
            Mount(bad, "cache_timeout=60", path="/workspace") as m:
        ino = m.lstat("d", "old").st_ino
        bad.rule = answered_late("/workspace/d/new", held, go)
        rename = Call(os.rename, m("d", "old"), m("d", "new"))
        wait_until(held.is_set, DEADLINE, "the rename")
        asked = bad.count()
        look = Call(exec_script, m(".exec"), "true")
        wait_until(lambda: bad.count() > asked + 1, DEADLINE, "the listing")
        m.settle()
        go.set()
        rename.result()
        look.result()
        st = m.lstat("d", "new")
        assert st.st_ino == ino and st.st_nlink > 0
        name = "new/file" if kind == "directory" else "new"
        do(save, m("d", name), b"saved\n")
        assert read_file(f"{any_room.workspace}/d/{name}") == b"saved\n"
        raises(errno.ENOENT, os.lstat, m("d", "old"))
        assert m.ls("d") == ["new"]


def test_a_refused_name_is_there_whatever_an_older_listing_says(any_room):
    """A13: EEXIST, and then it is found."""
    held, go = threading.Event(), threading.Event()
    put(any_room.workspace, "d/file", "")
    with Hostile(any_room) as bad, \
            Mount(bad, "cache_timeout=2", path="/workspace/d") as m:
        assert m.ls() == ["file"]
        assert not m.exists("made")
        any_room.run("sleep 2.1")
        bad.rule = answered_late("list_tree 0 ", held, go)
        look = Call(os.listdir, m.dir)
        wait_until(held.is_set, DEADLINE, "the listing")
        os.mkdir(any_room.workspace + "/d/made")
        made = Call(outcome, os.mkdir, m("made"))
        assert made.result() == errno.EEXIST
        go.set()
        look.result()
        assert m.exists("made")


@pytest.mark.parametrize("trust", [0, 60])
def test_names_in_a_large_directory(any_room, trust):
    """A10: of which only the name is asked for."""
    os.mkdir(any_room.workspace + "/large")
    for i in range(4200):
        os.close(os.open(f"{any_room.workspace}/large/{i}", os.O_CREAT))
    with Mount(any_room, f"cache_timeout={trust}") as m:
        assert len(m.ls(W, "large")) == 4200
        do(save, m(W, "large", "new"), b"new\n")
        do(os.mkdir, m(W, "large", "dir"))
        do(os.link, m(W, "large", "new"), m(W, "large", "link"))
        do(os.rename, m(W, "large", "new"), m(W, "large", "renamed"))
        raises(errno.ENOENT, os.lstat, m(W, "large", "new"))
        assert m.read(W, "large", "renamed") == b"new\n"
        assert read_file(any_room.workspace + "/large/link") == b"new\n"


def test_names_in_a_directory_that_cannot_be_read():
    """A6: what the room's user may do there works."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be another user")
    with Room(user=1000) as room:
        os.mkdir(room.workspace + "/drop")
        os.chown(room.workspace + "/drop", 1000, 1000)
        os.chmod(room.workspace + "/drop", 0o300)
        with Mount(room) as m:
            do(save, m(W, "drop", "new"), b"new\n")
            do(os.rename, m(W, "drop", "new"), m(W, "drop", "renamed"))
            raises(errno.ENOENT, os.lstat, m(W, "drop", "new"))
            assert m.read(W, "drop", "renamed") == b"new\n"
            raises(errno.EACCES, os.listdir, m(W, "drop"))


def test_what_became_something_else_is_changed(any_room):
    """A10, W3: within cache_timeout nothing tells us; it is no harm."""
    top = any_room.workspace
    put(top, "f", "file\n")
    put(top, "g", "file\n")
    put(top, "d/f", "old\n")
    put(top, "other/f", "old\n")
    with Mount(any_room, "cache_timeout=60") as m:
        for name in ("f", "g", "d/f"):
            assert m.lstat(W, name).st_size > 0
        any_room.run("cd /workspace; rm f g; mkdir f; ln -s d g;"
                     " mv d was; ln -s other d")
        do(outcome, os.rename, m(W, "f"), m(W, "moved"))
        do(outcome, lambda path: os.utime(path, follow_symlinks=False),
           m(W, "g"))
        do(outcome, save, m(W, "d", "f"), b"new\n")
        m.process.send_signal(1)
        wait_until(lambda: do(os.path.islink, m(W, "g")), DEADLINE, "a look")
        assert do(os.readlink, m(W, "g")) == "d"
        assert m.lstat(W, "d").st_mode == os.lstat(top + "/d").st_mode
        assert m.ls(W) == sorted(os.listdir(top))
        assert m.ls(W, "d") == ["f"]


@pytest.mark.parametrize("change", [
    lambda path: os.chmod(path, 0o600),
    lambda path: os.rename(path, path + ".new"),
    lambda path: os.link(path, path + ".new"),
    os.utime, lambda path: os.truncate(path, 9)],
    ids=["chmod", "mv", "ln", "touch", "truncate"])
def test_other_bytes_that_a_change_brings_to_light(any_room, change):
    """R3: rewritten in the room, with the same length, and then changed here:
    no old bytes after cache_timeout."""
    put(any_room.workspace, "f", "old bytes\n")
    with Mount(any_room, "cache_timeout=2") as m:
        assert m.read(W, "f") == b"old bytes\n"
        put(any_room.workspace, "f", "new bytes\n")
        do(change, m(W, "f"))
        name = "f" if m.exists(W, "f") else "f.new"
        any_room.run("sleep 2.1")
        assert m.read(W, name) == read_file(f"{any_room.workspace}/{name}")


def hold_new(path, ready, go):
    """Make a file, and close it when told; how that went."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"unsent\n")
    os.write(ready, b"x")
    os.read(go, 1)
    return outcome(os.close, fd)


def test_a_directory_goes_before_its_new_file_was_sent(any_room, tmp_path):
    """W3, W6: closing it says so, and its data is not lost."""
    put(any_room.workspace, "d/f", "")
    with Mount(any_room, cache=str(tmp_path)) as m:
        ready, go = os.pipe(), os.pipe()
        call = Call(hold_new, m(W, "d", "new"), ready[1], go[0])
        os.read(ready[0], 1)
        m.exec(W, "rm -r d")
        assert m.ls(W) == []
        os.write(go[1], b"x")
        assert call.result() == errno.ENOENT
    recovered = [p for p in tmp_path.rglob("*/new") if p.is_file()]
    assert [p.read_bytes() for p in recovered] == [b"unsent\n"]
    assert str(tmp_path).encode() in m.last_words
