"""stress-ng's file system stressors, which check what they wrote."""

import os
import shutil

import pytest

from mountlib import run

# Those that the mount's file operations can take; each for so many seconds.
STRESSORS = ["dentry", "dir", "fallocate", "fstat", "hdd", "link", "open",
             "rename", "seek", "symlink", "touch", "utime"]
SECONDS = 4


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("stress-ng"), reason="no stress-ng here")
@pytest.mark.parametrize("name", STRESSORS)
def test_a_stressor_finds_nothing(m, name):
    """R11"""
    where = m("workspace")
    done = run(["stress-ng", "--verify", "--timeout", f"{SECONDS}s",
                "--temp-path", where, "--hdd-bytes", "1m", "--seek-size", "1m",
                "--fallocate-bytes", "1m", "--dentries", "32", "--dir-dirs",
                "64", f"--{name}", "1"], 300)
    # 2: it failed to verify; 3 and 4: it can't run here.
    assert done.status == 0, done.err[-2000:] + done.out[-2000:]
    assert m.process.poll() is None
    m.sh("rm -rf workspace/stress-ng*", timeout=120)
    assert not os.listdir(m.room.workspace)
