"""What `make install` puts where, and that packages know all of it."""

import fnmatch
import os
import re
import shutil
import subprocess

import pytest

from mountlib import BUILD, DEADLINE, TOP

needs_build = pytest.mark.skipif(
    not os.path.exists(os.path.join(BUILD, "Makefile")),
    reason="not a build by configure")


def text_of(*parts):
    with open(os.path.join(TOP, *parts)) as f:
        return f.read()


def make(target, top):
    done = subprocess.run(
        ["make", "-s", "-C", BUILD, target, f"DESTDIR={top}"],
        env={k: v for k, v in os.environ.items() if k != "MAKEFLAGS"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=DEADLINE * 4)
    assert done.returncode == 0, done.stdout


def files(top):
    return sorted(os.path.relpath(os.path.join(where, name), top)
                  for where, dirs, names in os.walk(top)
                  for name in names + [
                      d for d in dirs if os.path.islink(f"{where}/{d}")])


def bindir():
    with open(os.path.join(BUILD, "Makefile")) as f:
        return re.search(r"^prefix = (.*)$", f.read(), re.M)[1] + "/bin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """All files below the prefix, the mount helpers' directory as sbin/."""
    top = str(tmp_path_factory.mktemp("dest"))
    make("install", top)
    found = files(top)
    units = [os.path.join(top, f) for f in found if f.endswith(".service")]
    assert len(units) == 2
    for unit in units:
        with open(unit) as f:
            assert f"ExecStart={bindir()}/gentilityfs -f " in f.read()
    for name in ("mount.gentilityfs", "mount.fuse.gentilityfs"):
        link = [f for f in found if os.path.basename(f) == name]
        assert os.readlink(os.path.join(top, link[0])) == \
            bindir() + "/gentilityfs"
    make("uninstall", top)
    assert files(top) == []
    left = [d for d, _, _ in os.walk(top) if d.endswith("/gentilityfs")]
    assert left == []
    prefix = bindir()[1:-len("/bin")]
    return [re.sub(rf"^({prefix}/)?", "", f) for f in found]


@needs_build
def test_install_and_uninstall(installed):
    """What is there after the one is gone after the other."""
    assert {
        "bin/gentilityfs", "bin/gentility-roomd", "sbin/mount.gentilityfs",
        "share/man/man1/gentilityfs.1", "share/doc/gentilityfs/README.md",
        "share/bash-completion/completions/gentilityfs",
        "share/zsh/site-functions/_gentilityfs",
        "share/fish/vendor_completions.d/gentilityfs.fish",
        "lib/systemd/system/gentilityfs@.service",
        "lib/systemd/user/gentilityfs@.service",
        "share/doc/gentilityfs/examples/srv-room.mount",
    } <= set(installed)


@needs_build
def test_the_debian_packages_hold_all_that_is_installed(installed):
    patterns = []
    debian = os.path.join(TOP, "contrib", "debian")
    for name in os.listdir(debian):
        if name.endswith((".install", ".manpages")):
            patterns += text_of("contrib", "debian", name).split()
    for name in installed:
        # debian/rules has it there.
        path = "usr/" + name.replace("zsh/site-functions",
                                     "zsh/vendor-completions")
        assert any(path == p or path.startswith(p + "/")
                   or fnmatch.fnmatch(path, p) for p in patterns), path


@needs_build
def test_the_rpm_packages_hold_all_that_is_installed(installed):
    places = {
        "_bindir": "bin", "_sbindir": "sbin", "_mandir": "share/man",
        "_datadir": "share", "_docdir": "share/doc", "name": "gentilityfs",
        "_unitdir": "lib/systemd/system", "_userunitdir": "lib/systemd/user",
    }
    spec = text_of("contrib", "rpm", "gentilityfs.spec")
    patterns = [re.sub(r"%\{(\w+)\}", lambda m: places[m[1]], line)
                for line in re.findall(r"^%\{.*$", spec, re.M)]
    for name in installed:
        assert any(fnmatch.fnmatch(name, p) or
                   p.endswith("/") and name.startswith(p)
                   for p in patterns), name


def test_versions_agree():
    """configure.ac, the packages and the list of changes."""
    version = re.search(r"AC_INIT\(\[gentilityfs\], \[(.*?)\]\)",
                        text_of("configure.ac"))[1]
    spec = text_of("contrib", "rpm", "gentilityfs.spec")
    assert re.search(r"^Version: +(\S+)", spec, re.M)[1] == version
    assert f" - {version}-1\n" in spec
    changelog = text_of("contrib", "debian", "changelog")
    assert changelog.startswith(f"gentilityfs ({version}-")
    assert re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.M)[1] == version


@pytest.mark.skipif(not shutil.which("systemd-analyze"),
                    reason="no systemd-analyze")
@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_reads_the_units(kind, tmp_path):
    program = tmp_path / "gentilityfs"
    program.symlink_to(shutil.which("true"))
    unit = text_of("contrib", "systemd", kind, "gentilityfs@.service.in")
    paths = [tmp_path / f"{kind}@x.service"]
    paths[0].write_text(unit.replace("@bindir@", str(tmp_path)))
    if kind == "system":
        for name in ("srv-room.mount", "srv-room.automount"):
            paths.append(tmp_path / name)
            paths[-1].write_text(text_of("contrib", "systemd", name))
    done = subprocess.run(
        ["systemd-analyze", f"--{kind}", "--man=no", "verify", *paths],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE)
    about = [line for line in done.stdout.splitlines() if "x.service" in line
             or "srv-room" in line]
    assert not about, done.stdout


@pytest.mark.skipif(not shutil.which("rpmspec"), reason="no rpmspec")
def test_rpm_reads_the_spec():
    done = subprocess.run(
        ["rpmspec", "-P", os.path.join(TOP, "contrib/rpm/gentilityfs.spec")],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=DEADLINE)
    assert done.returncode == 0, done.stdout
