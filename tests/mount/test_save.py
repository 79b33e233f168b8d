"""How editors save."""

import os
import shutil
import stat

import pytest

from gxlib import Terminal
from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    CREAT, SAVE, W, any_room, both_m, both_rooms, host, no_leftovers, noise,
    quick_if, room_bytes, save, stamp, text, write_all,
)
from mountlib import Mount, Result, do, put, run, sh

SCRIPT = b"#!/bin/sh\necho version 1\n"
NEXT = b"#!/bin/sh\necho version 2\n"


def nano(path, data):
    """nano: O_TRUNC in place; with a lock file .name.swp beside."""
    lock = os.path.join(os.path.dirname(path),
                        "." + os.path.basename(path) + ".swp")
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(fd, b"b0nano" + bytes(1018))
    os.close(fd)
    os.stat(path)
    save(path, data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.unlink(lock)


def nano_backup(path, data):
    """nano -B: copies to name~ first, with its times."""
    st = os.stat(path)
    with open(path, "rb") as f:
        old = f.read()
    fd = os.open(path + "~", SAVE, 0o600)
    os.fchmod(fd, stat.S_IMODE(st.st_mode))
    os.write(fd, old)
    os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
    os.close(fd)
    nano(path, data)
    os.unlink(path + "~")


def emacs(path, data):
    """emacs: a lock link, an auto-save file, rename to name~, a new file."""
    directory, name = os.path.split(path)
    os.symlink("user@host.1234:1", directory + "/.#" + name)
    save(directory + "/#" + name + "#", data, CREAT | os.O_TRUNC, 0o666)
    st = os.stat(path)
    os.rename(path, path + "~")
    fd = os.open(path, CREAT | os.O_EXCL, 0o600)
    write_all(fd, data)
    os.fsync(fd)
    os.fchmod(fd, stat.S_IMODE(st.st_mode))
    os.close(fd)
    os.unlink(directory + "/#" + name + "#")
    os.unlink(directory + "/.#" + name)
    os.unlink(path + "~")


def vscode(path, data):
    """VS Code: in place, O_TRUNC, then fdatasync."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    write_all(fd, data)
    os.fdatasync(fd)
    os.close(fd)


def vscode_atomic(path, data):
    """VS Code's atomic save: beside, fdatasync, rename over."""
    temp = path + ".vsctmp"
    fd = os.open(temp, SAVE, 0o666)
    write_all(fd, data)
    os.fdatasync(fd)
    os.close(fd)
    os.chmod(temp, stat.S_IMODE(os.stat(path).st_mode))
    os.rename(temp, path)


def jetbrains(path, data):
    """JetBrains' safe write: ___jb_tmp___, fsync, old aside, rename over."""
    st = os.stat(path)
    temp, old = path + "___jb_tmp___", path + "___jb_old___"
    fd = os.open(temp, CREAT | os.O_EXCL, 0o666)
    write_all(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.chmod(temp, stat.S_IMODE(st.st_mode))
    os.rename(path, old)
    os.rename(temp, path)
    os.unlink(old)


def gedit(path, data):
    """glib's g_file_replace: .goutputstream, fchmod, fsync, rename."""
    st = os.stat(path)
    temp = os.path.dirname(path) + "/.goutputstream-ABCDEF"
    fd = os.open(temp, CREAT | os.O_EXCL, 0o666)
    os.fchmod(fd, stat.S_IMODE(st.st_mode))
    with open(path, "rb"):
        write_all(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.rename(temp, path)


def rename_before_close(path, data):
    temp = path + ".tmp"
    fd = os.open(temp, CREAT | os.O_EXCL, 0o755)
    write_all(fd, data)
    os.fsync(fd)
    os.rename(temp, path)
    os.close(fd)


KEEPS_INODE = (nano, nano_backup, vscode)
PATTERNS = (nano, nano_backup, emacs, vscode, vscode_atomic, jetbrains, gedit,
            rename_before_close)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda f: f.__name__)
def test_editors_save_pattern(both_m, pattern):
    """Saved, complete, executable as before, run by the next command, and
    nothing stays behind; several times in a row."""
    room = both_m.room
    put(room.workspace, "run.sh", SCRIPT, 0o755)
    kept = stamp(host(room, "run.sh"))
    for turn, data in enumerate((NEXT, SCRIPT + b"# " + noise(9), NEXT * 400)):
        do(pattern, both_m(W, "run.sh"), data)
        assert room_bytes(room, "run.sh") == data
        assert os.listdir(room.workspace) == ["run.sh"]
        assert both_m.ls(W) == ["run.sh"]
        now = stamp(host(room, "run.sh"))
        assert now[1:] == kept[1:]
        assert now == kept or pattern not in KEEPS_INODE
        want = b"version 1\n" if turn == 1 else (
            b"version 2\n" * (1 if turn == 0 else 400))
        assert Result(both_m.exec(W, "./run.sh")).output == want
    assert not no_leftovers(room)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda f: f.__name__)
def test_editors_save_pattern_costs_at_most_one_request_for_each_step(
        room, pattern):
    steps = {nano: 3, nano_backup: 5, emacs: 10, vscode: 1, vscode_atomic: 3,
             jetbrains: 5, gedit: 2, rename_before_close: 2}
    put(room.workspace, "run.sh", SCRIPT, 0o755)
    with Mount(room) as m:
        m.ls(W)
        m.read(W, "run.sh")
        m.forget()
        do(pattern, m(W, "run.sh"), NEXT)
        assert m.count()["total"] <= steps[pattern]


needs_vim = pytest.mark.skipif(not shutil.which("vim"), reason="no vim here")


def vim(m, path, *commands, settings="", swap=True, timeout=60):
    # backupskip holds /tmp/*, where the tests' mounts are
    args = ["vim", "-es", "-u", "NONE", "-i", "NONE", "-N", "--cmd",
            "set backupskip= backupdir=."]
    if not swap:
        args.append("-n")
    if settings:
        args += ["--cmd", "set " + settings]
    for c in commands:
        args += ["-c", c]
    return run(args + [path], timeout=timeout, env={"TERM": "dumb"})


@needs_vim
@pytest.mark.parametrize("copy", ["yes", "no", "auto"])
@pytest.mark.parametrize("settings", quick_if([
    "writebackup nobackup", "backup", "nowritebackup nobackup"], "backup"))
def test_vim(any_m, copy, settings):
    room = any_m.room
    put(room.workspace, "f.txt", b"one\ntwo\nthree\n", 0o750)
    kept = stamp(host(room, "f.txt"))
    done = vim(any_m, any_m(W, "f.txt"), "%s/two/2/", "w", "$d", "wq",
               settings=f"backupcopy={copy} {settings}")
    assert done.status == 0, done
    assert room_bytes(room, "f.txt") == b"one\n2\n"
    now = stamp(host(room, "f.txt"))
    assert now[1:] == kept[1:]
    if copy == "yes":
        assert now == kept
    want = ["f.txt", "f.txt~"] if settings == "backup" else ["f.txt"]
    assert sorted(os.listdir(room.workspace)) == want
    assert any_m.ls(W) == want
    if settings == "backup":
        assert room_bytes(room, "f.txt~") == b"one\n2\nthree\n"


@needs_vim
def test_vim_on_a_hard_linked_file_and_a_link(any_m):
    """backupcopy=auto has to see both and write in place."""
    room = any_m.room
    put(room.workspace, "a", b"one\n")
    os.link(host(room, "a"), host(room, "b"))
    os.symlink("a", host(room, "l"))
    for name in ("a", "l"):
        assert vim(any_m, any_m(W, name), "s/$/ more/", "wq",
                   settings="backupcopy=auto writebackup").status == 0
    assert room_bytes(room, "b") == b"one more more\n"
    assert os.path.islink(host(room, "l"))


@needs_vim
def test_vims_new_file(any_m):
    assert vim(any_m, any_m(W, "new"), "exe 'normal ihello'", "wq").status == 0
    assert room_bytes(any_m.room, "new") == b"hello\n"
    assert os.listdir(any_m.room.workspace) == ["new"]


@needs_vim
@pytest.mark.parametrize("copy", ["yes", "no"])
def test_vims_w_with_backup_costs_at_most_6_requests(room, copy):
    put(room.workspace, "f.txt", text(4095) + b"\n")
    with Mount(room) as m:
        m.ls(W)
        m.read(W, "f.txt")
        m.forget()
        done = vim(m, m(W, "f.txt"), "1s/^/x/", "w", "q",
                   settings=f"backup backupcopy={copy} noswapfile",
                   swap=False)
        assert done.status == 0, done
        m.settle()
        log = room.log()
        assert len(log) <= 6, [(e["command"] or "")[-100:] for e in log]
    assert room_bytes(room, "f.txt") == b"x" + text(4095) + b"\n"


@needs_vim
def test_vims_swap_file_protects(any_m):
    """A second vim sees the first one's swap file; recovery works."""
    room = any_m.room
    put(room.workspace, "f.txt", b"one\n")
    script = any_m.top + "/script"
    with open(script, "w") as f:
        f.write("s/one/changed/\npreserve\nsilent !kill -9 $PPID\n")
    sh('vim -es -u NONE -i NONE -N -S "$1" "$2" || true', script,
       any_m(W, "f.txt"), TERM="dumb")
    assert ".f.txt.swp" in os.listdir(room.workspace)
    done = run(["vim", "-r", "-es", "-u", "NONE", "-i", "NONE", "-N", "-c",
                "wq!", any_m(W, "f.txt")], env={"TERM": "dumb"}, timeout=60)
    assert room_bytes(room, "f.txt") == b"changed\n", done


@pytest.mark.skipif(not shutil.which("nano"), reason="no nano here")
def test_real_nano(any_m):
    put(any_m.room.workspace, "f", b"old\n")
    any_m.ls(W)
    with Terminal(any_m) as t:
        t.type(b"TERM=xterm nano -I f\n")
        t.expect(b"Exit")
        t.type(b"new \x0f")
        t.expect(b"Name to Write")
        t.type(b"\r")
        t.expect(b"Wrote 1 line")
        t.type(b"\x18")
        t.expect(b"ready> ")
    assert room_bytes(any_m.room, "f") == b"new old\n"


def test_sed_i(both_m):
    put(both_m.room.workspace, "f", b"one\ntwo\n", 0o755)
    both_m.sh("sed -i 's/one/1/' workspace/f")
    both_m.sh("sed -i.bak 's/two/2/' workspace/f")
    assert room_bytes(both_m.room, "f") == b"1\n2\n"
    assert room_bytes(both_m.room, "f.bak") == b"1\ntwo\n"
    assert os.lstat(host(both_m.room, "f")).st_mode & 0o777 == 0o755


def test_shell_redirections(both_m):
    both_m.sh("""
        cd workspace
        echo one > f; echo two >> f; echo three >> f
        { echo a; echo b; } > g
        cat f g > h
        : > empty
        (echo sub; echo shell >&2) > out 2>&1
        tee a b < f > /dev/null
        dd if=h of=d bs=5 count=2 conv=notrunc status=none
        dd if=/dev/zero of=d bs=1 count=3 seek=2 conv=notrunc status=none
        exec 3<> rw; echo first >&3; echo second >&3; exec 3>&-
        set -o noclobber; echo x 2> /dev/null > f && exit 1; echo y > new
    """)
    got = {n: room_bytes(both_m.room, n)
           for n in os.listdir(both_m.room.workspace)}
    f = b"one\ntwo\nthree\n"
    assert got == {
        "f": f, "g": b"a\nb\n", "h": f + b"a\nb\n", "empty": b"",
        "out": b"sub\nshell\n", "a": f, "b": f, "d": b"on\0\0\0wo\nth",
        "rw": b"first\nsecond\n", "new": b"y\n"}
