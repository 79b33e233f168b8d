"""rename(2) is not mv: links, and directories without x for root.  What
changes beside: times of links, and of files that keep another name."""

import os

import pytest

from helpers_write import (  # noqa: F401 (both_*: fixtures)
    W, both_m, both_rooms, host, room_bytes, save,
)
from mountlib import TEST_USER, do, put, read_file


@pytest.mark.parametrize("text", ["itself", "nowhere", "dir", "file", "a/b/c",
                                  "../workspace"])
def test_rename_over_links(both_m, text):
    """It replaces a link, wherever that points; and moves one, also over the
    file it points to."""
    room = both_m.room
    put(room.workspace, "from", b"from")
    put(room.workspace, "dir/x", b"x")
    put(room.workspace, "file", b"file")
    link = "itself"
    os.symlink(text, host(room, link))
    do(os.rename, both_m(W, "from"), both_m(W, link))
    assert not os.path.islink(host(room, link))
    assert room_bytes(room, link) == b"from"
    do(os.symlink, text, both_m(W, "other"))
    do(os.rename, both_m(W, "other"), both_m(W, "moved"))
    do(os.rename, both_m(W, "moved"), both_m(W, link))
    assert os.readlink(host(room, link)) == text
    assert read_file(host(room, "file")) == b"file"
    assert os.listdir(host(room, "dir")) == ["x"]
    do(os.unlink, both_m(W, link))
    assert sorted(os.listdir(room.workspace)) == ["dir", "file"]


@pytest.mark.root_room
def test_root_works_in_a_directory_without_x(both_m):
    """The VM's user is root here, and may."""
    room = both_m.room
    put(room.workspace, "d/f", b"x")
    put(room.workspace, "g", b"g")
    os.chmod(host(room, "d"), 0o644)

    def run(top):
        save(top + "/d/new", b"new")
        os.mkdir(top + "/d/sub")
        os.rename(top + "/g", top + "/d/g")
        os.rename(top + "/d/f", top + "/f")
        os.link(top + "/f", top + "/d/link")
        os.symlink("a", top + "/d/l")
        os.chmod(top + "/d/new", 0o600)
        os.unlink(top + "/d/l")
        os.rmdir(top + "/d/sub")
        return sorted(os.listdir(top + "/d"))

    assert do(run, both_m(W)) == ["g", "link", "new"]
    assert sorted(os.listdir(host(room, "d"))) == ["g", "link", "new"]
    assert room_bytes(room, "d/new") == b"new"


@pytest.mark.parametrize("lose", ["unlink", "rename"])
def test_losing_a_name_changes_the_file(both_m, lose):
    """Its other names show the new link count and ctime, at once and by the
    one request of the change; what is cached of it stays."""
    room = both_m.room
    put(room.workspace, "one", b"contents")
    os.mkdir(host(room, "d"))
    os.link(host(room, "one"), host(room, "d/two"))
    put(room.workspace, "new", b"new")
    both_m.ls(W)
    both_m.ls(W, "d")
    assert both_m.read(W, "d/two") == b"contents"
    before = both_m.lstat(W, "d/two")
    assert before.st_nlink == 2
    both_m.forget()
    if lose == "unlink":
        do(os.unlink, both_m(W, "one"))
    else:
        do(os.rename, both_m(W, "new"), both_m(W, "one"))
    after = both_m.lstat(W, "d/two")
    assert both_m.count()["total"] == 1
    here = os.lstat(host(room, "d/two"))
    assert here.st_ctime_ns > before.st_ctime_ns
    for field in "nlink", "ctime_ns", "mtime_ns", "size":
        assert getattr(after, "st_" + field) == getattr(here, "st_" + field)
    assert both_m.read(W, "d/two") == b"contents"
    assert both_m.count()["total"] == 1


def test_losing_a_name_when_the_other_is_gone_in_the_room(both_m):
    room = both_m.room
    put(room.workspace, "one", b"contents")
    os.link(host(room, "one"), host(room, "two"))
    both_m.ls(W)
    os.unlink(host(room, "two"))
    put(room.workspace, "two", b"another")
    do(os.unlink, both_m(W, "one"))
    both_m.exec(W, ":")
    assert both_m.read(W, "two") == b"another"
    assert both_m.lstat(W, "two").st_nlink == 1


def test_times_set_on_a_link_stay(both_m):
    """Looking at it is not reading it."""
    group = 0 if TEST_USER else 1
    room = both_m.room
    put(room.workspace, "f", b"x")

    def run(path):
        os.symlink("f", path)
        os.utime(path, (1960000000, 1970000000), follow_symlinks=False)
        os.chown(path, 0, group, follow_symlinks=False)
        return os.lstat(path)

    st = do(run, both_m(W, "l"))
    assert (st.st_atime, st.st_mtime) == (1960000000, 1970000000)
    assert os.lstat(host(room, "l")).st_atime == 1960000000
