"""Rooms to run the programs of src/vm in: GNU tools under dash and bash, and
a root directory that holds nothing but busybox."""
import json
import os
import pathlib
import secrets
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SRC = HERE.parent.parent / "src"
BUSYBOX = shutil.which("busybox")
CHROOT = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin:/bin")
NOBODY = 65534


@pytest.fixture(scope="session")
def vmtool(tmp_path_factory):
    """$VMTOOL, or one built here with the sanitizers."""
    if "VMTOOL" in os.environ:
        return os.path.abspath(os.environ["VMTOOL"])
    build = tmp_path_factory.mktemp("build")
    with open(build / "vm_scripts.h", "wb") as header:
        subprocess.run(["sh", SRC / "embed.sh", *sorted(SRC.glob("vm/*.sh"))],
                       stdout=header, check=True)
    tool = build / "vmtool"
    subprocess.run(
        [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-g",
         "-O1", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=undefined", f"-I{build}", f"-I{SRC}",
         *SRC.glob("script*.c"), SRC / "listing.c", SRC / "probe.c",
         SRC / "base64.c", HERE / "vmtool.c", "-o", tool, "-lz", "-lmd",
         "-lresolv"],
        check=True)
    return tool


class Room:
    """A place where commands are run, as the service would."""

    def __init__(self, name, vmtool, root, tree):
        self.name = name
        self.vmtool = vmtool
        self.root = root    # the room's / , "" or a directory
        self.tree = tree    # an empty directory, as seen from outside
        self.gnu = name != "busybox"
        self.tools = "gnu" if self.gnu else "busybox"
        self.user = None

    def inside(self, path):
        """How the room names a file."""
        return os.fsencode(path)[len(os.fsencode(self.root)):]

    def argv(self, command):
        if not self.gnu:
            user = f"--userspec={self.user}:{self.user} --groups=" \
                if self.user else ""
            return ["unshare", "-m", "sh", "-c",
                    f"mount -t proc proc '{self.root}/proc' && exec env -i "
                    f"PATH=/bin HOME=/ {CHROOT} {user} '{self.root}' "
                    '/bin/ash -c "$0"',
                    command]
        shell = [self.name, "-c", command]
        if self.user:
            return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}",
                    "--clear-groups", *shell]
        return shell

    def run(self, command, **kwargs):
        """What the command prints; stderr goes with it, as in the room."""
        return subprocess.run(self.argv(command), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120,
                              stdin=subprocess.DEVNULL, **kwargs).stdout

    def tool(self, *args, stdin=b""):
        return subprocess.run([self.vmtool, *args], input=stdin,
                              stdout=subprocess.PIPE, check=True).stdout

    def ask(self, *items, probe=False, before=b"", after=b""):
        """Compose, run and parse; the replies."""
        nonce = secrets.token_hex(8)
        kind = "probe" if probe else "compose"
        command = self.tool(kind, self.tools, nonce, *items)
        output = before + self.run(command) + after
        kind = "parse-probe" if probe else "parse"
        answer = json.loads(self.tool(kind, nonce, *items, stdin=output))
        assert answer["error"] == 0, (answer, output[:2000])
        return answer if probe else answer["replies"]

    def read(self, path, offset, length):
        nonce = secrets.token_hex(8)
        command = self.tool("read", self.tools, nonce, self.inside(path),
                            str(offset), str(length))
        answer = json.loads(self.tool("parse-read", nonce,
                                      stdin=self.run(command)))
        answer["data"] = bytes.fromhex(answer["data"])
        return answer

    def composed(self, op, data=b"", **fields):
        """A change's command, and what its answer is parsed with."""
        nonce = secrets.token_hex(8)
        args = [op.encode()]
        for key, value in fields.items():
            if key == "path" or key == "to" and op != "symlink":
                value = self.inside(value)
            if key == "mode":
                value = f"{value:o}"
            if not isinstance(value, bytes):
                value = str(value).encode()
            args.append(key.encode() + b"=" + value)
        command = self.tool("change", self.tools, nonce, *args, stdin=data)
        assert len(command) <= 96 * 1024
        return command, (nonce, *args)

    def change(self, op, data=b"", **fields):
        """Make one change; its result, "error" as a positive errno."""
        command, how = self.composed(op, data, **fields)
        return self.result(self.run(command), how)

    def result(self, output, how):
        answer = json.loads(self.tool("parse-change", *how, stdin=output))
        assert answer["failed"] == 0, (answer, output)
        answer["error"] = -answer["error"]
        return answer

    def list(self, path, bound=0):
        """The listings of a directory: {path: {name: entry}}."""
        reply, = self.ask("list", str(bound), self.inside(path))
        assert reply["error"] == 0
        return {
            bytes.fromhex(listing["path"]):
            {bytes.fromhex(e["name"]): e for e in listing["entries"]}
            for listing in reply["listings"]}


@pytest.fixture(params=["dash", "bash", "busybox"])
def room(request, vmtool, tmp_path):
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
