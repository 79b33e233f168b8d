"""contrib/demo.sh, as a new user starts it: in a copy of the source."""

import os
import shutil
import subprocess

import pytest

from mountlib import TOP, mounts


def demo(top, *words):
    """Run it there; what it said."""
    done = subprocess.run(
        [str(top / "contrib" / "demo.sh"), *words], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
        cwd=top)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    return text


def copy_source(top):
    """What a release has, without what was built."""
    leave = shutil.ignore_patterns(
        "build*", ".git", "*.o", "*.a", "Makefile", "config.status",
        "config.log", "__pycache__", ".deps", "gentilityfs", "gx",
        "gentility-roomd")
    os.mkdir(top)
    for name in os.listdir(TOP):
        if name in leave(TOP, [name]) and name != "build-aux":
            continue
        path = os.path.join(TOP, name)
        if os.path.isdir(path):
            # The folders of gx and roomd have the programs' names.
            shutil.copytree(path, top / name, symlinks=True,
                            ignore=shutil.ignore_patterns("*.o", "*.a"))
        else:
            shutil.copy2(path, top / name)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["apart", "in the tree"])
def test_demo(where, tmp_path):
    top = tmp_path / "source"
    copy_source(top)
    if where == "in the tree":
        subprocess.run("autoreconf -fi && ./configure -q", shell=True,
                       cwd=top, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=600)
    mount = str(top / "demo-mount")
    try:
        said = demo(top)
        assert "warmest.sh" in said and "--- exit 0" in said
        assert "PATH=" in said
        assert "home" in os.listdir(mount)
        assert "running already" in demo(top)
    finally:
        said = demo(top, "stop")
    assert said == "Stopped.\n"
    assert mount not in mounts()
    assert not (top / "build" / "demo").exists()
