"""Browsing: attributes, links, special files, permissions, and the tools that
people browse with.  The room's own tree, seen from the host, is the truth."""

import errno
import os
import signal
import socket
import stat

import pytest

from mountlib import (
    DEADLINE, Mount, Room, TEST_USER, do, pattern, put, raises, read_file, run,
    sh, tree, wait_until,
)


def fill(top):
    """A small tree with one of everything."""
    put(top, "plain", "some text\n")
    put(top, "script", "#!/bin/sh\necho hi\n", 0o755)
    put(top, "private", "mine\n", 0o600)
    put(top, "suid", "x", 0o4755)
    if not TEST_USER:  # who else could read it?
        put(top, "nomode", "x", 0o000)
    put(top, "empty")
    put(top, "binary", pattern(70000))
    put(top, "d/e/deep", "deep\n")
    os.mkdir(os.path.join(top, "sticky"))
    os.chmod(os.path.join(top, "sticky"), 0o1777)
    os.mkdir(os.path.join(top, "setgid"))
    os.chmod(os.path.join(top, "setgid"), 0o2755)
    os.mkdir(os.path.join(top, "vacant"))
    os.link(os.path.join(top, "plain"), os.path.join(top, "d/second"))
    os.link(os.path.join(top, "plain"), os.path.join(top, "third"))
    os.symlink("plain", os.path.join(top, "link"))
    os.symlink("d/e", os.path.join(top, "dirlink"))
    os.symlink("nowhere", os.path.join(top, "dangling"))
    os.mkfifo(os.path.join(top, "fifo"))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.join(top, "sock"))
    with open(os.path.join(top, "holes"), "wb") as f:
        f.truncate(5 << 20)
    for name, when in (
        ("plain", (1234567890123456789, 987654321987654321)),
        ("script", (1, 1)),
        ("empty", (0, 0)),
        ("private", (-1_000_000_001, -5_999_999_999)),
        ("binary", (4102444800000000009, 4102444800999999999)),
        ("d", (1600000000000000001, 1600000000000000010)),
    ):
        os.utime(os.path.join(top, name), ns=when)
    os.utime(os.path.join(top, "link"), ns=(17, 1500000000123456789),
             follow_symlinks=False)


@pytest.fixture
def full(any_room):
    fill(any_room.workspace)
    return any_room


FIELDS = ("st_mode", "st_size", "st_nlink", "st_ino", "st_mtime_ns",
          "st_ctime_ns", "st_blocks")


def test_attributes_are_those_of_the_room(full):
    """A1: mode, size, links, inode, times in ns and blocks of every kind of
    file, as lstat() in the room has them."""
    want = tree(full.workspace)
    with Mount(full, path="/workspace") as m:
        got = do(tree, m.dir)
    assert sorted(got) == sorted(want)
    for name, (st, extra) in want.items():
        for field in FIELDS:
            if field == "st_blocks" and stat.S_ISDIR(st.st_mode):
                continue
            assert getattr(got[name][0], field) == getattr(st, field), (
                name, field)
        if stat.S_ISLNK(st.st_mode):
            assert got[name][1] == extra, name


def test_access_time_is_that_of_the_room(full):
    """A1: also the access time; looking does not change it."""
    want = {n: st.st_atime_ns for n, (st, _) in tree(full.workspace).items()
            if stat.S_ISREG(st.st_mode)}
    with Mount(full) as m:
        got = do(tree, m("workspace"))
    assert {n: got[n][0].st_atime_ns for n in want} == want


def test_hard_links_share_an_inode(full):
    """A1: hard links have one inode number, and no other file has it."""
    with Mount(full) as m:
        got = do(tree, m("workspace"))
    inode = got[b"plain"][0].st_ino
    same = sorted(n for n, (st, _) in got.items() if st.st_ino == inode)
    assert same == [b"d/second", b"plain", b"third"]
    assert got[b"third"][0].st_nlink == 3


def test_inodes_of_several_file_systems_do_not_collide(any_room):
    """A1: the room's root and its /tmp are file systems of their own; two files
    with the same number there have different ones here."""
    host = any_room.root
    first = put(host, "first", "1")
    os.link(first, os.path.join(os.fsencode(host), b"first-again"))
    put(any_room.tmp, "second", "2")
    with Mount(any_room) as m:
        got = do(tree, m("tmp"))
        top = {n: m.lstat(n).st_ino for n in m.ls() if n != "proc"}
        assert top["first"] == top["first-again"]
        del top["first-again"]
        numbers = list(top.values()) + [st.st_ino for n, (st, _) in got.items()
                                        if n]
        assert len(set(numbers)) == len(numbers)


def test_stat_of_a_name_agrees_with_fstat_and_readdir(full):
    """A1: the inode number and type are the same however one asks."""
    def ask(top):
        found = []
        for e in os.scandir(top):
            st = os.lstat(e.path)
            found.append((e.name, e.inode() == st.st_ino,
                          e.is_dir(follow_symlinks=False)
                          == stat.S_ISDIR(st.st_mode),
                          e.is_symlink() == stat.S_ISLNK(st.st_mode)))
            if stat.S_ISREG(st.st_mode) and e.name != "nomode":
                with open(e.path, "rb") as f:
                    found.append(os.fstat(f.fileno()).st_ino == st.st_ino)
        return found

    with Mount(full) as m:
        for item in do(ask, m("workspace")):
            assert item is True or item[1:] == (True, True, True), item


def test_root_of_the_mount_is_the_root_of_the_vm(any_room):
    """A8: without PATH the mount's root is the room's /."""
    names = any_room.output("ls -A /").split()
    with Mount(any_room) as m:
        assert set(names) <= set(m.ls())
        assert set(m.ls()) - set(names) == {".exec"}


@pytest.mark.parametrize("path", ["/home/user/p q", "p q", "~/p q", "./p q/"])
def test_path_in_source_is_the_root(any_room, path):
    """A8: PATH is absolute, or relative to the VM's home, `~` too."""
    put(any_room.home, "p q/inside", "x")
    with Mount(any_room, path=path) as m:
        assert m.ls() == ["inside"]
        assert m.read("inside") == b"x"


def test_tilde_alone_is_the_home(any_room):
    """A8: `~` is the VM's home directory."""
    put(any_room.home, "here", "x")
    with Mount(any_room, path="~") as m:
        # The mount's own programs lie in the home's .cache.
        assert [n for n in m.ls() if n != ".cache"] == ["here"]


def test_sockets_and_fifos_are_shown(full):
    """A9: as what they are."""
    with Mount(full) as m:
        assert stat.S_ISFIFO(m.lstat("workspace/fifo").st_mode)
        assert stat.S_ISSOCK(m.lstat("workspace/sock").st_mode)
        assert stat.S_ISCHR(m.lstat("dev/null").st_mode)


def test_device_numbers_lead_to_no_local_device(any_room):
    """A9: a device of the room is not one of this machine: it can't be
    opened."""
    with Mount(any_room) as m:
        raises((errno.EACCES, errno.EPERM, errno.ENXIO), os.open,
               m("dev/null"), os.O_RDONLY)


# -- symbolic links ------------------------------------------------------------


def test_absolute_links_resolve_inside_the_mount(any_room):
    """A3"""
    put(any_room.tmp, "target", "of the room\n")
    put(any_room.tmp, "dir/x", "in dir\n")
    os.makedirs(any_room.workspace + "/a/b")
    os.symlink("/tmp/target", any_room.workspace + "/top")
    os.symlink("/tmp/target", any_room.workspace + "/a/b/low")
    os.symlink("/tmp/dir", any_room.workspace + "/a/todir")
    os.symlink("/", any_room.workspace + "/a/toroot")
    os.symlink("//tmp///target", any_room.workspace + "/slashes")
    with Mount(any_room) as m:
        for name in ("top", "a/b/low", "slashes"):
            assert m.read("workspace", name) == b"of the room\n", name
            text = os.readlink(os.path.join(any_room.workspace, name))
            assert do(os.readlink, m("workspace", name)) == m.dir + text
        assert m.read("workspace/a/todir/x") == b"in dir\n"
        assert m.read("workspace/a/toroot/tmp/target") == b"of the room\n"
        assert do(os.path.samefile, m("workspace/a/toroot"), m.dir)


def test_relative_links_are_left_as_they_are(any_room):
    """A3: a relative link that stays inside reads byte for byte."""
    os.makedirs(any_room.workspace + "/a/b")
    put(any_room.workspace, "x", "x")
    texts = [b"../../x", b"./../../x", b"..//..//x", b"x\xff\ny ",
             b"../b/../../x", b"-n"]
    for i, text in enumerate(texts):
        os.symlink(text, os.fsencode(any_room.workspace) + b"/a/b/%d" % i)
    with Mount(any_room) as m:
        for i, text in enumerate(texts):
            got = do(os.readlink, os.fsencode(m("workspace/a/b", str(i))))
            assert got == text
        assert m.read("workspace/a/b/0") == b"x"
        assert m.lstat("workspace/a/b/3").st_size == len(texts[3])


def test_links_never_lead_to_local_files(any_room, tmp_path):
    """A3: absolute, or relative with more `..` than there are directories: what
    is meant is in the room, never on this machine."""
    local = tmp_path / "only-here"
    local.write_text("local")
    climb = "../" * 40
    links = {"absolute": str(local), "climb": climb + str(local)[1:],
             "both": climb + "tmp/target"}
    put(any_room.tmp, "target", "of the room\n")
    os.mkdir(any_room.workspace + "/d")
    for name, text in links.items():
        os.symlink(text, any_room.workspace + "/d/" + name)
    with Mount(any_room) as m:
        for name in ("absolute", "climb"):
            raises(errno.ENOENT, read_file, m("workspace/d", name))
        assert m.read("workspace/d/both") == b"of the room\n"


def test_links_out_of_a_path_mount_never_lead_to_local_files(
        any_room, tmp_path):
    """A3: with PATH, links inside it resolve, and links out of it resolve to
    nothing, whether absolute or relative."""
    local = tmp_path / "only-here"
    local.write_text("local")
    put(any_room.home, "proj/sub/file", "inside\n")
    put(any_room.home, "outside", "outside\n")
    put(any_room.home, "project", "sibling\n")
    top = any_room.home + "/proj"
    links = {"in": "/home/user/proj/sub/file", "indir": "/home/user/proj/sub",
             "root": "/home/user/proj", "abs": str(local),
             "out": "/home/user/outside", "rel": "../outside",
             "prefix": "/home/user/project",
             "climb": "../" * 30 + str(local)[1:], "etc": "/etc/hostname",
             "dotdot": "/home/user/proj/../outside"}
    for name, text in links.items():
        os.symlink(text, top + "/" + name)
        os.symlink(text if text.startswith("/") else "../" + text,
                   top + "/sub/" + name)
    with Mount(any_room, path="proj") as m:
        for where in (".", "sub"):
            assert m.read(where, "in") == b"inside\n"
            assert m.read(where, "indir/file") == b"inside\n"
            assert m.read(where, "root/sub/file") == b"inside\n"
            for name in ("abs", "out", "rel", "climb", "etc", "prefix",
                         "dotdot"):
                try:
                    data = m.read(where, name)
                except OSError:
                    continue
                raise AssertionError((where, name, data))


def test_links_can_be_left_alone(any_room):
    """A3: no_transform_symlinks shows absolute links as they are."""
    os.symlink("/tmp/target", any_room.workspace + "/link")
    with Mount(any_room, "no_transform_symlinks") as m:
        assert do(os.readlink, m("workspace/link")) == "/tmp/target"


def test_size_of_a_link_is_the_length_of_its_text(any_room):
    """A3: st_size is the length of what readlink() gives."""
    os.symlink("/tmp/target", any_room.workspace + "/link")
    with Mount(any_room) as m:
        text = do(os.readlink, m("workspace/link"))
        assert m.lstat("workspace/link").st_size == len(text)


# -- owners and permissions ------------------------------------------------------


root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@root_only
@pytest.mark.plain_mount
def test_files_belong_to_the_mounting_user():
    """A7: the VM's own user is shown as the one who mounts; idmap=none shows
    the VM's numbers; uid=, gid= and umask= as in other file systems."""
    with Room(user=1234) as room:
        room.run("echo x > /home/user/f; chmod 664 /home/user/f")
        with Mount(room) as m:
            st = m.lstat("home/user/f")
            assert (st.st_uid, st.st_gid) == (os.getuid(), os.getgid())
        with Mount(room, "idmap=none") as m:
            st = m.lstat("home/user/f")
            assert (st.st_uid, st.st_gid) == (1234, 1234)
            assert m.lstat("etc/passwd").st_uid == 0
        with Mount(room, "uid=77", "gid=88", "umask=027") as m:
            st = m.lstat("home/user/f")
            assert (st.st_uid, st.st_gid) == (77, 88)
            assert stat.S_IMODE(st.st_mode) == 0o640


@root_only
@pytest.mark.parametrize("busybox", [False, True])
def test_what_the_vm_user_may_not_do_is_eacces(busybox):
    """A6: a directory or file that the VM's user may not read."""
    with Room(busybox=busybox, user=1234) as room:
        put(room.workspace, "closed/secret", "x", 0o644)
        put(room.workspace, "file", "x", 0o600)
        put(room.workspace, "noread/inside", "y", 0o644)
        put(room.workspace, "nosearch/inside", "z", 0o644)
        os.chmod(room.workspace + "/closed", 0o700)
        os.chmod(room.workspace + "/noread", 0o711)
        os.chmod(room.workspace + "/nosearch", 0o744)
        with Mount(room) as m:
            raises(errno.EACCES, os.listdir, m("workspace/closed"))
            raises(errno.EACCES, os.lstat, m("workspace/closed/secret"))
            raises(errno.EACCES, read_file, m("workspace/file"))
            raises(errno.EACCES, os.listdir, m("workspace/noread"))
            raises(errno.EACCES, read_file, m("workspace/nosearch/inside"))
            assert "closed" in m.ls("workspace")
            assert stat.S_IMODE(m.lstat("workspace/closed").st_mode) == 0o700
            # The rest goes on working.
            assert m.read("workspace/noread/inside") == b"y"


@root_only
def test_find_and_du_report_what_is_closed_and_go_on():
    """A6: only the closed directory is reported."""
    with Room(user=1234) as room:
        put(room.workspace, "a/f")
        put(room.workspace, "closed/f")
        put(room.workspace, "z/f")
        os.chmod(room.workspace + "/closed", 0o700)
        with Mount(room) as m:
            done = m.sh("find workspace | sort", ok=False)
            assert done.text.split() == [
                "workspace", "workspace/a", "workspace/a/f",
                "workspace/closed", "workspace/z", "workspace/z/f"]
            assert done.err.count(b"Permission denied") == 1, done


@root_only
@pytest.mark.plain_mount
def test_other_users_are_kept_out_unless_allowed(room):
    """A7: only allow_other lets them in."""
    put(room.workspace, "f", "x")

    def as_other(path):
        os.setgid(65534)
        os.setuid(65534)
        return read_file(path)

    with Mount(room) as m:
        raises(errno.EACCES, as_other, m("workspace/f"))
    with Mount(room, "allow_other") as m:
        assert do(as_other, m("workspace/f")) == b"x"


@root_only
def test_default_permissions_are_checked(room):
    """A7: default_permissions lets the kernel check owners and modes."""
    put(room.workspace, "mine", "x", 0o600)
    put(room.workspace, "all", "y", 0o644)

    def as_other(path):
        os.setgid(65534)
        os.setuid(65534)
        return read_file(path)

    with Mount(room, "allow_other", "default_permissions") as m:
        raises(errno.EACCES, as_other, m("workspace/mine"))
        assert do(as_other, m("workspace/all")) == b"y"


# -- tools -----------------------------------------------------------------------


def test_ls_find_and_stat_agree_with_the_room(full):
    """A8: ls -lR, find and stat print what they print in the room's tree."""
    own = ["idmap=none"] if TEST_USER else []
    with Mount(full, *own, path="/workspace") as m:
        for command in (
            "ls -lanRi --time-style=full-iso | grep -v ^total",
            "find . -printf '%p %m %s %n %i %T@ %C@ %y %l\\n' | sort",
            "find . -type f -size +1k -newermt 2000-01-01 | sort",
            "stat -c '%n %a %s %h %i %y %z %F %b' * d/* | sort",
        ):
            # A directory's own line aside: its parent's differ.
            want = sh(f'cd "$1" && {command}', full.workspace).text
            got = sh(f'cd "$1" && {command}', m.dir).text
            want, got = ("\n".join(
                line for line in text.split("\n")
                if not line.endswith(" ..")) for text in (want, got))
            assert got == want, command


def test_du_gives_the_room_s_usage(full):
    """A8: hard links once, holes not at all."""
    with Mount(full) as m:
        want = sh('cd "$1" && du -k d holes plain binary', full.workspace)
        got = sh('cd "$1" && du -k d holes plain binary', m("workspace"))
        assert got.text == want.text


def test_tar_holds_what_the_room_holds(full):
    """A8: names, modes, times, links and contents."""
    command = ("tar c --sort=name --format=pax --exclude=./sock "
               "--pax-option=delete=atime,delete=ctime "
               "--owner=0 --group=0 . | tar tvf - --full-time")
    with Mount(full, "no_transform_symlinks") as m:
        want = sh(f'cd "$1" && {command}', full.workspace)
        got = sh(f'cd "$1" && {command}', m("workspace"))
        assert got.text == want.text
        contents = "tar c --sort=name --mtime=@0 -h --exclude=sock " \
            "--exclude=fifo --exclude=dangling --exclude=nomode " \
            "plain script binary d empty holes | tar xO | sha256sum"
        assert sh(f'cd "$1" && {contents}', m("workspace")).text == \
            sh(f'cd "$1" && {contents}', full.workspace).text


@pytest.mark.parametrize("command", [
    'rsync -aH --modify-window=-1 --no-specials --exclude=sock "$1"/ "$2"/out/',
    'cp -a "$1"/. "$2"/out/',
    'tar c --format=posix -C "$1" --exclude=sock . | tar x -p -C "$2"/out',
])
def test_copies_out_are_exact(full, tmp_path, command):
    """A8: rsync -a, cp -a and tar | tar copy modes, times, links, bytes."""
    (tmp_path / "out").mkdir()
    with Mount(full, "no_transform_symlinks") as m:
        sh(command, m("workspace"), str(tmp_path))
    want, got = tree(full.workspace), tree(str(tmp_path / "out"))
    for name in want:
        if name in (b"sock", b"fifo", b""):
            continue
        st, extra = want[name]
        assert got[name][0].st_mode == st.st_mode, name
        assert got[name][0].st_mtime_ns == st.st_mtime_ns, name
        if stat.S_ISLNK(st.st_mode):
            assert got[name][1] == extra
        elif stat.S_ISREG(st.st_mode):
            assert read_file(os.fsencode(tmp_path) + b"/out/" + name) == \
                read_file(os.fsencode(full.workspace) + b"/" + name), name


def test_grep_finds_what_the_room_holds(any_room):
    """A8: grep -r over a tree of small files."""
    for i in range(60):
        put(any_room.workspace, f"src/d{i % 6}/f{i}.c",
            f"int f{i};\n" + ("needle\n" if i % 7 == 0 else "hay\n"))
    with Mount(any_room) as m:
        want = sh('cd "$1" && grep -rn needle . | sort',
                  any_room.workspace + "/src")
        got = sh('cd "$1" && grep -rn needle . | sort', m("workspace/src"))
        assert got.text == want.text and got.text.count("\n") == 9


def test_df_shows_the_room_s_disk(any_room):
    """A8: size and name limit are the room's."""
    out = any_room.output("stat -f -c '%b %S' /").split()
    with Mount(any_room) as m:
        fs = do(os.statvfs, m.dir)
        assert fs.f_blocks * fs.f_frsize == int(out[0]) * int(out[1])
        assert 0 < fs.f_bavail <= fs.f_bfree <= fs.f_blocks
        assert fs.f_namemax == 255
        assert m.sh("df -k .").text.count("\n") == 2


def test_git_works_on_a_mounted_repository(room):
    """A8: log and status of a repository in the room."""
    repo = room.workspace + "/repo"
    sh('git init -q "$1" && cd "$1" && echo a > a && mkdir d && echo b > d/b '
       '&& git add . && git -c user.name=n -c user.email=e commit -qm one '
       '&& echo more >> a', repo)
    with Mount(room) as m:
        git = 'git --no-optional-locks -c safe.directory="*" -C workspace/repo '
        assert m.sh(git + "log --format=%s").text == "one\n"
        assert m.sh(git + "status --porcelain").text == " M a\n"


def test_changes_in_the_room_show_after_cache_timeout(any_room):
    """A10: what was trusted is asked again after cache_timeout."""
    put(any_room.workspace, "f", "old")
    put(any_room.workspace, "gone", "x")
    with Mount(any_room, "cache_timeout=0.2") as m:
        assert m.ls("workspace") == ["f", "gone"]
        assert m.read("workspace/f") == b"old"
        put(any_room.workspace, "f", "newer")
        put(any_room.workspace, "new", "n")
        os.unlink(any_room.workspace + "/gone")
        wait_until(lambda: m.ls("workspace") == ["f", "new"], DEADLINE)
        wait_until(lambda: m.read("workspace/f") == b"newer", DEADLINE)
        assert m.lstat("workspace/f").st_size == 5
        raises(errno.ENOENT, os.lstat, m("workspace/gone"))


def test_hangup_checks_everything_anew(room):
    """A12: SIGHUP, without waiting for cache_timeout."""
    put(room.workspace, "f", "old")
    with Mount(room, "cache_timeout=600") as m:
        assert m.ls("workspace") == ["f"]
        assert m.read("workspace/f") == b"old"
        put(room.workspace, "f", "newer")
        put(room.workspace, "g", "")
        m.process.send_signal(signal.SIGHUP)
        wait_until(lambda: m.ls("workspace") == ["f", "g"], DEADLINE)
        wait_until(lambda: m.read("workspace/f") == b"newer", DEADLINE)


def test_extended_attributes_are_refused_quietly(room):
    """A8: ls and cp do not stumble; nothing is asked of the room for them."""
    put(room.workspace, "f", "x")
    with Mount(room) as m:
        m.ls("workspace")
        m.forget()
        raises((errno.ENOTSUP, errno.ENODATA), os.getxattr,
               m("workspace/f"), "security.capability")
        assert m.count()["total"] == 0


def test_program_files_run_from_the_mount(any_room):
    """A8: a script of the room can be started here."""
    put(any_room.workspace, "hello", "#!/bin/sh\necho hello from $0\n", 0o755)
    with Mount(any_room) as m:
        done = run([m("workspace/hello")])
        assert done.out.startswith(b"hello from"), done


def test_suid_and_devices_have_no_effect(room):
    """A9: the mount is nosuid and nodev."""
    with Mount(room) as m:
        with open("/proc/self/mountinfo") as f:
            line = next(x for x in f if m.dir in x)
        assert "nosuid" in line and "nodev" in line
