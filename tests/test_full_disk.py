"""No space and no permission: found at the start where that can be, survived in the middle, told at the end."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import namedtuple

import pytest

from conftest import ROOT, SMALL_RUN, command
from efficientconv.engine import store as store_module
from efficientconv.engine.checkpoint import load_newest
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.store import RunStore
from efficientconv.errors import UserError
from test_trainer import Batches, make_trainer, small_model, training_of

NO_LIMIT = resource.RLIM_INFINITY


def train_with_file_limit(limit_bytes: int, *args: str) -> subprocess.CompletedProcess:
    """No file of the run can grow beyond the limit: to the program it is a full disk, at a known place."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, NO_LIMIT))

    call = [sys.executable, str(ROOT / "train.py"), *SMALL_RUN, *args]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300, preexec_fn=limit)


def test_training_goes_on_and_says_at_the_end_that_nothing_was_saved(tmp_path):
    folder = tmp_path / "c"
    done = train_with_file_limit(100_000, f"run_dir={folder}")  # a checkpoint has 600 kB, a record 500 bytes
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith("warning: step 20 could not be saved") and "training goes on" in lines[0]
    assert lines[-1].startswith("error: training is done, but its last state could not be saved")
    assert "Traceback" not in done.stderr
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"
    assert not list(folder.glob("checkpoints/*")), "nothing half-written is left"

    again = command("train.py", *SMALL_RUN, f"run_dir={folder}")  # the disk has been cleared
    assert again.returncode == 0, again.stderr
    assert (folder / "summary.json").exists()


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    trainer = make_trainer(small_model())
    store = RunStore(RunFolder(tmp_path), training_of(trainer))
    steps = trainer.train_epoch(Batches(4, 4), 0)
    next(steps)
    store.save()
    next(steps)
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.warns(UserWarning, match="step 2 could not be saved .*No space left on device"):
        store.save()
    monkeypatch.setattr(os, "replace", real)
    checkpoints = tmp_path / "checkpoints"
    assert load_newest(checkpoints)[1]["step"] == 1 and store.saved_step == 1
    assert len(list(checkpoints.iterdir())) == 1


def test_too_little_space_is_found_at_the_start(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    store = RunStore(RunFolder(tmp_path), training_of(make_trainer(small_model())))
    with pytest.raises(UserError, match="has 0.0 MB free, and checkpoints need .* MB; free some"):
        store.check_space()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("train.py", *SMALL_RUN, f"output_root={tmp_path / 'file'}")
    assert done.returncode == 2, done.stderr
    assert "cannot make the run folder" in done.stderr and done.stderr.count("\n") == 1
