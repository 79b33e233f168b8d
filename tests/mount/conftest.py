"""Fixtures of the mount tests; see mountlib.py."""

import os
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mountlib  # noqa: E402

# Seconds for one test, whatever it does.
LOAD_SECONDS = int(float(os.environ.get("GENTILITYFS_LOAD_SECONDS") or 0))
TEST_LIMIT = 3600 if os.environ.get("CHECK_LONG") else (
    int(150 * mountlib.SLOWNESS) + LOAD_SECONDS)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than some seconds")
    config.addinivalue_line(
        "markers", "root_room: the VM's user has to be root")
    config.addinivalue_line(
        "markers", "plain_mount: with no options but the test's own")


def pytest_collection_modifyitems(config, items):
    """Without the programs or /dev/fuse there is nothing to test."""
    here = os.path.dirname(os.path.abspath(__file__))
    ours = [i for i in items if str(i.fspath).startswith(here)]
    why = None
    if not os.path.exists("/dev/fuse"):
        why = "no /dev/fuse here"
    elif not shutil.which("fusermount3"):
        why = "no fusermount3 here (Debian: fuse3)"
    if why:
        for item in ours:
            if item.fspath.basename not in ("test_semantics.py", "test_cli.py"):
                item.add_marker(pytest.mark.skip(reason=why))
    for item in ours:
        if mountlib.TEST_USER and item.get_closest_marker("root_room"):
            item.add_marker(pytest.mark.skip(
                reason="the VM's user has to be root"))
        if mountlib.TEST_OPTIONS and item.get_closest_marker("plain_mount"):
            item.add_marker(pytest.mark.skip(
                reason="with no options but its own"))


@pytest.fixture(scope="session", autouse=True)
def git_trusts_the_room():
    """Its files belong to the VM's user, who may be another one."""
    if mountlib.TEST_USER:
        os.environ.update(GIT_CONFIG_COUNT="1", GIT_CONFIG_VALUE_0="*",
                          GIT_CONFIG_KEY_0="safe.directory")


@pytest.fixture(scope="session", autouse=True)
def programs():
    for program in (mountlib.DRIVER, mountlib.ROOMD):
        if not os.access(program, os.X_OK):
            pytest.exit(
                f"{program} is not there: build first, or set "
                "GENTILITYFS_BUILD to the directory it is in", 2)


@pytest.fixture(autouse=True)
def limit():
    """No test runs for ever; children are ended by their own deadlines."""
    def late(number, frame):
        mountlib.abort_mounts()
        raise mountlib.Hang(f"the test took more than {TEST_LIMIT} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_LIMIT)
    mountlib.LAST.clear()
    yield
    mountlib.end_calls()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(params=["gnu", "busybox"])
def any_room(request):
    """A fresh room, of each kind in turn."""
    with mountlib.Room(busybox=request.param == "busybox") as room:
        yield room


@pytest.fixture
def room():
    """A fresh room with GNU tools."""
    with mountlib.Room() as room:
        yield room


@pytest.fixture
def m(room):
    """That room mounted with all defaults."""
    with mountlib.Mount(room) as mount:
        yield mount


@pytest.fixture
def any_m(any_room):
    with mountlib.Mount(any_room) as mount:
        yield mount


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the drivers wrote."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        said = [m.stderr_bytes() for m in mountlib.LIVE] or mountlib.LAST
        for text in said:
            report.sections.append(
                ("gentilityfs stderr", text[-6000:].decode("utf-8", "replace")))
