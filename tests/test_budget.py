"""Budgets of MACs: the width found is the one that a search of all widths finds, and the run is the width's own."""

from __future__ import annotations

import subprocess

import pytest
import torch

from conftest import command
from efficientconv import count, create_model
from efficientconv.cli import compose, run_config
from efficientconv.config import ModelConfig, RunConfig
from efficientconv.engine.identity import run_name
from efficientconv.errors import UserError
from efficientconv.models import model_config
from efficientconv.models.budget import width_for
from efficientconv.validation import validate

# budget in M MACs, k of the width k / 512; layout cifar, 10 classes, 32 x 32
WIDTHS = {
    "a": {2.26: 47, 4.10: 65, 5.16: 73, 8.57: 94, 15.65: 128},
    "c": {2.26: 80, 4.10: 114, 5.16: 128, 8.57: 170, 15.65: 234},
    "f": {2.26: 64, 8.57: 128},
    "i": {2.26: 85, 4.10: 128, 5.16: 144},
    "k": {2.26: 94, 5.16: 149},
    "m": {2.26: 64},
}
CASES = [(model, macs, k) for model, widths in WIDTHS.items() for macs, k in widths.items()]


def macs_at(model: str, k: int) -> int | None:
    """Of the whole network; None: it cannot be built."""
    try:
        with torch.device("meta"):
            network = create_model(model, 10, layout="cifar", width=k / 512, image_size=32)
    except UserError:
        return None
    return count(network, (3, 32, 32)).macs


@pytest.mark.parametrize("model, millions, k", CASES)
def test_width_for_a_budget(model: str, millions: float, k: int) -> None:
    fit = width_for(model_config(model), millions * 1e6, 10, 32)
    assert fit.width * 512 == k
    assert fit.macs == macs_at(model, k)
    assert fit.off == pytest.approx(fit.macs / (millions * 1e6) - 1) and abs(fit.off) <= 0.03


@pytest.mark.parametrize("model, budget", [("i", 2.26e6), ("k", 3.0e6), ("n", 6.1e6)])
def test_no_width_is_nearer_unless_another_within_a_hundredth_is_rounder(model: str, budget: float) -> None:
    fit = width_for(model_config(model), budget, 10, 32)
    k = round(fit.width * 512)
    around = {other: macs for other in range(int(k * 0.85), int(k * 1.15)) if (macs := macs_at(model, other))}
    nearest = min(abs(macs / budget - 1) for macs in around.values())
    assert abs(fit.off) == pytest.approx(nearest) or (nearest <= abs(fit.off) <= 0.01 and k % 2 == 0)


def test_the_run_is_the_widths_own(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["model=c", "data=digits", "tier=smoke"]
    by_budget = run_config(compose("train", [*common, "model.macs=5.16e6"]))
    by_width = validate(RunConfig, compose("train", [*common, "model.width=0.25"]))
    assert by_budget == by_width and run_name(by_budget) == run_name(by_width)
    assert "model c has width 0.25, 5.158 M MACs, 0.04% below the budget" in capsys.readouterr().out


def test_classes_and_image_size_are_the_datas() -> None:
    """Half a million MACs of the classifier's own: the width shrinks to make room for them."""
    sets = (["data=synthetic", "data.num_classes=2000", "data.num_images=8"], ["data=digits"])
    many, ten = (run_config(compose("train", ["model=a", *data, "model.macs=15.65e6"])).model.width for data in sets)
    assert many < ten == 0.25


MISTAKES = [
    (["model.macs=0"], "model.macs: .* greater than 0"),
    (["model.macs=nan"], "model.macs: "),
    (["model.macs=many"], "model.macs: .* number"),
    (["model.macs=100"], "not a cost that model 'c' can have at a width from"),
    (["model.macs=1e13"], "not a cost that model 'c' can have at a width from"),
    (["model.macs=5e6", "model.width=0.25"], "leave one of them out"),
    (["model=resnet18", "model.macs=5e6"], "width 1 only"),
    (
        ["model=m", "model.macs=4.1e6"],
        r"no width of model 'm' comes within 3% of it; the nearest are width 0.171875, 3.832 M MACs, 6.54% below the "
        r"budget and width 0.1875, 4.451 M MACs, 8.55% above",
    ),
]


@pytest.mark.parametrize("settings, message", MISTAKES)
def test_a_budget_that_cannot_be_met_says_why(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        run_config(compose("train", ["data=digits", *settings]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_on_the_command_line_it_is_one_line(sweep: list[str], tmp_path) -> None:
    done: subprocess.CompletedProcess = command(
        "train.py", *sweep, "data=digits", "model.macs=5e6", "model.width=0.25", f"output_root={tmp_path}"
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: model.macs")
    assert not list(tmp_path.iterdir())


def test_a_network_is_not_built_for_a_budget_unmet() -> None:
    budgeted = validate(ModelConfig, {**model_config("c").model_dump(), "macs": 5e6})
    with pytest.raises(UserError, match="model 'c' has a budget of 5e.06 MACs and no width"):
        create_model(budgeted, 10)
    assert create_model(budgeted, 10, width=0.125).head.conv.conv.out_channels == 128


def test_a_width_on_the_command_line_counts_and_the_budget_of_a_file_does_not(tmp_path) -> None:
    (tmp_path / "tier").mkdir()
    (tmp_path / "tier" / "own.yaml").write_text("# @package _global_\ntier: own\nmodel: {macs: 5.16e6}\n")
    common = [f"hydra.searchpath=[{tmp_path}]", "tier=own", "data=digits"]
    for given, width in ([], 0.25), (["model.width=0.5"], 0.5), (["model.width=0.5", "model.macs=null"], 0.5):
        assert run_config(compose("train", [*common, *given])).model.width == width


def test_widths_of_all_models_are_printed() -> None:
    done = command("scripts/complexity.py", "--budget", "5.16e6", "--layout", "cifar")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert lines["c"] == ["c", "0.25", "5.16", "-0.04%"]
    assert done.stdout.count("too far") == 8 and "resnet18" not in lines
    wrong = command("scripts/complexity.py", "--budget", "-1")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "macs" in wrong.stderr
    both = command("scripts/complexity.py", "--budget", "5.16e6", "--layers", "c")
    assert both.returncode == 2 and "--layers: not allowed with argument --budget" in both.stderr
