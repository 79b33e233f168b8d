"""Rooms by name, and what is mounted: --list, --unmount, --recovered."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest

from mountlib import (DEADLINE, DRIVER, TOP, Mount, do, mounts, put, run, unmount,
                      wait_until)


@pytest.fixture
def home(room, tmp_path):
    """A home directory with a key and a configuration."""
    config = tmp_path / ".config" / "gentilityfs"
    config.mkdir(parents=True)
    key = config / "key"
    key.write_text(room.key)
    key.chmod(0o600)
    (config / "config").write_text(
        f"# rooms\n[work]\nsource = {room.source}:/workspace\n"
        f"options = url={room.url},cache_timeout=7\n\n"
        f"[place]\nsource={room.source}\nmountpoint = ~/deep/er/here\n"
        f"options = url={room.url},ro\n"
        "[bad]\nmountpoint = /x\n[worse]\nsources = x\n")
    yield tmp_path
    for path in mounts():
        if path.startswith(str(tmp_path)):
            unmount(path, lazy=True)


def driver(home, *words):
    """Run it in that home; it may go to the background."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("GENTILITY", "XDG_"))}
    env["HOME"] = str(home)
    return subprocess.run(
        [DRIVER, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=env, timeout=DEADLINE, text=True)


def test_mount_and_unmount_by_name(room, home):
    """C9, C10"""
    put(room.workspace, "file", b"text")
    done = driver(home, "work")
    assert done.returncode == 0 and done.stderr == "", done
    point = str(home / "rooms" / "work")
    assert do(os.listdir, point) == ["file"]
    found = json.loads(driver(home, "--list", "--json").stdout)
    mine = [m for m in found if m["mountpoint"] == point]
    assert mine[0]["state"] == "mounted"
    assert mine[0]["source"] == room.source + ":/workspace"
    assert mine[0]["unsent"] == {"files": 0, "bytes": 0}
    assert point in driver(home, "--list").stdout
    done = driver(home, "--unmount", "work")
    assert done.returncode == 0 and done.stderr == "", done
    assert point not in mounts()
    # Ended; whether its parent has heard so is another matter.
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/{mine[0]['pid']}/stat") as f:
            assert f.read().rsplit(")", 1)[1].split()[0] == "Z"


def test_the_configuration_says_where_and_how(room, home):
    """C9: the command line's options come last."""
    point = str(home / "deep" / "er" / "here")
    assert driver(home, "place").returncode == 0
    with pytest.raises(OSError):
        do(os.mkdir, point + "/tmp/x")
    assert driver(home, "--unmount", point).returncode == 0
    assert driver(home, "-o", "rw", "place").returncode == 0
    do(os.mkdir, point + "/workspace/x")
    assert driver(home, "--unmount", "place").returncode == 0
    other = home / "other"
    other.mkdir()
    assert driver(home, "place", str(other)).returncode == 0
    assert str(other) in mounts() and point not in mounts()
    assert driver(home, "--unmount", str(other)).returncode == 0


@pytest.mark.parametrize("name,parts", [
    ("wrok", ["wrok", "work", "place"]),
    ("bad", ["[bad]", "source = PROFILE/ROOM"]),
    ("worse", ["[worse]", "sources"]),
])
def test_a_name_that_can_not_be(home, name, parts):
    """C9"""
    done = driver(home, name)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    for part in parts:
        assert part in done.stderr


def test_the_map_for_autofs(home):
    """C9: what autofs is told."""
    def ask(name):
        return subprocess.run(
            [os.path.join(TOP, "contrib", "autofs", "auto.rooms"), name],
            env={**os.environ, "GENTILITYFS_CONFIG":
                 str(home / ".config/gentilityfs/config")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    done = ask("work")
    assert done.returncode == 0 and re.fullmatch(
        r"-fstype=fuse.gentilityfs,allow_other,url=http://\S+,"
        r"cache_timeout=7 :[0-9a-f-]+/\w+\\:/workspace\n", done.stdout), done
    assert ask("none").returncode == 1


def test_a_dead_and_a_silent_mount_are_listed(room, tmp_path):
    """C10"""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(Mount(room))
        dead = Mount(room).__enter__()
        try:
            dead.kill()
            os.kill(silent.pid, signal.SIGSTOP)
            try:
                found = run([DRIVER, "--list", "--json"])
            finally:
                os.kill(silent.pid, signal.SIGCONT)
            states = {m["mountpoint"]: m["state"]
                      for m in json.loads(found.out)}
            assert states[dead.dir] == "dead"
            assert states[silent.dir] == "silent"
        finally:
            dead._stop(False)


def test_what_is_in_use_stays(room, home):
    """C10"""
    assert driver(home, "work").returncode == 0
    point = str(home / "rooms" / "work")
    child = subprocess.Popen(["sleep", "600"], cwd=point)
    try:
        done = driver(home, "--unmount", "work")
        assert done.returncode == 1 and "still mounted" in done.stderr
        assert point in mounts()
    finally:
        child.kill()
        child.wait()
    assert driver(home, "--unmount", "work").returncode == 0
    done = driver(home, "--unmount", "work")
    assert done.returncode == 1 and "no room is mounted" in done.stderr


def test_what_could_not_be_sent_is_told(room, home):
    """C10: and lies where --recovered shows it until it is forgotten."""
    assert driver(home, "-o", "timeout=2", "work").returncode == 0
    point = str(home / "rooms" / "work")
    room.fault({"status": 503}, kind="command")

    def save():
        with open(point + "/lost", "wb") as f:
            f.write(b"precious")

    with pytest.raises(OSError):
        do(save)
    done = driver(home, "--unmount", "work")
    assert done.returncode == 1 and "not sent" in done.stderr, done
    shown = driver(home, "--recovered")
    assert shown.stdout.split()[0] == "8" and "/lost" in shown.stdout
    kept = json.loads(driver(home, "--recovered", "--json").stdout)
    assert open(kept[0]["path"], "rb").read() == b"precious"
    assert driver(home, "--recovered", "--forget").returncode == 0
    assert driver(home, "--recovered").stdout == ""
    wait_until(lambda: not os.path.exists(kept[0]["path"]))
