"""A file-system exerciser in the manner of fsx: random operations on one
file, against a model in memory, and against the room's copy at each close.

    fsx.py FILE ROOMS-COPY SEED OPERATIONS [OTHER-NAME ROOMS-COPY-OF-OTHER]

Prints what it did last and exits with status 1 at the first difference.
"""

import mmap
import os
import random
import sys

LARGEST = 300_000  # the usual size; now and then up to LARGER
LARGER = 3 << 20
HISTORY = 40


class Difference(Exception):
    pass


class Fsx:
    def __init__(self, names, copies, seed, largest=LARGEST, pace=None):
        self.names, self.copies = list(names), list(copies)
        self.random = random.Random(seed)
        self.largest = largest
        self.model = bytearray()
        self.fd = None
        self.append = False
        self.history = []

    # -- what may happen, with its weight

    OPERATIONS = [
        ("write", 30), ("read", 25), ("mapread", 6), ("mapwrite", 8),
        ("truncate", 7), ("extend", 3), ("append", 6), ("fsync", 6),
        ("reopen", 12), ("reopen_append", 3), ("reopen_trunc", 2),
        ("rename", 3), ("second", 4), ("path_truncate", 2), ("stat", 6),
        ("chmod", 1), ("utime", 1), ("fallocate", 2), ("copy_range", 2),
    ]

    def say(self, *words):
        self.history.append(" ".join(str(w) for w in words))
        del self.history[:-HISTORY]

    def fail(self, what):
        raise Difference(what + "\n  " + "\n  ".join(self.history))

    def same(self, got, want, what, offset=0):
        if bytes(got) == bytes(want):
            return
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b),
                  min(len(got), len(want)))
        self.fail(f"{what}: {len(got)} bytes, expected {len(want)}, differs "
                  f"at {offset + at}: {bytes(got[at:at + 16])!r}, expected "
                  f"{bytes(want[at:at + 16])!r}")

    def data(self, size):
        if self.random.random() < 0.3:
            word = self.random.randbytes(self.random.randint(1, 40))
            return (word * (size // len(word) + 1))[:size]
        return self.random.randbytes(size)

    def span(self, within=None):
        """An offset and a length, of all magnitudes."""
        top = max(0, self.largest if within is None else within)
        if self.random.random() < 0.2:
            offset = self.random.choice(
                [0, 4095, 4096, 65535, 65536, 131072, max(0, top - 1)])
        else:
            offset = self.random.randrange(top + 1)
        offset = min(offset, top)
        size = min(top - offset, self.random.choice(
            [1, 10, 100, 4096, 5000, 20_000, 70_000, top]))
        return offset, self.random.randint(0, size)

    def put(self, offset, data):
        if not data:
            return
        if len(self.model) < offset:
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset:offset + len(data)] = data

    # -- operations

    def open(self, flags=0):
        self.fd = os.open(self.names[0], os.O_RDWR | os.O_CREAT | flags, 0o644)
        self.append = bool(flags & os.O_APPEND)

    def close(self):
        os.close(self.fd)
        self.fd = None
        with open(self.copies[0], "rb") as f:
            self.same(f.read(), self.model, "the room's copy after close()")

    def write(self):
        if self.append:
            return self.do_append()
        offset, size = self.span()
        data = self.data(size)
        self.say("write", offset, size)
        done = 0
        while done < size:
            done += os.pwrite(self.fd, data[done:], offset + done)
        self.put(offset, data)

    def do_append(self):
        size = min(self.span()[1], max(0, self.largest - len(self.model)))
        data = self.data(size)
        self.say("append", size)
        done = 0
        while done < size:
            done += os.write(self.fd, data[done:])
        self.put(len(self.model), data)

    def read(self):
        offset, size = self.span()
        self.say("read", offset, size)
        got = b""
        while len(got) < size:
            part = os.pread(self.fd, size - len(got), offset + len(got))
            if not part:
                break
            got += part
        self.same(got, self.model[offset:offset + size], "read", offset)

    def mapread(self):
        if not self.model:
            return
        offset, size = self.span(len(self.model))
        self.say("mapread", offset, size)
        with mmap.mmap(self.fd, len(self.model), prot=mmap.PROT_READ) as m:
            self.same(m[offset:offset + size],
                      self.model[offset:offset + size], "mapread", offset)

    def mapwrite(self):
        if not self.model:
            return
        offset, size = self.span(len(self.model))
        data = self.data(size)
        self.say("mapwrite", offset, size)
        with mmap.mmap(self.fd, len(self.model)) as m:
            m[offset:offset + size] = data
            m.flush()
        self.put(offset, data)

    def truncate(self):
        size = self.span()[0]
        self.say("truncate", len(self.model), "->", size)
        os.ftruncate(self.fd, size)
        self.resize(size)

    def resize(self, size):
        if size < len(self.model):
            del self.model[size:]
        else:
            self.model.extend(bytes(size - len(self.model)))

    def extend(self):
        size = min(self.largest, len(self.model)
                   + self.random.choice([1, 4096, 100_000]))
        size = max(size, len(self.model))
        self.say("extend", len(self.model), "->", size)
        os.ftruncate(self.fd, size)
        self.resize(size)

    def path_truncate(self):
        size = self.span()[0]
        self.say("path_truncate", len(self.model), "->", size)
        os.truncate(self.names[0], size)
        self.resize(size)

    def fsync(self):
        self.say("fsync")
        os.fsync(self.fd)
        with open(self.copies[0], "rb") as f:
            self.same(f.read(), self.model, "the room's copy after fsync()")

    def reopen(self):
        self.say("reopen")
        self.close()
        self.open()

    def reopen_append(self):
        self.say("reopen_append")
        self.close()
        self.open(os.O_APPEND)

    def reopen_trunc(self):
        self.say("reopen_trunc")
        self.close()
        self.open(os.O_TRUNC)
        self.model.clear()

    def rename(self):
        if len(self.names) < 2:
            return
        self.say("rename")
        os.rename(self.names[0], self.names[1])
        self.names.reverse()
        self.copies.reverse()

    def second(self):
        """Another descriptor reads, and sometimes writes, the same file."""
        self.say("second")
        fd = os.open(self.names[0], os.O_RDWR)
        try:
            got = b""
            while part := os.pread(fd, 1 << 20, len(got)):
                got += part
            self.same(got, self.model, "second")
            if self.random.random() < 0.5:
                offset, size = self.span()
                data = self.data(size)
                self.say(" second writes", offset, size)
                done = 0
                while done < size:
                    done += os.pwrite(fd, data[done:], offset + done)
                self.put(offset, data)
        finally:
            os.close(fd)

    def stat(self):
        for st in (os.fstat(self.fd), os.stat(self.names[0])):
            if st.st_size != len(self.model):
                self.fail(f"stat: size {st.st_size}, expected "
                          f"{len(self.model)}")

    def chmod(self):
        self.say("chmod")
        os.chmod(self.names[0], self.random.choice([0o600, 0o644, 0o755]))

    def utime(self):
        self.say("utime")
        os.utime(self.fd, (1000, self.random.randrange(1 << 31)))

    def fallocate(self):
        offset, size = self.span()
        if not size:
            return
        self.say("fallocate", offset, size)
        os.posix_fallocate(self.fd, offset, size)
        self.resize(max(len(self.model), offset + size))

    def copy_range(self):
        """Between parts of the same file that do not overlap."""
        if self.append or not 2000 < len(self.model) <= self.largest:
            return
        half = len(self.model) // 2
        size = self.random.randrange(1, max(half, 2))
        source = self.random.randrange(half - size + 1)
        target = half + self.random.randrange(self.largest - half + 1)
        size = min(size, self.largest - target)
        if size <= 0:
            return
        self.say("copy_range", source, target, size)
        done = 0
        while done < size:
            n = os.copy_file_range(self.fd, self.fd, size - done,
                                   source + done, target + done)
            if n == 0:
                self.fail("copy_file_range gave 0")
            done += n
        self.put(target, bytes(self.model[source:source + size]))

    def run(self, count):
        names = [n for n, weight in self.OPERATIONS for _ in range(weight)]
        self.open(os.O_TRUNC)
        for i in range(count):
            name = self.random.choice(names)
            if i % 97 == 96:  # now and then it grows beyond the usual
                usual, self.largest = self.largest, min(
                    LARGER, self.largest * 8)
                self.say(i, "large:")
                self.write()
                self.largest = usual
            self.say(i, name)
            if name == "append":
                name = "do_append" if self.append else "write"
            getattr(self, name)()
        self.close()


def exercise(names, copies, seed, count, largest=LARGEST):
    """Raises Difference."""
    Fsx(names, copies, seed, largest).run(count)


if __name__ == "__main__":
    if len(sys.argv) not in (5, 7):
        sys.exit(__doc__)
    name, copy, seed, count, *others = sys.argv[1:]
    try:
        exercise([name] + others[:1], [copy] + others[1:], int(seed),
                 int(count))
    except Difference as e:
        print(e)
        sys.exit(1)
