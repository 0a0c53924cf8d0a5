"""The workspace that scripts/wandb_workspace.py saves, as a server of ours gets it. W&B's own has not seen it."""

from __future__ import annotations

import json
import shutil

import pytest

import tracking
from conftest import command
from efficientconv.results.figures import FIGURES
from wandb_server import WandbServer

pytestmark = pytest.mark.usefixtures("no_wandb_account")
ASKED = ("scripts/wandb_workspace.py", "--entity", "e", "--project", "p")


def test_accuracy_against_cost_and_curves_by_model_are_saved(monkeypatch):
    with WandbServer() as server:
        tracking.use_server(monkeypatch, server.url)
        done = command(*ASKED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{server.url}/e/p?nw=") and len(done.stdout.splitlines()) == 1
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("e", "p")
    costs, curves = (_panels(section) for section in _sections(view))
    axes = [(panel["xAxis"], panel["yAxis"], panel["xAxisLogScale"]) for panel in costs]
    assert axes == [(f"summary:{key}", "summary:top1_percent", True) for key in ("macs", "ms_per_image", "params")]
    titles = {panel["metrics"][0]: panel["chartTitle"] for panel in curves}
    assert titles == {key: FIGURES[key].about for key in ("val_top1_percent", "val_loss", "train_loss")}
    assert {panel["groupBy"] for panel in curves} == {"model_name.value"}


def test_what_it_draws_is_what_runs_send(finished_run, tmp_path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "c")
    with WandbServer() as server:
        tracking.use_server(monkeypatch, server.url)
        assert command("scripts/track.py", tmp_path / "c").returncode == 0
        assert command(*ASKED).returncode == 0
    (run_id,) = server.runs
    summary, config = server.summary(run_id), json.loads(server.upserts[0]["config"])
    record = json.loads(server.runs[run_id]["wandb-history.jsonl"][-1])
    for panel in (panel for section in _sections(server.views[0]) for panel in _panels(section)):
        if "metrics" in panel:
            assert panel["groupBy"].removesuffix(".value") in config
            assert {*panel["metrics"]} - {"val_top1_percent", "val_loss"} <= record.keys()  # nothing was held out here
        else:
            assert {panel["xAxis"], panel["yAxis"]} <= {f"summary:{key}" for key in summary}


def test_without_a_key_and_with_a_wrong_one_it_says_so_in_a_line(monkeypatch):
    without = command(*ASKED)
    with WandbServer("refuses") as server:
        tracking.use_server(monkeypatch, server.url)
        refused = command(*ASKED)
    for done, said in ((without, "wandb login"), (refused, "401")):
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def _sections(view: dict) -> list[dict]:
    return json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]


def _panels(section: dict) -> list[dict]:
    return [panel["config"] for panel in section["panels"]]
