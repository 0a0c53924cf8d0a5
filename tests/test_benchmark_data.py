"""scripts/benchmark_data.py in small: every pipeline runs, and the files say what was measured."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal

import pytest

from conftest import command
from efficientconv.benchmark import pipelines
from test_data_helpers import photos


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "2000"), "benchmark_data.py: error: argument --workers: give at most 1024"),
        (("--count", "63"), "error: --count 63 is less than a batch of 64 images: give more"),
        (("--count", "64"), "error: no images in"),  # class folders that hold folders
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message, tmp_path):
    (tmp_path / "images/n1/inside").mkdir(parents=True)
    done = command("scripts/benchmark_data.py", tmp_path / "images", *arguments, "--output-dir", tmp_path / "results")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(message), done.stderr


def test_the_images_of_an_epoch_are_of_all_classes(tmp_path):
    """Of 1300 images in each of ImageNet's classes, 640 in order would be of one class, which nothing can learn."""
    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "images" / name / f"{number}.jpg").touch()
    pipelines.lay_out(pipelines.photographs(tmp_path / "images"), tmp_path / "laid", 9)
    assert [len(list(tmp_path.glob(f"laid/train/{name}/*"))) for name in ("a", "b", "c")] == [4, 3, 2]


def test_ctrl_c_reaches_torchvisions_workers_only_through_the_command(tmp_path):
    photos(tmp_path / "train" / "a", 64)
    epoch = pipelines.usual(tmp_path, 1)
    assert epoch() == 64
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)
    assert epoch() == 64


def test_every_pipeline_is_measured(tmp_path):
    for name in ("n00000001", "n00000002"):
        photos(tmp_path / "images" / name, 8)
    args = ("--count", "64", "--repeats", "2", "--workers", "2", "--output-dir", tmp_path / "results")
    done = command("scripts/benchmark_data.py", tmp_path / "images", *args)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "results/data_throughput.csv", newline="") as file:
        measured = list(csv.DictReader(file))
    assert len(measured) == 14 and all(float(row["images_per_s"]) > 0 and float(row["worker_us"]) > 0 for row in measured)
    rows = [row for row in measured if row["workers"] == "1"]
    rates = {row["pipeline"]: float(row["images_per_s"]) for row in rows}
    shares = {row["pipeline"]: row["limit_share"] for row in rows}
    for name, limit in (("ours, prepared", "decode alone, prepared"), ("ours, folders", "decode alone, folders")):
        assert float(shares[name]) == pytest.approx(rates[name] / rates[limit], rel=1e-3) and float(shares[limit]) == 1
    assert shares["ours, prepared, raw"] == ""
    text = (tmp_path / "results/data_throughput.md").read_text()
    assert "16 photographs, 64 an epoch" in text and "| ours, prepared over torchvision ImageFolder | 5 |" in text
