"""How symbolic links read, and what stands in the room when tools copy them."""

import errno
import os
import subprocess

import pytest

from helpers_write import W, host, save
from mountlib import (
    Mount, do, outcome, raises, read_file, run, sh, unmount,
    wait_until,
)

# As a room has them: absolute, with and without something there; `/`.
ABSOLUTE = {"abs": "/tmp/target", "dead": "/etc/nothing/here", "top": "/",
            "slashes": "//tmp///target", "dir": "/tmp/dir/"}
GIT = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
       "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b",
       "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": "2",
       "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
       "GIT_CONFIG_KEY_1": "core.checkStat", "GIT_CONFIG_VALUE_1": "minimal"}


def fill(room):
    """The links above, beside a relative one, and a deep directory."""
    top = room.workspace
    os.makedirs(top + "/src", exist_ok=True)
    os.makedirs(top + "/d/e/f", exist_ok=True)
    save(os.path.join(room.tmp, "target"), b"of the room\n")
    os.makedirs(room.tmp + "/dir", exist_ok=True)
    for name, text in ABSOLUTE.items():
        os.symlink(text, f"{top}/src/{name}")
    os.symlink("../src/abs", top + "/src/rel")
    return top


def texts(directory):
    """Of the links in a directory."""
    return {name: os.readlink(os.path.join(directory, name))
            for name in sorted(os.listdir(directory))
            if os.path.islink(os.path.join(directory, name))}


def shown(m, text):
    """An absolute link of the room, as it reads in the mount."""
    return m.dir + text


# -- what is made ----------------------------------------------------------------


MADE = ["/etc/hostname", "/", "//x", "/a/../b", "../../../../../../etc/passwd",
        "up/../../../../../../x", "rel", "/etc/\n\xff", "..", "."]


def make_all(top, made):
    for i, text in enumerate(made):
        os.symlink(text, f"{top}/{i}")


def read_all(top, made):
    return [os.readlink(f"{top}/{i}") for i in range(len(made))]


def test_what_is_made_reads_back(any_room, tmp_path):
    """A21: whatever it is, also renamed, copied, with other times, and after a
    new mount, even when the driver was killed."""
    os.mkdir(host(any_room, "d"))
    cache = str(tmp_path / "cache")
    with Mount(any_room, cache=cache) as m:
        made = MADE + [m.dir, m.dir + "/", m.dir + "/tmp/x", m.dir + "//y",
                       m.dir + "/..", m.dir + "x"]
        in_mount = range(len(MADE), len(MADE) + 4)
        do(make_all, m(W, "d"), made, timeout=100)
        assert do(read_all, m(W, "d"), made) == made
        for i, text in enumerate(made):
            assert m.lstat(W, "d", str(i)).st_size == len(os.fsencode(text))
            # In the room: as made, but for what lies in the mount.
            there = text if i not in in_mount else \
                {m.dir: "/", m.dir + "/": "//"}.get(text, text[len(m.dir):])
            assert os.readlink(host(any_room, f"d/{i}")) == there
        m.sh("cd workspace && touch -hd @12345 d/0 && mkdir -p u/v/w"
             " && mv d/0 u/v/w/0 && ln u/v/w/0 d/0")
        assert do(os.readlink, m(W, "u/v/w/0")) == made[0]
        assert do(read_all, m(W, "d"), made) == made
        # Renamed in the room it is still the same.
        os.rename(host(any_room, "u/v/w/0"), host(any_room, "u/1"))
        m.exec(W, "true")
        assert do(os.readlink, m(W, "u/1")) == made[0]
        m.kill()
        unmount(m.dir)
        m.process = None  # its end was no good one
        m.status = 0
        with Mount(any_room, cache=cache) as again:
            for i in in_mount:
                made[i] = made[i].replace(m.dir, again.dir)
            assert do(read_all, again(W, "d"), made) == made
            assert do(os.readlink, again(W, "u/1")) == made[0]


def test_a_link_of_the_room_in_place_of_one_made_here_leads_inside(room):
    """A21, A3: with the same text, and even the same inode number."""
    save(room.tmp + "/only-there", b"of the room\n")
    with Mount(room) as m:
        do(os.symlink, "/tmp/only-there", m(W, "l"))
        assert do(os.readlink, m(W, "l")) == "/tmp/only-there"
        raises(errno.ENOENT, read_file, m(W, "l"))
        m.exec(W, "rm l; ln -s /tmp/only-there l")
        assert do(os.readlink, m(W, "l")) == shown(m, "/tmp/only-there")
        assert m.read(W, "l") == b"of the room\n"


def test_two_mounts_agree_on_what_was_made(room, tmp_path):
    """A21, L3: mounts that share a cache directory."""
    cache = str(tmp_path / "cache")
    with Mount(room, "cache_timeout=0", cache=cache) as a, \
            Mount(room, "cache_timeout=0", cache=cache) as b:
        for i, (here, there) in enumerate(((a, b), (b, a), (a, b))):
            do(os.symlink, f"/etc/{i}", here(W, f"l{i}"))
            wait_until(lambda: there.exists(W, f"l{i}"), 30, "the link")
            assert do(os.readlink, there(W, f"l{i}")) == f"/etc/{i}"


def private(path, flags):
    return os.open(path, flags, 0o600)


def test_what_stands_in_the_file_of_links_is_not_believed(room, tmp_path):
    """A21, L2: other bytes, a link, a fifo, an open file: nothing breaks, and
    no link of the room leads out."""
    cache = str(tmp_path / "cache")
    os.symlink("/etc/hostname", host(room, "theirs"))
    with Mount(room, cache=cache) as m:
        do(os.symlink, "/etc/hostname", m(W, "mine"))
    name, = (n for n in os.listdir(cache) if n.startswith("links-"))
    path = os.path.join(cache, name)
    good = open(path, "rb").read()

    def junk():
        with open(path, "wb", opener=private) as f:
            f.write(os.urandom(1000) + b"0 0 0 " + b"g" * 64 + b"\n" * 3000)

    def half():
        with open(path, "wb", opener=private) as f:
            f.write(good + good[:40])

    def link():
        os.symlink(str(tmp_path / "victim"), path)

    for spoil in (junk, half, link, lambda: os.mkfifo(path, 0o600)):
        if os.path.lexists(path):
            os.unlink(path)
        spoil()
        owner = os.stat(cache)
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        with Mount(room, cache=cache) as m:
            assert do(os.readlink, m(W, "theirs")) == shown(m, "/etc/hostname")
            if spoil is half:
                assert do(os.readlink, m(W, "mine")) == "/etc/hostname"
            do(os.symlink, "/etc/x", m(W, "new"))
            assert do(os.readlink, m(W, "new")) == "/etc/x"
            do(os.unlink, m(W, "new"))
    assert not os.path.lexists(tmp_path / "victim")


def test_without_transforming_nothing_is_touched(room):
    """A3: no_transform_symlinks: what is made goes to the room as it is."""
    with Mount(room, "no_transform_symlinks") as m:
        for i, text in enumerate(("/etc/x", m.dir + "/x", "../../../../x")):
            do(os.symlink, text, m(W, f"l{i}"))
            assert do(os.readlink, m(W, f"l{i}")) == text
            assert os.readlink(host(room, f"l{i}")) == text


# -- what is copied ------------------------------------------------------------------


COPIES = {
    "cp": 'cp -a "$1/." "$2"',
    "tar": 'tar -C "$1" -cf - . | tar -C "$2" -xf -',
    "rsync": 'rsync -a "$1/" "$2"',
    "mv": 'mv "$1"/* "$2"',
}


@pytest.mark.parametrize("tool", COPIES)
def test_copies_say_in_the_room_what_the_original_says(any_room, tool):
    """A22: at any depth."""
    top = fill(any_room)
    before = texts(top + "/src")
    with Mount(any_room) as m:
        m.sh('ls -lR workspace >/dev/null')
        do(os.symlink, "/usr/lib/local", m(W, "src/made"))
        before["made"] = "/usr/lib/local"
        as_read = do(texts, m(W, "src"))
        sh(COPIES[tool], m(W, "src"), m(W, "d/e/f"), timeout=120)
        assert texts(top + "/d/e/f") == before
        assert do(texts, m(W, "d/e/f")) == as_read
        assert m.read(W, "d/e/f/abs") == b"of the room\n"
        assert as_read["abs"] == shown(m, "/tmp/target")
        assert as_read["made"] == "/usr/lib/local"


def test_copies_in_a_mount_of_a_path(any_room):
    """A22, A3: with PATH, what lies within, and what leads out of it."""
    top = os.path.join(any_room.home, "proj")
    os.makedirs(top + "/sub/deep")
    save(top + "/file", b"inside\n")
    links = {"in": "/home/user/proj/file", "root": "/home/user/proj",
             "out": "/etc/passwd", "beside": "/home/user/project",
             "above": "../outside", "far": "../../../../../etc/passwd",
             "dots": "/home/user/proj/../.../x"}
    for name, text in links.items():
        os.symlink(text, f"{top}/{name}")
    with Mount(any_room, path="proj") as m:
        sh('cd "$1" && cp -a ' + " ".join(links) + " sub/deep/", m.dir)
        assert texts(top + "/sub/deep") == links
        assert m.read("sub/deep/in") == b"inside\n"
        assert do(os.readlink, m("in")) == m("file")
        assert do(os.readlink, m("root")) == m.dir
        for name in set(links) - {"in", "root"}:
            for where in (".", "sub/deep"):
                raises(errno.ENOENT, read_file, m(where, name))
        do(os.symlink, m("file"), m("made"))
        assert os.readlink(top + "/made") == "/home/user/proj/file"


def test_rsync_sends_no_link_again(any_room, tmp_path):
    """A22: from this machine, and to it."""
    local = tmp_path / "local"
    local.mkdir()
    for name, text in ABSOLUTE.items():
        (local / name).symlink_to(text)
    (local / "rel").symlink_to("abs")
    rsync = 'rsync -ai --no-o --no-g "$1/" "$2"'
    with Mount(any_room) as m:
        do(os.mkdir, m(W, "copy"))
        sh(rsync, str(local), m(W, "copy"))
        assert texts(host(any_room, "copy")) == texts(str(local))
        assert sh(rsync, str(local), m(W, "copy")).text == ""
        fill(any_room)
        m.exec(W, "true")
        sh(rsync, m(W, "src"), str(tmp_path / "back"))
        assert sh(rsync, m(W, "src"), str(tmp_path / "back")).text == ""


def test_a_moved_link_of_the_room_leads_where_it_did(any_room):
    """A3: to another depth, also by moving a directory above it."""
    top = fill(any_room)
    os.symlink("../../../../../tmp/target", top + "/src/climb")
    with Mount(any_room) as m:
        for name in ("abs", "climb"):
            assert m.read(W, "src", name) == b"of the room\n"
        m.sh("cd workspace && mv src/abs . && mv src/climb d/e/f/")
        assert m.read(W, "abs") == b"of the room\n"
        assert m.read(W, "d/e/f/climb") == b"of the room\n"
        m.sh("mv workspace/d/e/f workspace/f")
        assert m.read(W, "f/climb") == b"of the room\n"


# -- where they lead ------------------------------------------------------------------


def test_no_way_out_through_other_links(any_room, tmp_path):
    """A3: `..` behind a link, behind a link to a link, in links with several
    names, and where a name becomes a link later."""
    (tmp_path / "only-here").write_text("local")
    local = str(tmp_path / "only-here")[1:]
    up = "../" * 10
    top = any_room.workspace
    os.makedirs(top + "/d/e")
    save(top + "/x", b"x")
    os.symlink(".", top + "/here")
    os.symlink("/", top + "/root")
    os.symlink("here", top + "/again")
    for i, text in enumerate((
            f"here/{up}{local}", f"again/{up}{local}", f"root/{up}{local}",
            f"/workspace/here/{up}{local}", f"d/../root/{up}{local}",
            f"nothing/{up}{local}", f"x/{up}{local}", f"/{up}{local}")):
        os.symlink(text, f"{top}/bad{i}")
    os.symlink("../../x", top + "/d/e/deep")
    os.link(top + "/d/e/deep", top + "/deep", follow_symlinks=False)
    os.symlink("d/../x", top + "/good")
    os.symlink("root/../x", top + "/stops")  # at the room's root
    with Mount(any_room) as m:
        for i in range(8):
            error = do(outcome, read_file, m(W, f"bad{i}"))
            assert error in (errno.ENOENT, errno.ENOTDIR), (i, error)
            # No text has a way out in it.
            text = do(os.readlink, m(W, f"bad{i}"))
            assert ".." not in text.split("/"), text
        assert m.read(W, "good") == b"x"
        assert do(os.readlink, m(W, "good")) == "d/../x"
        assert m.read(W, "d/e/deep") == b"x"
        assert do(os.readlink, m(W, "stops")) == m("x")
        m.exec(W, "rm -r d; ln -s / d")
        assert do(os.readlink, m(W, "good")) == m("x")


def test_the_way_is_asked_for_when_it_is_not_known(room):
    """A3: `..` behind a directory that nobody has looked into."""
    os.makedirs(room.workspace + "/a/b/c")
    os.symlink("/tmp", room.workspace + "/a/b/l")
    save(room.tmp + "/../workspace/a/b/x", b"x")
    os.symlink("a/b/c/../x", room.workspace + "/plain")
    os.symlink("a/b/l/../workspace/a/b/x", room.workspace + "/linked")
    with Mount(room) as m:
        assert do(os.readlink, m(W, "plain")) == "a/b/c/../x"
    with Mount(room) as m:
        assert m.read(W, "linked") == b"x"


def test_a_directory_that_becomes_a_link_under_a_walk(room, tmp_path):
    """A3: the text was right when it was read; the kernel, which goes by it, is
    not led out."""
    os.makedirs(room.workspace + "/d")
    os.symlink("d/../../../x", room.workspace + "/l")
    os.symlink("d/../x", room.workspace + "/l2")
    with Mount(room, "cache_timeout=0") as m:
        assert do(os.readlink, m(W, "l2")) == "d/../x"
        os.rmdir(room.workspace + "/d")
        os.symlink("/", room.workspace + "/d")
        # Whoever was on this way meets an error, not a link.
        wait_until(lambda: do(outcome, os.readlink, m(W, "d")) == errno.ESTALE,
                   30, "the change")
        # And who begins anew finds what is there now.
        assert do(os.readlink, m(W, "l2")) == m("x")


# -- git ---------------------------------------------------------------------------


def git(m, *args, cwd="workspace/repo", ok=True):
    done = run(["git", "-C", m(cwd), *args], env=GIT, timeout=120)
    assert not ok or done.status == 0, done
    return done.text


def own(top):
    """All below belongs to the room's user, as the directory above does."""
    owner = os.stat(os.path.dirname(top))
    for where, dirs, files in os.walk(top):
        for name in [".", *dirs, *files]:
            os.chown(os.path.join(where, name), owner.st_uid, owner.st_gid,
                     follow_symlinks=False)


@pytest.fixture
def repo(any_room):
    """A repository of the room with links, committed there."""
    top = any_room.workspace + "/repo"
    os.makedirs(top + "/sub")
    save(top + "/file", b"x\n")
    os.symlink("/etc/hostname", top + "/sub/abs")
    os.symlink("../file", top + "/sub/rel")
    os.symlink("../../../../../etc/x", top + "/sub/climb")
    for args in (["init", "-q", "-b", "main"], ["add", "-A"],
                 ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", top, *args], check=True,
                       env=dict(os.environ, **GIT))
    own(top)
    return top


def committed(top, path, commit="HEAD"):
    return subprocess.run(
        ["git", "-C", top, "cat-file", "-p", f"{commit}:{path}"], check=True,
        env=dict(os.environ, **GIT), stdout=subprocess.PIPE).stdout.decode()


def test_git_sees_and_commits_the_rooms_own_text(any_room, repo):
    """A23: of what the room has, and of what is new there."""
    os.symlink("/usr/lib/new", repo + "/sub/new")
    with Mount(any_room) as m:
        assert git(m, "status", "--porcelain") == "?? sub/new\n"
        git(m, "commit", "-qam", "nothing", ok=False)
        do(save, m(W, "repo/file"), b"changed\n")
        git(m, "add", "-A")
        git(m, "commit", "-qam", "second")
        assert git(m, "status", "--porcelain") == ""
        git(m, "diff", "--exit-code", "HEAD")
        # Everybody else is led inside.
        assert do(os.readlink, m(W, "repo/sub/abs")) == \
            shown(m, "/etc/hostname")
    for name in ("abs", "climb", "new"):
        assert committed(repo, "sub/" + name) == \
            os.readlink(f"{repo}/sub/{name}")
    changed = subprocess.run(
        ["git", "-C", repo, "diff", "--name-only", "HEAD~1"], check=True,
        env=dict(os.environ, **GIT), stdout=subprocess.PIPE).stdout.decode()
    assert changed == "file\nsub/new\n"
    status = subprocess.run(
        ["git", "-C", repo, "status", "--porcelain"], check=True,
        env=dict(os.environ, **GIT), stdout=subprocess.PIPE).stdout
    assert status == b""


def test_a_clone_into_the_mount(any_room, repo, tmp_path):
    """A23: by the git of this machine, also after a new mount; its links say
    in the room what was committed."""
    cache = str(tmp_path / "cache")
    config = tmp_path / "config"  # the variables do not reach all of its parts
    config.write_text("[safe]\n\tdirectory = *\n")
    with Mount(any_room, cache=cache) as m:
        sh('git clone -q "$1" "$2"', repo, m(W, "clone"), timeout=120,
           **dict(GIT, GIT_CONFIG_GLOBAL=str(config)))
        assert texts(host(any_room, "clone/sub")) == texts(repo + "/sub")
        assert git(m, "status", "--porcelain", cwd="workspace/clone") == ""
    with Mount(any_room, cache=cache) as m:
        do(save, m(W, "clone/file"), b"changed\n")
        git(m, "commit", "-qam", "second", cwd="workspace/clone")
        assert git(m, "status", "--porcelain", cwd="workspace/clone") == ""
        git(m, "checkout", "-q", "HEAD~1", cwd="workspace/clone")
        assert git(m, "status", "--porcelain", cwd="workspace/clone") == ""
    for name in ("abs", "climb", "rel"):
        assert committed(host(any_room, "clone"), "sub/" + name, "main") == \
            os.readlink(f"{repo}/sub/{name}")


def test_git_is_led_inside_by_links_to_directories(any_room, repo):
    """A23, A3: a repository behind a link of the room, in a work tree or not,
    is that of the room."""
    os.symlink("/workspace/repo", any_room.workspace + "/to")
    os.symlink("/workspace/repo/sub", repo + "/tosub")
    with Mount(any_room) as m:
        assert git(m, "log", "--format=%s", cwd="workspace/to") == "first\n"
        assert git(m, "rev-parse", "--show-prefix",
                   cwd="workspace/repo/tosub") == "sub/\n"
        assert git(m, "status", "--porcelain") == "?? tosub\n"
