""".exec@ID: control files for many at once."""

import errno
import json
import os

import pytest

from mountlib import do, put, raises


def write(path, text):
    with open(path, "r+b", buffering=0) as f:
        f.write(text.encode())


def read(path):
    with open(path, "rb") as f:
        return f.read()


def run_here(m, name, text):
    do(write, m(name), text)
    return do(read, m(name))


def test_each_id_has_its_own_last_result(any_m):
    """E15: per directory, and none of them is the plain one's."""
    m = any_m
    os.mkdir(m.room.workspace + "/d")
    assert run_here(m, "workspace/.exec", "echo plain") == \
        b"plain\n--- exit 0, 0 files changed\n"
    for name in ("a", "b", "A.b_c-9", "x" * 64):
        got = run_here(m, "workspace/.exec@" + name, f"echo {name}; pwd")
        assert got.startswith(name.encode() + b"\n/workspace\n---"), got
    got = run_here(m, "workspace/d/.exec@a", "echo other; pwd")
    assert got.startswith(b"other\n/workspace/d\n---"), got
    assert do(read, m("workspace/.exec@a")).startswith(b"a\n")
    assert do(read, m("workspace/.exec@b")).startswith(b"b\n")
    assert do(read, m("workspace/d/.exec@b")) == b""
    assert do(read, m("workspace/.exec")).startswith(b"plain\n")
    size = do(os.stat, m("workspace/.exec@b")).st_size
    assert size == len(do(read, m("workspace/.exec@b")))


def test_an_id_has_json_too(m):
    """E15: the answer whole, with addresses that anybody can read."""
    do(write, m("workspace/.exec@a.json"), "echo x >f; echo y")
    answer = json.loads(do(read, m("workspace/.exec@a.json")))
    assert answer["result"]["output"].strip() == "y"
    assert answer["result"]["exit_code"] == 0
    assert do(read, m("workspace/.exec@a")).startswith(b"y\n--- exit 0")
    changed, = answer["result"]["files_changed"]
    assert changed["public_url"].startswith(m.room.url + "/vm/")
    assert changed["public_url"].endswith("/file/workspace/f")


def test_ids_are_never_listed(m):
    """E15: nor can they be made, renamed, linked or removed."""
    run_here(m, "workspace/.exec@a", "true")
    run_here(m, ".exec@a", "true")
    put(m.room.workspace, "f", "x")
    assert m.ls("workspace") == ["f"]
    assert ".exec@a" not in m.ls("")
    path = m("workspace/.exec@a")
    raises(errno.EPERM, os.unlink, path)
    raises(errno.EPERM, os.rename, path, m("workspace/g"))
    raises(errno.EPERM, os.rename, m("workspace/f"), path)
    raises(errno.EEXIST, os.mkdir, m("workspace/.exec@new"))
    assert do(os.stat, path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", [
    ".exec@", ".exec@" + "x" * 65, ".exec@a b", ".exec@a+", ".execa",
    ".exec@a/b", ".exec@é"])
def test_other_names_are_ordinary(m, name):
    """E15: what is no ID is a file that is not there."""
    raises((errno.ENOENT, errno.ENOTDIR), os.stat, m("workspace/" + name))


def test_the_control_file_s_own_name(room):
    """E15: control= names them, too; without one there is none."""
    from mountlib import Mount
    with Mount(room, "control=run") as m:
        assert run_here(m, "workspace/run@a", "echo x").startswith(b"x\n")
        raises(errno.ENOENT, os.stat, m("workspace/.exec@a"))
    with Mount(room, "no_control") as m:
        raises(errno.ENOENT, os.stat, m("workspace/.exec@a"))


def test_many_ids_are_bounded(m):
    """E15: the latest few hundred are kept."""
    def many(path, n):
        for i in range(n):
            write(f"{path}@{i}", f"echo {i}")

    do(many, m("workspace/.exec"), 260)
    assert do(read, m("workspace/.exec@0")) == b""
    assert do(read, m("workspace/.exec@259")).startswith(b"259\n")


def test_a_script_may_say_that_nothing_changed(m):
    """E16: then nothing is asked again, unless it did, or it fails."""
    put(m.room.workspace, "f", "x")
    quiet = "#gentilityfs: 0 is no change\n"
    counts = []
    for script in (quiet + "true", quiet + "echo y >f", quiet + "exit 3",
                   "true"):
        m.ls("workspace")
        m.read("workspace/f")
        m.forget()
        run_here(m, "workspace/.exec@q", script)
        do(os.stat, m("workspace/f"))
        counts.append(m.count()["total"])
    assert counts[0] == 1, counts
    assert all(n > 1 for n in counts[1:]), counts
