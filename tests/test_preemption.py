"""Signals, the lock, the status file: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import ROOT, SMALL_RUN, command, warm_python
from efficientconv.engine.checkpoint import load_newest
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.preemption import Preemption
from efficientconv.signals import SIGNALS, Preempted

LONG_RUN = [*SMALL_RUN, "trainer.epochs=200"]


def start(folder: Path, *args: str) -> subprocess.Popen:
    call = [*warm_python(), str(ROOT / "train.py"), *LONG_RUN, f"run_dir={folder}", *args]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_the_step_and_leaves_with_the_documented_code(number, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(lambda: (folder / "metrics.jsonl").exists() and read_records(folder / "metrics.jsonl"), process)
    assert status(folder)["state"] == "running"
    time.sleep(0.3)  # somewhere inside an epoch
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == Preempted.exit_code == 75
    assert stderr == "stopped by a signal; the same command continues\n"
    left = status(folder)
    assert left["state"] == "preempted"
    assert load_newest(folder / "checkpoints")[1]["step"] == left["step"] >= 20

    again = start(folder)
    wait_for(lambda: status(folder)["state"] == "running", again)
    again.send_signal(signal.SIGTERM)
    stdout, _ = again.communicate(timeout=60)
    assert f"continuing after step {left['step']}" in stdout


def test_a_second_signal_ends_at_once_and_loses_nothing_saved(tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(lambda: list(folder.glob("checkpoints/*.pt")), process)
    saved = load_newest(folder / "checkpoints")[1]["step"]
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == Preempted.exit_code
    assert load_newest(folder / "checkpoints")[1]["step"] >= saved


def test_asked_after_a_signal_it_does_not_take_it_for_a_second(monkeypatch):
    # Slurm signals all processes of a job: the run itself, and its parent, which then asks it
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended at once"))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    preemption = Preemption(together=True)  # raises nothing
    preemption.install()
    try:
        preemption.ask()
        assert preemption.pending
        preemption.ask()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_a_second_process_on_the_folder_is_refused_and_a_crash_leaves_no_lock(tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    wait_for(lambda: list(folder.glob("checkpoints/*.pt")), process)
    second = command("train.py", *LONG_RUN, f"run_dir={folder}")
    assert second.returncode == 2 and "is in use by another process" in second.stderr
    process.kill()
    process.wait()
    killed = status(folder)["pid"]
    third = start(folder)
    wait_for(lambda: status(folder)["pid"] != killed, third)
    third.kill()
    third.wait()


def test_a_failure_is_in_the_status_with_its_reason(tmp_path):
    folder = tmp_path / "run"
    done = command("train.py", *SMALL_RUN, f"run_dir={folder}", "optim.lr=1e30")
    assert done.returncode == 3
    assert "the loss of step 2 is not finite" in done.stderr and done.stderr.count("\n") == 1
    assert status(folder)["state"] == "diverged" and "step 2" in status(folder)["reason"]
