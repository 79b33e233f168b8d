"""The first mount of a room: its VM has yet to start."""

import os
import re

import pytest

from mountlib import (
    DRIVER, Mount, Room, do, mounts, run, unmount, wait_until,
)

STEPS = ["active", "network_allocated", "ftap_created", "image_generated",
         "vm_started", "vm_booted"]


def starting(room, **more):
    """From now on it has no VM, and one takes so many questions to start."""
    room.control(expire=True, boot_polls=1, **more)


@pytest.mark.parametrize("refuse", ["503", "404"])
@pytest.mark.parametrize("answer", ["200", "503"])
def test_a_room_that_starts_is_waited_for(room, answer, refuse):
    """C7: with its statuses as they come, and a timeout far shorter."""
    starting(room, boot_answer=answer, boot_refuse=refuse)
    with Mount(room, "create", "timeout=2") as m:
        assert do(os.path.isdir, m("workspace"))
        said = m.stderr()
    assert room.output("echo up") == "up"
    lines = re.findall(r"^gentilityfs: the room's VM is starting: (.*)$",
                       said, re.M)
    assert lines == (STEPS if answer == "200" else ["instance_not_ready"])
    assert not any(e["ran"] for e in room.log("command")[:1])


def test_somebody_else_has_started_it(room):
    """C7: it is there already, but takes no command yet."""
    starting(room, boot_answer="200")
    assert room.create().json["status"] == "active"
    with Mount(room, "create", "timeout=2") as m:
        assert do(os.path.isdir, m("workspace"))


@pytest.mark.parametrize("busybox", [False, True], ids=["gnu", "busybox"])
def test_the_terminal_is_told_while_it_waits(tmp_path, busybox):
    """C7: also when it goes to the background then."""
    (tmp_path / "mnt").mkdir()
    with Room(busybox=busybox, no_instance=True) as room:
        room.control(boot_polls=1, boot_answer="200")
        done = run([DRIVER, "-o", f"create,url={room.url},cache_dir="
                    f"{tmp_path}/cache", room.source, str(tmp_path / "mnt")],
                   env={"GENTILITY_API_KEY": room.key})
        try:
            assert done.status == 0, done
            assert done.err.decode().splitlines() == [
                "gentilityfs: the room has no VM: starting one",
                *(f"gentilityfs: the room's VM is starting: {s}"
                  for s in STEPS)]
        finally:
            unmount(tmp_path / "mnt")
        wait_until(lambda: str(tmp_path / "mnt") not in mounts())


def test_a_vm_that_expires_starts_again(room):
    """C7, F5: in the middle of a mount."""
    with Mount(room, "create", "timeout=2", "cache_timeout=0") as m:
        assert do(os.path.isdir, m("workspace"))
        starting(room, boot_answer="200", boot_refuse="404")
        assert do(os.listdir, m("workspace")) == []


def test_without_create_a_starting_room_says_so(room, tmp_path):
    """C8: one line, what it is and what to do."""
    (tmp_path / "mnt").mkdir()
    room.control(not_ready=1000)
    done = run([DRIVER, "-o", f"timeout=2,url={room.url},cache_dir="
                f"{tmp_path}/cache", room.source, str(tmp_path / "mnt")],
               env={"GENTILITY_API_KEY": room.key})
    assert done.status == 1
    line, = done.err.decode().splitlines()
    assert "the VM is still starting" in line and "-o create" in line
    assert "is it the service's address" not in line
