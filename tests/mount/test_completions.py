"""The shells' completions: in step with the program, and they complete."""

import os
import pty
import re
import select
import shutil
import subprocess

import pytest

from mountlib import BUILD, DEADLINE, DRIVER, TOP, Mount, clock, wait_until

FILES = {
    "bash": "bash/gentilityfs",
    "zsh": "zsh/_gentilityfs",
    "fish": "fish/gentilityfs.fish",
}


def completion(shell):
    return os.path.join(TOP, "contrib", "completions", FILES[shell])


def text_of(*parts):
    with open(os.path.join(TOP, *parts)) as f:
        return f.read()


def sources():
    """The driver's; gx has words of its own."""
    return "".join(
        text_of(top, n) for top, _, names in sorted(os.walk(
            os.path.join(TOP, "src"))) for n in sorted(names)
        if n.endswith(".c") and not top.endswith("/gx"))


def program_options():
    """Name -> whether it takes a value, out of the program's own table."""
    found = {}
    for name, kind in re.findall(r'\{"(\w+)", KIND_(\w+),', sources()):
        if kind == "IGNORED" or name == "remount":
            continue
        value = kind in ("STRING", "PATH") or (
            kind == "SPECIAL" and not name.endswith("_control"))
        found[name] = value
    assert len(found) > 25 and found["key_file"] and not found["ro"]
    return found


def program_words():
    return set(re.findall(
        r'\{"([\w-]+)", (?:no|required|optional)_argument', sources()))


def bash_options(text):
    words = re.search(r"_gentilityfs_options='([^']*)'", text)[1].split()
    return {w.rstrip("="): w.endswith("=") for w in words}


def zsh_options(text):
    body = text[text.index("_gentilityfs_options()"):]
    body = body[:body.index("\n}")]
    return {name: bool(value) for name, value in re.findall(
        r"^\t    '(\w+)\[[^]]*\](:?)", body, re.M)}


def fish_options(text):
    body = text[text.index("function __gentilityfs_names"):]
    body = body[:body.index("\nend")]
    return {name: bool(value) for name, value in re.findall(
        r"^ {8}(\w+)(=?)", body, re.M)}


@pytest.mark.parametrize("shell", FILES)
def test_they_know_the_options_that_the_program_knows(shell):
    """No more and no fewer, and which have a value."""
    text = text_of("contrib", "completions", FILES[shell])
    assert globals()[shell + "_options"](text) == program_options()


@pytest.mark.parametrize("shell", FILES)
def test_they_know_the_long_options(shell):
    text = text_of("contrib", "completions", FILES[shell])
    missing = [w for w in program_words() if not re.search(
        rf"(--|-l '?){re.escape(w)}\b", text)]
    assert not missing


def test_the_help_and_the_manual_know_the_options():
    manual = text_of("man", "gentilityfs.1").replace("\\", "")
    usage = subprocess.run([DRIVER, "-h"], text=True, timeout=DEADLINE,
                           stdout=subprocess.PIPE).stdout
    for name in program_options():
        assert re.search(rf"\b{name}\b", manual), name
        if name not in ("auto_unmount", "dirsync", "fsname", "noatime",
                        "noexec", "rw", "sync", "transform_symlinks"):
            assert re.search(rf"\b{name}\b", usage), name


# --- bash and fish answer when they are asked ---------------------------------


def environment(top):
    """A user's files that name a room."""
    config = os.path.join(top, "config", "gentilityfs")
    os.makedirs(config, exist_ok=True)
    with open(os.path.join(config, "work.conf"), "w") as f:
        f.write("SOURCE=550e8400-e29b-41d4-a716-446655440000/work\n"
                "MOUNTPOINT=/nowhere\n")
    return {**os.environ, "XDG_CONFIG_HOME": os.path.join(top, "config"),
            "XDG_DATA_HOME": top, "HOME": top, "TERM": "dumb", "LC_ALL": "C"}


BASH = """source "$1"; compopt() { :; }
COMP_LINE=$2 COMP_POINT=${#2}; _gentilityfs
printf '%s\\n' "${COMPREPLY[@]}" """


def ask(shell, line, top):
    """What the shell offers for the last word; of bash, what it adds to what
    stands behind the last = or : of it."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    if shell == "bash":
        words = ["bash", "--norc", "-c", BASH, "bash", completion("bash"),
                 line]
    else:
        words = ["fish", "--no-config", "-c",
                 "source $argv[1]; complete -C $argv[2]", completion("fish"),
                 line]
    done = subprocess.run(
        words, cwd=top, env=environment(top), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE)
    assert done.stderr == b"", done.stderr
    lines = done.stdout.decode().splitlines()
    return [x.split("\t")[0] for x in lines if x]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_options_complete_behind_commas(shell, tmp_path):
    top = str(tmp_path)
    assert ask(shell, "gentilityfs -o no_t", top) == ["no_transform_symlinks"]
    assert ask(shell, "gentilityfs -o ro,cache_d", top) == ["ro,cache_dir="]
    assert ask(shell, "gentilityfs -o idmap=n", top) in (
        ["none"], ["idmap=none"])
    assert "allow_other" in ask(shell, "gentilityfs -o ", top)
    (tmp_path / "my key").write_text("")
    assert ask(shell, "gentilityfs -o ro,key_file=my", top)[0].endswith(
        "my key")
    assert ask(shell, "gentilityfs -o control=", top) == []


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_rooms_and_directories_complete(shell, tmp_path):
    top = str(tmp_path)
    room = "550e8400-e29b-41d4-a716-446655440000/work"
    assert room in ask(shell, "gentilityfs ", top)
    assert ask(shell, "gentilityfs -f -o ro 550e", top) == [room]
    (tmp_path / "mount-here").mkdir()
    (tmp_path / "mount-file").write_text("")
    found = ask(shell, f"gentilityfs {room} mount-", top)
    assert [x.rstrip("/") for x in found] == ["mount-here"]
    assert ask(shell, f"gentilityfs {room} mount-here mo", top) == []
    assert "--version" in ask(shell, "gentilityfs --", top)


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_mounted_rooms_complete(shell, room, tmp_path):
    with Mount(room) as m:
        assert room.source in ask(shell, "gentilityfs ", str(tmp_path))
        assert m.dir not in ask(shell, "gentilityfs --check ", str(tmp_path))
        found = ask(shell, "gentilityfs --stats ", str(tmp_path))
        assert m.dir in found and room.source not in found


# --- gx -----------------------------------------------------------------------


def gx_words():
    text = text_of("src", "gx", "options.c")
    short = set(re.search(
        r'getopt_long\(\s*argc, argv, "\+([\w:]+)"', text)[1])
    return {"-" + x for x in short - {":"}} | {"--" + w for w in re.findall(
        r'\{"([\w-]+)", (?:no|required)_argument', text)}


def ask_gx(shell, line, directory, top):
    """What the shell offers in that directory."""
    path = os.path.join(TOP, "contrib", "completions", {
        "bash": "bash/gx", "fish": "fish/gx.fish"}[shell])
    words = {
        "bash": ["bash", "--norc", "-c", "cd \"$3\"; . \"$1\"; "
                 "COMP_WORDS=($2); [[ $2 != *' ' ]] || COMP_WORDS+=(''); "
                 "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _gx; "
                 "printf '%s\\n' \"${COMPREPLY[@]}\"", "bash", path, line,
                 directory],
        "fish": ["fish", "--no-config", "-c", "cd $argv[3]; source $argv[1]; "
                 "complete -C $argv[2]", path, line, directory],
    }[shell]
    env = {**environment(top), "PATH": BUILD + ":" + os.environ["PATH"]}
    done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=DEADLINE)
    assert done.stderr == b"", done.stderr
    return [x.split("\t")[0] for x in done.stdout.decode().splitlines() if x]


@pytest.mark.parametrize("name", ["bash/gx", "fish/gx.fish", "zsh/_gx"])
def test_gx_s_completions_its_help_and_its_manual_know_its_options(name):
    text = text_of("contrib", "completions", name)
    manual = text_of("man", "gx.1")
    words = gx_words()
    assert {"--follow", "-c", "--kill"} <= words
    for word in words:
        bare = word.lstrip("-")
        flag = "-" + bare if word.startswith("--") else bare
        assert re.search(rf"(?<!\w){word}\b", text) or re.search(
            rf"-[sl] {bare}\b", text), word
        if word not in ("--help", "--verbose", "--version"):
            assert re.search(rf"Fl (\w+ \| )?{flag}\b", manual), word


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_gx_completes(shell, room, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    with Mount(room) as m:
        top, where = str(tmp_path), m("workspace")
        assert ask_gx(shell, "gx --fol", where, top) == ["--follow"]
        assert ask_gx(shell, "gx --follow --cle", where, top) == ["--clean"]
        for option in ("--attach", "--kill"):
            assert ask_gx(shell, f"gx {option} ", where, top) == []
        subprocess.run(
            [os.path.join(BUILD, "gx"), "--follow", "true"], cwd=where,
            check=True, stderr=subprocess.DEVNULL, timeout=DEADLINE)
        assert ask_gx(shell, "gx --attach ", where, top) == ["1"]
        assert ask_gx(shell, "gx --kill ", where, top) == []
        assert "--follow" not in ask_gx(shell, "gx ls --fol", where, top)


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_gx_completes_the_programs_of_the_vm(shell, room, tmp_path):
    """G12: asked for once; arguments are files."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    with Mount(room) as m:
        top, where = str(tmp_path), m("workspace")
        os.environ["XDG_RUNTIME_DIR"] = top
        try:
            found = ask_gx(shell, "gx md5s", where, top)
            assert "md5sum" in found
            m.forget()
            found = ask_gx(shell, "gx -v sha1", where, top)
            assert "sha1sum" in found
            asked = [r for r in m.room.log("command")
                     if "gx-" in r["command"]]
            assert asked == []
            assert "md5sum" not in ask_gx(shell, "gx ls md5s", where, top)
        finally:
            del os.environ["XDG_RUNTIME_DIR"]


# --- zsh, in a terminal --------------------------------------------------------


class Zsh:
    """An interactive zsh with the completion loaded."""

    def __init__(self, top):
        self.top = top
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(top)
            os.execvpe("zsh", ["zsh", "-f", "-i"], environment(top))
        self.out = os.path.join(top, "buffer")
        self.send("PS1='% '; unsetopt beep; setopt no_list_beep\n"
                  f"fpath=({os.path.dirname(completion('zsh'))} $fpath)\n"
                  "autoload -U compinit; compinit -D -u\n"
                  "show() { print -rn -- \"$BUFFER\" >buffer.new; BUFFER=; "
                  "mv -f buffer.new buffer }\n"
                  "zle -N show; bindkey '^G' show; bindkey '\\t' "
                  "complete-word; touch ready\n")
        self.wait(os.path.join(top, "ready"))

    def send(self, text):
        os.write(self.fd, text.encode())

    def wait(self, path):
        """Until it is there; what the terminal shows is read meanwhile."""
        end = clock() + DEADLINE
        shown = b""
        while not os.path.exists(path):
            assert clock() < end, shown[-2000:]
            if select.select([self.fd], [], [], 0.01)[0]:
                shown += os.read(self.fd, 65536)

    def complete(self, line):
        """The line after a press of Tab."""
        if os.path.exists(self.out):
            os.unlink(self.out)
        self.send(line + "\t\x07")
        self.wait(self.out)
        with open(self.out) as f:
            return f.read()

    def close(self):
        os.close(self.fd)  # hangs up
        wait_until(lambda: os.waitpid(self.pid, os.WNOHANG)[0], DEADLINE)


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_zsh_completes(tmp_path):
    (tmp_path / "my-key").write_text("")
    (tmp_path / "mount-here").mkdir()
    room = "550e8400-e29b-41d4-a716-446655440000/work"
    zsh = Zsh(str(tmp_path))
    try:
        for typed, wanted in (
            ("gentilityfs --vers", "gentilityfs --version"),
            ("gentilityfs -o no_t", "gentilityfs -o no_transform_symlinks"),
            ("gentilityfs -o ro,cache_d", "gentilityfs -o ro,cache_dir="),
            ("gx --fol", "gx --follow"),
            ("gx ls mount-", "gx ls mount-here/"),
            ("gentilityfs -o ro,key_file=my", "gentilityfs -o ro,key_file="
             "my-key"),
            ("gentilityfs -o idmap=n", "gentilityfs -o idmap=none"),
            ("gentilityfs --check 550e", f"gentilityfs --check {room}"),
            ("gentilityfs 550e", f"gentilityfs {room}"),
            (f"gentilityfs {room} mount-", f"gentilityfs {room} mount-here/"),
        ):
            assert zsh.complete(typed).rstrip(" ,") == wanted
    finally:
        zsh.close()
