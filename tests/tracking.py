"""Run folders with loggers, without the training; and what W&B has of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from efficientconv.config import LoggerConfig, WandbConfig
from efficientconv.engine.epoch_log import EpochLog, read_records
from efficientconv.tracking.loggers import Loggers, start_loggers
from efficientconv.tracking.wandb_copy import read_copy
from wandb_server import API_KEY

LOGGER = LoggerConfig(wandb=WandbConfig(project="p", group="g", tags=["one", "two"]))
CONFIG = {"seed": 0, "model": {"name": "c", "width": 0.125, "stages": {"stage2": {"depth": 2}}}, "data": {"root": None}}
FACTS = {"macs": 1_530_000, "params": 74_000, "activations": 50_000, "layout": "cifar"}
GIVE_UP_S = 120.0


def use_server(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)


def start(folder: Path, logger: LoggerConfig | None = None) -> Loggers:
    """A run's folder, as run.py makes it, and its loggers; without `logger` W&B's."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "facts.json").write_text(json.dumps(FACTS))
    return start_loggers(logger or LOGGER, folder)


def write(folder: Path, epochs: range, summary: bool) -> None:
    """EpochLog of a resumed run's epochs, the earlier ones being there or not; and its summary, if it is done."""
    records = EpochLog(folder / "metrics.jsonl")
    records.values = read_records(records.path)[: epochs[0] - 1]
    for epoch in epochs:
        records.add({"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch, "train_seconds": 1.5})
    if summary:
        values = FACTS | {"top1_percent": 37.5, "train_seconds": 1.5 * epochs[-1]}
        (folder / "summary.json").write_text(json.dumps(values))


def run(folder: Path, epochs: range, summary: bool = True, logger: LoggerConfig | None = None) -> list[str]:
    """Returns the lines that say where the copies are."""
    loggers = start(folder, logger)
    write(folder, epochs, summary)
    return loggers.finish()


def run_until_killed(folder: Path, epochs: range) -> None:
    """As `run`, by a process that is killed after the last of the epochs."""

    def train() -> None:
        loggers = start(folder)
        write(folder, epochs, summary=False)
        time.sleep(GIVE_UP_S)
        loggers.finish()

    process = multiprocessing.get_context("fork").Process(target=train)
    process.start()
    wait_until(lambda: list(folder.glob("wandb/*run-*/run-*.wandb")))
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def wait_until(condition) -> None:
    end = time.monotonic() + GIVE_UP_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def processes(folder: Path) -> list[bytes]:
    """The command lines of a folder's follower and of what it started."""
    lines = {path.parent.name: read_bytes(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    own = [pid for pid, line in lines.items() if b"follower.py\0wandb" in line and bytes(folder) in line]
    services = [f"--pid\0{pid}\0".encode() for pid in own]
    return [line for pid, line in lines.items() if pid in own or line.endswith(tuple(services))]


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile
        return b""


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/*run-*"))


def kept_steps(folder: Path) -> list[int]:
    """Of all offline copies."""
    items = [r.history.item for copy in copies(folder) for r in read_copy(copy) if r.HasField("history")]
    return [json.loads(item.value_json) for record in items for item in record if item.nested_key[:] == ["_step"]]


def kept_values(folder: Path) -> tuple[dict, dict, dict]:
    """Configuration and summary, and the run's own description, of the one offline copy."""
    (copy,) = copies(folder)
    records = list(read_copy(copy))
    described = next(r.run for r in records if r.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in described.config.update}
    summary = {}
    for update in (item for r in records if r.HasField("summary") for item in r.summary.update):
        summary[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
    return config, summary, {"id": described.run_id, "group": described.run_group, "tags": described.tags[:]}


def state(folder: Path) -> dict:
    return json.loads((folder / "wandb.json").read_text())
