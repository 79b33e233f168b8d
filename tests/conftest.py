"""For all tests that pytest runs."""

import hashlib
import os
import time

import pytest

BEGAN = time.monotonic()
# Seconds after which no further test begins; 0: as long as it takes.
BUDGET = float(os.environ.get("GENTILITYFS_TEST_BUDGET") or 0)
ORDER = os.environ.get("GENTILITYFS_TEST_ORDER") or ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if BUDGET and time.monotonic() > BEGAN + BUDGET:
        pytest.skip("no time left for it")



def stays_with(item):
    """The file, if the tests in it share a fixture; else the test itself."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    shared = any(f[-1].scope == "module" for f in fixtures)
    return item.nodeid.split("::")[0] if shared else item.nodeid


def pytest_collection_modifyitems(config, items):
    """Tests of one file often take long, all of them.  When some workers share
    the tests, mix these, so that the workers come to their ends together, and
    no part of them is always last."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: hashlib.md5(
            (ORDER + stays_with(item)).encode()).digest())
