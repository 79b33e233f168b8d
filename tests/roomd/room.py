"""A local room for tests: starts gentility-roomd and talks to it.

    with Room() as room:
        room.run("echo hi > /tmp/x")
        room.control(latency_ms=50)
        room.count()["command"]

Only the standard library.  The program is the `binary` argument, else the
environment's ROOMD, else ./gentility-roomd.
"""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

# How much longer than usual this machine takes (contrib/check.sh measures it).
SLOWNESS = float(os.environ.get("GENTILITYFS_TEST_SLOWNESS") or 1)
# Seconds.  Generous, only reached when something is broken.
DEADLINE = 60 * SLOWNESS
# As long may a loaded machine, or its disk, stand still.
STALL = 15 * SLOWNESS


class RoomError(Exception):
    """roomd did not start, or refused a control request."""


class Answer:
    """One HTTP answer, read whole."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"Answer({self.status}, {self.body[:200]!r})"


def clock():
    """Seconds, without what the host kept from this machine's processors: for
    what may take only so long."""
    with open("/proc/stat") as f:
        steal = int(f.readline().split()[8])
    return time.monotonic() - \
        steal / os.sysconf("SC_CLK_TCK") / os.cpu_count()


def late(began, seconds):
    """Is it later than so long after, whatever the machine did?"""
    return clock() > began + seconds + STALL


def wait_until(condition, deadline=DEADLINE, what="condition"):
    """Poll until condition() is true; its value.  Raises after deadline."""
    began = clock()
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if late(began, deadline):
            raise TimeoutError(f"{what} not met within {deadline} s")
        pause.wait(0.005)


class Room:
    """One gentility-roomd process.

    Options become command line options: Room(user=1000, no_instance=True)
    runs `--user 1000 --no-instance`.
    """

    def __init__(self, binary=None, busybox=False, **opts):
        self.binary = (
            binary or os.environ.get("ROOMD") or "./gentility-roomd"
        )
        self.busybox = busybox
        self.opts = opts
        self.process = None
        self.ready = {}
        self._stderr = None
        self._local = threading.local()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # -- life -----------------------------------------------------------

    def arguments(self):
        args = [self.binary]
        if self.busybox:
            args.append("--busybox")
        for name, value in self.opts.items():
            option = "--" + name.replace("_", "-")
            if value is True:
                args.append(option)
            elif value is not None and value is not False:
                args += [option, str(value)]
        if "die_with_parent" not in self.opts:
            args.append("--die-with-parent")
        return args

    def start(self):
        """Start it; back when it answers."""
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.arguments(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            message = self.stderr()
            self.process.stdout.close()
            raise RoomError(message.strip() or "roomd said nothing")
        self.ready = json.loads(line)
        return self

    def stop(self, sig=signal.SIGTERM):
        """End it; its exit code."""
        if self.process is None:
            return None
        self.close()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        self.process = None
        return code

    def stderr(self):
        """What it wrote to stderr so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    # -- where things are -------------------------------------------------

    url = property(lambda self: self.ready["url"])
    key = property(lambda self: self.ready["key"])
    profile = property(lambda self: self.ready["profile"])
    room = property(lambda self: self.ready["room"])
    home = property(lambda self: self.ready["home"])
    tmp = property(lambda self: self.ready["tmp"])
    workspace = property(lambda self: self.ready["workspace"])
    vm_home = property(lambda self: self.ready["vm_home"])
    source = property(lambda self: f"{self.profile}/{self.room}")
    base = property(
        lambda self: f"/api/profile/{self.profile}/room/"
        + urllib.parse.quote(self.room, safe="")
    )

    @property
    def port(self):
        return urllib.parse.urlsplit(self.url).port

    @property
    def instance_id(self):
        """The present instance, which may have changed since the start."""
        return self.state()["instance_id"]

    @property
    def root(self):
        """The VM's / as seen from the host; it changes with the instance."""
        return self.state()["root"]

    # -- HTTP -------------------------------------------------------------

    def connect(self, timeout=DEADLINE):
        return http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=timeout
        )

    def close(self):
        """Close this thread's kept connection."""
        conn = getattr(self._local, "conn", None)
        if conn is not None:
            conn.close()
            self._local.conn = None

    def request(
        self, method, path, body=None, headers=None, key=True,
        timeout=DEADLINE,
    ):
        """One request on a connection of its own; the path goes out as is."""
        conn = self.connect(timeout)
        try:
            return self._send(conn, method, path, body, headers, key)
        finally:
            conn.close()

    def _send(self, conn, method, path, body, headers, key):
        sent = {}
        if key:
            sent["Authorization"] = "Bearer " + (
                self.key if key is True else key
            )
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        conn.request(method, path, body, sent)
        answer = conn.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def _kept(self, method, path, body=None):
        """On this thread's kept connection; used for control only."""
        conn = getattr(self._local, "conn", None)
        if conn is None:
            conn = self._local.conn = self.connect()
        try:
            return self._send(conn, method, path, body, None, True)
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def command(self, text, **kw):
        """POST a command; the Answer."""
        return self.request(
            "POST", self.base + "/command", {"command": text}, **kw
        )

    def run(self, text, **kw):
        """Run a command that has to get a 200; the parsed answer."""
        answer = self.command(text, **kw)
        if answer.status != 200:
            raise RoomError(f"{answer.status}: {answer.body!r}")
        return answer.json

    def output(self, text, **kw):
        return self.run(text, **kw)["result"]["output"]

    def file(self, wildcard, **kw):
        """GET the file endpoint; the wildcard goes out as given."""
        return self.request("GET", self.base + "/file/" + wildcard, **kw)

    def raw(self, path, instance=None, method="GET", **kw):
        """GET the raw endpoint, without a key."""
        return self.request(
            method,
            f"/vm/{instance or self.instance_id}/file{path}",
            key=False,
            **kw,
        )

    def create(self, room=None, body=None, **kw):
        path = self.base if room is None else (
            f"/api/profile/{self.profile}/room/{room}"
        )
        return self.request("POST", path, body, **kw)

    # -- control ------------------------------------------------------------

    def control(self, **switches):
        """Throw switches; the state after."""
        answer = self._kept("POST", "/_control", switches)
        if answer.status != 200:
            raise RoomError(answer.json["message"])
        return answer.json

    def state(self):
        return self._kept("GET", "/_control").json

    def fault(self, fault, times=None, **match):
        """Put one fault rule in force: fault({"status": 503}, kind="raw")."""
        if times is not None:
            match["times"] = times
        return self.control(faults=[{"match": match, "fault": fault}])

    def no_faults(self):
        return self.control(faults=[])

    def reset(self):
        """All switches as at the start, no faults, an empty log."""
        return self.control(defaults=True, log_reset=True)

    def log(self, kind=None):
        """The finished requests, oldest first by their end."""
        entries = self._kept("GET", "/_control/log").json
        return [e for e in entries if kind in (None, e["kind"])]

    def count(self):
        return self._kept("GET", "/_control/count").json

    def reset_log(self):
        self.control(log_reset=True)
