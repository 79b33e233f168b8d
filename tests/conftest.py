"""For all tests that pytest runs."""

import hashlib


def stays_with(item):
    """The file, if the tests in it share a fixture; else the test itself."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    shared = any(f[-1].scope == "module" for f in fixtures)
    return item.nodeid.split("::")[0] if shared else item.nodeid


def pytest_collection_modifyitems(config, items):
    """Tests of one file often take long, all of them.  When some workers share
    the tests, mix these, so that the workers come to their ends together."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: hashlib.md5(
            stays_with(item).encode()).digest())
