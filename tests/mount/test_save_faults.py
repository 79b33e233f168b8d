"""When a save is safe: whatever breaks at whichever step, afterwards either
close() has failed or the room has exactly the new bytes."""

import errno
import os
import stat

import pytest

from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    CREAT, SAVE, TinyRoom, W, any_room, both_m, both_rooms, from_nth, host,
    no_leftovers, noise, outcome, quick_if, room_bytes, save, stamp, text,
    write_all,
)
from mountlib import (
    MIB, Mount, Room, do, put, raises, wait_until,
)

FAULTS = {
    "reset-before": {"reset": "before"},
    "reset-middle": {"reset": "middle"},
    "lost": {"lost": True},
    "lost-reset": {"lost": "reset"},
    "lost-hang": {"lost_hang": True},
    "hang": {"hang": -1},
    "500": {"status": 500},
    "500-run": {"status": 500, "run": True},
    "503": {"status": 503, "retry_after": 0},
    "429": {"status": 429, "retry_after": 0},
    "cut-json": {"json": "cut"},
    "malformed": {"json": "malformed"},
    "wrong-types": {"json": "wrong_types"},
    "missing-fields": {"json": "missing_fields"},
    "empty": {"close": "empty"},
    "html": {"status": 502, "html": True},
    "redirect": {"redirect": "http://127.0.0.1:1/"},
    "401": {"status": 401},
}

OLD_SMALL = text(4000, 1)
NEW_SMALL = text(4096, 2)
OLD_LARGE = noise(2 * MIB, 1)
NEW_LARGE = noise(450_000, 2)  # some pieces
PARTS = [(5, b"early"), (MIB, noise(3000, 3)), (2 * MIB - 4, b"last")]


def patched(data, changes):
    data = bytearray(data)
    for offset, part in changes:
        data[offset:offset + len(part)] = part
    return bytes(data)


def save_and_report(path, data, flags=SAVE):
    """What each step of a save said; nothing raised."""
    got = {}
    try:
        fd = os.open(path, flags, 0o644)
    except OSError as e:
        return {"open": e.errno}
    try:
        write_all(fd, data)
    except OSError as e:
        got["write"] = e.errno
    try:
        os.close(fd)
    except OSError as e:
        got["close"] = e.errno
    return got


def parts_and_report(path, changes):
    got = {}
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError as e:
        return {"open": e.errno}
    try:
        for offset, part in changes:
            os.pwrite(fd, part, offset)
    except OSError as e:
        got["write"] = e.errno
    try:
        os.close(fd)
    except OSError as e:
        got["close"] = e.errno
    return got


class Case:
    """One kind of save: what is there, how it is saved, what has to be."""

    def __init__(self, name, old, new, func, *args):
        self.name, self.old, self.new = name, old, new
        self.func, self.args = func, args

    def prepare(self, room):
        if self.old is not None:
            put(room.workspace, self.name, self.old, 0o640)
            os.link(host(room, self.name), host(room, self.name + ".link"))

    def run(self, m):
        return do(self.func, m(W, self.name), *self.args, timeout=60)

    def now(self, room):
        try:
            return room_bytes(room, self.name)
        except FileNotFoundError:
            return None


CASES = {
    "small": lambda: Case("small", OLD_SMALL, NEW_SMALL, save_and_report,
                          NEW_SMALL, os.O_WRONLY | os.O_TRUNC),
    "new": lambda: Case("new", None, NEW_SMALL, save_and_report, NEW_SMALL,
                        CREAT | os.O_EXCL),
    "append": lambda: Case("append", OLD_SMALL, OLD_SMALL + b"one line\n",
                           save_and_report, b"one line\n",
                           os.O_WRONLY | os.O_APPEND),
    "ranged": lambda: Case("ranged", OLD_LARGE, patched(OLD_LARGE, PARTS),
                           parts_and_report, PARTS),
    "large": lambda: Case("large", OLD_LARGE, NEW_LARGE, save_and_report,
                          NEW_LARGE, os.O_WRONLY | os.O_TRUNC),
    "large-new": lambda: Case("large-new", None, NEW_LARGE, save_and_report,
                              NEW_LARGE, CREAT | os.O_EXCL),
    "large-append": lambda: Case("large-append", OLD_LARGE,
                                 OLD_LARGE + NEW_LARGE, save_and_report,
                                 NEW_LARGE, os.O_WRONLY | os.O_APPEND),
}


def check(room, case, got, what):
    """Old or new, and new if all was well."""
    now = case.now(room)
    good = [case.new]
    if got:
        good.append(case.old)
        if case.old is None:
            good.append(b"")  # created, and nothing written
    assert now in good, (
        what, got, now and (len(now), now[:60], now[-60:]))


def attempt(room, case, fault, nth, rules=None):
    case.prepare(room)
    with Mount(room, "timeout=2") as m:
        m.ls(W)
        m.settle()
        kept = None if case.old is None else stamp(host(room, case.name))
        room.control(faults=rules or [
            {"match": {"nth": nth}, "fault": fault}])
        got = case.run(m)
        fired = any(r["fired"] for r in room.state()["faults"])
        room.no_faults()
        check(room, case, got, (case.name, nth, fault))
        assert not set(got.values()) & {errno.EINVAL, errno.ENOSYS,
                                        errno.EEXIST, errno.ENOENT}, got
        if "open" not in got:
            assert m.read(W, case.name) == case.new, "the local data"
            deliver(m, case)
        elif case.old is None:
            # Created or not, who knows; so not O_EXCL again.
            do(save, m(W, case.name), case.new, timeout=60)
        else:
            do(case.func, m(W, case.name), *case.args, timeout=60)
        assert case.now(room) == case.new
        if kept:
            assert stamp(host(room, case.name)) == kept
            assert room_bytes(room, case.name + ".link") == case.new
    assert case.now(room) == case.new
    return fired, got


def deliver(m, case):
    """The next fsync sends it again.  One that meets a transfer that began
    before the service was back may still fail with that."""
    again = do(outcome, sync_again, m(W, case.name), timeout=60)
    if again is not None:
        assert again == errno.ETIMEDOUT, errno.errorcode[again]
        do(sync_again, m(W, case.name), timeout=60)


def sync_again(path):
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)


# One bad answer, then all is well: it has to get through or say so.  The quick
# suite meets each fault with a small save or an append, and each case with
# some faults; the slow one all of them.

QUICK = {("ranged", "lost", 1), ("ranged", "cut-json", 1),
         ("large", "lost", 1), ("large", "reset-middle", 2),
         ("large", "lost", 3), ("large-new", "500-run", 3),
         ("large-append", "lost", 3), ("large-append", "reset-middle", 2),
         ("new", "lost", 1), ("new", "lost", 2), ("append", "lost-hang", 1)}


def sweep():
    for f, fault in enumerate(FAULTS):
        for case in CASES:
            for nth in (1, 2, 3):
                if nth > 2 - (case != "new") and case in (
                        "small", "new", "append"):
                    continue  # no such request
                quick = (case, fault, nth) in QUICK or (
                    case == ("small", "append")[f % 2])
                yield pytest.param(
                    case, fault, nth, id=f"{case}-{fault}-{nth}",
                    marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize("case,fault,nth", list(sweep()))
def test_one_bad_answer_during_a_save(room, case, fault, nth):
    attempt(room, CASES[case](), FAULTS[fault], nth)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fault", quick_if(
    ["lost", "reset-middle", "lost-hang", "500-run"], "lost"))
def test_one_bad_answer_during_a_save_with_busybox(case, fault):
    with Room(busybox=True) as room:
        attempt(room, CASES[case](), FAULTS[fault], 1)


COMMITS = {"large": " commit_file '", "large-new": " commit_file '",
           "large-append": " spread_staged '"}


@pytest.mark.parametrize("case", COMMITS)
@pytest.mark.parametrize("fault", quick_if(
    list(FAULTS), "lost", "500-run", "reset-middle", "cut-json"))
def test_one_bad_answer_to_the_commit(both_rooms, case, fault):
    """The command that touches the target, after all pieces."""
    fired, _ = attempt(both_rooms, CASES[case](), FAULTS[fault], 1, [
        {"match": {"nth": 1, "contains": COMMITS[case]},
         "fault": FAULTS[fault]}])
    assert fired


def open_and_close(path):
    os.close(os.open(path, os.O_RDWR))


def test_the_next_close_sends_it_again(both_rooms):
    put(both_rooms.workspace, "f", OLD_SMALL)
    with Mount(both_rooms, "timeout=2") as m:
        m.ls(W)
        both_rooms.fault({"status": 500}, kind="command")
        got = do(save_and_report, m(W, "f"), NEW_SMALL,
                 os.O_WRONLY | os.O_TRUNC, timeout=60)
        assert got == {"close": errno.EIO}
        assert do(outcome, open_and_close, m(W, "f"), timeout=60) == errno.EIO
        both_rooms.no_faults()
        assert room_bytes(both_rooms, "f") == OLD_SMALL
        do(open_and_close, m(W, "f"), timeout=60)
        assert room_bytes(both_rooms, "f") == NEW_SMALL


@pytest.mark.parametrize("case", quick_if(CASES, "small", "append", "new"))
@pytest.mark.parametrize("fault,nth", [
    ("500", 1), ("lost", 1), ("reset-before", 2), ("reset-middle", 1),
    ("hang", 1), ("cut-json", 1), ("401", 1), ("lost", 3)])
def test_a_service_that_stays_bad_from_the_nth_request_on(
        room, case, fault, nth):
    """Nothing gets through any more: the save fails, the local data stays
    readable, and the next fsync delivers it when the service is back."""
    if nth > 1 and case in ("small", "new", "append"):
        pytest.skip("such a save is one request")
    fired, got = attempt(room, CASES[case](), FAULTS[fault], nth,
                         from_nth(nth, FAULTS[fault]))
    if not fired:
        assert nth > 1 and not got
        pytest.skip("such a save takes fewer requests")
    if nth == 1 and fault != "lost":
        assert got, "nothing was sent and nothing was said"
    want = {errno.EACCES} if fault == "401" else {errno.EIO, errno.ETIMEDOUT}
    assert set(got.values()) <= want, got


def test_a_lost_answer_does_not_append_twice(both_rooms):
    put(both_rooms.workspace, "log", b"first\n")
    with Mount(both_rooms, "timeout=3") as m:
        m.ls(W)
        for i, fault in enumerate([{"lost": True}, {"lost": "reset"},
                                   {"reset": "middle"}, {"json": "cut"},
                                   {"status": 502, "run": True}]):
            both_rooms.fault(fault, times=1, kind="command",
                           contains="workspace/log")
            got = do(save_and_report, m(W, "log"), b"line %d\n" % i,
                     os.O_WRONLY | os.O_APPEND, timeout=60)
            both_rooms.no_faults()
            if got:
                do(sync_again, m(W, "log"), timeout=60)
            now = room_bytes(both_rooms, "log")
            want = b"first\n" + b"".join(
                b"line %d\n" % j for j in range(i + 1))
            assert now == want, (fault, got)


def change_mkdir(top):
    os.mkdir(top + "/new")


def change_rename(top):
    os.rename(top + "/a", top + "/b")


def change_unlink(top):
    os.unlink(top + "/a")


def change_rmdir(top):
    os.rmdir(top + "/d")


def change_symlink(top):
    os.symlink("a", top + "/new")


def change_link(top):
    os.link(top + "/a", top + "/new")


def change_excl(top):
    os.close(os.open(top + "/new", CREAT | os.O_EXCL, 0o600))


def change_chmod(top):
    os.chmod(top + "/a", 0o600)


def change_fifo(top):
    os.mkfifo(top + "/new")


CHANGES = {
    "mkdir": (change_mkdir, lambda t: os.path.isdir(t + "/new")),
    "rename": (change_rename, lambda t: os.path.exists(t + "/b")
               and not os.path.exists(t + "/a")),
    "unlink": (change_unlink, lambda t: not os.path.exists(t + "/a")),
    "rmdir": (change_rmdir, lambda t: not os.path.exists(t + "/d")),
    "symlink": (change_symlink, lambda t: os.path.islink(t + "/new")),
    "link": (change_link, lambda t: os.path.exists(t + "/new")),
    "excl": (change_excl, lambda t: os.path.exists(t + "/new")),
    "chmod": (change_chmod,
              lambda t: stat.S_IMODE(os.stat(t + "/a").st_mode) == 0o600),
    "mkfifo": (change_fifo, lambda t: os.path.exists(t + "/new")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fault", quick_if(
    ["lost", "lost-reset", "reset-middle", "500-run", "cut-json"], "lost"))
def test_a_change_whose_answer_is_lost_is_still_right(room, change, fault):
    """Run once, answer lost, sent again: no EEXIST for one's own mkdir, no
    ENOENT for one's own unlink."""
    func, done = CHANGES[change]
    put(room.workspace, "a", b"a")
    os.mkdir(host(room, "d"))
    with Mount(room, "timeout=3") as m:
        m.ls(W)
        m.settle()
        room.fault(FAULTS[fault], times=1, kind="command")
        got = do(outcome, func, m(W), timeout=60)
        assert room.state()["faults"][0]["fired"] == 1
        room.no_faults()
        if got is None:
            assert done(room.workspace)
        else:
            assert got in (errno.EIO, errno.ETIMEDOUT), errno.errorcode[got]
        # What is shown is what is so, in any case.
        wait_until(lambda: m.ls(W) == sorted(os.listdir(room.workspace)), 10,
                   "the true names")
        assert got is None, "a lost answer can be asked for again"


@pytest.mark.slow
def test_a_change_that_fails_for_good_reports_and_changes_nothing(room):
    put(room.workspace, "a", b"a")
    os.mkdir(host(room, "d"))
    with Mount(room, "timeout=2") as m:
        m.ls(W)
        m.settle()
        room.fault({"status": 500}, kind="command")
        for name, (func, done) in CHANGES.items():
            got = do(outcome, func, m(W), timeout=60)
            if name == "excl":
                continue  # may be told at close() only
            assert got == errno.EIO, name
        room.no_faults()
        assert m.read(W, "a") == b"a"


def test_failed_then_renamed_over(room):
    """The temporary file of a save pattern could not be sent: the old
    contents must survive the rename, or the rename fails."""
    put(room.workspace, "f", OLD_SMALL)

    def pattern_save(top):
        got = save_and_report(top + "/f.tmp", NEW_SMALL, CREAT | os.O_EXCL)
        return got, outcome(os.rename, top + "/f.tmp", top + "/f")

    with Mount(room, "timeout=2") as m:
        m.ls(W)
        m.settle()
        room.fault({"status": 500}, times=40, kind="command")
        got, renamed = do(pattern_save, m(W), timeout=100)
        room.no_faults()
        assert got, "the save failed without a word"
        now = room_bytes(room, "f")
        assert now in (OLD_SMALL, NEW_SMALL), (got, renamed, now[:50])
        if renamed is None:
            assert now == NEW_SMALL


def test_two_failed_saves_then_one_good(room):
    """The last version wins, whole."""
    put(room.workspace, "f", OLD_SMALL)
    with Mount(room, "timeout=2") as m:
        m.ls(W)
        room.fault({"status": 500}, kind="command")
        for i in range(2):
            got = do(save_and_report, m(W, "f"), text(3000 + i, 5 + i),
                     os.O_WRONLY | os.O_TRUNC, timeout=60)
            assert got
        assert m.read(W, "f") == text(3001, 6)
        assert room_bytes(room, "f") == OLD_SMALL
        room.no_faults()
        do(save, m(W, "f"), b"short", os.O_WRONLY | os.O_TRUNC)
        assert room_bytes(room, "f") == b"short"


def test_fsync_fails_then_succeeds_on_the_same_descriptor(room):
    with Mount(room, "timeout=2") as m:
        m.ls(W)

        def run(path):
            fd = os.open(path, CREAT, 0o644)
            os.write(fd, b"first ")
            room.fault({"status": 500}, kind="command")
            first = outcome(os.fsync, fd)
            os.write(fd, b"second")
            room.no_faults()
            second = outcome(os.fsync, fd)
            now = room_bytes(room, "f")
            return first, second, now, outcome(os.close, fd)

        first, second, now, closed = do(run, m(W, "f"), timeout=60)
        assert first in (errno.EIO, errno.ETIMEDOUT)
        assert (second, now, closed) == (None, b"first second", None)


def test_a_failure_in_one_file_is_not_told_to_another(room):
    put(room.workspace, "a", b"a")
    put(room.workspace, "b", b"b")
    with Mount(room, "timeout=2") as m:
        m.ls(W)
        room.fault({"status": 500}, kind="command", contains="workspace/a")
        assert do(save_and_report, m(W, "a"), b"new a", timeout=60)
        assert not do(save_and_report, m(W, "b"), b"new b", timeout=60)
        assert room_bytes(room, "b") == b"new b"
        room.no_faults()
        do(sync_again, m(W, "a"))
        assert room_bytes(room, "a") == b"new a"


def test_an_output_that_is_cut_or_noisy(any_room):
    """The answer of a save is framed like any other."""
    any_room.control(noise="motd: hello\n", noise_after="\nbye")
    put(any_room.workspace, "f", b"old")
    with Mount(any_room, "timeout=3") as m:
        do(save, m(W, "f"), NEW_SMALL)
        do(save, m(W, "g"), NEW_LARGE)
        do(os.rename, m(W, "g"), m(W, "h"))
    assert room_bytes(any_room, "f") == NEW_SMALL
    assert room_bytes(any_room, "h") == NEW_LARGE


def test_a_connection_limit_of_one(any_room):
    with Mount(any_room, "max_connections=1") as m:
        do(save, m(W, "g"), NEW_LARGE, timeout=60)
    assert room_bytes(any_room, "g") == NEW_LARGE


def test_a_rate_limit(room):
    room.control(rate_limit=20)
    with Mount(room) as m:
        do(save, m(W, "g"), noise(MIB), timeout=100)
    assert room_bytes(room, "g") == noise(MIB)


def test_a_command_killed_half_way(any_room):
    """The VM ends the command that commits: old or new, and said so."""
    put(any_room.workspace, "f", OLD_LARGE)
    with Mount(any_room, "timeout=3") as m:
        m.ls(W)
        any_room.control(command_timeout=0.01)
        got = do(save_and_report, m(W, "f"), NEW_LARGE,
                 os.O_WRONLY | os.O_TRUNC, timeout=100)
        any_room.control(command_timeout=0)
        now = room_bytes(any_room, "f")
        assert now == NEW_LARGE or got and now == OLD_LARGE, (got, len(now))
        do(sync_again, m(W, "f"), timeout=60)
        assert room_bytes(any_room, "f") == NEW_LARGE


# -- no space, no permission ------------------------------------------------------


def fill_up(room, leave):
    """A file that leaves so many bytes in /workspace."""
    st = os.statvfs(room.workspace)
    with open(host(room, "filler"), "wb") as f:
        f.write(bytes(max(0, st.f_bavail * st.f_frsize - leave)))


@pytest.mark.parametrize("busybox", [False, True], ids=["gnu", "busybox"])
@pytest.mark.parametrize("everything", [False, True],
                         ids=["workspace", "all"])
@pytest.mark.parametrize("size", quick_if(
    [100_000, 700_000, 3 * MIB], 100_000, 3 * MIB))
def test_a_full_disk(busybox, everything, size):
    """The old content stays, close() says ENOSPC, the data is kept here and
    goes through when there is space."""
    with TinyRoom("4m", everything, busybox=busybox) as room:
        old = noise(200_000, 9)
        put(room.workspace, "f", old)
        fill_up(room, 40_000)
        new = old + noise(size)
        with Mount(room, "timeout=5") as m:
            m.ls(W)
            got = do(save_and_report, m(W, "f"), new,
                     os.O_WRONLY | os.O_TRUNC, timeout=60)
            assert set(got.values()) == {errno.ENOSPC}, got
            assert room_bytes(room, "f") == old
            assert m.read(W, "f") == new
            assert not no_leftovers(room)
            os.unlink(host(room, "filler"))
            if size < 3 * MIB:
                do(sync_again, m(W, "f"), timeout=60)
                assert room_bytes(room, "f") == new
            else:
                do(save, m(W, "f"), b"small again")
        if size < 3 * MIB:
            assert room_bytes(room, "f") == new


@pytest.mark.parametrize("busybox", [False, True], ids=["gnu", "busybox"])
def test_a_full_disk_and_other_changes(busybox):
    with TinyRoom("1m", busybox=busybox) as room:
        old = noise(300_000, 9)
        put(room.workspace, "f", old)
        fill_up(room, 0)
        with Mount(room, "timeout=5") as m:
            m.ls(W)
            assert set(do(save_and_report, m(W, "new"), b"x" * 5000,
                          timeout=60).values()) == {errno.ENOSPC}
            got = do(save_and_report, m(W, "f"), noise(5000),
                     os.O_WRONLY | os.O_APPEND, timeout=60)
            assert set(got.values()) == {errno.ENOSPC}, got
            assert room_bytes(room, "f") == old
            # within what the file has, there is space
            got = do(parts_and_report, m(W, "f"),
                     [(1000, b"in place")], timeout=60)
            now = room_bytes(room, "f")
            assert now[:200_000] in (old[:200_000], patched(
                old, [(1000, b"in place")])[:200_000])
            # and there is a way out
            do(os.unlink, m(W, "filler"))
            do(sync_again, m(W, "f"), timeout=60)
        now = room_bytes(room, "f")
        assert now == patched(old + noise(5000), [(1000, b"in place")])


def test_no_inodes_left():
    with TinyRoom("4m", options=",nr_inodes=8") as room:
        put(room.workspace, "f", b"old")
        made = 0
        with Mount(room, "timeout=5") as m:
            got = [do(save_and_report, m(W, f"n{i}"), b"x") for i in range(9)]
            bad = [g for g in got if g]
            assert bad and all(
                set(g.values()) == {errno.ENOSPC} for g in bad), got
            made = [f"n{i}" for i, g in enumerate(got) if not g]
            assert [n for n in made if room_bytes(room, n) != b"x"] == []
            # nowhere to stage, but the target is there
            got = do(save_and_report, m(W, "f"), noise(3000),
                     os.O_WRONLY | os.O_TRUNC)
            now = room_bytes(room, "f")
            assert now == noise(3000) or got and now == b"old"
            for n in made:
                do(os.unlink, m(W, n))
            wait_until(lambda: not do(save_and_report, m(W, "f"),
                                      noise(3000)), 20, "a save")


def test_a_read_only_file_system():
    """EROFS, and nothing is tried again for ever."""
    import subprocess
    with TinyRoom("4m", everything=True) as room:
        put(room.workspace, "f", b"old")
        with Mount(room, "timeout=5") as m:
            m.ls(W)
            assert subprocess.run(
                ["mount", "-o", "remount,ro", os.path.dirname(
                    room.workspace)]).returncode == 0
            got = do(save_and_report, m(W, "new"), b"new", timeout=60)
            raises(errno.EROFS, os.mkdir, m(W, "d"))
            raises(errno.EROFS, os.unlink, m(W, "f"))
            assert set(got.values()) == {errno.EROFS}, got
            subprocess.run(["mount", "-o", "remount,rw",
                            os.path.dirname(room.workspace)], check=True)
            do(save, m(W, "f"), b"new")
        assert room_bytes(room, "f") == b"new"
