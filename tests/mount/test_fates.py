"""What became of a command is one of three, and told as that everywhere."""

import gzip
import json
import os

import pytest

from hostile import Answer, Hostile
from mountlib import (
    MIB, SANITIZED, Mount, do, failure, read_file,
)

W = "workspace"
CUT = 64 * MIB
big = pytest.mark.skipif(SANITIZED, reason="too slow with sanitizers")


@big
def test_output_that_is_too_long_is_cut_and_given(room):
    """E12: 70 MB, with its exit code, and what it did is seen at once."""
    script = ("head -c 70000000 /dev/zero | tr '\\0' x; echo done >made\n"
              "exit 7")
    with Mount(room, "cache_timeout=1000") as m:
        assert do(os.listdir, m(W)) == []
        data = m.exec(W, script, timeout=120)
        assert do(os.listdir, m(W)) == ["made"]
        assert data[:CUT] == b"x" * CUT
        rest = data[CUT:].split(b"\n")
        assert rest[1] == b"--- output cut after 67108864 bytes"
        assert rest[2] == b"--- exit 7, 1 files changed"
        assert b"/workspace/made" in rest[3] and rest[4] == b""
        answer = json.loads(m.read(W, ".exec.json"))
        assert answer["output_cut"] is True
        assert answer["result"]["exit_code"] == 7
        assert answer["result"]["output"] == "x" * CUT
        # What is not is not called so.
        assert "output_cut" not in json.loads(
            (m.exec(W, "echo x"), m.read(W, ".exec.json"))[1])


@big
def test_an_answer_of_which_nothing_can_be_kept(room):
    """E13: it ran; that is all that is known, and the view is refreshed."""
    # A list of changes that is longer than anybody's memory.
    change = {"path": "/workspace/" + "y" * 4000, "status": "created"}
    answer = {"instance_id": room.instance_id, "command": "x", "status":
              "success", "result": {"output": "o", "exit_code": 0,
                                    "files_changed": [change] * 24_000}}
    flood = Answer(body=gzip.compress(json.dumps(answer).encode(), 1),
                   headers={"Content-Encoding": "gzip"})

    def rule(request, forward):
        if not request.is_about(": here"):
            return None
        with open(os.path.join(room.workspace, "made"), "w"):
            return flood

    with Hostile(room) as bad, Mount(bad, "cache_timeout=1000") as m:
        assert do(os.listdir, m(W)) == []
        bad.rule = rule
        path = m(W, ".exec")
        with pytest.raises(OSError):
            do(write_close, path, b": here")
        fate, name = failure(do(read_file, path))
        assert fate == "ran, result unknown" and name == "EIO"
        assert do(os.listdir, m(W)) == ["made"]
        got = json.loads(m.read(W, ".exec.json"))
        assert got["fate"] == "ran" and got["error"] == "EIO"


def write_close(path, data):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


CASES = {
    "refused": ({"status": 503}, "not run", "not_run"),
    "no room": ({"status": 404}, "not run", "not_run"),
    "key": ({"status": 401}, "not run", "not_run"),
    "too large": ({"status": 413, "html": True}, "not run", "not_run"),
    "gateway": ({"status": 502, "html": True}, "outcome unknown", "unknown"),
    "lost": ({"lost": True}, "outcome unknown", "unknown"),
    "cut": ({"json": "cut"}, "outcome unknown", "unknown"),
    "other types": ({"json": "wrong_types"}, "outcome unknown", "unknown"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fate_has_its_words(room, case):
    """E13, E14: and what may have been done is looked at."""
    fault, words, value = CASES[case]
    run = value != "not_run"
    with Mount(room, "cache_timeout=1000") as m:
        assert do(os.listdir, m(W)) == []
        room.fault(fault, kind="command", contains="here")
        with pytest.raises(OSError):
            do(write_close, m(W, ".exec"), b"echo here >made")
        assert failure(m.read(W, ".exec"))[0] == words
        assert json.loads(m.read(W, ".exec.json"))["fate"] == value
        ran = fault.get("lost") or "json" in fault
        assert os.path.exists(os.path.join(room.workspace, "made")) == \
            bool(ran)
        if run:
            assert do(os.listdir, m(W)) == (["made"] if ran else [])
