"""Rights: who opened a file may go on, whatever its mode says since; who is not
the mounting user is refused, wherever he comes from; access(2) says what
opening would; and what is refused has left nothing."""

import errno
import os
import stat
import tempfile

import pytest

from helpers_write import W, host, no_leftovers, noise, outcome, room_bytes
from mountlib import MIB, Mount, Room, do, put, raises, sh, wait_until
from test_tools import need

USER = 1000
STRANGER = 4321


@pytest.fixture(params=["gnu", "busybox"])
def user_m(request):
    """A room whose user is not root."""
    with Room(busybox=request.param == "busybox", user=USER) as room, \
            Mount(room) as m:
        yield m


def own(room, name, data=b"old", mode=0o644, owner=USER):
    path = put(room.workspace, name, data, mode)
    os.chown(path, owner, owner)
    return path


# -- the right is checked at open ------------------------------------------------


def made(path, mode, size):
    """Made with a mode that forbids what is done, and written again and
    again."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
    for i in range(3):
        os.pwrite(fd, noise(size, i), i * size)
        os.fsync(fd)
    os.ftruncate(fd, 2 * size + 1)
    os.fsync(fd)
    got = os.pread(fd, 3 * size, 0)
    os.close(fd)
    return got == noise(size, 0) + noise(size, 1) + noise(size, 2)[:1]


@pytest.mark.parametrize("size", [10, 150_000])
@pytest.mark.parametrize("mode", [0o444, 0o200, 0o000])
@pytest.mark.parametrize("name", ["f", "f.lock"])
def test_a_new_file_may_be_written_whatever_its_mode(
        user_m, name, mode, size):
    """W15"""
    assert do(made, user_m(W, name), mode, size)
    path = host(user_m.room, name)
    assert stat.S_IMODE(os.lstat(path).st_mode) == mode
    assert room_bytes(user_m.room, name) == \
        noise(size, 0) + noise(size, 1) + noise(size, 2)[:1]
    assert not no_leftovers(user_m.room)


def changed(path, how, mode, sizes, append):
    fd = os.open(path, os.O_RDWR | (os.O_APPEND if append else 0))
    if how == "fchmod":
        os.fchmod(fd, mode)
    for size in sizes:
        os.write(fd, noise(size, size))
        os.fsync(fd)
        if how == "chmod":
            os.chmod(path, mode)
    os.close(fd)
    return outcome(os.close, os.open(path, os.O_RDONLY)) \
        if mode & 0o400 else outcome(os.open, path, os.O_RDONLY)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("how", ["chmod", "fchmod"])
@pytest.mark.parametrize("mode", [0o400, 0o000])
def test_an_open_file_may_be_written_after_chmod(user_m, how, mode, append):
    """W15: and keeps inode and links; who opens it now may not."""
    room = user_m.room
    path = own(room, "f", b"old")
    os.link(path, host(room, "link"))
    ino = os.lstat(path).st_ino
    sizes = [10, 5000, 200_000]
    got = do(changed, user_m(W, "f"), how, mode, sizes, append)
    assert got == (None if mode else errno.EACCES)
    st = os.lstat(path)
    assert (st.st_ino, st.st_nlink) == (ino, 2)
    assert stat.S_IMODE(st.st_mode) == mode
    assert room_bytes(room, "f") == \
        b"old" * append + b"".join(noise(n, n) for n in sizes)
    raises(errno.EACCES, os.open, user_m(W, "f"), os.O_WRONLY)
    assert user_m.lstat(W, "f").st_mode == st.st_mode
    assert not no_leftovers(room)


def test_an_open_file_may_be_read_after_chmod(user_m):
    """W15: what is not here yet, too, and its mode stays."""
    room = user_m.room
    own(room, "f", noise(200_000))

    def run(path):
        fd = os.open(path, os.O_RDWR)
        os.fchmod(fd, 0o200)
        os.pwrite(fd, b"new", 5)
        return b"".join(iter(lambda: os.read(fd, MIB), b""))

    want = noise(200_000)[:5] + b"new" + noise(200_000)[8:]
    assert do(run, user_m(W, "f")) == want
    assert room_bytes(room, "f") == want
    assert stat.S_IMODE(os.lstat(host(room, "f")).st_mode) == 0o200


def test_a_command_s_chmod_counts_at_the_next_open(user_m):
    """W15, A6"""
    room = user_m.room
    own(room, "f")

    def run(top):
        fd = os.open(top + "/f", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"1")
        os.fsync(fd)
        with open(top + "/.exec", "w") as f:
            f.write("chmod 0400 f")
        os.write(fd, b"2")
        os.close(fd)
        return outcome(os.open, top + "/f", os.O_WRONLY)

    assert do(run, user_m(W)) == errno.EACCES
    assert room_bytes(room, "f") == b"old12"
    assert stat.S_IMODE(os.lstat(host(room, "f")).st_mode) == 0o400


def test_a_file_that_appears_meanwhile_is_not_overwritten(user_m):
    """W15: whoever makes a file read-only may write to it, not to another's of
    that name."""
    room = user_m.room
    user_m.ls(W)

    def run(path):
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o444)
        os.write(fd, b"new")
        own(room, "f", b"theirs", 0o444)
        return outcome(os.close, fd)

    assert do(run, user_m(W, "f")) == errno.EACCES
    assert room_bytes(room, "f") == b"theirs"


def test_copies_of_read_only_files(user_m):
    """W15: cp uses copy_file_range(2) into a file that it made read-only."""
    room = user_m.room
    sizes = {"a": 5000, "large": 3 * MIB}
    for name, size in sizes.items():
        own(room, name, noise(size, 1), 0o444)
    for name, size in sizes.items():
        user_m.sh(f'''cd workspace
            cp {name} {name}.cp && cp -a {name} {name}.cp-a &&
            install -m 0444 {name} {name}.install
            ''')
        for copy in "cp", "cp-a", "install":
            assert room_bytes(room, f"{name}.{copy}") == noise(size, 1)
            mode = os.lstat(host(room, f"{name}.{copy}")).st_mode
            assert stat.S_IMODE(mode) == 0o444
    assert not no_leftovers(room)


@need("git")
def test_git_in_a_room_of_another_user(user_m):
    """W15: git makes its objects, packs and the commit graph read-only."""
    done = user_m.sh(r"""
        cd workspace
        export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a \
            GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main repo && cd repo || exit
        for i in 1 2 3; do echo $i > f$i; git add f$i; git commit -qm $i
        done
        git gc -q && git commit-graph write --reachable && git fsck || exit
        cd .. && git clone -q repo clone && git -C clone log --oneline || exit
        cp -a repo copy && git -C copy status --short && git -C copy fsck &&
            git -C copy log --oneline
        """)
    assert len(done.text.splitlines()) == 6, done
    assert not no_leftovers(user_m.room)


# -- what is refused has left nothing ----------------------------------------------


def lose_a_name(top, how):
    """A large file, open and not read, loses its name; its bytes after it."""
    fd = os.open(top + "/f", os.O_RDONLY)
    if how == "unlink":
        os.unlink(top + "/f")
    else:
        os.rename(top + "/g", top + "/f")
    st = os.fstat(fd)
    parts = []
    while part := os.read(fd, MIB):
        parts.append(part)
    os.close(fd)
    return b"".join(parts), st.st_nlink


@pytest.mark.parametrize("raw", ["range", "off"])
@pytest.mark.parametrize("owner", [0, USER])
@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_an_open_file_loses_its_name(user_m, how, owner, raw):
    """W16: also when the VM's user must not link it (protected_hardlinks), and
    by whatever way it is read then."""
    room = user_m.room
    room.control(raw=raw)
    own(room, "f", noise(3 * MIB, 1), 0o644, owner)
    own(room, "g", b"new")
    user_m.ls(W)
    assert do(lose_a_name, user_m(W), how) == (noise(3 * MIB, 1), 0)
    if how == "rename":
        assert room_bytes(room, "f") == b"new"
    left = ["g"] if how == "unlink" else ["f"]
    assert user_m.ls(W) == left
    wait_until(lambda: sorted(os.listdir(room.workspace)) == left,
               what="the hidden file's end")


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_refused_change_of_an_open_file(user_m, how):
    """W16: it is there still, under its name, for all."""
    room = user_m.room
    own(room, "f", noise(3 * MIB, 1), 0o644, 0)
    own(room, "g", b"new", owner=0)
    os.chown(room.workspace, 0, 0)
    os.chmod(room.workspace, 0o1777)
    user_m.ls(W)

    def run(top):
        fd = os.open(top + "/f", os.O_RDONLY)
        error = outcome(os.unlink, top + "/f") if how == "unlink" else \
            outcome(os.rename, top + "/g", top + "/f")
        return error, len(os.read(fd, MIB)), os.fstat(fd).st_nlink

    assert do(run, user_m(W)) == (errno.EPERM, MIB, 1)
    assert user_m.ls(W) == sorted(os.listdir(room.workspace)) == ["f", "g"]
    assert room_bytes(room, "f") == noise(3 * MIB, 1)


def as_user(uid, func, *args):
    """In a child of this one, since a root process stays one in the end."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    return func(*args)


@pytest.mark.root_room
@pytest.mark.parametrize("what", ["mkdir", "mkfifo", "symlink", "lock"])
def test_who_made_it_first_keeps_it(what):
    """W17: EEXIST leaves the owner; what is new has its own."""
    def make(path):
        if what == "symlink":
            os.symlink("x", path)
        elif what == "lock":
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        else:
            getattr(os, what)(path)

    with Room() as room:
        os.chmod(room.workspace, 0o777)
        with Mount(room, "allow_other", "idmap=none",
                   "cache_timeout=60") as m:
            m.ls(W)
            make(host(room, "a.lock"))
            os.lchown(host(room, "a.lock"), 77, 77)
            for _ in range(2):
                with pytest.raises(FileExistsError):
                    do(as_user, STRANGER, make, m(W, "a.lock"))
                st = os.lstat(host(room, "a.lock"))
                assert (st.st_uid, st.st_gid) == (77, 77)
            m.forget()
            do(as_user, STRANGER, make, m(W, "b.lock"))
            assert m.count()["total"] == 1
            st = os.lstat(host(room, "b.lock"))
            assert (st.st_uid, st.st_gid) == (STRANGER, STRANGER)
            assert m.lstat(W, "b.lock").st_uid == STRANGER


# -- access(2) ---------------------------------------------------------------------


ACCESS = {"rwx": os.R_OK | os.W_OK | os.X_OK, "r": os.R_OK, "w": os.W_OK,
          "x": os.X_OK, "rw": os.R_OK | os.W_OK, "f": os.F_OK}


def answers(top, names):
    return {name: {a for a, mask in ACCESS.items()
                   if os.access(os.path.join(top, name), mask)}
            for name in names}


def test_access_says_what_opening_would(user_m):
    """A18: by the VM user's numbers, from what is known, at no request."""
    room = user_m.room
    for name, mode, owner in (
            ("own", 0o644, USER), ("prog", 0o755, USER), ("none", 0, USER),
            ("shut", 0o077, USER), ("theirs", 0o640, 0), ("all", 0o666, 0),
            ("their prog", 0o751, 0)):
        own(room, name, b"x", mode, owner)
    put(room.workspace, "group", b"x", 0o060)
    os.chown(host(room, "group"), 0, USER)
    os.mkdir(host(room, "d"))
    os.chmod(host(room, "d"), 0o755)
    names = os.listdir(room.workspace)
    # What the room's user can do with them, by its own shell.
    want = {n: {"f"} for n in names}
    for name in names:
        for a in "r", "w", "x", "rw", "rwx":
            test = " && ".join(f"test -{c} '/workspace/{name}'" for c in a)
            if room.run(test)["result"]["exit_code"] == 0:
                want[name].add(a)
    with Mount(room, "cache_timeout=600") as m:
        m.ls(W)
        m.forget()
        assert do(answers, m(W), names) == want
        done = m.sh("cd workspace; find . -executable | sort; "
                    "[ -x own ] || [ -w theirs ] || echo right")
        assert done.text == ".\n./d\n./prog\n./their prog\nright\n"
        assert m.count()["total"] == 0
        for name in names:
            got = do(opens, m(W, name))
            assert ("r" in want[name]) == got[0], name
            if name != "d":
                assert ("w" in want[name]) == got[1], name


def opens(path):
    """Can it be opened for reading, for writing?"""
    return [outcome(os.open, path, flags) is None
            for flags in (os.O_RDONLY, os.O_WRONLY)]


@pytest.mark.root_room
def test_access_of_root():
    """A18: root may all but run what nobody may."""
    with Room() as room:
        put(room.workspace, "f", b"x", 0)
        put(room.workspace, "p", b"x", 0o001)
        os.mkdir(host(room, "d"))
        os.chmod(host(room, "d"), 0)
        with Mount(room) as m:
            got = do(answers, m(W), ["f", "p", "d"])
            assert got == {"f": {"f", "r", "w", "rw"}, "p": set(ACCESS),
                           "d": set(ACCESS)}
            assert do(answers, m.dir, ["none", "proc/version"]) == {
                "none": set(), "proc/version": {"f", "r"}}
        with Mount(room, "ro") as m:
            assert do(answers, m(W), ["f", "d"]) == {
                "f": {"f", "r"}, "d": {"f", "r", "x"}}


def test_access_follows_changes(user_m):
    """A18"""
    room = user_m.room
    own(room, "f", b"x", 0o644)
    assert do(answers, user_m(W), ["f"])["f"] == {"f", "r", "w", "rw"}
    do(os.chmod, user_m(W, "f"), 0o500)
    assert do(answers, user_m(W), ["f"])["f"] == {"f", "r", "x"}
    user_m.exec(W, "chmod 200 f")
    assert do(answers, user_m(W), ["f"])["f"] == {"f", "w"}
    assert do(answers, user_m(W), [".exec", ".exec.json"]) == {
        ".exec": {"f", "r", "w", "rw"}, ".exec.json": {"f", "r", "w", "rw"}}


# -- callers from elsewhere --------------------------------------------------------


class Contained(Mount):
    """A driver in a pid namespace of its own, with /proc of another, as in a
    container; who is outside has pid 0 for it."""

    def command_line(self):
        return ["unshare", "--pid", "--fork", "--kill-child",
                *super().command_line()]


def refused(top):
    """What is for the mounting user alone."""
    exec_ = os.path.join(top, ".exec")
    return [outcome(os.open, exec_, os.O_WRONLY),
            outcome(os.open, exec_, os.O_RDONLY),
            outcome(os.open, exec_ + ".json", os.O_RDWR),
            outcome(os.open, os.path.join(top, "workspace/.exec"),
                    os.O_WRONLY | os.O_TRUNC),
            outcome(os.getxattr, top, "user.gentility.stats"),
            os.access(exec_, os.R_OK), os.access(exec_, os.W_OK)]


REFUSED = [errno.EACCES] * 5 + [False] * 2


@pytest.mark.parametrize("mount", [Mount, Contained])
def test_strangers_run_nothing(room, mount):
    """A19, E7: whatever is known of their process."""
    with mount(room, "allow_other") as m:
        assert do(as_user, STRANGER, refused, m.dir) == REFUSED
        # Root in a user namespace of his own is a stranger all the same.
        done = sh('setpriv --reuid "$2" --regid "$2" --clear-groups '
                  'unshare --user --map-root-user sh -c \'id -u; '
                  'echo touch /tmp/pwned > "$1/.exec" || cat "$1/.exec"\' '
                  'sh "$1"', m.dir, str(STRANGER), ok=False)
        if done.out:
            assert done.out == b"0\n" and b"Permission denied" in done.err
        assert not os.path.exists(os.path.join(room.tmp, "pwned"))
        assert os.listdir(room.workspace) == []


def test_the_mounting_user_outside_of_the_pid_namespace(room):
    """A19: runs commands, each once."""
    put(room.workspace, "f", b"x")
    with Contained(room) as m:
        assert b"hello\n--- exit 0" in m.exec(W, "echo hello")
        m.sh("""cd workspace; echo 'echo x >> ran' > .exec
             { echo 'echo y \\'; echo '>> ran'; } > .exec""")
        assert room_bytes(room, "ran") == b"x\ny\n"
        m.sh("cd workspace; cat f; cp f g; rm f")
        assert room_bytes(room, "g") == b"x"


@pytest.mark.root_room
def test_owners_by_callers_from_elsewhere(room):
    """A19: what is new belongs to the user that the kernel names."""
    os.chmod(room.workspace, 0o777)
    with Contained(room, "allow_other", "idmap=none") as m:
        do(as_user, STRANGER, os.mkdir, m(W, "d"))
        assert os.lstat(host(room, "d")).st_uid == STRANGER
        sh('setpriv --reuid "$2" --regid "$2" --clear-groups '
           'unshare --user --map-root-user mkdir "$1"', m(W, "e"),
           str(STRANGER), ok=False)
        if os.path.exists(host(room, "e")):
            assert os.lstat(host(room, "e")).st_uid == STRANGER


class InUserNamespace(Mount):
    """A driver that is root in a user namespace; its mount is seen from outside
    by way of /proc."""

    def command_line(self):
        return ["unshare", "--user", "--map-root-user", "--mount",
                *super().command_line()]

    def seen(self):
        return f"/proc/{self.pid}/root{self.dir}"


def test_nobody_gets_into_a_user_namespace_s_mount(room):
    """A19: the kernel keeps all out who are not in it, root too."""
    probe = sh("unshare --user --map-root-user --mount true", ok=False)
    if probe.status != 0:
        pytest.skip("no user namespaces here")
    with InUserNamespace(room, "allow_other", wait=False) as m:
        wait_until(lambda: b"mounted at" in m.stderr_bytes() or
                   m.process.poll() is not None, what="the mount")
        if m.process.poll() is not None:
            pytest.skip("no mounts in user namespaces here: " + m.stderr())
        for path in m.seen() + "/workspace", m.seen() + "/.exec":
            raises((errno.EACCES, errno.EPERM), os.stat, path)
        m.process.terminate()
        m.process.wait()


# -- what there is not ---------------------------------------------------------------


def test_unnamed_temporary_files_are_made_another_way(any_m):
    """A20: O_TMPFILE is refused as by file systems without it, and programs
    take a name."""
    raises(errno.EOPNOTSUPP, os.open, any_m(W), os.O_TMPFILE | os.O_RDWR)

    def run(top):
        with tempfile.TemporaryFile(dir=top) as f:
            f.write(b"bytes")
            f.seek(0)
            return f.read(), os.listdir(top)

    assert do(run, any_m(W)) == (b"bytes", [])
    wait_until(lambda: os.listdir(any_m.room.workspace) == [])
