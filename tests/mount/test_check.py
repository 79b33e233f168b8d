"""gentilityfs --check: what it finds, in lines and in JSON."""

import http.server
import json
import os
import socket
import threading

import pytest

from hostile import Hostile, certificate
from mountlib import DRIVER, Mount, Room, run, wait_until

PROFILE = "550e8400-e29b-41d4-a716-446655440000"
KEY = "rk_test_0123456789abcdef0123456789abcdef"


def check(source, *words, key=KEY, options="", env=None, **kw):
    """Run it with a home of its own; the Done."""
    environment = {"GENTILITY_API_KEY": key or "", "HOME": "/nonexistent",
                   "XDG_CACHE_HOME": "/tmp", "GENTILITY_API_URL": ""}
    environment.update(env or {})
    more = ["-o", options] if options else []
    done = run([DRIVER, "--check", source, *words, *more], env=environment,
               timeout=60, **kw)
    if key:
        assert key.encode() not in done.out + done.err
    return done


def check_room(room, *words, options="", path="", **kw):
    kw.setdefault("key", room.key)
    return check(room.source + path, *words,
                 options=f"url={room.url}" + options, **kw)


def lines(done):
    """[(result, name, text)] of the lines; the header and the verdict go."""
    found = done.text.splitlines()
    assert found[0].startswith("gentilityfs --check "), done
    return [tuple(x.split(None, 2)) for x in found[1:-1]]


def by_name(done, result):
    return {name: text for r, name, text in lines(done) if r == result}


def findings(done):
    answer = json.loads(done.out)
    assert done.err == b"", done
    return answer


def test_a_good_room(any_room):
    """S1"""
    done = check_room(any_room)
    assert done.status == 0 and done.err == b"", done
    found = by_name(done, "ok")
    assert not by_name(done, "fail"), done
    assert "$GENTILITY_API_KEY" in found["key"]
    assert any_room.url in found["service"]
    assert any_room.instance_id in found["room"]
    assert any_room.vm_home in found["vm"]
    assert "median" in found["latency"]
    kind = "busybox" if any_room.busybox else "GNU"
    assert found["tools"].startswith(kind)
    notes = by_name(done, "note")
    if any_room.busybox:
        assert "whole seconds" in notes["tools"]
    assert ("see the notes" in done.text) == bool(notes)


def test_the_same_as_json(any_room):
    """S1"""
    done = check_room(any_room, "--json")
    assert done.status == 0, done
    answer = findings(done)
    assert answer["ok"] is True and answer["reached"] is True
    assert answer["source"] == any_room.source
    assert answer["key_from"] == "$GENTILITY_API_KEY"
    assert answer["tls"] is False and answer["address"] == "127.0.0.1"
    assert answer["instance_id"] == any_room.instance_id
    latency = answer["latency_ms"]
    assert latency["count"] == 5
    assert 0 < latency["min"] <= latency["median"]
    assert answer["vm"]["home"] == any_room.vm_home
    assert answer["vm"]["kind"] == ("busybox" if any_room.busybox else "gnu")
    assert "base64" in answer["vm"]["tools"]
    assert abs(answer["vm"]["clock_offset_s"]) <= 2
    assert answer["api"] == {
        "file": {"text": True, "base64": True, "form": "/file/tmp/x"},
        "raw": {"whole": True, "range": True},
        "command_bytes": 96 * 1024, "output_cut_at": None}
    assert {c["result"] for c in answer["checks"]} <= {"ok", "note"}


def test_it_leaves_nothing_behind(any_room):
    before = sorted(os.listdir(any_room.tmp))
    assert check_room(any_room).status == 0
    assert sorted(os.listdir(any_room.tmp)) == before
    assert any_room.count()["create"] == 0


SWITCHES = [
    ({"paths": "home"}, lambda a: a["file"]["form"] == "/file//tmp/x", None),
    ({"paths": "home-encoded"},
     lambda a: a["file"]["form"] == "/file/%2Ftmp/x", None),
    ({"paths": "home", "file_path": "echo"},
     lambda a: a["file"]["form"] == "/file//tmp/x", None),
    ({"raw": "norange"},
     lambda a: a["raw"] == {"whole": True, "range": False}, "Range"),
    ({"raw": "off"},
     lambda a: a["raw"] == {"whole": False, "range": False}, "raw endpoint"),
    ({"base64": "lossy"},
     lambda a: a["file"]["text"] and not a["file"]["base64"], "base64"),
    ({"base64": "always"},
     lambda a: a["file"]["text"] and a["file"]["base64"], None),
    ({"output_limit": 50000},
     lambda a: a["output_cut_at"] == 50000, "outputs are cut"),
]


@pytest.mark.parametrize("switches,expected,note", SWITCHES,
                         ids=[str(s[0]) for s in SWITCHES])
def test_forms_of_the_api(room, switches, expected, note):
    """S1: each is detected; what is slower for it has a note."""
    room.control(**switches)
    done = check_room(room, "--json")
    answer = findings(done)
    assert done.status == 0, answer
    assert expected(answer["api"]), answer["api"]
    notes = [c["text"] for c in answer["checks"] if c["result"] == "note"]
    if note is None:
        assert not notes
    else:
        assert any(note in n for n in notes), notes


def test_a_slow_service_has_a_note(room):
    """S1"""
    room.control(latency_ms=350)
    done = check_room(room)
    assert done.status == 0
    assert ".exec" in by_name(done, "note")["latency"], done


def test_small_requests_have_a_note(room):
    """S1: then a large file takes more of them."""
    room.control(max_body=60000)
    done = check_room(room)
    assert done.status == 0, done
    assert "KiB" in by_name(done, "note")["api"], done
    with Mount(room) as m:
        m.sh("head -c 200000 /dev/urandom >workspace/f")
    assert os.path.getsize(os.path.join(room.workspace, "f")) == 200_000


# --- what is wrong is said in one line, with the way out ----------------------

def assert_fails(done, name, *parts):
    assert done.status == 1 and done.err == b"", done
    failures = [x for x in lines(done) if x[0] == "fail"]
    assert len(failures) == 1 and failures[0][1] == name, done
    for part in parts:
        assert part in failures[0][2], done


def test_no_key(room, tmp_path):
    """S2"""
    if os.path.exists("/etc/gentilityfs/key"):
        pytest.skip("this machine has a key")
    done = check_room(room, key=None, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert_fails(done, "key", "key_file=", "/etc/gentilityfs/key")
    assert room.count()["total"] == 0


def test_a_key_file_and_its_permissions(room, tmp_path):
    """S1, S2"""
    key = tmp_path / "key"
    key.write_text(room.key + "\n")
    os.chown(key, os.getuid(), os.getgid())
    key.chmod(0o640)
    done = check_room(room, options=f",key_file={key}")
    assert_fails(done, "key", "chmod 600")
    key.chmod(0o600)
    done = check_room(room, options=f",key_file={key}")
    assert done.status == 0
    assert by_name(done, "ok")["key"] == f"found in {key} (mode 0600)"


def test_a_refused_key(room):
    """S2"""
    assert_fails(check_room(room, key=KEY), "key", "refuses the key")


def test_an_unknown_room(room):
    """S2: none is started."""
    assert_fails(check_room(room, path="x"), "room", "-o create")
    assert room.count()["create"] == 0


def test_a_path_that_is_not_there(room):
    """S2"""
    assert_fails(check_room(room, path=":/none/such"), "path", "/none/such")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9",
                                 "https://gentilityfs-test.invalid"])
def test_nobody_there_is_told_soon(url, tmp_path):
    """S3: long before the timeout; by a mount, too."""
    if url.endswith(":9"):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = check(PROFILE + "/r", options=f"url={url},timeout=3600")
    assert_fails(done, "service", url, "-o url=URL")
    mount = run([DRIVER, "-o", f"url={url},timeout=3600", PROFILE + "/r",
                 str(tmp_path)], timeout=60,
                env={"GENTILITY_API_KEY": KEY, "HOME": "/nonexistent",
                     "XDG_CACHE_HOME": "/tmp"})
    assert mount.status == 1 and mount.err.count(b"\n") == 1
    assert url.encode() in mount.err


def test_a_server_that_is_another_is_said_once(tmp_path):
    """S2: not as a service that answers and fails."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")
        do_GET = do_POST

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = check(PROFILE + "/r", options=f"url={url},timeout=20")
        server.shutdown()
    assert_fails(done, "service", url)
    assert "service" not in by_name(done, "ok")


def test_a_silent_service_is_waited_for_as_long_as_told(room):
    """S3"""
    room.fault({"hang": -1}, kind="any")
    done = check_room(room, options=",timeout=1")
    assert_fails(done, "service", "timeout=S")
    assert 0.9 < done.seconds


def test_a_vm_that_is_starting_is_waited_for(room):
    """S3: who answers 503 is there."""
    room.control(not_ready=4)
    with Mount(room) as m:
        wait_until(lambda: "home" in m.ls())


def test_tls(room, tmp_path):
    """S1, S2: a certificate that nobody vouches for, and one that is known."""
    cert, context = certificate(tmp_path, ["DNS:localhost", "IP:127.0.0.1"])
    with Hostile(room, tls=context) as proxy:
        assert proxy.url.startswith("https:")
        done = check(room.source, key=room.key, options="url=" + proxy.url)
        assert_fails(done, "tls", "certificate", "-o cacert=FILE")
        done = check(room.source, key=room.key,
                     options=f"url={proxy.url},cacert={cert}")
        assert done.status == 0, done
        assert "trusted" in by_name(done, "ok")["tls"]


@pytest.mark.parametrize("words,part", [
    (["--check"], b"SOURCE"), (["--check", "x"], b"malformed SOURCE"),
    (["--check", PROFILE + "/r", "/mnt"], b"/mnt"),
    (["--check", PROFILE + "/r", "--watch"], b"--watch"),
    (["--check", "--stats", "/mnt"], b"exclude")])
def test_wrong_usage(words, part):
    """S2"""
    done = run([DRIVER, *words])
    assert done.status == 2 and done.out == b""
    assert done.err.count(b"\n") == 1 and part in done.err
