"""The search: what it tries is counted, what is cut off goes on, what is hopeless is pruned, no test image is seen."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from conftest import ROOT, command, warm_python
from efficientconv.cli import compose
from efficientconv.config import RunConfig
from efficientconv.engine.epoch_log import read_records
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.results.report.sources import find_sources
from efficientconv.sweep.ranges import split_ranges
from efficientconv.sweep.search import Search
from efficientconv.validation import validate
from test_data_helpers import tree

RANGES = ("optim.lr=tag(log,interval(0.05,0.2))", "schedule=choice(onecycle,cosine)")
ARGS = (*RANGES, "tier=smoke", "output_root=out", "--study", "rate", "--trials")


def rows(root: Path) -> list[dict]:
    """In the order of the trials; the file has the best first."""
    with open(root / "out/tune/rate/trials.csv") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["trial"]))


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, str]:
    """Two trials at a time, killed with their search after an epoch of the second, and the search continued."""
    root = tmp_path_factory.mktemp("tune")
    killed = subprocess.Popen(
        [*warm_python(), ROOT / "scripts/tune.py", *ARGS, "2", "--jobs", "2"], cwd=root, stdout=subprocess.PIPE, text=True
    )
    trained: list[RunFolder] = []
    while len(trained) < 2 or not read_records(trained[1].metrics_file):
        assert killed.poll() is None, killed.communicate()
        started = sorted(root.glob("out/tune/rate/*/config.yaml"), key=lambda path: path.stat().st_mtime)
        trained = [RunFolder(path.parent) for path in started]
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    while any(folder.state() == "running" for folder in trained):
        time.sleep(0.02)
    return root, command("scripts/tune.py", *ARGS, "2", "--jobs", "2", cwd=root), trained[1].path.name


def test_a_killed_search_continues_and_counts_its_trials(searched):
    root, done, cut_off = searched
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(row["trial"], row["state"], row["epochs"]) for row in rows(root)] == [
        ("0", "finished", "3"), ("1", "finished", "3"),
    ]  # fmt: skip
    assert rows(root)[1]["run"] == cut_off
    assert "continuing after step" in (root / "out/tune/rate" / cut_off / "log.txt").read_text()
    for row in rows(root):
        records = read_records(root / "out/tune/rate" / row["run"] / "metrics.jsonl")
        assert row["val_top1_percent"] == f"{records[-1]['val_top1_percent']:.6g}"
        assert 0.05 <= float(row["optim.lr"]) <= 0.2 and row["schedule"] in ("onecycle", "cosine")


def test_each_trial_is_told_with_the_best_so_far_and_a_table_ranks_them(searched):
    root, done, _ = searched
    ranked = sorted(rows(root), key=lambda row: -float(row["val_top1_percent"]))
    rates = {row["trial"]: f"{float(row['optim.lr']):.4g}" for row in ranked}
    for number, rate in rates.items():
        assert f"trial {number}: optim.lr={rate} schedule=" in done.stdout
        assert re.search(rf"trial {number} finished after \d+ s: [\d.]+; best so far [\d.]+ \(trial [01]\)", done.stdout)
    best = f"{float(ranked[0]['val_top1_percent']):.2f}"
    assert re.search(rf"\[2/2\] trial . finished after .*; best so far {best} \(trial {ranked[0]['trial']}\)", done.stdout)
    _, table, _ = done.stdout.split("\n\n")
    head, *lines = (re.split("  +", line.strip()) for line in table.splitlines())
    assert head == ["trial", "state", "held-out top-1 %", "epochs", "seconds", "optim.lr", "schedule"]
    assert [(line[0], line[2], line[5]) for line in lines] == [
        (row["trial"], f"{float(row['val_top1_percent']):.2f}", rates[row["trial"]]) for row in ranked
    ]


def test_two_trials_with_one_setting_at_a_time_have_folders_of_their_own(tmp_path):
    same = search(tmp_path / "study", "optim.lr=choice(0.1)")
    same.trials = 2
    first, second = (start.folder.name for start in same._starts())
    assert second == f"{first}-trial1"


def test_no_trial_looks_at_the_test_images(searched):
    root, done, _ = searched
    folders = [RunFolder(root / "out/tune/rate" / row["run"]) for row in rows(root)]
    assert [folder.state() for folder in folders] == ["trained", "trained"]
    for text in (done.stdout, *((folder.path / "log.txt").read_text() for folder in folders)):
        assert "epoch 3/3" in text or text is done.stdout
        assert "test: " not in text


def test_the_best_setting_is_a_command(searched):
    root, done, _ = searched
    best = max(rows(root), key=lambda row: float(row["val_top1_percent"]))
    python, script, *overrides = shlex.split(done.stdout.splitlines()[-1])
    assert (python, script) == ("python", "train.py")
    config = validate(RunConfig, compose("train", overrides))
    assert config.tier == "smoke" and config.schedule.name == best["schedule"]
    assert f"{config.optim.lr:.6g}" == best["optim.lr"]


def test_a_trial_below_the_median_is_pruned(searched):
    root, _, _ = searched
    study = optuna.load_study(storage=f"sqlite:///{root / 'out/tune/rate/study.db'}", study_name="rate")
    for _ in range(3):  # with those before, as many as the pruner wants to have seen
        study.add_trial(optuna.create_trial(value=100.0, intermediate_values={1: 100.0, 2: 100.0, 3: 100.0}))
    done = command("scripts/tune.py", *ARGS, "6", cwd=root)
    assert done.returncode == 0, done.stderr
    last = rows(root)[-1]
    assert (last["trial"], last["state"]) == ("5", "pruned") and int(last["epochs"]) < 3
    assert re.search(r"\[6/6\] trial 5 pruned after .*; best so far 100.00 \(trial 2\)", done.stdout)
    shown = {run.record.run: run.record for run in find_sources([root / "out"]).runs}
    assert [shown[row["run"]].state for row in rows(root) if row["run"]] == ["finished", "finished", "pruned"]
    assert shown[last["run"]].reason == "a trial of a search, which ended it: its accuracy was below the median"
    listed = [line.split() for line in command("scripts/runs.py", "list", root / "out", cwd=root).stdout.splitlines()]
    accuracy = f"{max(record['val_top1_percent'] for record in shown[last['run']].metrics):.2f}"
    assert [line[1:4] for line in listed if line[0] == last["run"]] == [["pruned", f"{last['epochs']}/3", accuracy]]
    assert "stopped by a signal" in (root / "out/tune/rate" / last["run"] / "log.txt").read_text()


@pytest.mark.parametrize(("epochs", "pruned"), [(2, True), (3, False)])
def test_no_trial_is_pruned_after_its_last_epoch(epochs, pruned, tmp_path):
    """Then it is trained, and its accuracy counts."""
    hopeless = search(tmp_path / "study", "optim.lr=choice(0.1)")
    for _ in range(5):  # as many as the pruner wants to have seen
        hopeless.study.add_trial(optuna.create_trial(value=100.0, intermediate_values={1: 100.0, 2: 100.0, 3: 100.0}))
    hopeless.trials = 6
    start, asked = next(hopeless._starts()), []
    records = [{"epoch": epoch, "val_top1_percent": 1.0} for epoch in range(1, epochs + 1)]
    RunFolder(start.folder).metrics_file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    job = SimpleNamespace(folder=start.folder, asked=False, running=lambda: True, ask_to_end=lambda: asked.append(True))
    hopeless._watch(job)
    assert bool(asked) == pruned == hopeless.under_way[start.folder].pruned


def search(folder: Path, *overrides: str) -> Search:
    fixed, ranges = split_ranges(["tier=smoke", *overrides])
    return Search(folder, ranges, lambda more: validate(RunConfig, compose("train", [*fixed, *more])))


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["optim.lr=interval(0.5,1)", RANGES[1]], "another range of optim.lr"),
        ([RANGES[0]], "another range of schedule"),
        ([*RANGES, "trainer.epochs=4"], "other settings"),
    ],
)
def test_another_question_is_not_put_into_the_same_study(overrides, what, searched):
    with pytest.raises(UserError, match=f"rate holds a search with {what}; choose another --study"):
        search(searched[0] / "out/tune/rate", *overrides)


def test_an_unknown_setting_is_refused_and_leaves_no_study_behind(tmp_path):
    asked = ["optim.lrr=0.1,0.2", "tier=smoke", "output_root=out", "--study", "rate", "--trials", "2"]
    done = command("scripts/tune.py", *asked, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown key 'optim.lrr': did you mean 'optim.lr'?")
    assert not (tmp_path / "out").exists()


def test_a_combination_that_is_refused_is_a_failed_trial(tmp_path, capsys):
    """It would be proposed again at each start of the command."""
    asked, kept = search(tmp_path / "study", "optim.momentum=choice(0)", "optim.nesterov=choice(true)"), []
    asked.trials, asked.after_each = 2, lambda: kept.append(asked.over())
    assert not list(asked._starts())
    assert [trial.state for trial in asked.study.trials] == 2 * [optuna.trial.TrialState.FAIL] and kept == [1, 2]
    assert "[2/2] trial 1 failed after 0 s: optim: nesterov=true needs a momentum above 0" in capsys.readouterr().out


def test_a_trial_that_its_data_refuse_is_tried_twice(tmp_path):
    asked = ("trainer.global_batch_size=choice(4096)", "tier=smoke", "output_root=out", "--study", "rate", "--trials", "1")
    done = [command("scripts/tune.py", *asked, cwd=tmp_path) for _ in range(2)]
    assert [one.returncode for one in done] == [2, 2]
    assert "is more than the 1295 training images" in done[0].stderr and "tries this trial once more" in done[0].stderr
    assert "[1/1] trial 0 failed after" in done[1].stdout and "no trial ended well (1 failed)" in done[1].stderr


def test_the_study_lies_in_its_folder_whatever_the_folders_name(tmp_path):
    folder = tmp_path / "what?a=1#b%20c" / "study"
    begun = search(folder, *RANGES)
    trial = begun.study.ask()
    os.close(begun.lock)
    assert (folder / "study.db").stat().st_size and [path.name for path in tmp_path.iterdir()] == [folder.parent.name]
    assert search(folder, *RANGES).study.trials[0].number == trial.number


def test_a_search_without_held_out_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not evaluate test images"):
        search(tmp_path / "study", *RANGES, "data.val_fraction=0")
    assert not list(tmp_path.iterdir())


def test_a_search_over_classes_of_one_image_is_refused(tmp_path):
    root = tree(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")
    with pytest.raises(UserError, match="no class has two training images"):
        search(tmp_path / "s", RANGES[0], "data=folder", f"data.root={root}", "data.val_fraction=0.1")


def test_shuffled_choices_are_the_same_range_at_each_start():
    orders = {split_ranges([f"a=shuffle({','.join(map(str, range(20)))})"])[1]["a"].choices for _ in range(3)}
    assert orders == {tuple(map(str, range(20)))}


def test_ranges_are_those_of_hydra():
    fixed, ranges = split_ranges(["model=c", "a=interval(1,2)", "b=int(interval(1,9))", "c=range(2,10,2)", "d=1e-4,x"])
    assert fixed == ["model=c"]
    assert ranges == {
        "a": optuna.distributions.FloatDistribution(1, 2),
        "b": optuna.distributions.IntDistribution(1, 9),
        "c": optuna.distributions.IntDistribution(2, 8, step=2),
        "d": optuna.distributions.CategoricalDistribution(["0.0001", "x"]),
    }
    mistakes = {"a=1": "nothing to search", "a=interval(2,1)": "is no range", "a=interval(1": "Hydra cannot read"}
    for wrong, message in mistakes.items():
        with pytest.raises(UserError, match=message):
            split_ranges([wrong])
