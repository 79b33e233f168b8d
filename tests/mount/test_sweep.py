"""The fault sweep: of each action each request fails in turn with each fault.
What the user's program got is a table in the build tree."""

import errno
import glob
import itertools
import os
import shutil
import signal

import pytest

import actions
from mountlib import (
    BUILD, DEADLINE, Call, Mount, do, settle, wait_until,
)

LONG = bool(os.environ.get("CHECK_LONG"))

FAULTS = {
    "429": {"status": 429}, "429, Retry-After": {"status": 429,
                                                 "retry_after": 1},
    "500": {"status": 500}, "502, HTML": {"status": 502, "html": True},
    "503": {"status": 503}, "503, Retry-After": {"status": 503,
                                                 "retry_after": 1},
    "503 after running": {"status": 503, "run": True},
    "504, HTML": {"status": 504, "html": True}, "401": {"status": 401},
    "reset before": {"reset": "before"}, "reset inside": {"reset": "middle"},
    "closed": {"close": True}, "cut JSON": {"json": "cut"},
    "malformed JSON": {"json": "malformed"},
    "wrong types": {"json": "wrong_types"},
    "missing fields": {"json": "missing_fields"},
    "empty body": {"body_base64": ""}, "HTML, 200": {"status": 200,
                                                     "html": True},
    "answer lost": {"lost": True}, "answer lost, reset": {"lost": "reset"},
    "hang": {"hang": -1}, "lost, hang": {"lost_hang": True},
}
QUICK = ["429", "502, HTML", "reset inside", "answer lost", "hang"]
if not LONG:
    FAULTS = {name: FAULTS[name] for name in QUICK}

MOST = 12 if LONG else 4  # requests of one action, each of which fails in turn


def known(fault, room):
    """Does this local room have the fault?"""
    try:
        room.control(faults=[{"match": {"nth": 1}, "fault": fault}])
        room.no_faults()
        return True
    except Exception:
        return False


def attempt(run, directory):
    try:
        return run(directory), 0
    except OSError as e:
        return None, e.errno


def trial(room, m, name, fault, nth, tries=3):
    """One action with the nth request failing: what came of it, or None when
    there is no such request."""
    run, right = actions.ACTIONS[name]
    place = "trial-%d" % next(NUMBERS)
    there = os.path.join(room.workspace, place)
    actions.fill(there)
    arrived = room.state()["arrived"]
    m.process.send_signal(signal.SIGHUP)  # here is a new directory
    wait_until(lambda: room.state()["arrived"] > arrived, DEADLINE, "a check")
    settle(room)
    room.control(faults=[{"match": {"nth": nth}, "fault": fault}])
    value, error = do(attempt, run, m("workspace", place), timeout=30)
    fired = any(r["fired"] for r in room.state()["faults"])
    room.no_faults()
    settle(room)
    whole = right(there, value)
    shutil.rmtree(there)
    if not whole:
        return "wrong"
    if not fired and error == errno.ETIMEDOUT and tries > 0:
        # A second is little for a machine that does much else, or while the
        # requests go slowly after the trial before.
        return trial(room, m, name, fault, nth, tries - 1)
    if not fired:
        return "wrong" if error else None
    if error:
        return errno.errorcode[error]
    return "right" if value not in ("unknown", "not run") else value


def interrupted(room, fault):
    """A command may take as long as it likes; the user may not want to."""
    run, right = actions.ACTIONS[".exec"]
    there = os.path.join(room.workspace, "trial-%d" % next(NUMBERS))
    actions.fill(there)
    with Mount(room, "timeout=1") as m:
        here = m("workspace", os.path.basename(there))
        do(os.listdir, here)
        settle(room)
        room.control(faults=[{"match": {"contains": "echo x"},
                              "fault": fault}])
        call = Call(attempt, run, here)
        wait_until(lambda: room.state()["inflight"] > 0, DEADLINE)
        call.signal(signal.SIGINT)
        try:
            value = call.result(10)[0]
        except KeyboardInterrupt:
            value = "unknown"
        room.no_faults()
    return "waits until Ctrl-C" if right(there, value) else "wrong"


def table(rows, faults):
    lines = ["# What programs get when a request fails", "",
             "Each request of the action fails in turn with the fault; then "
             "the service is well again.", "",
             "| action | " + " | ".join(faults) + " |",
             "|---" * (len(faults) + 1) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def keep(group, text):
    """Our part of the table, and the whole of it as far as it is there."""
    with open(os.path.join(BUILD, f"fault-sweep-{group + 1}.part"), "w") as f:
        f.write(text)
    lines = text.splitlines()[:6]
    for path in sorted(glob.glob(os.path.join(BUILD, "fault-sweep-*.part"))):
        with open(path) as f:
            part = f.read().splitlines()
        if part[4] == lines[4]:
            lines += part[6:]
    # At one go: another process may be doing the same.
    whole = os.path.join(BUILD, "fault-sweep.md")
    with open(f"{whole}.{os.getpid()}", "w") as f:
        f.write("\n".join(lines) + "\n")
    os.replace(f"{whole}.{os.getpid()}", whole)


GROUPS = 6
NUMBERS = itertools.count()


@pytest.mark.parametrize("group", range(GROUPS))
def test_the_fault_sweep(room, group):
    """F1, F2, W2, W3, E4: no cell is empty, and none is wrong."""
    names = list(actions.ACTIONS)[group::GROUPS]
    faults = {k: v for k, v in FAULTS.items() if known(v, room)}
    assert len(faults) == len(FAULTS), set(FAULTS) - set(faults)
    rows = {}
    with Mount(room, "timeout=1", "cache_timeout=60") as m:
        m.ls("workspace")
        for name in names:
            rows[name] = []
            for fault in faults.values():
                got = []
                if name == ".exec" and ("hang" in fault or
                                        "lost_hang" in fault):
                    rows[name].append(interrupted(room, fault))
                    continue
                for nth in range(1, MOST + 1):
                    came = trial(room, m, name, fault, nth)
                    if came is None:
                        break
                    got.append(came)
                rows[name].append(not got and "no request" or ", ".join(
                    f"{x} ×{got.count(x)}" if got.count(x) > 1 else x
                    for x in dict.fromkeys(got)))
    text = table(rows, faults)
    keep(group, text)
    cells = [c for row in rows.values() for c in row]
    assert all(cells), text
    assert not any("wrong" in c for c in cells), text
