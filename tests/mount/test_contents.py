"""Contents byte for byte, whatever they are and however the service gives
them."""

import base64
import contextlib
import errno
import mmap
import os
import random
import threading

import pytest

from hostile import Hostile
from mountlib import (
    DEADLINE, MIB, Call, Mount, do, outcome, pattern, put, raises, read_file,
    wait_until, write_file,
)

TEXTS = {
    "empty": b"",
    "newline": b"\n",
    "final-newline": b"one\ntwo\n",
    "no-final-newline": b"one\ntwo",
    "crlf": b"one\r\ntwo\r\n",
    "cr": b"one\rtwo\r",
    "blanks-at-end": b"text  \t \n\n\n",
    "blanks-only": b" \t\n ",
    "utf-8": "grüße, 世界 \U0001f600\n".encode(),
    "bom": b"\xef\xbb\xbftext\n",
    "noncharacters": "\uffff\ufffe\U0010ffff\u2028\u2029\x7f\x80".encode(),
    "controls": bytes(range(1, 32)) + b"\x7f",
    "latin-1": b"gr\xfc\xdfe\n",
    "cut-utf-8": b"abc\xf0\x9f\x92",
    "cut-utf-8-inside": b"abc\xf0\x9f\x92def",  # one U+FFFD is as long
    "replacement": b"ab\xef\xbf\xbdcd",
    "surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "overlong": b"\xc0\x80\xc0\xaf",
    "nul": b"\0",
    "nuls": b"a\0b\0\0c",
    "nul-at-end": b"text\0",
    "json": b'{"content": "\\u0000\\n\\"", "error": "file_not_found"}',
    "not-found": b'{"error":"file_not_found","message":"no"}',
    "backslashes": b"\\\\ \\n \\u0041 \\ud800 \\",
    "quote": b'"',
    "html": b"<!DOCTYPE html><html>503</html>",
    "all-bytes": bytes(range(256)),
    "base64-like": b"aGVsbG8gd29ybGQ=",
    "base64-like-newline": b"aGVsbG8gd29ybGQ=\n",
    "base64-of-4": b"AAAA",
    "base64-of-itself": base64.b64encode(base64.b64encode(b"x" * 30)),
    "base64-padding": b"====",
    "base64-lines": base64.encodebytes(pattern(300)),
    "binary": pattern(1000),
    "random-64k": pattern(65536),
    "text-300k": b"a line of text\n" * 20000,
}


def fill(room, files=TEXTS):
    for name, data in files.items():
        put(room.workspace, name, data)


def read_all(top):
    return {n: read_file(os.path.join(top, n)) for n in os.listdir(top)}


def check(m, files=TEXTS):
    got = do(read_all, m("workspace"), timeout=60)
    assert sorted(got) == sorted(files)
    wrong = [n for n in files if got[n] != files[n]]
    assert not wrong, {n: (got[n][:80], files[n][:80]) for n in wrong}


def test_contents_are_exact(any_room):
    """R1: text, binary, and what looks like something else."""
    fill(any_room)
    with Mount(any_room) as m:
        check(m)


@pytest.mark.parametrize("policy", ["always", "nul-is-text", "lossy", "mime"])
def test_contents_are_exact_under_every_base64_policy(any_room, policy):
    """R1: whichever files the service gives as base64, even when it gives
    text in which the bytes are lost."""
    fill(any_room)
    any_room.control(base64=policy)
    with Mount(any_room) as m:
        check(m)


@pytest.mark.parametrize("raw", ["norange", "off", "error", "forbidden"])
def test_contents_are_exact_whatever_the_raw_endpoint_does(any_room, raw):
    """R1: where text is lossy, too, and only commands are left."""
    fill(any_room)
    any_room.control(raw=raw, base64="lossy")
    with Mount(any_room) as m:
        check(m)


@pytest.mark.parametrize("paths", ["absolute", "home", "home-encoded"])
@pytest.mark.parametrize("echo", ["absolute", "echo"])
def test_the_form_of_the_file_endpoint_is_detected(any_room, paths, echo):
    """R1: whether a path means /tmp/x or ~/tmp/x, never the other file."""
    any_room.control(paths=paths, file_path=echo)
    put(any_room.tmp, "x", b"in /tmp")
    put(any_room.home, "tmp/x", b"in ~/tmp")  # of another size
    put(any_room.tmp, "only", b"only in /tmp")
    put(any_room.home, "tmp/below", b"only in ~/tmp")
    with Mount(any_room) as m:
        assert m.read("home/user/tmp/below") == b"only in ~/tmp"
        assert m.read("tmp/x") == b"in /tmp"
        assert m.read("home/user/tmp/x") == b"in ~/tmp"
        assert m.read("tmp/only") == b"only in /tmp"


@pytest.mark.parametrize("paths", ["absolute", "home", "home-encoded"])
@pytest.mark.parametrize("echo", ["absolute", "echo"])
def test_same_sized_files_are_told_apart(room, paths, echo):
    """R1: where the size cannot tell /tmp/y from ~/tmp/y."""
    room.control(paths=paths, file_path=echo)
    put(room.tmp, "y", b"same size 1")
    put(room.home, "tmp/y", b"same size 2")
    put(room.home, "%2Ftmp/y", b"same size 3")
    with Mount(room) as m:
        assert m.read("tmp/y") == b"same size 1"
        assert m.read("home/user/tmp/y") == b"same size 2"
        assert m.read("home/user/%2Ftmp/y") == b"same size 3"


@pytest.mark.parametrize("paths", ["home", "home-encoded"])
def test_the_form_found_is_remembered(room, paths):
    """R6: after the first files each costs one request again, or less."""
    room.control(paths=paths)
    for i in range(20):
        put(room.workspace, f"f{i}", b"contents %d" % i)
    with Mount(room) as m:
        m.read("workspace/f0")
        m.forget()
        for i in range(1, 20):
            assert m.read(f"workspace/f{i}") == b"contents %d" % i
        assert m.count()["total"] <= 19


def test_contents_are_exact_with_a_path_mount(any_room):
    """R1"""
    for name, data in TEXTS.items():
        put(any_room.home, "p %2F?#/workspace/" + name, data)
    with Mount(any_room, path="p %2F?#") as m:
        check(m)


# -- large files ---------------------------------------------------------------


EDGES = {f"size{d:+d}": pattern(MIB + d, d + 10) for d in
         (-3, -2, -1, 0, 1, 2, 3)}
EDGES |= {f"text{d:+d}": (b"0123456789abcde\n" * 65537)[:MIB + d] for d in
          (-1, 0, 1)}
EDGES["big"] = pattern(5 * MIB + 12345)
EDGES["big-text"] = b"".join(b"line %d\n" % i for i in range(300000))


@pytest.mark.parametrize("raw", ["range", "norange", "off", "error",
                                 "forbidden"])
def test_large_files_are_exact(any_room, raw):
    """R1: bytes around the limit of small files, and 5 MiB, by each way."""
    fill(any_room, EDGES)
    any_room.control(raw=raw)
    with Mount(any_room) as m:
        check(m, EDGES)


def test_large_files_are_exact_without_json_for_them(any_room):
    """R1: the file endpoint refuses anything beyond 300 kB."""
    fill(any_room, EDGES)
    any_room.control(raw="off", max_file=300_000)
    with Mount(any_room) as m:
        check(m, EDGES)


def random_reads(path, want, count):
    rng = random.Random(7)
    fd = os.open(path, os.O_RDONLY)
    for _ in range(count):
        at = rng.randrange(len(want) + 5000)
        n = rng.choice([1, 2, 4095, 4096, 4097, 70000, 300000])
        got = os.pread(fd, n, at)
        if got != want[at:at + n]:
            return at, n, len(got)
    os.close(fd)
    return None


@pytest.mark.parametrize("raw", ["range", "norange", "off"])
def test_reads_anywhere_in_a_large_file_are_exact(any_room, raw):
    """R1: also by several readers at once, at random offsets."""
    put(any_room.workspace, "big", EDGES["big"])
    any_room.control(raw=raw)
    with Mount(any_room) as m:
        calls = [Call(random_reads, m("workspace/big"), EDGES["big"], 60)
                 for _ in range(3)]
        assert [c.result(60) for c in calls] == [None] * 3


def read_blocks(path, want, count, seed=3):
    """The number of reads that were wrong."""
    places = random.Random(seed).sample(range(len(want) // 4096), count)
    fd = os.open(path, os.O_RDONLY)
    wrong = sum(os.pread(fd, 4096, at * 4096) != want[at * 4096:(at + 1) * 4096]
                for at in places)
    os.close(fd)
    return wrong


def test_a_file_that_is_read_here_and_there_is_fetched_when_that_pays(
        any_room):
    """Not for a few reads, and long before the 160 requests of all."""
    data = pattern(32 * MIB, 3)
    put(any_room.workspace, "big", data)
    any_room.control(latency_ms=40)
    with Mount(any_room) as m:
        m.ls("workspace")
        m.forget()
        assert do(read_blocks, m("workspace/big"), data, 7) == 0
        assert m.count()["raw"] <= 7
        m.forget()
        assert do(read_blocks, m("workspace/big"), data, 200, timeout=90) == 0
        n = m.count()
        assert n["raw"] + n["command"] < 100, n


def test_it_begins_where_a_local_change_ended(any_room):
    """With a reader in order beside."""
    old = pattern(16 * MIB, 3)
    data = b"new" * 2000 + old[6000:]
    put(any_room.workspace, "big", old)
    any_room.control(latency_ms=40)
    with Mount(any_room) as m:
        path = m("workspace/big")
        do(write_file, path, data[:6000])
        calls = [Call(read_blocks, path, data, 120, seed) for seed in (1, 2)]
        calls += [Call(random_reads, path, data, 60), Call(read_file, path)]
        assert [c.result(60) for c in calls] == [0, 0, None, data]


def read_blocks_of_two(path, versions, replace):
    """Replace it in the VM while it is read; what was neither version's."""
    places = random.Random(3).sample(range(len(versions[0]) // 4096), 200)
    fd = os.open(path, os.O_RDONLY)
    strange = []
    for i, at in enumerate(places):
        if i == 30:
            os.rename(*replace)
        got = outcome(os.pread, fd, 4096, at * 4096)
        want = [v[at * 4096:(at + 1) * 4096] for v in versions]
        if got not in (*want, errno.ESTALE):
            strange.append((i, at))
    os.close(fd)
    return strange


def test_a_file_that_is_replaced_while_it_is_fetched_whole(any_room):
    """R4: its old bytes never become the new one's."""
    data = [pattern(16 * MIB, i) for i in (3, 4)]
    old = put(any_room.workspace, "big", data[0])
    new = put(any_room.workspace, "new", data[1])
    any_room.control(latency_ms=40)
    with Mount(any_room, "cache_timeout=1") as m:
        assert do(read_blocks_of_two, m("workspace/big"), data, (new, old),
                  timeout=90) == []
        any_room.control(latency_ms=0)
        wait_until(lambda: m.read("workspace/big") == data[1], 10)


@pytest.mark.parametrize("raw", ["range", "off"])
def test_memory_does_not_depend_on_size(any_room, raw):
    """R2: a sparse file of 3 GiB read at its ends, and its head in order."""
    size = 3 << 30
    path = put(any_room.workspace, "huge", b"head")
    with open(path, "r+b") as f:
        f.truncate(size)
        f.seek(size - 4)
        f.write(b"tail")
    any_room.control(raw=raw)

    def ends(path):
        fd = os.open(path, os.O_RDONLY)
        return (os.pread(fd, 4, 0), os.pread(fd, 5000, size - 5000)[-5:],
                os.pread(fd, 10, size), os.pread(fd, 3, 2 << 30),
                os.lseek(fd, 0, os.SEEK_END))

    def stream(path, much):
        fd = os.open(path, os.O_RDONLY)
        total = zero = 0
        while total < much:
            data = os.read(fd, MIB)
            total += len(data)
            zero += data.count(0)
        return total, zero

    with Mount(any_room) as m:
        assert do(ends, m("workspace/huge"), timeout=60) == (
            b"head", b"\0tail", b"", b"\0\0\0", size)
        before = m.peak_memory()
        much = 200 * MIB if raw == "range" else 24 * MIB
        total, zero = do(stream, m("workspace/huge"), much, timeout=90)
        assert zero == total - 4
        # Caches of a fixed size may fill up; 200 MiB of file may not.
        assert m.peak_memory() < max(before, 32 * MIB) + 96 * MIB
        assert sum(e["bytes_out"] for e in any_room.log()) < 3 * much + 64 * MIB


def test_the_head_of_a_huge_file_is_cheap(any_room):
    """R6: it costs one block, not the file."""
    path = put(any_room.workspace, "huge", pattern(64 * MIB))
    with Mount(any_room) as m:
        m.ls("workspace")
        m.forget()

        def head(path):
            with open(path, "rb", buffering=0) as f:
                return f.read(100)

        assert do(head, m("workspace/huge")) == head(path)
        m.settle()
        assert sum(e["bytes_out"] for e in any_room.log()) < 10 * MIB


def test_a_large_file_comes_in_parallel(room):
    """R6: several blocks are in flight; 16 MiB with 100 ms a request take
    far less than one after another."""
    data = pattern(16 * MIB)
    put(room.workspace, "big", data)
    with Mount(room) as m:
        m.ls("workspace")
        m.forget()
        room.control(latency_ms=100)
        assert m.read("workspace/big", timeout=60) == data
        room.control(latency_ms=0)
        m.settle()
        log = room.log()
        assert max(e["inflight"] for e in log) > 1, log
        assert sum(e["bytes_out"] for e in log) < 20 * MIB


# -- what is not transferred ---------------------------------------------------


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_unchanged_contents_are_kept_across_a_remount(
        any_room, tmp_path, size):
    """R3: the same cache directory, a new mount, no transfer; a changed file
    is transferred again even if size and mtime are the same."""
    data = pattern(size)
    path = put(any_room.workspace, "f", data)
    cache = str(tmp_path / "cache")
    with Mount(any_room, cache=cache) as m:
        assert m.read("workspace/f") == data
    with Mount(any_room, cache=cache) as m:
        m.ls("workspace")
        m.forget()
        assert m.read("workspace/f") == data
        count = m.count()
        assert count["file"] == count["raw"] == 0, count
    st = os.stat(path)
    changed = pattern(size, 2)
    put(any_room.workspace, "f", changed)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    with Mount(any_room, cache=cache) as m:
        assert m.read("workspace/f") == changed


def test_a_spoilt_cache_gives_no_wrong_bytes(any_room, tmp_path):
    """R3: files of the cache directory cut or overwritten meanwhile."""
    files = {f"f{i}": pattern(5000 + i, i) for i in range(10)}
    files["big"] = pattern(2 * MIB)
    fill(any_room, files)
    cache = tmp_path / "cache"
    with Mount(any_room, cache=str(cache)) as m:
        check(m, files)
    found = [p for p in cache.rglob("*") if p.is_file() and p.stat().st_size]
    for i, p in enumerate(sorted(found)):
        with open(p, "r+b") as f:
            f.truncate(p.stat().st_size // (1 + i % 3))
    with Mount(any_room, cache=str(cache)) as m:
        check(m, files)


def test_the_cache_is_private(room, tmp_path):
    """R3: what was cached can be read by the mounting user only."""
    put(room.workspace, "f", pattern(5000))
    cache = tmp_path / "cache"
    with Mount(room, cache=str(cache)) as m:
        m.read("workspace/f")
    assert cache.stat().st_mode & 0o077 == 0


def kept(m, top):
    """Bytes on the disk of the driver's files there, with names or without."""
    files = {}
    for entry in os.scandir(f"/proc/{m.pid}/fd"):
        try:
            if os.readlink(entry.path).startswith(str(top)):
                st = os.stat(entry.path)
                files[st.st_dev, st.st_ino] = st.st_blocks * 512
        except OSError:
            pass  # closed meanwhile
    return sum(files.values())


def test_a_full_cache_evicts_and_goes_on(any_room, tmp_path):
    """R3: cache_size bounds what the cache directory holds."""
    files = {f"f{i}": pattern(MIB - 10, i) for i in range(12)}
    fill(any_room, files)
    cache = tmp_path / "cache"
    with Mount(any_room, "cache_size=4M", cache=str(cache)) as m:
        check(m, files)
        assert 2 * MIB < kept(m, cache) < 6 * MIB
        check(m, files)


# -- files that change ---------------------------------------------------------


@pytest.mark.parametrize("size", [4000, 3 * MIB])
@pytest.mark.parametrize("how", ["replaced", "rewritten"])
def test_an_open_sees_the_new_version_whole(any_room, size, how):
    """R4, A10: cache_timeout=0, the file is replaced or rewritten between
    opens; each open reads one version, the newest."""
    with Mount(any_room, "cache_timeout=0") as m:
        for i, n in enumerate((size, size, size + 1, size // 2, 0, size)):
            data = pattern(n, i)
            if how == "replaced":
                new = put(any_room.workspace, "new", data)
                os.rename(new, os.fsencode(any_room.workspace) + b"/f")
            else:
                put(any_room.workspace, "f", data)
            assert m.read("workspace/f") == data, i
            assert m.lstat("workspace/f").st_size == n


@pytest.mark.parametrize("size", [MIB // 2, 6 * MIB])
@pytest.mark.parametrize("how", ["grown", "shrunk", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_read(any_room, size, how):
    """R4: a reader with the file open gets bytes that some version had at that
    place, or an error; never padding, and never a hang."""
    old, new = b"a" * size, b"b" * size
    path = os.path.join(any_room.workspace, "f")
    put(any_room.workspace, "f", old)

    def reader(name, ready, go):
        fd = os.open(name, os.O_RDONLY)
        parts = [os.read(fd, 100_000)]
        os.write(ready, b"x")
        os.read(go, 1)
        with contextlib.suppress(OSError):
            while part := os.read(fd, 100_000):
                parts.append(part)
        return b"".join(parts)

    with Mount(any_room, "cache_timeout=0") as m:
        ready, go = os.pipe(), os.pipe()
        call = Call(reader, m("workspace/f"), ready[1], go[0])
        os.read(ready[0], 1)
        if how == "grown":
            put(any_room.workspace, "f", old + new)
        elif how == "shrunk":
            put(any_room.workspace, "f", old[:200_000])
        elif how == "replaced":
            os.rename(put(any_room.workspace, "new", new), path)
        else:
            os.unlink(path)
        m.ls("workspace")
        os.write(go[1], b"x")
        got = call.result(60)
        for fd in ready + go:
            os.close(fd)
        assert got[:100_000] == old[:100_000]
        assert not got.replace(b"a", b"").replace(b"b", b""), "padding"
        if how == "grown":
            assert got in (old, old + new)
            assert m.read("workspace/f") == old + new
        elif how == "shrunk":
            assert m.read("workspace/f") == old[:200_000]
        elif how == "replaced":
            assert m.read("workspace/f") == new
        else:
            raises(errno.ENOENT, read_file, m("workspace/f"))

@pytest.mark.parametrize("how", ["replaced", "rewritten"])
@pytest.mark.parametrize("trust", [0, 5])
def test_a_large_file_gets_another_version_of_its_size(any_room, trust, how):
    """R4: the endpoint tells no versions; an error, and no mixture."""
    size = 8 * MIB
    put(any_room.workspace, "f", b"1" * size)
    path = put(any_room.workspace, "new", b"2" * size)
    replaced = threading.Lock()

    def rule(request, forward):
        if request.begins and request.begins >= 4 * MIB:
            with replaced:
                if os.path.exists(path):
                    threading.Event().wait(0.7)  # or it counts as one time
                    if how == "rewritten":
                        put(any_room.workspace, "f", b"2" * size)
                        os.unlink(path)
                    else:
                        os.rename(path, os.path.join(
                            os.fsencode(any_room.workspace), b"f"))

    with Hostile(any_room) as bad, \
            Mount(bad, f"cache_timeout={trust}") as m:
        m.ls("workspace")
        bad.rule = rule
        got = do(outcome, read_file, m("workspace/f"), timeout=60)
        assert got == errno.ESTALE, got if isinstance(got, int) else set(got)
        assert not os.path.exists(path)
        wait_until(lambda: m.read("workspace/f") == b"2" * size, DEADLINE,
                   "the new file")


def test_a_log_that_grows_can_be_followed(any_room):
    """R4, A10: a descriptor kept open reads what is appended."""
    put(any_room.workspace, "log", "")

    def follow(path, turn, done):
        fd = os.open(path, os.O_RDONLY)
        seen = b""
        while len(seen) < 50:
            os.stat(path)
            seen += os.read(fd, 1000)
        return seen

    with Mount(any_room, "cache_timeout=0.1") as m:
        call = Call(follow, m("workspace/log"), 0, 0)
        for i in range(10):
            with open(any_room.workspace + "/log", "ab") as f:
                f.write(b"%04d\n" % i)
            m.settle()
        assert call.result() == b"".join(b"%04d\n" % i for i in range(10))


def test_a_file_written_all_the_time_reads_without_wrong_bytes(any_room):
    """R4: a file rewritten at once with another size, again and again; each
    read gives one version or an error."""
    versions = [bytes([65 + i]) * (1000 + 777 * i) for i in range(10)]
    stop = threading.Event()
    path = os.path.join(any_room.workspace, "f")
    put(any_room.workspace, "f", versions[0])

    def writer():
        i = 0
        while not stop.is_set():
            i += 1
            new = put(any_room.workspace, "new", versions[i % 10])
            os.rename(new, path)

    def read_often(name):
        seen = []
        for _ in range(12):
            with contextlib.suppress(OSError):
                seen.append(read_file(name))
        return seen

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        with Mount(any_room, "cache_timeout=0") as m:
            seen = do(read_often, m("workspace/f"), timeout=90)
    finally:
        stop.set()
        thread.join()
    assert seen, "every read failed"
    for data in seen:
        assert data in versions, (len(data), data[:20], data[-20:])


def test_mmap_reads_the_contents(any_room):
    """R1: shared and private mappings, across block borders."""
    put(any_room.workspace, "big", EDGES["big"])

    def mapped(path, flags):
        with open(path, "rb") as f:
            with mmap.mmap(f.fileno(), 0, flags, mmap.PROT_READ) as view:
                return view[MIB - 100:MIB + 100] + view[-100:], len(view)

    want = EDGES["big"][MIB - 100:MIB + 100] + EDGES["big"][-100:]
    with Mount(any_room) as m:
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            assert do(mapped, m("workspace/big"), flags) == (
                want, len(EDGES["big"]))


# -- files without a size --------------------------------------------------------


@pytest.mark.parametrize("path", [
    "proc/version", "proc/filesystems", "proc/sys/kernel/ostype",
    "proc/1/comm", "proc/1/limits", "proc/partitions", "sys/kernel/notes",
])
def test_files_of_proc_and_sys_are_read_through(any_room, path):
    """R5: they claim size 0 (or 4096) and have contents all the same."""
    want = read_file(os.path.join(any_room.root, path))
    assert want
    with Mount(any_room) as m:
        assert m.read(path) == want
        assert m.sh('cat "$1" | sha256sum', path).out == \
            m.sh('sha256sum < "$1"', os.path.join(any_room.root, path)).out


def test_files_of_proc_are_read_anew_each_time(any_room):
    """R5: nothing of them is cached."""
    with Mount(any_room) as m:
        first = float(m.read("proc/uptime").split()[0])
        wait_until(lambda: float(m.read("proc/uptime").split()[0]) > first,
                   DEADLINE)


def test_a_walk_of_proc_survives_what_vanishes(any_room):
    """R5: find over /proc/self and /proc ends, without a hang."""
    with Mount(any_room) as m:
        done = m.sh("find proc -maxdepth 2 | wc -l", ok=False, timeout=60)
        assert int(done.text) > 100


def test_opening_a_fifo_of_the_room_does_not_hang(any_room):
    """A9: fifos are shown; two local processes can use one, the room's are not
    reached, and opening it without blocking comes back."""
    os.mkfifo(any_room.workspace + "/fifo")

    def attempt(path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return os.read(fd, 10)

    with Mount(any_room) as m:
        assert do(attempt, m("workspace/fifo")) == b""


def test_a_directory_read_as_a_file_is_eisdir(any_room):
    """A8: and a file listed as a directory ENOTDIR."""
    put(any_room.workspace, "f", "x")
    with Mount(any_room) as m:
        raises(errno.EISDIR, read_file, m("workspace"))
        raises(errno.ENOTDIR, os.listdir, m("workspace/f"))
        raises(errno.ENOTDIR, os.lstat, m("workspace/f/x"))


def test_text_with_every_policy_switched_while_mounted(room):
    """R1: a service that changes its mind."""
    files = {f"{p}-{n}": d for p in ("auto", "always", "nul-is-text", "lossy")
             for n, d in TEXTS.items()}
    fill(room, files)
    with Mount(room) as m:
        for policy in ("always", "lossy", "auto", "nul-is-text"):
            room.control(base64=policy)
            got = do(lambda: {n: read_file(m("workspace", n)) for n in files
                              if n.startswith(policy)}, timeout=60)
            wrong = [n for n in got if got[n] != files[n]]
            assert not wrong
