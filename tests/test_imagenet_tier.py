"""The tier `imagenet` from the images to the table, as a user types it: prepare, train, be killed, resume, evaluate."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, command
from test_data_helpers import official

# model C, an eighth of the width, 4 steps an epoch; a checkpoint after each step
RUN = (
    "tier=imagenet", "model=c", "model.width=0.125", "trainer.epochs=3", "trainer.global_batch_size=8", "logger=jsonl",
    "data.val_fraction=0.1", "trainer.checkpoint_minutes=0.00001", "data.workers=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, Path]:
    """(folders, the same prepared): 40 images of train, 10 of val."""
    folders = official(tmp_path_factory.mktemp("official"), num_classes=5, per_class=10)
    target = tmp_path_factory.mktemp("prepared") / "set"
    done = command("scripts/prepare_imagenet.py", folders, target, "--subset")
    assert done.returncode == 0, done.stderr
    return folders, target


def evaluated(run: Path, *args: str) -> int:
    """Images of 10 that are right."""
    done = command("eval.py", f"run={run}", *args)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"\((\d+) of 10\)", done.stdout)[1])


def started(run: Path, *args: str) -> subprocess.Popen:
    """Training that has saved two checkpoints."""
    call = [sys.executable, str(ROOT / "train.py"), *args, f"run_dir={run}"]
    process = subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while len(list((run / "checkpoints").glob("*.pt"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_a_killed_decoding_process_is_one_line(sets, tmp_path):
    process = started(tmp_path / "run", *RUN, f"data.root={sets[1]}", "trainer.epochs=50")
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 2 and "Traceback" not in errors and errors.count("error: ") == 1, errors
    assert "a decoding worker was killed" in errors and "data.workers" in errors


def test_prepare_train_be_killed_resume_evaluate_tabulate(sets, tmp_path):
    folders, target = sets
    run, args = tmp_path / "run", (*RUN, f"data.root={target}", f"run_dir={tmp_path / 'run'}")
    process = started(run, *args[:-1])
    process.kill()
    process.wait()

    refused = command("train.py", *args, f"data.root={folders}")
    assert refused.returncode == 2 and "was begun on prepared " in refused.stderr and "has original" in refused.stderr
    done = command("train.py", *args)
    assert done.returncode == 0, done.stderr
    assert "continuing after step" in done.stdout and "images: 1 worker decodes, 2 batches ahead each" in done.stdout
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data_pixels"].startswith("prepared ") and summary["data_name"] == "part of imagenet"
    assert (summary["image_size"], summary["num_train"], summary["num_val"], summary["num_test"]) == (221, 35, 5, 10)

    assert evaluated(run) == summary["top1"]
    on_folders = evaluated(run, "data=imagenet", f"data.root={folders}")
    assert abs(on_folders - summary["top1"]) <= 1  # the bound: one image in ten may change sides
    table = command("scripts/table.py", run)
    assert table.returncode == 0, table.stderr
    assert re.search(r"^c +18\.90 ", table.stdout, re.MULTILINE), table.stdout
