"""What each ordinary action may cost in requests: cold, warm, and stale."""

import os
import random
import shutil
import threading

import pytest

from mountlib import MIB, SANITIZED, Mount, do, pattern, put, read_file, sh
from test_counts import total

TRUST = 25  # cache_timeout: cold and warm must be over before it ends


def make_tree(top):
    """500 directories with 10,000 files."""
    for i in range(20):
        for j in range(25):
            d = f"{top}/tree/d{i:02d}/e{j:02d}"
            os.makedirs(d)
            for k in range(20):
                with open(f"{d}/f{k}", "wb") as f:
                    f.write(b"x" * k)


def make_sources(top):
    """2,000 files in 100 directories, 8 MiB."""
    line = b"static int counter_of_things = 12345; /* some text */\n"
    for i in range(100):
        d = f"{top}/src/m{i // 10}/n{i % 10}"
        os.makedirs(d)
        for k in range(20):
            with open(f"{d}/file{k}.c", "wb") as f:
                f.write((line * 80)[:4194] + b"%d %d\n" % (i, k))


def make_repository(top):
    """A clean repository of 500 files, whose index was made there."""
    repo = f"{top}/repo"
    for i in range(25):
        os.makedirs(f"{repo}/s{i}")
        for k in range(20):
            put(repo, f"s{i}/f{k}", b"%d %d\n" % (i, k) * 50)
    sh('cd "$R" && git init -q . && git add . && '
       "git -c user.name=n -c user.email=e commit -qm first", R=repo)


def make_large(top):
    put(top, "deep/a/b/c/d/e/file", b"deep" * 1024)
    with open(f"{top}/huge", "wb") as f:
        f.truncate(1 << 30)
        f.seek(-4096, os.SEEK_END)
        f.write(b"t" * 4096)
    with open(f"{top}/random", "wb") as f:
        for i in range(256):
            f.write(pattern(MIB, seed=i))
    os.mkdir(f"{top}/many")
    for i in range(1000):
        put(top, f"many/entry {i}", b"x" * (i % 50))


def read_at_random(path, seed):
    """200 reads of 4 KiB; what was wrong."""
    places = random.Random(seed)
    wrong = 0
    fd = os.open(path, os.O_RDONLY)
    for _ in range(200):
        at = places.randrange(256 * 256)
        part = pattern(MIB, seed=at // 256)[at % 256 * 4096:][:4096]
        wrong += os.pread(fd, 4096, at * 4096) != part
    os.close(fd)
    return wrong


# name, requests cold, how, what it prints
ACTIONS = [
    ("ls -l", 1, "ls -l many | wc -l", "1001\n"),
    ("deep", 3, "cat deep/a/b/c/d/e/file | wc -c", "4096\n"),
    ("ls -lR", 6, "ls -lR tree | grep -c '^-'", "10000\n"),
    ("grep -r", 12, "grep -rl counter src | wc -l", "2000\n"),
    ("git status", 12, "git -C repo status --porcelain", ""),
    ("tail", 2, "tail -c 4096 huge | tr -d '\\n' | wc -c", "4096\n"),
]
# Instead of ls -lR, which leaves nothing cold.
WALKS = [
    ("find", 6, "find tree -type f | wc -l", "10000\n"),
    ("du", 6, "du -s --apparent-size tree | wc -l", "1\n"),
]


@pytest.fixture
def full_room(any_room):
    for make in (make_tree, make_sources, make_repository, make_large):
        make(any_room.workspace)
    return any_room


def cost(m, script, want):
    """What a script's requests were, once its output is as wanted."""
    m.forget()
    done = m.sh(script, GIT_OPTIONAL_LOCKS="0")
    assert done.text == want, (script, done)
    return total(m.count())


def test_budgets(full_room):
    with Mount(full_room, f"cache_timeout={TRUST}", path="/workspace") as m:
        m.ls()
        spent = {}
        for name, limit, script, want in ACTIONS:
            spent[name, "cold"] = cost(m, script, want), limit
            spent[name, "warm"] = cost(m, script, want), 0
        for name, limit, script, want in WALKS:
            spent[name, "warm"] = cost(m, script, want), 0
        m.forget()
        assert do(read_at_random, m("random"), 1) == 0
        spent["random", "cold"] = total(m.count()), 200
        m.forget()
        assert do(read_at_random, m("random"), 1) == 0
        spent["random", "warm"] = total(m.count()), 0
        for _ in range(2):
            full_room.run(f"sleep {TRUST / 2 + 0.1}")
        for name, _, script, want in ACTIONS + WALKS:
            spent[name, "stale"] = cost(m, script, want), 2
        m.forget()
        assert do(read_at_random, m("random"), 1) == 0
        spent["random", "stale"] = total(m.count()), 2
    print(spent)
    over = {k: v for k, v in spent.items() if v[0] > v[1]}
    assert not over, (over, spent)


@pytest.mark.parametrize("name,limit,script,want", WALKS)
def test_other_walks(any_room, name, limit, script, want):
    make_tree(any_room.workspace)
    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.ls()
        assert cost(m, script, want) <= limit


@pytest.mark.parametrize("index", range(len(ACTIONS)))
def test_budgets_after_a_while(any_room, index):
    """Each alone, so that what one checks does not spare the next."""
    name, _, script, want = ACTIONS[index]
    make = {"ls -lR": make_tree, "grep -r": make_sources,
            "git status": make_repository}.get(name, make_large)
    make(any_room.workspace)
    # All of it has to be over before the trust ends.
    with Mount(any_room, "cache_timeout=12", path="/workspace") as m:
        m.sh(script, GIT_OPTIONAL_LOCKS="0")
        any_room.run("sleep 12.1")
        assert cost(m, script, want) <= 2


def test_a_walk_from_the_root_never_fetches_what_is_no_disk(any_room):
    """/proc, /sys and /dev come when somebody looks there."""
    prune = " ".join(f"-path ./{d} -prune -o" for d in ("proc", "sys", "dev"))
    with Mount(any_room, "cache_timeout=60") as m:
        assert int(m.sh(f"find . -maxdepth 3 {prune} -print | wc -l",
                        timeout=100).text) > 20
        for name in ("proc", "sys", "dev"):
            m.forget()
            assert m.ls(name)
            assert total(m.count()) == 1, name
        assert SANITIZED or m.peak_memory() < 128 * MIB


def test_a_remount_reads_from_the_disk_cache(any_room, tmp_path):
    make_sources(any_room.workspace)
    for limit in (12, 6):
        with Mount(any_room, "cache_timeout=60", path="/workspace",
                   cache=str(tmp_path / "cache")) as m:
            m.ls()
            assert cost(m, "grep -rl counter src | wc -l", "2000\n") <= limit


def test_probes_for_absent_names_are_free(any_room):
    make_repository(any_room.workspace)
    shutil.rmtree(any_room.workspace + "/repo/.git")
    with Mount(any_room, "cache_timeout=60") as m:
        m.sh("ls -R workspace >/dev/null; ls / >/dev/null")
        m.forget()
        m.sh("""for d in workspace/repo/s1 workspace/repo workspace .; do
            for n in .git .hg .svn .bzr node_modules .DS_Store .Trash \
                     .Trash-1000 autorun.inf package.json .editorconfig; do
                [ ! -e $d/$n ] || exit 1
            done; done; cd workspace/repo/s1
            git rev-parse --git-dir 2>/dev/null || :""")
        assert total(m.count()) == 0


@pytest.mark.parametrize("threads", [2, 8])
def test_parallel_readers_from_the_last_name_to_the_first(any_room, threads):
    """As ripgrep goes: each thread takes directories off a stack."""
    for i in range(30):
        for k in range(10):
            put(any_room.workspace, f"p/d{i:02d}/f{k}", b"%d" % (i * k))

    def search(top):
        stack = []
        lock = threading.Lock()
        for name in sorted(os.listdir(top)):
            names = os.listdir(os.path.join(top, name))
            stack += [(name, file) for file in sorted(names)]
        wrong = []

        def read():
            while True:
                with lock:
                    if not stack:
                        return
                    name, file = stack.pop()
                data = read_file(os.path.join(top, name, file))
                if data != b"%d" % (int(name[1:]) * int(file[1:])):
                    wrong.append((name, file, data))

        readers = [threading.Thread(target=read) for _ in range(threads)]
        for r in readers:
            r.start()
        for r in readers:
            r.join()
        return wrong

    with Mount(any_room, "cache_timeout=60", path="/workspace") as m:
        m.forget()
        any_room.control(latency_ms=20)
        assert do(search, m("p")) == []
        any_room.control(latency_ms=0)
        assert total(m.count()) <= 12
