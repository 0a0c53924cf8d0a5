"""Many runs on this machine: what fails harms no other, what is done is left alone, nothing is lost or left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_continuation import holder

from conftest import ROOT, SMALL_RUN, command, warm_executable, warm_python
from efficientconv.cli import compose
from efficientconv.config import RunConfig
from efficientconv.data.parallel import CORES, available_cores
from efficientconv.engine.run_folder import RunFolder, run_folder
from efficientconv.errors import UserError
from efficientconv.sweep.job import Job
from efficientconv.sweep.outcome import RunOutcome, answer, outcome_table, skipped, sweep_exit_code
from efficientconv.sweep.pool import run_each, run_jobs, shares
from efficientconv.validation import validate


def smoke(root: Path, *overrides: str) -> RunConfig:
    return validate(RunConfig, compose("train", ["tier=smoke", "trainer.epochs=1", f"output_root={root}", *overrides]))


def test_combinations_that_are_one_run_are_said_and_one_folder_for_several_is_refused(tmp_path):
    said: list[str] = []
    kinds = [smoke(tmp_path, "model=a", f"layers.backend={backend}") for backend in ("auto", "reference", "native")]
    assert len(run_each(kinds, lambda folders: [skipped(folder.path) for folder in folders], said.append)) == 1
    assert said == ["2 of 3 combinations are the same runs as others: what they differ in changes no result"]
    with pytest.raises(UserError, match="run_dir=one is the folder of one run, not of 2; set output_root instead"):
        run_each([smoke(tmp_path, f"seed={seed}", "run_dir=one") for seed in (0, 1)], lambda folders: [])
    assert not Path("one").exists()


def test_a_quoted_home_folder_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for overrides in (['output_root="~/runs"'], ['run_dir="~/runs/smoke/one"']):
        assert run_folder(smoke(Path("unused"), *overrides)).path.parent == tmp_path / "runs" / "smoke"


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[list[RunConfig], list[RunOutcome], list[str]]:
    """Four runs, two at a time: one ends well, the others have a rate too high, no data and a broken installation."""
    root = tmp_path_factory.mktemp("sweep")
    variants = [], ["optim.lr=1e30"], ["data=folder", "data.root=nowhere"], ["seed=1"]
    configs = [smoke(root, *variant) for variant in variants]
    (root / "sitecustomize.py").write_text("import sys\nsys.modules['sklearn.datasets'] = None\n")
    broken = f'case "$*" in *{run_folder(configs[3]).path.name}*) export PYTHONPATH="{root}:$PYTHONPATH" ;; esac'
    python = root / "python"
    python.write_text(f'#!/bin/sh\n{broken}\nexec {warm_executable()} "$@"\n')
    python.chmod(0o755)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS")
        patch.setattr(sys, "executable", str(python))
        outcomes = run_jobs([*configs, configs[0]], jobs=2, log=lines.append)
    return configs, outcomes, lines


def test_each_run_ends_on_its_own_and_the_rows_have_the_order_of_the_runs(swept):
    configs, outcomes, _ = swept
    assert [outcome.folder for outcome in outcomes] == [run_folder(config).path for config in configs]
    assert [(o.state, o.exit_code) for o in outcomes] == [("ok", 0), ("diverged", 3), ("failed", 2), ("failed", 1)]
    reasons = [outcome.reason for outcome in outcomes]
    assert reasons[0] == "" and "the loss of step 2 is not finite" in reasons[1]
    assert reasons[2].startswith("no folder '") and "set data.root to one" in reasons[2]
    assert "ModuleNotFoundError" in reasons[3]
    assert all(outcome.seconds > 0 for outcome in outcomes)
    assert sweep_exit_code(outcomes) == 3
    assert outcome_table(outcomes).endswith("4 runs: 1 ok, 2 failed, 1 diverged")


def test_an_error_is_shown_when_it_happens_with_its_traceback_if_it_is_a_bug(swept):
    _, outcomes, lines = swept
    (trace,) = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    assert "load_digits" in lines[trace] and str(outcomes[3].folder / "log.txt") in lines[trace]
    assert outcomes[3].folder.name in lines[trace - 1]
    assert sum(line.startswith("[4/4]") for line in lines) == 1


def test_runs_beside_each_other_divide_the_cores(swept):
    _, outcomes, _ = swept
    environment = RunFolder(outcomes[0].folder).read_json("environment.json")
    assert environment["threads"] == max(available_cores() // 2, 1)


def test_the_answer_has_a_row_a_configuration_with_what_varies_and_marks_the_best(finished_run, tmp_path):
    top1 = {("a", 0): 70.0, ("a", 1): 71.0, ("b", 0): 72.5, ("b", 1): 73.0, ("b", 2): 72.0}
    outcomes = [RunOutcome(tmp_path / "nowhere", "failed", 2, 1.0, "no images")]
    for (name, seed), accuracy in top1.items():
        folder = RunFolder(Path(shutil.copytree(finished_run, tmp_path / f"{name}{seed}")))
        text = folder.config_file.read_text().replace("seed: 0", f"seed: {seed}")
        folder.config_file.write_text(text.replace("weight_decay: 0.0001", "weight_decay: 0.0005") if name == "b" else text)
        folder.write_json("summary.json", folder.summary() | {"top1_percent": accuracy, "seed": seed})
        outcomes.append(RunOutcome(folder.path, "skipped" if seed else "ok", 0, 0.0, ""))
    macs = folder.summary()["macs"]
    head, *rows = (re.split("  +", line) for line in answer(outcomes).splitlines())
    assert head == ["optim.weight_decay", "top-1 % (seeds)", "M MACs", "seconds of training"]
    spreads = [f"72.50 ± {statistics.stdev([72.5, 73, 72]):.2f} (3)", f"70.50 ± {statistics.stdev([70, 71]):.2f} (2)"]
    assert [row[-3] for row in rows[:2]] == [f"* {spreads[0]}", spreads[1]]
    assert [row[-4].strip() for row in rows[:2]] == ["0.0005", "0.0001"]
    assert {row[-2] for row in rows[:2]} == {f"{macs / 1e6:.2f}"}
    assert rows[2] == [""] and rows[4][:2] == ["nowhere", "failed"] and rows[5] == ["6 runs: 2 ok, 3 skipped, 1 failed"]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ({"pid": 7, "state": "running", "progress": {"epoch": 2, "epochs": 9, "loss": 0.5, "seconds_left": 61}},
         "epoch 2/9, loss 0.500, 61 s left"),
        ({"pid": 7, "state": "done", "progress": {}}, "done"),
        ({"pid": 7, "state": "running", "progress": {}}, "starting, 0 s"),
        ({"pid": 6, "state": "preempted", "progress": {}}, "starting, 0 s"),
        ({"pid": 7, "state": "running", "progress": {"epoch": 1, "epochs": 9, "loss": None, "seconds_left": 1}},
         "starting, 0 s"),
        ([], "starting, 0 s"),
    ],
)  # fmt: skip
def test_the_line_of_a_running_job(status, line, tmp_path):
    """`status`: what lies in status.json, of the job's own process, of an earlier one, or damaged."""
    (tmp_path / "status.json").write_text(json.dumps(status))
    job = SimpleNamespace(folder=tmp_path, title="c", process=SimpleNamespace(pid=7), started=time.monotonic())
    assert Job.line(job) == f"c: {line}"


def test_what_is_done_and_what_another_process_trains_is_left_alone(swept, capfd, monkeypatch):
    configs, outcomes, _ = swept
    before = {path: path.stat().st_mtime_ns for path in outcomes[0].folder.rglob("*")}
    taken = configs[0].model_copy(update={"seed": 2})
    run_folder(taken).prepare(taken)
    other = holder(run_folder(taken).path)
    monkeypatch.setattr(sys, "executable", warm_executable())
    again = run_jobs([configs[0], taken])  # one at a time: shown live, once
    other.kill()
    other.wait()
    assert [(outcome.state, outcome.exit_code) for outcome in again] == [("skipped", 0), ("failed", 2)]
    assert {path: path.stat().st_mtime_ns for path in outcomes[0].folder.rglob("*")} == before
    assert run_folder(taken).state() == "planned" and "is in use by another process" in again[1].reason
    shown = capfd.readouterr().out
    assert shown.count("is in use by another process") == 1 and "1 of 2 runs were done already" in shown
    assert "[1/1]" not in shown, "a launcher may start each of many runs alone"


def test_a_planned_run_follows_what_its_own_configuration_may_change(tmp_path):
    folder = run_folder(smoke(tmp_path))
    folder.prepare(smoke(tmp_path, "trainer.device=cuda"))
    folder.prepare(smoke(tmp_path, "trainer.device=cpu"))
    assert folder.state() == "planned" and folder.config().trainer.device == "cpu"


def test_shares(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert shares(1) == [{}]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares(3)] == ["3", "5", "3"]
    assert {share["OMP_NUM_THREADS"] for share in shares(3)} == {"7"}  # the user's own
    monkeypatch.setenv(CORES, "1")
    assert available_cores() == 1


LONG_SWEEP = (
    "-m", "tier=smoke", "trainer.epochs=300", "seed=0,1,2", "hydra.launcher.jobs=2",
)  # fmt: skip


def start(folder: Path) -> subprocess.Popen:
    call = [*warm_python(), str(ROOT / "train.py"), *LONG_SWEEP, "output_root=out"]
    return subprocess.Popen(call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process: subprocess.Popen | None = None) -> None:
    for _ in range(2400):  # two minutes: what has not come by then never does
        if condition():
            return
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    pytest.fail("waited in vain")


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_run_behind_and_a_stopped_one_says_how_to_go_on(tmp_path):
    def folders() -> list[RunFolder]:
        return [RunFolder(path) for path in sorted(tmp_path.glob("out/smoke/*"))]

    def states() -> list[str]:
        return [folder.state() for folder in folders()]

    killed = start(tmp_path)
    wait_for(lambda: sum(bool(list(folder.checkpoints.glob("*.pt"))) for folder in folders()) == 2, killed)
    assert sorted(states()) == ["planned", "running", "running"]
    killed.kill()
    killed.wait()
    wait_for(lambda: "running" not in states())
    assert sorted(states()) == ["planned", "preempted", "preempted"]

    again = start(tmp_path)
    logs = [folder.path / "log.txt" for folder in folders() if folder.state() == "preempted"]
    wait_for(lambda: all("continuing after step" in log.read_text() for log in logs), again)
    again.send_signal(signal.SIGTERM)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 75 and "stopped by a signal; the same command continues" in output
    assert output.endswith("3 runs: 3 preempted\n") and output.count("not started") == 1
    assert sorted(states()) == ["planned", "preempted", "preempted"]
    assert all(log.read_text().count("stopped by a signal") == 2 for log in logs)  # of both starts, each once
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(folders()) == 3  # and nothing of Hydra's


@pytest.mark.slow
def test_removed_run_folders_do_not_end_a_sweep(tmp_path):
    """The first while its run is active, the second before its start, the third after its end."""

    def removed(seed: int, wanted: str) -> bool:
        for folder in tmp_path.glob(f"out/*-s{seed}-*"):
            if list(folder.glob(wanted)):
                folder.rename(tmp_path / f"removed-{seed}")  # at once: a run may write into a folder as its files go
                return True
        return False

    small = (*SMALL_RUN, "trainer.epochs=5", "seed=0,1,2,3", "output_root=out")
    call = [*warm_python(), str(ROOT / "train.py"), "-m", *small]
    sweep = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: removed(0, "checkpoints/*.pt"), sweep)
    assert removed(1, "config.yaml")
    wait_for(lambda: list(tmp_path.glob("out/*-s3-*/checkpoints/*.pt")), sweep)
    assert removed(2, "summary.json")
    output, _ = sweep.communicate(timeout=60)
    assert "Traceback" not in output and "was removed during the training" in output
    assert re.search("-s1-.* failed, .* is no run folder: it has no config.yaml", output)
    assert sweep.returncode == 2 and output.endswith("4 runs: 3 ok, 1 failed\n")
    assert " (2) " in output  # the two that are there


@pytest.mark.slow
def test_joblibs_launcher_trains_the_runs_and_the_answer_stands_at_the_end(tmp_path):
    small = (*SMALL_RUN, "trainer.epochs=1", "model=a,c", 'output_root="~/out"')
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
    launcher = "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"
    done = command("train.py", "-m", *small, *launcher, cwd=tmp_path, env=os.environ | home)
    assert done.returncode == 0, done.stderr
    *_, title, a, c, empty, counts = done.stdout.splitlines()
    assert title.startswith("model  top-1 % (seeds)") and [a.split()[0], c.split()[0], empty] == ["a", "c", ""]
    assert counts == "2 runs: 2 ok"
    for line, folder in zip((a, c), sorted(tmp_path.glob("out/*"))):
        assert f" {RunFolder(folder).summary()['top1_percent']:.2f} (1) " in line
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # and no folder called ~


def test_a_mistake_in_one_run_is_one_line_before_any_is_started(tmp_path):
    done = command("train.py", "-m", "tier=smoke", "optim.lr=0.1,-1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: optim.lr: input should be greater than 0, got -1\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.lrr=1,2"], "unknown key 'optim.lrr': did you mean 'optim.lr'?"),
        (["seed=0,1", "hydra/launcher=joblob"], "unknown hydra/launcher 'joblob': did you mean 'joblib'?"),
        (["seed=0,1", "hydra.launcher.jobs=0"], "hydra.launcher.jobs=0: give 1 or more"),
        (["seed=0,1", "hydra.launcher.jobs=two"], "Value 'two' of type 'str' could not be converted to Integer"),
        (["seed=0,1", "hydra/sweeper=basic"], "hydra/launcher=local trains the folders that hydra/sweeper=grid writes"),
        (["model=glob(zz*)", "seed=0,1"], "model=glob(zz*) has no value"),
        (["seed=range(1,0)"], "seed=range(1,0) has no value"),
        (["seed=interval(0,1)"], "to search ranges: scripts/tune.py"),
    ],
)
def test_what_is_no_sweep_is_refused(overrides, message, tmp_path):
    done = command("train.py", "-m", "tier=smoke", *overrides, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr and not list(tmp_path.iterdir())


def test_processes_that_train_together_are_no_sweep(tmp_path):
    done = command("train.py", "-m", "seed=0,1", cwd=tmp_path, env=os.environ | {"WORLD_SIZE": "2"})
    assert done.returncode == 2 and "leave torchrun out" in done.stderr
