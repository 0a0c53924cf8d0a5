"""reproduce.py at the smoke tier, from the plan to the table, killed on the way; real digits, real processes."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from conftest import ROOT, command, warm_python
from efficientconv.cli import compose_run
from efficientconv.engine.identity import network_digest, run_name
from efficientconv.engine.run_folder import in_use
from efficientconv.errors import UserError
from efficientconv.models import create_model, image_size_of
from efficientconv.models.zoo import layout_config
from efficientconv.reproduce import measure
from efficientconv.reproduce.tier import load_tier
from efficientconv.reproduce.write import write_plots
from efficientconv.results import paper, tier_pages
from efficientconv.results.table_config import model_of, needed_rows, table_config, table_names, trained_models
from efficientconv.results.times import Times, write_times
from scripts.reproduce import parse_order, rows_to_train

TIERS = sorted(path.stem for path in (ROOT / "configs" / "tier").glob("*.yaml"))
SEEDS = (0, 1)
ROWS = ("c", "c_noresidual")
TIMED = ("ms_per_image", "of_limit", "training_ms_per_image", "training_of_limit")  # may differ between two equal tables


def arguments(folder: Path, *more: str) -> list[str]:
    places = [f"output_root={folder / 'outputs'}", "--results", str(folder / "results")]
    return ["table=residual", "tier=smoke", "seeds=0,1", *places, *more]


def rows_of(folder: Path, name: str = "table_residual.csv") -> list[dict[str, str]]:
    with open(folder / "results" / "smoke" / name, newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The residual experiment, unbroken, two runs at a time. Tests read it; those that change it copy it first."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = command("scripts/reproduce.py", *arguments(folder, "--jobs", "2"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


# ---------------------------------------------------------------- start to end


def test_table_says_what_the_runs_ended_with(reproduced: Path) -> None:
    folders = [path.parent for path in (reproduced / "outputs" / "smoke").glob("*/summary.json")]
    assert len(folders) == len(SEEDS) * len(ROWS)
    top1: dict[str, list[float]] = {row: [] for row in ROWS}
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        top1[summary["model_name"]].append(100 * summary["top1"] / summary["num_test"])
    rows = {row["row"]: row for row in rows_of(reproduced)}
    assert tuple(rows) == ROWS
    for name, values in top1.items():
        assert float(rows[name]["top1_mean_percent"]) == pytest.approx(statistics.mean(values), abs=1e-4)
        assert float(rows[name]["top1_std"]) == pytest.approx(statistics.stdev(values), abs=1e-4)
        assert (rows[name]["n"], rows[name]["seeds"]) == ("2", "0 1")
    assert rows["c"]["paper_top1_percent"] == f"{100 - 29.78:.2f}" and rows["c"]["paper_source"] == "M"


def test_a_tiers_page_says_the_same(reproduced: Path) -> None:
    folder = reproduced / "results" / "smoke"
    rows, fits = {row["row"]: row for row in rows_of(reproduced)}, {"train": [], "val": [], "test": []}
    results = tier_pages.result_table(folder).splitlines()
    assert [line.split(" | ")[0] for line in results[2:]] == [f"| {name}" for name in ROWS]
    for line, name in zip(results[2:], ROWS):
        expected = f"{float(rows[name]['top1_mean_percent']):.2f} ± {float(rows[name]['top1_std']):.2f} (2)"
        assert expected in line and f"{int(rows[name]['macs']) / 1e6:.2f}" in line
    claims = tier_pages.claim_table(folder)
    assert "| c - c_noresidual: " in claims and claims.endswith("Claims: 0 supported, 0 contradicted, 1 undecided.")
    for run in (reproduced / "outputs" / "smoke").glob("c-*"):
        last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        fits["train"].append(100 * last["train_top1"] / last["train_images"])
        fits["val"].append(100 * last["val_top1"] / last["val_images"])
        fits["test"].append(json.loads((run / "summary.json").read_text())["top1_percent"])
    (line,) = [line for line in tier_pages.fit_table(folder).splitlines() if line.startswith("| c |")]
    assert line == "| c | " + " | ".join(f"{statistics.mean(values):.2f}" for values in fits.values()) + " | 2 |"


def test_markdown_carries_tier_data_marks_and_verdict(reproduced: Path) -> None:
    text = (reproduced / "results" / "smoke" / "table_residual.md").read_text()
    assert text.startswith("# Experiment residual, tier smoke")
    for part in ("scikit-learn's digits", "width 0.125", "3 epochs", "(M, unchecked)", "undecided", "(2)"):
        assert part in text, part
    assert str(reproduced) not in text
    assert [row["relation"] for row in rows_of(reproduced, "claims_residual.csv")] == ["better"]


def test_where_no_time_was_measured_accuracy_is_drawn_against_macs_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "cifar_small" / "runs", tmp_path / "cifar_small" / "runs")
    tier = load_tier("cifar_small", [], tmp_path, compose_run)
    assert [path.name for path in write_plots(tier, {})] == ["accuracy_macs.png", "accuracy_macs.svg"]


def test_stopped_and_killed_and_started_again_it_ends_with_the_same_table(reproduced: Path, tmp_path: Path) -> None:
    call = [*warm_python(), str(ROOT / "scripts" / "reproduce.py"), *arguments(tmp_path)]
    results = tmp_path / "results" / "smoke"
    for number, exit_code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
        with open(tmp_path / "log.txt", "w") as log:
            process = subprocess.Popen(call, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
            wait_for_second_run(tmp_path / "outputs" / "smoke", process)
            process.send_signal(number)
            assert process.wait() == exit_code, (tmp_path / "log.txt").read_text()
        wait_until_free(tmp_path / "outputs" / "smoke")
        assert len(list((results / "runs").iterdir())) == 1, "the record of the run that had ended"
        assert not list(results.glob("table*"))
    again = command("scripts/reproduce.py", *arguments(tmp_path, "--jobs", "2", "--measure", "never"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "preempted" in again.stdout and "4 runs: 1 done, 3 to do" in again.stdout
    assert rows_of(tmp_path) == rows_of(reproduced)
    assert rows_of(tmp_path, "claims_residual.csv") == rows_of(reproduced, "claims_residual.csv")


def wait_for_second_run(outputs: Path, process: subprocess.Popen, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < deadline:
        states = [json.loads(path.read_text())["state"] for path in outputs.glob("*/status.json")]
        if sorted(states) == ["done", "running"]:
            return
        time.sleep(0.05)
    raise AssertionError("no second run was seen")


def wait_until_free(outputs: Path, limit_s: float = 60) -> None:
    """The run that lost its parent saves its state and leaves."""
    deadline = time.monotonic() + limit_s
    while any(in_use(path.parent) for path in outputs.glob("*/status.json")):
        assert time.monotonic() < deadline, "a run goes on without its parent"
        time.sleep(0.1)


def test_finished_runs_are_skipped_and_their_records_are_enough(reproduced: Path, tmp_path: Path) -> None:
    shutil.copytree(reproduced / "results", tmp_path / "results")
    done = command("scripts/reproduce.py", *arguments(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "4 runs, all done" in done.stdout
    assert not (tmp_path / "outputs").exists()
    for path in (reproduced / "results" / "smoke").glob("*.*"):
        assert (tmp_path / "results" / "smoke" / path.name).read_bytes() == path.read_bytes(), path.name


def test_records_of_another_recipe_are_left_out_and_said(reproduced: Path, tmp_path: Path) -> None:
    """As after an edit of the tier: a run of the old recipe must not stand in the new one's mean."""
    shutil.copytree(reproduced / "results", tmp_path / "results")
    runs = tmp_path / "results" / "smoke" / "runs"
    record = json.loads(next(runs.glob("c-*-s0-*")).read_text())
    record["run"], record["config"]["optim"]["lr"], record["summary"]["top1_percent"] = "c-digits-s0-0ld", 0.3, 0.0
    (runs / "c-digits-s0-0ld.json").write_text(json.dumps(record))
    done = command("scripts/reproduce.py", *arguments(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 5 records" in done.stderr and done.stderr.count("\n") == 1
    assert rows_of(tmp_path) == rows_of(reproduced)


def test_a_record_of_another_network_of_the_same_name_is_in_no_row(tmp_path: Path) -> None:
    """As after an edit of a model's file, or with other decisions: name and width say the same."""
    runs = tmp_path / "fashion_small" / "runs"
    runs.mkdir(parents=True)
    paths = sorted((ROOT / "results" / "fashion_small" / "runs").glob("c-*"))[:3]
    for path, changes in zip(paths, ({}, {"decisions": {"batch_norm": "behind"}}, {"source": "S"})):
        record = json.loads(path.read_text())
        record["config"]["model"] |= changes
        (runs / path.name).write_text(json.dumps(record))
    tier = load_tier("fashion_small", [], tmp_path, compose_run)
    with pytest.warns(UserWarning, match="1 of 3 records .* or of another network than configs/model/ has by the name"):
        assert [record.run for record in tier.records] == [paths[0].stem, paths[2].stem]


def test_a_time_of_a_network_whose_file_was_edited_since_is_measured_again(tmp_path: Path, monkeypatch) -> None:
    tier = load_tier("smoke", [], tmp_path, compose_run)
    times = {
        key: Times(*key, 64, 1.0, 0.1, None, None, None, None, "a CPU", network_digest(model))
        for key, model in tier.networks.items()
    }
    monkeypatch.setattr(measure, "_measured", lambda *_: pytest.fail("measured anew"))

    def kept(digest: str | None, how: measure.Measure) -> dict:
        write_times(tier.folder, [replace(of, network_digest=digest) if of.model == "c" else of for of in times.values()])
        return measure.tier_times(tier, torch.device("cpu"), how)

    c = next(key for key in times if key[0] == "c")
    assert kept(times[c].network_digest, "missing") == times
    assert kept(None, "missing").keys() == times.keys(), "a file of an earlier version holds"
    assert kept("00000000", "never").keys() == times.keys() - {c}
    with pytest.raises(pytest.fail.Exception, match="measured anew"):
        kept("00000000", "missing")


def test_records_of_other_widths_are_of_the_tier_and_in_none_of_its_means(reproduced: Path, tmp_path: Path) -> None:
    shutil.copytree(reproduced / "results", tmp_path / "results")
    runs = tmp_path / "results" / "smoke" / "runs"
    record = json.loads(next(runs.glob("c-*-s0-*")).read_text())
    record["run"], record["config"]["model"]["width"], record["summary"]["top1_percent"] = "c-digits-s0-wide", 0.25, 0.0
    (runs / "c-digits-s0-wide.json").write_text(json.dumps(record))
    done = command("scripts/reproduce.py", *arguments(tmp_path, "--measure", "never"))  # or all are timed anew
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert rows_of(tmp_path) == rows_of(reproduced)
    assert tier_pages.fit_table(tmp_path / "results" / "smoke") == tier_pages.fit_table(reproduced / "results" / "smoke")
    for picture in ("accuracy_macs.png", "accuracy_time.png"):
        parts = ("results", "smoke", picture)
        assert tmp_path.joinpath(*parts).read_bytes() == reproduced.joinpath(*parts).read_bytes(), picture


def test_report_has_the_runs_and_the_table(reproduced: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = command("scripts/report.py", reproduced / "results" / "smoke" / "runs", "--output", page)
    assert done.returncode == 0 and "4 runs" in done.stdout, done.stdout + done.stderr
    assert "Experiment residual: " in page.read_text()


def test_records_name_no_place(reproduced: Path) -> None:
    records = list((reproduced / "results" / "smoke" / "runs").glob("*.json"))
    assert len(records) == 4
    for path in records:
        assert str(reproduced) not in path.read_text() and "output_root" not in path.read_text()


def test_a_widened_table_plans_only_what_is_new(reproduced: Path, tmp_path: Path) -> None:
    shutil.copytree(reproduced / "results", tmp_path / "results")
    args = [*arguments(tmp_path), "seeds=0,1,2", "--dry-run"]
    planned = command("scripts/reproduce.py", *args)
    assert planned.returncode == 0, planned.stderr
    assert "6 runs: 4 done, 2 to do" in planned.stdout
    assert not (tmp_path / "outputs").exists()


def test_a_failing_run_leaves_the_others_and_the_exit_code_says_so(reproduced: Path, tmp_path: Path) -> None:
    shutil.copytree(reproduced, tmp_path, dirs_exist_ok=True)
    broken = next((tmp_path / "outputs" / "smoke").glob("c-*-s1-*"))
    (tmp_path / "results" / "smoke" / "runs" / f"{broken.name}.json").unlink()
    shutil.rmtree(broken)
    broken.write_text("a file where a folder is to be\n")
    done = command("scripts/reproduce.py", *arguments(tmp_path))
    assert done.returncode == 2
    assert broken.name in done.stderr and "Traceback" not in done.stderr


# ---------------------------------------------------------------- mistakes

MISTAKES = [
    (["tier=smoke"], "table is missing"),
    (["table=2"], "tier is missing"),
    (["table=2", "tier=smoke", "seeds=a"], "seeds=a"),
    (["table=2", "tier=smoke", "seeds=0,0"], "seeds=0,0"),
    (["table=2", "tier=smoke", "seeds="], "seeds="),
    (["table=2", "tier=smoke", "--only"], "no key=value"),
]


@pytest.mark.parametrize("settings, message", MISTAKES)
def test_a_mistake_names_itself(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_order(settings)


def test_unknown_tables_and_rows_name_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown table '7'.*known: 1, 2"):
        rows_to_train(["7"], None)
    with pytest.raises(UserError, match="--only z.*known: a, b, c, d, e"):
        rows_to_train(["2"], "z")
    assert rows_to_train(["6"], "resnet18") == ["resnet18"]  # quoted: trained only when asked for


def test_an_override_that_changes_the_tiers_numbers_is_refused(tmp_path: Path) -> None:
    done = command("scripts/reproduce.py", *arguments(tmp_path, "optim.lr=0.3"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: tier=smoke fixes the settings") and done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize("given", ["model=c", "+model=a", "model.width=0.125", "seed=0"])
def test_what_the_rows_choose_is_refused_even_if_it_changes_no_number(given: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the rows of a table name the models, and seeds=0,1 names the seeds"):
        load_tier("smoke", [given], tmp_path, compose_run)


def test_a_part_of_imagenet_makes_no_table(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (256, 256)).save(tmp_path / part / name / "0.JPEG")
    done = command("scripts/reproduce.py", "table=2", "tier=imagenet", f"data.root={tmp_path}", "--dry-run")
    assert done.returncode == 2
    assert "holds part of imagenet, 2 training images" in done.stderr and done.stderr.count("\n") == 1


# ---------------------------------------------------------------- tables and tiers as data


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_trains_every_model_of_every_table(tier: str) -> None:
    names = set()
    for model in trained_models():
        config = compose_run([f"tier={tier}", f"model={model}"])
        assert config.tier == tier
        with torch.device("meta"):  # without weights, whose start takes longer
            create_model(config.model, num_classes=10, image_size=config.data.image_size)
        names.add(run_name(config))
    assert len(names) == len(trained_models())


@pytest.mark.parametrize("name", table_names())
def test_tables_name_models_and_compare_rows_that_exist(name: str) -> None:
    table = table_config(name)
    models = {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")}
    named = {*table.rows, *table.quoted, *needed_rows(table), table.baseline}
    assert set(map(model_of, named)) <= models
    assert table.baseline in table.rows or not table.trained


def test_every_figure_of_the_paper_has_a_mark_and_a_row_in_its_tables() -> None:
    for figure in paper.figures():
        assert figure.source in "SACMD" and figure.value and figure.unit, figure
        for name in figure.tables:
            table = None if name == "text" else table_config(name)
            assert table is None or figure.row in [*table.rows, *table.quoted], figure


def test_topologies_are_the_models_own() -> None:
    """The figures of table 3 against configs/model: the paper's words and ours can't drift apart."""
    for model in ("f", "g", "i"):
        stages = yaml.safe_load((ROOT / "configs" / "model" / f"{model}.yaml").read_text())["stages"]
        for stage, channels in (("stage2", 128), ("stage3", 256), ("stage4", 512)):
            topology = stages[stage]["blocks"][0]["args"]["topology"]
            assert paper.value(model, f"dims_{channels}") == " x ".join(map(str, topology["dims"]))
            assert paper.value(model, f"connections_{channels}") == " x ".join(map(str, topology["connections"]))


def test_the_imagenet_tier_is_the_papers_recipe() -> None:
    config = compose_run(["tier=imagenet", "model=c"])
    ours = {
        "resize_size": config.data.resize_size, "image_size": image_size_of(config.model, config.data.image_size),
        "global_batch_size": config.trainer.global_batch_size, "lr": config.optim.lr,
        "decay_every_epochs": config.schedule.decay_every_epochs, "decay_factor": config.schedule.decay_factor,
        "epochs": config.trainer.epochs, "dropout": layout_config(config.model, None).head.dropout,
    }  # fmt: skip
    assert ours == {figure.column: float(figure.value) for figure in paper.figures() if figure.row == "recipe"}
    assert config.data.flip and not config.data.crop_padding
