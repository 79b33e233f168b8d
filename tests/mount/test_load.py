"""Many processes at once for a time, with faults, against a model; afterwards
memory, descriptors and threads are what they were."""

import errno
import os
import random
import time

from mountlib import (
    MIB, Call, Mount, do, outcome_signed as outcome, pattern, put, read_file,
    settle, wait_until, write_file,
)
from test_random_faults import ALLOWED, SEED, rules

W = "workspace"
LONG = bool(os.environ.get("CHECK_LONG"))
SECONDS = float(os.environ.get("GENTILITYFS_LOAD_SECONDS") or
                (1800 if LONG else 20))
WORKERS = int(os.environ.get("GENTILITYFS_LOAD_WORKERS") or
              (64 if SECONDS >= 300 else 16))
# A way that is far, or the room's processor would be all that is measured.
LATENCY_MS = float(os.environ.get("GENTILITYFS_LOAD_LATENCY") or 0)
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def run(path, script):
    """A command by one descriptor, which reads its own result."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.write(fd, script.encode())
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def work(top, common, number, end):
    """One process: its own directory, whose contents it knows, and files that
    all read.  What it saw that can't be; how much it did."""
    rng = random.Random(SEED * 1000 + number)
    mine = f"{top}/w{number}"
    files, wrong, done, commands = {}, [], 0, {}
    for i in range(4):
        files[f"f{i}"] = {pattern(2000 + i, i)}

    def judge(what, got):
        if isinstance(got, int) and got is not True and \
                -got not in ALLOWED | {errno.ENOENT}:
            wrong.append((what, errno.errorcode.get(-got, got)))
        return got is True or isinstance(got, (bytes, list))

    while time.monotonic() < end and not wrong:
        op = rng.choice(["read", "read", "shared", "save", "append", "rename",
                         "list", "exec"])
        name = rng.choice(sorted(files))
        path = f"{mine}/{name}"
        done += 1
        if op == "read":
            got = outcome(read_file, path)
            if judge(op, got) and got not in files[name]:
                wrong.append((op, name, len(got)))
        elif op == "shared":
            i = rng.randrange(len(common))
            got = outcome(read_file, f"{top}/shared/s{i}")
            if judge(op, got) and got != common[i]:
                wrong.append((op, i, len(got)))
        elif op == "save":
            data = pattern(rng.choice([10, 5000, 60_000, 200_000]),
                           rng.randrange(1 << 30))
            if judge(op, outcome(write_file, path, data, WRITE)):
                files[name] = {data}
            else:
                files[name].add(data)
        elif op == "append":
            line = b"line %d\n" % done
            got = outcome(write_file, path, line, os.O_WRONLY | os.O_APPEND)
            longer = {b + line for b in files[name]}
            if judge(op, got):
                files[name] = longer
            else:
                files[name] = files[name] | longer
            if len(files[name]) > 64 or max(map(len, files[name])) > MIB:
                # Too many ways it may have gone: read which.
                got = outcome(read_file, path)
                if isinstance(got, bytes) and got in files[name]:
                    files[name] = {got}
        elif op == "rename":
            to = f"{name[:2]}-{done}"
            got = outcome(os.rename, path, f"{mine}/{to}")
            if judge(op, got):
                files[to] = files.pop(name)
            else:
                # One of the two; find out, however long it takes.
                while True:
                    names = outcome(os.listdir, mine)
                    if isinstance(names, list):
                        break
                if to in names and name not in names:
                    files[to] = files.pop(name)
                elif name not in names:
                    wrong.append((op, name, to, names))
        elif op == "list":
            got = outcome(os.listdir, mine)
            if judge(op, got) and set(got) != set(files):
                wrong.append((op, sorted(got), sorted(files)))
        elif op == "exec":
            n = len(commands)
            got = outcome(run, f"{mine}/.exec",
                          f"echo x >> /tmp/{number}-{n}; echo done {n}")
            if isinstance(got, bytes) and b"\n--- error " in got:
                got = -errno.EIO
            commands[n] = isinstance(got, bytes)
            if commands[n] and (not got.startswith(b"done %d\n" % n) or
                                b".gentilityfs-" in got):
                wrong.append((op, got[:200]))
    return wrong, done, files, commands


def flat(m):
    """Memory in use, open descriptors, threads."""
    with open(f"/proc/{m.pid}/status") as f:
        rss = next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))
    return (rss // 1024, len(os.listdir(f"/proc/{m.pid}/fd")),
            len(os.listdir(f"/proc/{m.pid}/task")))


def test_load(room):
    """F16: 64 processes for 30 minutes with CHECK_LONG=1, for five in the
    check's own part, else some for some seconds."""
    common = [pattern(50_000 * (i + 1), i) for i in range(5)]
    for i, data in enumerate(common):
        put(room.workspace, f"shared/s{i}", data)
    for n in range(WORKERS):
        for i in range(4):
            put(room.workspace, f"w{n}/f{i}", pattern(2000 + i, i), 0o666)
        os.chmod(room.workspace + f"/w{n}", 0o777)
    with Mount(room, "timeout=10") as m:
        def round_(seconds, number):
            end = time.monotonic() + seconds
            calls = [Call(work, m(W), common, n, end)
                     for n in range(WORKERS)]
            return [c.result(seconds + 120) for c in calls]

        m.sh("ls -R workspace >/dev/null; cat workspace/shared/* >/dev/null")
        settle(room)
        before = flat(m)
        room.control(faults=rules(5, SEED), latency_ms=LATENCY_MS)
        results = round_(SECONDS, 0)
        room.control(faults=[], latency_ms=0)
        wait_until(lambda: isinstance(do(outcome, os.listdir, m(W)), list),
                   10, "recovery")
        do(save_all, m(W), timeout=100)
        settle(room)
        done = sum(r[1] for r in results)
        print(f"{WORKERS} processes, {SECONDS:.0f} s: {done} operations, "
              f"before {before}, after {flat(m)} (MiB, descriptors, threads)")
        assert not any(r[0] for r in results), [r[0] for r in results if r[0]]
        # Threads that are idle end after half a minute, and each of libfuse's
        # has a buffer as large as a write; what the cache holds is on disk.
        after = flat(m)
        assert after[0] < before[0] + 100 + 2 * (WORKERS - 16), (before,
                                                                 after)
        # One for each cached file that is open, and no more.
        cached = sum(1 for fd in os.listdir(f"/proc/{m.pid}/fd")
                     if "/cache/" in str(outcome(
                         os.readlink, f"/proc/{m.pid}/fd/{fd}")))
        assert after[1] - cached < before[1] + 40, (before, after, cached)
    for n, (_, _, files, commands) in enumerate(results):
        for name, allowed in files.items():
            now = outcome(read_file, f"{room.workspace}/w{n}/{name}")
            assert now in allowed, (n, name, now if isinstance(now, int)
                                    else len(now))
        for i, good in commands.items():
            count = outcome(read_file, f"{room.tmp}/{n}-{i}")
            assert count == b"x\n" or (not good and
                                       count == -errno.ENOENT), (n, i, count)


def save_all(path):
    for where, _, names in os.walk(path):
        for name in names:
            if name.startswith("."):
                continue
            fd = os.open(f"{where}/{name}", os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
