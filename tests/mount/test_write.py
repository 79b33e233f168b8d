"""Changing what is in files, compared with the room's own tree."""

import errno
import fcntl
import mmap
import os
import stat

import pytest

from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    CREAT, W, any_room, at, both_m, both_rooms, fallocate, host, no_leftovers,
    noise, outcome, quick_if, room_bytes, save, stamp, text, write_all,
)
from mountlib import (
    MIB, Mount, do, put, wait_until,
)

SIZES = {
    "0": 0, "1": 1, "4095": 4095, "4096": 4096, "4097": 4097, "70k": 70_000,
    "100k": 100_000, "1MiB-1": MIB - 1, "1MiB": MIB, "1MiB+1": MIB + 1,
}


# -- whole files ---------------------------------------------------------------


@pytest.mark.parametrize("size", quick_if(
    SIZES.values(), 0, 4096, 100_000, MIB + 1))
def test_a_new_file_of_any_size_is_exact(both_m, size):
    room = both_m.room
    for name, data in (("r", noise(size)), ("t", text(size))):
        do(save, both_m(W, name), data)
        assert room_bytes(room, name) == data
        assert both_m.read(W, name) == data
        st = both_m.lstat(W, name)
        assert st.st_size == size
        assert st.st_mtime_ns == os.lstat(host(room, name)).st_mtime_ns
    assert not no_leftovers(room)


@pytest.mark.parametrize("size", quick_if(
    SIZES.values(), 0, 4097, 70_000, MIB))
def test_saving_over_a_file_of_any_size_is_exact(both_m, size):
    """Shorter and longer ones before it; inode, mode and links stay."""
    room = both_m.room
    sizes = (0, 5000, 2 * MIB)
    for i, before in enumerate(sizes):
        put(room.workspace, f"f{i}", noise(before, seed=7), 0o640)
        os.link(host(room, f"f{i}"), host(room, f"f{i}.link"))
    for i in range(len(sizes)):
        name = f"f{i}"
        kept = stamp(host(room, name))
        data = noise(size, seed=i)
        do(save, both_m(W, name), data, flags=os.O_WRONLY | os.O_TRUNC)
        assert room_bytes(room, name) == data
        assert room_bytes(room, name + ".link") == data
        assert stamp(host(room, name)) == kept
        assert both_m.read(W, name + ".link") == data
    assert not no_leftovers(room)


@pytest.mark.parametrize("make", quick_if([noise, text], text))
def test_8_mib(any_m, make):
    data = make(8 * MIB)
    do(save, any_m(W, "big"), data, timeout=60)
    assert room_bytes(any_m.room, "big") == data
    assert any_m.read(W, "big", timeout=60) == data
    again = make(8 * MIB, seed=2)
    kept = stamp(host(any_m.room, "big"))
    do(save, any_m(W, "big"), again, timeout=60)
    assert room_bytes(any_m.room, "big") == again
    assert stamp(host(any_m.room, "big")) == kept
    assert not no_leftovers(any_m.room)


CONTENTS = {
    "nul": b"\0", "newlines": b"\n\n\n", "no-final-newline": b"a\nb",
    "blanks-at-end": b"a  \t \n \n", "all-bytes": bytes(range(256)) * 20,
    "utf-8-cut": b"\xf0\x9f\x92", "quotes": b"'\"'\"$(id)`id`\\\\\n%s%n\n",
    "heredoc": b"EOF\nE\n'EOF'\n", "crlf": b"a\r\nb\r\n",
    "base64": b"AAAA====\n", "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    "mark": b"<gfs-begin 0>\n<gfs-end 0>\n", "zeros": bytes(9000),
    "dashes": b"-n -e --\n",
}


def test_any_bytes_are_written_exactly(both_m):
    for name, data in CONTENTS.items():
        do(save, both_m(W, name), data)
    got = {n: room_bytes(both_m.room, n) for n in CONTENTS}
    assert got == CONTENTS


def test_the_mode_of_a_new_file_obeys_the_umask(both_m):
    def make(path, mode, mask):
        os.umask(mask)
        save(path, b"x", mode=mode)
        return stat.S_IMODE(os.fstat(os.open(path, os.O_RDONLY)).st_mode)

    for mode, mask, want in ((0o666, 0o022, 0o644), (0o666, 0o077, 0o600),
                             (0o777, 0o002, 0o775), (0o400, 0, 0o400),
                             (0o666, 0, 0o666)):
        name = f"{mode:o}-{mask:o}"
        assert do(make, both_m(W, name), mode, mask) == want
        st = os.lstat(host(both_m.room, name))
        assert stat.S_IMODE(st.st_mode) == want, name
        assert st.st_size == 1


def test_a_file_created_unwritable_can_still_be_written_by_its_creator(any_m):
    """open(O_CREAT|O_WRONLY, 0444): git's objects."""
    do(save, any_m(W, "obj"), noise(3000), mode=0o444)
    assert room_bytes(any_m.room, "obj") == noise(3000)
    assert stat.S_IMODE(os.lstat(host(any_m.room, "obj")).st_mode) == 0o444


def test_creating_without_writing_makes_an_empty_file(any_m):
    do(save, any_m(W, "empty"), b"")
    assert room_bytes(any_m.room, "empty") == b""


def test_o_trunc_without_writing_empties(both_m):
    sizes = (10, 5000, 3 * MIB)
    for size in sizes:
        put(both_m.room.workspace, f"f{size}", noise(size), 0o600)
    for size in sizes:
        name = f"f{size}"
        kept = stamp(host(both_m.room, name))
        do(save, both_m(W, name), b"", flags=os.O_WRONLY | os.O_TRUNC)
        assert room_bytes(both_m.room, name) == b""
        assert stamp(host(both_m.room, name)) == kept


def test_a_save_is_seen_by_a_reader_that_has_it_open(any_m):
    put(any_m.room.workspace, "f", b"old contents")

    def both(path):
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 5)
        save(path, b"NEW, longer contents")
        return os.pread(fd, 100, 0), os.fstat(fd).st_size

    assert do(both, any_m(W, "f")) == (b"NEW, longer contents", 20)


def test_own_writes_are_visible_before_close(any_m):
    put(any_m.room.workspace, "f", b"0123456789")

    def both(path):
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, b"AB", 3)
        os.pwrite(fd, b"END", 10)
        other = os.open(path, os.O_RDONLY)
        got = (os.pread(fd, 50, 0), os.pread(other, 50, 0),
               os.fstat(fd).st_size, os.stat(path).st_size)
        os.close(other)
        os.close(fd)
        return got

    want = b"012AB56789END"
    assert do(both, any_m(W, "f")) == (want, want, 13, 13)
    assert room_bytes(any_m.room, "f") == want


# -- parts of files ------------------------------------------------------------


@pytest.mark.parametrize("size", [5000, 300_000, 3 * MIB])
def test_overwriting_in_the_middle(both_m, size):
    data = bytearray(noise(size))
    put(both_m.room.workspace, "f", bytes(data), 0o604)
    kept = stamp(host(both_m.room, "f"))
    changes = [(0, b"first"), (size // 2, noise(1000, 5)), (size - 3, b"end"),
               (1234, b"\0"), (size // 2 + 500, b"over")]
    for offset, part in changes:
        data[offset:offset + len(part)] = part
    do(at, both_m(W, "f"), *changes)
    assert room_bytes(both_m.room, "f") == data
    assert both_m.read(W, "f") == data
    assert stamp(host(both_m.room, "f")) == kept
    assert not no_leftovers(both_m.room)


def test_overwriting_write_only_and_without_reading(any_m):
    """O_WRONLY, no O_TRUNC: the rest of the file stays."""
    put(any_m.room.workspace, "f", b"abcdefghij" * 100)
    do(at, any_m(W, "f"), (10, b"0123"), flags=os.O_WRONLY)
    assert room_bytes(any_m.room, "f") == (
        b"abcdefghij0123efghij" + b"abcdefghij" * 98)


def test_writing_past_the_end_leaves_zeros(any_m):
    put(any_m.room.workspace, "f", b"abc")
    do(at, any_m(W, "f"), (10_000, b"x"))
    want = b"abc" + bytes(9997) + b"x"
    assert room_bytes(any_m.room, "f") == want
    assert any_m.read(W, "f") == want
    do(at, any_m(W, "new"), (70_000, b"y"), flags=os.O_RDWR | os.O_CREAT)
    assert room_bytes(any_m.room, "new") == bytes(70_000) + b"y"


@pytest.mark.parametrize("size", quick_if(
    [0, 1000, 200_000, 2 * MIB], 1000, 2 * MIB))
def test_appending(both_m, size):
    data = noise(size)
    put(both_m.room.workspace, "f", data)

    def append(path):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"one\n")
        os.write(fd, b"two\n")
        os.close(fd)

    do(append, both_m(W, "f"))
    assert room_bytes(both_m.room, "f") == data + b"one\ntwo\n"
    both_m.sh('echo three >> workspace/f')
    want = data + b"one\ntwo\nthree\n"
    assert room_bytes(both_m.room, "f") == want
    assert both_m.read(W, "f") == want


@pytest.mark.parametrize("when", ["before-open", "before-write",
                                  "before-close"])
@pytest.mark.parametrize("size", quick_if([100, 100_000, 2 * MIB], 100))
def test_appending_to_what_the_vm_appended_to(both_m, size, when):
    """O_APPEND means the end that the file has in the VM."""
    room = both_m.room
    data = noise(size)
    put(room.workspace, "log", data)
    assert both_m.read(W, "log") == data

    def vm_appends(here):
        if here == when:
            # not through the mount, so that it has not been told
            room.run("echo from the VM >> /workspace/log")

    def append(path):
        vm_appends("before-open")
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        vm_appends("before-write")
        os.write(fd, b"from here\n")
        vm_appends("before-close")
        os.close(fd)

    do(append, both_m(W, "log"))
    assert room_bytes(room, "log") == data + b"from the VM\nfrom here\n"
    wait_until(lambda: both_m.read(W, "log") == data
               + b"from the VM\nfrom here\n", 15, "the appended log")


def test_appending_with_two_descriptors_takes_turns(both_m):
    def run(path):
        a = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        b = os.open(path, os.O_WRONLY | os.O_APPEND)
        for i in range(5):
            os.write(a, b"a%d\n" % i)
            os.write(b, b"b%d\n" % i)
        os.close(a)
        os.close(b)

    do(run, both_m(W, "log"))
    assert room_bytes(both_m.room, "log") == b"".join(
        b"a%d\nb%d\n" % (i, i) for i in range(5))


def test_appending_from_two_mounts_loses_nothing(both_rooms):
    with Mount(both_rooms) as a, Mount(both_rooms) as b:
        put(both_rooms.workspace, "log", b"")
        for i in range(5):
            do(save, a(W, "log"), b"a%d\n" % i, os.O_WRONLY | os.O_APPEND)
            do(save, b(W, "log"), b"b%d\n" % i, os.O_WRONLY | os.O_APPEND)
        assert room_bytes(both_rooms, "log") == b"".join(
            b"a%d\nb%d\n" % (i, i) for i in range(5))


# -- length --------------------------------------------------------------------


@pytest.mark.parametrize("before,after", quick_if([
    (1000, 0), (1000, 999), (1000, 1001), (0, 5000), (5000, 4096),
    (100_000, 50_001), (3 * MIB, 2 * MIB + 1), (2 * MIB, 5 * MIB + 3),
], (1000, 0), (5000, 4096), (3 * MIB, 2 * MIB + 1)))
@pytest.mark.parametrize("how", ["truncate", "ftruncate"])
def test_truncate_down_and_up(both_m, before, after, how):
    data = noise(before)
    put(both_m.room.workspace, "f", data, 0o600)
    kept = stamp(host(both_m.room, "f"))

    def cut(path):
        if how == "truncate":
            os.truncate(path, after)
            return
        fd = os.open(path, os.O_RDWR)
        os.ftruncate(fd, after)
        assert os.fstat(fd).st_size == after
        os.close(fd)

    do(cut, both_m(W, "f"))
    want = data[:after] + bytes(max(0, after - before))
    assert room_bytes(both_m.room, "f") == want
    assert both_m.read(W, "f") == want
    assert stamp(host(both_m.room, "f")) == kept


def test_truncate_down_then_up_leaves_zeros(both_m):
    sizes = (9000, 3 * MIB)
    for size in sizes:
        put(both_m.room.workspace, f"f{size}", noise(size))
    for size in sizes:
        data = noise(size)

        def cut(path):
            fd = os.open(path, os.O_RDWR)
            os.pread(fd, 100, 0)
            os.ftruncate(fd, 1000)
            os.ftruncate(fd, size)
            os.pwrite(fd, b"mid", 5000)
            os.close(fd)

        do(cut, both_m(W, f"f{size}"))
        want = bytearray(data[:1000] + bytes(size - 1000))
        want[5000:5003] = b"mid"
        assert room_bytes(both_m.room, f"f{size}") == want
        assert both_m.read(W, f"f{size}") == want


@pytest.mark.slow
def test_a_sparse_gigabyte(any_m):
    """A few bytes at far ends cost their own transfer only."""
    room = any_m.room
    any_m.ls(W)
    any_m.forget()
    do(at, any_m(W, "sparse"), (0, b"begin"), (500 * MIB, b"middle"),
       (1024 * MIB - 3, b"end"), flags=os.O_RDWR | os.O_CREAT, timeout=60)
    sent = sum(e["bytes_in"] for e in room.log())
    st = os.lstat(host(room, "sparse"))
    assert st.st_size == 1 << 30
    assert st.st_blocks * 512 < 64 * MIB, "it was filled with zeros"
    assert sent < MIB, sent
    with open(host(room, "sparse"), "rb") as f:
        for offset, want in ((0, b"begin\0\0"), (500 * MIB - 1, b"\0middle\0"),
                             ((1 << 30) - 4, b"\0end")):
            f.seek(offset)
            assert f.read(len(want)) == want

    def look(path):
        fd = os.open(path, os.O_RDONLY)
        return (os.pread(fd, 7, 0), os.pread(fd, 8, 500 * MIB - 1),
                os.pread(fd, 4, (1 << 30) - 4), os.pread(fd, 4, 200 * MIB))

    assert do(look, any_m(W, "sparse"), timeout=60) == (
        b"begin\0\0", b"\0middle\0", b"\0end", bytes(4))


def test_a_few_bytes_changed_in_a_sparse_gigabyte(any_m):
    room = any_m.room
    path = host(room, "sparse")
    with open(path, "wb") as f:
        f.truncate(1 << 30)
        f.seek(700 * MIB)
        f.write(b"there before")
    any_m.ls(W)
    any_m.forget()
    do(at, any_m(W, "sparse"), (300 * MIB + 1, b"few bytes"), timeout=60)
    any_m.settle()
    moved = sum(e["bytes_in"] + e["bytes_out"] for e in room.log())
    assert moved < 8 * MIB, moved
    assert os.lstat(path).st_blocks * 512 < 64 * MIB
    with open(path, "rb") as f:
        f.seek(300 * MIB)
        assert f.read(12) == b"\0few bytes\0\0"
        f.seek(700 * MIB)
        assert f.read(12) == b"there before"


def test_lseek_finds_data_or_refuses_cleanly(any_m):
    path = host(any_m.room, "sparse")
    with open(path, "wb") as f:
        f.write(b"x" * 4096)
        f.truncate(10 * MIB)
        f.seek(8 * MIB)
        f.write(b"y" * 4096)

    def seek(path):
        fd = os.open(path, os.O_RDONLY)
        got = []
        for whence, start in ((os.SEEK_DATA, 0), (os.SEEK_DATA, 8 * MIB),
                              (os.SEEK_HOLE, 0), (os.SEEK_HOLE, 8 * MIB)):
            try:
                got.append(os.lseek(fd, start, whence))
            except OSError as e:
                got.append(-e.errno)
        try:
            got.append(os.lseek(fd, 11 * MIB, os.SEEK_DATA))
        except OSError as e:
            got.append(-e.errno)
        return got

    data0, data8, hole0, hole8, beyond = do(seek, any_m(W, "sparse"))
    # Whatever it knows of holes, data must never be called a hole.
    assert data0 in (0, -errno.EOPNOTSUPP, -errno.EINVAL), data0
    assert data8 in (8 * MIB, -errno.EOPNOTSUPP, -errno.EINVAL), data8
    assert hole0 < 0 or hole0 >= 4096, hole0
    assert hole0 < 0 or hole0 <= 10 * MIB
    assert hole8 < 0 or 8 * MIB + 4096 <= hole8 <= 10 * MIB, hole8
    assert beyond in (-errno.ENXIO, -errno.EOPNOTSUPP, -errno.EINVAL)


def test_fallocate(any_m):
    room = any_m.room
    put(room.workspace, "f", b"abc")

    def grow(path):
        fd = os.open(path, os.O_RDWR)
        got = outcome(os.posix_fallocate, fd, 0, 10_000)
        os.pwrite(fd, b"x", 9_999)
        os.close(fd)
        return got

    assert do(grow, any_m(W, "f")) is None
    assert room_bytes(room, "f") == b"abc" + bytes(9_996) + b"x"

    KEEP, PUNCH, ZERO = 1, 2, 16

    def others(path):
        fd = os.open(path, os.O_RDWR)
        got = []
        for mode, offset, length in ((KEEP, 0, 50_000),
                                     (KEEP | PUNCH, 1, 2), (ZERO, 9_990, 5)):
            got.append(outcome(fallocate, fd, mode, offset, length))
        got.append(os.pread(fd, 20_000, 0))
        os.close(fd)
        return got

    keep, punch, zero, seen = do(others, any_m(W, "f"))
    refused = (errno.EOPNOTSUPP, errno.ENOSYS)
    want = bytearray(b"abc" + bytes(9_996) + b"x")
    assert keep is None or keep in refused
    assert punch is None or punch in refused
    assert zero is None or zero in refused
    if punch is None:
        want[1:3] = bytes(2)
    assert seen == want
    assert room_bytes(room, "f") == want


def test_posix_fallocate_on_a_new_file(any_m):
    def make(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 4096, 4096)
        size = os.fstat(fd).st_size
        os.close(fd)
        return size

    assert do(make, any_m(W, "f")) == 8192
    assert room_bytes(any_m.room, "f") == bytes(8192)


def test_copy_file_range_stays_in_the_vm(any_m):
    room = any_m.room
    data = noise(4 * MIB)
    put(room.workspace, "from", data)
    put(room.workspace, "to", b"")
    any_m.ls(W)
    any_m.forget()

    def copy(source, target):
        a = os.open(source, os.O_RDONLY)
        b = os.open(target, os.O_WRONLY)
        done = 0
        while done < len(data):
            n = os.copy_file_range(a, b, len(data) - done, done, done)
            assert n > 0
            done += n
        os.close(a)
        os.close(b)

    do(copy, any_m(W, "from"), any_m(W, "to"))
    assert room_bytes(room, "to") == data
    any_m.settle()
    moved = sum(e["bytes_in"] + e["bytes_out"] for e in room.log())
    assert moved < MIB, f"{moved} bytes were transferred"
    assert any_m.count()["command"] == 1
    assert any_m.read(W, "to") == data


def test_copy_file_range_with_offsets(any_m):
    room = any_m.room
    put(room.workspace, "from", noise(100_000))
    put(room.workspace, "to", bytes(50_000))

    def copy(source, target):
        a = os.open(source, os.O_RDONLY)
        b = os.open(target, os.O_RDWR)
        os.pwrite(b, b"dirty", 5)  # what is not sent yet counts, too
        got = os.copy_file_range(a, b, 20_000, 30_001, 10_003)
        seen = os.pread(b, 100_000, 0)
        os.close(a)
        os.close(b)
        return got, seen

    n, seen = do(copy, any_m(W, "from"), any_m(W, "to"))
    assert 0 < n <= 20_000
    want = bytearray(50_000)
    want[5:10] = b"dirty"
    want[10_003:10_003 + n] = noise(100_000)[30_001:30_001 + n]
    assert seen == want
    assert room_bytes(room, "to") == want


def test_copy_file_range_of_data_not_yet_sent(any_m):
    """The source's unsent bytes are copied, not what the VM still has."""
    room = any_m.room
    put(room.workspace, "from", b"old" * 1000)

    def copy(source, target):
        a = os.open(source, os.O_RDWR)
        os.pwrite(a, b"new", 0)
        b = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
        n = os.copy_file_range(a, b, 3000, 0, 0)
        os.close(b)
        os.close(a)
        return n

    assert do(copy, any_m(W, "from"), any_m(W, "to")) == 3000
    assert room_bytes(room, "to") == b"new" + b"old" * 999


# -- mmap ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [5000, 100_000, 2 * MIB])
def test_writing_through_a_shared_mapping(any_m, size):
    room = any_m.room
    data = bytearray(noise(size))
    put(room.workspace, "f", bytes(data))

    def change(path):
        fd = os.open(path, os.O_RDWR)
        with mmap.mmap(fd, size) as area:
            area[10:15] = b"first"
            area[size - 4:] = b"last"
            area[4090:4100] = b"over pages"
            area.flush()
            os.fsync(fd)
            after_sync = room_bytes(room, "f")
            area[100:103] = b"abc"
        os.close(fd)
        return after_sync

    synced = do(change, any_m(W, "f"))
    data[10:15] = b"first"
    data[size - 4:] = b"last"
    data[4090:4100] = b"over pages"
    assert synced == data
    data[100:103] = b"abc"
    wait_until(lambda: room_bytes(room, "f") == data, 10,
               "what was written through the mapping")
    assert any_m.read(W, "f") == data


def test_msync_delivers_a_mapping(any_m):
    room = any_m.room
    put(room.workspace, "f", bytes(10_000))

    def change(path):
        fd = os.open(path, os.O_RDWR)
        area = mmap.mmap(fd, 10_000)
        os.close(fd)  # the mapping outlives the descriptor
        area[5000:5005] = b"later"
        area.flush()
        got = room_bytes(room, "f")[5000:5005]
        area.close()
        return got

    do(change, any_m(W, "f"))
    wait_until(lambda: room_bytes(room, "f")[5000:5005] == b"later", 10,
               "a mapping written after close()")


# -- fsync, open for several ---------------------------------------------------


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
@pytest.mark.parametrize("size", [100, 300_000])
def test_after_fsync_the_room_has_it(both_m, sync, size):
    room = both_m.room

    def run(path):
        fd = os.open(path, CREAT | os.O_TRUNC, 0o644)
        seen = []
        for i in range(3):
            write_all(fd, noise(size, i))
            getattr(os, sync)(fd)
            seen.append(room_bytes(room, "f"))
        os.close(fd)
        return seen

    seen = do(run, both_m(W, "f"))
    parts = [noise(size, i) for i in range(3)]
    assert seen == [b"".join(parts[:i + 1]) for i in range(3)]


def test_fsync_of_a_directory_succeeds(any_m):
    def run(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)

    do(run, any_m(W))


def test_o_sync_writes_are_in_the_room_at_once(any_m):
    room = any_m.room

    def run(path):
        fd = os.open(path, CREAT | os.O_SYNC, 0o644)
        os.write(fd, b"now")
        got = room_bytes(room, "f")
        os.close(fd)
        return got

    assert do(run, any_m(W, "f")) == b"now"


def test_each_close_of_a_dup_delivers(any_m):
    room = any_m.room

    def run(path):
        fd = os.open(path, CREAT, 0o644)
        os.write(fd, b"one")
        os.close(os.dup(fd))
        first = room_bytes(room, "f")
        os.write(fd, b"two")
        os.close(fd)
        return first

    assert do(run, any_m(W, "f")) == b"one"
    assert room_bytes(room, "f") == b"onetwo"


def test_the_writer_may_die(any_m):
    """What a killed process wrote is closed, and so sent, by the kernel."""
    def run(path):
        fd = os.open(path, CREAT, 0o644)
        os.write(fd, b"last words")
        os.kill(os.getpid(), 9)

    with pytest.raises(AssertionError, match="died"):
        do(run, any_m(W, "f"))
    wait_until(lambda: os.path.exists(host(any_m.room, "f"))
               and room_bytes(any_m.room, "f") == b"last words", 10,
               "the data of the killed process")


def test_several_writers_of_one_file(any_m):
    """Different parts, each its own descriptor, closed in another order."""
    room = any_m.room
    put(room.workspace, "f", b"." * 1000)

    def run(path):
        fds = [os.open(path, os.O_WRONLY) for _ in range(5)]
        for i, fd in enumerate(fds):
            os.pwrite(fd, b"%d" % i * 10, i * 100)
        for fd in reversed(fds):
            os.close(fd)

    do(run, any_m(W, "f"))
    want = bytearray(b"." * 1000)
    for i in range(5):
        want[i * 100:i * 100 + 10] = b"%d" % i * 10
    assert room_bytes(room, "f") == want


def test_o_direct_or_a_clean_refusal(any_m):
    def run(path):
        fd = os.open(path, CREAT | os.O_DIRECT, 0o644)
        area = mmap.mmap(-1, 4096)
        area[:] = b"d" * 4096
        os.write(fd, area)
        os.close(fd)

    got = do(outcome, run, any_m(W, "f"))
    assert got in (None, errno.EINVAL)
    if got is None:
        assert room_bytes(any_m.room, "f") == b"d" * 4096


# -- locks, attributes that there are none of ------------------------------------


def lock_flock(fd):
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_posix(fd):
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)


@pytest.mark.parametrize("lock", [lock_flock, lock_posix])
def test_locks_hold_between_local_processes(any_m, lock):
    put(any_m.room.workspace, "f", b"x" * 100)
    any_m.ls(W)

    def try_lock(path):
        fd = os.open(path, os.O_RDWR)
        try:
            lock(fd)
            return "got it"
        except BlockingIOError:
            return "held"

    def run(path):
        fd = os.open(path, os.O_RDWR)
        lock(fd)
        first = do(try_lock, path)
        os.close(fd)
        return first, do(try_lock, path)

    any_m.forget()
    assert do(run, any_m(W, "f")) == ("held", "got it")
    assert any_m.count()["total"] <= 1, "locks are local"


def test_extended_attributes_are_refused_without_a_request(any_m):
    put(any_m.room.workspace, "f", b"x")
    do(save, any_m(W, "own"), b"x")
    any_m.ls(W)
    any_m.lstat(W, "f")

    def run(path):
        return [outcome(*call) for call in (
            (os.getxattr, path, "user.x"), (os.getxattr, path,
                                            "security.capability"),
            (os.setxattr, path, "user.x", b"1"),
            (os.removexattr, path, "user.x"))] + [
                outcome(os.listxattr, path)]

    any_m.forget()
    for name in ("f", "own", "."):
        *calls, lister = do(run, any_m(W, name))
        assert all(c == errno.ENOTSUP for c in calls), calls
        assert lister in (None, errno.ENOTSUP), lister
    assert any_m.count()["total"] == 0


# -- read-only -------------------------------------------------------------------


def test_a_mount_with_ro_refuses_every_change(any_room):
    put(any_room.workspace, "f", b"old")
    os.mkdir(host(any_room, "d"))
    with Mount(any_room, "ro") as m:
        def run(top):
            f, d = top + "/f", top + "/d"
            return [outcome(*c) for c in (
                (save, f, b"new"), (save, top + "/new", b""),
                (os.unlink, f), (os.mkdir, top + "/e"), (os.rmdir, d),
                (os.rename, f, top + "/g"), (os.chmod, f, 0o600),
                (os.truncate, f, 1), (os.symlink, "a", top + "/l"),
                (os.link, f, top + "/h"), (os.utime, f, (1, 1)),
                (os.mkfifo, top + "/p"), (os.chown, f, 1, 1))]

        assert set(do(run, m(W))) == {errno.EROFS}
        m.forget()
    assert room_bytes(any_room, "f") == b"old"
    assert sorted(os.listdir(any_room.workspace)) == ["d", "f"]


@pytest.mark.parametrize("before", ["nothing", "write", "mmap", "append"])
def test_ftruncate_to_the_size_it_has(both_m, before):
    """And the mount ends as it should afterwards."""
    data = bytearray(noise(9000))
    put(both_m.room.workspace, "f", bytes(data))

    def run(path):
        fd = os.open(path, os.O_RDWR | (
            os.O_APPEND if before == "append" else 0))
        size = 9000
        if before == "write":
            os.pwrite(fd, b"new", 10)
        elif before == "append":
            os.write(fd, b"new")
            size += 3
        elif before == "mmap":
            with mmap.mmap(fd, size) as area:
                area[10:13] = b"new"
                area.flush()
        os.ftruncate(fd, size)
        os.close(fd)

    do(run, both_m(W, "f"))
    if before == "append":
        data += b"new"
    elif before != "nothing":
        data[10:13] = b"new"
    assert room_bytes(both_m.room, "f") == data
