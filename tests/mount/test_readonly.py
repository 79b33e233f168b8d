"""A read-only mount: every changing call gives EROFS."""

import errno
import os

import pytest

from mountlib import Mount, do, put, raises, tree


@pytest.fixture
def ro(any_room):
    put(any_room.workspace, "file", "contents\n")
    put(any_room.workspace, "d/inner", "x")
    os.mkdir(any_room.workspace + "/empty")
    with Mount(any_room, "ro") as m:
        yield m


CALLS = {
    "open for writing": lambda p: os.open(p + "/file", os.O_WRONLY),
    "open for both": lambda p: os.open(p + "/file", os.O_RDWR),
    "open with truncation": lambda p: os.open(p + "/file",
                                              os.O_WRONLY | os.O_TRUNC),
    "append": lambda p: os.open(p + "/file", os.O_WRONLY | os.O_APPEND),
    "create": lambda p: os.open(p + "/new", os.O_WRONLY | os.O_CREAT),
    "create exclusively": lambda p: os.open(
        p + "/new", os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "truncate": lambda p: os.truncate(p + "/file", 0),
    "unlink": lambda p: os.unlink(p + "/file"),
    "rename": lambda p: os.rename(p + "/file", p + "/other"),
    "rename over": lambda p: os.rename(p + "/file", p + "/d/inner"),
    "rename a directory": lambda p: os.rename(p + "/d", p + "/e"),
    "mkdir": lambda p: os.mkdir(p + "/new"),
    "rmdir": lambda p: os.rmdir(p + "/empty"),
    "symlink": lambda p: os.symlink("file", p + "/new"),
    "link": lambda p: os.link(p + "/file", p + "/new"),
    "mkfifo": lambda p: os.mkfifo(p + "/new"),
    "mknod": lambda p: os.mknod(p + "/new"),
    "chmod": lambda p: os.chmod(p + "/file", 0o600),
    "chown": lambda p: os.chown(p + "/file", 1, 1),
    "utime": lambda p: os.utime(p + "/file", (1, 1)),
    "utime now": lambda p: os.utime(p + "/file"),
    "temporary file": lambda p: os.open(p, os.O_TMPFILE | os.O_RDWR),
}


def test_every_changing_call_is_refused(ro):
    """W1: EROFS, no request, and nothing is changed."""
    before = tree(ro.room.workspace)
    ro.sh("ls -lR workspace >/dev/null")
    ro.forget()
    for name, call in CALLS.items():
        expected = errno.EROFS
        if name == "temporary file":
            expected = (errno.EROFS, errno.EOPNOTSUPP)
        try:
            raises(expected, call, ro("workspace"))
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from None
    assert ro.count()["total"] == 0
    after = tree(ro.room.workspace)
    assert {n: (s.st_mtime_ns, s.st_size, s.st_mode)
            for n, (s, _) in after.items()} == \
        {n: (s.st_mtime_ns, s.st_size, s.st_mode)
         for n, (s, _) in before.items()}


def test_reading_goes_on(ro):
    """W1: it is a mount like any other for reading."""
    assert ro.read("workspace/file") == b"contents\n"
    assert ro.ls("workspace") == ["d", "empty", "file"]


def test_access_says_so(ro):
    """W1: access(W_OK) is refused, R_OK is not."""
    assert do(os.access, ro("workspace/file"), os.R_OK)
    assert not do(os.access, ro("workspace/file"), os.W_OK)
    assert not do(os.access, ro("workspace"), os.W_OK)
