"""Short real runs that several tests share; one thread for the tests and for the programs that they start.

Their maps are tiny, and where others use the cores too, OpenMP's threads wait for each other ten times as long as they
work. OpenMP reads the number once, when torch loads it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from warm_python import program as warm_program

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of a thousand processes would compile the package
AT_START = dict(os.environ)

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "tests" / "warm_python.py"
Environment = Mapping[str, str]
at_end = ExitStack()
# model C, an eighth of the width, on real digits: about a second an epoch
SMALL_RUN = (
    "data=digits", "model.width=0.125", "schedule=onecycle", "optim.lr=0.1", "trainer.epochs=2",
    "trainer.global_batch_size=64", "logger=jsonl",
)  # fmt: skip
# files whose tests take a minute and more: begun first, so that none of them is left to one worker alone at the end
LONG = (
    "test_reproduce.py", "test_report.py", "test_torture.py", "test_run.py", "test_distributed.py", "test_equal_cost.py",
    "test_native_sanitizers.py", "test_sweep_cluster.py", "test_sweep.py", "test_tune.py", "test_logger_failures.py",
)  # fmt: skip
# fixtures that take ten seconds and more; each test that needs one is marked slow
SLOW = {"reproduced", "searched", "swept", "run_of_two", "outputs", "project", "installed", "day"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def command(script: str, *args: object, cwd: Path = ROOT, env: Environment = os.environ) -> subprocess.CompletedProcess:
    """Runs `python <script> <args>` of the repository as a user would, and returns what it printed."""
    call = [*warm_python(), str(ROOT / script), *map(str, args)]
    return subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


def warm_python() -> list[str]:
    """What starts a script without torch's import (warm_python.py)."""
    if sys.platform != "linux":
        return [sys.executable]
    return [sys.executable, "-IS", str(SERVER), "ask", server_address()]


def warm_executable() -> str:
    """A program to set as sys.executable: runs that this process starts begin warm (program in warm_python.py)."""
    return sys.executable if sys.platform != "linux" else str(Path(server_address()).with_name("python"))


@cache
def server_address() -> str:
    """Of the server of this test process, started when first asked for."""
    folder = tempfile.TemporaryDirectory()
    address, program = f"{folder.name}/socket", Path(folder.name) / "python"
    program.write_text(warm_program(address))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        number = listener.fileno()
        call = [sys.executable, SERVER, "serve", str(number), program]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)  # as those of its processes are
        server = subprocess.Popen(call, cwd=ROOT, env=AT_START, pass_fds=[number], **pipes)
    at_end.callback(folder.cleanup)
    at_end.callback(server.communicate)
    return address


def pytest_sessionfinish() -> None:
    at_end.close()


def train_here(*overrides: object) -> dict:
    """What train.py does with them, in this process: its summary, or what it raises."""
    from efficientconv.cli import compose  # here: OMP_NUM_THREADS comes before torch
    from efficientconv.config import RunConfig
    from efficientconv.engine.run import train
    from efficientconv.signals import SIGNALS
    from efficientconv.validation import validate

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return train(validate(RunConfig, compose("train", list(map(str, overrides)))))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def combinations(*arguments: str) -> list[dict]:
    """The settings of each run that `train.py <arguments>`, with -m among them, would train."""
    from efficientconv import cli
    from efficientconv.signals import SIGNALS
    from hydra_plugins.efficientconv import GridSweeper

    found: list[dict] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train.py", *arguments])
            patch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets
            patch.setattr(GridSweeper, "sweep", lambda self, arguments: found.extend(self.combinations(arguments)))
            cli.entry("train", sweeps=True)(lambda values: None)()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return found


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of model C. Tests read it; those that change it copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "c"
    done = command("train.py", *SMALL_RUN, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def no_wandb_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's key, settings or cache of W&B."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))  # compiled kernels
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
