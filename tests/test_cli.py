"""A user's mistakes: one line that names the fault and the cure, exit code 2, nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import SMALL_RUN, command

MISTAKES = [
    ("unknown model", ["model=resnet19"], "unknown model 'resnet19': did you mean 'resnet1"),
    ("unknown data", ["data=cifar11"], "unknown data 'cifar11': did you mean 'cifar10'?"),
    ("unknown key", ["optim.lrr=1"], "unknown key 'optim.lrr': did you mean 'optim.lr'?"),
    ("unknown added key", ["+optim.momentun=1"], "unknown key 'optim.momentun': did you mean 'momentum'?"),
    ("a set without files", ["data=digits", "data.root=x"], "data: digits brings its images along: leave out root"),
    ("another set's key", ["data=digits", "data.num_images=9"], "num_classes and num_images are for data=synthetic"),
    ("resized crops in memory", ["data.min_crop_area=0.5"], "is held in memory, where there are neither random resized crops"),
    ("a number for a name", ["model=3"], "unknown model '3': known: a, "),
    ("null for a name", ["model=null"], "unknown model 'null': known: a, "),
    ("no group of train.py's", ["table=2", "experiment=quickstart"], "unknown key 'table'"),
    ("no key", ["=3"], "'=3' is no key=value"),
    ("no value", ["fast"], "'fast' is no key=value"),
    ("home folder", ["data.root=~/runs"], "data.root: Hydra reads no ~ in ~/runs; type data.root=$HOME/runs"),
    ("equals sign", ["run_dir=data/a=b"], """run_dir: Hydra cannot read data/a=b; if it is a text, type 'run_dir="data/a=b"'"""),
    ("hash", ["run_dir=d#1"], """type 'run_dir="d#1"'"""),
    ("brackets", ["run_dir=d (1)"], """type 'run_dir="d (1)"'"""),
    ("accent", ["run_dir=café"], """type 'run_dir="café"'"""),
    ("quotes", ["run_dir=it's \"d\""], """type 'run_dir="it'"'"'s \\"d\\""'"""),
    ("several values", ["seed=0,1"], "seed=0,1: several values are for train.py -m"),
    ("Hydra's run folder", ["hydra.run.dir=foo"], "hydra.run.dir=foo: Hydra makes no folder here; set run_dir=<folder>"),
    ("unknown option", ["--fast"], "unrecognized arguments: --fast; settings are key=value"),
    ("half an option", ["--resolve"], "--resolve goes with --cfg"),
    ("a mistake in a sweep", ["-m", "seed=0,1", "model=c,resnet19"], "unknown model 'resnet19'"),
    ("unknown top key", ["epochs=3"], "unknown key 'epochs'"),
    ("wrong type", ["trainer.epochs=three"], "trainer.epochs: input should be a valid integer, got 'three'"),
    ("out of range", ["optim.lr=-1"], "optim.lr: input should be greater than 0, got -1"),
    ("unknown choice", ["trainer.precision=fp8"], "trainer.precision: input should be 'fp32', 'bf16' or 'fp16', got 'fp8'"),
    ("syntax", ["optim.lr=[1"], "optim.lr: Hydra cannot read [1; if it is a text, type"),
    ("topology and width", ["model=f", "model.width=0.1"], "choose a width that is a power of two"),
    ("groups and width", ["model=h", "model.width=0.01"], "groups=4 does not divide 1 input"),
    ("image size", ["model=a", "model.layout=imagenet"], "image_size=32 is too small for layout=imagenet"),
    ("no data", ["data=folder", "data.root=nowhere"], "nowhere': set data.root to one that holds train/<class>/"),
    ("batch", ["trainer.global_batch_size=5000"], "trainer.global_batch_size=5000 is more than the 1295 training images"),
    ("accumulation", ["trainer.accumulation_steps=3"], "not divisible by accumulation_steps=3"),
    ("warm-up", ["schedule=cosine", "schedule.warmup_epochs=2"], "leaves nothing of trainer.epochs=2"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing_behind(args, message, tmp_path):
    done = command("train.py", *SMALL_RUN, f"output_root={tmp_path}", *args)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "run is missing: give run=<value>"),
        (["run=nowhere"], "nowhere is no run folder"),
        (["run={run}", "checkpoint=nowhere.pt"], "cannot read the checkpoint nowhere.pt"),
        (["run={run}", "checkpoint={run}/config.yaml"], "config.yaml is no checkpoint"),
        (["run={other}"], "holds the weights of another network"),
    ],
)
def test_eval_says_what_is_wrong(args, message, finished_run, tmp_path):
    other = tmp_path / "other"  # a run folder whose checkpoint is another model's
    (other / "checkpoints").mkdir(parents=True)
    config = (finished_run / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("width: 0.125", "width: 0.25"))
    for path in (finished_run / "checkpoints").iterdir():
        (other / "checkpoints" / path.name).write_bytes(path.read_bytes())

    done = command("eval.py", *(arg.format(run=finished_run, other=other) for arg in args))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_of_other_files_is_not_taken_for_a_run(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    done = command("train.py", *SMALL_RUN, f"run_dir={tmp_path}")
    assert done.returncode == 2 and "holds no run" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_traceback_is_shown_to_who_asks_for_it(tmp_path):
    env = os.environ | {"HYDRA_FULL_ERROR": "1"}
    done = command("train.py", *SMALL_RUN, f"output_root={tmp_path}", "optim.lr=-1", env=env)
    assert done.returncode == 1 and "Traceback" in done.stderr and "optim.lr: input should be" in done.stderr


def test_it_runs_from_any_folder(tmp_path):
    done = command("train.py", *SMALL_RUN, "trainer.epochs=1", "output_root=runs", cwd=Path(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").iterdir())
