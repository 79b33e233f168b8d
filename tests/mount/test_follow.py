"""Open files whose names the room moves or takes: log rotation."""

import os
import subprocess
import time

import pytest

from helpers_write import W, host, save, text
from mountlib import (
    Call, DEADLINE, Mount, Program, clock, do, wait_until,
)


def append(path, data):
    with open(path, "ab") as f:
        f.write(data)


def follow(path, steps, done):
    """Open the file, and read what comes, until it ends with `done`; a byte to
    `steps` says that the first is read."""
    with open(path, "rb", buffering=0) as f:
        got = f.read()
        os.write(steps, b"x")
        end = clock() + DEADLINE
        while not got.endswith(done):
            got += f.read()
            if clock() > end:
                break
            time.sleep(0.05)
        return got, os.fstat(f.fileno()).st_ino


class Reader:
    """A descriptor on a file of the mount, read to its end."""

    def __init__(self, path, done=b"end\n"):
        near, far = os.pipe()
        self.call = Call(follow, path, far, done)
        os.close(far)
        assert os.read(near, 1) == b"x"
        os.close(near)

    def result(self):
        return self.call.result()


LINES = b"".join(b"line %d\n" % i for i in range(100))

# What the room does to app.log; the names of the old file then.
ROTATIONS = {
    "behind": ("mv app.log app.log.1; echo new >app.log", "app.log.1"),
    "ahead": ("mv app.log 0app.log; echo new >app.log", "0app.log"),
    "alone": ("mv app.log app.old", "app.old"),
    "chain": ("mv app.log.1 app.log.2; mv app.log app.log.1; echo new >app.log",
              "app.log.1"),
    "away": ("mkdir -p old; mv app.log old/app.log; echo new >app.log",
             "old/app.log"),
}


@pytest.mark.parametrize("how", ROTATIONS)
@pytest.mark.parametrize("size", ["small", "large"])
def test_an_open_log_is_followed_by_what_it_is(any_room, how, size):
    """A24: what is appended to it before and after it is renamed is read, and
    it is the file that is shown by the new name."""
    first = LINES if size == "small" else text(3 << 20)
    save(host(any_room, "app.log"), first)
    save(host(any_room, "app.log.1"), b"older\n")
    script, name = ROTATIONS[how]
    with Mount(any_room, "cache_timeout=0.2") as m:
        reader = Reader(m(W, "app.log"))
        append(host(any_room, "app.log"), b"before\n")
        subprocess.run(["sh", "-c", script], check=True, cwd=host(any_room, ""))
        append(host(any_room, name), b"after\n")
        if how == "away":
            wait_until(lambda: m.exists(W, name), DEADLINE, "the listing")
        append(host(any_room, name), b"end\n")
        got, ino = reader.result()
        assert got == first + b"before\nafter\nend\n"
        assert m.lstat(W, name).st_ino == ino
        if how not in ("alone",):
            assert m.read(W, "app.log") == b"new\n"
        assert m.read(W, name) == got


def test_a_name_opened_after_a_rotation_is_the_new_file(any_room):
    """A24: also while somebody has the old one open, whether the kernel has the
    name or not."""
    save(host(any_room, "app.log"), LINES)
    with Mount(any_room) as m:
        for i in range(3):
            reader = Reader(m(W, "app.log"))
            os.rename(host(any_room, "app.log"), host(any_room, f"app.{i}"))
            save(host(any_room, "app.log"), b"new %d\n" % i)
            append(host(any_room, f"app.{i}"), b"end\n")
            m.exec(W, "true")
            assert m.read(W, "app.log") == b"new %d\n" % i
            assert reader.result()[0].endswith(b"end\n")
    with Mount(any_room, "cache_timeout=0") as m:
        reader = Reader(m(W, "app.log"))
        os.rename(host(any_room, "app.log"), host(any_room, "old"))
        save(host(any_room, "app.log"), b"newest\n")
        assert m.read(W, "app.log") == b"newest\n"
        append(host(any_room, "old"), b"end\n")
        assert reader.result()[0] == b"new 2\nend\n"


def read_again(path, rename, name):
    """What is read before the room renames, and when the listing shows it."""
    with open(path, "rb", buffering=0) as f:
        first = f.read()
        rename()
        end = clock() + DEADLINE
        while name not in os.listdir(os.path.dirname(path)) and clock() < end:
            time.sleep(0.05)
        return first, f.read(), os.fstat(f.fileno()).st_size


def test_another_file_with_the_same_number_is_not_followed(room):
    """A24: an inode number is given again when the file is gone: it is the same
    only if its first bytes are."""
    save(host(room, "f"), b"old contents\n")

    def rename():
        """What a file system does when it gives the number again."""
        with open(host(room, "f"), "r+b") as f:
            f.write(b"something else, and longer\n")
        os.rename(host(room, "f"), host(room, "g"))
        save(host(room, "f"), b"third\n")

    with Mount(room, "cache_timeout=0.2") as m:
        assert do(read_again, m(W, "f"), rename, "g") == (
            b"old contents\n", b"", 13)
        assert m.read(W, "f") == b"third\n"
        assert m.read(W, "g") == b"something else, and longer\n"


def write_after(path, rename):
    """Write, have it renamed, and write on, with one descriptor."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"one\n")
    os.fsync(fd)
    rename()
    end = clock() + DEADLINE
    directory = os.path.dirname(path)
    while "f.1" not in os.listdir(directory) and clock() < end:
        time.sleep(0.05)
    os.write(fd, b"two\n")
    os.close(fd)


def test_what_is_written_goes_where_the_file_is(any_room):
    """A24: a program here that writes a log which the room rotates."""
    save(host(any_room, "f"), b"zero\n")

    def rename():
        os.rename(host(any_room, "f"), host(any_room, "f.1"))
        save(host(any_room, "f"), b"new\n")

    with Mount(any_room, "cache_timeout=0.2") as m:
        do(write_after, m(W, "f"), rename)
        with open(host(any_room, "f.1"), "rb") as f:
            assert f.read() == b"zero\none\ntwo\n"
        with open(host(any_room, "f"), "rb") as f:
            assert f.read() == b"new\n"
        assert m.read(W, "f") == b"new\n"


def test_a_file_of_several_names_goes_by_its_others(room):
    """A24: one more name, and then the first is removed."""
    save(host(room, "f"), LINES)
    with Mount(room, "cache_timeout=0.2") as m:
        reader = Reader(m(W, "f"))
        os.link(host(room, "f"), host(room, "g"))
        os.unlink(host(room, "f"))
        append(host(room, "g"), b"end\n")
        wait_until(lambda: m.ls(W) == ["g"], DEADLINE, "the listing")
        assert reader.result()[0] == LINES + b"end\n"


@pytest.mark.slow
def test_tail_follows_a_rotated_log(room):
    """A24: tail -F, with all defaults, misses no line of a log that is written
    all the time and rotated."""
    save(host(room, "app.log"), b"")
    script = """
i=0
for file in 1 2; do
	while [ $i -lt $((file * 40)) ]; do
		i=$((i + 1)); echo "line $i" >>app.log; sleep 0.2
	done
	mv app.log app.log.$file
	for j in 1 2 3; do
		i=$((i + 1)); echo "line $i" >>app.log.$file; sleep 0.2
	done
done
i=$((i + 1)); echo "line $i" >>app.log
"""
    with Mount(room) as m:
        tail = Program(["tail", "-n", "+1", "-F", m(W, "app.log")])

        def seen():
            tail.out.seek(0)
            return tail.out.read()

        try:
            writer = subprocess.Popen(["sh", "-c", script],
                                      cwd=host(room, ""))
            wait_until(lambda: writer.poll() is not None, DEADLINE, "the log")
            with open(host(room, "app.log")) as f:
                last = f.read().encode()
            wait_until(lambda: last in seen(), DEADLINE, "the last line")
            count = int(last.split()[1])
            assert seen() == b"".join(
                b"line %d\n" % i for i in range(1, count + 1))
        finally:
            tail.end()
