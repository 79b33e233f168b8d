"""What changing files costs, in requests; each number is "at most"."""

import os

import pytest

from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    CREAT, W, any_room, at, both_m, both_rooms, host, noise, room_bytes, save,
    text,
)
from mountlib import MIB, Mount, do, put, sh

LIMIT = 96 * 1024  # api.md: no command is longer


def used(m):
    """Requests since forget(), and a list of them for the message."""
    m.settle()
    log = m.room.log()
    rows = [(e["kind"], e.get("path"), (e.get("command") or "")[-120:])
            for e in log]
    assert all(e.get("command_len", 0) <= LIMIT for e in log)
    return len(log), rows


def at_most(m, limit):
    n, rows = used(m)
    assert n <= limit, (n, rows[:20])


def warm(m, *parts):
    """As a user who has looked around a moment ago."""
    m.ls(W, *parts)
    m.settle()
    m.forget()


def test_save_of_an_existing_small_file(both_m):
    put(both_m.room.workspace, "f", text(4096))
    warm(both_m)
    do(save, both_m(W, "f"), text(4096, 2), os.O_WRONLY | os.O_TRUNC)
    at_most(both_m, 1)
    both_m.forget()
    both_m.sh("printf hello > workspace/f")
    at_most(both_m, 1)
    assert room_bytes(both_m.room, "f") == b"hello"


def test_a_small_save_fits_into_the_first_flight(both_m):
    """TCP sends ten segments, 14,600 bytes, before it waits for an answer: what
    is longer takes a round trip more."""
    put(both_m.room.workspace, "f", text(4096))
    warm(both_m)
    do(save, both_m(W, "f"), os.urandom(4096), os.O_WRONLY | os.O_TRUNC)
    sent = [e["bytes_in"] for e in both_m.room.log("command")]
    assert len(sent) == 1 and sent[0] <= 14_000, sent


def test_a_saved_file_is_read_without_a_request(any_m):
    put(any_m.room.workspace, "f", text(4096))
    warm(any_m)
    do(save, any_m(W, "f"), text(4096, 2), os.O_WRONLY | os.O_TRUNC)
    any_m.settle()
    any_m.forget()
    assert any_m.read(W, "f") == text(4096, 2)
    at_most(any_m, 0)


def test_a_new_small_file(any_m):
    warm(any_m)
    do(save, any_m(W, "f"), text(4096))
    at_most(any_m, 1)


def test_cp_p_of_a_new_small_file(both_m):
    """create, write, utimens, chmod, close: 1; set after close: 2."""
    source = put(both_m.top, "source", text(4096), 0o755)
    os.utime(source, (1000, 1000))
    warm(both_m)
    both_m.sh('cp -p "$1" workspace/f', source)
    at_most(both_m, 2)
    st = os.lstat(host(both_m.room, "f"))
    assert st.st_mtime == 1000 and st.st_mode & 0o777 == 0o755
    assert room_bytes(both_m.room, "f") == text(4096)

    def by_descriptor(path):
        fd = os.open(path, CREAT | os.O_EXCL, 0o600)
        os.write(fd, text(4096))
        os.utime(fd, (1000, 1000))
        os.fchmod(fd, 0o755)
        os.close(fd)

    both_m.forget()
    do(by_descriptor, both_m(W, "g"))
    at_most(both_m, 1)
    st = os.lstat(host(both_m.room, "g"))
    assert st.st_mtime == 1000 and st.st_mode & 0o777 == 0o755


def test_one_request_for_each_change(both_rooms):
    put(both_rooms.workspace, "f", b"x")
    put(both_rooms.workspace, "target", b"y")
    with Mount(both_rooms, "cache_timeout=600") as m:
        for name, call in {
            "mkdir": lambda top: os.mkdir(top + "/d"),
            "rename": lambda top: os.rename(top + "/f", top + "/g"),
            "rename over": lambda top: os.rename(top + "/g", top + "/target"),
            "chmod": lambda top: os.chmod(top + "/target", 0o600),
            "symlink": lambda top: os.symlink("a", top + "/l"),
            "link": lambda top: os.link(top + "/target", top + "/h"),
            "utime": lambda top: os.utime(top + "/target", (1, 1)),
            "truncate": lambda top: os.truncate(top + "/target", 0),
            "unlink": lambda top: os.unlink(top + "/target"),
            "mkfifo": lambda top: os.mkfifo(top + "/p"),
            "rmdir": lambda top: os.rmdir(top + "/d"),
        }.items():
            if name in ("mkdir", "rename"):
                warm(m)
            m.forget()
            do(call, m(W))
            n, rows = used(m)
            assert n <= 1, (name, rows)


def test_a_refused_change_costs_no_more(any_m):
    put(any_m.room.workspace, "d/f", b"x")
    warm(any_m)
    any_m.ls(W, "d")
    any_m.settle()
    any_m.forget()
    any_m.sh("rmdir workspace/d; mkdir workspace/d; true", ok=False)
    at_most(any_m, 2)


def test_a_small_change_in_a_gigabyte_that_is_not_cached(room):
    path = host(room, "big")
    with open(path, "wb") as f:
        for i in range(1024):
            f.seek(i * MIB)
            f.write(b"%d" % i)
        f.truncate(1 << 30)
    with Mount(room, "timeout=60") as m:
        warm(m)
        do(at, m(W, "big"), (333 * MIB + 17, noise(4096)),
           flags=os.O_WRONLY, timeout=100)
        at_most(m, 2)
        with open(path, "rb") as f:
            f.seek(333 * MIB)
            assert f.read(4096 + 17) == b"333" + bytes(14) + noise(4096)
            f.seek(334 * MIB)
            assert f.read(4) == b"334\0"


def test_a_small_change_in_a_file_that_is_cached(any_room):
    data = noise(3 * MIB)
    put(any_room.workspace, "big", data)
    with Mount(any_room) as m:
        m.read(W, "big")
        warm(m)
        do(at, m(W, "big"), (MIB + 17, noise(4096, 2)))
        at_most(m, 2)
    now = room_bytes(any_room, "big")
    assert now == data[:MIB + 17] + noise(4096, 2) + data[MIB + 17 + 4096:]


def pieces(size):
    """A command holds 96 KiB, less the script's own text and the frame."""
    return -(-size // ((LIMIT - 8 * 1024) * 3 // 4))


@pytest.mark.parametrize("size", [4 * MIB, 32 * MIB])
def test_a_large_new_file(room, size):
    """ceil(size / payload) + 2, at least 4 in flight, payload as close to
    the command limit as base64 allows."""
    room.control(latency_ms=50)
    with Mount(room) as m:
        warm(m)
        do(save, m(W, "big"), noise(size), timeout=140)
        n, rows = used(m)
        log = room.log()
        assert n <= pieces(size) + 2, (n, pieces(size))
        assert max(e["inflight"] for e in log) >= 4
        lengths = sorted(e["command_len"] for e in log)
        assert lengths[len(lengths) // 2] >= 92 * 1024, "payload too small"
    assert room_bytes(room, "big") == noise(size)


def test_a_large_compressible_file_is_compressed_in_transit(any_m):
    data = text(8 * MIB)
    warm(any_m)
    do(save, any_m(W, "big"), data, timeout=100)
    n, rows = used(any_m)
    sent = sum(e["bytes_in"] for e in any_m.room.log())
    assert sent < len(data) // 3, sent
    assert room_bytes(any_m.room, "big") == data


def test_rm_rf_of_200_files(any_room):
    for i in range(200):
        put(any_room.workspace, f"d/f{i}", b"x")
    with Mount(any_room, "cache_timeout=60") as m:
        warm(m, "d")
        m.sh("rm -rf workspace/d", timeout=100)
        at_most(m, 201)
    assert os.listdir(any_room.workspace) == []


def test_removing_in_several_directories_is_parallel(room):
    """The kernel holds the directory's lock during an unlink: one at a time
    in each directory, but as many as there are connections in several."""
    for i in range(8):
        for j in range(5):
            put(room.workspace, f"d{i}/f{j}", b"x")
    room.control(latency_ms=200)
    with Mount(room, "cache_timeout=60") as m:
        for i in range(8):
            m.ls(W, f"d{i}")
        m.forget()
        m.sh("ls -d workspace/d* | xargs -P8 -n1 rm -rf", timeout=60)
        m.settle()
        assert max(e["inflight"] for e in room.log()) >= 8
    assert os.listdir(room.workspace) == []


def test_tar_x_of_200_small_files(any_room):
    source = any_room.tmp + "/../source"
    for i in range(200):
        put(source, f"p/f{i}", text(500 + i, i))
    sh('cd "$1" && tar cf ../t.tar p', source)
    with Mount(any_room, "cache_timeout=600") as m:
        warm(m)
        m.sh('tar xf "$1" -C workspace', source + "/../t.tar", timeout=140)
        # tar sets the directory's owner, mode and times when all is in it: 3
        # more for each directory than the 201 that are wanted ("Saving
        # files").
        at_most(m, 204)
    for i in range(200):
        assert room_bytes(any_room, f"p/f{i}") == text(500 + i, i)


def test_mkdir_p_and_many_small_writes(any_m):
    """A program that writes byte by byte pays once."""
    warm(any_m)

    def run(path):
        fd = os.open(path, CREAT, 0o644)
        for i in range(2000):
            os.write(fd, b"%d\n" % i)
        os.close(fd)

    do(run, any_m(W, "f"))
    at_most(any_m, 1)
    assert room_bytes(any_m.room, "f") == b"".join(
        b"%d\n" % i for i in range(2000))


def test_nothing_to_send_costs_nothing(any_m):
    put(any_m.room.workspace, "f", b"x")
    any_m.read(W, "f")
    warm(any_m)

    def run(path):
        fd = os.open(path, os.O_RDWR)
        os.fsync(fd)
        os.close(fd)

    do(run, any_m(W, "f"))
    at_most(any_m, 0)
