"""Whole programs on the mount: git, tar, rsync, make, sqlite and friends."""

import os
import random
import shutil
import sqlite3
import stat

import pytest

from helpers_write import (  # noqa: F401 (any_room, both_*: fixtures)
    W, any_room, assert_same_tree, both_m, both_rooms, differences, host,
    image, no_leftovers, noise, quick_if, room_bytes, text,
)
from mountlib import Call, Mount, Result, do, put, read_file, sh

LONG = 120


def need(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return pytest.mark.skipif(bool(missing), reason=f"no {missing} here")


def small_tree(top):
    """Files of some sizes and modes, links, an odd name, old times."""
    os.umask(0o022)
    r = random.Random(5)
    for i in range(12):
        put(top, f"d{i % 3}/f{i}", r.randbytes(r.choice([0, 10, 3000, 9000])))
    put(top, "run.sh", b"#!/bin/sh\necho hi\n", 0o755)
    put(top, "secret", b"x", 0o600)
    put(top, "odd \n'name\"", b"odd")
    put(top, "big", noise(200_000))
    put(top, "zeros", bytes(100_000))
    os.link(top + "/secret", top + "/d0/linked")
    os.symlink("../run.sh", top + "/d1/link")
    os.symlink("nowhere", top + "/dangling")
    os.mkdir(top + "/empty", 0o750)
    for where, dirs, files in os.walk(top, topdown=False):
        for n in files:
            os.utime(where + "/" + n, (10**9, 10**9 + len(n)),
                     follow_symlinks=False)
        os.utime(where, (10**9, 10**9))
    return top


@pytest.fixture
def source(tmp_path):
    path = small_tree(str(tmp_path / "source"))
    sh('chown -R -h "$1" "$2"', f"{os.getuid()}:{os.getgid()}", path)
    return path


def same(a, b, times=True):
    rows = differences(image(a, times=times), image(b, times=times))
    assert not rows, rows[:10]


def exact_times(room):
    return not room.busybox  # whose touch knows whole seconds only


@need("tar")
@pytest.mark.parametrize("how", quick_if(["", "z"], "z"))
def test_tar_in_and_out(any_m, source, how):
    any_m.sh(f'tar c{how}f t.tar -C "$1" . && rm t.tar', source, ok=False)
    sh(f'tar c{how}f "$2" -C "$1" .', source, source + ".tar")
    any_m.sh(f'mkdir workspace/t && tar x{how}f "$1" -C workspace/t',
             source + ".tar", timeout=LONG)
    same(source, host(any_m.room, "t"))
    assert_same_tree(any_m, "t")
    any_m.sh(f'tar c{how}f workspace/out.tar -C workspace/t .', timeout=LONG)
    sh(f'mkdir "$1" && tar x{how}f "$2" -C "$1"', source + ".back",
       host(any_m.room, "out.tar"))
    same(source, source + ".back")
    assert not no_leftovers(any_m.room)


@need("unzip", "zip")
def test_unzip(any_m, source):
    os.unlink(source + "/odd \n'name\"")
    sh('cd "$1" && zip -qry "$1.zip" .', source)
    any_m.sh('mkdir workspace/z && unzip -q "$1" -d workspace/z',
             source + ".zip", timeout=LONG)
    sh('mkdir "$2" && unzip -q "$1" -d "$2"', source + ".zip", source + ".un")
    same(source + ".un", host(any_m.room, "z"))


def test_cp_a(any_m, source):
    any_m.sh('cp -a "$1" workspace/c', source, timeout=LONG)
    a, b = image(source), image(host(any_m.room, "c"))
    if not exact_times(any_m.room):
        a, b = (image(t, times=False) for t in (
            source, host(any_m.room, "c")))
    assert not differences(a, b)
    any_m.sh('cp -a workspace/c workspace/c2; cp -a workspace/c "$1"',
             source + ".out", timeout=LONG)
    same(source, source + ".out", exact_times(any_m.room))
    same(source, host(any_m.room, "c2"), exact_times(any_m.room))
    any_m.sh("rm -rf workspace/c workspace/c2", timeout=LONG)
    assert os.listdir(any_m.room.workspace) == []


@need("rsync")
def test_rsync_in_and_out(both_m, source):
    times = exact_times(both_m.room)
    rsync = "rsync -aH --delete" + ("" if times else " --modify-window=1")
    target = host(both_m.room, "r")
    both_m.sh(f'{rsync} "$1/" workspace/r/', source, timeout=LONG)
    same(source, target, times)
    # Nothing changed: nothing is sent again.
    again = both_m.sh(f'{rsync} -i "$1/" workspace/r/', source, timeout=LONG)
    assert again.out == b"", again.text
    put(source, "d0/f0", b"changed")
    put(source, "new", b"new")
    os.unlink(source + "/d1/f1")
    shutil.rmtree(source + "/d2")
    data = bytearray(noise(200_000))
    data[100_000:100_010] = b"0123456789"
    put(source, "big", bytes(data))
    both_m.sh(f'{rsync} "$1/" workspace/r/', source, timeout=LONG)
    same(source, target, times)
    both_m.sh(f'{rsync} --inplace --no-whole-file -c "$1/" workspace/r/',
             source, timeout=LONG)
    same(source, target, times)
    both_m.sh('rsync -aH --delete workspace/r/ "$1/"', source + ".out",
             timeout=LONG)
    same(target, source + ".out")
    assert not no_leftovers(both_m.room)


@need("git")
def test_git(any_m):
    """init, add, commit, checkout, status, gc, fsck; then the room's own
    git (here: the host's, on the room's tree) agrees."""
    room = any_m.room
    script = r"""
        cd workspace
        export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a \
            GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main repo && cd repo
        for i in 1 2 3 4 5; do mkdir d$i; for j in 1 2 3; do
            echo "file $i $j" > d$i/f$j; done; done
        printf '#!/bin/sh\n' > run.sh; chmod 755 run.sh; ln -s run.sh link
        git add -A && git commit -qm first
        git checkout -q -b side
        echo side >> d1/f1; rm -r d2; git mv d3/f1 d3/moved
        git add -A && git commit -qm second
        git checkout -q main
        [ "$(cat d1/f1)" = 'file 1 1' ] && [ -f d2/f1 ] || exit 1
        echo main >> d4/f1; git commit -qam third
        git merge -q side -m merge
        [ ! -e d2 ] || exit 2
        git stash -q 2>/dev/null
        echo dirty >> d5/f1
        git status --porcelain
        git checkout -q d5/f1
        git gc -q
        git fsck --full 2>&1
        [ -z "$(git status --porcelain)" ] || exit 3
        git log --format=%s
    """
    done = any_m.sh(script, timeout=140)
    assert done.text.split("\n")[:5] == [
        " M d5/f1", "merge", "third", "second", "first"] \
        or "M d5/f1" in done.text, done
    log = sh("cd \"$1\" && git -c safe.directory='*' fsck --full --strict && "
             "git -c safe.directory='*' status --porcelain && "
             "git -c safe.directory='*' log --format=%s",
             host(room, "repo")).text
    assert log.split()[:1] == ["merge"], log
    assert stat.S_IMODE(os.lstat(host(room, "repo/run.sh")).st_mode) == 0o755
    assert os.readlink(host(room, "repo/link")) == "run.sh"
    assert not no_leftovers(room)


@need("git")
def test_git_clone_into_the_mount_and_status_without_requests(any_room,
                                                             tmp_path):
    top = str(tmp_path / "origin")
    for i in range(30):
        put(top, f"d{i % 4}/f{i}", text(300 + i, i))
    sh("""cd "$1" && export HOME=$PWD && git init -q -b main . && git add -A &&
       git -c user.name=a -c user.email=a@b commit -qm all""", top)
    with Mount(any_room, "cache_timeout=60") as m:
        m.sh('HOME=$1 git clone -q --no-local "$1" workspace/clone', top,
             timeout=140)
        for i in range(30):
            assert room_bytes(any_room, f"clone/d{i % 4}/f{i}") == text(
                300 + i, i)
        # git's index holds what the mount says: refreshed once, clean then
        m.sh(f'HOME={top} git -C workspace/clone update-index --refresh',
             timeout=LONG)
        m.forget()
        done = m.sh(
            f'HOME={top} GIT_OPTIONAL_LOCKS=0 '
            'git -C workspace/clone status --porcelain', timeout=LONG)
        assert done.out == b""
        assert m.count()["total"] <= 3
    sh("cd \"$1\" && git -c safe.directory='*' fsck --full",
       host(any_room, "clone"))


@need("make", "cc")
def test_make_of_a_small_c_project(any_m):
    room = any_m.room
    any_m.sh(r"""
        cd workspace && mkdir p && cd p
        printf 'int two(void);\n' > two.h
        printf '#include "two.h"\nint two(void) { return 2; }\n' > two.c
        printf '#include <stdio.h>\n#include "two.h"\nint main(void) { printf("%%d\\n", two()); return 0; }\n' > main.c
        printf 'prog: main.o two.o\n\tcc -o $@ $^\n%%.o: %%.c two.h\n\tcc -g -c -o $@ $<\nlib.a: two.o\n\tar rcs $@ $^\n' > Makefile
        make -s -j2 prog lib.a && ./prog
    """, timeout=LONG)
    sh('cd "$1" && ./prog | grep -qx 2 && ar t lib.a', host(room, "p"))
    # up to date: make sees the times that the room has
    done = any_m.sh("cd workspace/p && make prog lib.a")
    assert b"up to date" in done.out
    done = any_m.sh("""cd workspace/p && sed -i 's/return 2/return 3/' two.c &&
                    make && ./prog""", timeout=LONG)
    assert done.out.endswith(b"3\n") and b"main.c" not in done.out
    assert_same_tree(any_m, "p")
    # The mix: the compiled program runs in the room
    if not room.busybox:
        assert Result(any_m.exec("workspace/p", "./prog")).output == b"3\n"


@need("patch")
def test_patch(any_m):
    put(any_m.room.workspace, "p/a.txt", b"one\ntwo\nthree\n", 0o640)
    put(any_m.room.workspace, "p/gone.txt", b"x\n")
    any_m.sh(r"""cd workspace/p && patch -p1 -s <<'E'
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,3 @@
 one
-two
+2
 three
--- a/gone.txt
+++ /dev/null
@@ -1 +0,0 @@
-x
--- /dev/null
+++ b/new/file.txt
@@ -0,0 +1 @@
+made
E
""")
    p = host(any_m.room, "p")
    assert read_file(p + "/a.txt") == b"one\n2\nthree\n"
    assert read_file(p + "/new/file.txt") == b"made\n"
    assert sorted(os.listdir(p)) == ["a.txt", "new"]
    assert stat.S_IMODE(os.lstat(p + "/a.txt").st_mode) == 0o640


def fill_table(path, first, count, journal):
    db = sqlite3.connect(path, timeout=60)
    db.execute(f"pragma journal_mode={journal}")
    db.execute("create table if not exists t (n integer, s text)")
    for i in range(first, first + count):
        db.execute("insert into t values (?, ?)", (i, "x" * (i % 300)))
        if i % 5 == 0:
            db.commit()
    db.commit()
    got = db.execute("select count(*) from t").fetchone()[0]
    db.close()
    return got


@pytest.mark.parametrize("journal", quick_if(
    ["delete", "truncate", "persist"], "delete"))
def test_sqlite3(any_m, journal):
    assert do(fill_table, any_m(W, "db"), 0, 25, journal, timeout=LONG) == 25
    db = sqlite3.connect(host(any_m.room, "db"))
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert db.execute("select sum(n) from t").fetchone() == (300,)
    db.close()


def test_sqlite3_rolls_back(any_m):
    def run(path):
        fill_table(path, 0, 10, "delete")
        db = sqlite3.connect(path)
        db.execute("delete from t")
        db.rollback()
        n = db.execute("select count(*) from t").fetchone()[0]
        db.execute("vacuum")
        db.close()
        return n

    assert do(run, any_m(W, "db"), timeout=LONG) == 10
    db = sqlite3.connect(host(any_m.room, "db"))
    assert db.execute("select count(*) from t").fetchone() == (10,)
    db.close()


def test_sqlite3_by_two_local_processes(any_m):
    """Its locks hold among local processes: no row is lost."""
    do(fill_table, any_m(W, "db"), 0, 0, "delete", timeout=LONG)
    calls = [Call(fill_table, any_m(W, "db"), 1000 * i, 15, "delete")
             for i in (1, 2)]
    for c in calls:
        c.result(LONG)
    db = sqlite3.connect(host(any_m.room, "db"))
    assert db.execute("select count(*) from t").fetchone() == (30,)
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()


def test_mv_install_ln_touch_mktemp_and_truncate(both_m):
    both_m.sh(r"""
        cd workspace
        echo a > a; mv a b; cp b c; ln b d; ln -s b e; ln -sf c e
        install -D -m 750 b bin/prog; install -d -m 711 dir/sub
        touch -d '2001-02-03 04:05:06' c; touch new; touch -r c new
        t=$(mktemp -p .); echo temp > "$t"; mv "$t" temp
        truncate -s 5000 hole; shred -n1 -u b 2>/dev/null || rm -f b
        chmod -R go-rwx dir; cp -r dir dir2; mv dir2 dir/; rmdir dir/dir2/sub
        mkdir -p x/y/z; mv x/y .; rm -r x; split -b 2000 hole part.
        find . -name 'part.*' -delete; sort c d -o sorted; mkfifo pipe
        cat < c | tee t1 t2 > t3; dd if=/dev/zero of=z bs=64K count=3 2>&1
    """, timeout=LONG)
    assert_same_tree(both_m)
    st = os.lstat(host(both_m.room, "new"))
    assert st.st_mtime == os.lstat(host(both_m.room, "c")).st_mtime
    assert stat.S_IMODE(
        os.lstat(host(both_m.room, "bin/prog")).st_mode) == 0o750
    assert room_bytes(both_m.room, "temp") == b"temp\n"


def test_a_program_that_logs_while_the_room_reads(any_m):
    def log(path):
        with open(path, "a") as f:
            for i in range(20):
                f.write(f"line {i}\n")
                f.flush()
                os.fsync(f.fileno())
                got = room_bytes(any_m.room, "log")
                if got != b"".join(b"line %d\n" % j for j in range(i + 1)):
                    return i, got
        return None

    assert do(log, any_m(W, "log"), timeout=60) is None


def test_python_modules_from_the_mount(any_m):
    """__pycache__ is written beside the module, renamed into place."""
    put(any_m.room.workspace, "m/mod.py", b"def f():\n    return 42\n")
    done = any_m.sh("cd workspace/m && env -u PYTHONDONTWRITEBYTECODE "
                    "/usr/bin/python3 -c 'import mod; print(mod.f())' && "
                    "ls __pycache__")
    assert done.out.startswith(b"42\nmod.cpython"), done
    assert_same_tree(any_m, "m")
