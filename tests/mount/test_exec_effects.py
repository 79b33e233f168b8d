"""When close() of .exec returns, everything that the command did is visible,
also where the kernel had cached the old state."""

import errno
import mmap
import os
import signal
import stat

import pytest

from mountlib import (
    DEADLINE, MIB, Call, Gate, Mount, Result, do, exec_script, pattern, put,
    raises, read_file, tree, wait_until,
)

LONG = "cache_timeout=3600"  # nothing goes stale by itself


@pytest.fixture
def warm(any_room):
    """A mount whose kernel knows all of a small tree."""
    top = any_room.workspace
    put(top, "file", "old contents\n")
    put(top, "other", "other\n")
    put(top, "d/inner", "inner\n")
    put(top, "d/e/deep", "deep\n")
    os.symlink("file", top + "/link")
    os.mkdir(top + "/empty")
    with Mount(any_room, LONG) as m:
        look(m)
        yield m


def look(m):
    """Fill every cache there is: names, attributes, links, pages, and names
    that do not exist."""
    def everything(top):
        found = tree(top)
        for name, (st, _) in found.items():
            if stat.S_ISREG(st.st_mode):
                read_file(os.path.join(os.fsencode(top), name))
        for name in ("new", "d/new", "moved", "made"):
            assert not os.path.lexists(os.path.join(top, name))
        return sorted(found)
    return do(everything, m("workspace"))


def test_created_files(warm):
    """E3: listed, found where they were known not to be, and read."""
    warm.exec("workspace", "echo hi > new; echo low > d/new")
    assert warm.read("workspace/new") == b"hi\n"
    assert "new" in warm.ls("workspace") and "new" in warm.ls("workspace/d")
    assert warm.read("workspace/d/new") == b"low\n"
    assert warm.lstat("workspace/new").st_size == 3


def test_created_directories_and_links(warm):
    """E3: which the change list does not mention."""
    warm.exec("workspace", "mkdir -p made/below; ln -s file made/l; "
              "mkfifo made/p; ln file made/hard; : > made/below/f")
    assert "made" in warm.ls("workspace")
    assert warm.ls("workspace/made") == ["below", "hard", "l", "p"]
    assert warm.ls("workspace/made/below") == ["f"]
    assert do(os.readlink, warm("workspace/made/l")) == "file"
    assert warm.lstat("workspace/file").st_nlink == 2


def test_an_empty_directory_alone(warm):
    """E3: the only effect is one the change list cannot say."""
    result = Result(warm.exec("workspace", "mkdir new"))
    assert result.changed == 0
    assert warm.ls("workspace/new") == []
    assert "new" in warm.ls("workspace")


@pytest.mark.parametrize("script", [
    "echo new contents > file", "printf 'old c0ntents\\n' > file",
    "echo more >> file", ": > file", "echo other > x; mv x file",
    "cp -p file x; printf 'old c0ntents\\n' > x; touch -r file x; mv x file",
    "sed -i s/old/new/ file", "rm file; echo again > file",
])
def test_changed_files(warm, script):
    """E3: modified in place or replaced, same size or not, same mtime or
    not."""
    warm.exec("workspace", script)
    with open(warm.room.workspace + "/file", "rb") as f:
        want = f.read()
    assert warm.read("workspace/file") == want
    assert warm.read("workspace/link") == want
    st = os.stat(warm.room.workspace + "/file")
    got = warm.lstat("workspace/file")
    assert (got.st_size, got.st_mtime_ns, got.st_ctime_ns) == (
        st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def test_large_files_changed_in_the_middle(any_room):
    """E3: some bytes of 5 MiB."""
    data = bytearray(pattern(5 * MIB))
    put(any_room.workspace, "big", data)
    with Mount(any_room, LONG) as m:
        assert m.read("workspace/big") == data
        m.exec("workspace", "printf CHANGED | dd of=big bs=1 seek=3000000 "
               "conv=notrunc 2>/dev/null")
        data[3000000:3000007] = b"CHANGED"
        assert m.read("workspace/big") == data


def test_removed_files_and_trees(warm):
    """E3: ENOENT at once, and not listed."""
    warm.exec("workspace", "rm file; rm -r d; rmdir empty; rm link")
    assert warm.ls("workspace") == ["other"]
    for name in ("file", "d", "d/inner", "d/e/deep", "empty", "link"):
        raises(errno.ENOENT, os.lstat, warm("workspace", name))
    raises(errno.ENOENT, read_file, warm("workspace/file"))
    raises(errno.ENOENT, os.listdir, warm("workspace/d"))


def test_renamed_files_and_directories(warm):
    """E3: old names are gone, new ones there, contents with them."""
    warm.exec("workspace", "mv file moved; mv d made")
    assert warm.ls("workspace") == ["empty", "link", "made", "moved", "other"]
    assert warm.read("workspace/moved") == b"old contents\n"
    assert warm.read("workspace/made/e/deep") == b"deep\n"
    raises(errno.ENOENT, os.lstat, warm("workspace/d/inner"))
    raises(errno.ENOENT, os.lstat, warm("workspace/d"))
    raises(errno.ENOENT, read_file, warm("workspace/link"))


def test_exchanged_names(warm):
    """E3: two files and a file and a directory take each other's place."""
    warm.exec("workspace", "mv file x; mv other file; mv x other; "
              "mv d y; mv other d; mv y other")
    assert warm.read("workspace/file") == b"other\n"
    assert warm.read("workspace/d") == b"old contents\n"
    assert warm.ls("workspace/other") == ["e", "inner"]
    raises(errno.ENOTDIR, os.listdir, warm("workspace/d"))


def test_modes_and_times(warm):
    """E3: chmod and touch, of which the change list says nothing."""
    warm.exec("workspace", "chmod 751 file d; chmod 4755 other; "
              "touch -d '2001-02-03 04:05:06' d/inner")
    assert stat.S_IMODE(warm.lstat("workspace/file").st_mode) == 0o751
    assert stat.S_IMODE(warm.lstat("workspace/d").st_mode) == 0o751
    assert stat.S_IMODE(warm.lstat("workspace/other").st_mode) == 0o4755
    assert warm.lstat("workspace/d/inner").st_mtime_ns == \
        os.stat(warm.room.workspace + "/d/inner").st_mtime_ns


def test_link_texts(warm):
    """E3: a symlink that points elsewhere."""
    warm.exec("workspace", "ln -sf other link")
    assert do(os.readlink, warm("workspace/link")) == "other"
    assert warm.read("workspace/link") == b"other\n"


def test_a_file_that_becomes_a_directory_and_the_other_way(warm):
    """E3"""
    warm.exec("workspace", "rm file; mkdir file; echo x > file/in; "
              "rm -r d; echo now a file > d")
    assert warm.read("workspace/file/in") == b"x\n"
    assert warm.read("workspace/d") == b"now a file\n"


def test_effects_elsewhere_in_the_mount(warm):
    """E3: not only in the directory whose .exec it is."""
    warm.ls("tmp")
    warm.ls("home/user")
    warm.exec("tmp", "echo a > /workspace/new; echo b > /tmp/t; "
              "echo c > /home/user/h; echo d > /workspace/d/e/deep")
    assert warm.read("workspace/new") == b"a\n"
    assert warm.read("tmp/t") == b"b\n"
    assert warm.read("home/user/h") == b"c\n"
    assert warm.read("workspace/d/e/deep") == b"d\n"


def test_every_kind_of_effect_by_the_root_s_own(warm):
    """E3: the root's .exec shows what it did just as well."""
    warm.exec("", "cd /workspace; echo n > new; rm other; mkdir made; "
              "chmod 700 file")
    assert set(warm.ls("workspace")) >= {"new", "made", "file"}
    assert "other" not in warm.ls("workspace")
    assert stat.S_IMODE(warm.lstat("workspace/file").st_mode) == 0o700


def test_with_a_service_that_lists_no_changes(warm):
    """E3: files_changed is a hint, not a truth: without any, all is seen."""
    warm.room.control(track=False)
    result = Result(warm.exec("workspace", "echo new > file; echo x > new; "
                              "rm other; mkdir made; mv d/inner d/new"))
    assert result.changed == 0
    assert warm.read("workspace/file") == b"new\n"
    assert warm.read("workspace/new") == b"x\n"
    assert warm.ls("workspace") == ["d", "empty", "file", "link", "made", "new"]
    assert warm.ls("workspace/d") == ["e", "new"]


def test_many_changes_at_once(any_room):
    """E3: 2,000 files made, then removed."""
    with Mount(any_room, LONG) as m:
        assert m.ls("workspace") == []
        m.exec("workspace", "i=0; while [ $i -lt 2000 ]; do : > f$i; "
               "i=$((i+1)); done", timeout=60)
        assert len(m.ls("workspace")) == 2000
        assert m.lstat("workspace/f1999").st_size == 0
        m.exec("workspace", "rm -f f1*; echo x > f2", timeout=60)
        left = m.ls("workspace")
        assert len(left) == 889 and m.read("workspace/f2") == b"x\n"


def test_the_script_s_own_shell_sees_them(warm):
    """E3: write, close, read in one program, again and again."""
    done = warm.sh("""cd workspace
        for i in 1 2 3 4 5 6 7 8 9 10; do
            echo "echo $i > file; echo $i > f$i" > .exec
            cat file f$i; ls | grep -c '^f'
        done""", timeout=60)
    want = "".join(f"{i}\n{i}\n{i + 1}\n" for i in range(1, 11))
    assert done.text == want


# -- by who holds something open ---------------------------------------------


def holding(how, path, script, control):
    """Hold path open with how's answer before and after the script."""
    fd = os.open(path, os.O_RDONLY)
    before = how(fd)
    exec_script(control, script)
    after = how(fd)
    os.close(fd)
    return before, after


def test_a_file_held_open_shows_what_was_written_into_it(warm):
    """E3: the descriptor's pages and size are the new ones."""
    def how(fd):
        return os.pread(fd, 1000, 0), os.fstat(fd).st_size

    before, after = do(
        holding, how, warm("workspace/file"),
        "printf 'NEW' | dd of=file conv=notrunc 2>/dev/null; echo tail >> file",
        warm("workspace/.exec"))
    assert before == (b"old contents\n", 13)
    assert after == (b"NEW contents\ntail\n", 18)


def test_a_file_held_open_and_replaced_is_one_version_or_an_error(warm):
    """E3, R4: a descriptor of a replaced file shows the old file, the new one,
    or ESTALE; no mixture, and the name shows the new one."""
    def how(fd):
        try:
            return os.pread(fd, 1000, 0)
        except OSError as e:
            return e.errno

    before, after = do(
        holding, how, warm("workspace/file"),
        "echo entirely different > x; mv x file", warm("workspace/.exec"))
    assert before == b"old contents\n"
    assert after in (b"old contents\n", b"entirely different\n",
                     errno.ESTALE)
    assert warm.read("workspace/file") == b"entirely different\n"


def test_a_directory_held_open_lists_the_new_entries(warm):
    """E3: read again from its start; and as a shell's own directory."""
    before, after = do(
        holding, lambda fd: sorted(os.listdir(fd)), warm("workspace/d"),
        "touch d/new; rm d/inner", warm("workspace/.exec"))
    assert before == ["e", "inner"]
    assert after == ["e", "new"]
    done = warm.sh("cd workspace/d; echo 'mkdir f; touch g' > .exec; ls; "
                   "echo 'cd ..; mv d made' > .exec; ls ../made")
    assert done.text.split() == ["e", "f", "g", "new"] * 2


def test_a_mapped_file_shows_the_new_bytes_when_opened_again(any_room):
    """E3: and a mapping that stays never shows bytes of neither."""
    put(any_room.workspace, "file", b"a" * 100_000)

    def talk(path, control):
        def view():
            with open(path, "rb") as f:
                return mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED,
                                 mmap.PROT_READ)
        first = view()
        old = first[:]
        exec_script(control, "tr a b < file > x; cat x > file; rm x")
        second = view()
        kept = set(first[:])
        return old, second[:], kept

    with Mount(any_room, LONG) as m:
        old, new, kept = do(talk, m("workspace/file"), m("workspace/.exec"))
    assert old == b"a" * 100_000 and new == b"b" * 100_000
    assert kept <= {ord("a"), ord("b")}


def test_other_programs_see_it_when_close_has_returned(warm):
    """E3: a second process that had looked before."""
    ready, go = os.pipe(), os.pipe()

    def other(path):
        before = read_file(path), os.path.lexists(path + "2")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        return before, (read_file(path), os.path.lexists(path + "2"))

    call = Call(other, warm("workspace/file"))
    os.read(ready[0], 1)
    warm.exec("workspace", "echo new > file; touch file2")
    os.write(go[1], b"x")
    assert call.result() == ((b"old contents\n", False), (b"new\n", True))


def test_what_the_script_left_as_it_was_is_not_fetched_again(warm):
    """E11, R3: unchanged files cost no transfer after a command."""
    warm.forget()
    warm.exec("workspace", "echo new > other")
    assert warm.read("workspace/file") == b"old contents\n"
    assert warm.read("workspace/d/inner") == b"inner\n"
    assert warm.read("workspace/d/e/deep") == b"deep\n"
    count = warm.count()
    assert count["file"] + count["raw"] == 0, count
    assert warm.read("workspace/other") == b"new\n"


def test_effects_of_a_command_whose_close_was_interrupted_show_later(warm):
    """E3, E6: once it has ended, all is seen."""
    gate = Gate(warm.room)
    call = Call(exec_script, warm("workspace/.exec"),
                f"cat {gate.vm}; echo late > file; touch new")
    gate.wait()
    call.signal(signal.SIGINT)
    with pytest.raises((KeyboardInterrupt, InterruptedError)):
        call.result()
    gate.open()
    wait_until(lambda: warm.exists("workspace/new"), DEADLINE)
    wait_until(lambda: warm.read("workspace/file") == b"late\n", DEADLINE)
