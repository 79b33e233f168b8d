"""rename(2) is not mv: links, and directories without x for root."""

import os

import pytest

from helpers_write import (  # noqa: F401 (both_*: fixtures)
    W, both_m, both_rooms, host, room_bytes, save,
)
from mountlib import do, put, read_file


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
