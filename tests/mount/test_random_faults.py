"""Faults at random, 5 % and 30 % of all requests, with a model of what is in
the room: what is read is right or an error, what close() said is there, and no
command runs twice.  GENTILITYFS_TEST_SEED tries others."""

import errno
import os
import random
import time

import pytest

from mountlib import (
    Mount, clock, do, exec_script, late, outcome_signed as outcome, pattern,
    put, read_file, settle, wait_until, write_file
)

W = "workspace"
SEED = int(os.environ.get("GENTILITYFS_TEST_SEED") or 1)
LONG = bool(os.environ.get("CHECK_LONG"))
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

KINDS = [{"status": 429}, {"status": 503, "retry_after": 1}, {"status": 500},
         {"status": 502, "html": True}, {"reset": "before"},
         {"reset": "middle"}, {"close": True}, {"lost": True},
         {"lost": "reset"}, {"json": "cut"}, {"json": "malformed"},
         {"body_base64": ""}, {"status": 503, "run": True}, {"hang": 2}]

ALLOWED = {errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH}


def rules(percent, seed):
    """Together so many percent, each kind as often as the others."""
    rng = random.Random(seed)
    left, found = 100.0, []
    for i, kind in enumerate(KINDS):
        share = percent / len(KINDS)
        # The first that fires wins: the later see fewer requests.
        found.append({"match": {"percent": 100 * share / left,
                                "seed": rng.randrange(1 << 30)},
                      "fault": kind})
        left -= share
    return found


class Model:
    """Which bytes each file may have: one value when all is known, and more
    after an error, until a later success settles it."""

    def __init__(self, room, m, rng):
        self.room, self.m, self.rng = room, m, rng
        self.files = {}
        self.commands = 0
        self.counts = {"good": 0, "failed": 0}
        for i in range(6):
            data = self.data()
            put(room.workspace, f"f{i}", data, 0o666)
            self.files[f"f{i}"] = {data}

    def data(self):
        size = self.rng.choice([0, 10, 3000, 40_000, 150_000, 1_200_000])
        return pattern(size, self.rng.randrange(1 << 30))

    def local(self, name):
        return os.path.join(self.room.workspace, name)

    def note(self, result, op):
        if result is True or isinstance(result, bytes):
            self.counts["good"] += 1
            return True
        assert -result in ALLOWED or (
            op == "unlink" and result == -errno.ENOENT) or (
            op == "rename" and result == -errno.ENOENT), (
            op, errno.errorcode.get(-result, result))
        self.counts["failed"] += 1
        return False

    def step(self):
        op = self.rng.choice(["read", "read", "save", "save", "new", "append",
                              "rename", "unlink", "exec", "list"])
        name = self.rng.choice(sorted(self.files)) if self.files else None
        if name is None:
            op = "new"
        getattr(self, "do_" + op)(name)

    def call(self, func, *args):
        return do(outcome, func, *args, timeout=60)

    def do_read(self, name):
        got = self.call(read_file, self.m(W, name))
        if isinstance(got, int) and got == -errno.ENOENT:
            assert None in self.files[name], name
        elif self.note(got, "read"):
            assert got in self.files[name], (name, len(got))

    def do_save(self, name):
        data = self.data()
        if self.note(self.call(write_file, self.m(W, name), data, WRITE),
                     "save"):
            self.files[name] = {data}
            assert read_file(self.local(name)) == data, (
                "close() returned 0", name, len(data))
        else:
            # Unsent, and maybe delivered by any later close or fsync.
            self.files[name] |= {data}

    def do_new(self, name):
        self.do_save_as(f"n{self.rng.randrange(1 << 20)}")

    def do_save_as(self, name):
        self.files.setdefault(name, {None, b""})
        self.do_save(name)

    def do_append(self, name):
        line = b"%d\n" % self.rng.randrange(1 << 30)
        got = self.call(write_file, self.m(W, name), line,
                        os.O_WRONLY | os.O_APPEND)
        before = self.files[name]
        longer = {b + line for b in before if b is not None}
        if got == -errno.ENOENT:
            assert None in before, name
        elif self.note(got, "append"):
            now = read_file(self.local(name))
            assert now in longer, ("close() returned 0", name)
            self.files[name] = {now}
        else:
            self.files[name] = before | longer

    def do_rename(self, name):
        to = f"r{self.rng.randrange(1 << 20)}"
        if self.note(self.call(os.rename, self.m(W, name), self.m(W, to)),
                     "rename"):
            self.files[to] = self.files.pop(name) - {None}
            assert not os.path.lexists(self.local(name)), name
        else:
            self.files[to] = self.files[name] | {None}
            self.files[name] = self.files[name] | {None}

    def do_unlink(self, name):
        got = self.call(os.unlink, self.m(W, name))
        if self.note(got, "unlink"):
            self.files.pop(name)
            assert not os.path.lexists(self.local(name)), name
        else:
            self.files[name] = self.files[name] | {None}

    def do_exec(self, name):
        self.commands += 1
        script = f"echo x >> /tmp/count{self.commands}; echo done"
        got = self.call(exec_script, self.m(W, ".exec"), script)
        count = outcome(read_file, f"{self.room.tmp}/count{self.commands}")
        if isinstance(got, bytes):
            self.counts["good"] += 1
            assert got.startswith(b"done\n"), got
            assert count == b"x\n", count
        else:
            self.counts["failed"] += 1
            assert count in (b"x\n", -errno.ENOENT), ("ran twice", count)

    def do_list(self, name):
        got = self.call(os.listdir, self.m(W))
        if isinstance(got, list):
            certain = {n for n, v in self.files.items() if None not in v}
            assert certain <= set(got) <= set(self.files), (
                certain - set(got), set(got) - set(self.files))
        else:
            assert -got in ALLOWED, got

    def check_all(self):
        """After the end: each file is one of what it may be."""
        for name, allowed in self.files.items():
            now = outcome(read_file, self.local(name))
            now = None if now == -errno.ENOENT else now
            assert now in allowed, (name, now and len(now))
        for n in range(1, self.commands + 1):
            count = outcome(read_file, f"{self.room.tmp}/count{n}")
            assert count in (b"x\n", -errno.ENOENT), (n, count)


@pytest.mark.parametrize("percent", [5, 30])
def test_random_faults(room, percent):
    """F1, F2, W2, E4: until the service is well again, and then all is."""
    rng = random.Random(SEED * 1000 + percent)
    seconds = 120 if LONG else 12
    with Mount(room, "timeout=10", "cache_timeout=1") as m:
        model = Model(room, m, rng)
        m.ls(W)
        room.control(faults=rules(percent, SEED))
        end = time.monotonic() + seconds
        steps = 0
        while time.monotonic() < end:
            model.step()
            steps += 1
        room.no_faults()
        began = clock()
        wait_until(lambda: isinstance(do(outcome, os.listdir, m(W)), list),
                   5, "recovery")
        assert not late(began, 6)
        # What failed is sent by the next fsync or close, so all is well now.
        do(save_again, m(W), timeout=90)
        settle(room)
        print(f"seed {SEED}: {steps} steps, {model.counts}")
        assert model.counts["good"] > 0
    model.check_all()


def save_again(path):
    for name in os.listdir(path):
        if name.startswith("."):
            continue
        fd = os.open(f"{path}/{name}", os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
