"""The toolkit: the programs that the VM keeps, and who else has a hand in it."""
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import threading

import pytest

from vmroom import NOBODY

EVIL = b"\nprintf evil >/tmp/pwned\nmkdir() { :; }\n"
FUTURE = 2145916799


@pytest.fixture
def home(carrying_room, tmp_path):
    """The room's home directory, as seen from outside."""
    room = carrying_room
    path = room.tree.parent / "home"
    path.mkdir()
    os.chmod(path, 0o755)
    room.env = {"HOME": os.fsdecode(room.inside(path)),
                "TMPDIR": os.fsdecode(room.inside(room.tree.parent / "t"))}
    os.mkdir(room.tree.parent / "t")
    os.chmod(room.tree.parent / "t", 0o1777)
    return path


@pytest.fixture
def room(carrying_room, home):  # pylint: disable=redefined-outer-name
    return carrying_room


def outside(room, place):
    """The room's file as the test names it."""
    return room.root + place


def mkdir(room, form, name="d"):
    """Make a directory by a command of this form; its output and how."""
    nonce = secrets.token_hex(8)
    how = (b"mkdir", b"path=" + room.inside(room.tree / name), b"mode=755")
    command = room.tool("change", room.tools, nonce, *how, form=form)
    return room.run(command), (nonce, *how)


def works(room, place):
    name = secrets.token_hex(4)
    output, how = mkdir(room, place, name)
    return room.result(output, how)["error"] == 0 and \
        (room.tree / name).is_dir()


def misses(room, place):
    """It does nothing, and says so."""
    output, how = mkdir(room, place)
    found = json.loads(room.tool("place", how[0], stdin=output))
    return found["missed"] == 1 and not (room.tree / "d").exists() and \
        not os.path.exists(outside(room, "/tmp/pwned"))


def test_what_is_kept(room, home):
    place, _ = room.keep()
    text = room.tool("toolkit", "text")
    name = hashlib.sha256(text).hexdigest()
    assert room.tool("toolkit", "hash").decode() == name
    assert place == os.fsdecode(
        room.inside(home / ".cache/gentilityfs" / ("toolkit-" + name)))
    path = outside(room, place)
    with open(path, "rb") as f:
        assert f.read() == text
    assert len(text) < 60000
    st, above = os.stat(path), os.stat(os.path.dirname(path))
    assert st.st_mode == 0o100600 and above.st_mode == 0o40700
    assert st.st_uid == above.st_uid == os.getuid()
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert works(room, place)
    # Once more: it is the same.
    assert room.keep()[0] == place
    assert os.stat(path).st_ino == st.st_ino


def without_atimes(replies):
    for reply in replies:
        for listing in reply["listings"]:
            for entry in listing["entries"]:
                del entry["attr"]["atime"]
            del listing["self"]["atime"]
    return replies


def test_all_forms_answer_the_same(room):
    (room.tree / "d").mkdir()
    (room.tree / "l").symlink_to("target")
    item = ("list", "100", room.inside(room.tree))
    whole = without_atimes(room.ask(*item))
    place, replies = room.keep(*item)
    assert without_atimes(replies) == whole
    room.keeps, room.kept = True, {None: place}
    assert without_atimes(room.ask(*item)) == whole
    probe = room.ask(*item, probe=True)
    assert without_atimes(probe["replies"]) == whole
    assert probe["probe"]["gnu"] == int(room.gnu)


@pytest.mark.parametrize("before", [
    b"set -eufxC; IFS=/.o", b"set -v; alias test=false", b"umask 000; kind=Z"])
def test_whatever_the_shell_was_told_before(room, before):
    place, _ = room.keep()
    command, how = room.composed("mkdir", path=room.tree / "d", mode=0o755)
    for form in place, "store", "plain":
        command = room.tool("change", room.tools, *how, form=form)
        output = room.run(before + b"\n" + command)
        assert room.result(output, how)["error"] == 0, output
        os.rmdir(room.tree / "d")


@pytest.mark.parametrize("missing", ["gzip", "base64", None])
def test_a_room_that_cannot_unpack_it(room, tmp_path, missing):
    """It does nothing, and says so; the text as it is works."""
    if not room.gnu:
        pytest.skip("the directory of tools is made for GNU")
    bins = tmp_path / "bins"
    bins.mkdir()
    for name in ("find", "stat", "mkdir", "chmod", "touch", "mv", "rm", "cat",
                 "gzip", "base64"):
        if name != missing:
            (bins / name).symlink_to(shutil.which(name))

    def run(form):
        nonce = secrets.token_hex(8)
        how = (b"mkdir", b"path=" + room.inside(room.tree / "d"), b"mode=755")
        command = room.tool("change", room.tools, nonce, *how, form=form)
        # the prelude completes PATH: keep it from that
        command = command.replace(b"PATH=${PATH:-}:", b"PATH=${PATH:-};:")
        output = subprocess.run(
            [f"/bin/{room.name}", "-c", command], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
            env=dict(room.env, PATH=str(bins))).stdout
        return nonce, how, output

    nonce, how, output = run("store")
    found = json.loads(room.tool("place", nonce, stdin=output))
    assert found["missed"] == (missing is not None)
    assert (room.tree / "d").exists() == (missing is None)
    if missing:
        nonce, how, output = run("plain")
        assert room.result(output, (nonce, *how))["error"] == 0
        assert room.place(nonce, output) != ""


def remove(path):
    os.unlink(path)


def remove_all(path):
    shutil.rmtree(os.path.dirname(path))


def empty(path):
    with open(path, "wb"):
        pass
    os.utime(path, (FUTURE, FUTURE))


def give_away(path):
    os.chown(path, NOBODY, NOBODY)


def give_directory_away(path):
    os.chown(os.path.dirname(path), NOBODY, NOBODY)


def link(path):
    os.rename(path, path + ".old")
    with open(path + ".evil", "wb") as f:
        f.write(EVIL)
    os.utime(path + ".evil", (FUTURE, FUTURE))
    os.symlink(path + ".evil", path)


def link_directory(path):
    above = os.path.dirname(path)
    os.rename(above, above + ".old")
    os.symlink(os.path.basename(above) + ".old", above)


def let_others_write(path):
    """Whoever can write leaves a time of the past: only the owner can set
    another."""
    os.chmod(os.path.dirname(path), 0o777)
    os.chmod(path, 0o666)
    subprocess.run(["setpriv", f"--reuid={NOBODY}", "--clear-groups", "sh",
                    "-c", 'printf %s "$1" >"$0"; touch -d 2050-01-01 "$0"',
                    path, EVIL], check=False, stderr=subprocess.DEVNULL)


def hard_link(path):
    """Another file of ours, with what somebody else has put there."""
    with open(path + ".log", "wb") as f:
        f.write(EVIL)
    os.unlink(path)
    os.link(path + ".log", path)


def directory(path):
    os.unlink(path)
    os.mkdir(path)


HARM = [remove, remove_all, give_away, give_directory_away, link,
        link_directory, let_others_write, hard_link, directory]


@pytest.mark.parametrize("harm", HARM, ids=[h.__name__ for h in HARM])
def test_what_is_not_ours_alone_is_not_run(room, harm, request):
    """And then a command that brings the text puts it right, or goes
    elsewhere."""
    pwned = outside(room, "/tmp/pwned")
    request.addfinalizer(lambda: os.path.exists(pwned) and os.unlink(pwned))
    place, _ = room.keep()
    if harm is let_others_write:
        # They get as far as that.
        for parent in list(room.tree.parents)[:3]:
            os.chmod(parent, os.stat(parent).st_mode | 0o5)
        os.chmod(os.path.dirname(os.path.dirname(outside(room, place))), 0o755)
    harm(outside(room, place))
    assert misses(room, place)
    output, how = mkdir(room, "store")
    assert room.result(output, how)["error"] == 0
    again = room.place(how[0], output)
    assert again != ""
    assert works(room, again)
    assert not os.path.exists(pwned)


def test_a_part_of_it_does_nothing(room):
    """As a full disk or a crash may leave it."""
    place, _ = room.keep()
    path = outside(room, place)
    size = os.stat(path).st_size
    for length in [0, *range(1, size - 4, 1499), size - 4]:
        with open(path, "r+b") as f:
            f.truncate(length)
        os.utime(path, (FUTURE, FUTURE))
        output, how = mkdir(room, place)
        assert not (room.tree / "d").exists(), (length, output)
        assert b"gfs-begin" not in output, (length, output)
        room.keep()
    assert works(room, place)


def move_home(room, home):
    room.env["HOME"] = os.fsdecode(room.inside(home.parent / "it's; home"))
    os.rename(home, home.parent / "it's; home")


def no_home(room, _):
    room.env["HOME"] = ""


def no_such_home(room, _):
    room.env["HOME"] = "/nonexistent"


def others_home(_, home):
    os.chown(home, NOBODY, NOBODY)


def open_home(_, home):
    os.chmod(home, 0o777)


def cache_is_a_link(_, home):
    (home / "elsewhere").mkdir()
    (home / ".cache").symlink_to("elsewhere")


def open_cache(_, home):
    (home / ".cache").mkdir()
    os.chmod(home / ".cache", 0o775)


def others_directory(_, home):
    (home / ".cache/gentilityfs").mkdir(parents=True)
    os.chown(home / ".cache/gentilityfs", NOBODY, NOBODY)


def file_in_the_way(_, home):
    (home / ".cache").mkdir(mode=0o755)
    (home / ".cache/gentilityfs").write_text("x")


HOMES = [no_home, no_such_home, others_home, open_home, cache_is_a_link,
         open_cache, others_directory, file_in_the_way]


@pytest.mark.parametrize("change", HOMES, ids=[h.__name__ for h in HOMES])
def test_other_places(room, home, change):
    """No home that is ours alone: a directory of our own among the temporary
    ones; none there either: nowhere, and all goes on."""
    change(room, home)
    place, _ = room.keep()
    mine = room.tree.parent / f"t/.gentilityfs-{os.getuid()}"
    assert place.startswith(os.fsdecode(room.inside(mine)) + "/toolkit-")
    assert os.stat(mine).st_mode == 0o40700
    assert works(room, place)
    shutil.rmtree(mine)
    mine.mkdir()
    os.chown(mine, NOBODY, NOBODY)
    item = ("stat", room.inside(room.tree))
    place, replies = room.keep(*item)
    assert place == "" and replies[0]["error"] == 0
    assert os.listdir(mine) == []


def test_a_name_that_needs_quotes_is_no_place(room, home):
    if not room.gnu:
        pytest.skip("its environment takes no quotes")
    move_home(room, home)
    place, _ = room.keep()
    assert "/t/.gentilityfs-" in place
    assert works(room, place)


def test_an_open_directory_of_ours_is_shut_or_left(room, home):
    kept = home / ".cache/gentilityfs"
    kept.mkdir(parents=True)
    os.chmod(home / ".cache", 0o755)
    os.chmod(kept, 0o755)
    name = "toolkit-" + room.tool("toolkit", "hash").decode()
    (kept / name).write_bytes(EVIL)
    os.utime(kept / name, (FUTURE, FUTURE))
    place, _ = room.keep()
    assert place.endswith(name) and works(room, place)
    assert os.stat(kept).st_mode == 0o40700
    os.chmod(kept, 0o777)
    assert "/t/.gentilityfs-" in room.keep()[0]


def test_other_versions(room):
    """They go when a mount begins, and not when it goes on."""
    place, _ = room.keep()
    other = os.path.dirname(outside(room, place)) + "/toolkit-" + "0" * 64
    for form, stays in (("store", True), ("clean", False)):
        with open(other, "wb"):
            pass
        assert room.keep(form=form)[0] == place
        assert os.path.exists(other) == stays
        assert works(room, place)


def test_kept_twice_at_a_time(room):
    places = []

    def keep():
        for _ in range(10):
            places.append(room.keep()[0])

    threads = [threading.Thread(target=keep) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(places) == 40 and len(set(places)) == 1 and places[0] != ""
    assert works(room, places[0])
    assert len(os.listdir(os.path.dirname(outside(room, places[0])))) == 1


def test_looking_for_it_changes_nothing(room, home):
    def find():
        nonce = secrets.token_hex(8)
        return room.place(nonce, room.run(room.tool("find", nonce)))

    assert find() == os.fsdecode(room.inside(home / ".cache/gentilityfs")) + "/"
    assert os.listdir(home) == [] == os.listdir(home.parent / "t")
    place, _ = room.keep()
    assert find() == place
    os.chown(home, NOBODY, NOBODY)
    assert find().startswith(os.fsdecode(room.inside(home.parent / "t")))
    os.chmod(home.parent / "t", 0o755)
    os.chown(home.parent / "t", NOBODY, NOBODY)
    room.user = 4321
    assert find() == ""


def test_no_name_means_two_things(vmtool):
    """All programs share one shell: a function is there once, or once for each
    kind of tools."""
    text = subprocess.run([vmtool, "toolkit", "text"], check=True,
                          stdout=subprocess.PIPE).stdout.decode()
    names = re.findall(r"^(\w+)\(\) ", text, re.M)
    assert len(names) > 80
    twice = {name for name in names if names.count(name) > 1}
    assert twice == {"pack", "encode", "decode", "show_paths", "show_attributes",
                     "show_below", "show_directories", "count_below"}, twice
