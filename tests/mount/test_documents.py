"""The documents say what is true of the program."""

import glob
import os
import re

import pytest

from mountlib import TOP

SRC = os.path.join(TOP, "src")
DOC = os.path.join(TOP, "contrib", "doc")
PAGES = sorted(n for n in os.listdir(DOC) if n.endswith(".md"))


def text_of(*parts):
    with open(os.path.join(TOP, *parts), encoding="utf-8") as f:
        return f.read()


def messages():
    """All string literals of the program, those that touch joined."""
    found = []
    for name in sorted(glob.glob(SRC + "/**/*.[ch]", recursive=True)):
        source = re.sub(r"/\*.*?\*/", "", text_of(name), flags=re.S)
        # A macro in between, such as a path's, is part of it.
        for name, value in re.findall(r'#define\s+(\w+)\s+("[^"\n]*")',
                                      source):
            source = re.sub(rf'(?<=[\s"]){name}(?=[\s,"])', value, source)
        source = re.sub(r'"\s+"', "", source.replace('\\"', "''"))
        found += re.findall(r'"([^"\n]*)"', source)
    return "\n".join(found).replace("''", '"').replace("%%", "%")


def quoted():
    """Messages in troubleshooting.md: those in headings, and what else has an
    ellipsis in it."""
    page = text_of("contrib", "doc", "troubleshooting.md")
    page = re.sub(r"^    .*$", "", page, flags=re.M)
    heads = re.findall(r"^### `([^`]+)`$", page, re.M)
    body = [" ".join(m.split()) for m in re.findall(r"`([^`]+)`", page)
            if "…" in m or "room has" in m]
    return sorted(set(heads + body))


@pytest.mark.parametrize("message", quoted())
def test_every_message_in_troubleshooting_is_the_program_s(message):
    """Piece by piece, without names and numbers."""
    if message.startswith(("fusermount3: ", "nohup ", "PRUNEFS")):
        return
    known = messages()
    pieces = [p.strip() for p in re.split(
        r"…|%\w", message.removeprefix("gentilityfs: "))]
    pieces = [p for p in pieces if len(p) > 3]
    assert pieces, message
    for piece in pieces:
        assert piece in known, piece


def test_there_are_messages():
    assert len(quoted()) > 25


def links(page):
    return re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in links(text_of("contrib", "doc", page)):
        if "://" not in link:
            assert os.path.exists(os.path.join(DOC, link)), link


def test_the_readme_s_links_lead_somewhere():
    found = links(text_of("README.md"))
    for link in found:
        if "://" not in link:
            assert os.path.exists(os.path.join(TOP, link)), link
    for page in PAGES:
        assert f"contrib/doc/{page}" in found, page


def test_options_in_the_documents_exist():
    """Each -o that a page names."""
    known = set(re.findall(r'\{"(\w+)", KIND_', "".join(
        text_of(top, n) for top, _, names in os.walk(SRC) for n in names
        if n.endswith(".c"))))
    for page in PAGES + ["../../README.md"]:
        text = text_of("contrib", "doc", page)
        for name in re.findall(r"-o (\w+)", text):
            assert name in known, (page, name)


def test_the_picture_is_svg():
    """Well-formed, with a title for those who cannot see it."""
    import xml.etree.ElementTree as tree
    root = tree.fromstring(text_of("contrib", "doc", "data-way.svg"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{http://www.w3.org/2000/svg}title").text
