"""The virtual extended attributes user.gentility.*: had by name, never listed
and never copied; all others are refused without a request."""

import errno
import os
import shutil
import urllib.request

import pytest

from mountlib import MIB, Mount, do, pattern, put, raises, run

W = "workspace"
P = "user.gentility."


def get(m, name, *parts, **kw):
    return do(os.getxattr, m(*parts), P + name, **kw).decode()


def requests(m):
    return m.count()["total"]


def test_public_url_is_where_anybody_can_read_the_file(any_m):
    """S4"""
    names = ["plain.txt", "a b%c?#.txt", "ä\n'\".txt"]
    for name in names:
        put(any_m.room.workspace, name, "content of " + name)
    assert any_m.read(W, "plain.txt") == b"content of plain.txt"
    any_m.ls(W)
    any_m.forget()
    urls = {name: get(any_m, "public_url", W, name) for name in names}
    assert requests(any_m) == 0
    for name, url in urls.items():
        assert url.startswith(any_m.room.url + "/vm/"), url
        with urllib.request.urlopen(url) as answer:
            assert answer.read().decode() == "content of " + name


@pytest.mark.parametrize("paths", ["home", "home-encoded"])
def test_public_url_has_the_form_that_works(room, paths):
    """S4: as soon as it is known."""
    room.control(paths=paths)
    put(room.workspace, "f", "here")
    with Mount(room) as m:
        assert m.read(W, "f") == b"here"
        with urllib.request.urlopen(get(m, "public_url", W, "f")) as answer:
            assert answer.read() == b"here"


def test_mime_type_costs_one_request_for_a_version(any_m):
    """S4"""
    put(any_m.room.workspace, "page.html", "<p>")
    put(any_m.room.workspace, "picture.png", b"\x89PNG\r\n")
    put(any_m.room.workspace, "empty.txt", b"")
    put(any_m.room.workspace, "large.bin", pattern(8 * MIB))
    any_m.ls(W)
    any_m.forget()
    for n, (name, kind) in enumerate([
            ("page.html", "text/html"), ("picture.png", "image/png"),
            ("empty.txt", "text/plain"),
            ("large.bin", "application/octet-stream")]):
        for _ in range(2):
            assert get(any_m, "mime_type", W, name) == kind
        assert requests(any_m) == n + 1, any_m.room.log()
    entry = next(e for e in any_m.room.log() if "large" in e["path"])
    assert entry["bytes_out"] < 1000, "the file itself is not wanted"


def test_mime_type_without_range(room):
    """S4"""
    room.control(raw="norange")
    put(room.workspace, "page.html", "<p>" * 1000)
    with Mount(room) as m:
        assert get(m, "mime_type", W, "page.html") == "text/html"


@pytest.mark.parametrize("raw", ["off", "error", "forbidden"])
def test_no_mime_type_where_the_service_gives_none(room, raw):
    room.control(raw=raw)
    put(room.workspace, "f.txt", "x")
    with Mount(room) as m:
        raises(errno.ENODATA, os.getxattr, m(W, "f.txt"), P + "mime_type")
        assert m.read(W, "f.txt") == b"x"


def test_mime_type_and_a_silent_server(room):
    """F1"""
    put(room.workspace, "f.txt", "x")
    with Mount(room, "timeout=2") as m:
        m.ls(W)
        room.fault({"hang": -1}, kind="any")
        raises((errno.ETIMEDOUT, errno.EIO, errno.ENODATA), os.getxattr,
               m(W, "f.txt"), P + "mime_type")
        room.no_faults()


def test_cached_tells_what_is_here(any_m):
    """S4: and costs nothing."""
    put(any_m.room.workspace, "f", "x" * 1000)
    put(any_m.room.workspace, "empty", "")
    put(any_m.room.workspace, "large", pattern(64 * MIB))
    any_m.ls(W)
    any_m.forget()
    assert get(any_m, "cached", W, "f") == "no"
    assert get(any_m, "cached", W, "empty") == "yes"
    assert requests(any_m) == 0
    any_m.read(W, "f")
    assert get(any_m, "cached", W, "f") == "yes"
    any_m.sh(f"head -c 100 {W}/large >/dev/null")
    assert get(any_m, "cached", W, "large") == "partly"
    any_m.exec(W, "echo more >>f")
    assert get(any_m, "cached", W, "f") == "no"
    any_m.sh(f"echo new >{W}/new")
    assert get(any_m, "cached", W, "new") == "yes"


def test_instance_id_is_that_of_the_vm(any_m):
    """S4"""
    put(any_m.room.workspace, "f", "x")
    any_m.ls(W)
    any_m.forget()
    for parts in ((W, "f"), (W,), ()):
        assert get(any_m, "instance_id", *parts) == any_m.room.instance_id
    assert requests(any_m) == 0


def test_what_is_no_file_has_no_file_attributes(any_m):
    """S4"""
    os.mkfifo(os.path.join(any_m.room.workspace, "fifo"))
    any_m.ls(W)
    any_m.forget()
    for parts in ((W,), ()):
        for name in ("public_url", "mime_type", "cached"):
            raises(errno.ENODATA, os.getxattr, any_m(*parts), P + name)
    raises((errno.ENODATA, errno.EPERM), os.getxattr, any_m(W, "fifo"),
           P + "cached")
    assert requests(any_m) == 0


def test_every_other_name_is_refused_without_a_request(any_m):
    """W10"""
    put(any_m.room.workspace, "f", "x")
    any_m.ls(W)
    any_m.forget()
    for parts in ((W, "f"), (W,), ()):
        path = any_m(*parts)
        for name in ("security.capability", "security.selinux",
                     "system.posix_acl_access", "user.mime_type",
                     "user.gentility", P, P + "no_such", "user.a"):
            raises(errno.ENOTSUP, os.getxattr, path, name)
        for name in (P + "cached", "user.a"):
            raises(errno.ENOTSUP, os.setxattr, path, name, b"x")
            raises(errno.ENOTSUP, os.removexattr, path, name)
        assert do(os.listxattr, path) == []
    assert requests(any_m) == 0


COPIERS = {
    "cp": 'cp -a "$1/." "$2"',
    "rsync": 'rsync -aX "$1/" "$2"',
    "tar": 'tar --xattrs --xattrs-include="*" -C "$1" -cf - . | '
           'tar --xattrs --xattrs-include="*" -C "$2" -xf -',
}


@pytest.mark.parametrize("tool", COPIERS)
def test_copiers_do_not_meet_them(any_m, tmp_path, tool):
    """S4: no attribute in the copy, no complaint, no request for them."""
    if not shutil.which(tool):
        pytest.skip(f"no {tool} here")
    os.mkdir(os.path.join(any_m.room.workspace, "d"))
    for name in ("a.txt", "b.png"):
        put(any_m.room.workspace, "d/" + name, "some text")
    for name in ("a.txt", "b.png"):
        any_m.read(W, "d", name)
    any_m.forget()
    done = run(["bash", "-c", "set -o pipefail; " + COPIERS[tool], "bash",
                any_m(W, "d"), str(tmp_path)])
    assert done.status == 0 and done.err == b"", done
    assert requests(any_m) <= 1, any_m.room.log()
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.png"]
    for name in ("a.txt", "b.png"):
        assert os.listxattr(tmp_path / name) == []


def test_getfattr_by_name(any_m):
    """S4"""
    if not shutil.which("getfattr"):
        pytest.skip("no getfattr here (Debian: attr)")
    put(any_m.room.workspace, "f.txt", "x")
    done = any_m.sh(f"getfattr --only-values -n {P}mime_type {W}/f.txt")
    assert done.out == b"text/plain"
