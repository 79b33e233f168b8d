"""A cache directory that can't be used costs no more requests, and is told."""

import os
import shutil

import pytest

from mountlib import (
    DRIVER, MIB, Mount, do, mounts, pattern, put, read_file, run, unmount,
    wait_until,
)

W = "workspace"
SIZE = 20 * MIB


def cold_read(m, room):
    """Requests and bytes of a large file that nobody has read yet."""
    data = pattern(SIZE)
    put(room.workspace, "big", data)
    m.ls(W)
    m.forget()
    assert do(read_file, m(W, "big"), timeout=120) == data
    m.settle()
    return (len(room.log("raw")) + len(room.log("command")),
            sum(e["bytes_out"] for e in room.log()))


def not_private(path):
    path.mkdir(mode=0o755)
    os.chmod(path, 0o755)


def not_a_directory(path):
    path.write_text("")


@pytest.mark.parametrize("spoil", [not_private, not_a_directory])
def test_reads_cost_what_they_cost(room, tmp_path, spoil):
    """R9: a cold large file is fetched once, and then not again."""
    cache = tmp_path / "cache"
    spoil(cache)
    before = set(os.listdir("/var/tmp"))
    with Mount(room, cache=str(cache)) as m:
        assert "kept in /var/tmp" in m.stderr()
        requests, sent = cold_read(m, room)
        assert requests <= 16 and sent < SIZE * 1.1
        m.forget()
        fd = os.open(m(W, "big"), os.O_RDONLY)
        os.close(fd)
        assert do(read_file, m(W, "big")) == pattern(SIZE)
        m.settle()
        assert sum(e["bytes_out"] for e in room.log()) < MIB
        # Nothing lies about, for anybody.
        assert {n for n in os.listdir("/var/tmp")
                if "gentilityfs" in n} <= before
    assert set(os.listdir(tmp_path)) == {"cache"}


def test_it_is_said_before_the_background(room, tmp_path):
    """R9: on the terminal, with what to do."""
    not_private(tmp_path / "cache")
    (tmp_path / "mnt").mkdir()
    done = run([DRIVER, "-o", f"url={room.url},cache_dir={tmp_path}/cache",
                room.source, str(tmp_path / "mnt")],
               env={"GENTILITY_API_KEY": room.key})
    try:
        assert done.status == 0
        line, = done.err.decode().splitlines()
        assert f"cache directory {tmp_path}/cache" in line
        assert "chmod 700" in line and "/var/tmp" in line
    finally:
        unmount(str(tmp_path / "mnt"))
    wait_until(lambda: str(tmp_path / "mnt") not in mounts())


def test_a_cache_that_is_full_goes_on_elsewhere(room, tmp_path):
    """R9, L1: what it does not take any more is kept all the same."""
    cache = tmp_path / "cache"
    cache.mkdir()
    done = run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none",
                str(cache)])
    if done.status != 0:
        pytest.skip("no mounts here")
    try:
        with Mount(room, cache=str(cache)) as m:
            requests, sent = cold_read(m, room)
            # What was under way when it was full is asked for again.
            assert requests <= 30 and sent < SIZE * 2
            assert "kept in" in m.stderr()
            m.forget()
            assert do(read_file, m(W, "big")) == pattern(SIZE)
            m.settle()
            assert sum(e["bytes_out"] for e in room.log()) < SIZE / 2
    finally:
        run(["umount", str(cache)])
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
