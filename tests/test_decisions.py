"""What the paper leaves open: each setting builds what it says, and as they stand every run is what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import nn

from conftest import ROOT, command
from efficientconv import create_model
from efficientconv.cli import compose, run_config
from efficientconv.config import OptimConfig, RunConfig
from efficientconv.engine.identity import identity, run_name
from efficientconv.engine.optim import build_optimizer
from efficientconv.errors import UserError
from efficientconv.layers import TopologicalConv2d
from efficientconv.models import model_config
from efficientconv.results.decisions import Decision, decisions, ledger
from efficientconv.results.record import RunRecord, read_records_in
from efficientconv.validation import validate
from scripts import decisions as decisions_script

RECORDS = read_records_in(ROOT / "results" / "cifar_small" / "runs")


def network(name: str, **decisions: object) -> nn.Module:
    torch.manual_seed(0)
    model = model_config(name)
    changed = model.decisions.model_copy(update=decisions)
    return create_model(model.model_copy(update={"decisions": changed}), 10, layout="cifar", width=0.125).double()


def blocks(model: nn.Module) -> list[nn.Module]:
    return [layer for stage in model.stages.values() for layer in stage.layers]


def test_runs_of_before_keep_their_names() -> None:
    assert len(RECORDS) >= 57
    assert [run_name(record.run_config) for record in RECORDS] == [record.run for record in RECORDS]
    decided = {record.run_config.model.name for record in RECORDS if "decisions" in identity(record.run_config)["model"]}
    assert decided == {"k_copied"}


@pytest.mark.parametrize("name", ["a", "c", "f", "j", "m"])
def test_batch_norm_behind_the_addition(name: str) -> None:
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    before, behind = network(name), network(name, batch_norm="behind")
    assert before.state_dict().keys() == behind.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), behind.state_dict().values()))
    assert not torch.allclose(before(x), behind(x))
    layer = blocks(behind)[0]
    y = torch.randn(4, layer.conv.in_channels, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(layer.train()(y), torch.relu(layer.bn.train()(layer.conv(y) + y)))
        total = layer.conv(y) + y
        mean, variance = total.mean((0, 2, 3), keepdim=True), total.var((0, 2, 3), keepdim=True, unbiased=False)
        assert torch.allclose(layer(y), torch.relu((total - mean) / (variance + layer.bn.eps).sqrt()))


def test_native_layers_do_as_the_reference_with_batch_norm_behind() -> None:
    model = network("c", batch_norm="behind").float().eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        native = model(x)
    assert torch.allclose(native, model.double()(x.double()).float(), atol=1e-4)


def test_residuals_grids_and_anchor_are_those_asked_for() -> None:
    assert all(layer.residual for layer in blocks(network("k")) + blocks(network("m")))
    assert not any(layer.residual for layer in blocks(network("k", bottleneck_residual=False)))
    assert [layer.residual for layer in blocks(network("j", bottleneck_residual=False))][:3] == [True, False, False]
    assert not any(layer.residual for layer in blocks(network("m", pair_residual=False)))
    assert {layer.conv.padding for layer in blocks(network("k"))} == {(0, 0), (1, 1)}
    assert {layer.conv.padding for layer in blocks(network("k", bottleneck_grids="aligned"))} == {(0, 0)}
    for name in "fi":
        for anchor, expected in ((None, "center"), ("corner", "corner")):
            found = [m.topology for m in network(name, anchor=anchor).modules() if isinstance(m, TopologicalConv2d)]
            assert found and {topology.anchor for topology in found} == {expected}


def test_expansions_that_copy_fill_a_cell_alike_and_leave_other_weights_as_they_were() -> None:
    he, copy = network("k").state_dict(), network("k", expansion_init="copy").state_dict()
    for name, weights in copy.items():
        expected = torch.ones_like(weights) if "expansion" in name else he[name]
        assert torch.equal(weights, expected), name


def test_a_models_file_and_the_command_line_may_decide_otherwise() -> None:
    def start(*overrides: str) -> str:
        return run_config(compose("train", list(overrides))).model.decisions.expansion_init

    assert start("model=k") == "he" and start("model=k_copied") == "copy"
    assert start("model=k", "model.decisions.expansion_init=copy") == "copy"
    assert start("model=k_copied", "model.decisions.expansion_init=he") == "he"


@pytest.mark.parametrize("decay_norms, bare", [(False, 0.0), (True, 1e-4)])
def test_weight_decay_on_batch_norm(decay_norms: bool, bare: float) -> None:
    values = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}
    groups = build_optimizer(network("c"), validate(OptimConfig, values | {"decay_norms": decay_norms})).param_groups
    assert {p.ndim > 1: group["weight_decay"] for group in groups for p in group["params"]} == {True: 1e-4, False: bare}


# ---------------------------------------------------------------- the ledger


def record_of(decision: Decision, variant: str, seed: int, val_top1_percent: float) -> RunRecord:
    config = {"seed": seed, "model": {"name": decision.model}}
    return RunRecord(variant, "smoke", "trained", None, config, metrics=[{"val_top1_percent": val_top1_percent}])


def test_the_ledger_says_what_moved_by_students_test_and_what_was_not_run() -> None:
    first = decisions()[0]
    kept, other = first.variants
    values = {kept: [80.0, 80.2, 80.4], other: [81.0, 81.3, 81.3]}
    runs = {
        name: [record_of(first, name, seed, value) for seed, value in enumerate(found, start=10 * (name == kept))]
        for name, found in values.items()
    }
    lines = ledger(runs, "smoke", "0,1,2").splitlines()
    expected = stats.ttest_ind(values[other], values[kept])
    assert "80.20 ± 0.20 (3) | 81.20 ± 0.17 (3) | +1.00 (" in lines[2]
    assert f"**better** (p = {expected.pvalue:.2g})" in lines[2]
    assert f"python train.py -m tier=smoke seed=0,1,2 data.val_fraction=0.1 model={first.model} {first.setting}" in lines
    assert all(line.count("not run yet") == 3 or first.model in line for line in lines[3 : 2 + len(decisions())])


def test_every_decision_has_settings_that_hydra_knows_and_another_run(tmp_path: Path) -> None:
    done = command("scripts/decisions.py", "tier=smoke", "seeds=0", "--dry-run", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    variants = {name for decision in decisions() for name in decision.variants}
    assert f"{len(variants)} runs: 0 done, {len(variants)} to do" in done.stdout
    text = (tmp_path / "decisions.md").read_text()
    assert text.count("not run yet") == 3 * len(decisions()) and str(tmp_path) not in text
    names = set()
    for settings in (settings for decision in decisions() for settings in decision.variants.values()):
        names.add((tuple(settings), run_name(validate(RunConfig, compose("train", ["tier=smoke", *settings])))))
    assert len({name for _, name in names}) == len(names) == len(variants)


def test_a_setting_that_the_tier_has_too_changes_no_decision(tmp_path: Path) -> None:
    runs, given = ([run.config for run in decisions_script.planned("smoke", [0, 1], overrides, tmp_path)]
                   for overrides in ([], ["optim.decay_norms=false", "data.val_fraction=0.1"]))  # fmt: skip
    assert runs == given


@pytest.mark.parametrize(("settings", "part"), [
    (["tier=smoke", "seeds=a"], "seeds=a"),
    (["tier=smoke", "seeds=1,,2"], "seeds=1,,2"),
    (["tier=smoke", "seeds=²"], "seeds=²"),
    (["tier=smoke", "seeds=0,0"], "seeds=0,0"),
    (["tier=smoke", "seeds=0", "trainer.epochs"], "'trainer.epochs' is no key=value"),
    (["tier=smoke", "seeds=0", "trainer.epochs=1"], "an override changes trainer"),
    (["tier=smoke", "seeds=0", "data.val_fraction=0.2"], "an override changes data"),
    (["tier=smoke", "seeds=0", "optim.lr=0.5"], "an override changes optim"),
    (["tier=smoke", "seeds=0", "model=c"], "model=c: the rows of a table name the models"),
    (["tier=smoke", "seeds=0", "model.decisions.batch_norm=before"], "the rows of a table name the models"),
    (["tier=smoke", "seeds=1", "seed=0"], "seeds=0,1 names the seeds"),
    (["tier=smok", "seeds=0"], "smoke"),
    (["seeds=0"], "tier"),
    (["tier=smoke", "seeds=0", "--results", __file__], "choose another"),
])  # fmt: skip
def test_a_mistake_is_one_line(settings: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of other settings would stand in the ledger under the tier's name."""
    monkeypatch.setattr("sys.argv", ["decisions.py", "--dry-run", "--results", str(tmp_path), *settings])
    with pytest.raises(UserError) as caught:
        decisions_script.main()
    assert part in str(caught.value) and "\n" not in str(caught.value) and not list(tmp_path.iterdir())
