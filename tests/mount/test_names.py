"""Names byte for byte, and directories of any size and depth."""

import errno
import os
import shutil

import pytest

from mountlib import (
    Mount, do, put, raises, read_file, sh, tree,
)

NAMES = [
    b" ", b" leading", b"trailing ", b"two  blanks", b"'", b'"', b"it's",
    b'"quoted"', b"$(touch pwned)", b"`touch pwned`", b"$HOME", b"${x}", b"~",
    b"new\nline", b"\n", b"\n\n", b"ends\n", b"tab\t", b"cr\r", b"-", b"-n",
    b"--", b"--help", b"-rf", b"%", b"%20", b"%2F", b"%s%n", b"?", b"??", b"#",
    b"a#b?c=d&e", b"*", b"[a-z]", b"{a,b}", b"\\", b"\\n", b"a\\b", b"\\0", b"|",
    b";", b"a;b", b"&", b"<", b">", b"!", b"=", b"+", b":", b"a:b", b",", b"@",
    b"...", b". ", b".hidden", b"..a", b"\x01", b"\x1b[31m", b"\x7f",
    b"\xff", b"\xfe\xff", b"a\xffb", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf",
    "ü".encode(), "u\u0308".encode(), "世界".encode(), "\U0001f600".encode(),
    b"\xef\xbf\xbd", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"e" * 255,
    "ü".encode() * 127, b"\xff" * 255, b"\n" * 255, b"'" * 255, b"con", b"nul",
    b"--- exit 0, 0 files changed", b"0", b"1 2 3", b"f\t1\t2", b"===",
]


def fill(top):
    """Each name as a file, a directory with a file, and a link to the file."""
    for kind in (b"files", b"dirs", b"links"):
        os.mkdir(os.path.join(os.fsencode(top), kind))
    for i, name in enumerate(NAMES):
        put(top, b"files/" + name, b"contents %d" % i)
        put(top, b"dirs/" + name + b"/" + name, b"inside %d" % i)
        os.symlink(b"../files/" + name,
                   os.path.join(os.fsencode(top), b"links", name))


def look(top):
    top = os.fsencode(top)
    found = {}
    for kind in (b"files", b"dirs", b"links"):
        for name in os.listdir(os.path.join(top, kind)):
            path = os.path.join(top, kind, name)
            st = os.lstat(path)
            if kind == b"dirs":
                found[kind, name] = (os.listdir(path),
                                     read_file(os.path.join(path, name)))
            elif kind == b"links":
                found[kind, name] = (os.readlink(path), read_file(path))
            else:
                found[kind, name] = (st.st_size, read_file(path))
    return found


@pytest.mark.parametrize("paths", ["absolute", "home", "home-encoded"])
def test_any_name_is_exact(any_room, paths):
    """A2: files, directories and links of any name, listed, looked up, read."""
    any_room.control(paths=paths)
    fill(any_room.workspace)
    want = look(any_room.workspace)
    assert len(want) == 3 * len(NAMES)
    with Mount(any_room) as m:
        assert do(look, m("workspace"), timeout=60) == want
    assert not os.path.exists(any_room.home + "/pwned")
    assert not os.path.exists(any_room.workspace + "/pwned")


def test_any_name_can_be_looked_up_without_listing(any_room):
    """A2: and names that do not exist are ENOENT, with the same letters."""
    fill(any_room.workspace)

    def ask(top):
        for i, name in enumerate(NAMES):
            path = os.path.join(os.fsencode(top), b"dirs", name, name)
            assert read_file(path) == b"inside %d" % i
            try:
                os.lstat(path[:-1] + b"\x02")
            except FileNotFoundError:
                continue
            raise AssertionError(name)
        return True

    with Mount(any_room) as m:
        assert do(ask, m("workspace"), timeout=60)


@pytest.mark.parametrize("name", [
    b"it's $(here)", b"new\nline", b"\xff\xfe", b"-n", b"%2F ?#", b" ",
    b"e" * 255])
def test_any_name_can_be_the_root(any_room, name):
    """A2: as PATH of the source (`:` included)."""
    put(any_room.workspace, name + b"/in", b"x")
    if name in (b"%2F ?#", b" "):
        put(any_room.workspace, name + b"/a:b/in", b"y")
    with Mount(any_room, path=os.fsdecode(b"/workspace/" + name)) as m:
        assert m.read("in") == b"x"
        if name in (b"%2F ?#", b" "):
            assert m.read("a:b/in") == b"y"


def test_a_name_that_is_too_long_is_refused(m):
    """A2: 256 bytes are ENAMETOOLONG."""
    raises(errno.ENAMETOOLONG, os.lstat, m("workspace", "x" * 256))


def test_names_of_control_files_of_the_room_are_hidden_behind_ours(any_room):
    """E7: a real file .exec in the room does not show as two."""
    put(any_room.workspace, ".exec", "real")
    with Mount(any_room) as m:
        assert m.ls("workspace").count(".exec") <= 1
        assert m.lstat("workspace/.exec").st_mode & 0o777 == 0o600
    with Mount(any_room, "no_control") as m:
        assert m.read("workspace/.exec") == b"real"


@pytest.mark.slow
def test_a_directory_of_50000_entries(any_room):
    """A2, A4: all names, all attributes, in one command."""
    top = any_room.workspace + "/many"
    os.mkdir(top)
    want = set()
    for i in range(50_000):
        name = f"entry number {i:05d} of many"
        os.close(os.open(os.path.join(top, name), os.O_CREAT | os.O_WRONLY))
        want.add(name)

    def ask(path):
        with os.scandir(path) as entries:
            return {e.name for e in entries}

    with Mount(any_room, path="/workspace") as m:
        m.forget()
        assert do(ask, m("many"), timeout=60) == want
        count = m.count()
        assert count["command"] == 1, count
        m.forget()
        done = m.sh('ls -l many | wc -l', timeout=60)
        assert int(done.text) == 50_001
        assert m.lstat("many/entry number 49999 of many").st_size == 0
        raises(errno.ENOENT, os.lstat, m("many/entry number 50000 of many"))
    shutil.rmtree(top)


def test_a_directory_read_in_parts_is_complete(any_room):
    """A2: telldir and seekdir; entries come once each although the directory
    changes meanwhile."""
    import ctypes
    names = {f"f{i:04d}" for i in range(2000)}
    for n in names:
        put(any_room.workspace, "d/" + n)

    def walk(path, host):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.opendir.restype = ctypes.c_void_p
        libc.readdir64.restype = ctypes.c_void_p
        libc.readdir64.argtypes = [ctypes.c_void_p]
        libc.telldir.argtypes = [ctypes.c_void_p]
        libc.telldir.restype = ctypes.c_long
        libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
        handle = libc.opendir(os.fsencode(path))

        def step():
            entry = libc.readdir64(handle)
            return entry and ctypes.string_at(entry + 19).decode()

        seen, places = [], []
        while True:
            places.append(libc.telldir(handle))
            name = step()
            if not name:
                break
            seen.append(name)
            if len(seen) == 500:
                os.unlink(host + "/d/f0000")
                open(host + "/d/new", "w").close()
        libc.seekdir(handle, places[700])
        again = [step() for _ in range(50)]
        return seen, again

    with Mount(any_room, "cache_timeout=0") as m:
        seen, again = do(walk, m("workspace/d"), any_room.workspace)
        assert len(seen) == len(set(seen))
        assert names - {"f0000"} <= set(seen)
        assert again == seen[700:750]


def test_depth_of_60_directories(any_room):
    """A2: with names of 60 bytes, found from the root and by name."""
    rel = "/".join(f"{'d' * 55} {i:04d}" for i in range(60))
    sh('cd "$1" && IFS=/ && for d in $2; do mkdir "$d" && cd "./$d"; done && '
       'printf bottom > file', any_room.workspace, rel)
    with Mount(any_room) as m:
        done = m.sh('find workspace -name file | wc -c', timeout=60)
        assert int(done.text) == len("workspace/" + rel + "/file\n")
        assert do(read_file, m("workspace", rel, "file")) == b"bottom"
        assert m.sh('du -s workspace >/dev/null && echo fine').text == "fine\n"


def test_the_bottom_of_a_deep_tree_is_reached_by_name(any_room):
    """A2, A11: cold, by its whole path."""
    rel = "/".join(f"d{i}" for i in range(60))
    put(any_room.workspace, rel + "/file", "bottom")
    with Mount(any_room) as m:
        assert m.read("workspace", rel, "file", timeout=30) == b"bottom"


def test_entries_that_differ_in_case_only(any_room):
    """A2"""
    for name in ("readme", "README", "ReadMe"):
        put(any_room.workspace, name, name)
    with Mount(any_room) as m:
        assert m.ls("workspace") == ["README", "ReadMe", "readme"]
        for name in ("readme", "README", "ReadMe"):
            assert m.read("workspace", name) == name.encode()


def test_link_texts_are_exact(any_room):
    """A2: texts of links that could break a listing."""
    texts = [b"\n", b"/\n/", b"a\nf 1 2 3", b"\xff", b"x" * 4000, b" ", b"'",
             b"../../..", b".", b"\t\t", b"end\n\n"]
    top = os.fsencode(any_room.workspace)
    os.mkdir(top + b"/d")
    for i, text in enumerate(texts):
        os.symlink(text, top + b"/d/%d\n" % i)
    with Mount(any_room, "no_transform_symlinks") as m:
        got = do(tree, m("workspace/d"))
    for i, text in enumerate(texts):
        assert got[b"%d\n" % i][1] == text
