"""scripts/runs.py: what lies in run folders is shown as it is; nothing is removed that somebody uses or did not name."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from test_continuation import holder

from conftest import ROOT, command
from efficientconv.config import OWN_SETS
from efficientconv.data.sets.imagenet import PART
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.results.record import read_records_in
from efficientconv.results.report.sources import find_sources
from efficientconv.results.report.times import RunTimes
from efficientconv.results.times import read_times


@pytest.fixture
def runs(tmp_path: Path, finished_run: Path, monkeypatch) -> Path:
    """outputs/ with a finished run, and one that another seed has begun; the current folder is above it."""
    for name in ("one", "other"):
        shutil.copytree(finished_run, tmp_path / "outputs" / name)
    other = RunFolder(tmp_path / "outputs" / "other")
    other.config_file.write_text(other.config_file.read_text().replace("seed: 0", "seed: 1"))
    other.summary_file.unlink()
    other.metrics_file.write_text(other.metrics_file.read_text().splitlines(True)[0])
    other.write_json("status.json", other.read_json("status.json") | {"state": "preempted"})
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs"


def say(monkeypatch, capsys, *args: str) -> str:
    monkeypatch.setattr(sys, "argv", ["runs.py", *args])
    importlib.import_module("scripts.runs").main()
    return capsys.readouterr().out


def test_list_has_a_line_a_run_with_what_it_reached(runs, monkeypatch, capsys):
    head, newest, oldest = (line.split() for line in say(monkeypatch, capsys, "list").splitlines())
    top1 = RunFolder(runs / "one").summary()["top1_percent"]
    assert newest[:3] == ["other", "preempted", "1/2"]
    assert oldest[:4] == ["one", "done", "2/2", f"{top1:.2f}"] and head[0] == "run"


def test_a_note_is_kept_shown_and_does_no_harm(runs, monkeypatch, capsys):
    say(monkeypatch, capsys, "note", "outputs/one", "no gain\x1b[2J, see é")
    assert RunFolder(runs / "one").note() == "no gain\x1b[2J, see é"
    for shown in (say(monkeypatch, capsys, "list"), say(monkeypatch, capsys, "show", "outputs/one")):
        assert r"no gain\x1b[2J, see é" in shown and "\x1b" not in shown


def test_show_and_diff(runs, monkeypatch, capsys):
    shown = say(monkeypatch, capsys, "show", "outputs/other")
    assert shown.splitlines()[:2] == ["run    outputs/other", "state  preempted"]
    assert "optim.lr " in shown and "model.stages" not in shown
    lines = [line.split() for line in say(monkeypatch, capsys, "diff", "outputs/one", "outputs/other").splitlines()]
    assert ["seed", "0", "1"] in lines and not any(line[:1] == ["optim.lr"] for line in lines)
    assert "training losses of 1 epochs are equal".split() in lines


def test_records_are_shown_and_compared_with_the_times_of_the_report(monkeypatch, capsys):
    """The time of the tier's measurement of all networks, not the one of the run itself."""
    tier = ROOT / "results/cifar_small"
    models = {record.model: record for record in read_records_in(tier / "runs") if record.config["model"]["width"] == 0.25}
    times, paths = read_times(tier), [tier / f"runs/{models[model].run}.json" for model in "ac"]
    told = [f"{times[model, 0.25].ms_per_image:.3g}" for model in "ac"]
    shown = say(monkeypatch, capsys, "show", str(paths[0])).splitlines()
    assert ["ms", "per", "image", told[0]] in [line.split() for line in shown]
    lines = [line.split() for line in say(monkeypatch, capsys, "diff", *map(str, paths)).splitlines()]
    assert ["ms", "per", "image", *told] in lines and ["model.name", "a", "c"] in lines
    with pytest.raises(UserError, match="runs holds [0-9]+ runs; name one of them"):
        say(monkeypatch, capsys, "show", str(tier / "runs"))


def test_a_path_from_inside_a_folder_shows_the_same(runs, monkeypatch, capsys):
    """`.` and a file's name alone do not say the folders above, which name the run and the tier with its times."""
    tier, folder = ROOT / "results/cifar_small", ROOT / "results/cifar_small/runs"
    record = sorted(folder.glob("c-*.json"))[0]
    shown = say(monkeypatch, capsys, "show", str(record)).splitlines()[1:]
    listed = say(monkeypatch, capsys, "list", str(folder))
    timed = RunTimes(find_sources([folder])).together
    monkeypatch.chdir(folder)
    assert say(monkeypatch, capsys, "show", record.name).splitlines()[1:] == shown
    assert say(monkeypatch, capsys, "list", ".") == listed
    monkeypatch.chdir(tier)
    assert RunTimes(find_sources([Path("runs")])).together == timed
    monkeypatch.chdir(runs / "one")
    assert say(monkeypatch, capsys, "list", ".").splitlines()[1].split()[0] == "one"


def test_diff_shows_layers_only_where_a_name_stands_for_two_networks(runs, monkeypatch, capsys):
    config = yaml.safe_load((runs / "other" / "config.yaml").read_text())
    for name, shown in (config["model"]["name"], True), ("mine", False):
        config["model"]["name"], config["model"]["stages"]["stage4"]["depth"] = name, 1
        (runs / "other" / "config.yaml").write_text(yaml.safe_dump(config))
        lines = say(monkeypatch, capsys, "diff", "outputs/one", "outputs/other").splitlines()
        assert (["model.stages.stage4.depth", "4", "1"] in map(str.split, lines)) == shown


def test_removing_asks_and_leaves_what_is_used(runs, monkeypatch, capsys):
    with pytest.raises(UserError, match="nothing was removed; give --yes to remove without a question"):
        say(monkeypatch, capsys, "rm", "outputs/one")
    other = holder(runs / "other")
    with pytest.raises(UserError, match="other is in use by another process; nothing was removed"):
        say(monkeypatch, capsys, "rm", "outputs/one", "outputs/other", "--yes")
    other.kill()
    other.wait()
    assert sorted(path.name for path in runs.iterdir()) == ["one", "other"]
    say(monkeypatch, capsys, "rm", "outputs/other", "--yes")
    assert [path.name for path in runs.iterdir()] == ["one"]


def test_a_run_that_holds_other_runs_is_not_removed(runs, monkeypatch, capsys):
    shutil.move(runs / "other", runs / "one" / "deep" / "other")
    with pytest.raises(UserError, match="one holds other runs, such as outputs/one/deep/other: .*nothing was removed"):
        say(monkeypatch, capsys, "rm", "outputs/one", "--yes")
    assert (runs / "one" / "deep" / "other" / "config.yaml").exists()


def test_a_run_is_removed_once_and_from_inside(runs, monkeypatch, capsys):
    assert say(monkeypatch, capsys, "rm", "outputs/one", "outputs/one/", "--yes") == "removed outputs/one\n"
    monkeypatch.chdir(runs / "other")
    say(monkeypatch, capsys, "rm", ".", "--yes")
    assert not list(runs.iterdir())


def test_only_run_folders_are_removed(runs, monkeypatch, capsys):
    (runs / "link").symlink_to(runs / "one")
    for path, reason in (("outputs", "has no config.yaml"), ("outputs/link", "is a link"), ("nowhere", "has no config")):
        with pytest.raises(UserError, match=f"{path} is no run folder: it {reason}"):
            say(monkeypatch, capsys, "rm", path, "--yes")
    assert (runs / "one" / "config.yaml").exists()


COMMANDS = ["train.py", "eval.py", *(f"scripts/{path.name}" for path in (ROOT / "scripts").glob("[!c]*.py"))]


@pytest.mark.parametrize(
    "call",
    [("scripts/runs.py", "list", "results"), ("scripts/runs.py", "show", "nowhere"), ("train.py", "force=true"),
     ("train.py", "optim.lr=-1"), ("train.py", "-m", "optim.lr=0.1,-1"), *((path, "--help") for path in COMMANDS),
     ("train.py", "-sc", "install=bash"), ("eval.py", "run=2017"), ("scripts/report.py", "nowhere")],
)  # fmt: skip
def test_what_needs_no_torch_does_not_wait_for_it(call, tmp_path, monkeypatch):
    for slow in ("torch", "matplotlib", "optuna"):
        (tmp_path / f"{slow}.py").write_text(f"raise SystemExit('{slow} was imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = command(call[0], *call[1:], cwd=ROOT)
    assert "was imported" not in done.stderr and done.returncode in (0, 2), done.stderr


def test_a_part_of_imagenet_is_the_users_own():
    assert PART in OWN_SETS
