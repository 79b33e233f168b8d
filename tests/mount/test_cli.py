"""The command line on a real system: what cannot work ends with one line that
says why, the right status, and nothing mounted (SEMANTICS.md, C1 to C6)."""
import concurrent.futures
import contextlib
import http.server
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

from mountlib import DRIVER as PROGRAM
from mountlib import Room, wait_until

PROFILE = "550e8400-e29b-41d4-a716-446655440000"
SOURCE = PROFILE + "/r"
KEY = "rk_test_0123456789abcdef0123456789abcdef"
DEADLINE = 120
CACHE = tempfile.TemporaryDirectory(prefix="gentilityfs-cli-")

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def unescape(field):
    """A field of mountinfo: blanks and the like are \\ooo."""
    return field.encode().decode("unicode_escape").encode("latin-1")


def mounted(path):
    with open("/proc/self/mountinfo") as lines:
        return os.fsencode(path) in [unescape(l.split()[4]) for l in lines]


def run(*words, program=PROGRAM, env=None, key=KEY, **options):
    """Run the program to its end, in a small environment of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        if name in os.environ:
            environment[name] = os.environ[name]
    if key is not None:
        environment["GENTILITY_API_KEY"] = key
    environment["XDG_CACHE_HOME"] = options.pop("cache", CACHE.name)
    environment.update(env or {})
    return subprocess.run(
        [program, *map(str, words)], env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=DEADLINE, **options)


def assert_fails(result, status, *parts):
    """One line on stderr, with all these parts; never the key."""
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("gentilityfs: ")
    for part in parts:
        assert str(part) in lines[0]
    assert KEY not in result.stderr


@pytest.fixture
def mountpoint(tmp_path):
    """An empty directory that is not mounted afterwards."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    while mounted(path):
        subprocess.run(["fusermount3", "-u", "-z", path], check=True)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def room():
    with Room() as started:
        yield started


def room_options(room, *more):
    return ",".join([f"url={room.url}", *more])


def unmount(path):
    subprocess.run(["fusermount3", "-u", path], check=True)
    wait_until(lambda: not mounted(path))


def daemon_of(path):
    """The process id of a mount's daemon, by its arguments."""
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(path) in words and b"gentilityfs" in words[0]:
                return int(entry.name)
    raise AssertionError(f"no daemon for {path}")


# --- wrong usage: status 2 ---------------------------------------------------

USAGE = [
    (["-o", "bogus"], "-o bogus"),
    (["-o", "ro,bogus=1"], "-o bogus"),
    (["-X"], "-X"),
    (["--bogus"], "--bogus"),
    (["-o", "timeout=0"], "timeout=0"),
    (["-o", "timeout=-1"], "timeout=-1"),
    (["-o", "cache_timeout=soon"], "cache_timeout=soon"),
    (["-o", "cache_size=much"], "cache_size=much"),
    (["-o", "max_connections=0"], "max_connections=0"),
    (["-o", "control=a/b"], "control=a/b"),
    (["-o", "cache_dir=here"], "cache_dir=here"),
    (["-o", "umask=8"], "umask=8"),
    (["-o", "url=ftp://example.com"], "ftp://example.com"),
    (["-o", "url=https://"], "url=https:"),
    (["-o", "remount"], "remount"),
    (["-o"], "-o"),
    (["-o", "cach_timeout=3"], "did you mean cache_timeout?"),
    (["-o", "keyfile=/x"], "did you mean key_file?"),
    (["--chekc"], "did you mean --check?"),
]


@pytest.mark.parametrize("words,part", USAGE, ids=[u[1] for u in USAGE])
def test_wrong_option(words, part, mountpoint):
    """C1"""
    assert_fails(run(SOURCE, mountpoint, *words), 2, part)
    assert not mounted(mountpoint)


def test_swapped_arguments(mountpoint):
    """C1"""
    assert_fails(run(mountpoint, SOURCE), 2, "SOURCE comes first",
                 f"gentilityfs {SOURCE} {mountpoint}")


SOURCES = ["r", "", "not-a-uuid/r", PROFILE, PROFILE + "/", PROFILE + "/a/b",
           PROFILE + "/..", PROFILE + "/%", PROFILE[:-1] + "/r",
           PROFILE.replace("-", "") + "/r", "https://example.com/x"]


@pytest.mark.parametrize("source", SOURCES)
def test_malformed_source(source, mountpoint):
    """C1"""
    assert_fails(run(source, mountpoint), 2, "malformed SOURCE", source)


def test_missing_arguments(mountpoint):
    """C1"""
    assert_fails(run(), 2, "SOURCE", "PROFILE/ROOM")
    assert_fails(run(SOURCE), 2, "MOUNTPOINT")
    assert_fails(run(SOURCE, mountpoint, "more"), 2, "more")


def test_a_message_stays_on_one_line(tmp_path):
    """C2"""
    assert_fails(run(SOURCE, tmp_path / "a\nb\x1b[1m"), 1, "a?b?[1m")


@pytest.mark.parametrize("url", [
    "http://example.com", "http://10.0.0.1:8080", "http://[::2]",
    "http://127.0.0.1.example.com", "http://localhost@example.com"])
def test_http_is_for_loopback_only(url, mountpoint):
    """C4"""
    assert_fails(run("-o", "url=" + url, SOURCE, mountpoint), 2, "url")
    result = run(SOURCE, mountpoint, env={"GENTILITY_API_URL": url})
    assert_fails(result, 2, "GENTILITY_API_URL")
    assert not mounted(mountpoint)


def test_help_and_version():
    result = run("-h")
    assert result.returncode == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) < 80
    result = run("-V")
    assert result.returncode == 0
    assert result.stdout.startswith("gentilityfs ")
    assert "fuse3 " in result.stdout and "libcurl " in result.stdout


# --- the key: status 1 -------------------------------------------------------

def test_missing_key(tmp_path, mountpoint):
    """C2: the line names all four places."""
    if os.path.exists("/etc/gentilityfs/key"):
        pytest.skip("this machine has a key")
    result = run(SOURCE, mountpoint, key=None,
                 env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert_fails(result, 1, "key_file=", "$GENTILITY_API_KEY",
                 tmp_path / "gentilityfs" / "key", "/etc/gentilityfs/key")
    assert not mounted(mountpoint)


@pytest.mark.parametrize("content,mode,part", [
    ("", 0o600, "empty"),
    (" \n\n", 0o600, "empty"),
    (KEY, 0o640, "chmod 600"),
    (KEY, 0o604, "chmod 600"),
    ("two words", 0o600, "does not hold a key"),
    (f'"{KEY}"', 0o600, "in quotes"),
    (f"'{KEY}", 0o600, "in quotes"),
    ("x" * 5000, 0o600, "does not hold a key"),
    ("a\0b", 0o600, "does not hold a key"),
])
def test_bad_key_file(content, mode, part, key_file, mountpoint):
    """C2"""
    key_file.write_text(content)
    key_file.chmod(mode)
    result = run("-o", f"key_file={key_file}", SOURCE, mountpoint)
    assert_fails(result, 1, part, key_file)
    assert not mounted(mountpoint)


def test_key_file_that_is_none(tmp_path, mountpoint):
    """C2"""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (tmp_path, fifo):
        result = run("-o", f"key_file={path}", SOURCE, mountpoint)
        assert_fails(result, 1, "not a regular file", path)
    result = run("-o", f"key_file={tmp_path}/none", SOURCE, mountpoint)
    assert_fails(result, 1, "No such file", tmp_path / "none")


# --- the mount point: status 1 -----------------------------------------------

def test_bad_mount_point(tmp_path):
    """C2"""
    assert_fails(run(SOURCE, tmp_path / "none"), 1, "mkdir", tmp_path / "none")
    (tmp_path / "file").touch()
    assert_fails(run(SOURCE, tmp_path / "file"), 1, "not a directory")
    assert_fails(run(SOURCE, tmp_path), 1, "not empty", "nonempty")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert_fails(run(SOURCE, tmp_path / "dangling"), 1, "does not exist")


def test_cache_inside_the_mount_point(mountpoint):
    """C2"""
    result = run("-o", f"cache_dir={mountpoint}/a/b", SOURCE, mountpoint)
    assert_fails(result, 1, "cache_dir", mountpoint)


# --- the server: status 1 ----------------------------------------------------

def listening(handle):
    """A TCP server on loopback, each connection on a thread; its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            connection = server.accept()[0]
            threading.Thread(target=handle, args=(connection,),
                             daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def greet_as_mail_server(connection):
    with connection:
        connection.sendall(b"220 mail.example.com ESMTP\r\n")


def never_answer(connection):
    with connection, contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def web_server(post):
    """A server of web pages; post: one for POST requests, too."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            if not post:
                self.send_error(501)
                return
            body = b"<html>It works!</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


SERVERS = {
    "nobody listens": refused,
    "no such host": lambda: "https://gentilityfs-test.invalid",
    "web server without POST": lambda: web_server(False),
    "web pages with status 200": lambda: web_server(True),
    "mail server": lambda: listening(greet_as_mail_server),
    "no answer": lambda: listening(never_answer),
}


@pytest.fixture(scope="module")
def attempts(tmp_path_factory):
    """A mount from each of SERVERS, all at once, since some are patient."""
    def attempt(name):
        url = SERVERS[name]()
        path = tmp_path_factory.mktemp("mnt")
        result = run("-o", f"timeout=1,url={url}", SOURCE, path)
        return url, path, result

    with concurrent.futures.ThreadPoolExecutor(len(SERVERS)) as pool:
        yield {name: pool.submit(attempt, name) for name in SERVERS}


@pytest.mark.parametrize("name", SERVERS)
def test_not_the_service(name, attempts):
    """C2"""
    url, path, result = attempts[name].result()
    assert_fails(result, 1, url)
    assert not mounted(path)


def test_wrong_key(room, mountpoint):
    """C2, C5"""
    result = run("-o", room_options(room), room.source, mountpoint)
    assert_fails(result, 1, "key")
    assert not mounted(mountpoint)


def test_unknown_room(room, mountpoint):
    """C2: a mistyped room starts no VM, and the way out is named."""
    result = run("-o", room_options(room), f"{room.profile}/mistyped",
                 mountpoint, key=room.key)
    assert_fails(result, 1, "mistyped", "create")
    assert not mounted(mountpoint)


def test_unknown_path(room, mountpoint):
    """C2"""
    result = run("-o", room_options(room), room.source + ":/none/such",
                 mountpoint, key=room.key)
    assert_fails(result, 1, "/none/such")
    assert not mounted(mountpoint)


# --- it works: status 0 ------------------------------------------------------

def test_mounts_and_returns(room, mountpoint, tmp_path):
    """C3, C5; what the daemon is left with does not hold the key."""
    result = run("-o", room_options(room), room.source, mountpoint,
                 key=room.key, cache=str(tmp_path / "cache"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert mounted(mountpoint)
    assert "home" in os.listdir(mountpoint)
    process = pathlib.Path("/proc", str(daemon_of(mountpoint)))
    secret = room.key.encode()
    assert secret not in (process / "cmdline").read_bytes()
    assert secret not in (process / "environ").read_bytes()
    assert os.readlink(process / "cwd") == "/"
    for fd in "012":
        assert os.readlink(process / "fd" / fd) == "/dev/null"
    options = [l for l in open("/proc/self/mountinfo") if str(mountpoint) in l]
    assert "nosuid,nodev" in options[0] and "fuse.gentilityfs" in options[0]

    again = run("-o", room_options(room), room.source, mountpoint,
                key=room.key)
    assert_fails(again, 1, "already mounted", "fusermount3 -u")
    unmount(mountpoint)
    wait_until(lambda: not process.exists())


def test_a_killed_daemon_is_explained(room, mountpoint):
    """C2"""
    result = run("-o", room_options(room), room.source, mountpoint,
                 key=room.key)
    assert result.returncode == 0
    pid = daemon_of(mountpoint)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}/exe"))
    again = run("-o", room_options(room), room.source, mountpoint,
                key=room.key)
    assert_fails(again, 1, "is gone", f"fusermount3 -u {mountpoint}")


def test_debug_output_never_shows_the_key(room, mountpoint, key_file):
    """C5"""
    key_file.write_text(room.key)
    process = subprocess.Popen(
        [PROGRAM, "-d", "-o", room_options(room, f"key_file={key_file}"),
         room.source, mountpoint], text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: mounted(mountpoint) or process.poll() is not None)
    os.listdir(mountpoint)
    with contextlib.suppress(OSError):
        (mountpoint / "home").stat()
    unmount(mountpoint)
    output = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 0
    assert output and room.key not in output


def test_foreground_ends_by_signal(room, mountpoint):
    """However early it comes, no dead mount stays."""
    process = subprocess.Popen(
        [PROGRAM, "-f", "-o", room_options(room), room.source, mountpoint],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "GENTILITY_API_KEY": room.key})
    wait_until(lambda: mounted(mountpoint))
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=DEADLINE)[1]
    assert process.returncode == 0, stderr
    assert not mounted(mountpoint)


def test_odd_names_of_mount_point_and_source(room, tmp_path):
    """C3"""
    path = tmp_path / "a b,c\\d\te"
    path.mkdir()
    result = run("-o", room_options(room, "fsname=x\\,y z"), room.source, path,
                 key=room.key)
    assert result.returncode == 0, result.stderr
    assert mounted(path)
    unmount(path)


@root_only
def test_allow_other_needs_permission(key_file, tmp_path):
    """C2"""
    conf = pathlib.Path("/etc/fuse.conf")
    if conf.exists() and any(l.strip() == "user_allow_other"
                             for l in conf.read_text().splitlines()):
        pytest.skip("/etc/fuse.conf allows it")
    if not os.access("/dev/fuse", os.R_OK) or \
            os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("/dev/fuse is for root only")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv")
    directory = pathlib.Path("/tmp", f"gentilityfs-cli-{os.getpid()}")
    directory.mkdir()
    try:
        os.chown(directory, 65534, 65534)
        result = run("--reuid=65534", "--regid=65534", "--clear-groups",
                     PROGRAM, "-o", "allow_other", SOURCE, directory,
                     program="setpriv")
        assert_fails(result, 1, "allow_other", "user_allow_other")
    finally:
        directory.rmdir()


# --- mount(8) ----------------------------------------------------------------

@pytest.fixture
def helper(tmp_path):
    """The program under the name by which mount(8) calls it."""
    path = tmp_path / "mount.fuse.gentilityfs"
    path.symlink_to(PROGRAM)
    return str(path)


def test_mount_helper(helper, room, mountpoint, key_file):
    """C6: argument order, flags and options are those of mount(8)."""
    key_file.write_text(room.key)
    options = room_options(
        room, "rw", "nofail", "_netdev", "noauto", "user=anna", "relatime",
        "x-systemd.automount", "comment=test", "dev", "suid",
        f"key_file={key_file}")
    words = (room.source, mountpoint, "-n", "-v", "-o", options, "-t",
             "fuse.gentilityfs")
    # A poor environment, as from init.
    result = run(*words, "-f", program=helper, key=None, env={"PATH": "/bin"})
    assert result.returncode == 0, result.stderr
    assert not mounted(mountpoint)
    result = run(*words, program=helper, key=None, env={"PATH": "/bin"})
    assert result.returncode == 0, result.stderr
    assert mounted(mountpoint)
    unmount(mountpoint)
    assert_fails(run(SOURCE, mountpoint, "-o", "bogus", program=helper), 2,
                 "-o bogus")


FORMS = [("fuse.gentilityfs", ""), ("gentilityfs", ""),
         ("fuse", "gentilityfs#")]


@root_only
@pytest.mark.parametrize("kind,prefix", FORMS, ids=[f[0] for f in FORMS])
def test_mount_and_fstab(kind, prefix, room, mountpoint, key_file, tmp_path):
    """C6: with the helpers in /sbin, in a mount namespace of its own."""
    if kind == "fuse" and shutil.which("mount.fuse3", path="/sbin") is None:
        pytest.skip("no mount.fuse3")
    key_file.write_text(room.key)
    fstab = tmp_path / "fstab"
    fstab.write_text(
        f"{prefix}{room.source} {mountpoint} {kind} noauto,_netdev,ro,"
        f"url={room.url},key_file={key_file},cache_dir={tmp_path}/c 0 0\n")
    script = tmp_path / "script"
    script.write_text(f"""set -e
        mkdir {tmp_path}/o
        mount -t tmpfs none {tmp_path}/o
        for dir in sbin bin; do
            mkdir {tmp_path}/o/$dir {tmp_path}/o/$dir.work
            mount -t overlay -o lowerdir=/usr/$dir,upperdir={tmp_path}/o/$dir,\
workdir={tmp_path}/o/$dir.work none /usr/$dir || exit 99
        done
        ln -s {PROGRAM} /usr/bin/gentilityfs
        ln -s /usr/bin/gentilityfs /usr/sbin/mount.gentilityfs
        ln -s /usr/bin/gentilityfs /usr/sbin/mount.fuse.gentilityfs
        unset HOME
        mount -t {kind} -o url={room.url},key_file={key_file},noauto,nofail \
'{prefix}{room.source}' {mountpoint}
        ls {mountpoint}
        umount {mountpoint}
        mount --fstab {fstab} {mountpoint}
        grep -c ' {mountpoint} ro,nosuid,nodev' /proc/self/mountinfo
        umount {mountpoint}
        """)
    result = subprocess.run(
        ["unshare", "-m", "sh", script], text=True, timeout=DEADLINE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    if result.returncode == 99:
        pytest.skip("no overlay mounts here")
    assert result.returncode == 0, result.stderr
    assert "home" in result.stdout.split()
