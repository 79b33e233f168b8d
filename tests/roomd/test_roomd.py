"""The local room does what its manual page says.

Run with /usr/bin/python3 -m pytest tests/roomd; the environment's ROOMD names
the program (default ./gentility-roomd).
"""

import base64
import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from room import Room, RoomError, wait_until  # noqa: E402

BINARY = os.path.abspath(os.environ.get("ROOMD", "./gentility-roomd"))
AS_ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not AS_ROOT, reason="needs root")


@pytest.fixture(scope="module")
def shared():
    with Room(BINARY) as room:
        yield room


@pytest.fixture
def room(shared):
    """A GNU room with default switches, an instance and an empty log."""
    shared.control(defaults=True)
    shared.create()
    shared.reset_log()
    yield shared
    shared.control(defaults=True)


@pytest.fixture(scope="module")
def busy():
    with Room(BINARY, busybox=True) as room:
        yield room


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def changes(answer):
    return {
        c["path"]: (c["status"], c["size"])
        for c in answer["result"]["files_changed"]
    }


class Threads:
    """Run functions at the same time; results in order."""

    @staticmethod
    def run(*functions):
        results = [None] * len(functions)

        def call(i):
            try:
                results[i] = functions[i]()
            except Exception as e:  # handed to the caller
                results[i] = e

        threads = [
            threading.Thread(target=call, args=(i,))
            for i in range(len(functions))
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return results


def read_raw_socket(room, request):
    """Send bytes, read to the end: (bytes, error or None)."""
    s = socket.create_connection(("127.0.0.1", room.port), timeout=20)
    s.sendall(request)
    data = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                return data, None
            data += part
    except OSError as e:
        return data, e
    finally:
        s.close()


def command_bytes(room, text, extra=""):
    body = json.dumps({"command": text}).encode()
    head = (
        f"POST {room.base}/command HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {room.key}\r\n"
        f"Content-Type: application/json\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# -- command line ------------------------------------------------------------


def roomd(*args, **kw):
    return subprocess.run(
        [BINARY, *args], capture_output=True, text=True, timeout=20, **kw
    )


def test_help_goes_to_stdout():
    r = roomd("-h")
    assert r.returncode == 0
    assert r.stdout.startswith("usage: gentility-roomd")


@pytest.mark.parametrize(
    "args",
    [
        ["--bogus"],
        ["stray"],
        ["--port", "65536"],
        ["--port", "x"],
        ["--profile", "not-a-uuid"],
        ["--room", ""],
        ["--root", "/", "--dir", "/tmp"],
        ["--root", "/", "--busybox"],
        ["--home", "relative"],
        ["--shell", "sh"],
        ["--user", "-1"],
    ],
)
def test_bad_usage_is_one_line_and_exit_2(args):
    r = roomd(*args)
    assert r.returncode == 2
    assert r.stdout == ""
    assert len(r.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args",
    [
        ["--dir", "/nonexistent/dir"],
        ["--root", "/etc/passwd"],
        ["--log", "/nonexistent/log"],
        ["--key-file", "/nonexistent/key"],
        ["--shell", "/bin/sh", "--ready-file", "/nonexistent/ready"],
    ],
)
def test_failure_to_start_is_exit_1(args, tmp_path):
    env = dict(os.environ, TMPDIR=str(tmp_path))
    r = roomd(*args, env=env)
    assert r.returncode == 1
    assert len(r.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_port_in_use_is_said(room):
    r = roomd("--port", str(room.port))
    assert r.returncode == 1
    assert "cannot listen" in r.stderr


def test_ready_line_and_files(tmp_path):
    profile = str(uuid.uuid4())
    with Room(
        BINARY,
        key_file=tmp_path / "key",
        ready_file=tmp_path / "ready",
        log=tmp_path / "log",
        profile=profile,
        room="my room",
        dir=tmp_path / "vm",
    ) as room:
        assert json.loads((tmp_path / "ready").read_text()) == room.ready
        assert (tmp_path / "key").read_text() == room.key
        assert (tmp_path / "key").stat().st_mode & 0o7777 == 0o600
        assert room.profile == profile
        assert room.ready["room"] == "my room"
        assert room.key.startswith("rk_test_") and len(room.key) == 40
        assert room.url.startswith("http://127.0.0.1:")
        assert room.ready["control"] == room.url + "/_control"
        assert room.home == str(tmp_path / "vm" / "home")
        assert room.output("echo in a room with a space") != ""
        assert os.path.exists(room.root + "/etc/passwd")
        log = (tmp_path / "log").read_text()
        assert room.key not in log
        assert json.loads(log.splitlines()[0])["kind"] == "command"


def test_only_loopback(room):
    lines = open("/proc/net/tcp").read().splitlines()
    want = f":{room.port:04X}"
    listening = [
        line.split()[1]
        for line in lines[1:]
        if line.split()[1].endswith(want) and line.split()[3] == "0A"
    ]
    assert listening == ["0100007F" + want]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly_and_leaves_nothing(sig, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    room = Room(BINARY).start()
    room.run("mkdir -p a/b; echo x > a/b/c; chmod 0 a/b; sleep 1000 &")
    held = threading.Thread(target=lambda: swallow(room, "sleep 1000"))
    held.start()
    wait_until(lambda: room.state()["inflight"] == 1)
    assert room.stop(sig) == 0
    held.join()
    assert os.listdir(tmp_path) == []


def swallow(room, text):
    try:
        room.command(text)
    except (OSError, http.client.HTTPException):
        pass


def test_killed_server_takes_the_room_along(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    room = Room(BINARY).start()
    room.run("sleep 1000 &")
    init = int(room.root.split("/")[2])
    room.stop(signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{init}"))
    wait_until(lambda: os.listdir(tmp_path) == [])


def test_dies_with_its_parent(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from room import Room\n"
        "import os\n"
        "r = Room(sys.argv[2]).start()\n"
        "print(r.process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    r = subprocess.run(
        [sys.executable, "-c", code, here, BINARY],
        capture_output=True,
        text=True,
        timeout=20,
    )
    pid = int(r.stdout)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}") or zombie(pid))


def zombie(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1][1] == "Z"
    except OSError:
        return True


def test_dir_keeps_its_data(tmp_path):
    with Room(BINARY, dir=tmp_path / "d") as room:
        room.run("echo kept > f; echo kept > /workspace/g")
    with Room(BINARY, dir=tmp_path / "d") as room:
        assert room.output("cat ~/f /workspace/g") == "kept\nkept"


# -- commands ----------------------------------------------------------------


def test_command_answer_has_the_documented_shape(room):
    answer = room.command("echo hello").json
    assert answer == {
        "instance_id": room.instance_id,
        "command": "echo hello",
        "result": {"output": "hello", "exit_code": 0, "files_changed": []},
        "status": "success",
    }
    assert list(answer) == ["instance_id", "command", "result", "status"]


def test_failing_command_is_a_200_with_status_error(room):
    answer = room.command("echo oops >&2; exit 7")
    assert answer.status == 200
    assert answer.json["status"] == "error"
    assert answer.json["result"]["exit_code"] == 7
    assert answer.json["result"]["output"] == "oops"


def test_killed_command_has_128_plus_signal(room):
    assert room.run("kill -9 $$")["result"]["exit_code"] == 137


def test_environment_of_a_command(room):
    out = room.output("pwd; echo $HOME; id -u; readlink /proc/$$/fd/0")
    assert out == "/home/user\n/home/user\n0\n/dev/null"


def test_stdout_and_stderr_are_one_pipe(room):
    out = room.output("echo 1; echo 2 >&2; echo 3; echo 4 >&2")
    assert out == "1\n2\n3\n4"


def test_argument_limit_is_the_kernels(room):
    fits = "#" * (131072 - 1)
    assert room.run(fits)["result"]["exit_code"] == 0
    answer = room.run(fits + "#")
    assert answer["result"]["exit_code"] == 126
    assert answer["result"]["output"] == "argument list too long"
    assert answer["status"] == "error"


def test_large_output_is_whole(room):
    out = room.output("seq 200000")
    assert out == "\n".join(str(i) for i in range(1, 200001))


def test_output_of_a_dying_shell_is_not_lost(room):
    for _ in range(50):
        assert room.output("echo a; echo b >&2; exit 1") == "a\nb"


def test_background_process_lives_on_and_does_not_hold_the_answer(room):
    room.run("mkfifo go; (read x < go; echo done > after) &")
    room.run("nohup sh -c 'sleep 1000' & echo started")
    assert not os.path.exists(room.home + "/after")
    room.run("echo > go")
    wait_until(lambda: os.path.exists(room.home + "/after"))
    assert "sleep 1000" in room.output("ps ax || ps")


def test_chatty_background_process_neither_holds_the_answer_nor_dies(room):
    answer = room.run("yes & echo $! > yes.pid; sleep 0.05; exit 3")
    assert answer["result"]["exit_code"] == 3
    room.run("rm -f go3; mkfifo go3; (read x < go3; echo on; echo > on) &")
    room.run("echo > go3")
    wait_until(lambda: os.path.exists(room.home + "/on"))
    out = room.run("kill -0 $(cat yes.pid) && kill $(cat yes.pid)")
    assert out["status"] == "success"


def test_command_goes_on_when_its_client_disconnects(room):
    room.run("mkfifo gate")
    s = socket.create_connection(("127.0.0.1", room.port))
    s.sendall(command_bytes(room, "read x < gate; echo ran > gone"))
    wait_until(lambda: room.state()["inflight"] == 1)
    s.close()
    room.run("echo > gate")
    wait_until(lambda: os.path.exists(room.home + "/gone"))
    entry = wait_until(lambda: [e for e in room.log() if "gone" in e["command"]])
    assert entry[0]["ran"]


def test_many_commands_run_at_the_same_time(room):
    n = 16
    room.run("mkdir -p meet; rm -f meet/*")
    text = (
        "echo x > meet/{i}; n=0; while [ $n -lt %d ]; do"
        " set -- meet/*; n=$#; done; echo {i}" % n
    )
    calls = [
        (lambda i=i: room.output(text.replace("{i}", str(i))))
        for i in range(n)
    ]
    assert Threads.run(*calls) == [str(i) for i in range(n)]
    assert max(e["inflight"] for e in room.log()) == n


def test_trailing_space_trim_or_exact(room):
    assert room.output("printf 'a \\n\\n \\t'") == "a"
    room.control(output_space="exact")
    assert room.output("printf 'a \\n\\n \\t'") == "a \n\n \t"


def test_invalid_utf8_and_nul_in_output(room):
    text = r"printf 'a\377\303\251\000b\360\237\230\200\355\240\200'"
    assert room.output(text) == "a\ufffdé\0b😀\ufffd\ufffd\ufffd"
    room.control(output_nul="drop", output_invalid="drop")
    assert room.output(text) == "aéb😀"
    room.control(output_invalid="raw")
    assert b'"output":"a\xff\xc3\xa9b' in room.command(text).body


def test_stderr_can_be_dropped(room):
    room.control(stderr="drop")
    assert room.output("echo 1; echo 2 >&2") == "1"


def test_command_timeout_kills(room):
    room.control(command_timeout=0.1)
    answer = room.run("echo begun; sleep 1000")
    assert answer["result"]["exit_code"] == 137
    assert answer["result"]["output"] == "begun"


@pytest.mark.parametrize(
    "body,status",
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b"{}", 400),
        (b'{"command": 1}', 400),
        (b'{"command": ""}', 400),
        (b'{"command": "a\\u0000b"}', 400),
        (b'{"command": "a\xffb"}', 400),
        (b'{"command": "' + b"x" * (1 << 20) + b'"}', 413),
    ],
)
def test_bad_bodies(room, body, status):
    answer = room.request(
        "POST",
        room.base + "/command",
        body,
        {"Content-Type": "application/json"},
    )
    assert answer.status == status
    assert set(answer.json) == {"error", "message"}
    assert not room.log()[-1]["ran"]


def test_escaped_backslash_before_u0000_is_text(room):
    body = rb'{"command": "printf %s \\\\u0000"}'
    answer = room.request(
        "POST",
        room.base + "/command",
        body,
        {"Content-Type": "application/json; charset=utf-8"},
    )
    assert answer.json["result"]["output"] == "\\u0000"


def test_body_has_to_be_json_by_type(room):
    answer = room.request("POST", room.base + "/command", b'{"command":":"}')
    assert answer.status == 415


def test_shell_can_be_chosen():
    with Room(BINARY, shell="/bin/bash") as room:
        assert room.output("echo ${BASH_VERSION:+bash} $0") == "bash sh"


# -- authorization and addresses ----------------------------------------------


@pytest.mark.parametrize("key", [False, "", "rk_test_0", "x" * 40])
def test_missing_or_wrong_key_is_401(room, key):
    for answer in (
        room.command(":", key=key),
        room.file("etc/hosts", key=key),
        room.create(key=key),
        room.request("GET", "/_control", key=key),
    ):
        assert answer.status == 401
        assert answer.json["error"] == "unauthorized"
        assert "message" in answer.json


def test_basic_authorization_is_401(room):
    headers = {"Authorization": "Basic " + room.key}
    assert room.file("etc/hosts", key=False, headers=headers).status == 401


def test_unknown_addresses(room):
    other = str(uuid.uuid4())
    answer = room.request("GET", f"/api/profile/{other}/room/r%201/file/x")
    assert answer.status == 404
    assert answer.json == {
        "error": "instance_not_found",
        "message": f"No instance found for profile {other} and room r%201",
    }
    answer = room.request(
        "GET", f"/api/profile/{room.profile}/room/nope/file/x"
    )
    assert answer.status == 404
    assert answer.json["error"] == "instance_not_found"
    answer = room.request("GET", "/api/profile/12/room/demo/file/x")
    assert answer.status == 400
    for path in ("/", "/api", "/api/profile/x", room.base + "/nothing"):
        answer = room.request("GET", path)
        assert (answer.status, answer.json["error"]) == (404, "not_found")
    assert room.create(room="nope").status == 503


def test_wrong_method_is_405(room):
    assert room.request("GET", room.base + "/command").status == 405
    assert room.request("GET", room.base).status == 405
    answer = room.request("DELETE", room.base + "/file/etc/hosts")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_keep_alive_and_connection_numbers(room):
    conn = room.connect()
    for _ in range(5):
        answer = room._send(
            conn, "POST", room.base + "/command", {"command": ":"}, None, True
        )
        assert answer.status == 200
    conn.close()
    room.run(":")
    conns = [e["conn"] for e in room.log()]
    assert len(set(conns[:5])) == 1 and conns[5] != conns[0]


# -- file endpoint -------------------------------------------------------------


def test_file_answer_has_the_documented_shape(room):
    write(room.tmp + "/t.json", b'{\n  "a": "\xc3\xa9\\"\\n"\n}\n')
    answer = room.file("tmp/t.json")
    assert answer.status == 200
    assert answer.json == {
        "file_path": "/tmp/t.json",
        "content": '{\n  "a": "é\\"\\n"\n}\n',
        "instance_id": room.instance_id,
    }


def test_path_forms(room):
    write(room.tmp + "/form", b"tmp")
    for form in ("tmp/form", "/tmp/form", "%2Ftmp/form", "%2ftmp%2fform"):
        answer = room.file(form)
        assert answer.json["file_path"] == "/tmp/form", form
        assert answer.json["content"] == "tmp"
    assert room.log()[1]["uri"].endswith("/file//tmp/form")
    assert room.log()[1]["path"] == "/tmp/form"


@pytest.mark.parametrize(
    "wildcard", ["none", "tmp", "", "tmp/none", "root/../none", "dev/null"]
)
def test_missing_files_are_404(room, wildcard):
    answer = room.file(wildcard)
    assert answer.status == 404
    assert answer.json == {
        "error": "file_not_found",
        "message": f"File '/{wildcard}' not found in instance",
    }


def test_a_fifo_does_not_block(room):
    room.run("mkfifo /tmp/fifo")
    assert room.file("tmp/fifo").status == 404


@pytest.mark.parametrize("wildcard", ["tmp/%zz", "tmp/%4", "tmp/a%00b", "%"])
def test_badly_encoded_paths_are_400(room, wildcard):
    assert room.file(wildcard).status == 400


def test_names_of_any_bytes(room):
    name = bytes([b for b in range(1, 256) if b not in b"/"])
    for part in (name[:120], name[120:]):
        path = os.fsencode(room.tmp) + b"/" + part
        write(path, b"odd " + part[:1])
        quoted = "".join(f"%{b:02X}" for b in part)
        answer = room.file("tmp/" + quoted)
        assert answer.status == 200, part
        assert answer.json["content"].startswith("odd ") or base64.b64decode(
            answer.json["content"]
        ).startswith(b"odd ")
        assert room.raw("/tmp/" + quoted).body == b"odd " + part[:1]
        os.unlink(path)


def test_links_resolve_inside_the_room(room):
    room.run("echo in > /tmp/in; ln -sf /tmp/in /tmp/abs")
    room.run("ln -sf ../../../../../../tmp/in /tmp/rel")
    room.run("ln -sf ../../../../../../../../work /tmp/out")
    assert room.file("tmp/abs").json["content"] == "in\n"
    assert room.file("tmp/rel").json["content"] == "in\n"
    assert room.file("tmp/../tmp/in").json["content"] == "in\n"
    assert room.file("tmp/out/shared/api.md").status == 404
    host = os.path.relpath(__file__, "/")
    assert room.file(host).status == 404
    assert room.file("../" * 20 + host).status == 404


def test_proc_files_are_read_to_their_end(room):
    assert "MemTotal" in room.file("proc/meminfo").json["content"]
    assert b"MemTotal" in room.raw("/proc/meminfo").body


BINARY_DATA = b"\x89PNG\r\n\x1a\n\0\xff\xfe"


@pytest.mark.parametrize(
    "policy,data,name,want",
    [
        ("auto", b"text", "a.txt", "text"),
        ("auto", b"", "a.txt", ""),
        ("auto", b"a\0b", "a.txt", "YQBi"),
        ("auto", b"a\xffb", "a.txt", "Yf9i"),
        ("always", b"text", "a.txt", "dGV4dA=="),
        ("nul-is-text", b"a\0b", "a.bin", "a\0b"),
        ("nul-is-text", b"a\xffb", "a.bin", "Yf9i"),
        ("lossy", b"a\0\xffb", "a.bin", "a\0\ufffdb"),
        ("mime", b"text", "a.txt", "text"),
        ("mime", b"text", "a.png", "dGV4dA=="),
        ("mime", b"text", "a", "text"),
        ("mime", b"{}", "a.json", "e30="),
    ],
)
def test_base64_policies(room, policy, data, name, want):
    write(f"{room.tmp}/{name}", data)
    room.control(base64=policy)
    assert room.file("tmp/" + name).json["content"] == want


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 1000, 300001])
def test_base64_is_right_for_any_length(room, n):
    data = os.urandom(n)
    write(room.tmp + "/r.bin", data)
    room.control(base64="always")
    content = room.file("tmp/r.bin").json["content"]
    assert base64.b64decode(content, validate=True) == data


def test_paths_home(room):
    os.makedirs(room.home + "/tmp", exist_ok=True)
    write(room.home + "/tmp/which", b"home")
    write(room.tmp + "/which", b"tmp")
    room.control(paths="home")
    for form, path in (
        ("tmp/which", "/home/user/tmp/which"),
        ("/tmp/which", "/tmp/which"),
        ("%2Ftmp/which", "/tmp/which"),
    ):
        assert room.file(form).json["file_path"] == path
    room.control(paths="home-encoded")
    for form, path in (
        ("tmp/which", "/home/user/tmp/which"),
        ("/tmp/which", "/home/user/tmp/which"),
        ("%2Ftmp/which", "/tmp/which"),
    ):
        assert room.file(form).json["file_path"] == path
    shutil.rmtree(room.home + "/tmp")


def test_file_path_echo(room):
    write(room.tmp + "/e", b"x")
    room.control(file_path="echo")
    for form in ("tmp/e", "/tmp/e", "%2Ftmp/e"):
        assert room.file(form).json["file_path"] == form


def test_file_larger_than_max_file_is_413(room):
    room.control(max_file=10)
    write(room.tmp + "/ten", b"0123456789")
    write(room.tmp + "/eleven", b"0123456789a")
    assert room.file("tmp/ten").status == 200
    assert room.file("tmp/eleven").status == 413


# -- raw endpoint --------------------------------------------------------------


def test_raw_serves_bytes_with_their_type(room):
    for name, data, kind in (
        ("a.png", BINARY_DATA, "image/png"),
        ("a.html", b"<p>", "text/html"),
        ("noext", b"text\n", "text/plain"),
        ("noext2", BINARY_DATA, "application/octet-stream"),
        ("empty", b"", "inode/x-empty"),
    ):
        write(f"{room.tmp}/{name}", data)
        answer = room.raw("/tmp/" + name)
        assert answer.status == 200
        assert answer.body == data
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Length"] == str(len(data))


def test_raw_head(room):
    write(room.tmp + "/h.txt", b"0123456789")
    answer = room.raw("/tmp/h.txt", method="HEAD")
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers["Content-Length"] == "10"
    assert room.log()[-1]["method"] == "HEAD"


@pytest.mark.parametrize(
    "header,status,body,content_range",
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=10-20", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=x", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(room, header, status, body, content_range):
    write(room.tmp + "/range", b"0123456789")
    answer = room.raw("/tmp/range", headers={"Range": header})
    assert answer.status == status
    assert answer.headers["Content-Range"] == content_range
    if body is not None:
        assert answer.body == body
    assert room.log()[-1]["range"] == header


def test_if_range_gets_the_whole_file(room):
    write(room.tmp + "/range", b"0123456789")
    headers = {"Range": "bytes=1-2", "If-Range": '"x"'}
    assert room.raw("/tmp/range", headers=headers).status == 200


def test_raw_switch(room):
    write(room.tmp + "/range", b"0123456789")
    headers = {"Range": "bytes=1-2"}
    assert room.raw("/tmp/range").headers["Accept-Ranges"] == "bytes"
    room.control(raw="norange")
    answer = room.raw("/tmp/range", headers=headers)
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert answer.headers["Accept-Ranges"] is None
    for value, status in (("off", 404), ("error", 500), ("forbidden", 403)):
        room.control(raw=value)
        assert room.raw("/tmp/range", headers=headers).status == status


def test_raw_of_an_unknown_instance(room):
    other = str(uuid.uuid4())
    answer = room.raw("/etc/hosts", instance=other)
    assert answer.status == 404
    assert answer.json["error"] == "instance_not_found"
    answer = room.raw("/none")
    assert answer.json["error"] == "file_not_found"


def test_huge_file_is_streamed_with_constant_memory(room):
    size = 5 << 30
    with open(room.tmp + "/huge.bin", "wb") as f:
        f.truncate(size)
        f.seek(size - 3)
        f.write(b"end")
    head = {"Range": f"bytes={size - 3}-"}
    answer = room.raw("/tmp/huge.bin", headers=head)
    assert answer.body == b"end"
    assert answer.headers["Content-Range"] == (
        f"bytes {size - 3}-{size - 1}/{size}"
    )
    conn = room.connect()
    conn.request("GET", f"/vm/{room.instance_id}/file/tmp/huge.bin")
    answer = conn.getresponse()
    got = 0
    while got < 1 << 30:
        got += len(answer.read(1 << 20))
    conn.close()
    status = open(f"/proc/{room.process.pid}/status").read()
    rss = int(status.split("VmRSS:")[1].split()[0])
    assert rss < 400 * 1024 or "asan" in BINARY or "tsan" in BINARY
    entry = wait_until(lambda: room.log("raw")[1:])[0]
    assert entry["fault"] == "client_gone"
    assert got <= entry["bytes_out"] < size
    os.unlink(room.tmp + "/huge.bin")


# -- change tracking -----------------------------------------------------------


def test_created_modified_deleted(room):
    room.run("rm -rf ~/t; mkdir ~/t; cd ~/t; echo 1 > mod; echo 1 > del")
    answer = room.run(
        "cd ~/t; echo 22 >> mod; rm del; printf PNG > new.png; : > zero;"
        " echo x > /workspace/w.csv"
    )
    assert changes(answer) == {
        "/home/user/t/mod": ("modified", 5),
        "/home/user/t/del": ("deleted", 0),
        "/home/user/t/new.png": ("created", 3),
        "/home/user/t/zero": ("created", 0),
        "/workspace/w.csv": ("created", 2),
    }
    by_path = {c["path"]: c for c in answer["result"]["files_changed"]}
    png = by_path["/home/user/t/new.png"]
    assert png == {
        "path": "/home/user/t/new.png",
        "status": "created",
        "size": 3,
        "mime_type": "image/png",
        "public_url": f"/vm/{answer['instance_id']}/file/home/user/t/new.png",
    }
    assert "public_url" not in by_path["/home/user/t/del"]
    assert by_path["/workspace/w.csv"]["mime_type"] == "text/csv"
    assert by_path["/home/user/t/zero"]["mime_type"] == "inode/x-empty"
    url = png["public_url"]
    assert room.request("GET", url, key=False).body == b"PNG"


def test_public_url_of_an_odd_name_works(room):
    answer = room.run("echo odd > '/tmp/a b%20#?é'")
    change = answer["result"]["files_changed"][0]
    assert change["path"] == "/tmp/a b%20#?é"
    got = room.request("GET", change["public_url"], key=False)
    assert got.body == b"odd\n"


def test_what_came_and_went_is_no_change(room):
    assert changes(room.run("echo x > /tmp/fleeting; rm /tmp/fleeting")) == {}
    assert changes(room.run("cat /etc/passwd; ls -lR /home > /dev/null")) == {}


def test_same_size_rewrite_is_a_change(room):
    write(room.tmp + "/same", b"aaaa")
    stamp = os.stat(room.tmp + "/same")
    answer = room.run(
        "touch -r /tmp/same /workspace/ref; printf bbbb > /tmp/same;"
        " touch -r /workspace/ref /tmp/same"
    )
    assert os.stat(room.tmp + "/same").st_mtime_ns == stamp.st_mtime_ns
    assert changes(answer)["/tmp/same"] == ("modified", 4)


def test_replacing_by_rename_is_a_modification(room):
    room.run("echo 1 > /tmp/target")
    answer = room.run("echo 22 > /tmp/.new; mv /tmp/.new /tmp/target")
    assert changes(answer) == {"/tmp/target": ("modified", 3)}


def test_renamed_directories(room):
    room.run("mkdir -p ~/d1/sub; echo a > ~/d1/sub/f; echo bb > ~/d1/g")
    answer = room.run("mv ~/d1 ~/d2")
    assert changes(answer) == {
        "/home/user/d1/sub/f": ("deleted", 0),
        "/home/user/d1/g": ("deleted", 0),
        "/home/user/d2/sub/f": ("created", 2),
        "/home/user/d2/g": ("created", 3),
    }
    answer = room.run("echo ccc > ~/d2/sub/f")
    assert changes(answer) == {"/home/user/d2/sub/f": ("modified", 4)}
    answer = room.run("mv ~/d2 /workspace/d3; echo x > /workspace/d3/sub/n")
    assert changes(answer)["/workspace/d3/sub/n"] == ("created", 2)
    assert changes(answer)["/home/user/d2/g"] == ("deleted", 0)
    room.run("mkdir ~/s1 ~/s2; echo 1 > ~/s1/f; echo 22 > ~/s2/f")
    room.run("mv ~/s1 ~/x; mv ~/s2 ~/s1; mv ~/x ~/s2")
    answer = room.run("echo 333 > ~/s1/f")
    assert changes(answer) == {"/home/user/s1/f": ("modified", 4)}
    answer = room.run("echo 333 > ~/s2/f")
    assert changes(answer) == {"/home/user/s2/f": ("modified", 4)}
    room.run("rm -rf ~/s1 ~/s2 /workspace/d3")


def test_files_in_directories_made_at_once(room):
    answer = room.run(
        "for i in 1 2 3 4 5 6 7 8; do"
        " mkdir -p ~/n/$i/a/b; echo x > ~/n/$i/a/b/f; done"
    )
    want = {
        f"/home/user/n/{i}/a/b/f": ("created", 2) for i in range(1, 9)
    }
    assert changes(answer) == want
    answer = room.run("rm -rf ~/n")
    assert changes(answer) == {p: ("deleted", 0) for p in want}


def test_file_becomes_directory_and_back(room):
    room.run("rm -rf /tmp/fd; echo x > /tmp/fd")
    answer = room.run("rm /tmp/fd; mkdir /tmp/fd; echo x > /tmp/fd/f")
    assert changes(answer) == {
        "/tmp/fd": ("deleted", 0),
        "/tmp/fd/f": ("created", 2),
    }
    answer = room.run("rm -r /tmp/fd; echo x > /tmp/fd")
    assert changes(answer) == {
        "/tmp/fd/f": ("deleted", 0),
        "/tmp/fd": ("created", 2),
    }


def test_links_and_special_files_are_not_listed(room):
    answer = room.run("ln -s /etc/passwd /tmp/sl; mkfifo /tmp/pipe2")
    assert changes(answer) == {}
    write(room.tmp + "/lh", b"x")
    assert changes(room.run("ln /tmp/lh /tmp/lh2")) == {
        "/tmp/lh2": ("created", 1)
    }


def test_chmod_alone_is_not_listed(room):
    write(room.tmp + "/mode", b"x")
    assert changes(room.run("chmod 600 /tmp/mode")) == {}


def test_mapped_writes_are_seen(room):
    write(room.tmp + "/map", b"x" * 4096)
    answer = room.run(
        "/usr/bin/python3 -c \"import mmap; f = open('/tmp/map', 'r+b');"
        " m = mmap.mmap(f.fileno(), 4096); f.close(); m[0] = 65; m.close()\""
    )
    assert changes(answer) == {"/tmp/map": ("modified", 4096)}


def test_changes_from_outside_are_nobodys(room):
    write(room.tmp + "/outside", b"x")
    os.makedirs(room.home + "/outdir")
    write(room.home + "/outdir/f", b"x")
    assert changes(room.run(":")) == {}
    write(room.home + "/outdir/f", b"y")
    shutil.rmtree(room.home + "/outdir")
    assert changes(room.run(":")) == {}


def test_background_changes_are_not_the_next_commands(room):
    room.run("rm -f go2; mkfifo go2; (read x < go2; echo b > /tmp/bg) &")
    with open(room.home + "/go2", "w") as f:
        f.write("\n")
    wait_until(lambda: os.path.exists(room.tmp + "/bg"))
    wait_until(lambda: os.stat(room.tmp + "/bg").st_size == 2)
    assert "/tmp/bg" not in changes(room.run(":"))


def test_overlapping_commands_both_see_a_change(room):
    room.run("rm -f p1 p2; mkfifo p1 p2")
    slow = []
    t = threading.Thread(
        target=lambda: slow.append(room.run("echo > p1; read x < p2"))
    )
    t.start()
    room.run("read x < p1")
    fast = room.run("echo x > /tmp/both")
    room.run("echo > p2")
    t.join()
    assert "/tmp/both" in changes(fast)
    assert "/tmp/both" in changes(slow[0])


def test_more_changes_than_the_kernels_queue_holds(room):
    n = 20000
    answer = room.run(
        "mkdir many; cd many; seq %d | xargs touch; "
        "for i in 1 2 3; do seq %d | xargs touch -d @$i; done" % (n, n)
    )
    assert len(changes(answer)) == n
    answer = room.run("cd many; echo x >> 17; rm 18; echo new > new")
    assert changes(answer) == {
        "/home/user/many/17": ("modified", 2),
        "/home/user/many/18": ("deleted", 0),
        "/home/user/many/new": ("created", 4),
    }
    assert len(changes(room.run("rm -r many"))) == n


def test_tracking_can_be_switched_off(room):
    room.control(track=False)
    assert changes(room.run("echo x > /tmp/untracked")) == {}
    room.control(track=True)
    assert changes(room.run(":")) == {}


@pytest.mark.skipif(
    any(x in BINARY for x in ("asan", "tsan", "valgrind")),
    reason="sanitizers are slow",
)
def test_tracking_costs_less_than_10_ms_for_20000_files(room):
    room.control(track=False)
    for d in range(1, 21):
        room.run(f"mkdir -p big/{d}; cd big/{d}; seq 1000 | xargs touch")

    def cost(track, n=40):
        conn = room.connect()
        room.control(track=track)
        times = []
        for i in range(n):
            start = time.perf_counter()
            answer = room._send(
                conn,
                "POST",
                room.base + "/command",
                {"command": "echo x >> big/7/7"},
                None,
                True,
            )
            times.append(time.perf_counter() - start)
            assert len(answer.json["result"]["files_changed"]) == track
        conn.close()
        return min(times) * 1000

    without, with_it = cost(False), cost(True)
    print(f"command {without:.2f} ms, tracked {with_it:.2f} ms")
    assert with_it - without < 10
    room.control(track=False)
    room.run("rm -r big")
    room.control(track=True)


# -- create, expiry, readiness --------------------------------------------------


def test_create_retrieves_what_is_there(room):
    answer = room.create(body={"host_id": str(uuid.uuid4())})
    assert answer.status == 200
    body = answer.json
    assert body["instance_id"] == room.instance_id
    assert body["profile_id"] == room.profile
    assert body["room_id"] == room.room
    assert body["status"] == "ready"
    assert set(body["host"]) == {"id", "name"}
    assert body["profile"]["id"] == room.profile


def test_no_instance_until_create():
    with Room(BINARY, no_instance=True) as room:
        assert room.ready["instance_id"] == ""
        for answer in (room.command(":"), room.file("etc/hosts")):
            assert answer.status == 404
            assert answer.json == {
                "error": "instance_not_found",
                "message": f"No instance found for profile {room.profile}"
                f" and room {room.room}",
            }
        assert room.create().json["status"] == "ready"
        assert room.output("echo up") == "up"


def test_expiry_gives_a_fresh_tree_and_a_new_id(room):
    old = room.instance_id
    room.run("echo x > ~/precious; echo x > /tmp/t; sleep 1000 &")
    init = room.root.split("/")[2]
    room.control(expire=True)
    assert not os.path.exists(f"/proc/{init}/root/etc")
    assert room.command(":").json["error"] == "instance_not_found"
    assert room.raw("/etc/passwd", instance=old).status == 404
    new = room.create().json["instance_id"]
    assert new != old
    assert room.output("ls -A ~ /tmp /workspace | grep -v :") == ""
    assert room.run(":")["instance_id"] == new
    assert changes(room.run("echo x > ~/f")) == {
        "/home/user/f": ("created", 2)
    }


def test_renewal_is_silent(room):
    old = room.instance_id
    room.run("echo x > ~/f")
    room.control(renew=True)
    answer = room.run("ls -A")
    assert answer["instance_id"] != old
    assert answer["result"]["output"] == ""


def test_expiry_ends_running_commands(room):
    result = []
    t = threading.Thread(
        target=lambda: result.append(room.command("sleep 1000"))
    )
    t.start()
    wait_until(lambda: room.state()["inflight"] == 1)
    room.control(renew=True)
    t.join()
    assert result[0].status == 502


def test_expired_data_of_dir_are_kept_aside(tmp_path):
    with Room(BINARY, dir=tmp_path / "d") as room:
        old = room.instance_id
        room.run("echo x > f")
        room.control(renew=True)
        assert room.output("ls") == ""
    aside = tmp_path / "d" / f"expired-{old}" / "home" / "f"
    assert aside.read_text() == "x\n"


def test_not_ready_is_503_for_a_while(room):
    room.control(not_ready=1000)
    for answer in (
        room.command(":"),
        room.file("etc/hosts"),
        room.raw("/etc/hosts"),
    ):
        assert answer.status == 503
        assert answer.json["error"] == "instance_not_ready"
    answer = room.create()
    assert answer.status == 503
    assert answer.json["status"] == "active"
    room.control(not_ready=0.2)
    seen = wait_until(lambda: (room.create().status == 200) and ["ready"])
    assert seen == ["ready"]
    assert room.command(":").status == 200


def test_boot_takes_its_time_after_create(room):
    room.control(expire=True, boot=0.3)
    statuses = []

    def up():
        answer = room.create()
        statuses.append(answer.json["status"])
        return answer.status == 200

    assert room.create().status == 503
    wait_until(up)
    steps = [
        "active",
        "network_allocated",
        "ftap_created",
        "image_generated",
        "vm_started",
        "vm_booted",
        "ready",
    ]
    assert statuses[-1] == "ready"
    assert statuses == sorted(statuses, key=steps.index)


# -- faults ----------------------------------------------------------------------


def test_status_with_and_without_retry_after(room):
    room.fault({"status": 503, "retry_after": 2})
    answer = room.command("echo x > /tmp/notrun")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "2"
    assert answer.json["error"] == "service_unavailable"
    assert not os.path.exists(room.tmp + "/notrun")
    room.fault({"status": 500, "html": True})
    answer = room.file("etc/hosts")
    assert answer.status == 500
    assert answer.headers["Retry-After"] is None
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.body.startswith(b"<html>")
    entry = room.log()[0]
    assert entry["fault"] == "status" and not entry["ran"]


def test_status_after_running(room):
    room.fault({"status": 504, "run": True})
    assert room.command("echo x > /tmp/ran504").status == 504
    assert os.path.exists(room.tmp + "/ran504")
    assert room.log()[0]["ran"]


def test_reset_before(room):
    room.fault({"reset": "before"})
    data, error = read_raw_socket(
        room, command_bytes(room, "echo x > /tmp/reset1")
    )
    assert data == b"" and isinstance(error, ConnectionResetError)
    assert not os.path.exists(room.tmp + "/reset1")
    assert room.log()[0]["fault"] == "reset_before"
    assert room.log()[0]["status"] == 0


def test_reset_in_the_middle(room):
    room.fault({"reset": "middle"})
    data, error = read_raw_socket(room, command_bytes(room, "seq 1000"))
    assert isinstance(error, ConnectionResetError)
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(
        [h for h in head.split(b"\r\n") if h.startswith(b"Content-Length")][0]
        .split(b":")[1]
    )
    assert len(body) == length // 2
    assert room.log()[0]["ran"]
    write(room.tmp + "/m.bin", os.urandom(3 << 20))
    conn = room.connect()
    conn.request("GET", f"/vm/{room.instance_id}/file/tmp/m.bin")
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        conn.getresponse().read()
    conn.close()


def test_close_without_an_answer(room):
    room.fault({"close": "empty"})
    data, error = read_raw_socket(
        room, command_bytes(room, "echo x > /tmp/close1")
    )
    assert data == b"" and error is None
    assert not os.path.exists(room.tmp + "/close1")


def test_lost_answer_of_a_command_that_ran(room):
    room.fault({"lost": True})
    data, error = read_raw_socket(
        room, command_bytes(room, "echo x > /tmp/lost1")
    )
    assert data == b"" and error is None
    assert os.path.exists(room.tmp + "/lost1")
    entry = room.log()[0]
    assert entry["ran"] and entry["fault"] == "lost"
    assert entry["status"] == 0 and entry["exit_code"] == 0
    room.fault({"lost": "reset"})
    data, error = read_raw_socket(room, command_bytes(room, ":"))
    assert data == b"" and isinstance(error, ConnectionResetError)


@pytest.mark.parametrize("fault,ran", [("hang", False), ("lost_hang", True)])
def test_hang_for_ever(room, fault, ran):
    room.fault({fault: -1 if fault == "hang" else True})
    s = socket.create_connection(("127.0.0.1", room.port))
    s.sendall(command_bytes(room, f"echo x > /tmp/{fault}"))
    path = f"{room.tmp}/{fault}"
    if ran:
        wait_until(lambda: os.path.exists(path))
    s.settimeout(0.1)
    with pytest.raises(socket.timeout):
        s.recv(1)
    assert room.state()["inflight"] == 1
    s.close()
    wait_until(lambda: room.state()["inflight"] == 0)
    assert os.path.exists(path) == ran
    assert room.log()[0]["fault"] == fault


def test_hang_for_a_while_then_answer(room):
    room.fault({"hang": 0.15})
    start = time.monotonic()
    assert room.output("echo late") == "late"
    assert time.monotonic() - start >= 0.15


def test_cut_json(room):
    room.fault({"json": "cut"})
    answer = room.command("seq 100")
    assert answer.status == 200
    with pytest.raises(ValueError):
        answer.json
    assert room.log()[0]["fault"] == "json_cut"
    answer = room.file("etc/passwd")
    with pytest.raises(ValueError):
        answer.json


def test_malformed_json(room):
    room.fault({"json": "malformed"})
    for answer in (room.command("echo x"), room.file("etc/passwd")):
        with pytest.raises(ValueError):
            answer.json


def test_wrong_types_and_missing_fields(room):
    room.fault({"json": "wrong_types"})
    assert room.run("echo x")["result"]["output"] == 42
    assert isinstance(room.file("etc/passwd").json["content"], dict)
    assert room.create().json["instance_id"] == 7
    room.fault({"json": "missing_fields"})
    assert list(room.run("echo x")) == ["instance_id"]
    assert "content" not in room.file("etc/passwd").json
    assert "status" not in room.create().json


def test_other_instance_id(room):
    other = str(uuid.uuid4())
    room.fault({"instance_id": other})
    assert room.run("echo x")["instance_id"] == other
    assert room.file("etc/passwd").json["instance_id"] == other
    assert room.create().json["instance_id"] == other


def test_redirect(room):
    room.fault({"redirect": "http://127.0.0.1:1/x"})
    answer = room.command(":")
    assert answer.status == 302
    assert answer.headers["Location"] == "http://127.0.0.1:1/x"
    room.fault({"redirect": "/y", "status": 307})
    assert room.command(":").status == 307


def test_exact_body(room):
    body = bytes(range(256))
    room.fault({"body_base64": base64.b64encode(body).decode()})
    answer = room.command(":")
    assert (answer.status, answer.body) == (200, body)
    room.fault({"body_base64": "", "status": 502})
    answer = room.command(":")
    assert (answer.status, answer.body) == (502, b"")


def statuses(room, n, text=":"):
    return [room.command(text).status for _ in range(n)]


def test_match_nth_every_times(room):
    room.fault({"status": 500}, nth=3)
    assert statuses(room, 5) == [200, 200, 500, 200, 200]
    room.fault({"status": 500}, every=2)
    assert statuses(room, 5) == [200, 500, 200, 500, 200]
    room.fault({"status": 500}, times=2)
    assert statuses(room, 4) == [500, 500, 200, 200]
    assert room.state()["faults"][0]["fired"] == 2
    assert room.state()["faults"][0]["seen"] == 4
    room.no_faults()
    assert statuses(room, 2) == [200, 200]


def test_match_percent_is_repeatable_by_seed(room):
    room.fault({"status": 500}, percent=50, seed=7)
    first = statuses(room, 40)
    room.fault({"status": 500}, percent=50, seed=7)
    assert statuses(room, 40) == first
    assert 8 <= first.count(500) <= 32
    room.fault({"status": 500}, percent=0)
    assert set(statuses(room, 5)) == {200}
    room.fault({"status": 500}, percent=100)
    assert set(statuses(room, 5)) == {500}


def test_match_kind_and_contains(room):
    for kind in ("command", "file", "raw", "create"):
        room.fault({"status": 500}, kind=kind)
        got = {
            "command": room.command(":").status,
            "file": room.file("etc/passwd").status,
            "raw": room.raw("/etc/passwd").status,
            "create": room.create().status,
        }
        assert [k for k in got if got[k] == 500] == [kind]
    room.fault({"status": 500}, contains="needle")
    assert statuses(room, 1, "echo hay") == [200]
    assert statuses(room, 1, "echo needle") == [500]
    assert room.file("tmp/needle").status == 500


def test_first_of_several_rules_wins(room):
    room.control(
        faults=[
            {"match": {"nth": 2}, "fault": {"status": 501}},
            {"match": {"kind": "any"}, "fault": {"status": 502}},
        ]
    )
    assert statuses(room, 3) == [502, 501, 502]


# -- other switches ------------------------------------------------------------


def test_latency(room):
    room.control(latency_ms=80)
    start = time.monotonic()
    room.run(":")
    assert time.monotonic() - start >= 0.08
    room.control(latency_connect=True)
    start = time.monotonic()
    room.run(":")
    assert time.monotonic() - start >= 0.16


def test_output_limit(room):
    room.control(output_limit=10)
    assert room.output("printf 0123456789abcdef") == "0123456789"
    assert room.output("printf 0123456789") == "0123456789"
    room.control(output_cut="middle")
    out = room.output("printf 0123456789abcdef")
    assert out == "01234\n... truncated ...\nbcdef"
    room.control(output_limit=None)
    assert room.output("printf 0123456789abcdef") == "0123456789abcdef"


def test_noise(room):
    room.control(noise="Welcome!\n", noise_after="\nbye")
    assert room.output("printf x") == "Welcome!\nx\nbye"


def test_rate_limit(room):
    room.control(rate_limit=0.01)
    assert room.command(":").status == 200
    answer = room.command(":")
    assert answer.status == 429
    assert answer.json["error"] == "rate_limited"
    assert 1 <= int(answer.headers["Retry-After"]) <= 100
    assert room.log()[-1]["fault"] == "rate_limit"
    room.control(rate_limit=1000)
    assert statuses(room, 5) == [200] * 5


def test_gzip(room):
    room.control(gzip=True)
    headers = {"Accept-Encoding": "gzip"}
    answer = room.command("seq 1000", headers=headers)
    assert answer.headers["Content-Encoding"] == "gzip"
    body = json.loads(gzip.decompress(answer.body))
    assert body["result"]["output"].startswith("1\n2\n")
    assert room.command("seq 1000").headers["Content-Encoding"] is None


def test_max_body(room):
    room.control(max_body=100)
    assert room.command("#" * 200).status == 413
    room.control(max_body=2 << 20)
    answer = room.run("#" * (1 << 20))
    assert answer["result"]["exit_code"] == 126


def test_switches_are_checked_before_any_is_thrown(room):
    for bad in (
        {"latency_ms": 5, "bogus": 1},
        {"latency_ms": 5, "raw": "sometimes"},
        {"latency_ms": "much"},
        {"latency_ms": -1},
        {"track": 1},
        {"latency_ms": 5, "faults": [{"fault": {}}]},
        {"latency_ms": 5, "faults": [{"fault": {"explode": True}}]},
        {"latency_ms": 5, "faults": {}},
        {"latency_ms": 5, "faults": [{"match": {"x": 1}, "fault": {"status": 500}}]},
        {"latency_ms": 5, "not_ready": "x"},
    ):
        with pytest.raises(RoomError):
            room.control(**bad)
    assert room.state()["latency_ms"] == 0
    assert room.state()["faults"] == []


def test_state_shows_what_is_in_force(room):
    state = room.control(latency_ms=3, base64="mime", noise="n")
    assert state == room.state()
    assert (state["latency_ms"], state["base64"]) == (3, "mime")
    assert room.key not in json.dumps(state)
    state = room.control(defaults=True)
    assert (state["latency_ms"], state["noise"]) == (0, "")


# -- log --------------------------------------------------------------------------


def test_log_and_count(room):
    room.run("echo hi")
    room.file("etc/passwd")
    room.raw("/etc/passwd")
    room.create()
    room.request("GET", "/nothing")
    room.command(":", key=False)
    assert room.count() == {
        "command": 2,
        "file": 1,
        "raw": 1,
        "create": 1,
        "other": 1,
        "total": 6,
    }
    log = room.log()
    assert [e["seq"] for e in log] == [1, 2, 3, 4, 5, 6]
    assert [e["status"] for e in log] == [200, 200, 200, 200, 404, 401]
    first = log[0]
    assert first["command"] == "echo hi" and first["command_len"] == 7
    assert first["ran"] and first["exit_code"] == 0
    assert first["bytes_in"] > 7 and first["bytes_out"] > 7
    assert first["t_start"] <= first["t_end"] <= time.time() + 1
    assert first["inflight"] == 1
    assert log[1]["path"] == log[2]["path"] == "/etc/passwd"
    assert log[3]["path"] == room.room
    assert not log[5]["ran"]
    room.reset_log()
    assert room.log() == [] and room.count()["total"] == 0
    room.run(":")
    assert room.log()[0]["seq"] == 1


def test_an_answer_is_in_the_log_when_the_client_has_it(room):
    for i in range(1, 100):
        room.run(":")
        assert room.count()["command"] == i
        room.raw("/etc/passwd")
        assert room.count()["raw"] == i


def test_long_commands_are_cut_in_the_log(room):
    text = "#" * 4095 + "é" + "#" * 1000
    room.run(text)
    entry = room.log()[0]
    assert entry["command"] == "#" * 4095
    assert entry["command_len"] == len(text.encode())
    room.control(log_full=True)
    room.run(text)
    assert room.log()[1]["command"] == text


def test_requests_from_before_a_reset_are_not_logged(room):
    room.run("rm -f q; mkfifo q")
    t = threading.Thread(target=lambda: room.run("read x < q; echo old"))
    t.start()
    wait_until(lambda: room.state()["inflight"] == 1)
    room.reset_log()
    room.run("echo > q")
    t.join()
    assert [e["command"] for e in room.log()] == ["echo > q"]


# -- walls ------------------------------------------------------------------------


def test_commands_are_confined(room):
    out = room.output(
        "ls /; ls /home /root; ps ax | wc -l; touch /usr/x; echo b >"
        " /proc/sysrq-trigger; mount -t tmpfs x /mnt; mknod /tmp/disk b 254 0;"
        " mount -o remount,rw /usr; kill -9 1; echo alive"
    )
    assert "work\n" not in out
    assert out.endswith("alive")
    for what in ("touch", "sysrq-trigger", "mount", "mknod"):
        assert what in out
    assert not os.path.exists("/usr/x")
    assert not os.path.exists(room.tmp + "/disk")


def test_nothing_of_the_host_shows_in_proc_1(room):
    out = room.output("tr '\\0' '\\n' < /proc/1/environ; cat /proc/1/cmdline")
    assert "PYTEST" not in out and "ROOMD" not in out and "--" not in out


@root_only
def test_user_option_makes_permissions_matter():
    with Room(BINARY, user=1000) as room:
        assert room.output("id -u; id -g; id -G") == "1000\n1000\n1000"
        assert os.stat(room.home).st_uid == 1000
        assert room.run("echo x > f")["status"] == "success"
        assert os.stat(room.home + "/f").st_uid == 1000
        assert room.run("echo x > /etc/f")["status"] == "error"
        write(room.home + "/secret", b"x")
        os.chmod(room.home + "/secret", 0o600)
        assert room.run("cat secret")["status"] == "error"
        assert room.file("home/user/secret").status == 404
        assert room.raw("/home/user/secret").status == 404
        os.chown(room.home + "/secret", 1000, 1000)
        assert room.file("home/user/secret").status == 200


@root_only
def test_an_ordinary_user_can_run_it():
    place = tempfile.mkdtemp(prefix="roomd-test.")  # pytest's is private
    os.chmod(place, 0o777)
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534);"
        " os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])"
    )
    room = Room(BINARY, dir=place + "/vm")
    plain = room.arguments
    room.arguments = lambda: [sys.executable, "-S", "-c", code] + plain()
    try:
        room.start()
        answer = room.run("id -u; echo x > f; pwd")
        assert answer["result"]["output"] == "0\n/home/user"
        assert changes(answer) == {"/home/user/f": ("created", 2)}
        assert os.stat(room.home + "/f").st_uid == 65534
        assert room.file("home/user/f").json["content"] == "x\n"
        assert os.path.exists(room.root + "/etc/passwd")
        room.control(renew=True)
        assert room.output("ls") == ""
        assert room.stop() == 0
    finally:
        room.stop()
        shutil.rmtree(place)


NO_NAMESPACES = [
    "unshare", "-r", "sh", "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces;"
    " exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"", "sh",
]


def test_without_namespaces_it_refuses():
    r = subprocess.run(
        NO_NAMESPACES + [BINARY], capture_output=True, text=True, timeout=20
    )
    if "unshare:" in r.stderr or "setpriv:" in r.stderr:
        pytest.skip(r.stderr)
    assert r.returncode == 1
    assert "--allow-unconfined" in r.stderr


def test_without_namespaces_if_told_so(tmp_path):
    room = Room(BINARY, allow_unconfined=True, dir=tmp_path)
    plain = room.arguments
    room.arguments = lambda: NO_NAMESPACES + plain()
    try:
        room.start()
    except RoomError as e:
        pytest.skip(str(e))
    try:
        assert "NOT confined" in room.stderr()
        answer = room.run("pwd; echo x > f; sleep 1000 & echo $! > pid")
        assert answer["result"]["output"] == room.home
        assert changes(answer)[room.home + "/f"] == ("created", 2)
        pid = int((tmp_path / "home" / "pid").read_text())
        assert os.path.exists(f"/proc/{pid}")
        wildcard = room.home.lstrip("/") + "/f"
        assert room.file(wildcard).json["content"] == "x\n"
    finally:
        assert room.stop() == 0
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


@pytest.mark.parametrize("limit", ["instances", "watches"])
def test_without_inotify_changes_are_found_by_walking(limit, tmp_path):
    wrap = [
        "unshare", "-r", "sh", "-c",
        f"echo 3 > /proc/sys/user/max_inotify_{limit};"
        f" [ {limit} = watches ] ||"
        f" echo 0 > /proc/sys/user/max_inotify_{limit}; exec \"$@\"", "sh",
    ]
    room = Room(BINARY, dir=tmp_path)
    plain = room.arguments
    room.arguments = lambda: wrap + plain()
    try:
        room.start()
    except RoomError as e:
        pytest.skip(str(e))
    with room:
        room.run("mkdir -p a/b c; echo 1 > a/b/mod; echo 1 > del; echo 1 > c/k")
        write(room.home + "/outside", b"x")
        answer = room.run("echo 22 > a/b/mod; rm del; mv c d; echo n > a/new")
        assert changes(answer) == {
            "/home/user/a/b/mod": ("modified", 3),
            "/home/user/del": ("deleted", 0),
            "/home/user/c/k": ("deleted", 0),
            "/home/user/d/k": ("created", 2),
            "/home/user/a/new": ("created", 2),
        }


# -- busybox and root file systems ---------------------------------------------------


def test_busybox_room_has_nothing_else(busy):
    out = busy.output("echo $0; readlink /bin/sh; ls /usr/bin/python3")
    assert "/bin/busybox" in out
    assert "No such file" in out
    for tool in ("bash", "perl", "python3", "gcc"):
        assert busy.run(f"command -v {tool}")["status"] == "error"
    out = busy.output("stat --version 2>&1; find . -printf x 2>&1")
    assert "BusyBox" in out


def test_busybox_room_does_the_same(busy):
    answer = busy.run("echo x > f; mkdir d; echo yy > d/g.txt; exit 3")
    assert changes(answer) == {
        "/home/user/f": ("created", 2),
        "/home/user/d/g.txt": ("created", 3),
    }
    assert answer["result"]["exit_code"] == 3
    assert busy.file("home/user/d/g.txt").json["content"] == "yy\n"
    assert busy.raw("/home/user/d/g.txt").body == b"yy\n"
    assert busy.output("cat f | base64; dd if=f 2>/dev/null") == "eAo=\nx"
    busy.control(renew=True)
    assert busy.output("ls -A; which sh") == "/bin/sh"


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    for d in ("bin", "etc", "tmp", "home/user", "root", "proc", "dev"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    for applet in ("sh", "ls", "cat", "rm", "mkdir", "ps", "mv", "id"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "motd").write_text("hello\n")
    return root


def test_root_file_system(rootfs):
    with Room(BINARY, root=rootfs) as room:
        assert room.ready["root"] == str(rootfs)
        assert room.home == str(rootfs / "home" / "user")
        answer = room.run("cat /etc/motd; pwd; echo x > /etc/new; echo y > f")
        assert answer["result"]["output"] == "hello\n/home/user"
        assert changes(answer) == {
            "/etc/new": ("created", 2),
            "/home/user/f": ("created", 2),
        }
        assert (rootfs / "etc" / "new").read_text() == "x\n"
        assert room.file("etc/motd").json["content"] == "hello\n"
        assert changes(room.run("rm /etc/new; echo > /dev/null")) == {
            "/etc/new": ("deleted", 0)
        }
        room.control(renew=True)
        assert room.output("ls; cat /etc/motd") == "hello"
    assert os.listdir(rootfs / "proc") == []
    assert os.listdir(rootfs / "dev") == []


def test_home_option(rootfs):
    with Room(BINARY, root=rootfs, home="/root") as room:
        assert room.output("pwd; echo $HOME") == "/root\n/root"
        assert room.vm_home == "/root"


# -- load ----------------------------------------------------------------------------


def test_a_hundred_clients_with_faults(room):
    room.control(
        faults=[
            {
                "match": {"percent": 20, "seed": 3},
                "fault": {"reset": "middle"},
            },
            {"match": {"percent": 20, "seed": 4}, "fault": {"lost": True}},
            {"match": {"percent": 20, "seed": 5}, "fault": {"status": 503}},
        ]
    )

    def client(i):
        good = 0
        for n in range(5):
            try:
                answer = room.command(f"echo {i} {n}; echo x > /tmp/c{i}")
            except (OSError, http.client.HTTPException):
                continue
            if answer.status == 200:
                assert answer.json["result"]["output"] == f"{i} {n}"
                good += 1
        return good

    results = Threads.run(*[(lambda i=i: client(i)) for i in range(100)])
    assert all(isinstance(r, int) for r in results)
    assert sum(results) > 100
    room.no_faults()
    wait_until(lambda: room.state()["inflight"] == 0)
    assert room.count()["command"] == 500
