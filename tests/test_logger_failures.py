"""Nothing that W&B does changes a training, holds it up for long, or says more than one line."""

from __future__ import annotations

import json
import resource
import shlex
import signal
import socket
from pathlib import Path

import pytest

import tracking
from conftest import SMALL_RUN, command
from efficientconv.tracking import loggers as loggers_module
from efficientconv.tracking.loggers import Loggers
from wandb_server import WandbServer

TIMINGS = (
    "train_seconds", "images_per_s", "data_wait_percent", "train_images_per_s", "ms_per_image", "limit_share", "binds",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_wandb_account")


def the_one_warning(folder: Path, loggers: Loggers) -> str:
    with pytest.warns(UserWarning) as warnings:
        loggers.finish()
    (message,) = [str(warning.message) for warning in warnings]
    assert "\n" not in message and message.endswith(f"python scripts/track.py {shlex.quote(str(folder))}")
    return message


def test_a_folder_that_wandb_cannot_write(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "wandb").touch()
    loggers = tracking.start(tmp_path / "c")
    tracking.write(tmp_path / "c", range(1, 3), summary=True)
    assert "Not a directory" in the_one_warning(tmp_path / "c", loggers)


def test_a_disk_that_is_full_for_wandb(tmp_path):
    loggers = tracking.start(tmp_path / "c")
    resource.prlimit(loggers.processes["wandb"].pid, resource.RLIMIT_FSIZE, (4096, 4096))
    tracking.write(tmp_path / "c", range(1, 40), summary=True)
    the_one_warning(tmp_path / "c", loggers)


def test_a_follower_that_stops_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers_module, "WAIT_LIMIT_S", 1.0)
    loggers = tracking.start(tmp_path / "c")
    loggers.processes["wandb"].send_signal(signal.SIGSTOP)
    tracking.write(tmp_path / "c", range(1, 3), summary=True)
    assert "no answer for 1 s" in the_one_warning(tmp_path / "c", loggers)
    assert loggers.processes["wandb"].returncode == -signal.SIGKILL


def test_signals_to_all_processes_of_a_job_do_not_end_the_follower(tmp_path):
    loggers = tracking.start(tmp_path / "c")
    tracking.wait_until(lambda: tracking.copies(tmp_path / "c"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        loggers.processes["wandb"].send_signal(number)
    tracking.write(tmp_path / "c", range(1, 3), summary=True)
    loggers.finish()
    assert tracking.kept_steps(tmp_path / "c") == [1, 2]


@pytest.mark.slow
def test_servers_that_refuse_take_no_uploads_or_are_not_there(tmp_path, monkeypatch):
    reasons = {"refuses": "error 401", "loses uploads": "TimeoutError", "closed": "connection refused"}
    of_folders = {}
    with WandbServer("refuses") as refuses, WandbServer("loses uploads") as loses:
        for name, url in zip(reasons, (refuses.url, loses.url, closed_url())):  # at once: they wait together
            tracking.use_server(monkeypatch, url)
            of_folders[name] = tracking.start(tmp_path / name)
            tracking.write(tmp_path / name, range(1, 3), summary=True)
        for name, reason in reasons.items():
            assert reason in the_one_warning(tmp_path / name, of_folders[name])
    for name in ("refuses", "closed"):  # found at the start, so kept offline
        assert tracking.kept_steps(tmp_path / name) == [1, 2]


@pytest.mark.slow
def test_a_server_that_hangs_changes_nothing_but_one_warning(finished_run, tmp_path, monkeypatch):
    with WandbServer("hangs") as server:
        tracking.use_server(monkeypatch, server.url)
        done = command("train.py", *SMALL_RUN, "logger=wandb", f"run_dir={tmp_path / 'c'}")
    assert done.returncode == 0, done.stderr
    for name in ("metrics.jsonl", "summary.json"):
        assert untimed(tmp_path / "c" / name) == untimed(finished_run / name)
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: W&B may lack all after epoch 0 of this run (CommError: ")
    assert line.endswith(f"python scripts/track.py {tmp_path / 'c'}")
    assert tracking.kept_steps(tmp_path / "c") == [1, 2]


def closed_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def untimed(path: Path) -> list[tuple]:
    """All values of a file of JSON but the timings."""
    text = path.read_text()
    records = [json.loads(text)] if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    return [item for record in records for item in record.items() if item[0] not in TIMINGS]
