"""What the mount tests stand on: a mount, and file operations with deadlines.

The tests' own process never touches a mount: whatever does runs in a process
of its own (do(), sh()), so that a hang is a failure and not a stuck suite.
"""

import contextlib
import ctypes
import errno
import os
import pickle
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "roomd"))

from room import Room as PlainRoom  # noqa: E402
from room import SLOWNESS, STALL, clock, late, wait_until  # noqa: E402, F401

BUILD = os.path.abspath(os.environ.get("GENTILITYFS_BUILD") or os.getcwd())
DRIVER = os.path.join(BUILD, "gentilityfs")
ROOMD = os.path.join(BUILD, "gentility-roomd")

# Generous: only reached when something is broken, or under sanitizers.
DEADLINE = SLOWNESS * float(os.environ.get("GENTILITYFS_TEST_DEADLINE") or 60)

# Sanitizers need several times the memory.
SANITIZED = "ASAN_OPTIONS" in os.environ

MIB = 1 << 20

COMPLAINT = re.compile(
    rb"(Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer"
    rb"|runtime error:|detected memory leaks|Assertion .* failed"
)


class Hang(AssertionError):
    """A file operation did not come back within its deadline."""


# The same tests on other rooms and mounts: the VM's user where a test does not
# say, and options for every mount.
TEST_USER = int(os.environ.get("GENTILITYFS_TEST_USER") or 0)
TEST_OPTIONS = [
    o for o in os.environ.get("GENTILITYFS_TEST_OPTIONS", "").split(",") if o]


def Room(busybox=False, **opts):
    """A local room of this build."""
    if TEST_USER and "user" not in opts:
        return UserRoom(ROOMD, busybox=busybox, user=TEST_USER, **opts)
    return PlainRoom(ROOMD, busybox=busybox, **opts)


class UserRoom(PlainRoom):
    """A room whose user is not root; what the test itself makes in it, from the
    host's side, then belongs to that user."""

    def start(self):
        super().start()
        make_files_as(self.opts["user"])
        return self

    def stop(self, *args):
        make_files_as(0)
        return super().stop(*args)


def make_files_as(user):
    """This thread makes files as that user, and still may do what root may."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Linux's third version of capabilities, of this thread; then effective,
    # permitted and inheritable ones, the lower and the upper half.
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    caps = (ctypes.c_uint32 * 6)()
    libc.setfsgid(user)
    libc.setfsuid(user)
    if libc.capget(head, caps) == 0:
        caps[0], caps[3] = caps[1], caps[4]
        libc.capset(head, caps)


# -- operations in processes of their own -----------------------------------

LIVE = []  # the mounts of the running test, for failure reports
CALLS = []  # its calls, to be ended with it


def abort_mounts():
    """Let go whoever is stuck in one of this test's mounts."""
    for mount in LIVE:
        mount.kill()


def end_calls():
    """A test that failed may have left some waiting."""
    while CALLS:
        CALLS.pop().end()


class Call:
    """A function running in a child process; result() waits for it."""

    def __init__(self, func, *args, **kwargs):
        self.read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.read_end)
                make_files_as(0)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.alarm(0)
                try:
                    answer = (True, func(*args, **kwargs))
                except BaseException as e:  # also KeyboardInterrupt
                    e.text = traceback.format_exc()
                    answer = (False, e)
                try:
                    data = pickle.dumps(answer)
                except Exception:
                    data = pickle.dumps((False, RuntimeError(repr(answer))))
                with os.fdopen(write_end, "wb") as f:
                    f.write(data)
                status = 0
            finally:
                os._exit(status)
        os.close(write_end)
        self.data = bytearray()
        self.done = False
        CALLS.append(self)

    def finished(self):
        """Whether the answer is there; never waits."""
        return self._collect(0)

    def _collect(self, timeout):
        end = clock() + timeout
        while not self.done:
            left = max(0, end - clock())
            if not select.select([self.read_end], [], [], left)[0]:
                if clock() < end:
                    continue
                return False
            part = os.read(self.read_end, 1 << 20)
            if part:
                self.data += part
                continue
            os.close(self.read_end)
            os.waitpid(self.pid, 0)
            self.seconds = time.monotonic() - self.began
            self.done = True
        return True

    def signal(self, number):
        os.kill(self.pid, number)

    def result(self, timeout=None):
        """The function's value or exception; Hang past the deadline."""
        timeout = timeout or DEADLINE
        if not self._collect(timeout + STALL):
            self.end()
            raise Hang(f"no answer after {timeout} s")
        if not self.data:
            raise AssertionError("the child process died")
        good, value = pickle.loads(self.data)
        if not good:
            raise value
        return value

    def end(self):
        """End the child whatever it does; it may hang in the kernel."""
        if self.done:
            return
        os.kill(self.pid, signal.SIGKILL)
        if not self._collect(2):
            abort_mounts()
            self._collect(10)


def do(func, *args, timeout=None, **kwargs):
    """Run func in a child process with a deadline; its value."""
    return Call(func, *args, **kwargs).result(timeout)


class Done:
    """How a program ended."""

    def __init__(self, status, out, err, seconds):
        self.status, self.out, self.err = status, out, err
        self.seconds = seconds

    @property
    def text(self):
        return self.out.decode("utf-8", "surrogateescape")

    def __repr__(self):
        return f"Done({self.status}, {self.out[-800:]!r}, {self.err[-800:]!r})"


class Program:
    """A program running; wait() for its end."""

    def __init__(self, args, env=None, stdin=subprocess.DEVNULL, cwd=None):
        self.out = tempfile.TemporaryFile()
        self.err = tempfile.TemporaryFile()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            args,
            stdin=stdin,
            stdout=self.out,
            stderr=self.err,
            cwd=cwd,
            env=dict(os.environ, LC_ALL="C", **(env or {})),
            start_new_session=True,
        )

    def signal(self, number):
        """To the program and its children, as the terminal would."""
        os.killpg(self.process.pid, number)

    def running(self):
        return self.process.poll() is None

    def wait_for_children(self):
        """Until they are gone, too; they have the mount in use."""
        def gone():
            try:
                os.killpg(self.process.pid, 0)
                return False
            except ProcessLookupError:
                return True
        wait_until(gone, DEADLINE, "the children's end")

    def wait(self, timeout=None):
        timeout = timeout or DEADLINE
        end = clock() + timeout + STALL
        while (status := self.process.poll()) is None:
            try:
                self.process.wait(max(0, end - clock()))
            except subprocess.TimeoutExpired:
                if clock() < end:
                    continue
                self.end()
                raise Hang(f"{self.process.args}: no end after {timeout} s")
        parts = []
        for f in (self.out, self.err):
            f.seek(0)
            parts.append(f.read())
            f.close()
        return Done(status, *parts, time.monotonic() - self.began)

    def end(self):
        if self.running():
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                abort_mounts()
                self.process.wait(10)


def run(args, timeout=None, env=None):
    return Program(args, env).wait(timeout)


def sh(script, *args, timeout=None, ok=True, **env):
    """Run a bash script; unless told otherwise it has to succeed."""
    done = run(["bash", "-c", script, "bash", *args], timeout, env)
    assert not ok or done.status == 0, (script, done)
    return done


def raises(number, func, *args, timeout=None, **kwargs):
    """do() has to fail with one of these errno."""
    numbers = number if isinstance(number, tuple) else (number,)
    names = [errno.errorcode[n] for n in numbers]
    try:
        value = do(func, *args, timeout=timeout, **kwargs)
    except OSError as e:
        assert e.errno in numbers, f"{e!r}, expected {names}"
        return e
    raise AssertionError(f"no error, expected {names}: {value!r}")


# -- the mount ----------------------------------------------------------------


def mounts():
    """Mount points and their types, as the kernel has them."""
    found = {}
    with open("/proc/self/mountinfo", "rb") as f:
        for line in f:
            fields = line.split(b" ")
            kind = fields[fields.index(b"-") + 1]
            point = re.sub(
                rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), fields[4]
            )
            found[os.fsdecode(point)] = kind.decode()
    return found


def unmount(point, lazy=False):
    flag = "-uz" if lazy else "-u"
    return run(["fusermount3", flag, point], timeout=10)


def slower(option):
    """On a slow machine, a short timeout is a longer one."""
    name, _, value = option.partition("=")
    if name == "timeout" and float(value) < 20:
        return f"timeout={round(float(value) * SLOWNESS)}"
    return option


class Mount:
    """One driver in the foreground, mounted for the length of a with.

    Leaving it unmounts and ends the process whatever happened; after a good
    test the end itself has to be good, too: status 0 and no complaints.
    """

    def __init__(self, room, *options, path=None, cache=None, args=(),
                 wait=True, env=None, user=None):
        self.room = room
        self.options = TEST_OPTIONS + list(options)
        self.path = path
        self.keep_cache = cache is not None
        self.cache = cache
        self.args = list(args)
        self.wait = wait
        self.env = env or {}
        self.user = user
        self.process = None
        self.status = None

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="gentilityfs-test-")
        os.chmod(self.top, 0o755)
        self.dir = os.path.join(self.top, "mnt")
        os.mkdir(self.dir)
        if self.cache is None:
            self.cache = os.path.join(self.top, "cache")
        elif TEST_USER and os.path.isdir(self.cache) and \
                os.lstat(self.cache).st_uid == TEST_USER:
            os.chown(self.cache, os.getuid(), os.getgid())
        self.stderr_path = os.path.join(self.top, "stderr")
        LIVE.append(self)
        try:
            self._start()
        except BaseException:
            self._stop(False)
            raise
        return self

    def __exit__(self, kind, value, tb):
        self._stop(kind is None)

    def command_line(self):
        source = self.room.source
        if self.path is not None:
            source += ":" + self.path
        options = ["url=" + self.room.url, "cache_dir=" + self.cache]
        if SLOWNESS > 1:
            # Defaults are for machines on which a test takes its usual time.
            options.append(f"cache_timeout={5 * SLOWNESS}")
        options += [slower(option) for option in self.options]
        return [DRIVER, "-f", *self.args, "-o", ",".join(options), source,
                self.dir]

    def _start(self, again=True):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("GENTILITY")}
        env.update(GENTILITY_API_KEY=self.room.key, HOME=self.top)
        env.update(self.env)
        with open(self.stderr_path, "ab") as err:
            self.process = subprocess.Popen(
                self.command_line(), stdin=subprocess.DEVNULL, stdout=err,
                stderr=err, env=env, user=self.user,
            )
        if not self.wait:
            return
        wait_until(
            lambda: self.dir in mounts() or self.process.poll() is not None,
            DEADLINE, "the mount")
        if self.process.poll() is not None:
            # A test's short timeout, on a machine that stood still: once more.
            if again and "no byte came for" in self.stderr():
                self._start(False)
                return
            raise AssertionError(f"no mount: {self.stderr()!r}")
        do(os.lstat, self.dir)

    def _stop(self, good):
        """Unmount, by force if need be; leaves nothing behind."""
        done = None
        try:
            if self.dir in mounts():
                if good:
                    done = unmount(self.dir)
                if self.dir in mounts():
                    unmount(self.dir, lazy=True)
            ended = self._reap(DEADLINE if good else 1)
            if not ended:
                self.kill()
            said = self.stderr_bytes()
            if good:
                assert done is None or done.status == 0, done
                assert ended, "the driver did not end after the unmount"
                assert self.status == 0, (self.status, said[-2000:])
                assert not COMPLAINT.search(said), said.decode("replace")
                assert self.room.key.encode() not in said, "the key is logged"
        finally:
            self.kill()
            if self.dir in mounts():
                unmount(self.dir, lazy=True)
            LIVE.remove(self)
            self.last_words = self.stderr_bytes()
            LAST[:] = [self.last_words]
            shutil.rmtree(self.top, ignore_errors=True)

    def _reap(self, timeout):
        if self.process is None:
            return True
        try:
            self.status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self):
        """End the driver at once; all who wait in the mount get an error."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def stderr_bytes(self):
        try:
            with open(self.stderr_path, "rb") as f:
                return f.read()
        except OSError:
            return b""

    def stderr(self):
        return self.stderr_bytes().decode("utf-8", "replace")

    @property
    def pid(self):
        return self.process.pid

    def peak_memory(self):
        """The most memory the driver ever had, in bytes."""
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    # -- paths and operations

    def __call__(self, *parts):
        """A path below the mount point; bytes if any part is bytes."""
        if any(isinstance(p, bytes) for p in parts):
            parts = [os.fsencode(p) for p in parts]
            return os.path.join(os.fsencode(self.dir), *parts)
        return os.path.join(self.dir, *parts)

    def read(self, *parts, **kw):
        return do(read_file, self(*parts), **kw)

    def ls(self, *parts, **kw):
        return sorted(do(os.listdir, self(*parts), **kw))

    def lstat(self, *parts, **kw):
        return do(os.lstat, self(*parts), **kw)

    def exists(self, *parts, **kw):
        return do(os.path.lexists, self(*parts), **kw)

    def sh(self, script, *args, **kw):
        """A bash script, in the mount's root, $M."""
        return sh('cd "$M" || exit 99\n' + script, *args, M=self.dir, **kw)

    def exec(self, directory, script, control=".exec", **kw):
        """Run a script by .exec; what a new descriptor reads then."""
        return do(exec_script, self(directory, control), script, **kw)

    def settle(self):
        """Wait until the room has been left alone for a moment."""
        settle(self.room)

    def forget(self):
        """Count from here."""
        self.settle()
        self.room.reset_log()

    def count(self):
        """Requests since forget(), all of them finished."""
        self.settle()
        return self.room.count()


LAST = []  # what the test's last mount wrote to stderr


def settle(room, samples=6):
    """Until nothing has been asked of the room for some samples (30 ms)."""
    seen = []

    def quiet():
        state = room.state()
        seen.append((state["arrived"], state["inflight"]))
        last = seen[-samples:]
        return len(last) == samples and len(set(last)) == 1 \
            and last[0][1] == 0

    wait_until(quiet, DEADLINE, "quiet")


# -- file operations, to be run by do() ---------------------------------------


def outcome(func, *args):
    """What it returns, or the errno that it fails with."""
    try:
        return func(*args)
    except OSError as e:
        return e.errno


def outcome_signed(func, *args):
    """What it returns (True for None), or the negative errno."""
    try:
        value = func(*args)
        return True if value is None else value
    except OSError as e:
        return -e.errno


def read_file(path):
    with open(path, "rb", buffering=0) as f:
        parts = []
        while part := f.read(MIB):
            parts.append(part)
        return b"".join(parts)


def write_file(path, data, flags=os.O_WRONLY):
    """One open, one write, one close, each of whose errors shows."""
    fd = os.open(path, flags)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def exec_script(path, script, flags=os.O_WRONLY):
    if isinstance(script, str):
        script = os.fsencode(script)
    write_file(path, script, flags)
    return read_file(path)


def tree(path):
    """All below a path: its name, lstat and link text or names."""
    found = {}
    path = os.fsencode(path)
    todo = [b""]
    while todo:
        rel = todo.pop()
        full = os.path.join(path, rel) if rel else path
        st = os.lstat(full)
        extra = None
        if stat.S_ISLNK(st.st_mode):
            extra = os.readlink(full)
        elif stat.S_ISDIR(st.st_mode):
            todo += [os.path.join(rel, n) for n in os.listdir(full)]
        found[rel] = (st, extra)
    return found


# -- .exec's form ---------------------------------------------------------------


class Result:
    """What .exec read, taken apart."""

    def __init__(self, data):
        lines = data.split(b"\n")
        assert data.endswith(b"\n"), data[-200:]
        at = max((i for i, x in enumerate(lines) if x.startswith(b"--- ")),
                 default=None)
        assert at is not None, data[-400:]
        self.output = b"".join(x + b"\n" for x in lines[:at])
        self.verdict = lines[at].decode()
        self.exit = self.changed = None
        match = re.fullmatch(r"--- exit (\d+), (\d+) files changed",
                             self.verdict)
        if match:
            self.exit, self.changed = int(match[1]), int(match[2])
        self.changes = [x.decode() for x in lines[at + 1:-1]]
        if match:
            assert len(self.changes) == self.changed, data[-800:]

    def rows(self):
        """status, size, type, path[, url] of each change."""
        return [re.split(r" {2,}", line.rstrip(" ")) for line in self.changes]

    def by_path(self):
        return {row[3]: row for row in self.rows()}


FATE = rb"(not run|ran, result unknown|outcome unknown)"
FAILED = re.compile(
    rb"gentilityfs: " + FATE + rb": [^\n]+\n"
    rb"--- error (E[A-Z]+), " + FATE + rb"\n"
)


def failure(data):
    """The fate and the errno name in a failure's text."""
    match = FAILED.fullmatch(data)
    assert match, data
    assert match[1] == match[3], data
    return match[1].decode(), match[2].decode()


# -- the VM's side ------------------------------------------------------------


class Gate:
    """A fifo in the room on which commands wait until it is opened.

    `cat GATE` in a script blocks until open(); nobody sleeps.
    """

    def __init__(self, room, name="gate"):
        self.host = os.path.join(room.workspace, name)
        self.vm = "/workspace/" + name
        self.fd = None
        os.mkfifo(self.host)
        os.chmod(self.host, 0o666)

    def wait(self):
        """Until a command stands before it."""
        def reader():
            try:
                self.fd = os.open(self.host, os.O_WRONLY | os.O_NONBLOCK)
                return True
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                return False
        if self.fd is None:
            wait_until(reader, DEADLINE, "a command at the gate")

    def open(self):
        self.wait()
        os.close(self.fd)
        self.fd = None


def put(directory, name, data=b"", mode=0o644):
    """A file in the room's tree, made from the host's side."""
    path = os.path.join(os.fsencode(directory), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(data, str):
        data = data.encode()
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    return path


def pattern(size, seed=1):
    """Bytes that differ everywhere, quickly made and reproducible."""
    import random
    return random.Random(seed).randbytes(size)
