"""SEMANTICS.md and the tests belong together."""

import ast
import os
import re

from mountlib import HERE, TOP

NUMBER = re.compile(r"\b[ACEFGLRSUW]\d+\b")


def promised():
    with open(os.path.join(TOP, "SEMANTICS.md")) as f:
        return re.findall(r"^- \*\*([A-Z]\d+)\*\* ", f.read(), re.M)


def named():
    """Number -> the tests whose docstrings name it."""
    found = {}
    for name in sorted(os.listdir(HERE)):
        if not re.fullmatch(r"test_\w+\.py", name):
            continue
        with open(os.path.join(HERE, name)) as f:
            module = ast.parse(f.read())
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and \
                    node.name.startswith("test_"):
                for number in NUMBER.findall(ast.get_docstring(node) or ""):
                    found.setdefault(number, []).append(node.name)
    return found


def test_numbers_are_in_order():
    """Each letter counts up, each number once.  A gap is a promise that was
    withdrawn: numbers stay what they are."""
    seen = {}
    for number in promised():
        letter, count = number[0], int(number[1:])
        assert count > seen.get(letter, 0), number
        seen[letter] = count
    assert seen


def test_every_promise_is_named_by_a_test():
    """Of those that are made."""
    proved = named()
    missing = [n for n in promised() if n not in proved]
    assert not missing, f"no test names {missing}"


def test_every_number_a_test_names_is_promised():
    """And the other way."""
    made = set(promised())
    unknown = {n: t for n, t in named().items() if n not in made}
    assert not unknown, unknown
