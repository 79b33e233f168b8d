"""A server or VM that lies, on purpose or not: no crash, no unbounded memory,
no hang, nothing outside of the room, and the mount goes on when it is honest
again."""

import errno
import gzip
import itertools
import json
import os

import pytest

from hostile import (
    Answer, Hostile, certificate, entry, forge, lying, payload,
)
from mountlib import (
    DEADLINE, DRIVER, MIB, SANITIZED, Call, Mount, Result, clock, do,
    exec_script, late, outcome, pattern, put, raises, read_file, run,
    wait_until, write_file
)

FRESH = "cache_timeout=0"  # each open asks
W = "workspace"


@pytest.fixture
def bad(room):
    with Hostile(room) as server:
        yield server


def walk(path):
    """All names below, with what lstat and readlink say; errors as errno."""
    found = {}
    names = outcome(os.listdir, path)
    if isinstance(names, int):
        return names
    for name in names:
        full = os.path.join(path, name)
        st = outcome(os.lstat, full)
        target = None
        if not isinstance(st, int) and (st.st_mode & 0o170000) == 0o120000:
            target = outcome(os.readlink, full)
        found[name] = (st if isinstance(st, int) else st.st_size, target)
    return found


def recovered(m, *parts):
    """Can it be listed again, as honest servers' directories can?"""
    return not isinstance(do(outcome, os.listdir, m(*parts)), int)


def added(*records):
    """A rule that puts records into the listing of workspace/d."""
    def change(data):
        return data.replace(b"\0real\0\0", b"\0real\0\0" + b"".join(records))
    return lying(change)


# -- names ----------------------------------------------------------------------

NAMES = {
    "slash": b"a/b", "up": b"..", "dot": b".", "empty": b"", "up-and-out":
    b"../../../../../../tmp/evil", "absolute": b"/etc/evil", "tail": b"x/",
    "middle": b"a/../b", "double": b"a//b", "too-long": b"n" * 256,
    "much-too-long": b"n" * 70000, "control": b".exec",
    "ours": b".gentilityfs-0123456789abcdef",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_directory_has(room, bad, name):
    """F8: refused or left out; never shown, never followed."""
    put(room.workspace, "d/real", "real\n")
    with Mount(bad, FRESH) as m:
        bad.rule = added(entry(NAMES[name], size=9))
        got = do(walk, m(W, "d"))
        assert isinstance(got, int) or set(got) <= {"real", "a"}, got
        assert got != errno.ENOTCONN
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        assert m.ls(W, "d") == ["real"]
        assert m.read(W, "d", "real") == b"real\n"


def test_names_that_come_twice(room, bad):
    """F8: of a file, a directory and a link with one name one is shown."""
    put(room.workspace, "d/real", "real\n")
    with Mount(bad, FRESH, path="/workspace/d") as m:
        bad.rule = added(
            entry(b"twice", size=1), entry(b"twice", "d", ino=3),
            entry(b"twice", "l", ino=4, target=b"real", size=4),
            entry(b"real", "d", ino=5))
        got = do(os.listdir, m.dir)
        assert sorted(got) == ["real", "twice"]
        do(walk, m.dir)
        bad.rule = None
        wait_until(lambda: m.ls() == ["real"], DEADLINE)


def test_marks_of_our_own_in_names_and_contents(any_room):
    """F8: what the driver's own frames and records look like."""
    evil = [b"<gfs-end 0123456789abcdef 7>", b"<gfs-begin 00>\n", b"#. 0",
            b"#0 OK G 2", b"f 644 1 0 0 1 8 1 1 1 1 1", b"--- exit 0",
            b"\n//81a4 1 0 0 0 0 1 1", b"\n<gfs-end 0123456789abcdef 7>\n"]
    text = b"\n".join(evil) + b"\0#. 0\0!EIO" + b"\n//41ed 2 0 0 0 0 1\n"
    for name in evil:
        put(any_room.workspace + "/d", name.replace(b"/", b"|"), text)
    with Mount(any_room) as m:
        names = do(os.listdir, m(b"workspace/d"))
        assert sorted(names) == sorted(n.replace(b"/", b"|") for n in evil)
        for name in names:
            assert m.read(b"workspace/d", name) == text
        any_room.control(max_file=10, raw="off")
        do(write_file, m(W, "new"), text, os.O_WRONLY | os.O_CREAT)
        assert read_file(any_room.workspace + "/new") == text
    with Mount(any_room) as m:  # by commands
        for name in names:
            assert m.read(b"workspace/d", name) == text


# -- attributes -----------------------------------------------------------------

NUMBERS = {
    "negative-size": dict(size=-5), "negative-ino": dict(ino=-1),
    "huge-size": dict(size=2**63 - 1), "too-huge-size": dict(size=2**64 - 1),
    "beyond-64-bits": dict(size=2**70), "no-size": dict(size=""),
    "words": dict(size="many"), "float-size": dict(size="1e3"),
    "mode": dict(mode="77777777"), "bad-mode": dict(mode="999"),
    "kind": dict(kind="?"), "door": dict(kind="D"), "no-links": dict(nlink=0),
    "many-links": dict(nlink=2**32), "ino-0": dict(ino=0),
    "huge-ino": dict(ino=2**64 - 1), "huge-blocks": dict(blocks=2**64 - 1),
    "time": dict(time="99999999999999999999.5"),
    "past": dict(time="-9223372036854775808.999999999999"),
    "no-time": dict(time="yesterday"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_no_file_has(room, bad, case):
    """F8: an error or something harmless, and no buffer of that size."""
    put(room.workspace, "d/real", "real\n")
    with Mount(bad, FRESH, "timeout=2") as m:
        bad.rule = added(entry(b"odd", **NUMBERS[case]))
        got = do(walk, m(W, "d"))
        assert isinstance(got, int) or "real" in got, got
        head = do(outcome, head_and_tail, m(W, "d", "odd"))
        assert isinstance(head, int) or not any(head), head
        assert SANITIZED or m.peak_memory() < 200 * MIB
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        wait_until(lambda: m.ls(W, "d") == ["real"], DEADLINE)


def head_and_tail(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return [os.pread(fd, 10, 0), os.pread(fd, 10, max(0, size - 10))]
    finally:
        os.close(fd)


def test_directories_that_contain_themselves(room, bad):
    """F8: with the inode of an ancestor or of a file; walks end."""
    put(room.workspace, "d/real", "real\n")
    top = os.lstat(room.workspace + "/d")
    with Mount(bad, FRESH) as m:
        bad.rule = added(
            entry(b"self", "d", ino=top.st_ino, dev=top.st_dev, nlink=3),
            entry(b"both", "f", ino=top.st_ino, dev=top.st_dev, nlink=3),
            entry(b"link1", "f", ino=5, nlink=2, size=3),
            entry(b"link2", "d", ino=5, nlink=2),
            entry(b"link3", "l", ino=5, nlink=2, target=b"x"))
        got = do(walk, m(W, "d"))
        assert isinstance(got, int) or "real" in got
        m.sh("find workspace -maxdepth 40 | head -n 5000 >/dev/null",
             ok=False, timeout=60)
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        assert m.read(W, "d/real") == b"real\n"


LINKS = {
    "self": b"link", "empty": b"", "up": b"../" * 60 + b"etc/passwd",
    "absolute": b"/etc/passwd", "long": b"x/" * 3000, "very-long":
    b"y" * 100_000, "proc": b"/proc/self/root/etc/passwd",
    "mount": b"../../../../../../../../../proc/self/cwd/key",
}


@pytest.mark.parametrize("case", LINKS)
def test_links_lead_to_no_local_file(room, bad, case):
    """F8, A3"""
    put(room.workspace, "d/real", "real\n")
    # What they may lead to if anything: the room's own.
    etc = put(room.root + "/etc", "passwd", b"of the room\n")
    assert os.path.exists(etc)
    with Mount(bad, FRESH) as m:
        bad.rule = added(entry(
            b"link", "l", "777", size=len(LINKS[case]), target=LINKS[case]))
        got = do(walk, m(W, "d"))
        assert isinstance(got, int) or "real" in got
        read = do(outcome, read_file, m(W, "d/link"))
        local = read_file("/etc/passwd")
        assert read != local
        assert isinstance(read, int) or read == b"of the room\n", read
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)


# -- amounts --------------------------------------------------------------------

JSON_HEAD = (b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
             b"Connection: close\r\n%s\r\n")


def endless(status=200, start=b"", filler=b"A", headers=b"", gib=3):
    """Some gigabytes, as fast as they are taken."""
    yield JSON_HEAD % (status, headers) + start
    block = filler * (MIB // len(filler))
    for _ in range(gib * 1024):
        yield block


OUTPUT = (b'{"instance_id":"%s","command":"x","status":"success","result":'
          b'{"exit_code":0,"output":"')
BOMB = gzip.compress(b" " * (64 * MIB), 9)


def floods(room):
    start = OUTPUT % room.instance_id.encode()
    return {
        "output": lambda: endless(200, start),
        "quotes": lambda: endless(200, start, b"\\u0000"),
        "list": lambda: endless(200, b"[", b"[],"),
        "changes": lambda: endless(
            200, start + b'","files_changed":[', b"{},"),
        "numbers": lambda: endless(200, start + b'"},"x":', b"9"),
        "blanks": lambda: endless(200, b"", b" "),
        "error": lambda: endless(500, b'{"error":"'),
        "page": lambda: endless(404, b"<html>"),
        "headers": lambda: endless(200, b"", b"X-A: b\r\n", b"X: "),
        "length": lambda: endless(
            200, start, b"A", b"Content-Length: 99999999999999\r\n"),
        "bomb": lambda: [JSON_HEAD % (
            200, b"Content-Encoding: gzip\r\n") + BOMB * 40],
    }


@pytest.mark.parametrize("kind", [
    "output", "quotes", "list", "changes", "numbers", "blanks", "error",
    "page", "headers", "length", "bomb"])
def test_answers_of_gigabytes(room, bad, kind):
    """F9: to a listing, a small file, a large one and a user's command."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "d/big", pattern(3 * MIB))
    with Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W)
        flood = floods(room)[kind]
        bad.rule = lambda request, forward: flood()
        began = clock()
        raises((errno.EIO, errno.EFBIG, errno.ETIMEDOUT, errno.EACCES),
               os.listdir, m(W, "d"), timeout=60)
        bad.rule = lambda r, f: None if r.kind == "command" else flood()
        for name, data in (("real", b"real\n"), ("big", pattern(3 * MIB))):
            got = do(outcome, read_file, m(W, "d", name), timeout=60)
            assert got == data or isinstance(got, int), got
        bad.rule = lambda r, f: flood() if r.is_about("MARKER") else None
        got = do(outcome, exec_script, m(W, ".exec"), "echo MARKER",
                 timeout=60)
        assert isinstance(got, int), got
        assert not late(began, 100)
        assert SANITIZED or m.peak_memory() < 512 * MIB
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        assert m.read(W, "d/big") == pattern(3 * MIB)


def test_many_huge_answers_at_once(room, bad):
    """F9: eight at a time need no more than eight times as much."""
    for i in range(8):
        put(room.workspace, f"d{i}/real", "real\n")
    with Mount(bad, FRESH, "timeout=4") as m:
        m.ls(W)
        flood = floods(room)["quotes"]
        bad.rule = lambda r, f: flood() if r.kind == "command" else None
        calls = [Call(outcome, os.listdir, m(W, f"d{i}")) for i in range(8)]
        calls += [Call(outcome, exec_script, m(W, f"d{i}", ".exec"), "true")
                  for i in range(8)]
        for call in calls:
            assert isinstance(call.result(90), int)
        assert SANITIZED or m.peak_memory() < 1536 * MIB
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d0"), DEADLINE)


def test_a_listing_that_unpacks_to_gigabytes(room, bad):
    """F9: 4 MB of base64 that are 3 GB of zeros."""
    import base64
    import zlib
    put(room.workspace, "d/real", "real\n")
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    text = base64.b64encode(packed + again * 192).decode()

    def rule(request, forward):
        if not request.is_about("workspace/d'"):
            return None
        answer = forward(request)
        body = answer.json
        head, _, tail = body["result"]["output"].partition("\n<gfs-end ")
        nonce = tail.split()[0]
        body["result"]["output"] = \
            f"<gfs-begin {nonce}\n{text}\n<gfs-end {nonce} {len(text)}>\n"
        return Answer(200, body)

    with Mount(bad, FRESH) as m:
        m.ls(W)
        bad.rule = rule
        raises((errno.EIO, errno.EFBIG), os.listdir, m(W, "d"), timeout=60)
        assert SANITIZED or m.peak_memory() < 700 * MIB
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)


# -- forms ----------------------------------------------------------------------

def spoiled(room):
    ok = {"instance_id": room.instance_id, "command": "x",
          "status": "success", "result": {
              "output": "x", "exit_code": 0, "files_changed": []}}

    def but(**changes):
        body = json.loads(json.dumps(ok))
        result = changes.pop("result", None)
        body.update(changes)
        if isinstance(result, dict):
            body["result"].update(result)
        elif result is not None:
            body["result"] = result
        return Answer(200, body)

    deep = b"[" * 1_000_000
    objects = b'{"result":' * 200_000
    return {
        "deep": Answer(200, deep), "deep-closed":
        Answer(200, deep + b"]" * 1_000_000), "deep-objects":
        Answer(200, objects), "deep-in-place": Answer(
            200, b'{"instance_id":"x","result":' + deep),
        "null": Answer(200, b"null"), "number": Answer(200, b"1"),
        "empty": Answer(200, b""), "nul": Answer(200, b"\0" * 100),
        "utf16": Answer(200, json.dumps(ok).encode("utf-16")),
        "latin1": Answer(200, b'{"instance_id":"\xff\xfe"}'),
        "no-result": but(result=[]), "output-number": but(
            result={"output": 7}), "output-list": but(
            result={"output": ["x"]}), "exit-text": but(
            result={"exit_code": "0"}), "exit-huge": but(
            result={"exit_code": 1e300}), "exit-none": but(
            result={"exit_code": None}), "changes-text": but(
            result={"files_changed": "none"}), "instance-number": but(
            instance_id=7), "instance-path": but(
            instance_id="../../../../tmp/evil"), "instance-long": but(
            instance_id="f" * 5000), "instance-empty": but(instance_id=""),
        "status-object": but(status={}), "twice": Answer(
            200, json.dumps(ok).encode() * 2), "html": Answer(
            200, b"<html>login</html>", {"Content-Type": "text/html"}),
        "status-999": Answer(999, b"{}"), "status-100": [
            b"HTTP/1.1 100 Continue\r\n\r\n" * 3],
        "not-http": [b"\x16\x03\x01" * 100], "bad-length": [
            b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n{}"],
        "two-lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n"
                        b"Content-Length: 70\r\n\r\n{}"],
        "bad-chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                       b"\r\nffffffffffffffff\r\n{}\r\n"],
        "bad-gzip": Answer(200, b"\x1f\x8b\x08junk",
                           {"Content-Encoding": "gzip"}),
        "error-deep": Answer(400, deep), "error-odd": Answer(
            404, {"error": ["instance_not_found"], "message": 7}),
        "error-controls": Answer(500, {"error": "\x1b[2J\n\0x",
                                       "message": "a\nb" * 3000}),
    }


FORMS = ["deep", "deep-closed", "deep-objects", "deep-in-place", "null",
         "number", "empty", "nul", "utf16", "latin1", "no-result",
         "output-number", "output-list", "exit-text", "exit-huge",
         "exit-none", "changes-text", "instance-number", "instance-path",
         "instance-long", "instance-empty", "status-object", "twice", "html",
         "status-999", "status-100", "not-http", "bad-length", "two-lengths",
         "bad-chunks", "bad-gzip", "error-deep", "error-odd",
         "error-controls"]
GROUPS = [FORMS[i::4] for i in range(4)]


@pytest.mark.parametrize("group", range(4))
def test_answers_of_the_wrong_form(room, bad, group):
    """F1, F8: to each kind of request; an error, and then all is well."""
    put(room.workspace, "d/real", "real\n")
    put(room.workspace, "d/big", pattern(3 * MIB))
    answers = spoiled(room)
    assert set(answers) == set(FORMS)
    with Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W)
        for form in GROUPS[group]:
            answer = answers[form]
            bad.rule = lambda r, f: answer
            got = do(outcome, os.listdir, m(W, "d"), timeout=40)
            assert isinstance(got, int) and got != errno.ENOTCONN, (form, got)
            bad.rule = lambda r, f: None if r.kind == "command" else answer
            for name, data in (("real", b"real\n"), ("big", pattern(3 * MIB))):
                got = do(outcome, read_file, m(W, "d", name), timeout=40)
                assert got == data or isinstance(got, int), (form, got[:80])
                assert got != errno.ENOTCONN, form
            bad.rule = lambda r, f: answer if r.is_about("MARKER") else None
            got = do(outcome, exec_script, m(W, ".exec"), "echo MARKER",
                     timeout=40)
            assert isinstance(got, int), (form, got)
            assert sum(r.is_about("MARKER") for r in bad.requests) == 1, form
            bad.requests.clear()
            bad.rule = None
            wait_until(lambda: recovered(m, W, "d"), DEADLINE, form)
        assert m.read(W, "d/real") == b"real\n"
        # Noise in place of an answer, for a terminal.
        bad.rule = lambda r, f: Answer(200, {
            "instance_id": room.instance_id, "result": {
                "exit_code": 0, "output": "\x1b[2J\nroot: pay me\n\x07"}})
        assert isinstance(do(outcome, os.listdir, m(W, "d")), int)
        bad.rule = None
        # Whatever the server says stays on one line of the log.
        for line in m.stderr_bytes().split(b"\n"):
            assert not line or line.startswith(b"gentilityfs: "), line[:200]
            assert not any(c < 32 and c != 9 for c in line), line[:200]


def test_lone_surrogates_and_nuls_in_an_output(room, bad):
    """F8: shown as far as they can be."""
    def rule(request, forward):
        if not request.is_about("MARKER"):
            return None
        body = forward(request).body.replace(
            b"MARKER", b"a\\ud800b\\udc00\\ud83d\\ude00c\\u0000d\\uDBFF")
        return Answer(200, body)

    with Mount(bad) as m:
        bad.rule = rule
        result = Result(m.exec(W, "printf MARKER"))
        assert result.exit == 0
        text = result.output
        assert b"\xf0\x9f\x98\x80c\0d" in text, text
        assert text.decode().count("\ufffd") == 3


def test_changes_that_lead_out_or_are_odd(room, bad):
    """F8: paths with "..", line breaks, wrong types; one line each."""
    odd = [
        {"path": "/../../etc/passwd", "status": "modified", "size": 5},
        {"path": "/tmp/a\ncreated   1  x   /tmp/b", "status": "created",
         "size": -3, "mime_type": "a\nb", "public_url": "/x\n/y"},
        {"path": "relative", "status": "created"}, {"path": "", "status": 1},
        {"path": 7, "status": "created"}, {"status": "created"}, 7, None, [],
        {"path": "/tmp/\x1b[2Jx", "status": "deleted"},
        {"path": "/tmp/huge", "status": "created", "size": 1e300},
        {"path": "/" + "x/" * 20000, "status": "modified", "size": 2},
    ]

    def rule(request, forward):
        if not request.is_about("MARKER"):
            return None
        answer = forward(request)
        body = answer.json
        body["result"]["files_changed"] = odd
        return Answer(200, body)

    with Mount(bad) as m:
        bad.rule = rule
        data = m.exec(W, "echo MARKER")
        result = Result(data)
        assert result.exit == 0
        assert all(row.startswith(("created", "modified", "deleted"))
                   for row in result.changes)
        assert not any(c < 32 and c != 10 for c in data)
        assert len(result.changes) == result.changed <= 5
        assert m.ls(W) == []


def test_a_new_instance_in_each_answer(room, bad):
    """F3, F8: a server that names another instance each time is an error at
    worst, not an endless loop."""
    put(room.workspace, "d/real", "real\n")
    numbers = itertools.count()

    def rule(request, forward):
        answer = forward(request)
        body = answer.json if request.kind != "raw" else None
        if not body or "instance_id" not in body:
            return answer
        body["instance_id"] = "%08x-0000-4000-8000-000000000000" % next(
            numbers)
        return Answer(answer.status, body)

    with Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W, "d")
        bad.rule = rule
        bad.requests.clear()
        got = do(outcome, os.listdir, m(W, "d"), timeout=60)
        assert got == ["real"] or isinstance(got, int)
        got = do(outcome, read_file, m(W, "d/real"), timeout=60)
        assert got == b"real\n" or isinstance(got, int)
        assert bad.count() < 60
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        assert m.read(W, "d/real") == b"real\n"


# -- a VM whose tools lie ---------------------------------------------------------

TOOLS = {
    "find": ["#!/bin/sh\nyes '../../etc' | head -c 3000000\n",
             "#!/bin/sh\nexit 0\n", "#!/bin/sh\nkill -9 $PPID\n",
             "#!/bin/sh\nprintf 'd 755 1 0 0 0 0 1 1 1 1 1\\0\\0\\0"
             "f 644 1 0 0 5 8 1 9 1 1 1\\0../../evil\\0\\0'\n"],
    "gzip": ["#!/bin/sh\nexit 1\n", "#!/bin/sh\nhead -c 1000000 /dev/zero\n"],
    "base64": ["#!/bin/sh\necho '!!!!'\n", "#!/bin/sh\ncat /dev/zero | "
               "head -c 1000000 | tr '\\0' A\n"],
    "stat": ["#!/bin/sh\necho 1 2 3\n"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_of_the_vm_that_lie(room, bad, tool):
    """F8: errors, not crashes; a save that can't be verified fails."""
    put(room.workspace, "d/real", "real\n")

    def rule(request, forward):
        if request.kind == "command":
            body = json.loads(request.body)
            body["command"] = "PATH=/tmp/evil:$PATH\n" + body["command"]
            request.body = json.dumps(body).encode()
        return forward(request)

    for n, script in enumerate(TOOLS[tool]):
        put(room.tmp, "evil/" + tool, script, 0o755)
        bad.rule = None
        with Mount(bad, FRESH, "timeout=2") as m:
            m.ls(W, "d")
            bad.rule = rule
            walked = do(walk, m(W, "d"), timeout=40)
            assert walked != errno.ENOTCONN
            assert isinstance(walked, int) or set(walked) <= {"real"}, walked
            got = do(outcome, read_file, m(W, "d/real"), timeout=40)
            assert isinstance(got, int) or got == b"real\n"
            saved = do(outcome, write_file, m(W, f"new{n}"), b"x" * 100,
                       os.O_WRONLY | os.O_CREAT, timeout=40)
            if saved is None:
                assert read_file(room.workspace + f"/new{n}") == b"x" * 100
            bad.rule = None
            wait_until(lambda: recovered(m, W, "d"), DEADLINE)
            assert m.read(W, "d/real") == b"real\n"


def test_a_profile_that_prints_the_commands(room, bad):
    """F6: sh -v and -x echo all that the driver sends, marks included."""
    put(room.workspace, "d/real", "real\n")

    def rule(request, forward):
        if request.kind != "command":
            return None
        answer = forward(request)
        body = answer.json
        text = body["result"]["output"]
        body["result"]["output"] = (
            request.command + "\n" + text + "\n+ " +
            request.command.replace("\n", "\n+ "))
        return Answer(answer.status, body)

    bad.rule = rule
    with Mount(bad, FRESH) as m:
        assert m.ls(W, "d") == ["real"]
        assert m.read(W, "d/real") == b"real\n"
        do(write_file, m(W, "new"), b"n\n", os.O_WRONLY | os.O_CREAT)
        assert read_file(room.workspace + "/new") == b"n\n"


# -- nothing local is touched -----------------------------------------------------

def test_no_local_file_but_the_cache_is_touched(room, bad, tmp_path):
    """F8: lies about names and links, and what the driver opened."""
    put(room.workspace, "d/real", "real\n")
    home = tmp_path / "home"
    home.mkdir()
    with Mount(bad, FRESH, env={"HOME": str(home)}) as m:
        bad.rule = added(
            entry(b"../../evil", size=9), entry(b"l", "l", target=b"../../x"))
        do(walk, m(W, "d"))
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        do(write_file, m(W, "new"), b"n\n", os.O_WRONLY | os.O_CREAT)
        files = []
        for fd in os.listdir(f"/proc/{m.pid}/fd"):
            target = outcome(os.readlink, f"/proc/{m.pid}/fd/{fd}")
            if isinstance(target, str) and target.startswith("/"):
                files.append(target)
        for path in files:
            assert path.startswith(("/dev/", m.cache, m.stderr_path)), path
        assert os.listdir(home) == []
        assert sorted(os.listdir(m.top)) == ["cache", "mnt", "stderr"]


# -- the key ----------------------------------------------------------------------

def mount_once(url, room, path, *options):
    env = {"GENTILITY_API_KEY": room.key, "HOME": os.path.dirname(path)}
    return run([DRIVER, "-o", ",".join(["url=" + url, "timeout=3", *options]),
                room.source, path], timeout=60, env=env)


def test_a_certificate_that_nobody_signed_is_refused(room, tmp_path):
    """F10: before the key goes out; -o cacert= trusts it."""
    cert, context = certificate(tmp_path, ["DNS:localhost", "IP:127.0.0.1"])
    put(room.workspace, "f", "private\n")
    point = tmp_path / "mnt"
    point.mkdir()
    with Hostile(room, context) as bad:
        done = mount_once(bad.url, room, str(point))
        assert done.status == 1 and b"cacert" in done.err, done
        assert done.err.count(b"\n") == 1
        assert bad.requests == []
        with Mount(bad, f"cacert={cert}") as m:
            assert m.read(W, "f") == b"private\n"


def test_a_certificate_of_another_host_is_refused(room, tmp_path):
    """F10: however well it is signed."""
    cert, context = certificate(tmp_path, ["DNS:elsewhere.example"])
    point = tmp_path / "mnt"
    point.mkdir()
    with Hostile(room, context) as bad:
        done = mount_once(bad.url, room, str(point), f"cacert={cert}")
        assert done.status == 1 and b"certificate" in done.err, done
        assert bad.requests == []


def test_a_missing_or_bad_cacert_is_said(room, tmp_path):
    """F10, C2"""
    cert, context = certificate(tmp_path, ["DNS:localhost"])
    junk = tmp_path / "junk"
    junk.write_text("no certificate\n")
    point = tmp_path / "mnt"
    point.mkdir()
    with Hostile(room, context) as bad:
        for path in ("/does/not/exist", str(junk)):
            done = mount_once(bad.url, room, str(point), f"cacert={path}")
            assert done.status == 1 and path.encode() in done.err, done
            assert path == str(junk) or b"No such file" in done.err, done
            assert bad.requests == []


def test_a_certificate_that_changes_while_mounted_is_refused(room, tmp_path):
    """F10: somebody between us and the service gets neither key nor data."""
    cert, good = certificate(tmp_path, ["DNS:localhost"])
    _, evil = certificate(tmp_path, ["DNS:localhost"], "evil")
    put(room.workspace, "d/real", "real\n")
    with Hostile(room, good) as bad, \
            Mount(bad, FRESH, "timeout=2", f"cacert={cert}") as m:
        assert m.ls(W, "d") == ["real"]
        bad.tls = evil
        bad.hang_up()
        bad.requests.clear()
        raises((errno.EIO, errno.EACCES), os.listdir, m(W, "d"), timeout=30)
        assert bad.requests == []
        assert "certificate" in m.stderr()
        bad.tls = good
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
        assert m.read(W, "d/real") == b"real\n"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(room, bad, status):
    """F10: neither to another host nor on the same one."""
    put(room.workspace, "d/real", "real\n")
    with Hostile(room) as thief, Mount(bad, FRESH, "timeout=2") as m:
        m.ls(W)
        for url in (thief.url + "/x", f"//127.0.0.1:{thief.port}/x"):
            bad.rule = lambda r, f: Answer(status, b"", {"Location": url})
            raises((errno.EIO, errno.EACCES), os.listdir, m(W, "d"),
                   timeout=30)
            got = do(outcome, exec_script, m(W, ".exec"), "true", timeout=30)
            assert isinstance(got, int)
        bad.rule = lambda r, f: None if r.kind == "command" else Answer(
            status, b"", {"Location": thief.url})
        assert do(outcome, read_file, m(W, "d/real")) in (
            b"real\n", errno.EIO)
        assert thief.connections == 0
        bad.rule = None
        wait_until(lambda: recovered(m, W, "d"), DEADLINE)
