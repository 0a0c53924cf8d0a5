"""W&B gets copies: of every run, once, however often it is resumed. Real followers, real W&B, a server of ours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

import tracking
from conftest import SMALL_RUN, command
from efficientconv import info
from efficientconv.config import LoggerConfig, TensorboardConfig, WandbConfig
from efficientconv.errors import UserError
from efficientconv.tracking import loggers
from efficientconv.tracking.loggers import require_loggers, start_loggers
from efficientconv.validation import validate
from wandb_server import WandbServer

# those given, and model C's tables
TAGS = ["one", "two", "table2", "table5", "table_equal_cost", "table_order", "table_residual"]

pytestmark = pytest.mark.usefixtures("no_wandb_account")


@pytest.fixture
def server(monkeypatch):
    with WandbServer() as server:
        tracking.use_server(monkeypatch, server.url)
        yield server


def test_without_a_key_the_run_is_kept_offline(tmp_path):
    tracking.run(tmp_path / "c", range(1, 4))
    assert tracking.kept_steps(tmp_path / "c") == [1, 2, 3]
    config, summary, described = tracking.kept_values(tmp_path / "c")
    assert config.items() >= tracking.CONFIG.items() and config.items() >= tracking.FACTS.items()
    assert config.keys() == {*tracking.CONFIG, *tracking.FACTS, "_wandb"}
    assert summary["top1_percent"] == 37.5 and summary["macs"] == 1_530_000 and summary["train_seconds"] == 4.5
    assert described == {"id": tracking.state(tmp_path / "c")["id"], "group": "g", "tags": TAGS}


def test_the_tier_is_the_group_where_none_is_given_and_a_tag(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "CONFIG", tracking.CONFIG | {"tier": "smoke", "model": {"name": "k"}})
    monkeypatch.setattr(tracking, "LOGGER", LoggerConfig(wandb=WandbConfig(tags=["table5"])))
    tracking.run(tmp_path / "k", range(1, 2))
    described = tracking.kept_values(tmp_path / "k")[2]
    assert described["group"] == "smoke" and described["tags"] == ["table5", "smoke", "table_equal_cost", "table_start"]


def test_a_killed_and_resumed_run_is_one_run_with_each_step_once(tmp_path):
    tracking.run_until_killed(tmp_path / "c", range(1, 4))
    run_id = tracking.state(tmp_path / "c")["id"]
    tracking.run(tmp_path / "c", range(3, 6))  # epoch 3 again
    assert tracking.kept_steps(tmp_path / "c") == [1, 2, 3, 4, 5]
    assert tracking.kept_values(tmp_path / "c")[2]["id"] == run_id


@pytest.mark.slow
def test_the_follower_of_a_killed_training_ends_and_the_next_one_waits_for_it(tmp_path, monkeypatch):
    with WandbServer("hangs") as server, monkeypatch.context() as environment:
        tracking.use_server(environment, server.url)
        tracking.run_until_killed(tmp_path / "c", range(1, 3))
        assert len(tracking.processes(tmp_path / "c")) == 2
        environment.delenv("WANDB_API_KEY")
        tracking.run(tmp_path / "c", range(2, 4))
    tracking.wait_until(lambda: not tracking.processes(tmp_path / "c"))
    assert tracking.kept_steps(tmp_path / "c") == [1, 2, 3]


@pytest.mark.parametrize(
    ("logger", "variable", "value"),
    [
        (tracking.LOGGER, "WANDB_MODE", "disabled"),
        (tracking.LOGGER, "WANDB_DISABLED", "true"),
        (LoggerConfig(), "WANDB_MODE", "Offline"),
        (LoggerConfig(), "WANDB_MODE", "online"),
    ],
)
def test_no_logger_where_none_is_wanted(tmp_path, monkeypatch, logger, variable, value):
    monkeypatch.setenv(variable, value)
    require_loggers(logger)
    assert not start_loggers(logger, tmp_path).processes


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_without_the_loggers_package_it_says_so_at_the_start(monkeypatch, name):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"logger={name} needs the package {name}: pip install {name}, or set logger=jsonl"):
        require_loggers(validate(LoggerConfig, {name: {}}))


def test_a_package_that_is_not_there_has_no_version(monkeypatch):
    monkeypatch.setattr(info, "PACKAGES", ("torch", "wandb-that-is-not"))
    packages = info.environment(torch.device("cpu"))["packages"]
    assert packages["torch"] and packages["wandb-that-is-not"] is None


def test_tensorboard_has_each_epoch_once_and_what_accuracy_is_drawn_against(tmp_path):
    logger = LoggerConfig(tensorboard=TensorboardConfig())
    tracking.run(tmp_path / "c", range(1, 4), summary=False, logger=logger)
    (line,) = tracking.run(tmp_path / "c", range(3, 6), logger=logger)  # epoch 3 again
    assert line.startswith("TensorBoard: ") and line.endswith(f"tensorboard --logdir {tmp_path}")
    events = EventAccumulator(str(tmp_path / "c" / "tensorboard")).Reload()
    losses = [(event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in events.Tensors("train_loss")]
    assert losses == [(epoch, pytest.approx(1 / epoch)) for epoch in range(1, 6)]
    (top1,) = events.Tensors("top1_percent")
    assert (top1.step, tensor_util.make_ndarray(top1.tensor_proto).item()) == (5, 37.5)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["macs"].number_value == tracking.FACTS["macs"] and settings["model.name"].string_value == "c"


def test_several_loggers_at_once_and_the_lines_that_show_and_send(tmp_path):
    run = tmp_path / "a run"
    done = command("train.py", *SMALL_RUN[:-1], "logger=[wandb,tensorboard]", f"run_dir='{run}'")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    *_, folder, wandb, tensorboard = done.stdout.splitlines()
    assert folder == f"run folder: {run}"
    shown = f"to see it: wandb leet '{run}/wandb'; to send it: python scripts/track.py '{run}'"
    assert wandb == f"W&B: kept offline; {shown}"
    assert tensorboard == f"TensorBoard: to see it and the runs beside it: tensorboard --logdir {tmp_path}"
    assert tracking.kept_steps(run) == [1, 2] and list(run.glob("tensorboard/events*"))


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("machine", [True, False])
def test_what_tells_of_the_machine_can_be_left_out(tmp_path, monkeypatch, machine, mode):
    """Host, user, folders: in nothing that W&B is sent or keeps. With machine=true, its default, they are."""
    places = {"data": {"root": "/somewhere/images"}, "run_dir": str(tmp_path)}
    monkeypatch.setattr(tracking, "CONFIG", tracking.CONFIG | places)
    monkeypatch.setenv("WANDB_HOST", "the-host")
    monkeypatch.setenv("WANDB_USERNAME", "the-user")
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = LoggerConfig(wandb=WandbConfig(machine=machine))
    with WandbServer() as server:
        tracking.use_server(monkeypatch, server.url)
        tracking.run(tmp_path / "c", range(1, 3), logger=logger)
        sent = json.dumps([server.upserts, server.runs]) + b"".join(server.files.values()).decode(errors="replace")
    for path in (tmp_path / "c" / "wandb").rglob("*"):
        assert path.exists(), f"{path} leads nowhere"
        sent += os.readlink(path) if path.is_symlink() else ""
        sent += path.read_bytes().decode(errors="replace") if path.is_file() else ""
    told = ("the-host", str(Path(loggers.FOLLOWER).parent), "/somewhere/images", str(tmp_path), sys.executable)
    assert [word in sent for word in told] == [machine] * 5


def test_run_folders_of_earlier_versions_name_one_logger():
    earlier = {"name": "wandb", "project": "p", "entity": None, "group": None, "tags": ["t"]}
    assert validate(LoggerConfig, earlier) == LoggerConfig(wandb=WandbConfig(project="p", tags=["t"]))
    for name in ("jsonl", "none"):
        assert validate(LoggerConfig, {"name": name}) == LoggerConfig()


def test_a_resumed_run_continues_the_same_online_run(tmp_path, server):
    tracking.run(tmp_path / "c", range(1, 3), summary=False)
    run_id = tracking.state(tmp_path / "c")["id"]
    assert server.steps(run_id) == [1, 2] and tracking.state(tmp_path / "c")["sent_epochs"] == 2
    tracking.run(tmp_path / "c", range(2, 5))  # epoch 2 again
    assert list(server.runs) == [run_id]
    assert server.steps(run_id) == [1, 2, 3, 4]
    assert server.summary(run_id)["top1_percent"] == 37.5 and server.summary(run_id)["train_seconds"] == 6.0
    described = server.upserts[0]
    sent_config = {key: value["value"] for key, value in json.loads(described["config"]).items()}
    assert sent_config.items() >= tracking.CONFIG.items()
    assert (described["project"], described["groupName"], described["tags"]) == ("p", "g", TAGS)


def test_the_environment_names_what_the_settings_leave_open_and_a_continued_run_keeps_its_project(tmp_path, server):
    open_settings = LoggerConfig(wandb=WandbConfig())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_PROJECT", "of-the-user")
        environment.setenv("WANDB_RUN_GROUP", "of-the-day")
        tracking.run(tmp_path / "c", range(1, 3), summary=False, logger=open_settings)
        tracking.run(tmp_path / "given", range(1, 3))
    tracking.run(tmp_path / "plain", range(1, 3), logger=open_settings)
    first = {}
    for upsert in server.upserts:  # later ones name the project that the server answered with
        first.setdefault(upsert["name"], (upsert["project"], upsert["groupName"]))
    assert list(first.values()) == [("of-the-user", "of-the-day"), ("p", "g"), ("efficientconv", None)]
    before = len(server.upserts)
    tracking.run(tmp_path / "c", range(3, 5), logger=open_settings)
    assert server.upserts[before]["project"] == "of-the-user"


def test_what_was_kept_offline_is_sent_when_the_run_goes_on_online(tmp_path, monkeypatch):
    tracking.run(tmp_path / "c", range(1, 3), summary=False)
    with WandbServer() as server:
        tracking.use_server(monkeypatch, server.url)
        tracking.run(tmp_path / "c", range(3, 5))
        assert server.steps(tracking.state(tmp_path / "c")["id"]) == [1, 2, 3, 4]
    assert not list(tmp_path.glob("c/wandb/offline-run-*"))


def test_runs_are_sent_later_by_one_command(tmp_path, server):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        tracking.run(tmp_path / "c", range(1, 4))
    for _ in range(2):  # the second time there is nothing left to send
        done = command("scripts/track.py", tmp_path / "c")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{tmp_path / 'c'}: W&B: 3 epochs at {server.url}")
        assert server.steps(tracking.state(tmp_path / "c")["id"]) == [1, 2, 3]
    assert server.upserts[-1]["project"] == "p"


def test_a_picture_of_its_kernels_goes_into_the_runs_summary(tmp_path, monkeypatch):
    def draw(folder: Path) -> bytes:
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (7, 5), "teal").save(folder / "kernels.png")
        return (folder / "kernels.png").read_bytes()

    drawn = draw(tmp_path / "offline")
    tracking.run(tmp_path / "offline", range(1, 3))
    picture = tracking.kept_values(tmp_path / "offline")[1]["kernels"]
    assert (picture["_type"], picture["width"], picture["height"]) == ("image-file", 7, 5)
    kept = tracking.copies(tmp_path / "offline")[0] / "files" / picture["path"]
    assert kept.read_bytes() == drawn

    with WandbServer() as server:
        tracking.use_server(monkeypatch, server.url)
        tracking.run(tmp_path / "online", range(1, 3))
        run_id = tracking.state(tmp_path / "online")["id"]
        assert "kernels" not in server.summary(run_id)
        drawn = draw(tmp_path / "online")
        assert command("scripts/track.py", tmp_path / "online").returncode == 0
        assert server.steps(run_id) == [1, 2]
        assert server.files[server.summary(run_id)["kernels"]["path"]] == drawn


def test_sending_later_fails_in_one_line(tmp_path):
    tracking.run(tmp_path / "c", range(1, 2))
    done = command("scripts/track.py", tmp_path / "c", tmp_path / "other")
    assert done.returncode == 2
    unsent, unknown = done.stderr.splitlines()
    assert "No API key configured" in unsent and str(tmp_path / "c" / "wandb.log") in unsent
    assert "other is no run folder" in unknown


def test_a_damaged_file_is_named_in_one_line(tmp_path):
    damage = {"facts.json": '{"macs": 1', "summary.json": "[]", "config.yaml": "{", "metrics.jsonl": "{]\n"}
    for name, content in damage.items():
        folder = tmp_path / name
        tracking.run(folder, range(1, 2), logger=LoggerConfig())
        (folder / name).write_text(content)
    done = command("scripts/track.py", *(tmp_path / name for name in damage), "--to", "tensorboard")
    assert done.returncode == 2 and not done.stdout
    for name, line in zip(damage, done.stderr.splitlines(), strict=True):
        folder = tmp_path / name
        assert line.startswith(f"error: {folder}: {folder / name} is damaged") and line.endswith("tensorboard.log")
