"""What each call does to modes, sizes, links and times, of the file and of its
directory: on a local directory and on mounts of rooms of all kinds, in one run.

The table is CALLS: it is the list of what SEMANTICS.md (A14) means.
"""

import errno
import mmap
import os
import signal
import stat
import tempfile

import pytest

from helpers_write import (
    UTIME_NOW, UTIME_OMIT, fallocate, host, noise, outcome, quick_if, renameat2,
    save, utimensat,
)
from mountlib import Mount, Room, do, raises, read_file, wait_until

OLD = 1_000_000_000  # when what a call finds was made
KINDS = ("gnu", "user", "busybox", "busybox-user")


def make_room(kind):
    return Room(busybox=kind.startswith("busybox"),
                user=1000 if kind.endswith("user") else None)


@pytest.fixture(params=quick_if(KINDS, "gnu", "user", "busybox"))
def kind_room(request):
    with make_room(request.param) as room:
        yield room


# -- the table: what stands there before, and the call ------------------------------


def opened(path, flags, *steps, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        return [step(fd) for step in steps]
    finally:
        os.close(fd)


def write(data=b"new bytes", offset=None):
    if offset is None:
        return lambda fd: os.write(fd, data)
    return lambda fd: os.pwrite(fd, data, offset)


def through_a_mapping(fd):
    with mmap.mmap(fd, 3) as pages:
        pages[0:3] = b"xyz"
        pages.flush()


RW, NEW = os.O_RDWR, os.O_RDWR | os.O_CREAT
EXCL = NEW | os.O_EXCL
TRUNC = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

CALLS = {
    # making
    "creat": lambda: opened("new", EXCL),
    "creat and write": lambda: opened("new", EXCL, write()),
    "creat like a lock": lambda: opened("new.lock", EXCL),
    "creat 0400": lambda: opened("new", EXCL, write(), mode=0o400),
    "creat 0777": lambda: opened("new", EXCL, write(), mode=0o777),
    "creat 04711": lambda: opened("new", EXCL, mode=0o4711),
    "creat 02755": lambda: opened("new", EXCL, mode=0o2755),
    "creat in a setgid directory": lambda: opened("g/new", EXCL, write()),
    "creat 02755 in a setgid directory":
        lambda: opened("g/new", EXCL, mode=0o2755),
    "creat again": lambda: opened("f", EXCL),
    "mkdir": lambda: os.mkdir("new"),
    "mkdir 01777": lambda: os.mkdir("new", 0o1777),
    "mkdir 02777": lambda: os.mkdir("new", 0o2777),
    "mkdir in a setgid directory": lambda: os.mkdir("g/new"),
    "mkdir 01777 in a setgid directory": lambda: os.mkdir("g/new", 0o1777),
    "mkdir again": lambda: os.mkdir("d"),
    "symlink": lambda: os.symlink("f", "new"),
    "symlink in a setgid directory": lambda: os.symlink("f", "g/new"),
    "link": lambda: os.link("f", "new"),
    "link over": lambda: os.link("f", "e"),
    "mkfifo": lambda: os.mkfifo("new"),
    "mkfifo 0777": lambda: os.mkfifo("new", 0o777),
    # removing
    "unlink": lambda: os.unlink("f"),
    "unlink one of two": lambda: os.unlink("two"),
    "unlink a directory": lambda: os.unlink("d"),
    "unlink none": lambda: os.unlink("none"),
    "unlink a link": lambda: os.unlink("l"),
    "rmdir": lambda: os.rmdir("d"),
    "rmdir a full one": lambda: os.rmdir("s"),
    "rmdir a file": lambda: os.rmdir("f"),
    "creat and unlink": lambda: (opened("new", EXCL), os.unlink("new")),
    # moving
    "rename": lambda: os.rename("f", "new"),
    "rename over": lambda: os.rename("f", "e"),
    "rename over one of two": lambda: os.rename("f", "two"),
    "rename to itself": lambda: os.rename("f", "f"),
    "rename to another name of it": lambda: os.rename("one", "two"),
    "rename elsewhere": lambda: os.rename("f", "d/new"),
    "rename a directory": lambda: os.rename("d", "new"),
    "rename a directory elsewhere": lambda: os.rename("d", "s/new"),
    "rename over a full one": lambda: os.rename("d", "s"),
    "rename into itself": lambda: os.rename("s", "s/new"),
    "rename but not over": lambda: renameat2("f", "e", 1),
    "rename to a free name": lambda: renameat2("f", "new", 1),
    # bytes
    "write": lambda: opened("f", RW, write()),
    "write much": lambda: opened("f", RW, write(noise(300_000))),
    "creat and write much": lambda: opened("new", EXCL, write(noise(300_000))),
    "write, fsync": lambda: opened("f", RW, write(), os.fsync),
    "creat, write, fsync": lambda: opened("new", EXCL, write(), os.fsync),
    "write nothing": lambda: opened("f", RW, write(b"")),
    "write what is there": lambda: opened("f", RW, write(b"old")),
    "append": lambda: opened("f", RW | os.O_APPEND, write()),
    "write behind the end": lambda: opened("f", RW, write(offset=9000)),
    "O_TRUNC": lambda: opened("f", TRUNC),
    "O_TRUNC and write": lambda: opened("f", TRUNC, write()),
    "O_TRUNC of an empty one": lambda: opened("e", TRUNC),
    "truncate": lambda: os.truncate("f", 1),
    "truncate longer": lambda: os.truncate("f", 5000),
    "truncate to the size it has": lambda: os.truncate("f", 3),
    "truncate an empty one": lambda: os.truncate("e", 0),
    "truncate a directory": lambda: os.truncate("d", 1),
    "ftruncate": lambda: opened("f", RW, lambda fd: os.ftruncate(fd, 1)),
    "ftruncate to the size it has":
        lambda: opened("f", RW, lambda fd: os.ftruncate(fd, 3)),
    "fallocate": lambda: opened("f", RW, lambda fd: fallocate(fd, 0, 0, 9000)),
    "a mapping": lambda: opened("f", RW, through_a_mapping),
    "write to one of two": lambda: opened("two", RW, write()),
    # attributes
    "chmod": lambda: os.chmod("f", 0o640),
    "chmod to what it is": lambda: os.chmod("f", 0o644),
    "chmod 06755": lambda: os.chmod("f", 0o6755),
    "chmod 06755 and write":
        lambda: (os.chmod("f", 0o6755), opened("f", RW, write())),
    "chmod 06755 and truncate":
        lambda: (os.chmod("f", 0o6755), os.truncate("f", 1)),
    "chmod 06755 and chown":
        lambda: (os.chmod("f", 0o6755), os.chown("f", os.geteuid(), -1)),
    "chmod a directory": lambda: os.chmod("d", 0o1700),
    "chmod a directory 02700": lambda: os.chmod("d", 0o2700),
    "chmod a setgid directory": lambda: os.chmod("g", 0o700),
    "chown to itself": lambda: os.chown("f", os.geteuid(), os.getegid()),
    "chown nothing": lambda: os.chown("f", -1, -1),
    "lchown": lambda: os.lchown("l", os.geteuid(), -1),
    "utimens": lambda: utimensat("f", (OLD + 5, 0), (OLD + 7, 0)),
    "utimens now": lambda: utimensat("f", UTIME_NOW, UTIME_NOW),
    "utimens of atime": lambda: utimensat("f", (OLD + 5, 0), UTIME_OMIT),
    "utimens of nothing": lambda: utimensat("f", UTIME_OMIT, UTIME_OMIT),
    "utimens of a directory": lambda: utimensat(
        "d", (OLD + 5, 0), (OLD + 7, 0)),
    "utimens of a link": lambda: utimensat(
        "l", (OLD + 5, 0), (OLD + 7, 0), 0x100),
    "utimens before 1970": lambda: utimensat("f", (-5, 0), (-7, 0)),
    "utimens after 2038": lambda: utimensat("f", (2**31, 0), (2**31 + 7, 0)),
    # several on one descriptor
    "write, then futimens": lambda: opened(
        "f", RW, write(), lambda fd: os.utime(fd, (OLD + 5, OLD + 7))),
    "futimens, then write": lambda: opened(
        "f", RW, lambda fd: os.utime(fd, (OLD + 5, OLD + 7)), write()),
    "futimens, then ftruncate": lambda: opened(
        "f", RW, lambda fd: os.utime(fd, (OLD + 5, OLD + 7)),
        lambda fd: os.ftruncate(fd, 3)),
    "write, futimens, write": lambda: opened(
        "f", RW, write(), lambda fd: os.utime(fd, (OLD + 5, OLD + 7)),
        write()),
    "write, then fchmod": lambda: opened(
        "f", RW, write(), lambda fd: os.fchmod(fd, 0o640)),
    "creat, futimens, write": lambda: opened(
        "new", EXCL, lambda fd: os.utime(fd, (OLD + 5, OLD + 7)), write()),
    "creat, write, futimens": lambda: opened(
        "new", EXCL, write(), lambda fd: os.utime(fd, (OLD + 5, OLD + 7))),
    # removed, but open
    "removed: write": lambda: removed(write()),
    "removed: fchmod": lambda: removed(lambda fd: os.fchmod(fd, 0o611)),
    "removed: fchown": lambda: removed(
        lambda fd: os.fchown(fd, os.geteuid(), os.getegid())),
    "removed: futimens": lambda: removed(
        lambda fd: os.utime(fd, (OLD + 5, OLD + 7))),
    "removed: ftruncate": lambda: removed(lambda fd: os.ftruncate(fd, 1)),
    "replaced: fchmod": lambda: removed(
        lambda fd: os.fchmod(fd, 0o611), lambda: os.rename("e", "f")),
}

# Where the local file system does otherwise: by whom, and why.
ANYWHERE = {
    # The kernel does not say that to a FUSE file system.
    "chown nothing": ("f",),
    # Which tmpfs does not take for a change.
    "truncate an empty one": ("e",),
}


def removed(step, remove=lambda: os.unlink("f")):
    """What an open file has, before and after a step, once it has no name."""
    fd = os.open("f", RW)
    try:
        remove()
        before = os.fstat(fd)
        tick(".")
        step(fd)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    return (oct(after.st_mode), after.st_nlink, after.st_size,
            after.st_mtime_ns != before.st_mtime_ns,
            after.st_ctime_ns != before.st_ctime_ns)


NAMES = (".", "f", "e", "d", "g", "s", "l", "one", "two", "new", "new.lock",
         "d/new", "g/new", "s/new")


def prepare(top, uid):
    """What each call finds, all of that user's."""
    os.mkdir(top)
    for name, data in (("f", b"old"), ("e", b""), ("one", b"twice")):
        with open(f"{top}/{name}", "wb") as f:
            f.write(data)
        os.chmod(f"{top}/{name}", 0o644)
    os.link(f"{top}/one", f"{top}/two")
    os.symlink("f", f"{top}/l")
    for name, mode in (("d", 0o755), ("g", 0o2777), ("s", 0o755)):
        os.mkdir(f"{top}/{name}")
        os.chmod(f"{top}/{name}", mode)
    os.mkdir(f"{top}/s/full")
    for name in NAMES[:9]:
        os.chown(f"{top}/{name}", uid, uid, follow_symlinks=False)
        if name == "g":
            os.chmod(f"{top}/{name}", 0o2777)
        os.utime(f"{top}/{name}", (OLD - 3, OLD), follow_symlinks=False)


def tick(where, until=0):
    """Until the file system's clock has gone on, and past a time."""
    def now():
        with tempfile.TemporaryFile(dir="/dev/shm") as f:
            return os.fstat(f.fileno()).st_ctime_ns
    begin = max(now(), until)
    wait_until(lambda: now() > begin, 10, "the clock")


def look():
    found = {}
    for name in NAMES:
        try:
            found[name] = os.lstat(name)
        except FileNotFoundError:
            pass
    return found


def moved(before, after, name):
    """The row of one name in the table."""
    row = [stat.filemode(after.st_mode), after.st_nlink,
           "directory" if stat.S_ISDIR(after.st_mode) else after.st_size]
    if before is None:
        # Of what is new: all times are of today.
        return row + [f for f in ("mtime", "ctime")
                      if getattr(after, f"st_{f}_ns") > 1.7e18]
    for field in ("mtime", "ctime"):
        if getattr(after, f"st_{field}_ns") != \
                getattr(before, f"st_{field}_ns"):
            row.append(field)
    return row


def observe(top, call):
    """What a call returns or fails with, and what it changes."""
    os.umask(0o022)
    os.chdir(top)
    before = look()
    tick(".", max(st.st_ctime_ns for st in before.values()))
    try:
        result = call()
    except OSError as e:
        result = os.strerror(e.errno)
    after = look()
    rows = {name: moved(before.get(name), st, name)
            for name, st in after.items()}
    return repr(result), rows, after


def as_user(uid, func, *args):
    if uid != 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    return func(*args)


def local_rows(top, uid):
    """The table, on a local directory."""
    rows = {}
    for i, (name, call) in enumerate(CALLS.items()):
        where = f"{top}/{i}"
        prepare(where, uid)
        rows[name] = do(as_user, uid, observe, where, call)
    return rows


def no_matter(name, what):
    return what in ANYWHERE.get(name, ())


def test_each_call_as_on_a_local_file_system(kind_room):
    """A14, W13, W14: errno, attributes and which times move, of everything that a
    call may touch; and all of it is what the room has, as soon as the call is
    over."""
    room = kind_room
    uid = room.opts.get("user") or 0
    wrong = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as local:
        os.chmod(local, 0o755)
        want = local_rows(local, uid)
    for i in range(len(CALLS)):
        prepare(host(room, str(i)), uid)
    with Mount(room, path="/workspace") as m:
        for i, (name, call) in enumerate(CALLS.items()):
            result, rows, seen = do(observe, m(str(i)), call, timeout=60)
            if result != want[name][0]:
                wrong.append((name, "result", result, want[name][0]))
            for path in sorted(set(rows) | set(want[name][1])):
                here, there = rows.get(path), want[name][1].get(path)
                if here != there and not no_matter(name, path):
                    wrong.append((name, path, here, there))
            wrong += compare_with_room(name, host(room, str(i)), seen)
    assert not wrong, "\n" + "\n".join(map(str, wrong[:60]))


def compare_with_room(name, top, seen):
    """Mode, size, links, owner, number and mtime are the room's own; ctime is
    if nobody was told another."""
    wrong = []
    for path, st in seen.items():
        real = os.lstat(os.path.join(top, path))
        for field in ("mode", "size", "nlink", "ino", "mtime_ns"):
            here, there = (getattr(x, "st_" + field) for x in (st, real))
            if field == "size" and stat.S_ISDIR(real.st_mode):
                continue
            # What came and went here, or was staged there, moved it.
            if field == "mtime_ns" and stat.S_ISDIR(real.st_mode):
                continue
            if here != there:
                wrong.append((name, path, field, here, there))
    return wrong


# -- what was told --------------------------------------------------------------------

SEEN = ("mode", "nlink", "uid", "gid", "size", "ino", "mtime_ns", "ctime_ns")

TOLD = {
    "creat": ("new", EXCL, []),
    "creat and write": ("new", EXCL, [write()]),
    "creat and write much": ("new", EXCL, [write(noise(300_000))]),
    "creat 0400": ("new", EXCL, [write()], 0o400),
    "creat, write twice": ("new", EXCL, [write(), write()]),
    "creat, fsync": ("new", EXCL, [write(), os.fsync]),
    "creat, fsync, write": ("new", EXCL, [write(), os.fsync, write()]),
    "creat in a setgid directory": ("g/new", EXCL, [write()]),
    "creat 02755 in a setgid directory": ("g/new", EXCL, [], 0o2755),
    "creat like a lock": ("new.lock", EXCL, [write()]),
    "O_TRUNC": ("f", TRUNC, []),
    "O_TRUNC and write": ("f", TRUNC, [write()]),
    "write": ("f", RW, [write()]),
    "write much": ("f", RW, [write(noise(300_000))]),
    "append": ("f", RW | os.O_APPEND, [write()]),
    "write to one of two": ("two", RW, [write()]),
    "ftruncate": ("f", RW, [lambda fd: os.ftruncate(fd, 1)]),
    "ftruncate longer": ("f", RW, [lambda fd: os.ftruncate(fd, 7000)]),
    "ftruncate to the size it has": ("f", RW, [
        lambda fd: os.ftruncate(fd, 3)]),
    "a mapping": ("f", RW, [through_a_mapping]),
    "fchmod": ("f", RW, [lambda fd: os.fchmod(fd, 0o600)]),
    "write, fchmod": ("f", RW, [write(), lambda fd: os.fchmod(fd, 0o600)]),
    "write, fchown": ("f", RW, [
        write(), lambda fd: os.fchown(fd, os.geteuid(), os.getegid())]),
    "write, futimens": ("f", RW, [
        write(), lambda fd: os.utime(fd, ns=(OLD * 10**9 + 5, 10**18 + 7))]),
    "write, futimens now": ("f", RW, [write(), os.utime]),
    "futimens, write": ("f", RW, [
        lambda fd: os.utime(fd, (OLD + 5, OLD + 7)), write()]),
    "creat, write, futimens": ("new", EXCL, [
        write(), lambda fd: os.utime(fd, ns=(10**18 + 5, 10**18 + 7))]),
    "creat, write, futimens before 1970": ("new", EXCL, [
        write(), lambda fd: os.utime(fd, ns=(-5, -10**9 - 7))]),
    "creat, write, futimens after 2262": ("new", EXCL, [
        write(), lambda fd: os.utime(fd, (9999999999, 10000000001))]),
}


def told(top, name, flags, steps, mode=0o644):
    """What fstat of an open file and stat of its directory say after each
    step, and what stat says of them once it is closed."""
    os.umask(0o022)
    path = os.path.join(top, name)
    where = os.path.dirname(path)
    fd = os.open(path, flags, mode)
    try:
        os.fstat(fd)
        for step in steps:
            step(fd)
            before = os.fstat(fd), os.stat(where)
        before = os.fstat(fd), os.stat(where)
    finally:
        os.close(fd)
    return before, (os.lstat(path), os.stat(where))


def other(name, when, before, after):
    return [(name, when, what, field, getattr(a, "st_" + field),
             getattr(b, "st_" + field))
            for what, a, b in zip(("file", "directory"), before, after)
            for field in SEEN
            # How long a directory's list is, is its file system's own.
            if (what, field) != ("directory", "size") and getattr(a, "st_" + field) != getattr(b, "st_" + field)]


def test_what_was_told_stays_true(kind_room):
    """A15: what fstat says of an open file after the last call, and stat of its
    directory, is what they have when it is closed, and when the room was asked
    again; the mtime is set in the room."""
    room, wrong = kind_room, []
    uid = room.opts.get("user") or 0
    for i in range(len(TOLD)):
        prepare(host(room, str(i)), uid)
    with Mount(room, path="/workspace") as m:
        before = {}
        for i, (name, case) in enumerate(TOLD.items()):
            before[name], after = do(told, m(str(i)), *case)
            wrong += other(name, "closed", before[name], after)
        m.exec("", "true")
        for i, (name, case) in enumerate(TOLD.items()):
            path = os.path.join(str(i), case[0])
            after = m.lstat(path), m.lstat(os.path.dirname(path))
            wrong += other(name, "asked again", before[name], after)
            real = os.lstat(host(room, path))
            if real.st_mtime_ns != after[0].st_mtime_ns:
                wrong.append((name, "mtime in the room", real.st_mtime_ns,
                              after[0].st_mtime_ns))
    assert not wrong, "\n" + "\n".join(map(str, wrong[:60]))


def test_a_change_after_it_shows(room):
    """A15: what somebody else does then is not hidden by what was told."""
    prepare(host(room, "d"), 0)
    with Mount(room, path="/workspace") as m:
        before, _ = do(told, m("d"), "new", EXCL, [write()])
        again = do(os.lstat, m("d/new"))
        assert again.st_ctime_ns == before[0].st_ctime_ns
        room.run("cd /workspace/d && chmod 640 new && : >other")
        real, top = (os.lstat(host(room, *p)) for p in (["d/new"], ["d"]))
        m.process.send_signal(signal.SIGHUP)
        wait_until(lambda: m.lstat("d/new").st_ctime_ns == real.st_ctime_ns)
        assert m.lstat("d/new").st_mtime_ns == before[0].st_mtime_ns
        assert m.lstat("d").st_mtime_ns == top.st_mtime_ns
        room.run("echo more >>/workspace/d/new")
        real = os.lstat(host(room, "d/new"))
        m.process.send_signal(signal.SIGHUP)
        wait_until(lambda: m.lstat("d/new").st_mtime_ns == real.st_mtime_ns)


def test_nobody_told_no_times_set(room):
    """A15, A1: a file that nobody looked at while it was written has the room's
    own times, and number."""
    with Mount(room, path="/workspace") as m:
        m.sh("echo new >a; cp a b; cat b >c; mv c d; printf x >>a")
        do(save, m("e"), b"by a program")
        for name in "abde":
            real, seen = os.lstat(host(room, name)), m.lstat(name)
            for field in ("ino", "mtime_ns", "ctime_ns"):
                assert getattr(seen, "st_" + field) == \
                    getattr(real, "st_" + field), (name, field)


GIT = """
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
git config --global user.email a@b.c; git config --global user.name A
git config --global init.defaultBranch main
git config --global gc.auto 0
set -e
mkdir r; cd r; git init -q
for i in 1 2 3 4 5 6; do echo "line $i" >f$i; done
git add .; git commit -qm one
for round in 1 2; do
    git checkout -qb other$round
    echo "other $round" >>f1; echo "$round" >new$round; git add .
    git commit -qm other$round
    git checkout -q main
    echo "main $round" >>f6; git commit -qam main$round
    git checkout -q other$round
    git rebase -q main
    git checkout -q main
    git cherry-pick other$round >/dev/null
    git reset -q --hard HEAD~1
    git merge -q --no-edit other$round
    echo dirty >>f2
    git stash -q
    git checkout -q other$round
    git checkout -q main
    git stash pop -q
    git checkout -q f2
    git diff-files --quiet
done
git diff-index --quiet HEAD
test -z "$(git status --porcelain)"
git fsck 2>&1
"""


def test_git_goes_on_in_a_row(kind_room):
    """A15: git notes what fstat says, and takes a file for modified that has
    other times or another number later: checkout, rebase, cherry-pick, merge
    and stash one after another."""
    with Mount(kind_room, path="/workspace") as m:
        done = m.sh(GIT, timeout=140, ok=False)
        assert done.status == 0, done


# -- what is only believed ------------------------------------------------------------


def test_what_is_asked_for_is_done_whatever_is_known(room):
    """W11: mode, owner and length that a file seems to have already are set
    all the same; the room may have others by now."""
    for name in "abc":
        with open(host(room, name), "wb") as f:
            f.write(b"0123456789")
        os.chmod(host(room, name), 0o644)
    with Mount(room, "cache_timeout=600", path="/workspace") as m:
        assert m.ls() == ["a", "b", "c"]
        os.chmod(host(room, "a"), 0o600)
        os.chown(host(room, "b"), 1234, 1234)
        with open(host(room, "c"), "ab") as f:
            f.write(b"more")
        do(os.chmod, m("a"), 0o644)
        do(os.chown, m("b"), 0, 0)
        do(os.truncate, m("c"), 10)
        a, b, c = (os.lstat(host(room, n)) for n in "abc")
        assert stat.S_IMODE(a.st_mode) == 0o644
        assert (b.st_uid, b.st_gid) == (0, 0)
        assert c.st_size == 10
        assert m.read("c") == b"0123456789"

        def by_descriptor(path):
            fd = os.open(path, RW)
            os.ftruncate(fd, 10)
            os.close(fd)

        with open(host(room, "c"), "ab") as f:
            f.write(b"more")
        do(by_descriptor, m("c"))
        assert os.lstat(host(room, "c")).st_size == 10


def kept(m, path):
    st = m.lstat(path)
    return (st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino,
            m.read(path))


def test_a_length_that_the_room_refuses_leaves_no_trace():
    """W12: the error is the room's own, and size, times and contents are what
    they were; of several kinds of truncate."""
    with Room(user=1000) as room:
        with open(host(room, "f"), "wb") as f:
            f.write(b"0123456789")
        os.chmod(host(room, "f"), 0o666)  # root's
        with Mount(room, "cache_timeout=600", path="/workspace") as m:
            before = kept(m, "f")
            os.chmod(host(room, "f"), 0o644)
            for size in (3, 0, 5000):
                raises(errno.EACCES, os.truncate, m("f"), size)
                now = kept(m, "f")
                # The chmod by somebody else shows, no more.
                assert now[:2] + now[3:] == before[:2] + before[3:], size
            assert do(os.lstat, m("f")).st_ctime_ns == \
                os.lstat(host(room, "f")).st_ctime_ns


def limited():
    """A directory whose file system has no files of 16 TiB."""
    for top in ("/var/tmp", "/tmp", os.path.expanduser("~")):
        with tempfile.NamedTemporaryFile(dir=top) as f:
            try:
                os.truncate(f.name, 1 << 44)
            except OSError as e:
                if e.errno == errno.EFBIG:
                    return tempfile.TemporaryDirectory(dir=top)
    pytest.skip("every file system here has files of 16 TiB")
    return None


def test_a_file_too_large_is_refused_at_once(request):
    """W12: EFBIG, from truncate and from ftruncate of old and new files."""
    def by_descriptor(path, flags, data=b""):
        fd = os.open(path, flags, 0o644)
        try:
            os.write(fd, data)
            try:
                os.ftruncate(fd, 1 << 44)
            except OSError as e:
                return e.errno, os.fstat(fd).st_size
            return None
        finally:
            os.close(fd)

    with limited() as top, Room(dir=top) as room:
        os.makedirs(f"{top}/workspace", exist_ok=True)
        with open(f"{top}/workspace/f", "wb") as f:
            f.write(b"0123456789")
        with Mount(room, path="/workspace") as m:
            before = kept(m, "f")
            raises(errno.EFBIG, os.truncate, m("f"), 1 << 44)
            assert kept(m, "f") == before
            assert do(by_descriptor, m("f"), RW) == (errno.EFBIG, 10)
            assert kept(m, "f") == before
            assert do(by_descriptor, m("new"), EXCL, b"abc") == \
                (errno.EFBIG, 3)
            assert m.read("new") == b"abc"
            assert os.path.getsize(f"{top}/workspace/new") == 3


def test_what_the_room_would_refuse_is_refused_before_it_is_sent():
    """W14: another owner's mode, owner and times, of a file with unsent bytes;
    and its bytes arrive all the same."""
    def run(path):
        fd = os.open(path, RW)
        try:
            os.write(fd, b"new")
            got = [outcome(os.fchmod, fd, 0o600),
                   outcome(os.fchown, fd, 1000, -1),
                   outcome(os.utime, fd, (5, 5)),
                   outcome(os.utime, fd)]
            os.fstat(fd)
        finally:
            os.close(fd)
        return got, os.lstat(path)

    with Room(user=1000) as room:
        for name, uid, mode in (("root's", 0, 0o666), ("mine", 1000, 0o644)):
            with open(host(room, name), "wb") as f:
                f.write(b"old")
            os.chmod(host(room, name), mode)
            os.chown(host(room, name), uid, uid)
        with Mount(room, "idmap=none", path="/workspace") as m:
            got, seen = do(run, m("root's"))
            assert got == [errno.EPERM] * 3 + [None]
            real = os.lstat(host(room, "root's"))
            assert (seen.st_mode, seen.st_uid) == (real.st_mode, real.st_uid)
            assert m.read("root's") == b"new"
            got = do(lambda p: outcome(opened, p, RW, write(), lambda fd:
                     os.fchown(fd, 1001, -1)), m("mine"))
            assert got == errno.EPERM
            assert do(lambda p: outcome(opened, p, RW, write(), lambda fd:
                      os.fchown(fd, -1, 4242)), m("mine")) == errno.EPERM
            assert os.lstat(host(room, "mine")).st_uid == 1000


FAR = (9999999999, 10000000000, 9223372036, 9223372037, -9223372037,
       2**34 - 2**31 - 1, -(2**31), -1, -5, 0, 2**31, 2**32)


def test_times_of_every_age(kind_room):
    """A16: what a file system keeps of a time, and no other, is shown; by
    itself, and of what was told before it was sent."""
    room = kind_room
    uid = room.opts.get("user") or 0

    def local(path, t):
        os.utime(path, (t, t))
        return os.lstat(path).st_mtime

    for i in range(len(FAR)):
        for name in (f"r{i}", f"m{i}"):
            with open(host(room, name), "w"):
                pass
            os.chown(host(room, name), uid, uid)
    wanted = [local(host(room, f"r{i}"), t) for i, t in enumerate(FAR)]
    with Mount(room, path="/workspace") as m:
        for i, (t, want) in enumerate(zip(FAR, wanted)):
            assert m.lstat(f"r{i}").st_mtime == want, t
            do(os.utime, m(f"m{i}"), (t, t))
            real = os.lstat(host(room, f"m{i}")).st_mtime
            # Of that second busybox can't be told.
            assert real == want or (room.busybox and t == -1), (t, real)
            assert m.lstat(f"m{i}").st_mtime == real
            before, after = do(told, m.dir, f"n{i}", EXCL, [
                write(), lambda fd, t=t: os.utime(fd, (t, t))])
            assert not other(t, "closed", before, after)
            assert after[0].st_mtime == \
                os.lstat(host(room, f"n{i}")).st_mtime


def test_a_file_of_after_2262_is_saved_in_part(room):
    """A16, W2: the fraction of its time is not known."""
    data = bytearray(noise(200_000))
    with open(host(room, "f"), "wb") as f:
        f.write(data)
    os.utime(host(room, "f"), ns=(0, 9999999999_123456789))
    with Mount(room, path="/workspace") as m:
        assert m.lstat("f").st_mtime == 9999999999
        do(opened, m("f"), RW, write(b"here", 1000))
        data[1000:1004] = b"here"
        assert read_file(host(room, "f")) == data
        assert m.read("f") == data


def test_a_shell_writes_with_one_request_whatever_number_a_file_has(room):
    """A17: it opens, duplicates and closes before it writes, which is seen by
    the number that the kernel has of the file."""
    with Mount(room, path="/workspace") as m:
        m.ls()
        m.sh("echo new >f")
        for look in (":", ":", "stat f", "stat f; ls -l", ":"):
            m.forget()
            m.sh(f"echo again >f; {look}")
            assert m.count()["total"] == 1, look


def test_numbers_of_new_files(room):
    """A17: a new file has the room's number when it is closed; one that was
    told before, after the last write, it keeps; and so does a file that is
    open, whatever is done to it."""
    def ino(path):
        return os.lstat(path).st_ino

    def while_open(path):
        fd = os.open(path, EXCL)
        first = os.fstat(fd).st_ino
        os.write(fd, b"x")
        os.fsync(fd)
        again = os.fstat(fd).st_ino, ino(path)
        os.write(fd, b"y")
        other = os.open(path, os.O_RDONLY)
        os.close(fd)
        last = os.fstat(other).st_ino, ino(path)
        os.close(other)
        return {first, *again, *last}

    with Mount(room, path="/workspace") as m:
        m.sh("echo a >a; cp a b; printf x | tee c; mv c d; ln d e; "
             "python3 -c 'open(\"p\", \"w\").write(\"x\")'")
        for name in "abdep":
            assert do(ino, m(name)) == ino(host(room, name)), name
        before, after = do(told, m.dir, "t", EXCL, [write()])
        number = before[0].st_ino
        assert number == after[0].st_ino
        do(os.rename, m("t"), m("u"))
        do(os.chmod, m("u"), 0o600)
        do(os.link, m("u"), m("v"))
        assert do(ino, m("u")) == do(ino, m("v")) == number
        m.exec("", "true")
        assert do(ino, m("u")) == number
        assert len(do(while_open, m("w"))) == 1
