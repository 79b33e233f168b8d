"""A server that lies: stands before a local room and answers as a test says.

    with Hostile(room) as bad, Mount(bad) as m:
        bad.rule = lambda request, forward: ...

A rule gives the answer to a request: None (what the room says), an Answer, or
an iterable of bytes that go out as they are, after which the connection ends.
forward(request) asks the room.  Independent of the local room's own faults.
"""

import base64
import gzip
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import urllib.parse


class Answer:
    def __init__(self, status=200, body=b"", headers=None):
        self.status = status
        self.body = body if isinstance(body, bytes) else \
            json.dumps(body).encode()
        self.headers = {"Content-Type": "application/json"}
        self.headers.update(headers or {})

    @property
    def json(self):
        return json.loads(self.body)

    def wire(self):
        head = [f"HTTP/1.1 {self.status} X"]
        headers = dict(self.headers)
        headers.setdefault("Content-Length", str(len(self.body)))
        head += [f"{k}: {v}" for k, v in headers.items()]
        return ("\r\n".join(head) + "\r\n\r\n").encode() + self.body


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target = method, target
        self.headers, self.body = headers, body
        if target.startswith("/vm/"):
            self.kind = "raw"
        elif target.endswith("/command"):
            self.kind = "command"
        elif "/file/" in target:
            self.kind = "file"
        else:
            self.kind = "create"

    @property
    def command(self):
        if self.kind != "command":
            return ""
        return json.loads(self.body)["command"]

    @property
    def begins(self):
        """Where the part of a file begins that it asks for, or None."""
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return start and int(start[1])

    def is_about(self, text):
        """Does the command or the path hold the text?"""
        return text in self.command or \
            text in urllib.parse.unquote(self.target)


def read_request(stream):
    line = stream.readline(65536)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = http.client.parse_headers(stream)
    body = stream.read(int(headers.get("Content-Length") or 0))
    return Request(method, target, headers, body)


class Hostile:
    """Has what Mount wants of a room."""

    def __init__(self, room, tls=None, host="127.0.0.1"):
        self.room, self.tls, self.host = room, tls, host
        self.rule = None
        self.requests = []
        self.connections = 0
        self.open = set()
        self.lock = threading.Lock()
        self.muted = 0  # connections up to this number get no answer
        self.voice = threading.Event()  # set: none is muted
        self.voice.set()
        self.ended = threading.Event()

    key = property(lambda self: self.room.key)
    source = property(lambda self: self.room.source)
    state = property(lambda self: self.room.state)

    def __enter__(self):
        self.server = socket.create_server((self.host, 0), backlog=128)
        self.port = self.server.getsockname()[1]
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://localhost:{self.port}"
        self.accepter = threading.Thread(target=self._accept, daemon=True)
        self.accepter.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.voice.set()
        # close() alone would leave a waiting accept().
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.hang_up()
        self.accepter.join(10)

    def hang_up(self):
        with self.lock:
            for s in self.open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def mute(self):
        """All connections that there are now say nothing any more, like
        those of an address that is gone; new ones work."""
        self.voice.clear()
        self.muted = self.connections

    def count(self, kind=None):
        with self.lock:
            return sum(kind in (None, r.kind) for r in self.requests)

    def _accept(self):
        while not self.ended.is_set():
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                self.open.add(s)
            threading.Thread(target=self._serve, args=(s, number),
                             daemon=True).start()

    def _serve(self, plain, number):
        s = plain
        try:
            plain.settimeout(120)
            if self.tls:
                s = self.tls.wrap_socket(plain, server_side=True)
                with self.lock:
                    self.open.discard(plain)
                    self.open.add(s)
            self._talk(s, number)
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            with self.lock:
                self.open -= {plain, s}
            s.close()

    def _talk(self, s, number):
        back = http.client.HTTPConnection("127.0.0.1", self.room.port,
                                          timeout=120)

        def forward(request):
            skip = ("host", "connection", "content-length", "accept-encoding")
            back.request(request.method, request.target, request.body, {
                k: v for k, v in request.headers.items()
                if k.lower() not in skip})
            got = back.getresponse()
            return Answer(got.status, got.read(), {
                k: v for k, v in got.headers.items()
                if k.lower() not in ("content-length", "connection",
                                     "transfer-encoding")})

        stream = s.makefile("rb")
        try:
            while True:
                request = read_request(stream)
                if request is None:
                    return
                with self.lock:
                    self.requests.append(request)
                if number <= self.muted:
                    self.voice.wait()
                    return
                rule = self.rule
                answer = rule(request, forward) if rule else None
                if answer is None:
                    answer = forward(request)
                if isinstance(answer, Answer):
                    s.sendall(answer.wire())
                    continue
                for part in answer:
                    s.sendall(part)
                return
        finally:
            back.close()
            stream.close()


# -- lies about a command's output --------------------------------------------

FRAME = re.compile(
    r"(<gfs-begin ([0-9a-f]+)>?\n)([A-Za-z0-9+/=\s]*)"
    r"\n<gfs-end \2 (\d+)>")


def payload(answer):
    """What the driver's own command printed, or None."""
    match = FRAME.search(answer.json["result"]["output"])
    if not match:
        return None
    data = base64.b64decode(match[3])
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def forge(answer, data):
    """The answer with other data in a frame that is right."""
    body = answer.json
    packed = base64.b64encode(gzip.compress(data, 1)).decode()
    body["result"]["output"] = FRAME.sub(
        lambda m: f"{m[1]}{packed}\n<gfs-end {m[2]} {len(packed)}>",
        body["result"]["output"])
    return Answer(answer.status, body)


def lying(change):
    """A rule: change(data) of each payload."""
    def rule(request, forward):
        if request.kind != "command":
            return None
        answer = forward(request)
        data = payload(answer) if answer.status == 200 else None
        if data is None:
            return answer
        return forge(answer, change(data))
    return rule


def entry(name, kind="f", mode="644", nlink=1, size=0, blocks=0, dev=1,
          ino=777, time="1700000000.5", target=b""):
    """A record of a listing, as GNU find prints it for the driver."""
    head = (f"{kind} {mode} {nlink} 0 0 {size} {blocks} {dev} {ino} "
            f"{time} {time} {time}")
    return head.encode() + b"\0" + name + b"\0" + target + b"\0"


def certificate(directory, names, name="tls", days=1):
    """A self-signed certificate; the path of the PEM file and a context."""
    cert, key = f"{directory}/{name}.pem", f"{directory}/{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
         "-keyout", key, "-out", cert, "-days", str(days), "-subj",
         "/CN=gentilityfs test", "-addext",
         "subjectAltName=" + ",".join(names)],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
