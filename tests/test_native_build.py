"""Compiling the kernels once, and what may be wrong with the compiler, the cache and what lies in it.

The compilers are scripts, which write down each call; what they write is no library, and is not loaded.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, SMALL_RUN
from efficientconv.native import build, cache

WRITES = 'for last; do :; done; echo "a compiled library" > "$last"'


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """compiler(script) makes the script $CXX; the cache is an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))

    def make(script: str) -> None:
        (tmp_path / "c++").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/calls\n{script}\n")
        (tmp_path / "c++").chmod(0o755)

    make(WRITES)
    return make


def builds(tmp_path: Path) -> int:
    """How often the first source was compiled; the others are compiled beside it."""
    first = str(min(build.SOURCE_DIR.glob("*.cpp")))
    return sum(first in call.split() for call in (tmp_path / "calls").read_text().splitlines())


def start(program: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)


BUILD = "from efficientconv.native import build; build.library()"


def test_the_first_build_says_that_it_compiles_and_how_long_that_took(compiler, tmp_path: Path, capsys):
    assert build.library().read_text() == "a compiled library\n"
    assert build.library() and builds(tmp_path) == 1
    said = capsys.readouterr().err
    assert said.count("compiling the native kernels") == said.count("done after") == said.count("\n") == 1


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut at half": lambda path: path.write_bytes(path.read_bytes()[:9]),
    "a byte changed": lambda path: path.write_bytes(b"b" + path.read_bytes()[1:]),
    "others may write to it": lambda path: path.chmod(0o666),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("elsewhere"))),
    "a dead link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_built_again(compiler, tmp_path: Path, damage: str):
    path = build.library()
    DAMAGES[damage](path)
    assert build.library() == path and builds(tmp_path) == 2
    assert path.read_text() == "a compiled library\n" and not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600


def test_a_failed_build_says_why_and_is_not_tried_again_at_once(compiler, tmp_path: Path):
    compiler("echo 'x.cpp:1: error: no such thing' >&2; exit 1")
    for _ in range(2):
        with pytest.raises(build.BuildError, match="no such thing"):
            build.library()
    assert builds(tmp_path) == 1
    (note,) = (tmp_path / "cache/efficientconv").glob("*.failed")
    of_another_version = note.with_name("native-0.failed")
    of_another_version.touch()
    for path in (note, of_another_version):
        os.utime(path, (0, time.time() - cache.REMEMBER_SECONDS - 1))
    with pytest.raises(build.BuildError, match="no such thing"):
        build.library()
    assert builds(tmp_path) == 2 and note.exists() and not of_another_version.exists()
    compiler(WRITES)  # another compiler
    assert build.library()


def test_a_compiler_that_takes_too_long_is_killed_with_its_children(
    compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    compiler(f"sleep 300 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setattr(build, "TIME_LIMIT", 1)
    with pytest.raises(build.BuildError, match="did not finish in 1 s"):
        build.library()
    with pytest.raises(build.BuildError, match="not tried again for a day"):
        build.library()
    assert builds(tmp_path) == 1 and not list((tmp_path / "cache/efficientconv").glob("build-*"))
    wait_for_the_end_of([(tmp_path / "child").read_text().strip()])


def test_of_two_processes_one_builds_and_the_next_start_cleans_up_after_a_killed_one(compiler, tmp_path: Path):
    compiler(f"touch {tmp_path}/began; sleep 300")
    killed = start(BUILD)
    while not (tmp_path / "began").exists():
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (tmp_path / "cache/efficientconv/native-0.so.0.tmp").touch()  # as a kill during the last step leaves it
    (left,) = (tmp_path / "cache/efficientconv").glob("build-*")
    compiler(f"sleep 1; {WRITES}")
    both = [start(BUILD) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], [process.stderr.read() for process in both]
    assert builds(tmp_path) == 2 and not left.exists() and not list(left.parent.glob("*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_compilers_end_with_the_process_that_builds(compiler, tmp_path: Path, number: signal.Signals):
    compiler(f"sleep 300 & echo $! >> {tmp_path}/children; wait")
    building = start(BUILD)
    expected = len(list(build.SOURCE_DIR.glob("*.cpp")))
    while len(children := text_of(tmp_path / "children").split()) < expected:
        assert building.poll() is None, building.stderr.read()
        time.sleep(0.05)
    building.send_signal(number)
    building.wait()
    wait_for_the_end_of(children)


def wait_for_the_end_of(processes: list[str]) -> None:
    """A killed process ends a moment after the signal: when the kernel gives it the processor again."""
    until = time.monotonic() + 30
    while any(is_alive(process) for process in processes):
        assert time.monotonic() < until, "a compiler lives on"
        time.sleep(0.05)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def is_alive(process: str) -> bool:
    try:
        return "zombie" not in Path("/proc", process, "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_of_the_libraries_of_other_versions_the_last_used_and_those_in_use_stay(compiler, tmp_path: Path):
    folder = tmp_path / "cache/efficientconv"
    folder.mkdir(parents=True, mode=0o700)
    others = [folder / f"native-{age}.0.so" for age in range(cache.KEPT + 2)]  # the oldest last
    for age, path in enumerate(others):
        path.touch()
        os.utime(path, (0, time.time() - 1000 - age))
    program = "import sys, pathlib; from efficientconv.native import cache; cache.hold(pathlib.Path(sys.argv[1])); input()"
    call = [sys.executable, "-c", program, str(others[-1])]
    using = subprocess.Popen(call, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not is_locked(others[-1]):
            assert using.poll() is None, using.stderr.read()
            time.sleep(0.05)
        built = build.library()
        assert set(folder.glob("*.so")) == {built, *others[: cache.KEPT - 1], others[-1]}
    finally:
        using.kill()
        using.wait()


def is_locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_library_counts_as_used_when_it_is_loaded(compiler):
    path = build.library()
    os.utime(path, (0, 0))
    assert build.library() == path and path.stat().st_mtime > time.time() - 100


def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


@pytest.mark.parametrize("given", [None, "", "relative/cache", "{file}/cache"])
def test_without_a_usable_cache_the_library_is_among_the_users_temporary_files(
    compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
):
    no_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    if given is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", given.format(file=tmp_path / "c++"))
    path = build.library()
    assert path.parent == tmp_path / f"tmp/efficientconv-{os.getuid()}" and build.library() == path
    assert path.parent.stat().st_mode & 0o777 == 0o700 and not (tmp_path / "relative").exists()


def test_what_is_another_users_is_not_loaded(compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    no_home(monkeypatch)
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path))
    build.library()
    (tmp_path / "cache/efficientconv").chmod(0o777)
    assert build.library() and builds(tmp_path) == 1  # the folder is made private again
    user = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: user)
    with pytest.raises(build.BuildError, match="another user's"):
        build.library()


def test_a_run_compiles_before_its_clock_starts(compiler, tmp_path: Path):
    compiler("echo 'x.cpp:1: error: none here' >&2; exit 1")
    call = [sys.executable, "train.py", *SMALL_RUN, "trainer.epochs=1", f"run_dir={tmp_path}/run"]
    done = subprocess.run(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    assert done.stdout.index("compiling the native kernels") < done.stdout.index("images:") < done.stdout.index("epoch 1/1")
