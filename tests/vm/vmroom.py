"""Rooms to run the programs of src/script/vm in: GNU tools under dash, bash, and
a root directory that holds nothing but busybox."""
import json
import os
import secrets
import shutil
import subprocess

# Those of vmtool's that have more than one form.
COMMANDS = "compose", "probe", "read", "change"
CHROOT = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin:/bin")
NOBODY = 65534

# Names that have broken such programs.
HOSTILE = [
    b"a\nb", b"tab\there", b"-dash", b"-", b"--", b"quo'te", b'dou"ble',
    b"back\\slash", b"gl*b?[x]", b"$(touch pwned)", b"`id`", b"\x01ctl\x7f",
    b"inv\xff\xfe\x80", b"\x81\x82\x88\x83", b"sur\xed\xa0\x80", b"n" * 255,
    b"trail\n", b"\n", b" lead", b"trail ", b"\xc3\xa4\xe2\x82\xac",
    b"\r\n", b"#0 OK G 1", b"a -> b", b"' -> '", b"%s%n\\0", b"~", b"!", b"=",
    b"inv\xff\n", b"$HOME", b"...", b"\n.", b"*"]


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
        # Of who runs the tests the room has nothing.
        self.env = {"HOME": "/"} if root else {
            "HOME": os.path.join(os.path.dirname(tree), "home")}
        self.keeps = False  # it has the toolkit, and commands use it:
        self.kept = {}      # the file of the room, for each user

    def inside(self, path):
        """How the room names a file."""
        return os.fsencode(path)[len(os.fsencode(self.root)):]

    def argv(self, command):
        env = [f"{name}={value}" for name, value in self.env.items()]
        if not self.gnu:
            env = " ".join(env)
            user = f"--userspec={self.user}:{self.user} --groups=" \
                if self.user else ""
            return ["unshare", "-m", "sh", "-c",
                    f"mount -t proc proc '{self.root}/proc' && exec env -i "
                    f"PATH=/bin {env} {CHROOT} {user} '{self.root}' "
                    '/bin/ash -c "$0"',
                    command]
        shell = ["env", *env, self.name, "-c", command]
        if self.user:
            return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}",
                    "--clear-groups", *shell]
        return shell

    def run(self, command, **kwargs):
        """What the command prints; stderr goes with it, as in the room."""
        return subprocess.run(self.argv(command), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120,
                              stdin=subprocess.DEVNULL, **kwargs).stdout

    def tool(self, *args, stdin=b"", form=None):
        if self.keeps and not form and args[0] in COMMANDS:
            if self.user not in self.kept:
                self.kept[self.user], _ = self.keep()
            form = self.kept[self.user]
        env = dict(os.environ, VMTOOL_FORM=form) if form else None
        return subprocess.run([self.vmtool, *args], input=stdin, env=env,
                              stdout=subprocess.PIPE, check=True).stdout

    def keep(self, *items, form="store"):
        """Leave the toolkit there; the answer's place and the replies."""
        nonce = secrets.token_hex(8)
        output = self.run(self.tool("compose", self.tools, nonce, *items,
                                    form=form))
        answer = json.loads(self.tool("parse", nonce, *items, stdin=output))
        assert answer["error"] == 0, (answer, output[:2000])
        return self.place(nonce, output), answer["replies"]

    def place(self, nonce, output):
        """Where the output says that the toolkit is; None: it does not."""
        found = json.loads(self.tool("place", nonce, stdin=output))
        return found["place"] if found["said"] else None

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

    def read(self, path, offset, length, lend=False):
        nonce = secrets.token_hex(8)
        command = self.tool("lend" if lend else "read", self.tools, nonce,
                            self.inside(path), str(offset), str(length))
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
