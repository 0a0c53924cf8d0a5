"""Sweeps through submitit, whose own code submits, waits and requeues; sbatch and its kin are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import slurm_stand_in
from conftest import ROOT
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.run_folder import RunFolder

EPOCHS = 15  # some seconds after the first, for the signal to come in time
SMOKE = ("tier=smoke", f"trainer.epochs={EPOCHS}", "output_root=out")


def command_line(pid: int) -> str:
    """Empty once the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def step_of(folder: Path, state: Path) -> list[int]:
    """The processes of the Slurm step that trains in `folder`, as Slurm would signal them: all.

    None at times: the kernel's list of children may lack one while processes come and go.
    """
    for path in state.glob("step-*"):
        family = [int(path.read_text())]
        for pid in family:
            family += children_of(pid)
        if any(str(folder) in command_line(pid) for pid in family):
            return family
    return []


@pytest.mark.slow
def test_a_preempted_job_saves_is_requeued_and_goes_on_in_its_folder_while_another_fails(tmp_path):
    slurm_stand_in.install(tmp_path / "bin")
    (tmp_path / "state").mkdir()
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_STAND_IN": str(tmp_path / "state")}
    call = [sys.executable, str(ROOT / "train.py"), "-m", *SMOKE, "optim.lr=1e30,0.1", "hydra/launcher=submitit_slurm"]
    sweep = subprocess.Popen(call, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def healthy() -> list[Path]:
        return [path.parent for path in tmp_path.glob("out/smoke/*/metrics.jsonl") if read_records(path)]

    while not healthy():
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
    (folder,) = healthy()
    while not (step := step_of(folder, tmp_path / "state")):
        assert sweep.poll() is None, sweep.communicate()
    for pid in step:
        with suppress(ProcessLookupError):  # a short-lived one that is gone
            os.kill(pid, signal.SIGUSR1)

    stdout, stderr = sweep.communicate(timeout=300)
    assert sweep.returncode == 3, stdout + stderr
    *_, diverged, total = stdout.splitlines()
    assert "diverged" in diverged and "the loss of step 2 is not finite" in diverged and total == "2 runs: 1 ok, 1 diverged"
    assert f"{RunFolder(folder).summary()['top1_percent']:.2f} (1)" in stdout
    log = (folder / "log.txt").read_text()
    assert log.count("stopped by a signal") == 1 and "continuing after step" in log
    assert [record["epoch"] for record in read_records(folder / "metrics.jsonl")] == list(range(1, EPOCHS + 1))
    assert RunFolder(folder).state() == "done"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "out", "state"]
