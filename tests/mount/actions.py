"""Typical actions of users' programs, each with what it has to come to: for
tests that break something in the middle of them.

An action runs in a directory of its own, which fill() made in the room before.
run() is what the program does; it may raise OSError.  right() looks at the
directory in the room and says whether what it did, or failed to do, is
whole: `value` is what run() returned, or None when it failed.
"""

import os

from mountlib import exec_script, pattern, read_file, write_file

SMALL = b"small contents\n" * 20
LARGE = pattern(1_300_000, 7)
NEW = b"NEW and longer contents\n" * 25
BIG_NEW = pattern(300_000, 8)
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def fill(directory):
    os.makedirs(directory)
    os.chmod(directory, 0o777)
    for name, data in (("small", SMALL), ("large", LARGE), ("other", b"o\n")):
        with open(f"{directory}/{name}", "wb") as f:
            f.write(data)
        os.chmod(f"{directory}/{name}", 0o666)
        os.utime(f"{directory}/{name}", ns=(10**18, 10**18))
    os.symlink("small", f"{directory}/link")
    os.mkdir(f"{directory}/sub")
    os.mkdir(f"{directory}/empty")
    for i in range(12):
        with open(f"{directory}/sub/f{i:02}", "wb") as f:
            f.write(b"%d\n" % i * 50)
    for path, _, _ in os.walk(directory):
        os.chmod(path, 0o777)


NAMES = ["empty", "large", "link", "other", "small", "sub"]


def bytes_of(path):
    try:
        return read_file(path)
    except FileNotFoundError:
        return None


def patch(d):
    fd = os.open(d + "/large", os.O_RDWR)
    try:
        os.pwrite(fd, b"PATCHED", 1_000_000)
    finally:
        os.close(fd)


PATCHED = LARGE[:1_000_000] + b"PATCHED" + LARGE[1_000_007:]


def head(path, n):
    with open(path, "rb", buffering=0) as f:
        return f.read(n)


def copy_out(d):
    return [read_file(f"{d}/sub/f{i:02}") for i in range(12)]


def copy_in(d):
    for i in range(3):
        write_file(f"{d}/empty/c{i}", SMALL, WRITE)


def listing(d):
    return sorted((n, os.lstat(f"{d}/{n}").st_size if n != "sub" else 0)
                  for n in os.listdir(d) if n != "empty")


LISTED = sorted([("large", len(LARGE)), ("link", 5), ("other", 2),
                 ("small", len(SMALL)), ("sub", 0)])


def command(d):
    """Its exit code and fate are in what it reads; close() failing says it
    could not be run, or that nobody knows."""
    try:
        text = exec_script(d + "/.exec", "echo x >> count; echo done")
    except OSError:
        fate = read_file(d + "/.exec")
        if b"outcome unknown" in fate:
            return "unknown"
        assert b"not run" in fate, fate
        return "not run"
    assert text.startswith(b"done\n--- exit 0"), text
    return "ran"


def ran_once(d, value):
    count = bytes_of(d + "/count")
    if value == "ran":
        return count == b"x\n"
    if value == "not run":
        return count is None
    return count in (None, b"x\n")


def is_in(path, *good):
    """right() for a save: new when it succeeded, else one of them."""
    return lambda d, value: bytes_of(d + path) in (
        good[:1] if value is not None else good)


def reads(expected):
    return lambda d, value: value is None or value == expected


def done(func):
    """run() that has no value of its own."""
    def run(d):
        func(d)
        return True
    return run


def has(present, absent):
    """right() for a change of names: all of the one or all of the other."""
    def right(d, value):
        now = [os.path.lexists(d + p) for p in present] + \
            [not os.path.lexists(d + p) for p in absent]
        return all(now) if value is not None else all(now) or not any(now)
    return right


def mode_is(d, value):
    mode = os.stat(d + "/small").st_mode & 0o777
    return mode == 0o640 if value is not None else mode in (0o640, 0o666)


ACTIONS = {
    "ls": (lambda d: sorted(os.listdir(d)), reads(NAMES)),
    "ls -l": (listing, reads(LISTED)),
    "stat": (lambda d: os.stat(d + "/link").st_size, reads(len(SMALL))),
    "readlink": (lambda d: os.readlink(d + "/link"), reads("small")),
    "cat small": (lambda d: read_file(d + "/small"), reads(SMALL)),
    "cat large": (lambda d: read_file(d + "/large"), reads(LARGE)),
    "head large": (lambda d: head(d + "/large", 1000), reads(LARGE[:1000])),
    "cp -r from": (copy_out, reads([b"%d\n" % i * 50 for i in range(12)])),
    "save": (done(lambda d: write_file(d + "/small", NEW, WRITE)),
             is_in("/small", NEW, SMALL)),
    "save new": (done(lambda d: write_file(d + "/new", NEW, WRITE)),
                 is_in("/new", NEW, None, b"")),
    "save large": (done(lambda d: write_file(d + "/large", BIG_NEW, WRITE)),
                   is_in("/large", BIG_NEW, LARGE)),
    "append": (done(lambda d: write_file(
        d + "/small", b"line\n", os.O_WRONLY | os.O_APPEND)),
        is_in("/small", SMALL + b"line\n", SMALL)),
    "patch": (done(patch), is_in("/large", PATCHED, LARGE)),
    "truncate": (done(lambda d: os.truncate(d + "/small", 5)),
                 is_in("/small", SMALL[:5], SMALL)),
    "cp to": (done(copy_in), lambda d, value: all(
        bytes_of(f"{d}/empty/c{i}") in (
            [SMALL] if value is not None else [SMALL, None, b""])
        for i in range(3))),
    "mkdir": (done(lambda d: os.mkdir(d + "/new")), has(["/new"], [])),
    "rmdir": (done(lambda d: os.rmdir(d + "/empty")), has([], ["/empty"])),
    "rename": (done(lambda d: os.rename(d + "/other", d + "/moved")),
               has(["/moved"], ["/other"])),
    "replace": (done(lambda d: os.replace(d + "/other", d + "/small")),
                lambda d, value: (bytes_of(d + "/small"), bytes_of(
                    d + "/other")) in ([(b"o\n", None)] + (
                        [] if value is not None else [(SMALL, b"o\n")]))),
    "unlink": (done(lambda d: os.unlink(d + "/other")), has([], ["/other"])),
    "symlink": (done(lambda d: os.symlink("x", d + "/soft")),
                has(["/soft"], [])),
    "link": (done(lambda d: os.link(d + "/small", d + "/hard")),
             has(["/hard"], [])),
    "chmod": (done(lambda d: os.chmod(d + "/small", 0o640)), mode_is),
    ".exec": (command, ran_once),
}
