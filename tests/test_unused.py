"""A setting of the command line that changes none of its runs is named in one line; other settings are not."""

from __future__ import annotations

import pytest

from conftest import SMALL_RUN, command
from efficientconv.cli import compose, run_config, warn_of_unused
from efficientconv.config import RunConfig
from efficientconv.unused import NEEDS, unused_settings
from efficientconv.validation import known_keys

UNUSED = [
    (["schedule=cosine"], "schedule.decay_factor=0.5", "schedule=step"),
    (["schedule=onecycle"], "schedule.decay_every_epochs=3", "schedule=step"),
    (["optim.weight_decay=0"], "optim.decay_norms=True", "optim.weight_decay above 0"),
    ([], "trainer.compile_mode=max-autotune", "trainer.compile=true"),
    (["trainer.device=cpu"], "trainer.tf32=False", "a GPU"),
    (["data=folder", "data.min_crop_area=0.5"], "data.crop_padding=4", "crops of one size, data.min_crop_area=null"),
    ([], "data.randaugment_magnitude=3", "data.randaugment_ops above 0"),
    (["model=resnet18"], "layers.backend=reference", "a model of this project's layers"),
    (["model=vgg16"], "model.layout=cifar", "a ResNet or a model of this project's layers"),
    (["model=resnet18"], "model.decisions.batch_norm=behind", "a model of this project's layers"),
    (["model=c"], "model.decisions.anchor=corner", "a model with topologies"),
    (["model=c"], "model.decisions.bottleneck_grids=aligned", "a model with spatial bottlenecks"),
    (["model=m"], "model.decisions.expansion_init=copy", "a model with spatial bottlenecks"),
    (["model=m"], "model.decisions.bottleneck_residual=False", "a model with spatial bottlenecks"),
    (["model=j"], "model.decisions.pair_residual=False", "a model with channel-bottleneck pairs"),
]  # fmt: skip
USED = [
    ["schedule=step", "schedule.decay_factor=0.5"],
    ["schedule=cosine", "schedule.decay_factor=null"],
    ["trainer.compile=true", "trainer.compile_mode=max-autotune"],
    ["model=resnet18", "model.layout=cifar", "model.decisions.batch_norm=before"],
    ["model=f", "model.decisions.anchor=corner", "model.decisions.batch_norm=behind", "layers.backend=reference"],
    ["model=j", "model.decisions.bottleneck_grids=aligned"],
    ["model=m", "model.decisions.pair_residual=false"],
]  # fmt: skip


def told(*jobs: list[str]) -> list[str]:
    given = dict.fromkeys(override.partition("=")[0] for job in jobs for override in job)
    return unused_settings(given, [run_config(compose("train", ["data=digits", *job])) for job in jobs])


@pytest.mark.parametrize(("others", "setting", "needs"), UNUSED)
def test_a_setting_without_effect_is_named(others, setting, needs):
    assert told([*others, setting]) == [f"{setting} has no effect: it needs {needs}"]


@pytest.mark.parametrize("settings", USED)
def test_a_setting_with_an_effect_is_not(settings):
    assert told(settings) == []


def test_in_a_sweep_one_run_that_uses_a_setting_is_enough():
    decay = "schedule.decay_factor=0.5"
    assert told(["schedule=cosine", decay], ["schedule=step", decay]) == []
    assert told(["schedule=cosine", decay], ["schedule=onecycle", decay]) == [
        "schedule.decay_factor=0.5 has no effect: it needs schedule=step"
    ]


def test_no_more_runs_are_looked_at_than_needed():
    step = run_config(compose("train", ["data=digits", "schedule.decay_factor=0.5"]))
    runs = (step if number == 0 else pytest.fail("composed") for number in range(2))
    assert unused_settings(["schedule.decay_factor", "seed"], runs) == []


def test_every_setting_of_the_rules_exists():
    assert NEEDS.keys() <= set(known_keys(RunConfig))


def test_what_files_set_is_not_told(recwarn):
    """Such as an experiment with a decay, whose schedule the command line changes."""
    config = run_config(compose("train", ["data=digits", "schedule=cosine", "schedule.decay_factor=0.5"]))
    warn_of_unused([config], ["data=digits", "schedule=cosine"])
    assert not recwarn.list


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("train.py", ["schedule=cosine"]),
        ("train.py", ["-m", "schedule=cosine,onecycle", "seed=0"]),
        ("scripts/tune.py", ["schedule=cosine,onecycle", "data.val_fraction=0.1", "--trials", 1, "--study", "s"]),
    ],
)
def test_commands_tell_in_one_line_and_go_on(script, args, tmp_path):
    decay = "schedule.decay_factor=0.3,0.5" if "tune" in script else "schedule.decay_factor=0.5"
    refused_later = f"output_root={tmp_path}/file/x"
    (tmp_path / "file").touch()
    done = command(script, *SMALL_RUN, refused_later, decay, *args)
    lines = done.stderr.splitlines()
    assert lines[0] == "warning: schedule.decay_factor=0.5 has no effect: it needs schedule=step", done.stderr
    assert lines[1].startswith("error: ") and len(lines) == 2 and done.returncode == 2
