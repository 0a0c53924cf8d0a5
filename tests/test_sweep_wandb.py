"""configs/sweep/*.yaml: the commands that W&B's own agent makes of them are train.py's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml
from wandb.wandb_agent import Agent

from conftest import ROOT
from efficientconv.cli import compose
from efficientconv.config import RunConfig
from efficientconv.errors import UserError
from efficientconv.files import CONFIG_DIR
from efficientconv.sweep.search import OBJECTIVE
from efficientconv.validation import validate

FILES = sorted((CONFIG_DIR / "sweep").glob("*.yaml"))


def one_value(parameter: dict) -> object:
    return parameter["values"][-1] if "values" in parameter else parameter["max"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_composes(path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"] == {"name": OBJECTIVE, "goal": "maximize"}
    fixed = [part for part in sweep["command"] if "=" in part]
    for key, parameter in sweep["parameters"].items():
        for value in parameter.get("values", [parameter.get("min"), parameter.get("max")]):
            config = validate(RunConfig, compose("train", [*fixed, f"{key}={value}"]))
            assert config.data.val_fraction > 0  # else there is no such metric


def test_the_agents_command_is_accepted(tmp_path, monkeypatch, capfd):
    """The agent starts it as it would for a real sweep; --cfg job shows what train.py would train."""
    sweep = yaml.safe_load((CONFIG_DIR / "sweep" / "lr.yaml").read_text())
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(ROOT)
    agent = Agent(None, None)
    agent._sweep_command = [*sweep["command"], "--cfg", "job"]
    values = {key: {"value": one_value(parameter)} for key, parameter in sweep["parameters"].items()}
    agent._command_run({"program": sweep["program"], "args": values, "run_id": "a"})
    assert agent._run_processes["a"].wait() == 0
    shown = yaml.safe_load(capfd.readouterr().out)
    assert shown["optim"]["lr"] == 1.0 and shown["optim"]["weight_decay"] == 0.0005 and shown["trainer"]["epochs"] == 30


def test_a_file_taken_for_a_group_of_hydras_is_refused():
    with pytest.raises(UserError, match="env"):
        compose("train", ["+sweep=lr"])
