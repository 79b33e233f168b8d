"""Changes, made by the programs of src/script/vm for real: what they leave, which
errno they give, and that a repeat whose first answer was lost is harmless."""
import concurrent.futures
import errno
import hashlib
import os
import re
import resource
import secrets
import shutil
import signal
import stat
import subprocess

import pytest

from vmroom import HOSTILE, NOBODY

MUST, MAY, EXCLUSIVE = 0, 1, 2
BINARY = bytes(range(256)) * 40
TEXT = b"".join(b"line %d of many\n" % i for i in range(20000))


def token():
    return secrets.token_hex(8)


def check(room, result, key, path):
    """Does the result say what lstat says?"""
    if not os.path.lexists(path):
        assert key not in result
        return
    st = os.lstat(path)
    for field in ("mode", "nlink", "uid", "gid", "size", "ino", "dev"):
        assert result[key][field] == getattr(st, "st_" + field), field
    assert result[key]["mtime"] == st.st_mtime_ns
    assert result[key]["ctime"] == st.st_ctime_ns


def ok(room, op, data=b"", **fields):
    """A change that must work, and whose answer must be the truth; done
    again as a repeat it must give the same."""
    for again in (0, 1):
        result = room.change(op, data, again=again, **fields)
        assert result["error"] == 0, (op, fields, again)
        path = os.fsencode(fields["path"])
        check(room, result, "path", path)
        check(room, result, "dir", os.path.dirname(path))
        if op in ("rename", "link", "copy"):
            to = os.fsencode(fields["to"])
            check(room, result, "to", to)
            check(room, result, "to_dir", os.path.dirname(to))
    no_leftovers(room)
    return result


def no_leftovers(room):
    for top, _, files in os.walk(os.fsencode(room.tree)):
        assert not [f for f in files if f.startswith(b".gentilityfs")], top


def fails(room, error, op, data=b"", **fields):
    result = room.change(op, data, **fields)
    assert errno.errorcode.get(result["error"]) == errno.errorcode[error], \
        (op, fields)
    no_leftovers(room)
    return result


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_names(room):
    t = room.tree
    for mode in 0o755, 0o700, 0o1777, 0o000:
        ok(room, "mkdir", path=t / f"d{mode:o}", mode=mode)
        assert mode_of(t / f"d{mode:o}") == mode
        ok(room, "rmdir", path=t / f"d{mode:o}")
    for mode in 0o644, 0o777, 0o600, 0o000:
        ok(room, "mknod", path=t / f"p{mode:o}", mode=stat.S_IFIFO | mode)
        assert mode_of(t / f"p{mode:o}") == mode
        assert stat.S_ISFIFO(os.lstat(t / f"p{mode:o}").st_mode)
        ok(room, "unlink", path=t / f"p{mode:o}")
        ok(room, "mknod", path=t / f"s{mode:o}", mode=stat.S_IFSOCK | mode)
        assert mode_of(t / f"s{mode:o}") == mode
        assert stat.S_ISSOCK(os.lstat(t / f"s{mode:o}").st_mode)
        ok(room, "unlink", path=t / f"s{mode:o}")
    ok(room, "mknod", path=t / "c", mode=stat.S_IFCHR | 0o640, major=1,
       minor=3)
    assert os.lstat(t / "c").st_rdev == os.makedev(1, 3)
    for target in "a", "-n", "with'quote\n", "", "\n":
        if target:
            ok(room, "symlink", path=t / "l", to=target.encode())
            assert os.readlink(t / "l") == target
            ok(room, "unlink", path=t / "l")
        else:
            fails(room, errno.ENOENT, "symlink", path=t / "l", to=b"")
    (t / "f").write_bytes(b"x")
    ok(room, "link", path=t / "f", to=t / "g")
    assert os.stat(t / "f").st_ino == os.stat(t / "g").st_ino
    (t / "dangling").symlink_to("none")
    ok(room, "link", path=t / "dangling", to=t / "dangling2")
    assert os.readlink(t / "dangling2") == "none"
    ok(room, "unlink", path=t / "dangling")


def test_a_staged_file_that_cannot_be_removed_is_no_record(room):
    d = room.tree / "append-only"
    d.mkdir()
    if subprocess.run(["chattr", "+a", d], stderr=subprocess.DEVNULL
                      ).returncode != 0:
        pytest.skip("no append-only directories here")
    try:
        result = room.change("write", b"bytes", path=d / "f", how=EXCLUSIVE,
                             mode=0o640, token=token())
        assert result["error"] == 0
        assert result["path"]["size"] == 5
    finally:
        subprocess.run(["chattr", "-a", d], check=True)
    assert (d / "f").read_bytes() == b"bytes"


def test_new_directory_in_a_setgid_one(room):
    t = room.tree
    os.chown(t, 0, 1234)
    t.chmod(0o2755)
    ok(room, "mkdir", path=t / "d", mode=0o755)
    assert mode_of(t / "d") == 0o2755 and os.stat(t / "d").st_gid == 1234
    ok(room, "chmod", path=t / "d", mode=0o755)
    assert mode_of(t / "d") == 0o755
    ok(room, "write", b"x", path=t / "f", how=MAY, mode=0o644, token=token())
    assert os.stat(t / "f").st_gid == 1234


def test_hostile_names(room):
    t = os.fsencode(room.tree) + b"/"
    for name in HOSTILE:
        d, f = t + b"d" + name[:254], t + b"d" + name[:254] + b"/" + name
        ok(room, "mkdir", path=d, mode=0o755)
        ok(room, "write", name, path=f, how=EXCLUSIVE, mode=0o640,
           token=token())
        with open(f, "rb") as file:
            assert file.read() == name
        ino = os.stat(f).st_ino
        ok(room, "rename", path=f, to=t + name, ino=ino)
        assert os.stat(t + name).st_ino == ino
        ok(room, "unlink", path=t + name)
        ok(room, "symlink", path=t + name, to=name)
        assert os.readlink(t + name) == name
        ok(room, "unlink", path=t + name)
        ok(room, "rmdir", path=d)
    assert os.listdir(t) == []


def test_errors_of_names(room):
    t = room.tree
    (t / "file").touch()
    (t / "full/x").mkdir(parents=True)
    (t / "link").symlink_to("full")
    (t / "loop").symlink_to("loop")
    long = t / ("n" * 256)
    for op, more in (("mkdir", {"mode": 0o755}), ("rmdir", {}),
                     ("unlink", {}), ("symlink", {"to": b"x"}),
                     ("mknod", {"mode": stat.S_IFIFO | 0o644}),
                     ("mknod", {"mode": stat.S_IFSOCK | 0o644}),
                     ("create", {"how": EXCLUSIVE, "mode": 0o644,
                                 "token": token()}),
                     ("write", {"how": MAY, "mode": 0o644,
                                "token": token()}),
                     ("chmod", {"mode": 0o644}),
                     ("truncate", {"size": 1}),
                     ("utimens", {"atime": 1, "mtime": 1})):
        fails(room, errno.ENOENT, op, path=t / "none/x", **more)
        fails(room, errno.ENOTDIR, op, path=t / "file/x", **more)
        fails(room, errno.ENAMETOOLONG, op, path=long, **more)
        fails(room, errno.ELOOP, op, path=t / "loop/x", **more)
    fails(room, errno.EEXIST, "mkdir", path=t / "file", mode=0o755)
    fails(room, errno.EEXIST, "mkdir", path=t / "full", mode=0o755)
    fails(room, errno.EEXIST, "mkdir", path=t / "full", mode=0o755, again=1)
    fails(room, errno.EEXIST, "symlink", path=t / "full", to=b"x")
    fails(room, errno.EEXIST, "symlink", path=t / "link", to=b"x", again=1)
    for kind in stat.S_IFIFO, stat.S_IFSOCK:
        fails(room, errno.EEXIST, "mknod", path=t / "file", again=1,
              mode=kind | 0o644)
    fails(room, errno.ENOTEMPTY, "rmdir", path=t / "full")
    fails(room, errno.ENOTDIR, "rmdir", path=t / "file")
    fails(room, errno.ENOTDIR, "rmdir", path=t / "link")
    fails(room, errno.EISDIR, "unlink", path=t / "full")
    fails(room, errno.ENOENT, "unlink", path=t / "none")
    fails(room, errno.ENOENT, "rmdir", path=t / "none")
    fails(room, errno.EPERM, "link", path=t / "full", to=t / "full2")
    fails(room, errno.EEXIST, "link", path=t / "file", to=t / "link")
    fails(room, errno.ENOENT, "link", path=t / "none", to=t / "x")
    fails(room, errno.ENOTSUP, "chmod", path=t / "link", mode=0o777)
    fails(room, errno.ENOENT, "chmod", path=t / "none", mode=0o777)
    fails(room, errno.ENOENT, "chown", path=t / "none", uid=1)
    fails(room, errno.EISDIR, "truncate", path=t / "full", size=1)
    fails(room, errno.EINVAL, "truncate", path=t / "link", size=1)


def test_rename(room):
    t = room.tree
    for name in "a", "b":
        (t / name).write_text(name)
        (t / ("d" + name)).mkdir()
    (t / "full/x").mkdir(parents=True)
    ino = os.stat(t / "a").st_ino
    ok(room, "rename", path=t / "a", to=t / "b", ino=ino)
    assert (t / "b").read_text() == "a"
    ino = os.stat(t / "da").st_ino
    ok(room, "rename", path=t / "da", to=t / "db", ino=ino)
    assert os.stat(t / "db").st_ino == ino
    ino = os.stat(t / "full").st_ino
    ok(room, "rename", path=t / "full", to=t / "db", ino=ino)
    assert (t / "db/x").is_dir()
    (t / "other").mkdir()
    fails(room, errno.ENOTEMPTY, "rename", path=t / "other", to=t / "db")
    fails(room, errno.EISDIR, "rename", path=t / "b", to=t / "other")
    fails(room, errno.ENOTDIR, "rename", path=t / "other", to=t / "b")
    fails(room, errno.EINVAL, "rename", path=t / "db", to=t / "db/y")
    fails(room, errno.EINVAL, "rename", path=t / "db", to=t / "db/x/y")
    fails(room, errno.ENOENT, "rename", path=t / "none", to=t / "y")
    fails(room, errno.ENOENT, "rename", path=t / "b", to=t / "none/y")
    fails(room, errno.ENOTDIR, "rename", path=t / "b", to=t / "b/y")
    fails(room, errno.ENAMETOOLONG, "rename", path=t / "b",
          to=t / ("n" * 256))
    # "db2" is not inside "db"
    ino = os.stat(t / "other").st_ino
    ok(room, "rename", path=t / "other", to=t / "db2", ino=ino)
    # two names of one file: nothing happens
    os.link(t / "b", t / "b2")
    ok(room, "rename", path=t / "b", to=t / "b2",
       ino=os.stat(t / "b").st_ino + 1)
    assert (t / "b").exists() and (t / "b2").exists()
    # symlinks are renamed themselves, also onto each other and directories
    (t / "l").symlink_to("db")
    (t / "l2").symlink_to("db2")
    ino = os.lstat(t / "l").st_ino
    ok(room, "rename", path=t / "l", to=t / "l2", ino=ino)
    assert os.readlink(t / "l2") == "db"
    fails(room, errno.EISDIR, "rename", path=t / "l2", to=t / "db2")
    ok(room, "rename", path=t / "b2", to=t / "l2", ino=os.stat(
        t / "b2").st_ino)
    assert not (t / "l2").is_symlink()


def test_rename_noreplace(room):
    t = room.tree
    for kind in "file", "dir", "link":
        for name in "x", "y":
            path = t / (kind + name)
            if kind == "file":
                path.write_text(name)
            elif kind == "dir":
                path.mkdir()
            else:
                path.symlink_to("nowhere" + name)
        fails(room, errno.EEXIST, "rename", path=t / (kind + "x"),
              to=t / (kind + "y"), noreplace=1)
        ino = os.lstat(t / (kind + "x")).st_ino
        ok(room, "rename", path=t / (kind + "x"), to=t / (kind + "z"),
           noreplace=1, ino=ino)
        assert not os.path.lexists(t / (kind + "x"))
        assert os.lstat(t / (kind + "z")).st_ino == ino
    # the first run was cut between its two steps
    (t / "s").touch()
    os.link(t / "s", t / "s2")
    result = room.change("rename", path=t / "s", to=t / "s2", noreplace=1,
                         ino=os.stat(t / "s").st_ino, again=1)
    assert result["error"] == 0 and not (t / "s").exists()


def test_a_repeated_rename_does_not_take_a_newer_file(room):
    t = room.tree
    (t / "a").write_text("first")
    ino = os.stat(t / "a").st_ino
    assert room.change("rename", path=t / "a", to=t / "b",
                       ino=ino)["error"] == 0
    (t / "a").write_text("second")
    assert room.change("rename", path=t / "a", to=t / "b", ino=ino,
                       again=1)["error"] == 0
    assert (t / "a").read_text() == "second"
    assert (t / "b").read_text() == "first"


def test_across_file_systems(room):
    t = room.tree
    (t / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", t / "mnt"], check=True)
    try:
        (t / "f").touch()
        (t / "d").mkdir()
        for name in "f", "d":
            fails(room, errno.EXDEV, "rename", path=t / name,
                  to=t / "mnt" / name)
        fails(room, errno.EXDEV, "link", path=t / "f", to=t / "mnt/f")
        fails(room, errno.EBUSY, "rmdir", path=t / "mnt")
    finally:
        subprocess.run(["umount", t / "mnt"], check=True)


def test_attributes(room):
    t = room.tree
    (t / "f").touch()
    (t / "l").symlink_to("f")
    for mode in 0o644, 0o4755, 0o000, 0o7777:
        ok(room, "chmod", path=t / "f", mode=mode)
        assert mode_of(t / "f") == mode
    ok(room, "chown", path=t / "f", uid=12, gid=34)
    ok(room, "chown", path=t / "f", uid=56)
    assert (os.stat(t / "f").st_uid, os.stat(t / "f").st_gid) == (56, 34)
    ok(room, "chown", path=t / "l", gid=78)
    assert os.lstat(t / "l").st_gid == 78 and os.stat(t / "f").st_gid == 34
    ok(room, "chown", path=t / "f")
    for size in 5, 0, 1 << 33, 3:
        ok(room, "truncate", path=t / "f", size=size)
        assert os.stat(t / "f").st_size == size


TIMES = [(1700000000_123456789, 1600000000_000000001), (0, 0), (5, 5),
         (-1, -1500000000), (1 * 10**9, -3 * 10**9),
         ("omit", 7 * 10**9), (8 * 10**9, "omit"), (9_000000009, "omit"),
         ("now", 10**18 + 1), ("now", "now"), ("omit", "omit")]


def test_times(room):
    t = room.tree
    (t / "f").touch()
    (t / "l").symlink_to("f")
    for path in t / "f", t / "l", t:
        for atime, mtime in TIMES:
            before = os.lstat(path)
            result = room.change("utimens", path=path, atime=atime,
                                 mtime=mtime)
            assert result["error"] == 0
            check(room, result, "path", path)
            after = os.lstat(path)
            whole = not room.gnu and any(
                ns not in ("omit", "now") and ns % 10**9 != 0
                for ns in (atime, mtime))
            for asked, was, got in (
                    (atime, before.st_atime_ns, after.st_atime_ns),
                    (mtime, before.st_mtime_ns, after.st_mtime_ns)):
                if path == t / "l" and asked == atime:
                    continue    # looking at a link sets its atime
                if asked == "omit":
                    assert got == was
                elif asked == "now":
                    assert got >= after.st_ctime_ns - 10**10
                elif room.gnu:
                    assert got == asked
                else:
                    # which does not take -1
                    assert got in (asked // 10**9 * 10**9,
                                   0 if asked == -1 else None)
            assert result["whole_seconds"] == whole


def test_times_by_a_touch_that_knows_no_fractions(room, tmp_path):
    """GNU find, and busybox's touch: also where no python3 helps."""
    if not room.gnu:
        pytest.skip("busybox is in test_times")
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    bin_dir.chmod(0o755)
    (bin_dir / "touch").write_text(
        "#!/bin/sh\n"
        "for a; do case $a in @*.*)\n"
        "\techo \"touch: invalid date '$a'\" >&2\n"
        "\texit 1 ;;\n"
        "esac; done\n"
        f"exec {shutil.which('touch')} \"$@\"\n")
    (bin_dir / "touch").chmod(0o755)
    room.env["PATH"] = f"{bin_dir}:{os.environ['PATH']}"
    path = room.tree / "f"
    path.touch()
    python = shutil.which("python3", path=room.env["PATH"]) is not None
    for atime, mtime in TIMES:
        result = room.change("utimens", path=path, atime=atime, mtime=mtime)
        assert result["error"] == 0
        check(room, result, "path", path)
        got = os.lstat(path).st_mtime_ns
        if mtime in ("omit", "now"):
            continue
        want = mtime if python else mtime // 10**9 * 10**9
        # Towards the past by less than a second, where touch can't do more.
        assert got == want or (mtime == -1 and got == 0)
    # An error stays one.
    result = room.change("utimens", path=room.tree / "none", atime=1, mtime=1)
    assert result["error"] == errno.ENOENT


# Small text stands in the command as it is.
QUOTED = b"#!/bin/sh\n\techo 'it''s' \"$HOME\" `id` \\n %s \\ !$ '\n\n"


def test_write(room):
    t = room.tree
    for data in (b"", b"x", BINARY, TEXT[:60000], b"\n\n", os.urandom(60000),
                 QUOTED, QUOTED * 90, QUOTED + b"\0", b"'" * 4000,
                 QUOTED[:-2] + b"\xc3\xa4\r\n", b"-n", b"\\c", TEXT[:6144]):
        for how in EXCLUSIVE, MAY, MUST:
            path = t / f"f{how}"
            if how == MUST:
                path.write_text("old")
            ok(room, "write", data, path=path, how=how, mode=0o640,
               token=token())
            assert path.read_bytes() == data
            assert mode_of(path) == 0o640
            path.unlink()
    fails(room, errno.ENOENT, "write", b"x", path=t / "none", how=MUST,
          mode=0o644, token=token())
    (t / "d").mkdir()
    (t / "l").symlink_to("d")
    os.mkfifo(t / "p")
    for name, error in (("d", errno.EISDIR), ("l", errno.ESTALE),
                        ("p", errno.EINVAL)):
        for how in MAY, MUST:
            fails(room, error, "write", b"x", path=t / name, how=how,
                  mode=0o644, token=token())
        fails(room, errno.EEXIST, "write", b"x", path=t / name,
              how=EXCLUSIVE, mode=0o644, token=token())
    result = ok(room, "write", b"x", path=t / "t", how=MAY, mode=0o4755,
                token=token(), uid=12, gid=34, atime=5 * 10**9,
                mtime=7 * 10**9)
    assert result["path"]["mtime"] == 7 * 10**9
    assert result["path"]["mode"] == 0o104755
    assert result["path"]["uid"] == 12


def test_a_save_keeps_mode_owner_links_and_inode(room):
    path = room.tree / "f"
    path.write_text("old" * 1000)
    os.link(path, room.tree / "other")
    path.chmod(0o751)
    os.chown(path, 12, 34)
    before = os.stat(path)
    for data in b"shorter", BINARY * 2:
        ok(room, "write", data, path=path, how=MAY, token=token())
        after = os.stat(path)
        for field in "st_ino", "st_mode", "st_uid", "st_gid", "st_nlink":
            assert getattr(before, field) == getattr(after, field)
        assert (room.tree / "other").read_bytes() == data


def test_wrong_bytes_never_reach_the_target(room):
    path = room.tree / "f"
    path.write_text("old")
    wrong = hashlib.sha256(b"other").hexdigest()
    for how in MAY, MUST:
        fails(room, errno.EIO, "write", b"new", path=path, how=how,
              mode=0o644, token=token(), sha256=wrong)
    assert path.read_text() == "old"
    fails(room, errno.EIO, "write", b"new", path=room.tree / "g", how=MAY,
          mode=0o644, token=token(), sha256=wrong)
    assert not (room.tree / "g").exists()


def test_exclusive_creation(room):
    path = room.tree / "lock"
    for op, data in ("create", b""), ("write", b"me"), ("write", b""):
        mine, other = token(), token()
        fields = {"path": path, "how": EXCLUSIVE, "mode": 0o600}
        assert room.change(op, data, token=mine, **fields)["error"] == 0
        # mine again: my own success; another's repeat is still refused
        assert room.change(op, data, token=mine, again=1,
                           **fields)["error"] == 0
        fails(room, errno.EEXIST, op, data, token=other, **fields)
        fails(room, errno.EEXIST, op, data, token=other, again=1, **fields)
        assert path.stat().st_nlink == 1
        assert mode_of(path) == 0o600
        # somebody replaced it meanwhile
        path.rename(room.tree / "kept")
        path.write_bytes(data)
        fails(room, errno.EEXIST, op, data, token=mine, again=1, **fields)
        path.unlink()


def test_race_for_a_lock_file_has_one_winner(room):
    commands = [room.composed("create", path=room.tree / "lock", mode=0o600,
                              how=EXCLUSIVE, token=token())
                for _ in range(12)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        errors = [room.result(out, how)["error"] for out, how in zip(
            pool.map(room.run, [c for c, _ in commands]),
            [how for _, how in commands])]
    assert sorted(errors) == [0] + [errno.EEXIST] * 11
    no_leftovers(room)


def test_create_leaves_an_existing_file(room):
    path = room.tree / "f"
    path.write_text("old")
    ok(room, "create", path=path, how=MAY, mode=0o600, token=token())
    assert path.read_text() == "old"
    ok(room, "create", path=room.tree / "n", how=MAY, mode=0o604,
       token=token())
    assert mode_of(room.tree / "n") == 0o604


def test_pieces(room):
    data = os.urandom(200000) + TEXT + b"\0" * 70000
    size = 50000
    whole = hashlib.sha256(data).hexdigest()
    for how, old in (EXCLUSIVE, None), (MAY, None), (MUST, b"old" * 200000), \
            (MAY, b""):
        path = room.tree / f"f{how}{old is None}"
        if old is not None:
            path.write_bytes(old)
            path.chmod(0o751)
        t = token()
        commands = [room.composed("piece", data[o:o + size], path=path,
                                  token=t, offset=o)
                    for o in range(0, len(data), size)]
        fields = {"path": path, "token": t, "how": how, "size": len(data),
                  "sha256": whole}
        # out of order, in parallel, each twice; too early a commit
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            half = commands[::2]
            for out, (_, args) in zip(pool.map(room.run, [
                    c for c, _ in half]), half):
                assert room.result(out, args)["error"] == 0
            result = room.change("commit", mode=0o640, **fields)
            assert result["error"] == errno.EAGAIN
            twice = commands[::-1] + commands[1::2]
            for out, (_, args) in zip(pool.map(room.run, [
                    c for c, _ in twice]), twice):
                assert room.result(out, args)["error"] == 0
        assert (path.read_bytes() if path.exists() else None) == old
        if old is None:
            fields["mode"] = 0o640
        ok(room, "commit", **fields)
        assert path.read_bytes() == data
        assert mode_of(path) == (0o640 if old is None else 0o751)
    t = token()
    room.change("piece", b"x", path=room.tree / "a", token=t, offset=0)
    ok(room, "abort", path=room.tree / "a", token=t)


CHECKED, HOLE = 1, 2


@pytest.mark.parametrize("how", [EXCLUSIVE, MAY])
@pytest.mark.parametrize("old", [None, b"old" * 50_000], ids=["new", "old"])
@pytest.mark.parametrize("parts", [
    [], [(0, b"head")], [(5, b"five"), (1 << 31, b"far" * 9000)]],
    ids=["hole", "head", "parts"])
def test_a_file_with_holes(room, how, old, parts):
    """Neither sent nor read; a repeat knows what the first run did."""
    if how == EXCLUSIVE and old is not None:
        pytest.skip("refused")
    path, size, t = room.tree / "f", 3 << 30, token()
    if old is not None:
        path.write_bytes(old)
        path.chmod(0o751)
        inode = path.stat().st_ino
    for offset, data in parts:
        assert room.change("piece", data, path=path, token=t, offset=offset,
                           verify=1)["error"] == 0
    fields = {"path": path, "token": t, "how": how, "size": size,
              "staged": CHECKED if parts else HOLE,
              "ranges": ",".join(f"{o}:{len(d)}" for o, d in parts)}
    if old is None:
        fields["mode"] = 0o640
    for _ in range(2):
        assert room.change("commit", **fields)["error"] == 0
        found = path.stat()
        assert found.st_size == size
        assert found.st_blocks * 512 < 1 << 20
        assert mode_of(path) == (0o640 if old is None else 0o751)
        assert old is None or found.st_ino == inode
        with open(path, "rb") as f:
            for offset, data in parts:
                assert os.pread(f.fileno(), len(data), offset) == data
            assert os.pread(f.fileno(), 100_000, 1 << 30) == bytes(100_000)
        fields["again"] = 1
    # What is not ours is not taken for it.
    path.unlink()
    path.write_bytes(b"another's")
    result = room.change("commit", **fields)
    assert result["error"] != 0 or path.stat().st_size == size
    if how == EXCLUSIVE:
        assert path.read_bytes() == b"another's"


def test_a_file_with_holes_whose_pieces_are_gone(room):
    path, t = room.tree / "f", token()
    result = room.change("commit", path=path, token=t, how=MAY, mode=0o600,
                         size=1 << 30, staged=CHECKED)
    assert result["error"] == errno.EAGAIN
    assert not path.exists()



def test_ranges(room):
    data = bytearray(os.urandom(3_000_000))
    path = room.tree / "f"
    path.write_bytes(data)
    os.link(path, room.tree / "other")

    def expect():
        st = os.stat(path)
        return f"{st.st_ino} {st.st_size} {st.st_mtime_ns}"
    for new_size, ranges in (
            (3_000_000, [(0, 10)]), (3_000_000, [(5, 1), (70000, 30000),
                                                 (2_999_000, 1000)]),
            (3_001_000, [(3_000_000, 1000)]), (3_001_000, []),
            (2_000_000, [(100, 100)]), (2_100_000, [(2_099_999, 1)]),
            (0, []), (40, [(20, 20)])):
        new = os.urandom(sum(n for _, n in ranges))
        result = ok(room, "ranges", new, path=path, token=token(),
                    size=new_size, expect=expect(),
                    ranges=",".join(f"{o} {n}" for o, n in ranges))
        at = 0
        for offset, n in ranges:
            data += b"\0" * (offset + n - len(data))
            data[offset:offset + n] = new[at:at + n]
            at += n
        data = data[:new_size] + b"\0" * (new_size - len(data))
        assert path.read_bytes() == data
        assert result["path"]["nlink"] == 2
    was = expect()
    path.write_bytes(b"changed in the VM")
    fails(room, errno.ESTALE, "ranges", b"x", path=path, token=token(),
          size=17, expect=was, ranges="0 1")
    fails(room, errno.ESTALE, "ranges", b"x", path=path, token=token(),
          size=17, expect=was, ranges="0 1", again=1)
    assert path.read_bytes() == b"changed in the VM"
    fails(room, errno.EIO, "ranges", b"x", path=path, token=token(), size=17,
          expect=expect(), ranges="0 1", sha256="0" * 64)
    assert path.read_bytes() == b"changed in the VM"


def test_append(room):
    path = room.tree / "log"
    path.write_bytes(b"one\n")
    result = ok(room, "append", b"two\n", path=path, token=token(), size=4)
    assert result["number"] == 4
    assert path.read_bytes() == b"one\ntwo\n"
    # the VM appended meanwhile
    with open(path, "ab") as f:
        f.write(b"two\n")
    mine = token()
    result = room.change("append", b"two\n", path=path, token=mine, size=8)
    assert result["error"] == 0 and result["number"] == 12
    with open(path, "ab") as f:
        f.write(b"after\n")
    result = room.change("append", b"two\n", path=path, token=mine, size=8,
                         again=1)
    assert result["error"] == 0 and result["number"] == 12
    # the first run never came there
    result = room.change("append", b"two\n", path=path, token=token(),
                         size=8, again=1)
    assert result["number"] == 22
    assert path.read_bytes() == b"one\n" + b"two\n" * 3 + b"after\ntwo\n"
    fails(room, errno.ENOENT, "append", b"x", path=room.tree / "none",
          token=token(), size=0)
    (room.tree / "d").mkdir()
    fails(room, errno.EISDIR, "append", b"x", path=room.tree / "d",
          token=token(), size=0)


def no_larger(size):
    """For a command: the kernel refuses to make a file larger than that."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_an_append_that_fails_half_way_leaves_nothing(room):
    """As with a quota; and the next attempt adds all of it once."""
    path = room.tree / "log"
    old, new = os.urandom(60000), os.urandom(60000)
    path.write_bytes(old)
    command, how = room.composed("append", new, path=path, token=token(),
                                 size=60000)
    output = room.run(command, preexec_fn=lambda: no_larger(100000))
    assert room.result(output, how)["error"] == errno.EFBIG
    no_leftovers(room)
    assert path.read_bytes() == old
    result = ok(room, "append", new, path=path, token=token(), size=60000)
    assert result["number"] == 60000
    assert path.read_bytes() == old + new


def test_copy(room):
    t = room.tree
    data = os.urandom(300000)
    (t / "a").write_bytes(data)
    (t / "b").write_bytes(b"0123456789")
    ok(room, "copy", path=t / "a", to=t / "b", offset=1000, to_offset=5,
       size=200000)
    assert (t / "b").read_bytes() == b"01234" + data[1000:201000]
    result = ok(room, "copy", path=t / "a", to=t / "b", offset=299990,
                to_offset=0, size=100)
    assert result["number"] == 10
    result = ok(room, "copy", path=t / "a", to=t / "b", offset=300001,
                to_offset=0, size=100)
    assert result["number"] == 0
    assert (t / "b").read_bytes()[:15] == data[-10:] + data[1005:1010]
    fails(room, errno.ENOENT, "copy", path=t / "none", to=t / "b", size=1)
    fails(room, errno.ENOENT, "copy", path=t / "a", to=t / "none", size=1)


def test_permissions(room):
    t = room.tree
    t.chmod(0o755)
    (t / "own").mkdir()
    os.chown(t / "own", NOBODY, NOBODY)
    (t / "own/f").write_text("x")
    os.chown(t / "own/f", NOBODY, NOBODY)
    (t / "sticky").mkdir()
    (t / "sticky").chmod(0o1777)
    (t / "sticky/root").write_text("x")
    (t / "f").write_text("old")
    (t / "shut").mkdir()
    (t / "shut").chmod(0o700)
    room.user = NOBODY
    ok(room, "write", b"new", path=t / "own/f", how=MUST, token=token())
    ok(room, "mkdir", path=t / "own/d", mode=0o755)
    for op, more in (("mkdir", {"mode": 0o755}), ("symlink", {"to": b"x"}),
                     ("mknod", {"mode": stat.S_IFIFO | 0o644}),
                     ("mknod", {"mode": stat.S_IFSOCK | 0o644}),
                     ("create", {"how": EXCLUSIVE, "mode": 0o644,
                                 "token": token()}),
                     ("write", {"how": MAY, "mode": 0o644,
                                "token": token()})):
        fails(room, errno.EACCES, op, path=t / "new", **more)
        fails(room, errno.EACCES, op, path=t / "shut/new", **more)
    fails(room, errno.EACCES, "unlink", path=t / "f")
    fails(room, errno.EACCES, "rmdir", path=t / "own")
    fails(room, errno.EPERM, "unlink", path=t / "sticky/root")
    fails(room, errno.EPERM, "chmod", path=t / "f", mode=0o777)
    fails(room, errno.EPERM, "chown", path=t / "f", uid=NOBODY)
    fails(room, errno.EPERM, "utimens", path=t / "f", atime=1, mtime=1)
    fails(room, errno.EACCES, "truncate", path=t / "f", size=1)
    fails(room, errno.EACCES, "rename", path=t / "own/f", to=t / "g")
    fails(room, errno.EACCES, "write", b"new", path=t / "f", how=MUST,
          token=token())
    fails(room, errno.EACCES, "append", b"new", path=t / "f", size=3,
          token=token())
    assert (t / "f").read_text() == "old"
    # a file that may be written in a directory that may not
    os.chmod(t / "f", 0o666)
    ok(room, "write", b"new", path=t / "f", how=MAY, token=token())
    assert (t / "f").read_text() == "new"


@pytest.fixture
def small(room):
    """A file system of 256 KiB."""
    path = room.tree / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", path],
                   check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_full_disk_keeps_the_old_content(room, small):
    path = small / "f"
    path.write_bytes(b"old" * 10000)
    with open(small / "filler", "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass
    new = os.urandom(60000)
    fails(room, errno.ENOSPC, "write", new, path=path, how=MUST,
          token=token())
    assert path.read_bytes() == b"old" * 10000
    fails(room, errno.ENOSPC, "write", new, path=small / "g", how=MAY,
          mode=0o644, token=token())
    assert not (small / "g").exists()
    fails(room, errno.ENOSPC, "append", new, path=path, size=30000,
          token=token())
    st = os.stat(path)
    fails(room, errno.ENOSPC, "ranges", new, path=path, token=token(),
          size=100000, ranges="40000 60000",
          expect=f"{st.st_ino} {st.st_size} {st.st_mtime_ns}")
    assert path.read_bytes() == b"old" * 10000
    result = room.change("piece", new, path=path, token="deadbeef00",
                         offset=0)
    assert result["error"] == errno.ENOSPC
    room.change("abort", path=path, token="deadbeef00")
    # room for the new beside the old, but not for both and what is there
    os.truncate(small / "filler", 130000)
    ok(room, "write", new, path=path, how=MUST, token=token())
    assert path.read_bytes() == new


def test_read_only_file_system(room, small):
    (small / "f").write_text("old")
    (small / "d").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    for op, more in (("mkdir", {"mode": 0o755}), ("symlink", {"to": b"x"}),
                     ("mknod", {"mode": stat.S_IFIFO | 0o644}),
                     ("mknod", {"mode": stat.S_IFSOCK | 0o644}),
                     ("create", {"how": EXCLUSIVE, "mode": 0o644,
                                 "token": token()}),
                     ("write", {"how": MAY, "mode": 0o644,
                                "token": token()})):
        fails(room, errno.EROFS, op, path=small / "new", **more)
    for op, more in (("unlink", {}), ("chmod", {"mode": 0o600}),
                     ("truncate", {"size": 0}), ("chown", {"uid": 1}),
                     ("utimens", {"atime": 1, "mtime": 1}),
                     ("write", {"how": MUST, "token": token()}),
                     ("append", {"size": 0, "token": token()}),
                     ("link", {"to": small / "g"})):
        fails(room, errno.EROFS, op, path=small / "f", **more)
    fails(room, errno.EROFS, "rmdir", path=small / "d")
    fails(room, errno.EROFS, "rename", path=small / "f", to=small / "g")


@pytest.mark.parametrize("tool", ["python3", "perl", "cpio", None])
def test_tools_that_make_sockets(carrying_room, tool, tmp_path):
    """Names of any length, and the errno, whatever makes the socket."""
    room = carrying_room    # whose programs are changed below
    if not room.gnu:
        pytest.skip("has one tool, and the other tests use it")
    system = "/usr/bin:/bin"
    if tool is not None and shutil.which(tool, path=system) is None:
        pytest.skip("no " + tool)
    bins = tmp_path / "bins"
    bins.mkdir()
    for name in ("stat", "id", "find", "tr", tool):
        if name is not None:
            (bins / name).symlink_to(shutil.which(name, path=system))
    t = room.tree
    (t / "file").touch()
    (t / "g").mkdir()
    os.chown(t / "g", 0, 4321)
    os.chmod(t / "g", 0o2755)

    def make(path, mode):
        command, how = room.composed("mknod", path=path,
                                     mode=stat.S_IFSOCK | mode)
        # the prelude completes PATH: keep it from that
        command = command.replace(b"PATH=${PATH:-}:", b"PATH=${PATH:-};:")
        out = subprocess.run(
            [f"/bin/{room.name}", "-c", command], stdout=subprocess.PIPE,
            check=False, env={"PATH": str(bins)}).stdout
        return room.result(out, how)["error"]

    if tool is None:
        assert make(t / "s", 0o644) == errno.EPERM
        return
    for name in ("n" * 255, "-a b'c\n", *map("x".__mul__, range(1, 6))):
        path = t / "g" / name
        assert make(path, 0o624) == 0
        st = os.lstat(path)
        assert stat.S_ISSOCK(st.st_mode) and mode_of(path) == 0o624
        assert (st.st_uid, st.st_gid) == (0, 4321)
        assert make(path, 0o777) == errno.EEXIST
    assert len(os.listdir(t / "g")) == 7
    assert make(t / "none/s", 0o644) == errno.ENOENT
    assert make(t / "file/s", 0o644) == errno.ENOTDIR
    assert make(t / ("n" * 256), 0o644) == errno.ENAMETOOLONG
    no_leftovers(room)


def test_evidence_is_forgotten(room):
    tmp = room.root + "/tmp" if room.root else os.environ.get("TMPDIR",
                                                              "/tmp")
    evidence = f"{tmp}/.gentilityfs-0"
    mine = token()
    room.change("create", path=room.tree / "a", how=EXCLUSIVE, mode=0o600,
                token=mine)
    assert os.path.exists(f"{evidence}/{mine}")
    assert mode_of(evidence) == 0o700
    room.change("unlink", path=room.tree / "a", forget=mine)
    assert not os.path.exists(f"{evidence}/{mine}")
    old, new = room.tree / (".gentilityfs-" + token()), \
        room.tree / (".gentilityfs-" + token())
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    # What another mount may have open goes by when it was removed.
    opened = room.tree / (".gentilityfs-open-" + token())
    theirs = room.tree / ".gentilityfs-theirs"
    for path in (opened, theirs):
        path.touch()
        os.utime(path, (1, 1))
    room.change("clean", path=room.tree)
    assert not old.exists() and new.exists()
    assert opened.exists() and theirs.exists()


def test_replaced_when_it_cannot_be_written_in_place(carrying_room):
    """cat fails half-way: the whole new file takes the target's place."""
    room = carrying_room    # whose programs are changed below
    path = room.tree / "f"
    path.write_bytes(b"old" * 1000)
    path.chmod(0o751)
    command, how = room.composed("write", BINARY, path=path, how=MUST,
                                 token=token())
    # stands in for a disk that fills up between the check and the write
    broken = command.replace(b'cat "$staged" 2>&1 >"$1"',
                             b'{ head -c 9 "$staged" >"$1"; false; }')
    assert broken != command
    result = room.result(room.run(broken), how)
    assert result["error"] == 0 and result["replaced"]
    assert path.read_bytes() == BINARY
    assert mode_of(path) == 0o751
    no_leftovers(room)


def test_no_hard_links(room):
    """As on file systems that know none."""
    room.keeps = False    # its programs are changed below
    for how in MAY, EXCLUSIVE:
        path = room.tree / f"f{how}"
        mine = token()
        for again in 0, 1:
            command, args = room.composed("write", BINARY, path=path, how=how,
                                          mode=0o751, token=mine, again=again)
            result = room.result(room.run(command.replace(
                b"try ln -T", b"try false -T")), args)
            assert result["error"] == 0
            assert path.read_bytes() == BINARY and mode_of(path) == 0o751
            no_leftovers(room)


@pytest.mark.parametrize("op", ["write", "create", "commit", "append",
                                "ranges", "over", "rename"])
def test_the_same_command_run_at_the_same_time(room, op):
    """As when a proxy or a library sends a request twice."""
    path = room.tree / "f"
    data, mine = os.urandom(30000), token()
    fields = {"path": path, "token": mine}
    if op == "write" or op == "create":
        fields.update(how=EXCLUSIVE, mode=0o640)
    elif op == "commit":
        room.change("piece", data, path=path, token=mine, offset=0)
        fields.update(how=EXCLUSIVE, mode=0o640, size=len(data),
                      sha256=hashlib.sha256(data).hexdigest())
    elif op == "append":
        path.write_bytes(b"before")
        fields.update(size=6)
    elif op == "ranges":
        path.write_bytes(b"x" * 50000)
        st = os.stat(path)
        fields.update(expect=f"{st.st_ino} {st.st_size} {st.st_mtime_ns}",
                      ranges="1000 30000", size=50000)
    elif op == "over":
        path.write_bytes(b"old" * 20000)
        op = "write"
        fields.update(how=MUST)
    else:
        path.write_bytes(data)
        op = "rename"
        fields.update(path=path, to=room.tree / "g", again=1,
                      ino=os.stat(path).st_ino)
    command, how = room.composed(op, b"" if op in ("create", "commit",
                                                   "rename") else data,
                                 **fields)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        outputs = list(pool.map(room.run, [command] * 5))
    errors = [room.result(out, how)["error"] for out in outputs]
    assert errors == [0] * 5
    expected = {"create": b"", "append": b"before" + data,
                "ranges": b"x" * 1000 + data + b"x" * 19000}.get(op, data)
    if op == "rename":
        path = room.tree / "g"
    assert path.read_bytes() == expected
    no_leftovers(room)


def test_pieces_that_did_not_get_there(room):
    """Too short, or when nothing else will see it: with other bytes."""
    path, mine = room.tree / "f", token()
    staged = room.tree / (".gentilityfs-" + mine)
    for data in os.urandom(6000), TEXT[:60000]:
        for verify in 0, 1:
            assert room.change("piece", bytes(100000), path=path, token=mine,
                               offset=0)["error"] == 0
            command, how = room.composed("piece", data, path=path, offset=10,
                                         token=mine, verify=verify)
            # some of the base64 is missing
            cut = re.sub(rb"[A-Za-z0-9+/]{400}(=*')", rb"\1", command)
            assert cut != command
            assert room.result(room.run(cut), how)["error"] == errno.EIO
            result = room.result(room.run(command), how)
            assert result["error"] == 0 and "path" not in result
            assert staged.read_bytes()[10:len(data) + 10] == data
        # other bytes, as many
        command, how = room.composed("piece", data[:1000], path=path,
                                     offset=0, token=mine, verify=1)
        other = re.sub(rb"([A-Za-z0-9+/]{400}).{8}(=*')", rb"\1AAAAAAAA\2",
                       command)
        assert len(other) == len(command) and other != command
        assert room.result(room.run(other), how)["error"] == errno.EIO
    room.change("abort", path=path, token=mine)
    no_leftovers(room)


def test_staged_pieces_into_ranges(room):
    old, new = os.urandom(500000), os.urandom(130000)
    path = room.tree / "f"
    path.write_bytes(old)
    os.link(path, room.tree / "other")
    st = os.stat(path)
    mine = token()
    fields = {"path": path, "token": mine, "size": 400000,
              "data_len": len(new), "ranges": "10 30000,300000 100000",
              "sha256": hashlib.sha256(new).hexdigest(),
              "expect": f"{st.st_ino} {st.st_size} {st.st_mtime_ns}"}
    for offset in 60000, 0:
        assert room.change("spread", **fields)["error"] == errno.EAGAIN
        assert room.change("piece", new[offset:offset + 60000], path=path,
                           token=mine, offset=offset)["error"] == 0
    assert path.read_bytes() == old
    assert room.change("piece", new[120000:], path=path, token=mine,
                       offset=120000)["error"] == 0
    ok(room, "spread", **fields)
    assert path.read_bytes() == (old[:10] + new[:30000] + old[30010:300000] +
                                 new[30000:])
    assert path.stat().st_ino == st.st_ino
    # another version by now
    path.write_bytes(b"changed in the VM")
    mine = token()
    room.change("piece", b"x", path=path, token=mine, offset=0)
    fields.update(token=mine, data_len=1, ranges="0 1",
                  sha256=hashlib.sha256(b"x").hexdigest())
    assert room.change("spread", **fields)["error"] == errno.ESTALE
    assert path.read_bytes() == b"changed in the VM"
    room.change("abort", path=path, token=mine)
    no_leftovers(room)
