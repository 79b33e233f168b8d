""".exec and .exec.json: where they are, what runs and when, what they read."""

import errno
import json
import os
import stat

import pytest

from mountlib import (
    DEADLINE, MIB, Call, Gate, Mount, Result, Room, do, exec_script, pattern,
    put, raises, read_file, settle, wait_until, write_file,
)

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def commands(room):
    """The scripts sent since the log's reset."""
    settle(room)
    return [e["command"] for e in room.log("command")]


# -- where it is -----------------------------------------------------------------


def test_it_is_listed_in_the_room_s_root_only(any_room):
    """E7: so that git, backups and cp -a never meet it; there by name."""
    os.mkdir(any_room.workspace + "/d")
    with Mount(any_room) as m:
        assert ".exec" in m.ls()
        assert ".exec" not in m.sh("ls").text
        assert m.sh("find workspace home tmp -name '.exec*'").text == ""
        for where in ("", "workspace", "workspace/d", "tmp"):
            assert m.exists(where, ".exec")
            assert m.exists(where, ".exec.json")
            assert ".exec.json" not in m.ls(where)
            assert stat.S_ISREG(m.lstat(where, ".exec").st_mode)


@pytest.mark.parametrize("option,root,below", [
    ("list_control", True, True), ("no_list_control", False, False)])
def test_where_it_is_listed_can_be_chosen(room, option, root, below):
    """E7: list_control, no_list_control; it is there by name in any case."""
    with Mount(room, option) as m:
        assert (".exec" in m.ls()) is root
        assert (".exec" in m.ls("workspace")) is below
        assert m.exists("workspace/.exec")


def test_a_path_mount_does_not_list_it(room):
    """E7: the mount's root is not the room's own root."""
    with Mount(room, path="/workspace") as m:
        assert m.ls() == []
        assert Result(m.exec("", "pwd")).output == b"/workspace\n"


def test_a_path_mount_of_the_root_is_the_room_s_own_root(room):
    """E7, E1: PATH `/` is the room's own root."""
    with Mount(room, path="/") as m:
        assert ".exec" in m.ls()
        m.forget()
        m.exec("", "echo exact")
        assert "echo exact" in commands(room)


def test_it_can_have_another_name_or_none(room):
    """E7: control=NAME, no_control."""
    with Mount(room, "control=.run") as m:
        assert ".run" in m.ls() and not m.exists(".exec")
        assert Result(m.exec("workspace", "pwd", ".run")).output == \
            b"/workspace\n"
        assert json.loads(m.read("workspace/.run.json"))
    with Mount(room, "no_control") as m:
        assert ".exec" not in m.ls()
        assert not m.exists("workspace/.exec")
        assert not m.exists("workspace/.exec.json")


def test_mode_and_owner(m):
    """E7: 0600, of the mounting user, one link, a plain file."""
    for name in (".exec", ".exec.json"):
        st = m.lstat("workspace", name)
        assert st.st_mode == stat.S_IFREG | 0o600
        assert (st.st_uid, st.st_nlink) == (os.getuid(), 1)


def test_it_cannot_be_moved_linked_removed_or_replaced(m):
    """E7: EPERM, and it works on."""
    put(m.room.workspace, "f", "x")
    m.ls("workspace")
    for name in (".exec", ".exec.json"):
        for where in ("", "workspace"):
            path, other = m(where, name), m(where, "other")
            raises(errno.EPERM, os.unlink, path)
            raises(errno.EPERM, os.rename, path, other)
            raises(errno.EPERM, os.link, path, other)
            raises(errno.EPERM, os.chmod, path, 0o644)
            raises(errno.EPERM, os.chown, path, 1, 1)
        path = m("workspace", name)
        raises(errno.EPERM, os.rename, m("workspace/f"), path)
        raises(errno.EEXIST, os.link, m("workspace/f"), path)
        raises((errno.EPERM, errno.ENOTDIR), os.rmdir, path)
        raises((errno.EPERM, errno.EEXIST), os.mkdir, path)
        raises((errno.EPERM, errno.EEXIST), os.symlink, "f", path)
        raises((errno.EPERM, errno.EEXIST), os.mkfifo, path)
        raises(errno.EEXIST, os.open, path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    assert Result(m.exec("workspace", "echo fine")).output == b"fine\n"


@root_only
def test_it_is_for_the_mounting_user_only(room):
    """E7: even with allow_other, and by whatever mode others open it."""
    def as_other(path, flags):
        os.setgid(65534)
        os.setuid(65534)
        os.stat(os.path.dirname(path))
        return os.open(path, flags)

    with Mount(room, "allow_other") as m:
        m.exec("workspace", "echo secret")
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR,
                      os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
            for name in (".exec", ".exec.json"):
                raises((errno.EACCES, errno.EPERM), as_other,
                       m("workspace", name), flags)


# -- where and what it runs --------------------------------------------------------


@pytest.mark.parametrize("name", [
    b"plain", b"it's", b'"', b"new\nline", b"\xff\xfe", b"$(x)", b"-n", b"%s",
    b" ", b"\\", b"*"])
def test_it_runs_in_its_directory(any_room, name):
    """E1: the script's working directory is the directory written to."""
    path = os.path.join(os.fsencode(any_room.workspace), name)
    os.mkdir(path)
    with Mount(any_room) as m:
        result = Result(m.exec(b"workspace/" + name, "echo x > made; pwd -P"))
        assert result.exit == 0, result.output
        assert os.listdir(path) == [b"made"]
        if name == b"plain":
            assert result.output == b"/workspace/plain\n"


def test_the_root_s_own_is_sent_exactly_as_written(any_room):
    """E1: less one final newline, so it runs where the API runs commands."""
    with Mount(any_room) as m:
        for script, sent in (
            ("pwd\n", "pwd"), ("pwd", "pwd"), ("echo a\n\n", "echo a\n"),
            ("  echo 'x  y' # \u00fc \t\n", "  echo 'x  y' # \u00fc \t"),
            ("echo a\r\n", "echo a\r"), ("#!/bin/nonsense\necho hi", None),
            ("echo \\\\ $0 \"$@\" $$\n", "echo \\\\ $0 \"$@\" $$"),
        ):
            m.forget()
            m.exec("", script)
            assert (sent or script) in commands(any_room)
        want = any_room.output("pwd").strip()
        assert Result(m.exec("", "pwd\n")).output.decode().strip() == want


def test_scripts_are_shell_programs_of_any_shape(any_room):
    """E1: quotes, here documents, functions, exit, comments, no final newline;
    the shell is the VM's sh and its $0, $@ and stdin hold no surprise."""
    scripts = {
        "echo 'it'\\''s' \"$((1+2))\"": b"it's 3\n",
        "cat <<'E'\n$x `y` \\\nE\n": b"$x `y` \\\n",
        "cat <<E\nno final newline\nE": b"no final newline\n",
        "f() { echo f \"$#\"; }; f a b": b"f 2\n",
        "# only a comment": b"",
        "\n\n\n": b"",
        "echo a # comment": b"a\n",
        "echo $#": b"0\n",
        "wc -c": b"0\n",
        "cd /; pwd": b"/\n",
        "echo a && echo b || echo c; (exit 1) || echo d": b"a\nb\nd\n",
        "x=1; readonly x; echo $x": b"1\n",
        "set -e; false; echo never": b"",
        "trap 'echo bye' EXIT; echo hi": b"hi\nbye\n",
        "exec echo replaced": b"replaced\n",
        "cat <&-; echo still": None,
        "umask": b"0022\n",
        "echo ${LC_ALL-unset}": b"unset\n",
        "unset PATH; echo $((6*7))": b"42\n",
        "set -- x y; echo $2": b"y\n",
        "echo end\\": b"end\\\n",
        "if true; then echo yes\nfi": b"yes\n",
    }
    env = any_room.output("umask; echo ${LC_ALL-unset}").split()
    scripts["umask"] = env[0].encode() + b"\n"
    scripts["echo ${LC_ALL-unset}"] = env[1].encode() + b"\n"
    with Mount(any_room) as m:
        for script, want in scripts.items():
            result = Result(m.exec("workspace", script))
            got = result.output.replace(b"       ", b"").lstrip(b" ")
            if want is not None:
                assert got == want, (script, result.output)


def test_a_syntax_error_is_the_script_s_own(any_room):
    """E5: reported by the shell with its exit code, with no other effect."""
    with Mount(any_room) as m:
        result = Result(m.exec("workspace", "echo 'unfinished"))
        assert result.exit not in (0, None)
        result = Result(m.exec("workspace", "if true; then"))
        assert result.exit not in (0, None)
        result = Result(m.exec("workspace", "}; echo escaped > /tmp/escaped"))
        assert result.exit not in (0, None)
        assert not os.path.exists(any_room.tmp + "/escaped")
        assert Result(m.exec("workspace", "echo on")).output == b"on\n"


def test_bytes_of_a_script_arrive_as_written(any_room):
    """E1: also those that are no UTF-8, below the root as in it."""
    with Mount(any_room) as m:
        for where in ("workspace", ""):
            script = b"printf %s '\xff\xfe\x80\xc3' > /tmp/bytes\n"
            result = Result(m.exec(where, script))
            assert result.exit == 0, result.output
            with open(any_room.tmp + "/bytes", "rb") as f:
                assert f.read() == b"\xff\xfe\x80\xc3"


@pytest.mark.parametrize("where", ["workspace", ""])
@pytest.mark.parametrize("size", [
    90_000, 97_000, 131_071, 131_072, 200_000, MIB - 1, MIB])
def test_scripts_up_to_1_mib_run(any_room, size, where):
    """E10: past the command limit they are staged; nothing is left behind, and
    no command sent is longer than 96 KiB."""
    body = "x=" + pattern(700_000).hex()[:size - 60] + "\n"
    script = body + "printf '%s' \"${#x}\" > /tmp/length; echo ran\n"
    script = "#" * (size - len(script) - 1) + "\n" + script
    script = script[-size:] if len(script) > size else script
    assert len(script) == size
    want = len(body) - 3
    before = set(os.listdir(any_room.tmp)) | {"length"}
    with Mount(any_room) as m:
        m.ls("tmp")
        m.forget()
        result = Result(m.exec(where, script, timeout=60))
        assert (result.exit, result.output) == (0, b"ran\n"), result.verdict
        m.settle()
        assert read_file(any_room.tmp + "/length") == str(want).encode()
        assert all(e["command_len"] <= 96 * 1024
                   for e in any_room.log("command"))
        assert set(os.listdir(any_room.tmp)) == before
        assert [r[3] for r in result.rows()] == ["/tmp/length"]


def test_a_script_of_more_than_1_mib_is_efbig(any_room):
    """E10: and runs nothing."""
    script = b"echo ran > /tmp/ran\n" + b"#" * MIB
    with Mount(any_room) as m:
        m.ls("tmp")
        m.forget()
        raises(errno.EFBIG, write_file, m("workspace/.exec"), script)
        m.settle()
        assert not any_room.log("command")
    assert not os.path.exists(any_room.tmp + "/ran")


# -- when it runs ---------------------------------------------------------------


COUNT = "echo x >> /tmp/count\n"


def runs(room):
    """How often COUNT ran in the VM."""
    try:
        with open(room.tmp + "/count") as f:
            return len(f.read().split())
    except FileNotFoundError:
        return 0


def test_several_writes_and_one_close_are_one_script(any_m):
    """E8: what is written to one open file is gathered."""
    def many(path):
        fd = os.open(path, os.O_WRONLY)
        for part in (b"echo a\n", b"ec", b"ho b", b"\n", b"echo x >> /tmp/count"):
            os.write(fd, part)
        os.close(fd)
        return read_file(path)

    assert Result(do(many, any_m("workspace/.exec"))).output == b"a\nb\n"
    assert runs(any_m.room) == 1


def test_nothing_written_runs_nothing(m):
    """E8: opening, truncating, reading and closing send nothing."""
    m.exec("workspace", "echo before")
    m.forget()
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY |
                  os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                  os.O_RDWR | os.O_APPEND):
        do(write_file, m("workspace/.exec"), b"", flags)
    m.sh(": > workspace/.exec; : >> workspace/.exec; : <> workspace/.exec")
    do(os.truncate, m("workspace/.exec"), 0)
    assert m.count()["total"] == 0
    assert Result(m.read("workspace/.exec")).output == b"before\n"


@pytest.mark.parametrize("form", [
    'echo "$1" > .exec', 'echo "$1" >> .exec', 'printf "$1" >| .exec',
    'cat > .exec <<< "$1"', 'echo "$1" | tee .exec > /dev/null',
    'echo "$1" | tee -a .exec > /dev/null', 'echo "$1" | dd of=.exec status=none',
    'echo "$1" > /tmp/gfs-script.$$; cp /tmp/gfs-script.$$ .exec; '
    'rm /tmp/gfs-script.$$',
    '(echo "$1") > .exec', '{ echo "$1"; echo :; } > .exec',
    'sh -c "echo \\"$1\\" > .exec"', 'busybox sh -c "echo \\"$1\\" > .exec"',
    'echo "$1" | sed "s/^/  /" > .exec', 'exec 3>.exec; echo "$1" >&3',
    'exec 3<>.exec; echo "$1" >&3; exec 3>&-',
    'exec > .exec; echo "$1"',
    'python3 -c "import sys; open(\'.exec\',\'w\').write(sys.argv[1])" "$1"',
    'python3 -c "import sys, pathlib; pathlib.Path(\'.exec\').write_text('
    'sys.argv[1])" "$1"',
])
def test_every_way_of_writing_runs_it_once(m, form):
    """E8: shells' redirections with their dup2, and programs."""
    m.sh("cd workspace && " + form, "echo x >> /tmp/count")
    wait_until(lambda: runs(m.room) > 0, DEADLINE)
    settle(m.room)
    assert runs(m.room) == 1


def test_a_shell_s_descriptor_gathers_until_it_is_closed(any_m):
    """E8: `echo >&3` duplicates and closes, which runs nothing; `exec 3>&-`
    runs it all, once."""
    done = any_m.sh("""cd workspace
        exec 3>.exec
        echo 'echo a; echo x >> /tmp/count' >&3
        test ! -e /tmp/never || exit 1
        echo 'echo b' >&3
        exec 3>&-
        cat .exec""")
    assert Result(done.out).output == b"a\nb\n"
    assert runs(any_m.room) == 1


def test_a_dash_s_descriptor_gathers_too(any_m):
    """E8: other shells move descriptors in other ways."""
    for shell in ("dash", "busybox sh"):
        done = any_m.sh(shell + """ -c 'cd workspace
            exec 3>.exec; echo "echo a" >&3; echo "echo b" >&3; exec 3>&-
            cat .exec'""")
        assert Result(done.out).output == b"a\nb\n"


def test_a_child_that_inherits_it_and_exits_runs_nothing(any_m):
    """E8: whether it closes, exits or is killed; the opener's close runs."""
    room = any_m.room

    def family(path):
        fd = os.open(path, os.O_WRONLY)
        os.set_inheritable(fd, True)
        os.write(fd, b"echo x >> /tmp/count\n")
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            os.execlp("true", "true")
        os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            os.close(fd)
            os._exit(0)
        os.waitpid(child, 0)
        before = runs(room)
        os.close(fd)
        return before, runs(room)

    assert do(family, any_m("workspace/.exec")) == (0, 1)


def test_a_child_may_write_and_the_opener_s_close_runs(any_m):
    """E8: `( echo ... ) >&3` and programs write what is gathered."""
    any_m.sh("""cd workspace
        exec 3>.exec
        (echo 'echo x >> /tmp/count') >&3
        /bin/echo 'echo x >> /tmp/count' >&3
        exec 3>&-""")
    assert runs(any_m.room) == 2


def test_the_last_close_of_all_runs_it_at_the_latest(any_m):
    """E8: what a child writes after the opener is gone is not lost."""
    room = any_m.room

    def leave(path):
        fd = os.open(path, os.O_WRONLY)
        back, forth = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.read(back[0], 1)
            os.write(fd, b"echo x >> /tmp/count\n")
            os.write(forth[1], b"x")
            os._exit(0)
        os.close(fd)
        os.write(back[1], b"x")
        os.read(forth[0], 1)

    do(leave, any_m("workspace/.exec"))
    wait_until(lambda: runs(room) == 1, DEADLINE)
    settle(room)
    assert runs(room) == 1


def test_a_writer_that_is_killed_does_not_hang_the_mount(any_m):
    """E8, E6: its script runs (the kernel closes for it) at most once."""
    room = any_m.room

    def write_and_wait(path, ready):
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"echo x >> /tmp/count\n")
        os.write(ready, b"x")
        os.read(os.pipe()[0], 1)

    ready = os.pipe()
    call = Call(write_and_wait, any_m("workspace/.exec"), ready[1])
    os.read(ready[0], 1)
    call.end()
    settle(room)
    assert runs(room) <= 1
    assert Result(any_m.exec("workspace", "echo on")).output == b"on\n"


def test_a_read_after_a_write_runs_it(any_m):
    """E8: on one descriptor, again and again; the close then runs nothing."""
    def talk(path):
        fd = os.open(path, os.O_RDWR)
        answers = []
        for i in range(3):
            os.write(fd, b"echo %d; echo x >> /tmp/count\n" % i)
            answers.append(os.pread(fd, 10000, 0))
            answers.append(os.pread(fd, 10000, 0))
        os.close(fd)
        return answers

    answers = do(talk, any_m("workspace/.exec"))
    assert [Result(a).output for a in answers] == [
        b"0\n", b"0\n", b"1\n", b"1\n", b"2\n", b"2\n"]
    assert runs(any_m.room) == 3


def test_a_read_straight_after_a_write_gives_the_whole_result(any_m):
    """E8: without a seek, as `exec 3<>.exec; echo pwd >&3; cat <&3` does."""
    done = any_m.sh("""cd workspace
        exec 3<>.exec; echo 'echo one two three' >&3; cat <&3""")
    assert Result(done.out).output == b"one two three\n"


def test_seeking_to_the_start_reads_the_result(any_m):
    """E8: write, seek(0), read, as an editor or a script does."""
    def talk(path):
        with open(path, "r+b", buffering=0) as f:
            f.write(b"echo hi\n")
            f.seek(0)
            return f.read()

    assert Result(do(talk, any_m("workspace/.exec"))).output == b"hi\n"


def test_a_write_after_the_read_begins_a_new_script(any_m):
    """E8: and what was run is not run again."""
    def talk(path):
        fd = os.open(path, os.O_RDWR)
        os.write(fd, COUNT.encode())
        os.pread(fd, 1000, 0)
        os.write(fd, b"echo second\n")
        os.close(fd)
        return read_file(path)

    assert Result(do(talk, any_m("workspace/.exec"))).output == b"second\n"
    assert runs(any_m.room) == 1


def test_truncating_drops_what_was_gathered(any_m):
    """E8: ftruncate(0) before the close."""
    def talk(path):
        fd = os.open(path, os.O_RDWR)
        os.write(fd, COUNT.encode())
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"echo kept\n")
        os.close(fd)
        return read_file(path)

    assert Result(do(talk, any_m("workspace/.exec"))).output == b"kept\n"
    assert runs(any_m.room) == 0


def test_writes_at_offsets_are_put_together(any_m):
    """E8: pwrite() over what is there; one that leaves a hole is refused."""
    def talk(path):
        fd = os.open(path, os.O_WRONLY)
        os.pwrite(fd, b"echo xxx", 0)
        os.pwrite(fd, b" two\n", 8)
        os.pwrite(fd, b"one", 5)
        os.close(fd)
        return read_file(path)

    def hole(path):
        fd = os.open(path, os.O_WRONLY)
        os.pwrite(fd, b"echo x", 0)
        os.pwrite(fd, b"echo after\n", 100)
        os.close(fd)
        return read_file(path)

    assert Result(do(talk, any_m("workspace/.exec"))).output == b"one two\n"
    raises(errno.EINVAL, hole, any_m("workspace/.exec"))


def test_dup_and_close_of_one_of_two_runs_nothing_yet(any_m):
    """E8: the script runs when the process has closed its last one."""
    room = any_m.room

    def talk(path):
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, COUNT.encode())
        second = os.dup(fd)
        os.close(fd)
        os.write(second, b"echo more\n")
        before = runs(room)
        os.close(second)
        return before, runs(room), read_file(path)

    before, after, data = do(talk, any_m("workspace/.exec"))
    assert (before, after) == (0, 1)
    assert Result(data).output == b"more\n"


def test_close_waits_for_the_command(any_m):
    """E8: and whoever opens it after that sees the result."""
    gate = Gate(any_m.room)
    call = Call(exec_script, any_m("workspace/.exec"),
                f"cat {gate.vm}; echo done")
    gate.wait()
    assert not call.finished()
    gate.open()
    assert Result(call.result()).output == b"done\n"


# -- what it reads -----------------------------------------------------------------


def test_before_any_command_it_is_empty(m):
    """E2: and .exec.json is, too; no request is needed for that."""
    m.ls("workspace")
    m.forget()
    assert m.read("workspace/.exec") == b""
    assert m.lstat("workspace/.exec").st_size == 0
    assert m.count()["total"] == 0


def test_output_comes_first_then_the_verdict(any_m):
    """E2: a newline is added to output that lacks one; none to no output."""
    for script, want in (
        ("echo a", b"a\n--- exit 0, 0 files changed\n"),
        ("printf a", b"a\n--- exit 0, 0 files changed\n"),
        ("printf 'a\\nb'", b"a\nb\n--- exit 0, 0 files changed\n"),
        ("true", b"--- exit 0, 0 files changed\n"),
        ("exit 7", b"--- exit 7, 0 files changed\n"),
        ("echo out; exit 255", b"out\n--- exit 255, 0 files changed\n"),
        ("kill -9 $$", b"--- exit 137, 0 files changed\n"),
        ("printf '\\n\\n  x'", b"\n\n  x\n--- exit 0, 0 files changed\n"),
        ("nonexistent-program 2>/dev/null",
         b"--- exit 127, 0 files changed\n"),
        ("printf 'gr\\303\\274n'", b"gr\xc3\xbcn\n--- exit 0, "
         b"0 files changed\n"),
        ("echo '--- exit 3, 1 files changed'",
         b"--- exit 3, 1 files changed\n--- exit 0, 0 files changed\n"),
    ):
        for where in ("workspace", ""):
            got = any_m.exec(where, script)
            if script.startswith("kill"):
                got = got.replace(b"Killed\n", b"")
            assert got == want, (where, script)


def test_white_space_at_the_end_of_output_is_kept(any_room):
    """E2: verbatim, when the service does not trim it."""
    any_room.control(output_space="exact")
    with Mount(any_room) as m:
        for where in ("", "workspace"):
            assert m.exec(where, "printf 'a\\n\\n'") == \
                b"a\n\n--- exit 0, 0 files changed\n"
            assert m.exec(where, "printf ' \\t'") == \
                b" \t\n--- exit 0, 0 files changed\n"


def test_stderr_is_part_of_the_output(any_m):
    """E2: as the service merges it."""
    assert Result(any_m.exec("workspace", "echo e >&2")).output == b"e\n"


def test_large_output_is_complete(any_m):
    """E2: two megabytes."""
    result = Result(any_m.exec(
        "workspace", "i=0; while [ $i -lt 20000 ]; do echo \"line $i "
        "----------------------------------------------------------------"
        "-----------------------\"; i=$((i+1)); done", timeout=60))
    lines = result.output.split(b"\n")
    assert len(lines) == 20001 and lines[19999].startswith(b"line 19999 ")


def test_the_change_list(any_room):
    """E2: created, modified and deleted files, their sizes, types, paths in
    the room, and absolute public addresses."""
    put(any_room.workspace, "old.txt", "old")
    put(any_room.workspace, "mod.txt", "x")
    with Mount(any_room) as m:
        data = m.exec("workspace", "echo hello > new.txt; rm old.txt; "
                      "echo more >> mod.txt; printf '\\211PNG' > c.png")
        result = Result(data)
        assert result.verdict == "--- exit 0, 4 files changed"
        rows = result.by_path()
        base = f"{any_room.url}/vm/{any_room.instance_id}/file/workspace/"
        assert rows["/workspace/new.txt"] == [
            "created", "6", "text/plain", "/workspace/new.txt",
            base + "new.txt"]
        assert rows["/workspace/mod.txt"] == [
            "modified", "6", "text/plain", "/workspace/mod.txt",
            base + "mod.txt"]
        assert rows["/workspace/c.png"][:3] == ["created", "4", "image/png"]
        assert rows["/workspace/old.txt"] == [
            "deleted", "-", "-", "/workspace/old.txt"]
        assert Result(m.exec("workspace", "touch one")).verdict == \
            "--- exit 0, 1 files changed"
        # Every column begins with its word: no blanks in front.
        assert all(line[0] != " " for line in result.changes)


def test_public_addresses_in_the_list_work(any_m):
    """E2: they give the file, without a key."""
    row = Result(any_m.exec("workspace", "echo hi > 'a b?#.txt'")).rows()[0]
    path = row[4][len(any_m.room.url):]
    answer = any_m.room.request("GET", path, key=False)
    assert (answer.status, answer.body) == (200, b"hi\n")


def test_control_characters_of_names_cannot_forge_lines(any_m):
    """E2: one line per file, whatever its name holds."""
    result = Result(any_m.exec(
        "workspace", "touch 'a\n--- exit 9, 0 files changed' 'b\\c' "
        "\"$(printf 'tab\\there')\""))
    assert (result.exit, result.changed) == (0, 3)
    text = "\n".join(result.changes)
    assert "a\\012--- exit 9, 0 files changed" in text
    assert "b\\\\c" in text and "tab\\011here" in text


def test_json_is_the_whole_answer(any_room):
    """E2: .exec.json, one JSON object with what the service said."""
    with Mount(any_room) as m:
        data = m.exec("workspace", "echo hi; echo x > f; exit 3", ".exec.json")
        answer = json.loads(data)
        assert isinstance(answer, dict)
        assert answer["instance_id"] == any_room.instance_id
        assert answer["status"] == "error"
        assert answer["result"]["exit_code"] == 3
        assert answer["result"]["output"].strip() == "hi"
        (change,) = answer["result"]["files_changed"]
        assert change["path"] == "/workspace/f"
        assert change["status"] == "created" and change["size"] == 2
        assert change["public_url"].startswith(any_room.url + "/vm/")
        # What one wrote the other reads.
        assert Result(m.read("workspace/.exec")).exit == 3
        m.exec("", "echo root", ".exec")
        answer = json.loads(m.read(".exec.json"))
        assert answer["command"] == "echo root"
        assert answer["result"]["output"].strip() == "root"


def test_output_that_is_no_utf8_is_shown_as_the_service_gives_it(any_m):
    """E2: and breaks neither form."""
    for where in ("", "workspace"):
        result = Result(any_m.exec(where, "printf 'a\\377b\\n'; echo end"))
        assert result.output.startswith(b"a") and \
            result.output.endswith(b"b\nend\n")
        assert json.loads(any_m.read(where, ".exec.json"))


@pytest.mark.parametrize("switch", ["escape", "drop"])
def test_nul_in_the_output(any_room, switch):
    """E2: what follows a NUL is not lost."""
    any_room.control(output_nul=switch)
    with Mount(any_room) as m:
        result = Result(m.exec("workspace", "printf 'a\\000b\\n'; echo end"))
        assert result.output.replace(b"\0", b"") == b"ab\nend\n"


def test_size_is_what_would_be_read(any_m):
    """E2: st_size, by name and by descriptor, for both files."""
    any_m.exec("workspace", "echo something; touch f")

    def ask(path):
        with open(path, "rb") as f:
            return os.fstat(f.fileno()).st_size, len(f.read())

    for name in (".exec", ".exec.json"):
        size, length = do(ask, any_m("workspace", name))
        assert size == length > 0
        assert any_m.lstat("workspace", name).st_size == length


@pytest.mark.parametrize("command,want", [
    ("cat .exec", slice(None)), ("head -c 10 .exec", slice(10)),
    ("tail -c 10 .exec", slice(-10, None)), ("cp .exec $2 && cat $2",
                                             slice(None)),
    ("dd if=.exec bs=7 status=none", slice(None)),
    ("dd if=.exec bs=1 skip=5 count=9 status=none", slice(5, 14)),
    ("python3 -c 'print(open(\".exec\").read(), end=\"\")'", slice(None)),
    ("less .exec | cat", slice(None)), ("sed '' .exec", slice(None)),
    ("tac .exec | tac", slice(None)), ("sort -s -k1,1n .exec | wc -c >$2; "
                                       "cat .exec", slice(None)),
])
def test_ordinary_programs_read_it(m, tmp_path, command, want):
    """E2: cat, head -c, tail, cp, dd, python's open(), less."""
    import shutil
    if not shutil.which(command.split()[0]):
        pytest.skip(command.split()[0] + " is not installed")
    data = m.exec("workspace", "seq 5000; touch f")
    done = m.sh("cd workspace; " + command, "x", str(tmp_path / "out"))
    assert done.out == data[want]


def test_grep_and_wc_read_it(m):
    """E2: also tools that look at st_size first."""
    m.exec("workspace", "echo needle; seq 100")
    assert m.sh("grep -c needle workspace/.exec").text == "1\n"
    assert int(m.sh("wc -c < workspace/.exec").text) == \
        len(m.read("workspace/.exec"))


def test_an_editor_s_way_works(m):
    """E2, E8: read it, truncate, write in place (no rename), read again."""
    m.exec("workspace", "echo old")

    def edit(path):
        with open(path, "r+") as f:
            f.read()
            f.seek(0)
            f.truncate()
            f.write("echo edited\n")
        return read_file(path)

    assert Result(do(edit, m("workspace/.exec"))).output == b"edited\n"


def test_results_belong_to_descriptors(any_m):
    """E9: a descriptor that wrote reads its own result, others the last one
    finished on this mount, in whatever directory."""
    os.mkdir(any_m.room.workspace + "/d")

    def talk(a, b):
        first = os.open(a, os.O_RDWR)
        second = os.open(b, os.O_RDWR)
        os.write(first, b"echo first")
        os.write(second, b"echo second")
        got = [os.pread(first, 1000, 0), os.pread(second, 1000, 0),
               os.pread(first, 1000, 0), read_file(a), read_file(b)]
        os.close(first)
        os.close(second)
        return [g.split(b"\n")[0] for g in got]

    assert do(talk, any_m("workspace/.exec"), any_m("workspace/d/.exec")) == [
        b"first", b"second", b"first", b"second", b"second"]


def test_an_open_reader_keeps_what_it_began_to_read(any_m):
    """E9: a result is not exchanged under a reader's hands."""
    any_m.exec("workspace", "seq 20000")

    def read_slowly(path, other):
        with open(path, "rb", buffering=0) as f:
            head = f.read(100)
            exec_script(other, "echo other")
            parts = []
            while part := f.read(5000):
                parts.append(part)
            return head + b"".join(parts)

    data = do(read_slowly, any_m("workspace/.exec"), any_m("tmp/.exec"))
    assert Result(data).output == b"".join(b"%d\n" % i for i in
                                           range(1, 20001))


def test_concurrent_commands_each_get_their_own(any_m):
    """E9: twelve at once; each descriptor reads its own output."""
    def one(path, i):
        fd = os.open(path, os.O_RDWR)
        os.write(fd, b"echo number %d; echo x >> /tmp/count" % i)
        return Result(os.pread(fd, 1000, 0)).output

    calls = [Call(one, any_m("workspace/.exec"), i) for i in range(12)]
    assert [c.result() for c in calls] == [b"number %d\n" % i
                                           for i in range(12)]
    assert runs(any_m.room) == 12


def test_it_is_not_cached_by_the_kernel(any_m):
    """E9: a second reader sees the newer result, mmap is not offered."""
    for i in range(20):
        any_m.exec("workspace", f"echo {i}")
        assert Result(any_m.read("tmp/.exec")).output == b"%d\n" % i


def test_exec_in_a_directory_that_was_just_removed_fails_cleanly(any_room):
    """E5: nothing runs elsewhere."""
    os.mkdir(any_room.workspace + "/d")
    with Mount(any_room, "cache_timeout=600") as m:
        m.ls("workspace/d")
        m.lstat("workspace/d/.exec")
        os.rmdir(any_room.workspace + "/d")
        try:
            data = m.exec("workspace/d", "pwd > /tmp/where; echo ran")
            assert b"ran" not in data.split(b"\n")[0:1], data
        except OSError as e:
            assert e.errno in (errno.ENOENT, errno.ESTALE, errno.EIO), e
        assert not os.path.exists(any_room.tmp + "/where")


@root_only
def test_exec_where_the_vm_user_may_not_go_fails_cleanly():
    """E5: the script does not run elsewhere."""
    with Room(user=1234) as room:
        os.mkdir(room.workspace + "/closed")
        os.chmod(room.workspace + "/closed", 0o700)
        with Mount(room) as m:
            try:
                data = m.exec("workspace/closed", "pwd > /tmp/where; echo ran")
                assert not data.startswith(b"ran"), data
                assert not data.endswith(b"--- exit 0, 0 files changed\n")
            except OSError as e:
                assert e.errno in (errno.EACCES, errno.EIO), e
            assert not os.path.exists(room.tmp + "/where")


def test_background_jobs_do_not_hold_the_close(any_m):
    """E8: a job sent to the background with its output elsewhere."""
    gate = Gate(any_m.room)
    result = Result(any_m.exec(
        "workspace", f"(cat {gate.vm}; echo late > /tmp/late) "
        ">/dev/null 2>&1 </dev/null & echo started"))
    assert result.output == b"started\n"
    gate.open()
    wait_until(lambda: os.path.exists(any_m.room.tmp + "/late"), DEADLINE)


def test_a_path_mount_s_root_runs_in_that_directory(any_room):
    """E1: it is not the room's own root, so its .exec runs in it."""
    os.makedirs(any_room.home + "/pro j/sub")
    with Mount(any_room, path="pro j") as m:
        assert Result(m.exec("", "pwd")).output == b"/home/user/pro j\n"
        assert Result(m.exec("sub", "pwd")).output == \
            b"/home/user/pro j/sub\n"
