"""The data set, the same for all peers, and what tells whether it is whole."""

import os
import random
import shutil
import subprocess
import time

MIB = 1 << 20
NEEDLE = "quetzalcoatlus"
WORDS = (
    "static const struct return switch break unsigned void char while for "
    "if else buffer length offset request answer node entry listing cache "
    "error retry include define sizeof pointer thread signal mutex value"
).split()
PAST = time.time() - 86400


def text(rng, size):
    """About `size` bytes that look and compress like source code."""
    parts, have = [], 0
    while have < size:
        line = "\t" + " ".join(rng.choices(WORDS, k=rng.randint(3, 9)))
        line += f" {rng.randrange(1 << 24):x};\n"
        parts.append(line)
        have += len(line)
    return "".join(parts)[: size - 1] + "\n"


def write(path, content):
    with open(path, "w" if isinstance(content, str) else "wb") as f:
        f.write(content)
    os.utime(path, (PAST, PAST))


def make_noise(path, size):
    """Bytes that nothing can compress, but that are the same each time."""
    rng = random.Random(size)
    block = rng.randbytes(min(size, 64 * MIB))
    with open(path, "wb") as f:
        for at in range(0, size, len(block)):
            f.write(block[: size - at])
    os.utime(path, (PAST, PAST))


def make_tree(top, tops, subs, files, size, needles=0):
    """tops * (1 + subs) directories with `files` files in each."""
    rng = random.Random(files * size)
    paths = []
    for a in range(tops):
        one = os.path.join(top, f"part{a}")
        for folder in [one] + [
            os.path.join(one, f"module{b}") for b in range(subs)
        ]:
            os.makedirs(folder)
            for i in range(files):
                path = os.path.join(folder, f"source_{i:02}.c")
                write(path, text(rng, rng.randint(size // 2, size * 3 // 2)))
                paths.append(path)
    for path in rng.sample(paths, needles):
        with open(path, "a") as f:
            f.write(NEEDLE + "\n")
        os.utime(path, (PAST, PAST))
    return paths


def git(folder, *args):
    subprocess.run(
        ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost",
         "-c", "safe.directory=*", "-C", folder, *args],
        check=True, stdout=subprocess.DEVNULL,
        env=dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null",
                 GIT_CONFIG_SYSTEM="/dev/null"),
    )


def make_repository(top):
    """A clean repository of 500 files; its index was made in the VM."""
    make_tree(top, 5, 9, 10, 4096)
    git(top, "init", "-q")
    git(top, "config", "gc.auto", "0")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "all")
    git(top, "status")
    shutil.copy2(f"{top}/.git/index", f"{top}.index")


def make_deep(home, scratch, quick):
    folder = f"{home}/deep/b/c/d/e/f"
    os.makedirs(folder)
    for i, name in enumerate(("file", "other", "third")):
        write(f"{folder}/{name}", text(random.Random(i), 4096))


def make_edited(home, scratch, quick):
    os.makedirs(f"{home}/edit")
    for i in range(20):
        write(f"{home}/edit/note{i}.txt", text(random.Random(i), 4096))


def make_small(home, scratch, quick):
    os.makedirs(f"{scratch}/small")
    rng = random.Random(7)
    for i in range(100):
        write(f"{scratch}/small/file{i:03}.c",
              text(rng, rng.randint(1024, 8192)))


def make_tar(home, scratch, quick):
    make_tree(f"{scratch}/untar", 2, 9, 10, 4096)
    subprocess.run(["tar", "cf", f"{scratch}/untar.tar", "-C", scratch,
                    "untar"], check=True)


# What is read is in the VM's home, what is sent in `scratch`.
PARTS = {
    "tree": lambda home, scratch, quick: make_tree(
        f"{home}/tree", 10, 9, 20, 4096, needles=12),
    "repo": lambda home, scratch, quick: make_repository(f"{home}/repo"),
    "deep": make_deep,
    "large": lambda home, scratch, quick: make_noise(
        f"{home}/large", (32 if quick else 256) * MIB),
    "gigabyte": lambda home, scratch, quick: make_noise(
        f"{home}/gigabyte", (64 if quick else 1024) * MIB),
    "log": lambda home, scratch, quick: make_noise(f"{home}/log", 64 * MIB),
    "edit": make_edited,
    "small": make_small,
    "tar": make_tar,
    "upload": lambda home, scratch, quick: make_noise(
        f"{scratch}/upload", 32 * MIB),
}


def make(parts, home, scratch, quick=False):
    os.makedirs(f"{home}/work")
    for part, maker in PARTS.items():
        if part in parts:
            maker(home, scratch, quick)


def same_file(a, b):
    try:
        with open(a, "rb") as f, open(b, "rb") as g:
            if os.fstat(f.fileno()).st_size != os.fstat(g.fileno()).st_size:
                return False
            while True:
                x, y = f.read(MIB), g.read(MIB)
                if x != y:
                    return False
                if not x:
                    return True
    except FileNotFoundError:
        return False


def same_tree(a, b):
    """Are all names and contents of a in b, and nothing else?"""
    try:
        for (x, xd, xf), (y, yd, yf) in zip(
            walk(a), walk(b), strict=True
        ):
            if xd != yd or xf != yf:
                return False
            if not all(same_file(f"{x}/{n}", f"{y}/{n}") for n in xf):
                return False
        return True
    except (FileNotFoundError, ValueError):
        return False


def walk(top):
    if not os.path.isdir(top):
        raise FileNotFoundError(top)
    for path, dirs, files in os.walk(top):
        dirs.sort()
        yield path, list(dirs), sorted(files)
