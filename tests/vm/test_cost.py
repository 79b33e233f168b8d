"""How many processes a command starts in the VM, beside its shell: they are
what it costs there.  Each number is "at most"."""
import hashlib
import os
import re
import secrets
import subprocess

import pytest

EXCLUSIVE, MUST = 2, 0
TEXT = b"".join(b"line %d of many\n" % i for i in range(4000))


def count(room, command):
    """In a namespace of their own processes are numbered one by one."""
    def last(text):
        out = subprocess.run(
            ["unshare", "--pid", "--fork", *room.argv(text + b"\n: & echo "
                                                      b"\"process $!\"\n")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=120,
            check=True).stdout
        return out, int(re.search(rb"^process (\d+)$", out, re.M)[1])
    out, n = last(command)
    return out, n - last(b":")[1]


def change(room, op, limit, data=b"", **fields):
    command, how = room.composed(op, data, **fields)
    out, n = count(room, command)
    result = room.result(out, how)
    assert result["error"] == 0, (op, result)
    # bash looks less far ahead for what it may exec at once.
    assert n <= limit + (room.name == "bash"), (op, n, limit)


def token():
    return secrets.token_hex(8)


@pytest.fixture
def file(room):
    path = room.tree / "file"
    path.write_bytes(b"old" * 1000)
    return path


def test_names_and_attributes(room, file):
    t = room.tree
    change(room, "mkdir", 2, path=t / "d", mode=0o755)
    change(room, "rmdir", 2, path=t / "d")
    change(room, "symlink", 2, path=t / "l", to=b"target")
    change(room, "link", 2, path=file, to=t / "other")
    change(room, "unlink", 2, path=t / "other")
    change(room, "chmod", 2, path=file, mode=0o640)
    change(room, "truncate", 2, path=file, size=5)
    change(room, "utimens", 2 if room.gnu else 3, path=file, atime=10**18,
           mtime=10**18)
    ino = os.stat(file).st_ino
    change(room, "rename", 3, path=file, to=t / "new", ino=ino)
    file.write_bytes(b"again")
    change(room, "rename", 3, path=t / "new", to=file, ino=ino)


def test_whole_files(room, file):
    t = room.tree
    # The directory of the evidence is made once.
    room.change("create", path=t / "first", how=EXCLUSIVE, mode=0o600,
                token=token())
    # find removes what was staged, busybox takes a process for it.
    rm = 0 if room.gnu else 1
    change(room, "create", 3 + rm, path=t / "empty", how=EXCLUSIVE, mode=0o644,
           token=token())
    change(room, "write", 4 + rm, TEXT[:4096], path=t / "new", how=EXCLUSIVE,
           mode=0o644, token=token())
    change(room, "write", 4 + rm, b"x\n", path=t / "short", how=EXCLUSIVE,
           mode=0o644, token=token())
    change(room, "write", 6 + rm, os.urandom(4096), path=t / "binary",
           how=EXCLUSIVE, mode=0o644, token=token())
    change(room, "write", 4 + rm, TEXT[:4096], path=file, how=MUST,
           space=4096, token=token())
    # It grows: is there space?
    change(room, "write", 6 + rm, TEXT[:6000], path=file, how=MUST,
           space=4096, token=token())
    # a program, packed, and evidence to be forgotten
    mine = token()
    change(room, "write", 8 + rm, TEXT[:40000], path=t / "program",
           how=EXCLUSIVE, mode=0o755, token=mine)
    change(room, "write", 4 + rm, TEXT[:4096], path=file, how=MUST,
           space=8192, token=token(), forget=mine)
    assert (t / "program").stat().st_mode == 0o100755
    assert file.read_bytes() == TEXT[:4096]


def test_parts_of_files(room, file):
    data = os.urandom(60000)
    mine = token()
    change(room, "piece", 4, data[:50000], path=file, token=mine, offset=0)
    change(room, "piece", 4, data[50000:], path=file, token=mine,
           offset=50000)
    change(room, "commit", 8, path=file, token=mine, how=MUST,
           size=len(data), sha256=hashlib.sha256(data).hexdigest())
    st = os.stat(file)
    change(room, "ranges", 13, b"x" * 100, path=file, token=token(),
           size=60000, ranges="500 100",
           expect=f"{st.st_ino} {st.st_size} {st.st_mtime_ns}")
    change(room, "append", 9, b"end", path=file, size=60000, token=token())
    assert file.read_bytes() == data[:500] + b"x" * 100 + data[600:] + b"end"


def test_listing_and_reading(room, file):
    for i in range(30):
        (room.tree / f"{i % 3}/{i % 5}/{i}").mkdir(parents=True)
    path = room.inside(room.tree)

    def at_most(limit, *args):
        limit += room.name == "bash"
        assert count(room, room.tool(*args))[1] <= limit, args
    for args, gnu, busybox in (
            (("list", "0", path), 5, 8), (("list", "1000", path), 8, 16),
            (("list", "10", path), 11, 21), (("also", path), 5, 9),
            (("stat", path), 4, 4), (("statfs", path), 4, 4)):
        at_most(gnu if room.gnu else busybox, "compose", room.tools, token(),
                *args)
    at_most(6, "read", room.tools, token(), room.inside(file), "0", "1000")
