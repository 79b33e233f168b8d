"""Where the log goes, and what -d shows."""

import os
import re
import signal

import pytest

from mountlib import Mount, do, put, wait_until


def lines(m):
    return m.stderr().splitlines()


def test_debug_shows_each_request(any_room):
    """S9"""
    put(any_room.workspace, "seen", b"text")
    put(any_room.workspace, "full/file", b"")
    with Mount(any_room, args=["-d"]) as m:
        assert m.read("workspace/seen") == b"text"
        with pytest.raises(FileNotFoundError):
            do(os.stat, m("workspace/none"))
        do(os.mkdir, m("workspace/made"))
        with pytest.raises(OSError):
            do(os.rmdir, m("workspace/full"))
        number = r"\d+(\.\d)?"
        wait_until(lambda: any("RMDIR" in x for x in lines(m)))
        kernel = [x for x in lines(m) if " kernel: " in x]
        for kind, path, result in [("OPEN", "/workspace/seen", "ok"),
                                   ("READ", "/workspace/seen", "ok"),
                                   ("LOOKUP", "/workspace", "ok"),
                                   ("MKDIR", "/workspace", "ok"),
                                   ("RMDIR", "/workspace",
                                    "Directory not empty")]:
            form = (rf"gentilityfs: kernel: {kind} {path}: {number} bytes in, "
                    rf"{number} out, {number} ms, {result}")
            assert any(re.fullmatch(form, x) for x in kernel), (form, kernel)
        service = [x for x in lines(m) if re.search("HTTP 200$", x)]
        assert any(x.startswith("gentilityfs: metadata: POST ")
                   for x in service), service
        assert any(x.startswith("gentilityfs: change: POST ")
                   for x in service), service
        assert m.room.key not in m.stderr()


def test_log_file(room, tmp_path):
    """S8"""
    log = tmp_path / "log"
    with Mount(room, f"log_file={log}") as m:
        text = log.read_text()
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "
                        r"gentilityfs: VM: ", text), text
        assert log.stat().st_mode & 0o777 == 0o600
        assert " mounted at " not in m.stderr()
        old = tmp_path / "log.1"
        log.rename(old)
        os.kill(m.pid, signal.SIGHUP)
        wait_until(log.exists)
        wait_until(lambda: "SIGHUP" in log.read_text())
    assert "unmounted" in log.read_text()
    assert "unmounted" not in old.read_text()


def test_log_file_that_can_not_be(room, tmp_path):
    """S8: it is said before the mount."""
    with pytest.raises(AssertionError, match="log_file=.*No such file"):
        Mount(room, f"log_file={tmp_path}/none/log").__enter__()
