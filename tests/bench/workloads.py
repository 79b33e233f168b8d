"""What is measured.

Each workload runs in a process of its own on a fresh mount:

    setup   beside the mount, on the VM's own files; not timed
    warm    through the mount, not timed (an editor has read what it saves)
    run     timed; through the mount
    until   timed; polled beside the mount: has the VM got it?
    check   not timed; raises when what was read or written is wrong

All take the Place they work in.
"""

import os
import random
import shutil
import subprocess
import time

import data

MIB = 1 << 20


class Wrong(Exception):
    """A workload got something else than what the VM has."""


class Place:
    """Where a workload runs: paths, and a number that no other run has."""

    def __init__(self, server, scratch, number):
        self.server, self.scratch, self.number = server, scratch, number
        self.peer = self.mount = None
        self.kept = None  # what run leaves for check
        self.notes = {}  # for the results

    def begin(self, peer):
        self.peer, self.mount = peer, peer.files

    def here(self, *names):
        return os.path.join(self.mount, *names)

    def there(self, *names):
        return os.path.join(self.server, *names)


def command(*args, ok=(0,), **kw):
    done = subprocess.run(args, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, LC_ALL="C"), **kw)
    if done.returncode not in ok:
        raise Wrong(f"{args[0]}: exit {done.returncode}: "
                    f"{done.stderr[-300:].decode(errors='replace')}")
    return done.stdout


def expect(good, what):
    if not good:
        raise Wrong(what)


class Workload:
    title = ""
    needs = None  # a part of the data
    limits = ()  # which of "local" and "curl" can do it
    only = None  # peers that can do it; None: all

    def can(self, peer_name):
        if peer_name in ("local", "curl") and peer_name not in self.limits:
            return False
        return self.only is None or peer_name in self.only

    def belongs(self, link):
        """Is it measured over this link, (milliseconds, Mbit/s)?"""
        return True

    def title_for(self, o):
        """For the table; --quick reads a smaller file."""
        return self.title.replace("256 MB", "32 MB") if o.quick else self.title

    def setup(self, p):
        pass

    def warm(self, p):
        pass

    def run(self, p):
        raise NotImplementedError

    def until(self, p):
        return True

    def check(self, p):
        pass

    def clean(self, p):
        pass


# -- reading -------------------------------------------------------------------


class Mount(Workload):
    title = "mount, first `ls`"  # timed by the driver itself

    def run(self, p):
        os.listdir(p.mount)


class List(Workload):
    title = "`ls -lR`, 100 directories, 2,000 files"
    needs = "tree"
    limits = ("local",)

    def run(self, p):
        p.kept = command("ls", "-lR", p.here("tree"))

    def check(self, p):
        here = p.kept.count(b"\n")
        there = command("ls", "-lR", p.there("tree")).count(b"\n")
        expect(here == there, f"{here} lines, not {there}")


class Find(Workload):
    title = "`find`, the same"
    needs = "tree"
    limits = ("local",)

    def run(self, p):
        p.kept = command("find", p.here("tree"))

    def check(self, p):
        expect(p.kept.count(b"\n") == 2101, "not all found")


class Grep(Workload):
    title = "`grep -r`, the same, 8 MiB"
    needs = "tree"
    limits = ("local",)

    def run(self, p):
        p.kept = command("grep", "-r", data.NEEDLE, p.here("tree"))

    def check(self, p):
        expect(p.kept.count(b"\n") == 12, "not 12 matches")


class GitStatus(Workload):
    title = "`git status`, 500 files, clean"
    needs = "repo"
    limits = ("local",)

    def setup(self, p):
        shutil.copy2(p.there("repo.index"), p.there("repo/.git/index"))

    def run(self, p):
        p.kept = command("git", "-c", "safe.directory=*", "-C",
                         p.here("repo"), "status", "--porcelain")

    def check(self, p):
        expect(p.kept == b"", p.kept.decode())


class Cat(Workload):
    title = "cat of a 4 KiB file at depth 6"
    needs = "deep"
    limits = ("local", "curl")
    path = "deep/b/c/d/e/f/file"

    def run(self, p):
        if p.peer.curl:
            p.kept = p.peer.file(self.path)
        else:
            p.kept = command("cat", p.here(self.path))

    def check(self, p):
        with open(p.there(self.path), "rb") as f:
            expect(p.kept == f.read(), "other bytes")


class Whole(Workload):
    title = "whole read of 256 MB"
    needs = "large"
    limits = ("local", "curl")

    def read(self, p):
        with open("/dev/null", "wb") as null:
            subprocess.run(["dd", f"if={p.here(self.needs)}", "bs=1M",
                            "status=none"], check=True, stdout=null)

    def run(self, p):
        if p.peer.curl:
            p.peer.raw(self.needs, "/dev/null")
        else:
            self.read(p)

    def check(self, p):
        p.notes["size"] = os.path.getsize(p.there(self.needs))
        if p.peer.curl:
            return
        expect(data.same_file(p.here(self.needs), p.there(self.needs)),
               "other bytes")
        start = time.monotonic()
        self.read(p)
        p.notes["warm_seconds"] = round(time.monotonic() - start, 4)


class Gigabyte(Whole):
    """For the processor's time, which is too short to see in less."""

    title = "read of 1 GB"
    needs = "gigabyte"

    def can(self, peer_name):
        if peer_name in ("local", "curl") and peer_name not in self.limits:
            return False
        return self.only is None or peer_name in self.only

    def belongs(self, link):
        return link == (0, 0)


class Random(Workload):
    title = "200 random 4 KiB reads in 256 MB"
    needs = "large"
    limits = ("local", "curl")

    def places(self, p):
        blocks = os.path.getsize(p.there("large")) // 4096
        return [n * 4096 for n in
                random.Random(p.number).sample(range(blocks), 200)]

    def run(self, p):
        if p.peer.curl:
            p.peer.ranges("large", self.places(p))
            return
        fd = os.open(p.here("large"), os.O_RDONLY)
        p.kept = [os.pread(fd, 4096, at) for at in self.places(p)]
        os.close(fd)

    def check(self, p):
        if p.peer.curl:
            return
        with open(p.there("large"), "rb") as f:
            for at, got in zip(self.places(p), p.kept):
                f.seek(at)
                expect(f.read(4096) == got, f"other bytes at {at}")


class Tail(Workload):
    title = "`tail` of 64 MB"
    needs = "log"
    limits = ("local", "curl")

    def run(self, p):
        if p.peer.curl:
            p.kept = p.peer.raw("log", "-", "-4096")
        else:
            p.kept = command("tail", "-c", "4096", p.here("log"))

    def check(self, p):
        with open(p.there("log"), "rb") as f:
            f.seek(-4096, 2)
            expect(p.kept == f.read(), "other bytes")


# -- writing ------------------------------------------------------------------


class Save(Workload):
    title = "save of a 4 KiB file"
    needs = "edit"
    limits = ("local",)
    name = "edit/note0.txt"

    def setup(self, p):
        p.kept = data.text(random.Random(p.number), 4096).encode()

    def warm(self, p):
        with open(p.here(self.name), "rb") as f:
            f.read()

    def run(self, p):
        with open(p.here(self.name), "wb", buffering=0) as f:
            f.write(p.kept)

    def until(self, p):
        try:
            with open(p.there(self.name), "rb") as f:
                return f.read() == p.kept
        except FileNotFoundError:
            return False


class SaveCold(Save):
    title = "the same, never seen before"

    def warm(self, p):
        pass


class VimSave(Save):
    """What vim does with a backup file: the system calls of a `:w`."""

    title = "vim-like save"
    name = "edit/note1.txt"

    def run(self, p):
        name = p.here(self.name)
        probe = os.path.join(os.path.dirname(name), "4913")
        status = os.stat(name)
        fd = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o100644)
        os.fchown(fd, status.st_uid, status.st_gid)
        os.close(fd)
        os.unlink(probe)
        os.rename(name, name + "~")
        fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, p.kept)
        os.fsync(fd)
        os.close(fd)
        os.chmod(name, 0o644)
        os.stat(name)
        os.unlink(name + "~")

    def until(self, p):
        return super().until(p) and not os.path.exists(
            p.there(self.name + "~"))


class Into(Workload):
    """Into a directory of the run's own, which is new in the VM."""

    limits = ("local",)

    def folder(self, p):
        return f"work/run{p.number}"

    def setup(self, p):
        os.makedirs(p.there(self.folder(p)))

    def warm(self, p):
        if not p.peer.curl:
            os.listdir(p.here(self.folder(p)))

    def clean(self, p):
        shutil.rmtree(p.there(self.folder(p)), ignore_errors=True)


class Copy(Into):
    title = "`cp` of 100 small files"
    needs = "small"

    def run(self, p):
        command("cp", "-r", f"{p.scratch}/small", p.here(self.folder(p)))

    def until(self, p):
        return data.same_tree(f"{p.scratch}/small",
                              p.there(self.folder(p), "small"))


class Untar(Into):
    title = "`tar x` of 200 files"
    needs = "tar"

    def run(self, p):
        command("tar", "xf", f"{p.scratch}/untar.tar", "-C",
                p.here(self.folder(p)))

    def until(self, p):
        return data.same_tree(f"{p.scratch}/untar",
                              p.there(self.folder(p), "untar"))


class Remove(Into):
    title = "`rm -rf` of 200 files"
    needs = "tar"

    def setup(self, p):
        super().setup(p)
        shutil.copytree(f"{p.scratch}/untar",
                        p.there(self.folder(p), "untar"))

    def run(self, p):
        command("rm", "-rf", p.here(self.folder(p), "untar"))

    def until(self, p):
        return not os.path.exists(p.there(self.folder(p), "untar"))


class Names(Into):
    title = "mkdir, rename, chmod x 50"

    def run(self, p):
        top = p.here(self.folder(p))
        for i in range(50):
            os.mkdir(f"{top}/new{i}")
            os.rename(f"{top}/new{i}", f"{top}/dir{i}")
            os.chmod(f"{top}/dir{i}", 0o700)

    def until(self, p):
        top = p.there(self.folder(p))
        return sorted(os.listdir(top)) == sorted(
            f"dir{i}" for i in range(50))


class Upload(Into):
    title = "32 MiB write"
    needs = "upload"

    def run(self, p):
        command("dd", f"if={p.scratch}/upload", "bs=1M", "status=none",
                f"of={p.here(self.folder(p), 'upload')}")

    def until(self, p):
        there = p.there(self.folder(p), "upload")
        try:
            if os.path.getsize(there) != 32 * MIB:
                return False
        except FileNotFoundError:
            return False
        return data.same_file(f"{p.scratch}/upload", there)


class Exec(Into):
    title = "a command makes a file, which is read"
    limits = ("local", "curl")
    # rclone looks again after five minutes.
    only = ("gentilityfs", "sshfs", "sshfs-tuned", "local", "curl")

    def run(self, p):
        name = self.folder(p) + "/made"
        p.peer.command(f"seq 1000 > {name}", p)
        # One that only looks again later has it when it has it.
        while p.kept is None:
            try:
                if p.peer.curl:
                    p.kept = p.peer.file(name)
                else:
                    with open(p.here(name), "rb") as f:
                        p.kept = f.read() or None
            except FileNotFoundError:
                time.sleep(0.01)

    def check(self, p):
        expect(p.kept == b"".join(b"%d\n" % i for i in range(1, 1001)),
               "other bytes")


WORKLOADS = {
    "mount": Mount(),
    "ls": List(),
    "find": Find(),
    "grep": Grep(),
    "git": GitStatus(),
    "cat": Cat(),
    "whole": Whole(),
    "gigabyte": Gigabyte(),
    "random": Random(),
    "tail": Tail(),
    "save": Save(),
    "save-cold": SaveCold(),
    "vim": VimSave(),
    "cp": Copy(),
    "tar": Untar(),
    "rm": Remove(),
    "names": Names(),
    "upload": Upload(),
    "exec": Exec(),
}
