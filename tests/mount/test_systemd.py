"""What systemd and mount(8) expect: readiness, and their options in fstab."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from mountlib import DEADLINE, DRIVER, Mount, Room, mounts, unmount, wait_until

PROFILE = "550e8400-e29b-41d4-a716-446655440000"

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@contextlib.contextmanager
def listener(abstract=False):
    """A socket as systemd makes it, and the value of NOTIFY_SOCKET."""
    with tempfile.TemporaryDirectory(prefix="gentilityfs-test-") as top:
        name = ("\0" if abstract else "") + top + "/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(name)
            s.settimeout(DEADLINE)
            yield s, name.replace("\0", "@")


def told(s):
    """One message, as a dict."""
    lines = s.recv(65536).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("abstract", [False, True])
def test_readiness_and_the_end_are_told(room, abstract):
    """U3"""
    with listener(abstract) as (s, name):
        with Mount(room, env={"NOTIFY_SOCKET": name}) as m:
            first = told(s)
            assert first == {"READY": "1", "MAINPID": str(m.pid),
                             "STATUS": room.source}
            # Not before it works.
            assert m.dir in mounts() and "home" in m.ls()
        last = told(s)
        assert last["STOPPING"] == "1" and last["MAINPID"] == first["MAINPID"]


def test_a_daemon_tells_its_own_process_id(room, tmp_path):
    """U3: without -f the service's process is the child."""
    key = tmp_path / "key"
    key.write_text(room.key)
    os.chown(key, os.getuid(), os.getgid())
    key.chmod(0o600)
    point = tmp_path / "mnt"
    point.mkdir()
    with listener() as (s, name):
        done = subprocess.run(
            [DRIVER, "-o", f"url={room.url},key_file={key},"
             f"cache_dir={tmp_path}/cache", room.source, point],
            env={**os.environ, "NOTIFY_SOCKET": name}, timeout=DEADLINE)
        try:
            assert done.returncode == 0
            message = told(s)
            assert message["READY"] == "1"
            pid = int(message["MAINPID"])
            assert os.readlink(f"/proc/{pid}/exe") == os.path.realpath(DRIVER)
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not os.path.exists(f"/proc/{pid}/exe"))
            assert told(s)["STOPPING"] == "1"
        finally:
            if str(point) in mounts():
                unmount(str(point), lazy=True)


def test_what_goes_wrong_is_told_and_never_readiness(tmp_path):
    """U3: control characters of a name make no lines of their own."""
    with listener() as (s, name):
        done = subprocess.run(
            [DRIVER, "-f", f"{PROFILE}/r", tmp_path / "none\nREADY=1"],
            env={"NOTIFY_SOCKET": name, "HOME": str(tmp_path),
                 "PATH": os.environ["PATH"]},
            stderr=subprocess.PIPE, timeout=DEADLINE)
        assert done.returncode == 1
        message = told(s)
        assert "none?READY=1" in message["STATUS"]
        assert "READY" not in message
        s.settimeout(0)
        with pytest.raises(BlockingIOError):
            s.recv(1)


@pytest.mark.parametrize("name", ["", "nonsense", "/nonexistent/socket",
                                  "@nobody-listens", "/" + "x" * 200])
def test_a_socket_that_is_not_there_does_no_harm(room, name):
    """U3"""
    with Mount(room, env={"NOTIFY_SOCKET": name}) as m:
        assert "home" in m.ls()


# --- fstab -------------------------------------------------------------------

def overlay_script(top):
    """Puts the program where an installation has it, for this namespace."""
    return f"""set -e
        mkdir {top}/o
        mount -t tmpfs -o mode=755 none {top}/o
        for dir in sbin bin; do
            mkdir {top}/o/$dir {top}/o/$dir.work
            mount -t overlay -o lowerdir=/usr/$dir,upperdir={top}/o/$dir,\
workdir={top}/o/$dir.work none /usr/$dir || exit 99
        done
        # fusermount3 looks there what is mounted.
        if ! [ -e /etc/mtab ]; then
            mkdir {top}/o/etc {top}/o/etc.work
            mount -t overlay -o lowerdir=/etc,upperdir={top}/o/etc,\
workdir={top}/o/etc.work none /etc || exit 99
            ln -s /proc/self/mounts /etc/mtab
        fi
        cp {DRIVER} /usr/bin/gentilityfs
        ln -s /usr/bin/gentilityfs /usr/sbin/mount.gentilityfs
        ln -s /usr/bin/gentilityfs /usr/sbin/mount.fuse.gentilityfs
        cp /etc/fstab {top}/o/fstab 2>/dev/null || :
        cat {top}/fstab >{top}/o/fstab
        mount --bind {top}/o/fstab /etc/fstab || exit 99
        mknod -m 666 {top}/o/fuse c 10 229 || exit 99
        mount --bind {top}/o/fuse /dev/fuse || exit 99
        """


def running(word):
    """Whether a process has this among its arguments."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), \
                open(f"/proc/{pid}/cmdline", "rb") as f:
            if word.encode() in f.read().split(b"\0"):
                return True
    return False


# By whom it is mounted, who serves it, the words for it.
LINES = {
    "root": (0, 0, "fuse.gentilityfs", "", "nofail"),
    "user": (65534, 65534, "fuse.gentilityfs", "", "nofail,user"),
    "setuid": (0, 65534, "fuse", "gentilityfs#", "nofail,setuid=nobody"),
}


@root_only
@pytest.mark.parametrize("who", LINES)
def test_fstab_for_systemd_and_for_users(who):
    """C6: lines as in contrib/doc/fstab-systemd.md, by `mount MOUNTPOINT`,
    by root, by a user, and by root for a user."""
    mounter, server, kind, prefix, more = LINES[who]
    if mounter and not shutil.which("setpriv"):
        pytest.skip("no setpriv")
    if kind == "fuse" and not os.path.exists("/sbin/mount.fuse3"):
        pytest.skip("no mount.fuse3")
    if not os.path.exists("/etc/fstab"):
        pytest.skip("no /etc/fstab to put another one over")
    with tempfile.TemporaryDirectory(prefix="gentilityfs-test-") as top, \
            Room() as room:
        os.chmod(top, 0o755)
        for name in ("mnt", "home"):
            os.mkdir(f"{top}/{name}")
            os.chown(f"{top}/{name}", server, server)
        with open(f"{top}/key", "w") as f:
            f.write(room.key)
        os.chmod(f"{top}/key", 0o600)
        os.chown(f"{top}/key", server, server)
        with open(f"{top}/fstab", "w") as f:
            f.write(f"{prefix}{room.source}  {top}/mnt  {kind}  noauto,"
                    "x-systemd.automount,x-systemd.idle-timeout=10min,"
                    f"x-systemd.mount-timeout=60,_netdev,{more},"
                    f"key_file={top}/key,cache_dir={top}/home/cache,"
                    f"url={room.url}  0  0\n")

        def by(uid):
            return f"setpriv --reuid={uid} --regid={uid} --clear-groups " \
                if uid else ""

        with open(f"{top}/script", "w") as f:
            f.write(overlay_script(top) + f"""
        cd /
        export HOME={top}/home
        {by(mounter)}mount {top}/mnt
        {by(server)}touch {top}/mnt/tmp/made
        {by(server)}sh -c 'echo id -u > {top}/mnt/.exec'
        {by(server)}ls {top}/mnt
        grep -F ' {top}/mnt ' /proc/self/mountinfo
        {by(mounter)}{'fusermount3 -u' if mounter else 'umount'} {top}/mnt
        ! grep -qF ' {top}/mnt ' /proc/self/mountinfo
        """)
        done = subprocess.run(
            ["unshare", "-m", "sh", f"{top}/script"], text=True,
            timeout=DEADLINE * 2, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode == 99:
            pytest.skip("no overlay or bind mounts here")
        assert done.returncode == 0, done.stderr
        assert "home" in done.stdout.split()
        line = done.stdout.splitlines()[-1]
        assert "nosuid,nodev" in line and "fuse.gentilityfs" in line
        assert f"user_id={server}" in line
        # `user` implies it; mount(8) passes it along.
        assert who != "user" or "noexec" in line
        assert "made" in os.listdir(room.tmp)
        wait_until(lambda: not running(f"{top}/mnt"))
