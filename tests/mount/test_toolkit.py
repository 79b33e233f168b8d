"""What commands weigh, and the toolkit in the VM that makes them light."""

import glob
import os
import re

import pytest

from helpers_write import host, noise, room_bytes, save, text
from mountlib import MIB, Call, Mount, do, put, raises, wait_until
from test_check import check_room, findings, lines
from test_counts import total

TRUST = "cache_timeout=600"


def kept(room):
    """The toolkits in the room's home."""
    return glob.glob(room.home + "/.cache/gentilityfs/*")


def weigh(m, script):
    """The bytes up and down of what a script costs: one request."""
    m.forget()
    m.sh(script)
    m.settle()
    log = m.room.log()
    assert len(log) == 1, [e.get("command", "")[-200:] for e in log]
    return log[0]["bytes_in"], log[0]["bytes_out"]


@pytest.fixture
def workspace(any_room):
    with Mount(any_room, TRUST, path="/workspace") as m:
        m.ls()
        m.settle()
        yield m


def test_bytes_of_a_save(workspace):
    """L6"""
    put(workspace.room.workspace, "old", noise(4096))
    for name in "new", "new", "other":
        put(workspace.top, "source", os.urandom(4096))
        up, down = weigh(workspace, f"cat {workspace.top}/source >{name}")
        print(up, down)
        assert up <= 7000 and down <= 7300
        assert room_bytes(workspace.room, name) == workspace.read(name)


def test_bytes_of_a_change(workspace):
    """L6"""
    put(workspace.room.workspace, "f", b"x")
    workspace.sh("mkdir -p d; cat f || :")
    for change in ("mkdir new", "chmod 600 d", "mv d e", "rmdir e", "rmdir new",
                   "ln -s target l", "mv l k", "rm k"):
        up, down = weigh(workspace, change)
        print(change, up, down)
        assert up <= 700, change
        # Attributes, and the headers of HTTP.
        assert down <= up + 1000, change


def test_bytes_of_a_listing(any_room):
    """L6"""
    for i in range(30):
        put(any_room.workspace, f"d/{i}", b"")
    with Mount(any_room, TRUST) as m:
        up, _ = weigh(m, "ls workspace/d/")
        assert up <= 700


def test_bytes_of_a_copied_tree(workspace):
    """L6"""
    source = os.path.join(workspace.top, "tree")
    for i in range(100):
        put(source, f"f{i}", noise(4096, i))
    workspace.forget()
    workspace.sh('cp -r "$1" .', source)
    workspace.settle()
    up = sum(e["bytes_in"] for e in workspace.room.log())
    print(up)
    assert up <= 750_000
    for i in range(100):
        assert room_bytes(workspace.room, f"tree/f{i}") == noise(4096, i)


def test_a_users_command_is_sent_as_it_is(workspace):
    """L6, E1"""
    workspace.forget()
    workspace.exec("", "echo hello; ls -a ~/.cache/gentilityfs")
    command, = [e["command"] for e in workspace.room.log("command")
                if "hello" in e["command"]]
    assert command == \
        "cd '/workspace' || exit\necho hello; ls -a ~/.cache/gentilityfs"


def test_what_the_vm_keeps(any_room):
    """L7: one file, of ours alone; a mount of the same version takes it as it
    is, those of other versions go, and no list of changes has it."""
    other = put(any_room.home, ".cache/gentilityfs/toolkit-" + "0" * 64, b"x")
    for d in "", "/gentilityfs":
        os.chmod(any_room.home + "/.cache" + d, 0o755)
    seen = []
    for _ in range(2):
        with Mount(any_room, TRUST) as m:
            m.ls()
            path, = kept(any_room)
            assert path != other
            seen.append(os.stat(path))
            said = m.exec("", "echo hello")
            assert b"0 files changed" in said, said
    assert seen[0].st_ino == seen[1].st_ino
    assert seen[0].st_mode == 0o100600 and seen[0].st_size < 60000
    assert os.stat(os.path.dirname(path)).st_mode == 0o40700


def test_it_may_be_removed_at_any_time(workspace):
    """L8: the next command finds it missing, does nothing, and is sent again
    with the text; then all is as before."""
    room = workspace.room
    for step, script in enumerate((
            "mkdir d", "ln -s x d/l", "echo hello >d/f", "rm d/f")):
        path, = kept(room)
        os.unlink(path)
        workspace.forget()
        workspace.sh(script)
        assert total(workspace.count()) == 2, script
        assert kept(room) == [path]
        workspace.forget()
        workspace.sh(f"mkdir other{step}")
        assert total(workspace.count()) == 1
        assert room.log()[-1]["bytes_in"] <= 700
    assert os.listdir(host(room, "d")) == ["l"]
    assert workspace.sh("ls d").text == "l\n"


def test_an_error_is_still_the_first_ones(workspace):
    """L8: sent again is not repeated: what exists is not taken for our own."""
    room = workspace.room
    os.mkdir(host(room, "d"))
    os.unlink(*kept(room))
    raises(17, os.mkdir, workspace("d"))
    os.unlink(*kept(room))
    fd = os.open(host(room, "lock"), os.O_CREAT | os.O_EXCL)
    os.close(fd)
    raises(17, os.open, workspace("lock"), os.O_CREAT | os.O_EXCL)


def test_it_goes_while_much_is_sent(workspace):
    """L8"""
    room = workspace.room
    data = noise(8 * MIB)
    room.control(latency_ms=30)
    os.unlink(*kept(room))
    do(save, workspace("big"), data, timeout=120)
    assert room_bytes(room, "big") == data
    os.unlink(*kept(room)) if kept(room) else None
    do(save, workspace("many"), text(8 * MIB), timeout=120)
    assert room_bytes(room, "many") == text(8 * MIB)
    workspace.sh("mkdir d")
    assert len(kept(room)) == 1


@pytest.mark.parametrize("harm", ["empty", "cut", "evil", "another's"])
def test_what_is_no_toolkit_is_not_run(workspace, harm):
    """L8, L9"""
    room = workspace.room
    path, = kept(room)
    if harm == "another's":
        os.chown(path, 4321, 4321)
    else:
        with open(path, "r+b") as f:
            f.truncate(0 if harm == "empty" else 5000)
            if harm == "evil":
                f.write(b"\ntouch /workspace/pwned\n" * 300)
        if harm != "evil":
            os.utime(path, (2145916799, 2145916799))
    workspace.sh("mkdir d; echo hello >d/f")
    assert room_bytes(room, "d/f") == b"hello\n"
    assert sorted(os.listdir(room.workspace)) == ["d"]
    assert os.stat(path).st_mode == 0o100600


def test_a_room_that_keeps_nothing(any_room):
    """L8: no place is ours alone: commands carry what they need."""
    os.chmod(any_room.home, 0o777)
    os.mkdir(any_room.tmp + "/.gentilityfs-0")
    os.chmod(any_room.tmp + "/.gentilityfs-0", 0o777)
    with Mount(any_room, TRUST, path="/workspace") as m:
        m.forget()
        m.sh("mkdir d; echo hello >d/f; mv d/f d/g; ls d")
        assert total(m.count()) <= 4
        do(save, m("big"), noise(MIB), timeout=60)
        assert room_bytes(any_room, "d/g") == b"hello\n"
        assert room_bytes(any_room, "big") == noise(MIB)
    assert all(e.get("command_len", 0) <= 96 * 1024 for e in any_room.log())
    assert kept(any_room) == []


def test_a_room_that_forgets_at_once(workspace):
    """L8: as where each command sees another file system."""
    room = workspace.room
    room.run("while sleep 0.02; do rm -rf ~/.cache/gentilityfs; done "
             ">/dev/null 2>&1 & echo $! >/tmp/forgetting")
    for i in range(12):
        wait_until(lambda: not kept(room), 20, "its end")
        workspace.sh(f"mkdir d{i}; echo {i} >d{i}/f")
    workspace.forget()
    workspace.sh("mkdir last")
    assert total(workspace.count()) == 1, "it has learned by now"
    for i in range(12):
        assert room_bytes(room, f"d{i}/f") == b"%d\n" % i
    room.run("kill $(cat /tmp/forgetting)")


def test_a_new_vm_gets_it_too(any_room):
    """L8, F3"""
    with Mount(any_room, "cache_timeout=0", "create", path="/") as m:
        m.ls()
        assert len(kept(any_room)) == 1
        any_room.control(expire=True)
        wait_until(lambda: do(outcome_of_ls, m.dir) is True, 60, "the new VM")
        m.sh("mkdir workspace/d")
        m.forget()
        m.sh("mkdir workspace/e")
        assert max(e["bytes_in"] for e in any_room.log()) <= 700


def outcome_of_ls(path):
    try:
        os.listdir(path)
    except OSError:
        return False
    return True


def test_a_service_that_refuses_so_much_at_once(any_room):
    """L8: the toolkit is too much, but not what a command needs."""
    any_room.control(max_body=16000)
    with Mount(any_room, TRUST, path="/workspace") as m:
        m.sh("mkdir d; echo hello >d/f")
        assert room_bytes(any_room, "d/f") == b"hello\n"
        m.forget()
        m.sh("rm d/f")
        assert total(m.count()) == 1


def test_a_lost_answer_and_a_lost_toolkit(workspace):
    """L8: the first attempt ran, and its answer was lost; the second finds no
    toolkit; the third knows the first one's work."""
    room = workspace.room
    workspace.forget()
    room.control(faults=[
        {"match": {"kind": "command", "times": 1}, "fault": {"lost": True}},
        {"match": {"kind": "command", "times": 1}, "fault": {"hang": 1}}])
    call = Call(os.mkdir, workspace("d"))
    wait_until(lambda: os.path.isdir(host(room, "d")), 20, "the first attempt")
    os.unlink(*kept(room))
    call.result()
    first, second, third = room.log("command")
    assert "again=1" not in first["command"] and "again=1" in second["command"]
    assert third["command_len"] > 8000, "with the text; it knows the first"
    assert len(kept(room)) == 1


def test_check_names_it(any_room):
    """L7, S1"""
    def toolkit():
        done = check_room(any_room)
        assert done.status == 0, done
        text, = [t for _, name, t in lines(done) if name == "toolkit"]
        assert findings(check_room(any_room, "--json"))["vm"]["toolkit"] in text
        return text

    assert re.search(r"not there yet.*\.cache/gentilityfs/$", toolkit())
    assert kept(any_room) == [] == os.listdir(any_room.tmp)
    with Mount(any_room) as m:
        m.ls()
    assert os.path.basename(kept(any_room)[0]) in toolkit()
    os.chmod(any_room.home, 0o777)
    os.mkdir(any_room.tmp + "/.gentilityfs-0")
    os.chmod(any_room.tmp + "/.gentilityfs-0", 0o777)
    assert "no place" in toolkit()
