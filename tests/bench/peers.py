"""The servers, the proxy before them, and the mounts that are compared."""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "roomd"))

from room import Room, wait_until  # noqa: E402

PR_SET_PDEATHSIG = 1
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
)
LIBC = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """A program that a peer needs is not there."""


def need(*names):
    for name in names:
        path = shutil.which(name, path=os.environ.get("PATH", "") +
                            ":/usr/sbin:/usr/local/sbin")
        if path is None:
            raise Missing(name)
    return path


def start(args, log, **kw):
    """A process that ends with us, writing into the file `log`."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    kw.setdefault("stdout", log)
    return subprocess.Popen(
        args, stderr=log,
        preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), **kw
    )


def end(process, seconds=10):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def mounted(point):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return any(
            re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)),
                   line.split(" ")[4]) == point for line in f)


class Proxy:
    """A link to a port of this machine."""

    def __init__(self, binary, port, rtt, bandwidth, slow_start=True,
                 tls=False):
        args = [binary, "-r", str(rtt)]
        if bandwidth:
            args += ["-b", str(bandwidth)]
        if not slow_start:
            args.append("-S")
        if tls:
            args.append("-t")
        self.process = subprocess.Popen(
            [*args, str(port)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def stats(self):
        return json.loads(self.ask("stats"))

    def reset(self):
        self.ask("reset")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Servers:
    """What all peers reach: one directory behind roomd, sshd and rclone."""

    def __init__(self, build, scratch, slow_start=True, tls=False):
        self.build, self.scratch = build, scratch
        self.slow_start, self.tls = slow_start, tls  # of every link
        self.driver = os.path.join(build, "gentilityfs")
        self.log = open(os.path.join(scratch, "servers.log"), "ab")
        self.stack = contextlib.ExitStack()
        self.stack.callback(self.log.close)
        os.makedirs(os.path.join(scratch, "vm"))
        self.room = Room(os.path.join(build, "gentility-roomd"),
                         dir=os.path.join(scratch, "vm"))
        self.stack.enter_context(self.room)
        self.home = self.room.home
        self.key_file = os.path.join(scratch, "room.key")
        with open(self.key_file, "w", opener=private) as f:
            f.write(self.room.key)
        self._sshd = self.sftp_count = None

    def stop(self):
        self.stack.close()

    def program(self, name):
        """One of the bench's own, as make built it."""
        path = os.path.join(self.build, "tests", "bench", name)
        if not os.access(path, os.X_OK):
            raise Missing(f"{path}: run make bench, or make {name} there")
        return path

    def sftp_requests(self):
        """How many there have been, of all connections; None: not known."""
        try:
            with open(self.sftp_count or os.devnull, "rb") as f:
                return int.from_bytes(f.read(8), sys.byteorder)
        except FileNotFoundError:
            return 0

    def sshd(self):
        """The port of an sshd with its own keys; the same each time."""
        if self._sshd is None:
            self._sshd = self._start_sshd()
        return self._sshd

    def _start_sshd(self):
        need("ssh-keygen", "ssh")
        sshd = need("sshd")
        folder = os.path.join(self.scratch, "ssh")
        os.mkdir(folder, 0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "",
                            "-f", f"{folder}/{name}"], check=True)
        shutil.copy(f"{folder}/user.pub", f"{folder}/authorized")
        port = free_port()
        server = next((p for p in SFTP_SERVERS if os.access(p, os.X_OK)), None)
        sftp = "internal-sftp"
        if server:
            self.sftp_count = f"{folder}/count"
            sftp = f"{self.program('sftpcount')} {self.sftp_count} {server}"
        with open(f"{folder}/sshd_config", "w", encoding="utf-8") as f:
            f.write(f"""\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
Subsystem sftp {sftp}
""")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        process = start([sshd, "-D", "-e", "-f", f"{folder}/sshd_config"],
                        self.log)
        self.stack.callback(end, process)
        wait_until(lambda: process.poll() is not None or listening(port),
                   what="sshd")
        if process.poll() is not None:
            raise Missing("sshd did not start: see servers.log")
        return port

    def ssh_config(self, port):
        """The client's configuration, for a port that leads to sshd."""
        folder = os.path.join(self.scratch, "ssh")
        path = f"{folder}/config-{port}"
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"""\
Host vm
	HostName 127.0.0.1
	Port {port}
	User {user_name()}
	IdentityFile {folder}/user
	IdentitiesOnly yes
	StrictHostKeyChecking no
	UserKnownHostsFile /dev/null
	LogLevel ERROR
""")
        return path


def private(path, flags):
    return os.open(path, flags, 0o600)


def user_name():
    import pwd
    return pwd.getpwuid(os.geteuid()).pw_name


def processes_below(pid):
    """pid and all processes it started."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as f:
                    found += map(int, f.read().split())
    return found


def used_by(pid):
    """CPU seconds and the peak of resident KiB of a process and its
    children."""
    ticks, peak = 0, 0
    for one in processes_below(pid):
        with contextlib.suppress(OSError):
            with open(f"/proc/{one}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
            with open(f"/proc/{one}/status") as f:
                found = re.search(r"VmHWM:\s+(\d+)", f.read())
            peak += int(found[1]) if found else 0
    return ticks / os.sysconf("SC_CLK_TCK"), peak


class Peer:
    """One way to the VM's files, over a link of its own."""

    name = ""
    curl = False
    has_mount = True

    def __init__(self, servers, point, cache, rtt, bandwidth):
        self.servers, self.point, self.cache = servers, point, cache
        self.rtt, self.bandwidth = rtt, bandwidth
        self.stack = contextlib.ExitStack()
        self.process = None
        self.proxy = None
        self.before = 0  # requests at the last reset
        self.files = point  # where the VM's home is

    @classmethod
    def version(cls, build):
        return ""

    def port(self):
        """Where its server listens."""
        raise NotImplementedError

    def arguments(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def __enter__(self):
        try:
            self._begin()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def _begin(self):
        os.makedirs(self.point, exist_ok=True)
        os.makedirs(self.cache, mode=0o700)
        self.stack.callback(shutil.rmtree, self.cache, ignore_errors=True)
        self.log = open(self.cache + ".log", "ab")
        self.stack.callback(self.log.close)
        self.proxy = Proxy(self.servers.program("proxy"), self.port(), self.rtt,
                           self.bandwidth, self.servers.slow_start,
                           self.servers.tls)
        self.stack.callback(self.proxy.stop)
        self.count_from_here()
        if not self.has_mount:
            return
        began = time.monotonic()
        self.process = start(self.arguments(), self.log,
                             env=self.environment())
        self.stack.callback(self._unmount)
        wait_until(lambda: self.process.poll() is not None or
                   mounted(self.point), what=f"mount of {self.name}")
        if self.process.poll() is not None:
            raise Missing(f"{self.name} did not mount: {self.said()}")
        self.began = began

    def said(self):
        with open(self.cache + ".log", "rb") as f:
            return f.read()[-400:].decode(errors="replace").strip()

    def _unmount(self):
        """Whatever state it is in; nobody may hang for it."""
        umount = (["umount"] if os.geteuid() == 0 else
                  ["fusermount3", "-u"])
        lazy = ["-l"] if os.geteuid() == 0 else ["-z"]
        if mounted(self.point):
            try:
                done = subprocess.run([*umount, self.point], timeout=15,
                                      stderr=subprocess.DEVNULL)
                clean = done.returncode == 0
            except subprocess.TimeoutExpired:
                clean = False
            if not clean:
                self.process.kill()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if mounted(self.point):  # or has come up after all
            subprocess.run([*umount, *lazy, self.point], timeout=15,
                           stderr=subprocess.DEVNULL)

    def kill(self):
        """End it at once, so that whoever is stuck in it comes back."""
        if self.process is not None:
            self.process.kill()

    def settle(self):
        """Wait until it does nothing more for what was before."""

    def reset(self):
        self.settle()
        self.count_from_here()

    def count_from_here(self):
        self.proxy.reset()

    def counts(self):
        """Requests and bytes since reset(), or the mount."""
        stats = self.proxy.stats()
        return {"requests": self.requests(stats), "up": stats["up"],
                "down": stats["down"], "connections": stats["connections"]}

    def detail(self):
        """What each request was, if that is known."""
        return None

    def requests(self, stats):
        return None

    def used(self):
        return used_by(self.process.pid) if self.process else (0, 0)

    def command(self, text, p):
        """Run a command in the VM's home."""
        raise NotImplementedError


class Gentilityfs(Peer):
    name = "gentilityfs"

    def port(self):
        return self.servers.room.port

    def arguments(self):
        return [self.servers.driver, "-f", "-o",
                f"url=http://127.0.0.1:{self.proxy.port},"
                f"key_file={self.servers.key_file},cache_dir={self.cache}",
                f"{self.servers.room.source}:~", self.point]

    def settle(self):
        # "inflight" counts the question itself or not: both are steady.
        room = self.servers.room
        wait_until(lambda: room.state()["inflight"] == 0, what="quiet")

    def count_from_here(self):
        super().count_from_here()
        self.servers.room.reset_log()

    def requests(self, stats):
        self.settle()
        return self.servers.room.count()["total"]

    def detail(self):
        """[kind, began, took (ms), bytes in, bytes out] of the first ones."""
        log = sorted(self.servers.room.log(), key=lambda e: e["t_start"])
        return [[e["kind"], round((e["t_start"] - log[0]["t_start"]) * 1000),
                 round((e["t_end"] - e["t_start"]) * 1000),
                 e["bytes_in"], e["bytes_out"]] for e in log[:100]]

    def command(self, text, p):
        with open(os.path.join(self.files, ".exec"), "w") as f:
            f.write(text + "\n")

    @classmethod
    def version(cls, build):
        done = subprocess.run([os.path.join(build, "gentilityfs"), "-V"],
                              stdout=subprocess.PIPE, text=True)
        git = subprocess.run(["git", "-C", HERE, "rev-parse", "--short=10",
                              "HEAD"], stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.DEVNULL)
        return (done.stdout.split("\n")[0] + " " + git.stdout.strip()).strip()


class OverSftp:
    """What peers over sshd have in common."""

    def count_from_here(self):
        super().count_from_here()
        self.before = self.servers.sftp_requests()

    def requests(self, stats):
        if not self.servers.sftp_count:
            return None
        return self.servers.sftp_requests() - self.before

    def command(self, text, p):
        config = self.servers.ssh_config(self.proxy.port)
        subprocess.run(
            ["ssh", "-F", config, "vm",
             f"cd {self.servers.home} && {text}"], check=True,
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Sshfs(OverSftp, Peer):
    name = "sshfs"
    options = []

    def port(self):
        need("sshfs")
        return self.servers.sshd()

    def arguments(self):
        config = self.servers.ssh_config(self.proxy.port)
        args = ["sshfs", "-f", "-F", config,
                f"vm:{self.servers.home}", self.point]
        for option in self.options:
            args += ["-o", option]
        return args

    @classmethod
    def version(cls, build):
        done = subprocess.run(["sshfs", "-V"], stdout=subprocess.PIPE,
                              text=True, stderr=subprocess.STDOUT)
        return re.search("SSHFS version.*", done.stdout)[0]


class SshfsTuned(Sshfs):
    name = "sshfs-tuned"
    options = [
        "max_conns=4", "kernel_cache", "attr_timeout=60",
        "entry_timeout=60", "negative_timeout=60", "dcache_timeout=60",
        "Ciphers=aes128-gcm@openssh.com", "Compression=no",
    ]


class Rclone(Peer):
    options = ["--vfs-cache-mode", "full"]

    def port(self):
        need("rclone")
        return self.server_port()

    def environment(self):
        return dict(os.environ, HOME=self.cache,
                    RCLONE_CONFIG=os.path.join(self.cache, "rclone.conf"))

    def arguments(self):
        open(os.path.join(self.cache, "rclone.conf"), "w").close()
        return ["rclone", "mount", self.remote(), self.point,
                "--cache-dir", os.path.join(self.cache, "vfs"),
                *self.options]

    @classmethod
    def version(cls, build):
        done = subprocess.run(["rclone", "version"], text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        return done.stdout.split("\n")[0]


class RcloneWebdav(Rclone):
    name = "rclone-webdav"

    def server_port(self):
        port = free_port()
        process = start(
            ["rclone", "serve", "webdav", self.servers.home,
             "--addr", f"127.0.0.1:{port}", "--dir-cache-time", "0s"],
            self.log, env=self.environment())
        self.stack.callback(end, process)
        wait_until(lambda: process.poll() is not None or listening(port),
                   what="rclone serve")
        return port

    def remote(self):
        return (f":webdav,url='http://127.0.0.1:{self.proxy.port}',"
                "vendor=other:")

    def requests(self, stats):
        return stats["requests"]


class RcloneWebdavTuned(RcloneWebdav):
    name = "rclone-webdav-tuned"
    options = Rclone.options + [
        "--vfs-write-back", "0s", "--transfers", "16", "--checkers", "16",
        "--dir-cache-time", "1h",
    ]


class RcloneSftp(OverSftp, Rclone):
    name = "rclone-sftp"

    def server_port(self):
        return self.servers.sshd()

    def remote(self):
        key = os.path.join(self.servers.scratch, "ssh", "user")
        return (f":sftp,host=127.0.0.1,port={self.proxy.port},"
                f"user={user_name()},key_file='{key}':{self.servers.home}")


class Local(Peer):
    """The directory itself: no link, no mount."""

    name = "local"
    has_mount = False

    def port(self):
        return self.servers.room.port

    def _begin(self):
        super()._begin()
        self.files = self.servers.home

    def command(self, text, p):
        subprocess.run(["sh", "-c", text], check=True, cwd=self.files)


class Curl(Peer):
    """The API's own endpoints through curl: the least that it takes."""

    name = "curl"
    curl = True
    has_mount = False

    def port(self):
        need("curl")
        return self.servers.room.port

    def _begin(self):
        super()._begin()
        room = self.servers.room
        self.api = f"http://127.0.0.1:{self.proxy.port}"
        self.raw_url = (f"{self.api}/vm/{room.ready['instance_id']}/file"
                        f"{room.vm_home}/")

    def _curl(self, *args):
        config = f'header = "Authorization: Bearer {self.servers.room.key}"\n'
        return subprocess.run(
            ["curl", "-sS", "-f", "-K", "-", *args], check=True,
            input=config.encode(), stdout=subprocess.PIPE).stdout

    def file(self, name):
        room = self.servers.room
        answer = self._curl(
            f"{self.api}{room.base}/file{room.vm_home}/{name}")
        return json.loads(answer)["content"].encode()

    def raw(self, name, output, part=None):
        args = ["-r", part] if part else []
        return self._curl(*args, "-o", output, self.raw_url + name)

    def ranges(self, name, places):
        args = []
        for at in places:
            args += ["-r", f"{at}-{at + 4095}", "-o", "/dev/null",
                     self.raw_url + name, "--next", "-sS", "-f"]
        self._curl(*args[:-3])

    def command(self, text, p):
        room = self.servers.room
        self._curl("-H", "Content-Type: application/json", "-d",
                   json.dumps({"command": text}),
                   f"{self.api}{room.base}/command")

    def requests(self, stats):
        return stats["requests"]

    @classmethod
    def version(cls, build):
        done = subprocess.run(["curl", "-V"], text=True,
                              stdout=subprocess.PIPE)
        return done.stdout.split(" (")[0]


PEERS = {
    peer.name: peer
    for peer in (Gentilityfs, Sshfs, SshfsTuned, RcloneWebdav,
                 RcloneWebdavTuned, RcloneSftp, Local, Curl)
}
