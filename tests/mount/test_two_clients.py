"""Every workload while a second client changes the same files."""

import os
import random
import re
import threading
import time

import pytest

from mountlib import Call, Mount, put, read_file

TRUST = 1.0
SLACK = 4.0  # a loaded machine may need so long for a command
FILES = 24
BIG = 300_000  # lines


def text(name, version):
    """Lines that all tell the version; its length tells it, too."""
    return b"".join(b"%s %06d\n" % (name.encode(), version)
                    for _ in range(1 + version % 97))


class Changer(threading.Thread):
    """The second client: replaces files, by the API alone."""

    def __init__(self, room, names):
        super().__init__()
        self.room = room
        self.names = names
        self.stop = threading.Event()
        self.since = {name: [(0, 0.0)] for name in names + ["big"]}
        self.failed = None

    def run(self):
        rand = random.Random(4)
        version = 0
        try:
            while not self.stop.is_set():
                version += 1
                part = rand.sample(self.names, 4)
                script = ""
                for name in part:
                    lines = 1 + version % 97
                    path = f"/workspace/t/{name}"
                    script += (
                        f"yes '{name} {version:06d}' | head -n {lines} "
                        f">{path}.new && mv {path}.new {path}\n")
                if version % 4 == 0:
                    part.append("big")
                    script += (
                        f"cd /workspace/u && yes 'big {version:06d}' | "
                        f"head -n {BIG} >big.new && mv big.new big\n")
                self.room.run(script)
                now = time.monotonic()
                for name in part:
                    self.since[name].append((version, now))
        except Exception as e:  # told by the test
            self.failed = e

    def oldest(self, name, begun):
        """The version that a read begun then may show at worst."""
        limit = begun - TRUST - SLACK
        return max(v for v, at in self.since[name] if at <= limit)


def check(changer, name, data, begun, trusts):
    if name == "big":
        assert int(data[4:10]) >= changer.oldest(name, begun), data
        # Who trusts nothing gets one version, or an error.
        assert trusts or len(data) == 10, data
        return
    m = re.match(rb"(\S+) (\d{6})\n", data)
    assert m, (name, data[:60])
    version = int(m[2])
    assert data == text(name, version), (name, version, data[-60:])
    assert version >= changer.oldest(name, begun), (name, version)


def cat(top, names):
    name = random.choice(names)
    with open(f"{top}/t/{name}", "rb") as f:
        return {name: f.read()}


def grep(top, names):
    return {name: open(f"{top}/t/{name}", "rb").read() for name in names}


def tail(top, names):
    name = random.choice(names)
    with open(f"{top}/t/{name}", "rb") as f:
        size = os.fstat(f.fileno()).st_size
        half = os.pread(f.fileno(), 1 << 20, size // 2)
        line = half[half.find(b"\n") + 1:].split(b"\n")[0]
    assert re.match(rb"\S+ \d{6}$", line) or line == b"", half[:80]
    return {}


def walk(top, names):
    for _, _, files in os.walk(top + "/t"):
        for file in files:
            assert file in names or file[:-4] in names, file
    return {}


def big(top, names):
    """A large file in parts, at its end: each line is whole."""
    with open(f"{top}/u/big", "rb") as f:
        data = f.read()
    assert len(data) == 11 * BIG, len(data)
    versions = set(data.split(b"\n"))
    assert all(re.fullmatch(rb"big \d{6}|", v) for v in versions), versions
    return {"big": b" ".join(sorted(versions - {b""}))}


def own(top, names):
    """What this program saves beside them is what it reads."""
    path = f"{top}/u/own-{os.getpid()}"
    data = random.randbytes(random.randrange(1, 9000))
    with open(path, "wb") as f:
        f.write(data)
    assert read_file(path) == data
    return {}


WORK = [cat, grep, tail, walk, big, own]


def work(top, names, job, until):
    """What was read, when; errors of files that were just replaced."""
    seen = []
    while time.monotonic() < until:
        begun = time.monotonic()
        try:
            for name, data in job(top, names).items():
                seen.append((name, data, begun))
        except OSError as e:
            # It had another version at each look.
            seen.append((None, e.errno, begun))
    return seen


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("count", [FILES, 6])
def test_no_read_shows_what_the_file_never_had(any_room, cache, count):
    names = [f"f{i:02d}" for i in range(count)]
    for name in names:
        put(any_room.workspace, f"t/{name}", text(name, 0))
    put(any_room.workspace, "u/big", b"big 000000\n" * BIG)
    changer = Changer(any_room, names)
    changer.start()
    try:
        with Mount(any_room, f"cache_timeout={TRUST if cache else 0}",
                   path="/workspace") as m:
            until = time.monotonic() + 6
            calls = [Call(work, m.dir, names, job, until)
                     for job in WORK + [cat, grep, walk, big]]
            results = [c.result(timeout=60) for c in calls]
    finally:
        changer.stop.set()
        changer.join()
    assert changer.failed is None, changer.failed
    reads = errors = 0
    for seen in results:
        for name, data, begun in seen:
            if name is None:
                errors += 1
            else:
                reads += 1
                check(changer, name, data, begun, cache)
    # Six files: each is replaced several times a second.
    share = 4 if count == FILES else 1
    assert reads > count and errors * share < reads, (reads, errors)
