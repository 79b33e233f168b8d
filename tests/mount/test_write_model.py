"""Random operations against models: one file (fsx), and a tree.

GENTILITYFS_FSX_OPS, GENTILITYFS_TREE_OPS and GENTILITYFS_SEED make long runs.
"""

import errno
import os
import random

import pytest

import fsx
from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    W, any_room, both_m, both_rooms, differences, host, image, no_leftovers,
    save,
)
from mountlib import Call, Mount, do, read_file

OPS = int(os.environ.get("GENTILITYFS_FSX_OPS") or 0)
TREE_OPS = int(os.environ.get("GENTILITYFS_TREE_OPS") or 0)
SEED = int(os.environ.get("GENTILITYFS_SEED") or 1)


def run_fsx(m, seed, count, timeout):
    names = [m(W, "fsx"), m(W, "fsx.other")]
    copies = [host(m.room, "fsx"), host(m.room, "fsx.other")]

    def run():
        try:
            fsx.exercise(names, copies, seed, count)
        except fsx.Difference as e:
            return str(e)
        return None

    wrong = do(run, timeout=timeout)
    assert wrong is None, f"seed {seed}: {wrong}"
    assert not no_leftovers(m.room)


def test_fsx(both_m):
    run_fsx(both_m, SEED, OPS or 800, 3600 if OPS else 140)


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.slow
def test_fsx_longer(any_m, seed):
    run_fsx(any_m, SEED + seed, OPS or 1000, 3600 if OPS else 140)


def test_fsx_strict(room):
    with Mount(room, "cache_timeout=0") as m:
        run_fsx(m, SEED + 20, OPS or 400, 3600 if OPS else 120)


def test_fsx_with_a_tiny_cache(room):
    with Mount(room, "cache_size=1M") as m:
        run_fsx(m, SEED + 30, OPS or 400, 3600 if OPS else 120)


def test_fsx_on_a_flaky_service(room):
    """One answer in ten is bad; everything comes right by itself."""
    with Mount(room, "timeout=20") as m:
        room.control(faults=[
            {"match": {"percent": 4, "seed": 1}, "fault": {"status": 503,
                                                          "retry_after": 0}},
            {"match": {"percent": 3, "seed": 2}, "fault": {"lost": True}},
            {"match": {"percent": 3, "seed": 3}, "fault": {"json": "cut"}}])
        run_fsx(m, SEED + 40, OPS or 200, 3600 if OPS else 140)
        room.no_faults()


def test_fsx_can_fail(tmp_path):
    """The exerciser notices one wrong byte in the copy."""
    path, copy = str(tmp_path / "f"), str(tmp_path / "copy")

    class Wrong(fsx.Fsx):
        def close(self):
            data = bytearray(read_file(self.names[0]))
            if data:
                data[len(data) // 2] ^= 1
            save(copy, bytes(data))
            super().close()

    with pytest.raises(fsx.Difference):
        Wrong([path], [copy], 1).run(200)


# -- a tree ---------------------------------------------------------------------

NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"sp ace", b"q'uote",
         b"new\nline", b"-dash", b"\xff\xfe", b"*", b"$x", "ü".encode(),
         b".hidden", b"%41", b"back\\slash", b"tab\t", b"h", b"i", b"j",
         b"k", b"l"]


def operations(seed, count):
    """The same list for both trees."""
    r = random.Random(seed)

    def path():
        return b"/".join(r.choice(NAMES)
                         for _ in range(r.choice([1, 1, 2, 2, 3])))

    for i in range(count):
        kind = r.choices(
            ["mkdir", "create", "write", "append", "truncate", "rename",
             "exchange", "unlink", "rmdir", "link", "symlink", "chmod",
             "utime", "read", "list", "patch"],
            [14, 14, 10, 6, 3, 14, 0, 9, 5, 6, 5, 5, 3, 6, 4, 5])[0]
        yield i, kind, path(), path(), r.choice([0, 1, 50, 5000, 90_000]), \
            r.choice([0o600, 0o644, 0o755, 0o700, 0o640]), r.random()


def apply(top, i, kind, a, b, size, mode, x):
    """One operation below top; what it gave: a value or -errno."""
    pa, pb = os.path.join(top, a), os.path.join(top, b)
    data = random.Random(i).randbytes(size)
    try:
        if kind == "mkdir":
            os.mkdir(pa, 0o755)
        elif kind == "create":
            save(pa, data, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        elif kind == "write":
            save(pa, data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        elif kind == "append":
            save(pa, data, os.O_WRONLY | os.O_APPEND)
        elif kind == "patch":
            fd = os.open(pa, os.O_RDWR)
            try:
                os.pwrite(fd, data[:100], int(x * 3000))
            finally:
                os.close(fd)
        elif kind == "truncate":
            os.truncate(pa, size)
        elif kind == "rename":
            os.rename(pa, pb)
        elif kind == "unlink":
            os.unlink(pa)
        elif kind == "rmdir":
            os.rmdir(pa)
        elif kind == "link":
            os.link(pa, pb, follow_symlinks=False)
        elif kind == "symlink":
            os.symlink(a.rsplit(b"/", 1)[-1], pb)
        elif kind == "chmod":
            os.chmod(pa, mode)
        elif kind == "utime":
            os.utime(pa, (10, 10 + i))
        elif kind == "read":
            return read_file(pa)
        elif kind == "list":
            return sorted(os.listdir(pa))
    except OSError as e:
        # Linux file systems themselves differ in these
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST) and kind in (
                "rename", "rmdir"):
            return -errno.ENOTEMPTY
        return -e.errno
    return None


def both_trees(mounted, model, seed, count):
    """Apply all to both; the first difference of what they gave."""
    os.umask(0o022)
    history = []
    for op in operations(seed, count):
        got, want = apply(mounted, *op), apply(model, *op)
        i, kind, a, b, size, mode, x = op
        history.append((i, kind, a, b, size, want
                        if isinstance(want, int) else "ok"))
        if got != want:
            return repr((got if got is None or isinstance(got, int)
                         else got[:200], history[-12:]))
    return None


def run_tree(m, seed, count, timeout):
    model = os.path.join(os.fsencode(m.top), b"model")
    os.mkdir(model)
    wrong = do(both_trees, os.fsencode(m(W)), model, seed, count,
               timeout=timeout)
    assert wrong is None, f"seed {seed}: {wrong}"
    want = image(model, times=False)
    for side in (image(host(m.room), times=False),
                 do(image, m(W), times=False, timeout=60)):
        rows = [row for row in differences(side, want) if row[0] != b""]
        assert not rows, f"seed {seed}: {rows[:10]}"


@pytest.mark.root_room  # the model knows no rights
def test_tree(both_m):
    run_tree(both_m, SEED, TREE_OPS or 400, 3600 if TREE_OPS else 120)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.slow
@pytest.mark.root_room
def test_tree_longer(any_m, seed):
    run_tree(any_m, SEED + seed, TREE_OPS or 1200, 3600 if TREE_OPS else 140)


@pytest.mark.root_room
def test_tree_strict(room):
    with Mount(room, "cache_timeout=0") as m:
        run_tree(m, SEED + 10, TREE_OPS or 100, 3600 if TREE_OPS else 120)


@pytest.mark.root_room
def test_tree_on_a_flaky_service(room):
    with Mount(room, "timeout=20") as m:
        room.control(faults=[
            {"match": {"percent": 4, "seed": 1}, "fault": {"status": 503,
                                                          "retry_after": 0}},
            {"match": {"percent": 3, "seed": 2}, "fault": {"lost": True}},
            {"match": {"percent": 3, "seed": 3}, "fault": {"json": "cut"}}])
        try:
            run_tree(m, SEED + 20, TREE_OPS or 400, 3600 if TREE_OPS else 140)
        finally:
            room.no_faults()


def test_two_trees_by_two_processes_at_once(room):
    """Each in a directory of its own, on one mount."""
    with Mount(room) as m:
        calls = []
        for n in (1, 2):
            top = os.path.join(os.fsencode(m(W)), b"p%d" % n)
            model = os.path.join(os.fsencode(m.top), b"model%d" % n)
            do(os.mkdir, top)
            os.mkdir(model)
            calls.append(Call(both_trees, top, model, SEED + 50 + n, 150))
        for call in calls:
            wrong = call.result(120)
            assert wrong is None, wrong
        for n in (1, 2):
            want = image(m.top + f"/model{n}", times=False)
            rows = [row for row in differences(
                image(host(room, f"p{n}"), times=False), want)
                if row[0] != b""]
            assert not rows, rows[:10]
