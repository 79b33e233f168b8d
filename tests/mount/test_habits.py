"""What editors, file managers, indexers and prompts do to a mount by
themselves, and what it costs in requests (contrib/doc/how-it-works.md).

Their access patterns are those seen with strace, or read in their sources.
Numbers are "at most".
"""

import os
import shutil
import stat
import time

import pytest

from helpers_write import noise, text
from mountlib import Call, Mount, Room, do, put, read_file, sh

DIRS, FILES = 20, 10

# What is looked for in a directory and in each above it.
PROBES = (
    # version control: prompts, editors, git itself
    ".git .hg .svn .bzr CVS _darcs .jj .fslckout _FOSSIL_ "
    # file managers, desktops, other systems
    ".DS_Store ._. .Trash .Trash-1000 .Trashes .hidden .directory autorun.inf "
    ".autorun autorun desktop.ini Thumbs.db .Spotlight-V100 .fseventsd "
    # editors and language servers
    ".editorconfig .vscode .idea .project package.json tsconfig.json "
    "node_modules Cargo.toml go.mod pyproject.toml .clang-format .envrc "
    ".nvmrc .tool-versions .python-version "
    # searchers and indexers
    ".ignore .rgignore .trackerignore .nomedia"
).split()


def need(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"no {program}")


@pytest.fixture(scope="module")
def habits_room():
    """A project under git, and pictures; no test changes what another
    counts."""
    with Room() as room:
        top = room.workspace
        for i in range(DIRS):
            for j in range(FILES):
                put(top, f"p/src/m{i:02d}/f{j}.c", text(900 + i * j, i + j))
        put(top, "p/README", text(3000))
        put(top, "p/.gitignore", "*.o\n")
        for i in range(8):
            put(top, f"pictures/{i}.jpg",
                b"\xff\xd8\xff\xe0" + noise(100_000, i))
        if shutil.which("git"):
            sh(GIT + 'cd "$1" && git init -q -b main . && git add -A && '
               "git commit -qm all && git gc -q", top + "/p")
        yield room


GIT = """export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=1 \
    GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
    GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a \
    GIT_COMMITTER_EMAIL=a@b
"""


@pytest.fixture
def hm(habits_room):
    """Trust for longer than a loaded machine takes."""
    with Mount(habits_room, "cache_timeout=120", path="/workspace") as mount:
        yield mount


def cost(m, what, *args, **kwargs):
    """How many requests it takes."""
    m.forget()
    what(*args, **kwargs)
    return m.count()["total"]


# --- probes --------------------------------------------------------------------


def probe_up(path, names=PROBES):
    """In a directory and all above it, up to the mount's root."""
    while True:
        for name in names:
            assert name in (".git", ".vscode") or not os.path.lexists(
                os.path.join(path, name))
        if os.path.ismount(path):
            return
        path = os.path.dirname(path)


def test_probes_in_known_directories_cost_nothing(hm):
    """A4: for .git, .DS_Store, autorun.inf and their like, up the tree."""
    hm.ls("p/src/m03")
    assert cost(hm, do, probe_up, hm("p/src/m03")) == 0
    assert cost(hm, do, probe_up, hm("p/src/m03")) == 0


def test_probes_in_an_unknown_directory_cost_one_listing(habits_room):
    """A4: whatever is looked for, and up to the room's own root."""
    with Mount(habits_room, "cache_timeout=120") as m:
        assert cost(m, do, probe_up, m("workspace/p/src/m05")) <= 2
        assert cost(m, do, probe_up, m("workspace/p/src/m06")) == 0


def test_probes_again_and_again_cost_one_request_a_timeout(habits_room):
    """A5: a prompt or a file manager that looks twenty times a second."""
    seconds = 2.5

    def keep_looking(path):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            probe_up(path)
        return time.monotonic()

    with Mount(habits_room, "cache_timeout=1", path="/workspace") as m:
        m.ls("p/src/m03")
        m.forget()
        began = time.monotonic()
        ended = do(keep_looking, m("p/src/m03"))
        assert m.count()["total"] <= (ended - began) + 2


# --- git prompts ---------------------------------------------------------------

PROMPT = GIT + """cd p/src/m04
    git rev-parse --is-inside-work-tree --git-dir --show-toplevel >/dev/null
    git symbolic-ref HEAD >/dev/null
    git rev-parse --verify -q refs/stash >/dev/null
    git diff --no-ext-diff --quiet; git diff --cached --quiet
    git status --porcelain -z >/dev/null
    git rev-list --count --left-right @{upstream}...HEAD 2>/dev/null; true"""


@need("git")
def test_a_git_prompt(hm):
    """Cold: files of .git, and once the contents, since a fresh mount's inode
    data are not those of the index; then nothing."""
    assert cost(hm, hm.sh, PROMPT, timeout=60) <= 20
    hm.sh(PROMPT)
    assert cost(hm, hm.sh, "export GIT_OPTIONAL_LOCKS=0\n" + PROMPT) == 0


@need("zsh")
@need("git")
def test_zsh_vcs_info(hm):
    script = GIT + """cd p/src/m04; zsh -fc 'autoload -Uz vcs_info
        zstyle ":vcs_info:*" check-for-changes true
        vcs_info; print -r -- $vcs_info_msg_0_'"""
    hm.sh(PROMPT)
    first = hm.sh(script)
    assert "main" in first.text
    assert cost(hm, hm.sh, script) == 0


def test_a_prompt_outside_of_git(hm):
    """Looks for .git and .hg in each directory up to the mount's."""
    hm.ls("pictures")
    assert cost(hm, do, probe_up, hm("pictures"), (".git", "HEAD", ".hg")) == 0


# --- VS Code -------------------------------------------------------------------


def walk(top):
    """As watchers do to know what to watch: names, then kinds."""
    count, todo = 0, [top]
    while todo:
        path = todo.pop(0)
        for name in os.listdir(path):
            count += 1
            full = os.path.join(path, name)
            if stat.S_ISDIR(os.lstat(full).st_mode):
                todo.append(full)
    return count


def test_a_watcher_walks_the_project(hm):
    """A11: VS Code's and JetBrains' put an inotify watch on each directory;
    the watch itself costs nothing."""
    hm.forget()
    assert do(walk, hm("p")) > DIRS * FILES
    assert hm.count()["total"] <= 6
    assert cost(hm, do, walk, hm("p")) == 0


def read_all(paths):
    return [len(read_file(p)) for p in paths]


def sources(m):
    return [[m(f"p/src/m{i:02d}/f{j}.c") for j in range(FILES)]
            for i in range(DIRS)]


def test_a_search_by_one_thread(hm):
    """R6: grep -r, Tracker, a compiler: one after another."""
    hm.sh("find p >/dev/null")
    paths = [p for row in sources(hm) for p in row]
    assert cost(hm, do, read_all, paths) <= 12
    assert cost(hm, do, read_all, paths) == 0


def test_a_search_by_several_threads(hm):
    """Each in directories of its own, as ripgrep's are, which VS Code searches
    with."""
    hm.sh("find p >/dev/null")
    rows = sources(hm)
    hm.forget()
    calls = [Call(read_all, [p for row in rows[i::4] for p in row])
             for i in range(4)]
    for call in calls:
        assert len(call.result(60)) == DIRS * FILES // 4
    assert hm.count()["total"] <= 40
    assert cost(hm, do, read_all, [p for row in rows for p in row]) == 0


def test_polling_watchers_cost_one_request_a_timeout(habits_room):
    """A10: each file's stat twenty times a second, as chokidar and others do
    where there is no inotify."""
    seconds = 2.5

    def poll(paths):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for path in paths:
                os.stat(path)
        return time.monotonic()

    with Mount(habits_room, "cache_timeout=1", path="/workspace") as m:
        m.sh("find p/src >/dev/null")
        m.forget()
        began = time.monotonic()
        ended = do(poll, [p for row in sources(m) for p in row], timeout=60)
        assert m.count()["total"] <= 2 * (ended - began) + 4


# --- saves ---------------------------------------------------------------------


def write(path, data, flags=os.O_CREAT | os.O_TRUNC, mode=0o666, sync=False):
    fd = os.open(path, os.O_WRONLY | flags, mode)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)


def vscode(path, data):
    os.stat(path)
    write(path, data, sync=True)
    os.stat(path)


def emacs(path, data):
    """Lock, auto-save, backup by renaming, save, unlock."""
    folder, name = os.path.split(path)
    lock, auto = f"{folder}/.#{name}", f"{folder}/#{name}#"
    os.symlink("anna@host.4711:1", lock)
    write(auto, data, sync=True)
    os.rename(path, path + "~")
    write(path, data, sync=True)
    os.chmod(path, 0o644)
    os.stat(path)
    os.unlink(auto)
    os.unlink(lock)


def jetbrains(path, data):
    """"Safe write": a new file, and two renames."""
    write(path + "___jb_tmp___", data)
    os.rename(path, path + "___jb_old___")
    os.rename(path + "___jb_tmp___", path)
    os.chmod(path, 0o644)
    os.unlink(path + "___jb_old___")


def gnome(path, data):
    """GLib's g_file_replace(): gedit, Text Editor, and many more."""
    new = os.path.join(os.path.dirname(path), ".goutputstream-1A2B3C")
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    os.fchmod(fd, 0o644)
    os.fsync(fd)
    os.close(fd)
    os.rename(new, path)


# chmod is done in the room also when it seems to change nothing (W11).
SAVES = [(write, 1), (vscode, 1), (gnome, 2), (jetbrains, 5), (emacs, 7)]


@pytest.mark.parametrize("editor,limit", SAVES,
                         ids=[row[0].__name__ for row in SAVES])
def test_a_save(editor, limit, habits_room):
    """W9; what was saved is not fetched again, renamed or not."""
    name = f"saved/{editor.__name__}.txt"
    put(habits_room.workspace, name, text(3000))
    with Mount(habits_room, "cache_timeout=120", path="/workspace") as m:
        assert len(m.read(name)) == 3000
        assert cost(m, do, editor, m(name), text(4000, 7)) <= limit
        assert cost(m, do, read_file, m(name)) == 0
    assert read_file(os.path.join(habits_room.workspace, name)) == \
        text(4000, 7)


@need("git")
def test_git_commit(habits_room):
    """Objects, the index, a log, a reference: each made beside and renamed."""
    shutil.copytree(habits_room.workspace + "/p",
                    habits_room.workspace + "/committed", symlinks=True)
    with Mount(habits_room, "cache_timeout=120", path="/workspace") as m:
        m.sh(GIT + "cd committed && git status >/dev/null")
        n = cost(m, m.sh, GIT + "cd committed && echo more >>README && "
                 "git commit -qam more", timeout=60)
        assert n <= 45, n
        assert "more" in m.sh(GIT + "cd committed; git log --oneline").text


# --- file managers ---------------------------------------------------------------


def show_folder(path, head=4096):
    """As Nautilus or Dolphin: list, stat, free space, look into the files
    whose names do not tell what they are."""
    os.statvfs(path)
    for name in sorted(os.listdir(path)):
        full = os.path.join(path, name)
        assert stat.S_ISREG(os.lstat(full).st_mode)
        with open(full, "rb", buffering=0) as f:
            f.read(head)


def test_a_file_manager_shows_pictures(hm):
    """Types by content and thumbnails: one request a picture, once."""
    assert cost(hm, do, show_folder, hm("pictures")) <= 8 + 2
    pictures = [hm("pictures", n) for n in hm.ls("pictures")]
    assert cost(hm, do, read_all, pictures) == 0
    assert cost(hm, do, show_folder, hm("pictures")) == 0


def test_a_file_manager_of_a_folder_that_changes(habits_room):
    """Refreshes twice a second what inotify told it to, with the trash."""
    def refresh(path):
        end = time.monotonic() + 2
        while time.monotonic() < end:
            os.statvfs(path)
            probe_up(path, [".Trash", ".Trash-1000", ".hidden"])
            for name in os.listdir(path):
                os.lstat(os.path.join(path, name))
        return time.monotonic()

    with Mount(habits_room, "cache_timeout=1", path="/workspace") as m:
        m.ls("pictures")
        m.forget()
        began = time.monotonic()
        ended = do(refresh, m("pictures"))
        assert m.count()["total"] <= 2 * (ended - began) + 3


# --- indexers --------------------------------------------------------------------


def test_updatedb_and_find(hm):
    """A11: the whole tree, names and kinds, with one thread."""
    hm.forget()
    if shutil.which("updatedb.plocate"):
        hm.sh('updatedb.plocate --prunefs "" --prunepaths "" '
              '--prune-bind-mounts no -l no -U "$M/p" -o "$1"',
              os.path.join(hm.top, "db"))
    else:
        hm.sh("find p -printf %y%p%T@ >/dev/null")
    assert hm.count()["total"] <= 6


def test_an_indexer_reads_all_of_it(hm):
    """Tracker, Baloo, JetBrains' first indexing."""
    hm.forget()
    assert do(lambda: len([read_file(os.path.join(where, name))
                           for where, _, names in os.walk(hm("p/src"))
                           for name in names])) == DIRS * FILES
    assert hm.count()["total"] <= 16


def test_one_directory_after_a_walk(habits_room):
    """A10: what a walk left behind is checked along, in few requests."""
    with Mount(habits_room, "cache_timeout=1", path="/workspace") as m:
        m.sh("find . >/dev/null")
        habits_room.run("sleep 1.1")
        assert cost(m, m.ls, "p/src/m01", timeout=60) <= 6
