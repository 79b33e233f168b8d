"""The programs of src/script/vm, run for real under each shell and kind of tools."""
import errno
import json
import os
import resource
import secrets
import socket
import stat
import subprocess

import pytest

from vmroom import HOSTILE, NOBODY

FIELDS = ("mode", "nlink", "uid", "gid", "size", "blocks", "ino", "dev")


def used():
    """Seconds of processor time that the VM's programs have used so far."""
    times = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times.ru_utime + times.ru_stime


def same(entry, path):
    """Is this entry what lstat says?"""
    st = os.lstat(path)
    attr = entry["attr"]
    for field in FIELDS:
        assert attr[field] == getattr(st, "st_" + field), (path, field)
    assert attr["mtime"] == st.st_mtime_ns
    assert attr["ctime"] == st.st_ctime_ns
    assert ("target" in entry) == stat.S_ISLNK(st.st_mode)
    if "target" in entry:
        assert bytes.fromhex(entry["target"]) == os.readlink(path)


def check_listing(room, listings, path):
    """Is this listing all there is in the directory?"""
    path = os.fsencode(path)
    entries = listings[room.inside(path)]
    assert sorted(entries) == sorted(os.listdir(path))
    assert list(entries) == sorted(entries)
    for name in entries:
        same(entries[name], path + b"/" + name)


def test_hostile_names_and_targets(room):
    tree = os.fsencode(room.tree)
    for i, name in enumerate(HOSTILE):
        with open(tree + b"/" + name, "wb") as f:
            f.write(b"x" * i)
        os.utime(tree + b"/" + name, ns=(i, 1700000000_000000001 + i))
        os.mkdir(tree + b"/d" + name[:254])
        os.symlink(b"t" + name, tree + b"/d" + name[:254] + b"/" + name)
    os.symlink(b"x'\n//81a4 1 0 0 0 0 1 1\n//", tree + b"/border")
    os.symlink(b"x' -> 'y'\n", tree + b"/arrow'\n")
    os.symlink(b"\xff" * 4000, tree + b"/long")
    os.mkfifo(tree + b"/fifo")
    os.mknod(tree + b"/null", 0o20600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(tree)
        s.bind("sock")
        os.chdir("/")
    listings = room.list(tree)
    assert len(listings) == 1
    check_listing(room, listings, tree)
    listings = room.list(tree, 1000)
    assert len(listings) == 1 + len(HOSTILE)
    for path in listings:
        check_listing(room, listings, os.fsencode(room.root) + path)
    # each by its own path, with some that are missing in between
    items = []
    paths = [tree + b"/" + name for name in os.listdir(tree)]
    paths += [tree + b"/d" + name[:254] + b"/" + name for name in HOSTILE]
    for path in paths:
        items += ["stat", room.inside(path), "stat",
                  room.inside(tree) + b"/missing/x"]
    replies = room.ask(*items)
    for path, reply, missing in zip(paths, replies[::2], replies[1::2]):
        assert missing["error"] == -errno.ENOENT
        assert reply["error"] == 0, path
        assert bytes.fromhex(reply["entry"]["name"]) == path.split(b"/")[-1]
        same(reply["entry"], path)
    # and as directories of their own
    for name in HOSTILE:
        path = tree + b"/d" + name[:254]
        check_listing(room, room.list(path), path)
    assert not os.path.exists(tree + b"/pwned")


def test_times_before_1970_and_far_ahead(room):
    for i, ns in enumerate([-1, -500000000, -1500000000, 0, 1,
                            2**31 * 10**9, 4000000000_123456789]):
        (room.tree / str(i)).touch()
        os.utime(room.tree / str(i), ns=(ns, ns))
    check_listing(room, room.list(room.tree), room.tree)


def test_deep_tree_goes_down_by_whole_levels(room):
    path = room.tree
    for i in range(60):
        path = path / f"level{i}"
        path.mkdir()
        (path / "file").touch()
    listings = room.list(room.tree, 10)
    # Level n has 2n - 1 entries: five levels fit, the fifth is not opened.
    assert len(listings) == 5
    assert len(room.list(room.tree, 100000)) == 12
    for name in listings:
        check_listing(room, listings, room.root + os.fsdecode(name))
    check_listing(room, room.list(path), path)


def test_bound_smaller_than_the_first_level(room):
    for i in range(20):
        (room.tree / f"d{i}").mkdir()
    listings = room.list(room.tree, 5)
    assert len(listings) == 1
    check_listing(room, listings, room.tree)


def test_empty_directories_are_complete_when_the_tree_ends(room):
    (room.tree / "a/b").mkdir(parents=True)
    assert len(room.list(room.tree, 2)) == 3


def test_50000_entries(room):
    for i in range(50000):
        os.close(os.open(room.tree / f"file-{i}", os.O_CREAT))
    start = used()
    nonce = secrets.token_hex(8)
    item = ("list", "1000", room.inside(room.tree))
    output = room.run(room.tool("compose", room.tools, nonce, *item))
    assert used() - start < 5
    assert len(output) < 50000 * 40
    answer = json.loads(room.tool("parse", nonce, *item, stdin=output))
    entries = answer["replies"][0]["listings"][0]["entries"]
    assert len(entries) == 50000


def test_many_directories_at_once(room):
    """Each as if it had been listed alone, whatever the names."""
    top = os.fsencode(room.tree)
    paths = [top] + [top + b"/" + n for n in HOSTILE + [b"a/b/c", b"a/b"]]
    for path in paths[1:]:
        os.makedirs(path, exist_ok=True)
    for path in paths[:-4]:
        for entry in (b"f", b"x y", b"n\nl", b"\xfe"):
            with open(os.path.join(path, entry), "wb") as f:
                f.write(b"x" * len(path))
        os.symlink(b"to\nsome -> where", os.path.join(path, b"link"))
    os.symlink(b"a", top + b"/to-a")
    others = [top + b"/gone", top + b"/to-a", top + b"/f"]
    replies = room.ask(*(x for p in paths + others
                         for x in ("also", room.inside(p))))
    for path, reply in zip(paths, replies):
        assert reply["error"] == 0, (path, reply)
        found = {bytes.fromhex(item["path"]):
                 {bytes.fromhex(e["name"]): e for e in item["entries"]}
                 for item in reply["listings"]}
        assert list(found) == [room.inside(path)]
        check_listing(room, found, path)
    assert [-r["error"] for r in replies[len(paths):]] == \
        [errno.ENOENT, errno.ENOTDIR, errno.ENOTDIR]


def test_errors(room):
    tree = room.inside(room.tree)
    (room.tree / "file").touch()
    (room.tree / "dir").mkdir()
    (room.tree / "link").symlink_to("dir")
    (room.tree / "loop").symlink_to("loop")
    (room.tree / "dangling").symlink_to("none")
    cases = [
        ("list", b"/none", errno.ENOENT), ("list", b"/file", errno.ENOTDIR),
        ("list", b"/file/x", errno.ENOTDIR),
        ("list", b"/link", errno.ENOTDIR),
        ("list", b"/" + b"n" * 256, errno.ENAMETOOLONG),
        ("list", b"/n" * 2100, errno.ENOENT),
        ("stat", b"/none", errno.ENOENT), ("stat", b"/file/x", errno.ENOTDIR),
        ("stat", b"/none/x", errno.ENOENT),
        ("stat", b"/loop/x", errno.ELOOP), ("stat", b"/loop", 0),
        ("stat", b"/dangling", 0), ("stat", b"/dangling/x", errno.ENOENT),
        ("stat", b"/" + b"n" * 256, errno.ENAMETOOLONG),
        ("statfs", b"/none", errno.ENOENT), ("statfs", b"/file", 0)]
    items = []
    for kind, path, _ in cases:
        items += [kind, "0", tree + path] if kind == "list" \
            else [kind, tree + path]
    for case, reply in zip(cases, room.ask(*items)):
        assert reply["error"] == -case[2], case


def test_unreadable_directories_are_never_taken_for_empty_ones(room):
    for mode in 0, 0o111, 0o444, 0o555:
        path = room.tree / f"{mode:o}"
        path.mkdir()
        (path / "file").touch()
        path.chmod(mode)
    own = room.tree / "own"
    own.mkdir()
    (own / "file").touch()
    own.chmod(0o500)
    os.chown(own, NOBODY, NOBODY)
    room.user = NOBODY
    listings = room.list(room.tree, 100)
    tree = room.inside(room.tree)
    assert sorted(listings) == [tree, tree + b"/555", tree + b"/own"]
    check_listing(room, listings, room.tree)
    for name, error in ("0", errno.EACCES), ("111", errno.EACCES), \
            ("444", errno.EACCES), ("555", 0):
        path = tree + b"/" + name.encode()
        reply, inner = room.ask("list", "0", path, "stat", path + b"/file")
        assert reply["error"] == -error
        assert inner["error"] == (0 if name in ("111", "555")
                                  else -errno.EACCES)
    answer = room.read(room.tree / "0" / "file", 0, 10)
    assert answer["error"] == -errno.EACCES


def test_mount_points_are_entries_without_a_listing(room):
    (room.tree / "mnt").mkdir()
    (room.tree / "dir").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", room.tree / "mnt"],
                   check=True)
    try:
        (room.tree / "mnt/inside").touch()
        listings = room.list(room.tree, 100)
        tree = room.inside(room.tree)
        assert sorted(listings) == [tree, tree + b"/dir"]
        check_listing(room, listings, room.tree)
        listings = room.list(room.tree / "mnt", 100)
        check_listing(room, listings, room.tree / "mnt")
    finally:
        subprocess.run(["umount", room.tree / "mnt"], check=True)


def test_proc(room):
    reply, own, exe = room.ask("list", "0", "/proc", "list", "50",
                               "/proc/self/ns", "stat", "/proc/self/exe")
    names = [bytes.fromhex(e["name"])
             for e in reply["listings"][0]["entries"]]
    assert b"cpuinfo" in names and b"self" in names
    for e in own["listings"][0]["entries"]:
        assert bytes.fromhex(e["target"]).endswith(b"]")
    assert exe["entry"]["target"]
    answer = room.read(room.root + "/proc/sys/kernel/ostype", 0, "all")
    assert answer["data"] == b"Linux\n"
    assert answer["before"]["size"] == 0


def test_statfs(room):
    reply, = room.ask("statfs", room.inside(room.tree))
    st = os.statvfs(room.tree)
    assert reply["fs"][0:2] == [st.f_bsize, st.f_frsize]
    assert reply["fs"][2] == st.f_blocks
    assert reply["fs"][5] == st.f_files
    assert reply["fs"][7] == st.f_namemax


def test_noise_around_the_frame(room):
    nonce = secrets.token_hex(8)
    item = ("stat", room.inside(room.tree))
    command = room.tool("compose", room.tools, nonce, *item)
    marks = [b"<gfs-begin", b"<gfs-end"]
    assert not any(mark in command for mark in marks)
    for before, after in ((b"Welcome!\r\n" + command + b"\n" * 3, b"bye\n"),
                          (b"no newline", command),
                          (b"\n<gfs-begin 0000000000000000\nAAAA\n", b"")):
        out = before + room.run(b"echo hello; set -v; echo there >&2\n" +
                                command + b"\necho bye") + after
        for text in out, out.rstrip(), out.replace(b"\n", b"\r\n"):
            answer = json.loads(room.tool("parse", nonce, *item, stdin=text))
            assert answer["error"] == 0
            assert "entry" in answer["replies"][0]


def test_cut_outputs_are_never_taken_for_whole_ones(room):
    for i in range(100):
        (room.tree / f"file{i}").touch()
    nonce = secrets.token_hex(8)
    item = ("list", "0", room.inside(room.tree))
    out = room.run(room.tool("compose", room.tools, nonce, *item)).rstrip()
    cuts = [out[:n] for n in range(0, len(out), 97)]
    cuts += [out[:-n] for n in range(1, 40)]
    cuts += [out[n:] for n in (2, 5, 30, 60, 200)]
    middle = len(out) // 2
    cuts += [out[:middle] + out[middle + n:] for n in (1, 4, 100)]
    cuts += [out[:middle] + b"\n[100 bytes omitted]\n" + out[middle + 100:]]
    for cut in cuts:
        answer = json.loads(room.tool("parse", nonce, *item, stdin=cut))
        assert answer["error"] in (-errno.EAGAIN, -errno.EPROTO)
    # without the white space around it it is still whole
    assert json.loads(room.tool("parse", nonce, *item, stdin=out[1:])
                      )["error"] == 0


def test_stage_and_pieces(room):
    for i in range(300):
        (room.tree / f"file{i}").touch()
    nonce = secrets.token_hex(8)
    item = ("list", "0", room.inside(room.tree))
    command = room.tool("compose", room.tools, nonce, *item)
    stage = room.tool("stage", nonce, stdin=command)
    sizes = set()
    for _ in range(3):
        answer = json.loads(room.tool("unwrap", nonce, stdin=room.run(stage)))
        sizes.add(int(bytes.fromhex(answer["payload"])))
    assert len(sizes) == 1
    tmp = room.root + "/tmp" if room.root else os.environ.get("TMPDIR", "/tmp")
    name = f"{tmp}/.gentilityfs-{nonce}"
    assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    size = sizes.pop()
    out = b""
    for offset in range(0, size, 1000):
        last = offset + 1000 >= size
        piece = room.tool("piece", nonce, str(offset), "1000", str(int(last)))
        answer = json.loads(room.tool("unwrap", nonce, stdin=room.run(piece)))
        out += bytes.fromhex(answer["payload"])
    assert len(out) == size
    assert not os.path.exists(name)
    answer = json.loads(room.tool("parse", nonce, *item, stdin=out))
    assert len(answer["replies"][0]["listings"][0]["entries"]) == 300


def test_a_text_carried_in_parts(room):
    """Any bytes, each part as often as may be, in any order; it runs when all
    are there, and leaves nothing behind."""
    nonce = secrets.token_hex(8)
    tmp = room.root + "/tmp" if room.root else os.environ.get("TMPDIR", "/tmp")
    odd = bytes(range(1, 256)).replace(b"'", b"'\\''") + "é€😀".encode()
    text = room.tool("carry-head", nonce) + b"printf %s '" + odd + \
        b"'\n(exit 7)"
    size = 37
    parts = [text[i:i + size] for i in range(0, len(text), size)]
    join = room.tool("carry-join", nonce, str(len(text)), "1")
    numbers = [*range(len(parts))]
    for n in numbers[::-1] + numbers[:3]:
        part = room.tool("carry-part", nonce, str(n), stdin=parts[n])
        assert room.run(part) == b""
    out = room.run(join + b"echo $?")
    assert out == odd.replace(b"'\\''", b"'") + b"7\n"
    assert not [n for n in os.listdir(tmp) if nonce in n]
    # Again: its parts are gone.
    assert room.run(join + b"echo $?") == b"<gfs-lost %s>70\n" % nonce.encode()
    for n in numbers[1:]:
        room.run(room.tool("carry-part", nonce, str(n), stdin=parts[n]))
    assert b"<gfs-lost " in room.run(join)
    assert not [n for n in os.listdir(tmp) if nonce in n]


def test_read_ranges(room):
    data = bytes(range(256)) * 1500
    for name in b"file", b"\xff\n", b"a'b":
        path = os.fsencode(room.tree) + b"/" + name
        with open(path, "wb") as f:
            f.write(data)
        for offset, length in ((0, 10), (0, len(data)), (131071, 131074),
                               (len(data) - 5, 100), (len(data), 10),
                               (len(data) + 99, 10), (7, 0), (1, 200000)):
            answer = room.read(path, offset, length)
            assert answer["error"] == 0
            assert answer["data"] == data[offset:offset + length]
            for field in *FIELDS, "mtime", "ctime":
                assert answer["before"][field] == answer["after"][field]
            assert answer["before"]["size"] == len(data)
    assert room.read(room.tree / "file", 0, "all")["data"] == data


def test_read_far_into_a_sparse_file(room):
    with open(room.tree / "big", "wb") as f:
        f.truncate(20 << 30)
        f.seek(19 << 30)
        f.write(b"here")
    start = used()
    assert room.read(room.tree / "big", 19 << 30, 6)["data"] == b"here\0\0"
    assert used() - start < 2


def test_read_errors(room):
    (room.tree / "dir").mkdir()
    (room.tree / "link").symlink_to("dir")
    os.mkfifo(room.tree / "fifo")
    for name, error in (("none", errno.ENOENT), ("dir", errno.EISDIR),
                        ("link", errno.ESTALE), ("fifo", errno.EINVAL),
                        ("dir/x/y", errno.ENOENT), ("n" * 256,
                                                    errno.ENAMETOOLONG)):
        for length in "10", "all":
            assert room.read(room.tree / name, 0, length)["error"] == -error
    assert room.read(room.root + "/proc/self/mem", 0, 10)["error"] == \
        -errno.EIO


def test_probe(room):
    answer = room.ask("list", "10", "/", "stat", room.inside(room.tree),
                      probe=True)
    probe = answer["probe"]
    assert probe["gnu"] == room.gnu
    assert (probe["uid"], probe["gid"]) == (0, 0)
    assert bytes.fromhex(probe["user"]) == b"root"
    assert bytes.fromhex(probe["home"]).startswith(b"/")
    if room.gnu:
        assert os.stat("/proc").st_dev in probe["pseudo"]
        assert os.fsdecode(bytes.fromhex(probe["cwd"])) == os.getcwd()
    assert len(answer["replies"][0]["listings"]) >= 1
    assert answer["replies"][1]["entry"]
    room.user = NOBODY
    probe = room.ask(probe=True)["probe"]
    assert probe["uid"] == NOBODY and probe["groups"] == [NOBODY]


def test_tools_unknown(room):
    room.tools = "unknown"
    (room.tree / "x").touch()
    check_listing(room, room.list(room.tree), room.tree)


def test_no_gzip_and_no_base64(carrying_room, tmp_path):
    """Without the coders: plain text in base64, or a clear word."""
    room = carrying_room    # whose programs are changed below
    if not room.gnu:
        pytest.skip("the directory of tools is made for GNU")
    bins = tmp_path / "bins"
    bins.mkdir()
    (room.tree / "x").touch()
    item = ("list", "0", room.inside(room.tree))

    def outcome():
        nonce = secrets.token_hex(8)
        command = room.tool("compose", room.tools, nonce, *item)
        # the prelude completes PATH: keep it from that
        command = command.replace(b"PATH=${PATH:-}:", b"PATH=${PATH:-};:")
        out = subprocess.run([f"/bin/{room.name}", "-c", command],
                             stdout=subprocess.PIPE, check=False,
                             env={"PATH": str(bins)}).stdout
        return json.loads(room.tool("parse", nonce, *item,
                                    stdin=out))["error"]
    for name in "find", "tr", "stat", "cat":
        (bins / name).symlink_to(f"/usr/bin/{name}")
    assert outcome() == -errno.ENOTSUP
    for name in "openssl", "python3", "perl", "base64":
        (bins / name).symlink_to(f"/usr/bin/{name}")
        assert outcome() == 0, name
        (bins / name).unlink()


def test_weird_shell_settings(room):
    """Functions, options and variables that a profile may leave behind."""
    nonce = secrets.token_hex(8)
    (room.tree / "x").touch()
    item = ("list", "0", room.inside(room.tree))
    command = room.tool("compose", room.tools, nonce, *item)
    profile = (b"cd() { command cd \"$@\" && echo hi; }\n"
               b"find() { echo no; }\nset -eu\nset -C\nset -x\n"
               b"CDPATH=/tmp:/; export CDPATH\nGZIP=-9v; export GZIP\n"
               b"unset TMPDIR\numask 0\n")
    answer = json.loads(room.tool("parse", nonce, *item,
                                  stdin=room.run(profile + command)))
    assert answer["error"] == 0
    assert len(answer["replies"][0]["listings"][0]["entries"]) == 1


def test_quoting_gives_back_the_bytes(room):
    every = [bytes([i]) for i in range(1, 256)]
    texts = HOSTILE + [b"".join(every), b"".join(reversed(every)), b"''",
                       b"", b"\xff\n", b"\n\xff", b"\xf0\x9f\x98\x80",
                       b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x80\x80"]
    texts += [e + b"\n" for e in every]
    command = b"printf '%s\\0' "
    for text in texts:
        quoted = room.tool("quote", text)
        quoted.decode()     # always UTF-8: it travels as JSON
        command += quoted + b" "
    assert room.run(command).split(b"\0")[:-1] == texts


def test_many_stats_cost_no_process_each(room):
    names = [f"f{i}" for i in range(800)]
    for name in names:
        (room.tree / name).touch()
    items = []
    for name in names:
        items += ["stat", room.inside(room.tree / name)]
    before = used()
    replies = room.ask(*items)
    assert used() - before < 2
    for name, reply in zip(names, replies):
        same(reply["entry"], room.tree / name)
