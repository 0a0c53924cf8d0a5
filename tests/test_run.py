"""Training and evaluation as a user runs them: real processes on real digits."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import ROOT, SMALL_RUN, command, warm_python
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.reporter import epoch_line
from efficientconv.engine.run_folder import RunFolder

TIMINGS = ("train_seconds", "images_per_s", "data_wait_percent")


def untimed(folder: Path) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in TIMINGS} for record in read_records(folder / "metrics.jsonl")]


def test_a_run_writes_what_it_did(finished_run):
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["model"]["name"] == "c" and config["trainer"]["epochs"] == 2 and config["seed"] == 0

    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["packages"]["torch"] and environment["threads"] >= 1 and environment["device"] == "cpu"
    assert not set(map(str, os.environ.values())) & {v for v in environment.values() if isinstance(v, str) and len(v) > 12}

    records = read_records(finished_run / "metrics.jsonl")
    assert [record["epoch"] for record in records] == [1, 2]
    for key in ("train_top1_percent", "val_top1_percent", "train_top5_percent", "val_loss", "lr", "images_per_s"):
        assert all(key in record for record in records), key

    summary = RunFolder(finished_run).summary()
    assert summary["images"] == summary["num_test"] == 359  # a fifth of the 1,797 digits
    assert summary["num_train"] + summary["num_val"] + summary["num_test"] == 1797
    assert summary["top1_percent"] == pytest.approx(100 * summary["top1"] / 359)
    assert summary["best_val_top1_percent"] == max(record["val_top1_percent"] for record in records)


def test_weights_carry_the_configuration_and_plain_names(finished_run):
    with safe_open(finished_run / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["model"]["name"] == "c"
        assert "stages.stage2.layers.0.conv.depthwise.weight" in file.keys()


@pytest.mark.parametrize("checkpoint", [None, "model.safetensors"])
def test_eval_gives_exactly_the_number_that_training_ended_with(finished_run, checkpoint):
    summary = RunFolder(finished_run).summary()
    extra = [] if checkpoint is None else [f"checkpoint={finished_run / checkpoint}"]
    done = command("eval.py", f"run={finished_run}", *extra)
    assert done.returncode == 0, done.stderr
    assert f"({summary['top1']} of {summary['images']})" in done.stdout
    assert f"loss {summary['loss']:.4f}" in done.stdout


def test_eval_on_another_set_of_the_same_classes(finished_run):
    done = command("eval.py", f"run={finished_run}", "data=synthetic", "data.num_images=400")
    assert done.returncode == 0 and "of 100)" in done.stdout, done.stderr


def test_eval_on_other_classes_is_refused(finished_run, tmp_path):
    for part, kind in itertools.product(("train", "test"), ("cat", "dog")):
        (tmp_path / part / kind).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / part / kind / "1.png")
    done = command("eval.py", f"run={finished_run}", "data=folder", f"data.root={tmp_path}")
    assert done.returncode == 2 and "was not trained on: 'cat', 'dog'" in done.stderr


def test_the_same_command_reports_a_finished_run_and_touches_nothing(finished_run):
    before = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    done = command("train.py", *SMALL_RUN, f"run_dir={finished_run}")
    assert done.returncode == 0 and "already trained" in done.stdout
    assert before == {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}


def test_a_killed_run_continues_and_ends_as_the_unbroken_one(finished_run, tmp_path):
    args = [*SMALL_RUN, f"run_dir={tmp_path / 'c'}", "trainer.checkpoint_minutes=0.001"]
    call = [*warm_python(), str(ROOT / "train.py"), *args]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("c/checkpoints/*.pt")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "c" / "summary.json").exists()

    done = command("train.py", *SMALL_RUN, f"run_dir={tmp_path / 'c'}")
    assert done.returncode == 0, done.stderr
    assert "continuing after step" in done.stdout
    weights = [load_file(folder / "model.safetensors") for folder in (finished_run, tmp_path / "c")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert untimed(tmp_path / "c") == untimed(finished_run)


@pytest.mark.slow
def test_the_commit_is_that_of_the_code_that_ran(tmp_path):
    """Not of what was checked out while it ran."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", clone], check=True)
    before = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip()
    run = tmp_path / "run"
    call = [*warm_python(), "train.py", *SMALL_RUN, f"run_dir={run}"]
    process = subprocess.Popen(call, cwd=clone, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (run / "environment.json").exists():
        time.sleep(0.05)
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "later"], cwd=clone, check=True)
    assert process.wait() == 0
    for name in ("environment.json", "summary.json"):
        assert json.loads((run / name).read_text())["git_commit"] == before, name


def test_the_folder_follows_from_the_configuration(tmp_path):
    args = [*SMALL_RUN, "trainer.epochs=1", f"output_root={tmp_path}"]
    first = command("train.py", *args)
    again = command("train.py", *args, "trainer.device=cpu", "logger=none")  # where and watched by what: the same run
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "already trained" in again.stdout
    assert len(list(tmp_path.iterdir())) == 1
    folder = re.search(r"run folder: (.*)", first.stdout)[1]
    assert Path(folder).name.startswith("c-digits-s0-")


def test_another_configuration_is_refused_in_an_occupied_folder(finished_run):
    done = command("train.py", *SMALL_RUN, "optim.lr=0.3", f"run_dir={finished_run}")
    assert done.returncode == 2
    assert "holds a run with optim.lr=0.1, not 0.3" in done.stderr


def test_moving_average_is_reported_under_its_own_name(tmp_path):
    args = ["model=a", "trainer.epochs=1", "trainer.ema_decay=0.9", f"run_dir={tmp_path / 'a'}"]
    done = command("train.py", *SMALL_RUN, *args)
    assert done.returncode == 0, done.stderr
    assert "test, averaged weights: top-1" in done.stdout
    summary = RunFolder(tmp_path / "a").summary()
    assert {"top1_percent", "ema_top1_percent"} <= summary.keys()
    evaluated = command("eval.py", f"run={tmp_path / 'a'}")
    assert f"averaged weights: top-1 {summary['ema_top1_percent']:.2f} %" in evaluated.stdout


@pytest.mark.slow
def test_wandb_without_a_key_keeps_an_offline_run_in_the_folder(tmp_path, no_wandb_account):
    args = [a for a in SMALL_RUN if not a.startswith("logger")]
    done = command("train.py", *args, "trainer.epochs=1", f"run_dir={tmp_path / 'c'}")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "c" / "wandb").glob("offline-run-*/run-*.wandb"))


def test_the_line_of_an_epoch_stays_within_80_columns_in_long_and_fast_runs():
    record = {"epoch": 90, "train_loss": 1.3451, "train_top1_percent": 99.25, "val_top1_percent": 99.5,
              "images_per_s": 12345.6, "train_seconds": 3600.0, "data_wait_percent": 12.0}  # fmt: skip
    reached, pace = "loss 1.345, top-1 99.25 %, val 99.50 %", "images/s, 10.0 h left"
    wait = "12 % of the epoch's time went by waiting for data"
    assert epoch_line(record | {"images_per_s": 999.4}, 100) == f"epoch 90/100: {reached}, 999 {pace}\n{wait}"
    assert epoch_line(record, 100) == f"epoch 90/100: {reached},\n  12346 {pace}\n{wait}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminal")
def test_on_a_terminal_of_80_columns_no_line_is_wider_and_the_bar_tells_what_is_left_of_the_run(tmp_path):
    import fcntl
    import pty
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    call = [*warm_python(), ROOT / "train.py", *SMALL_RUN, "model.width=0.25", "data.val_fraction=0.1", "run_dir=run"]
    process = subprocess.Popen(call, cwd=tmp_path, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # which is how Linux tells of its end
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    assert "\x1b[32m" in shown.decode()  # green
    lines = [re.sub(r"\x1b\[[0-9;]*\w", "", line) for line in re.split(r"[\r\n]+", shown.decode())]
    assert max(map(len, lines)) <= 80
    told = r"epoch 1/2: loss \d\.\d{3}, top-1 \d+\.\d\d %, (val \d+\.\d\d %, )?\d+ images/s, \d+ s left"
    assert any(re.search(told, line) and "\u2588" in line for line in lines)
    assert any(re.fullmatch(told, line) and "val" in line for line in lines)
