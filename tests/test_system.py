"""Where the system lacks what Linux has, as macOS and Windows do: commands end with the same numbers.

The calls are taken away here; on the systems themselves nothing was run.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import benchmark_data
import pytest

from conftest import ROOT, command
from efficientconv import files, system
from efficientconv.data.parallel import Capacity, capacity
from efficientconv.errors import UserError
from efficientconv.native import build
from efficientconv.signals import held_back
from test_data_helpers import make_photos, train

# what Windows has not, taken from a process before its first import of ours
WITHOUT = """
import ctypes, multiprocessing, os, runpy, select, signal, sys
import torch
multiprocessing.set_start_method("spawn")
for name in (
    "sched_getaffinity", "fork", "getuid", "fchmod", "killpg", "getloadavg",
    "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY",
):
    delattr(os, name)
for name in ("SIGUSR1", "SIGPIPE", "SIGKILL"):
    delattr(signal, name)
del select.poll
os.cpu_count = lambda: 1
sys.modules["fcntl"] = None
class CDLL(ctypes.CDLL):
    def __init__(self, name, *args, **options):
        if name is None:
            raise TypeError("as on Windows")
        super().__init__(name, *args, **options)
ctypes.CDLL = CDLL
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""


def without(script: str, *args: object) -> subprocess.CompletedProcess:
    call = [sys.executable, "-c", WITHOUT, str(ROOT / script), *map(str, args)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "USERNAME": "somebody"}  # as Windows sets it; torch asks for it
    return subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_run_is_trained_and_evaluated_without_what_windows_lacks(tmp_path: Path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            make_photos(tmp_path / split / name)
    settings = (
        "model=c", "model.width=0.125", "model.layout=cifar", "data=folder", f"data.root={tmp_path}", "trainer.epochs=1",
        "data.image_size=32", "trainer.global_batch_size=8", "data.val_fraction=0", "logger=jsonl",
    )  # fmt: skip
    folder = tmp_path / "run"
    done = without("train.py", *settings, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("native layers not available, the plain PyTorch ones run instead: Windows") == 1
    assert "No locks available" in done.stderr and "Traceback" not in done.stderr
    evaluated = command("eval.py", f"run={folder}", "device=cpu")
    top1 = json.loads((folder / "summary.json").read_text())["top1_percent"]
    assert evaluated.returncode == 0 and f"{top1:.2f}" in evaluated.stdout


def test_a_measurement_of_forked_workers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(sys, "argv", ["benchmark_data.py", str(tmp_path)])
    with pytest.raises(UserError, match="run this on Linux"):
        benchmark_data.main()


@pytest.mark.parametrize("script", ["scripts/tune.py"])
def test_commands_begin_without_it(script: str):
    done = without(script, "--help")
    assert done.returncode == 0, done.stderr


def test_the_lock_of_windows_refuses_the_second_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As msvcrt.locking is documented: EACCES where the region is locked."""
    held: set[Path] = set()

    def locking(file: int, mode: str, count: int) -> None:
        name = Path(f"/proc/self/fd/{file}").resolve()
        if name in held:
            raise OSError(errno.EACCES, "Permission denied")
        held.add(name)

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK="try", LK_LOCK="wait"))
    files.lock(tmp_path / "lock", "busy")
    with pytest.raises(files.InUse, match="busy"):
        files.lock(tmp_path / "lock", "busy")


def test_the_training_process_decodes_where_forks_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert capacity(4, 10**6, batches=100, available_bytes=10**12) == Capacity(0, 0, 10**6)
    loader = train(make_photos(tmp_path), batch=4, workers=2)
    assert "decoded by the training process" in str(loader)
    assert len(list(loader.epoch(0))) > 0


def test_workers_start_where_signals_cannot_be_held_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(signal, "pthread_sigmask")
    with held_back():
        pass


def test_cores_and_memory_where_the_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.cores() == os.cpu_count()
    assert system.available_memory(tmp_path / "meminfo") == sys.maxsize


def test_info_says_why_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "HAVE_OWNERS", False)
    assert build.compiled() is None
    with pytest.raises(build.BuildError, match="Windows"):
        build.compiler()
