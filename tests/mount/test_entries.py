"""Memory for names and attributes: how much, and no more than that."""

import os

from mountlib import MIB, Mount, put


def fill(top, dirs, files, name="t"):
    for i in range(dirs):
        d = f"{top}/{name}/d{i // 100:03d}/e{i % 100:02d}"
        os.makedirs(d)
        for k in range(files):
            os.mknod(f"{d}/file number {k}")


def memory(m):
    """What the driver has now, in bytes."""
    with open(f"/proc/{m.pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def test_an_entry_takes_less_than_300_bytes(room):
    fill(room.workspace, 100, 100)
    with Mount(room, "cache_timeout=600", path="/workspace") as m:
        m.sh("find t >/dev/null")  # what does not grow is there now
        before = memory(m)
        fill(room.workspace, 500, 100, "u")
        m.exec("", "true")
        assert int(m.sh("find u | wc -l").text) > 50000
        m.sh("ls -lR u | wc -l; find u -type f -size +1c")
        grown = memory(m) - before
    print(grown / 50505)
    assert grown < 50505 * 300 + 4 * MIB, grown / 50505


def test_no_more_than_the_given_number_is_kept(any_room):
    """What was forgotten is asked for again and is right; what is open or
    unsaved stays."""
    fill(any_room.workspace, 200, 50)
    put(any_room.workspace, "t/d000/e00/known", b"known")
    with Mount(any_room, "cache_timeout=600,cache_entries=2000",
               path="/workspace") as m:
        fd = os.open(m("t/d000/e00/known"), os.O_RDONLY)
        for _ in range(2):
            assert m.sh("find t -type f | wc -l").text == "10001\n"
            any_room.run("sleep 2.1")  # so long what is in use is kept
        # Brings something new, and so takes the old away.
        m.sh("mkdir new; ls new; ls t/d000/e50 t/d001/e51 >/dev/null")
        assert os.pread(fd, 100, 0) == b"known"
        os.close(fd)
        m.forget()
        assert m.read("t/d000/e00/known") == b"known"
        for i in (0, 50, 99):
            assert len(m.ls(f"t/d000/e{i:02d}")) == 50 + (i == 0)
            assert m.read(f"t/d001/e{i:02d}/file number 7") == b""
