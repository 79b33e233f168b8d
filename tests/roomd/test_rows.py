"""The local room can play every row of what the service's documents say, and of
what they leave open.  This is the list of which switch plays which; a row that
nothing plays, or a switch that plays none, is found here.

Run as test_roomd.py.
"""

import base64
import os
import re
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from room import Room, wait_until  # noqa: E402
from test_roomd import BINARY, room, root_only, shared  # noqa: E402, F401

STEPS = ["active", "network_allocated", "ftap_created", "image_generated",
         "vm_started", "vm_booted", "ready"]

# What is documented, or not; the switches (their own, or options, or faults)
# that play it; the test that shows that they do: here, else in test_roomd.py.
ROWS = [
    ("a command: output, exit code, changes", "track",
     "test_command_answer_has_the_documented_shape"),
    ("commands have a time limit", "command_timeout",
     "test_command_timeout_kills"),
    ("an instance expires; the next one is fresh", "expire renew",
     "test_expiry_gives_a_fresh_tree_and_a_new_id"),
    ("a room without an instance", "--no-instance",
     "test_no_instance_until_create"),
    ("create answers 503, or 200 and a status, until it is ready",
     "boot boot_polls boot_answer", "test_statuses_in_their_order"),
    ("commands get 503, or 404, until it is ready", "boot_refuse not_ready",
     "test_commands_are_refused_until_it_is_ready"),
    ("is content text or base64?", "base64", "test_base64_policies"),
    ("how large a file the file endpoint gives", "max_file",
     "test_file_larger_than_max_file_is_413"),
    ("does /file/tmp/x mean /tmp/x or ~/tmp/x?", "paths file_path",
     "test_paths_home"),
    ("NUL, invalid UTF-8 in output or content",
     "output_invalid output_nul base64",
     "test_invalid_utf8_and_nul_in_output"),
    ("longest command", "--command-limit --body-limit max_body "
     "command_limit too_large", "test_what_is_too_large_is_refused"),
    ("longest output", "output_limit output_cut", "test_output_limit"),
    ("commands side by side", "serial", "test_one_command_at_a_time"),
    ("white space at the end of output", "output_space",
     "test_trailing_space_trim_or_exact"),
    ("text around the output", "noise noise_after", "test_noise"),
    ("the shell", "--shell --busybox --root", "test_shells"),
    ("tools in the VM", "--without --busybox", "test_tools_are_missing"),
    ("Range on the raw endpoint", "raw", "test_raw_switch"),
    ("working directory, user, environment of a command",
     "--home --workdir --user --env", "test_where_and_as_whom_commands_run"),
    ("stdout and stderr", "stderr", "test_stderr_can_be_dropped"),
    ("401, 403, 404, 409, 413, 429, 5xx", "status retry_after rate_limit",
     "test_status_with_and_without_retry_after"),
    ("HTML error pages, empty bodies, redirects",
     "html body_base64 redirect", "test_pages_and_empty_bodies"),
    ("cut and malformed bodies", "json", "test_cut_json"),
    ("resets", "reset close", "test_reset_before"),
    ("silence", "hang latency_ms latency_connect",
     "test_hang_for_a_while_then_answer"),
    ("was a command that got no answer run?", "lost lost_hang run",
     "test_lost_answer_of_a_command_that_ran"),
    ("an answer of another instance", "instance_id",
     "test_other_instance_id"),
    ("compressed answers", "gzip", "test_gzip"),
]


def test_every_row_has_a_test():
    here = os.path.dirname(os.path.abspath(__file__))
    tests = set()
    for name in ("test_rows.py", "test_roomd.py"):
        with open(os.path.join(here, name)) as f:
            tests |= set(re.findall(r"^def (test_\w+)\(", f.read(), re.M))
    assert {row[2] for row in ROWS} <= tests


def test_every_switch_plays_a_row(room):
    """And is in the manual page."""
    played = {word for row in ROWS for word in row[1].split()}
    state = set(room.state()) - {
        "faults", "instance_id", "root", "ready", "inflight", "arrived",
        "log_full"}
    assert state <= played
    usage = subprocess.run([BINARY, "-h"], capture_output=True, text=True)
    options = set(re.findall(r"--[a-z-]+", usage.stdout))
    assert {word for word in played if word.startswith("--")} <= options
    top = os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    with open(os.path.join(top, "contrib/roomd/gentility-roomd.1")) as f:
        page = f.read()
    for word in played:
        assert re.search(r"(Fl -|Cm |Cm \w+ , ){}\b".format(
            word.lstrip("-")), page), word


# -- the start ------------------------------------------------------------------


@pytest.mark.parametrize("code", [503, 200])
@pytest.mark.parametrize("polls", [1, 2])
def test_statuses_in_their_order(room, code, polls):
    room.control(expire=True, boot_polls=polls, boot_answer=str(code))
    seen = []
    for _ in range(6 * polls):
        answer = room.create()
        assert answer.status == code
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.json["instance_id"])
        seen.append(answer.json["status"])
    assert seen == [s for s in STEPS[:6] for _ in range(polls)]
    answer = room.create()
    assert answer.status == 200 and answer.json["status"] == "ready"
    assert room.output("echo up") == "up"


def test_the_start_may_go_by_time(room):
    room.control(expire=True, boot=0.3, boot_answer="200")
    seen = []

    def up():
        seen.append(room.create().json["status"])
        return seen[-1] == "ready"

    wait_until(up)
    assert seen == sorted(seen, key=STEPS.index)


@pytest.mark.parametrize("code, error", [
    (503, "instance_not_ready"), (404, "instance_not_found")])
def test_commands_are_refused_until_it_is_ready(room, code, error):
    room.control(expire=True, boot_polls=1, boot_answer="200",
                 boot_refuse=str(code))
    for status in STEPS:
        assert room.create().json["status"] == status
        if status == "ready":
            break
        for answer in (room.command("echo x"), room.file("etc/hosts"),
                       room.raw("/etc/hosts")):
            assert answer.status == code and answer.json["error"] == error
    assert room.output("echo up") == "up"
    assert not any(e["ran"] for e in room.log("command")[:-1])


# -- sizes ------------------------------------------------------------------------

REFUSALS = {
    "413": (413, "payload_too_large"), "413-html": (413, None),
    "400": (400, "bad_request"), "422": (422, "unprocessable"),
}


@pytest.mark.parametrize("limit", ["max_body", "command_limit"])
@pytest.mark.parametrize("how", [*REFUSALS, "e2big", "reset"])
def test_what_is_too_large_is_refused(room, limit, how):
    room.control(**{limit: 8192}, too_large=how)
    assert room.output(": " + "x" * 8000 + "; echo small") == "small"
    room.reset_log()
    text = ": " + "x" * 300000
    if how == "reset":
        with pytest.raises(OSError):
            room.command(text)
    elif how == "e2big":
        answer = room.run(text)
        assert answer["result"]["exit_code"] == 126
        assert answer["result"]["output"] == "sh: Argument list too long"
        assert answer["instance_id"] == room.instance_id
    else:
        answer = room.command(text)
        status, error = REFUSALS[how]
        assert answer.status == status
        if error is None:
            assert b"<html>" in answer.body
        else:
            assert answer.json["error"] == error
    (entry,) = room.log("command")
    assert entry["fault"] == "too_large" and not entry["ran"]


def test_limits_and_switches_by_option():
    with Room(BINARY, body_limit=8192, set="too_large=422") as r:
        assert r.command("x" * 9000).status == 422
        assert r.state()["max_body"] == 8192
    with Room(BINARY, command_limit=100) as r:
        assert r.command("x" * 101).status == 413
        assert r.command(": " + "x" * 98).status == 200
    for bad in ("nonsense=1", "raw=sideways", "serial=7", "latency_ms"):
        done = subprocess.run(
            [BINARY, "--set", bad], capture_output=True, timeout=20)
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1


# -- commands -----------------------------------------------------------------------


def test_one_command_at_a_time(room):
    room.control(serial=True)
    room.run("mkfifo ~/go")
    first = threading.Thread(target=room.run, args=("cat ~/go",))
    first.start()
    wait_until(lambda: room.state()["inflight"] == 1)
    done = []
    second = threading.Thread(
        target=lambda: done.append(room.output("echo second")))
    second.start()
    wait_until(lambda: room.state()["inflight"] == 2)
    assert done == []
    with open(os.path.join(room.home, "go"), "w"):
        pass
    first.join()
    second.join()
    assert done == ["second"]


@pytest.mark.parametrize("shell", ["/bin/dash", "/bin/bash"])
def test_shells(shell):
    with Room(BINARY, shell=shell) as r:
        is_bash = r.output("echo ${BASH_VERSION:+yes}") == "yes"
        assert is_bash == (shell == "/bin/bash")


def test_shell_of_busybox():
    with Room(BINARY, busybox=True) as r:
        assert "BusyBox" in r.output("busybox | head -n 1")
        assert os.path.basename(r.output("readlink -f /bin/sh")) == "busybox"


def test_tools_are_missing():
    with Room(BINARY, without="gzip,python3,base64") as r:
        for tool in ("gzip", "python3", "base64"):
            answer = r.run(f"command -v {tool} || {tool} --version")
            assert answer["result"]["exit_code"] in (126, 127), answer
        assert r.output("echo x | cat; command -v find") != ""


def test_where_and_as_whom_commands_run(tmp_path):
    with Room(BINARY, workdir="/tmp", home="/home/other",
              env="GREETING=good day") as r:
        assert r.output("pwd; echo ~; echo $GREETING") == \
            "/tmp\n/home/other\ngood day"
    with Room(BINARY, workdir="/nowhere", env="PATH=/bin:/usr/bin") as r:
        assert r.output("pwd; echo $PATH") == "/\n/bin:/usr/bin"


@root_only
def test_as_an_ordinary_user():
    with Room(BINARY, user=1000) as r:
        assert r.output("id -u; id -un") == "1000\nuser"


# -- answers ----------------------------------------------------------------------


def test_pages_and_empty_bodies(room):
    room.fault({"status": 502, "html": True}, kind="command", times=1)
    answer = room.command(":")
    assert answer.status == 502 and b"<html>" in answer.body
    room.fault({"body_base64": ""}, kind="command", times=1)
    answer = room.command(":")
    assert answer.status == 200 and answer.body == b""
    page = base64.b64encode(b"<html>login</html>").decode()
    room.fault({"body_base64": page}, kind="file", times=1)
    assert room.file("etc/hosts").body == b"<html>login</html>"
    room.fault({"redirect": "http://127.0.0.1:1/"}, kind="command", times=1)
    assert room.command(":").status == 302


# -- where it runs ----------------------------------------------------------------


CHROOT = """
set -e
c=$1; shift
mount --make-rprivate /
for d in bin sbin lib lib32 lib64 libx32; do
	[ ! -L /$d ] || cp -a /$d "$c/"
	[ -L /$d ] || [ ! -d /$d ] || { mkdir "$c/$d"; mount --bind /$d "$c/$d"; }
done
for d in usr etc dev work; do mkdir -p "$c/$d"; done
mkdir -p -m 1777 "$c/tmp"
mount --bind /usr "$c/usr"
mount --bind /etc "$c/etc"
mount --rbind /dev "$c/dev"
mount --bind "${1%/*}" "$c/work"
program=/work/${1##*/}; shift
exec chroot "$c" env TMPDIR=/tmp "$program" "$@"
"""


@root_only
@pytest.mark.parametrize("busybox", [False, True])
def test_in_a_bare_chroot(tmp_path, busybox):
    """/ is no mount point there, and /proc is not mounted."""
    r = Room(BINARY, busybox=busybox)
    plain = r.arguments
    r.arguments = lambda: [
        "unshare", "-m", "--propagation", "private", "sh", "-c", CHROOT, "sh",
        str(tmp_path), *plain()]
    with r:
        assert r.output("echo x > ~/f; cat ~/f; ls /") != ""
        assert r.output(
            "cut -d' ' -f5 /proc/self/mountinfo | grep -cx /") == "1"
        # Nothing of the chroot's own shows.
        assert "work" not in r.output("ls /").split()
