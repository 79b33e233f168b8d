"""Saves by who had the right to when he opened the file, in rooms whose user is
not root; and changes that are done as a whole or not at all."""
import errno
import hashlib
import os
import secrets
import stat
import subprocess

import pytest

from test_changes import (
    EXCLUSIVE, MAY, MUST, check, fails, mode_of, no_leftovers, token)
from vmroom import NOBODY

OLD = os.urandom(70000)
NEW = os.urandom(3000)


def own_of(room):
    """A directory of the room's user, who is not root."""
    room.tree.chmod(0o755)
    path = room.tree / "own"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    room.user = NOBODY
    return path


@pytest.fixture
def own(room):
    return own_of(room)


def file_of(path, mode, data=OLD, owner=NOBODY):
    path.write_bytes(data)
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def writes(room, path, mode):
    """Each op that writes to an existing file, and what that has then."""
    st = os.stat(path)
    expect = f"{st.st_ino} {st.st_size} {st.st_mtime_ns}"
    source = file_of(path.parent / "source", 0o444, NEW)
    staged = token()

    def piece():
        got = room.change("piece", NEW, path=path, token=staged, offset=0)
        assert got["error"] == 0
    yield "write", NEW, {"how": MAY, "token": token(), "space": 0}, NEW
    yield "append", NEW, {"token": token(), "size": len(OLD)}, OLD + NEW
    yield "ranges", NEW, {"token": token(), "size": len(OLD),
                          "expect": expect, "ranges": "0 3000"}, \
        NEW + OLD[3000:]
    yield "ranges", b"", {"token": token(), "size": 5, "expect": expect,
                          "ranges": ""}, OLD[:5]
    piece()
    yield "commit", b"", {"token": staged, "how": MUST, "size": len(NEW),
                          "sha256": hashlib.sha256(NEW).hexdigest()}, NEW
    piece()
    yield "spread", b"", {"token": staged, "size": len(OLD), "data_len": 3000,
                          "sha256": hashlib.sha256(NEW).hexdigest(),
                          "expect": expect, "ranges": "9 3000"}, \
        OLD[:9] + NEW + OLD[3009:]
    yield "copy", b"", {"to": path, "path": source, "offset": 0,
                        "to_offset": 9, "size": 3000}, \
        OLD[:9] + NEW + OLD[3009:]


@pytest.mark.parametrize("mode", [0o444, 0o200, 0o000, 0o2511])
def test_who_opened_a_file_may_write_whatever_its_mode_says_now(
        room, own, mode):
    """W15: bytes, mode and inode, also by a repeat; and not without."""
    lend = 0o600 & ~mode
    path = file_of(own / "f", mode)
    for op, data, fields, result in writes(room, path, mode):
        mtime = os.stat(path).st_mtime_ns
        fields = {"path": path, **fields}
        if not mode & 0o200 and op != "append":
            fails_or_stays(room, op, data, fields, path, mode)
        ino = os.stat(path).st_ino
        for again in 0, 1:
            got = room.change(op, data, again=again, lend=f"{lend:o}",
                              **fields)
            assert got["error"] == 0, (op, again)
            assert not got["replaced"], op
            check(room, got, "to" if op == "copy" else "path", path)
            assert path.read_bytes() == result, (op, again)
            # writing takes the setgid bit of a program away, as everywhere
            assert mode_of(path) & 0o777 == mode & 0o777, (op, again)
            assert os.stat(path).st_ino == ino
        path.write_bytes(OLD)
        os.utime(path, ns=(mtime, mtime))
        path.chmod(mode)
    no_leftovers(room)


def fails_or_stays(room, op, data, fields, path, mode):
    """Without the right: EACCES, and nothing has changed."""
    staged = op in ("commit", "spread")
    got = room.change(op, data, **fields)
    assert got["error"] == errno.EACCES, op
    assert mode_of(path) == mode and path.read_bytes() == OLD
    if staged:
        again = room.change("piece", NEW, path=path, token=fields["token"],
                            offset=0)
        assert again["error"] == 0


def test_a_write_that_fails_leaves_the_mode(room, own):
    """W15"""
    path = file_of(own / "f", 0o444)
    for again in 0, 1:
        fails(room, errno.ESTALE, "ranges", b"x", path=path, token=token(),
              size=9, expect="1 2 3", ranges="0 1", lend="200", again=again)
        fails(room, errno.EIO, "append", b"x", path=path, token=token(),
              size=9, sha256="0" * 64, lend="200", again=again)
        assert mode_of(path) == 0o444 and path.read_bytes() == OLD
    # another's file stays as it is
    other = file_of(own / "other", 0o444, owner=1234)
    fails(room, errno.EACCES, "append", b"x", path=other, token=token(),
          size=9, lend="200")
    assert mode_of(other) == 0o444 and other.read_bytes() == OLD


def test_a_stopped_write_leaves_the_mode(carrying_room):
    """W15: by a signal; or by a repeat, when the end came without warning."""
    room, own = carrying_room, own_of(carrying_room)
    path = file_of(own / "f", 0o444, b"old")
    command, _ = room.composed("write", NEW, path=path, how=MAY,
                               token=token(), lend="200")
    for signal in "TERM", "HUP", "KILL":
        broken = command.replace(b'cat "$staged" 2>&1 >"$1"',
                                 b"kill -%s $$" % signal.encode())
        assert broken != command
        room.run(broken)
        if signal != "KILL":
            assert mode_of(path) == 0o444, signal
        assert path.read_bytes() in (b"old", b"")
    result = room.change("write", NEW, path=path, how=MAY, token=token(),
                         lend="200", again=1)
    assert result["error"] == 0
    assert mode_of(path) == 0o444 and path.read_bytes() == NEW


def test_new_files_without_hard_links_may_be_read_only(carrying_room):
    """Also where they can't be staged beside: the bytes before the mode."""
    room, own = carrying_room, own_of(carrying_room)
    path = own / "f"
    command, how = room.composed("write", NEW, path=path, how=EXCLUSIVE,
                                 mode=0o444, token=token())
    result = room.result(
        room.run(command.replace(b"try ln -T", b"try false -T")), how)
    assert result["error"] == 0
    assert path.read_bytes() == NEW and mode_of(path) == 0o444
    no_leftovers(room)


def test_a_file_that_may_be_written_but_not_read(room, own):
    """Of another user: in place, checked by its length."""
    path = file_of(own / "f", 0o422, b"old" * 100, owner=1234)
    ino = os.stat(path).st_ino
    for op, data, fields in (
            ("write", NEW, {"how": MAY}), ("append", b"more", {"size": 3000}),
            ("ranges", b"x", {"size": 3004, "ranges": "0 1"})):
        st = os.stat(path)
        result = room.change(
            op, data, path=path, token=token(),
            expect=f"{st.st_ino} {st.st_size} {st.st_mtime_ns}", **fields)
        assert result["error"] == 0 and not result["replaced"], op
    assert path.read_bytes() == b"x" + NEW[1:] + b"more"
    st = os.stat(path)
    assert (st.st_ino, st.st_uid, mode_of(path)) == (ino, 1234, 0o422)


def test_reading_what_its_owner_may_not_read_any_more(room, own):
    """W15: for who opened it before; its mode stays."""
    path = file_of(own / "f", 0o200)
    assert room.read(path, 0, 100)["error"] == -errno.EACCES
    answer = room.read(path, 5, 100, lend=True)
    assert answer["error"] == 0 and answer["data"] == OLD[5:105]
    assert mode_of(path) == 0o200
    other = file_of(own / "other", 0o200, owner=1234)
    assert room.read(other, 0, 100, lend=True)["error"] == -errno.EACCES
    assert mode_of(other) == 0o200


# -- an open file that loses its name ---------------------------------------


def hidden():
    return ".gentilityfs-" + secrets.token_hex(8)


def test_unlink_keeps_an_open_file(room):
    """W16: under its new name, also by a repeat."""
    path, keep = room.tree / "f", hidden()
    path.write_bytes(OLD)
    ino = os.stat(path).st_ino
    for again in 0, 1:
        result = room.change("unlink", path=path, keep=keep, again=again)
        assert result["error"] == 0 and "path" not in result
        assert os.listdir(room.tree) == [keep]
        assert os.stat(room.tree / keep).st_ino == ino
        check(room, result, "kept", room.tree / keep)
    result = room.change("unlink", path=path, keep=hidden())
    assert result["error"] == errno.ENOENT
    (room.tree / "d").mkdir()
    result = room.change("unlink", path=room.tree / "d", keep=hidden())
    assert result["error"] == errno.EISDIR
    assert sorted(os.listdir(room.tree)) == sorted([keep, "d"])


@pytest.mark.parametrize("links", [True, False])
def test_rename_keeps_the_open_file_that_it_replaces(carrying_room, links):
    """W16: with and without hard links, also by a repeat."""
    room = carrying_room
    t, keep = room.tree, hidden()
    (t / "a").write_bytes(NEW)
    (t / "b").write_bytes(OLD)
    ino = os.stat(t / "b").st_ino
    for again in 0, 1:
        command, how = room.composed(
            "rename", path=t / "a", to=t / "b", keep=keep, again=again,
            ino=os.stat(t / ("b" if again else "a")).st_ino)
        if not links:
            command = denied(command)
        result = room.result(room.run(command), how)
        assert result["error"] == 0
        assert sorted(os.listdir(t)) == sorted([keep, "b"])
        assert (t / "b").read_bytes() == NEW
        assert (t / keep).read_bytes() == OLD
        assert os.stat(t / keep).st_ino == ino
        check(room, result, "to", t / "b")
        check(room, result, "kept", t / keep)


def denied(command):
    """As where there are no hard links."""
    changed = command.replace(
        b'try ln -T "$1" "$kept_file"', b'{ error=EPERM; false; }')
    assert changed != command
    return changed


@pytest.mark.parametrize("links", [True, False])
def test_a_rename_that_fails_has_done_nothing(carrying_room, links):
    """W16"""
    room = carrying_room
    t = room.tree
    (t / "b").write_bytes(OLD)
    (t / "d").mkdir()
    st = os.stat(t / "b")
    for name, error in ("none", errno.ENOENT), ("d", errno.ENOTDIR):
        for again in 0, 1:
            command, how = room.composed(
                "rename", path=t / name, to=t / "b", keep=hidden(), ino=1,
                again=again)
            if not links:
                command = denied(command)
            result = room.result(room.run(command), how)
            assert result["error"] == error
            assert sorted(os.listdir(t)) == ["b", "d"]
            assert os.stat(t / "b").st_ino == st.st_ino
            assert "kept" not in result


def test_a_rename_stopped_between_is_finished_by_a_repeat(room):
    """W16: without hard links; what is replaced has been moved aside."""
    t, keep = room.tree, hidden()
    (t / "a").write_bytes(NEW)
    (t / keep).write_bytes(OLD)
    result = room.change("rename", path=t / "a", to=t / "b", keep=keep,
                         ino=os.stat(t / "a").st_ino, again=1)
    assert result["error"] == 0
    assert sorted(os.listdir(t)) == sorted([keep, "b"])
    assert (t / "b").read_bytes() == NEW


def test_nothing_is_removed_that_may_not_be(room):
    """W16: another's file in a sticky directory, and one that the kernel links
    for nobody but its owner."""
    t = room.tree
    t.chmod(0o1777)
    file_of(t / "theirs", 0o600, owner=1234)
    os.mkdir(t / "own")
    os.chown(t / "own", NOBODY, NOBODY)
    file_of(t / "own/theirs", 0o600, owner=1234)
    room.user = NOBODY
    fails(room, errno.EPERM, "unlink", path=t / "theirs", keep=hidden())
    file_of(t / "mine", 0o600)
    fails(room, errno.EPERM, "rename", path=t / "mine", to=t / "theirs",
          keep=hidden(), ino=os.stat(t / "mine").st_ino)
    assert sorted(os.listdir(t)) == ["mine", "own", "theirs"]
    # protected_hardlinks
    keep = hidden()
    assert room.change("unlink", path=t / "own/theirs",
                       keep=keep)["error"] == 0
    assert os.listdir(t / "own") == [keep]
    os.rename(t / "own" / keep, t / "own/theirs")
    file_of(t / "own/mine", 0o600, NEW)
    assert room.change("rename", path=t / "own/mine", to=t / "own/theirs",
                       keep=keep, ino=os.stat(t / "own/mine").st_ino
                       )["error"] == 0
    assert sorted(os.listdir(t / "own")) == [keep, "theirs"]
    assert (t / "own/theirs").read_bytes() == NEW


# -- owners of what is new ----------------------------------------------------


@pytest.mark.parametrize("op,fields", [
    ("mkdir", {"mode": 0o1755}), ("symlink", {"to": b"x"}),
    ("mknod", {"mode": stat.S_IFIFO | 0o755}),
    ("mknod", {"mode": stat.S_IFSOCK | 0o644}),
    ("create", {"how": EXCLUSIVE, "mode": 0o644, "token": "0123456789"})])
def test_what_is_new_has_its_owner(room, op, fields):
    """W17: made with it, also by a repeat, which makes none of another's; or
    not made."""
    path = room.tree / "new"
    for again in 0, 1:
        result = room.change(op, path=path, uid=1234, gid=5678, again=again,
                             **fields)
        assert result["error"] == 0, again
        check(room, result, "path", path)
        st = os.lstat(path)
        assert (st.st_uid, st.st_gid) == (1234, 5678)
        if op != "symlink":
            assert mode_of(path) == fields["mode"] & 0o7777
    fails(room, errno.EEXIST, op, path=path, uid=1, gid=1,
          **{**fields, "token": token()})
    st = os.lstat(path)
    assert (st.st_uid, st.st_gid) == (1234, 5678)
    if op != "symlink":
        os.chown(path, 99, 99)
        fails(room, errno.EEXIST, op, path=path, uid=1, gid=1, again=1,
              **{**fields, "token": token()})
    subprocess.run(["rm", "-rf", path], check=True)
    os.chown(room.tree, NOBODY, NOBODY)
    room.tree.chmod(0o755)
    room.user = NOBODY
    fails(room, errno.EPERM, op, path=path, uid=1234, gid=5678,
          **{**fields, "token": token()})
    assert not os.path.lexists(path)
