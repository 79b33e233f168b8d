"""The rooms that the tests of the VM's programs run in; see vmroom.py."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SRC = HERE.parent.parent / "src"
BUSYBOX = shutil.which("busybox")
sys.path.insert(0, str(HERE))

from vmroom import Room  # noqa: E402 pylint: disable=wrong-import-position


@pytest.fixture(scope="session")
def vmtool(tmp_path_factory):
    """$VMTOOL, that of $GENTILITYFS_BUILD, or one built here with the
    sanitizers."""
    if "VMTOOL" in os.environ:
        return os.path.abspath(os.environ["VMTOOL"])
    built = pathlib.Path(os.environ.get("GENTILITYFS_BUILD", "/nonexistent"),
                         "tests/vm/vmtool")
    if built.exists():
        return built
    build = tmp_path_factory.mktemp("build")
    (build / "script").mkdir()
    with open(build / "script/vm_scripts.h", "wb") as header:
        subprocess.run(["sh", SRC / "embed.sh",
                        *sorted(SRC.glob("script/vm/*.sh"))],
                       stdout=header, check=True)
    tool = build / "vmtool"
    subprocess.run(
        [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-g",
         "-O1", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=undefined", f"-I{build}", f"-I{SRC}",
         *SRC.glob("script/*.c"), SRC / "base/base64.c", SRC / "base/utf8.c",
         HERE / "vmtool.c",
         "-o", tool, "-lz", "-lmd", "-lresolv", "-pthread"],
        check=True)
    return tool


@pytest.fixture(params=["dash", "bash", "busybox"])
def carrying_room(request, vmtool, tmp_path):
    """A room whose commands carry their programs."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    os.chmod(tmp_path, 0o755)
    # pytest keeps what is above to its user; the room's nobody must pass.
    for parent in list(tmp_path.parents)[:3]:
        if str(parent) not in ("/", "/tmp"):
            os.chmod(parent, 0o755)
    if request.param != "busybox":
        if shutil.which(request.param) is None:
            pytest.skip("no " + request.param)
        tree = tmp_path / "tree"
        tree.mkdir()
        return Room(request.param, vmtool, "", tree)
    if BUSYBOX is None:
        pytest.skip("no busybox")
    root = tmp_path / "root"
    for name in "bin", "proc", "tmp", "tree", "etc", "dev":
        (root / name).mkdir(parents=True)
    os.chmod(root / "tmp", 0o1777)
    os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))
    os.chmod(root / "dev/null", 0o666)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n"
                                     "no:x:65534:65534::/none:/bin/sh\n")
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in subprocess.run([BUSYBOX, "--list"], check=True, text=True,
                               stdout=subprocess.PIPE).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return Room("busybox", vmtool, str(root), root / "tree")


@pytest.fixture(params=["carry", "toolkit"])
def room(request, carrying_room):
    """The same, and one that keeps the programs for all commands."""
    carrying_room.keeps = request.param == "toolkit"
    return carrying_room
