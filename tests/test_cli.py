"""A user's mistakes: one line that names the fault and the cure, exit code 2, nothing written."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from optuna.distributions import IntDistribution

from conftest import ROOT, SMALL_RUN, combinations, command
from efficientconv.cli import compose, run_config
from efficientconv.errors import UserError
from efficientconv.files import CONFIG_DIR
from efficientconv.sweep.ranges import split_ranges

MISTAKES = [
    ("unknown model", ["model=resnet19"], "unknown model 'resnet19': did you mean 'resnet1"),
    ("unknown added key", ["+optim.momentun=1"], "unknown key 'optim.momentun': did you mean 'momentum'?"),
    ("resized crops in memory", ["data.min_crop_area=0.5"], "is held in memory, which does not go with random"),
    ("no group of train.py's", ["table=2", "experiment=quickstart"], "unknown key 'table'"),
    ("equals sign", ["run_dir=data/a=b"], """Hydra cannot read data/a=b; if it is a text, type 'run_dir="data/a=b"'"""),
    ("Hydra's run folder", ["hydra.run.dir=foo"], "hydra.run.dir=foo: Hydra makes no folder here; set run_dir=<folder>"),
    ("unknown option", ["--fast"], "unrecognized arguments: --fast; settings are key=value"),
    ("half an option", ["--resolve"], "--resolve goes with --cfg"),
    ("two modes", ["-m", "seed=0,1", "--cfg", "job"], "-m, --cfg, --info, -sc and --run do not go together; give one of"),
    ("a mistake in a sweep", ["-m", "seed=0,1", "model=c,resnet19"], "unknown model 'resnet19'"),
    ("wrong type", ["trainer.epochs=three"], "trainer.epochs: input should be a valid integer, got 'three'"),
    ("0..255", ["data.mean=[123.7,116.3,103.5]"], "data.mean: images are in 0..1: divide by 255, got [123.7"),
    ("topology and width", ["model=f", "model.width=0.1"], "choose a width that is a power of two"),
    ("groups and width", ["model=h", "model.width=0.01"], "in_channels=1, groups=4"),
    ("image size", ["model=a", "model.layout=imagenet"], "image_size=32 is too small for layout=imagenet"),
    ("no data", ["data=folder", "data.root=nowhere"], "nowhere': set data.root to one that holds train/<class>/"),
    ("batch", ["trainer.global_batch_size=5000"], "trainer.global_batch_size=5000 is more than the 1295 training images"),
]  # fmt: skip

# of the settings alone, found while they are composed and checked
SETTINGS = [
    ("a number for a text", ["run_dir=2017"], """should be a valid string, got 2017; a text is quoted twice, '"2017"'"""),
    ("unknown data", ["data=cifar11"], "unknown data 'cifar11': did you mean 'cifar10'?"),
    ("several data sets", ["data=[digits,q]"], "data=[digits,q]: give one name; several are for train.py -m"),
    ("several models merged", ["model=[a,c]"], "model=[a,c]: give one name; several are for train.py -m, without brackets"),
    ("several models", ["model=a,c"], "model=a,c: several values are for train.py -m"),
    ("unknown key", ["optim.lrr=1"], "unknown key 'optim.lrr': did you mean 'optim.lr'?"),
    ("key like no other", ["trainer.gradient_clip=1"], "unknown key 'trainer.gradient_clip': known: trainer."),
    ("a set without files", ["data=digits", "data.root=x"], "data: data=digits has no use for root: leave it out"),
    ("another set's key", ["data=digits", "data.num_images=9"], "data=digits has no use for num_images: leave it out"),
    ("a number for a name", ["model=3"], "unknown model '3': known: a, "),
    ("null for a name", ["model=null"], "unknown model 'null': known: a, "),
    ("no key", ["=3"], "'=3' is no key=value"),
    ("no value", ["fast"], "'fast' is no key=value"),
    ("home folder", ["data.root=~/runs"], "data.root: Hydra reads no ~ in ~/runs; type data.root=$HOME/runs"),
    ("hash", ["run_dir=d#1"], """type 'run_dir="d#1"'"""),
    ("brackets", ["run_dir=d (1)"], """type 'run_dir="d (1)"'"""),
    ("accent", ["run_dir=café"], """type 'run_dir="café"'"""),
    ("quotes", ["run_dir=it's \"d\""], """type 'run_dir="it'"'"'s \\"d\\""'"""),
    ("several values", ["seed=0,1"], "seed=0,1: several values are for train.py -m"),
    ("key without its section", ["batch_size=3"], "unknown key 'batch_size': train.py has trainer.global_batch_size; the"),
    ("key of other trainers", ["trainer.resume=true"], "'trainer.resume': none is needed: the same command again continues"),
    ("timm's key", ["pretrained=true"], "'pretrained': train.py begins with random weights; in Python, create"),
    ("misspelt group", ["modle=c"], "unknown key 'modle': train.py has model; the option --cfg job"),
    ("unknown section", ["optimizer.lr=1"], "unknown key 'optimizer.lr': train.py has optim.lr; the option --cfg job"),
    ("out of range", ["optim.lr=-1"], "optim.lr: input should be greater than 0, got -1"),
    ("no spread", ["data.std=[0,0.2,0.2]"], "data.std.0: input should be greater than or equal to 0.001, got 0"),
    ("negative spread", ["data.std=[-1,1,1]"], "data.std.0: input should be greater than or equal to 0.001, got -1"),
    ("infinite rate", ["optim.lr=inf"], "optim.lr: input should be a finite number, got inf"),
    ("beyond float32", ["optim.lr=1e300"], "optim.lr: input should be less than 1000"),
    ("infinite width", ["model.width=inf"], "model.width: input should be a finite number, got inf"),
    ("absurd width", ["model.width=1e9"], "model.width: input should be less than or equal to 64, got 1000000000.0"),
    ("not a number", ["trainer.checkpoint_minutes=nan"], "trainer.checkpoint_minutes: input should be a finite number"),
    ("endless warm-up", ["schedule.warmup_epochs=inf"], "schedule.warmup_epochs: input should be a finite number"),
    ("absurd padding", ["data.crop_padding=1000000"], "data.crop_padding: input should be less than or equal to 1024"),
    ("absurd epochs", ["trainer.epochs=99999999999999999999"], "trainer.epochs: input should be less than 2147483648"),
    ("absurd seed", ["seed=4294967296"], "seed: input should be less than 4294967296"),
    ("absurd size", ["data.image_size=1000000"], "data.image_size: input should be less than or equal to 16384"),
    ("long tag", ["logger=wandb", f"logger.wandb.tags=[{'t' * 80}]"],
     "wandb.tags.0: string should have at most 64 characters"),
    ("project's name", ["logger=wandb", "logger.wandb.project=a/b"], "wandb.project: a W&B project must not have / "),
    ("no logger's", ["logger.wandb.project=p"], "unknown key 'logger.wandb.project': it goes with logger=wandb"),
    ("misspelt logger's", ["logger=wandb", "logger.wandb.tag=[a]"], "did you mean 'logger.wandb.tags'?"),
    ("unknown logger", ["logger=[wandb,comet]"], "unknown logger 'comet'"),
    ("unknown choice", ["trainer.precision=fp8"], "trainer.precision: input should be 'fp32', 'bf16' or 'fp16', got 'fp8'"),
    ("Nesterov alone", ["optim.nesterov=true", "optim.momentum=0"], "optim: nesterov=true needs a momentum above 0"),
    ("a model's setting of one block", ["model.stages.stage2.blocks=[{layer: sic, args: {batch_norm: behind}}]"],
     "batch_norm is for the whole model: decisions.batch_norm, not in args"),
    ("syntax", ["optim.lr=[1"], "optim.lr: Hydra cannot read [1; if it is a text, type"),
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


@pytest.mark.parametrize(("args", "message"), [m[1:] for m in SETTINGS], ids=[m[0] for m in SETTINGS])
def test_a_setting_that_cannot_be_is_named(args, message):
    with pytest.raises(UserError) as refused:
        run_config(compose("train", [*SMALL_RUN, *args]))
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("args", "key", "value"),
    [
        (["data=folder", "data.min_crop_area=0.5"], "min_crop_area", 0.5),
        (["data=cifar10", "data.mixup_alpha=0.2"], "mixup_alpha", 0.2),
        (["data=cifar10_jpeg", "data.workers=0"], "workers", 0),
        (["+data.cutmix_alpha=1"], "cutmix_alpha", 1),
        (["data.root=${hydra:runtime.cwd}/x", "data=folder"], "root", f"{os.getcwd()}/x"),
    ],
)
def test_every_setting_of_the_schema_may_be_given(args, key, value):
    assert getattr(run_config(compose("train", [*SMALL_RUN, *args])).data, key) == value
    jobs = combinations(*SMALL_RUN, *args, "-m", "seed=0,1")
    assert [(run_config(job).seed, job["data"][key]) for job in jobs] == [(0, value), (1, value)]


def test_a_file_of_ones_own_does_what_it_says_or_is_refused(tmp_path):
    model = (CONFIG_DIR / "model" / "c.yaml").read_text()
    files = {
        "model/mine.yaml": model.replace("name: c\n", "name: mine\n").replace("depth: 4", "depth: 1"),
        "model/copied.yaml": model, "model/c.yaml": model, "tier/own.yaml": "# @package _global_\ntier: own\n",
        "tier/untold.yaml": "# @package _global_\nseed: 1\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def given(*overrides):
        return run_config(compose("train", [*SMALL_RUN, f"hydra.searchpath=[{tmp_path}]", *overrides]))

    config = given("model=mine", "tier=own")
    assert (config.model.name, config.model.stages["stage2"].depth, config.tier) == ("mine", 1, "own")
    assert given("model=mine", "model.name=other").model.name == "other"
    assert given("model=copied", "model.name=copied").model.name == "copied"
    for override, message in (
        ("model=c", "model/c.yaml is hidden by "), ("model=copied", "says name: c, by which its runs would be called"),
        ("tier=untold", "let it say tier: untold"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            given("model=mine", override)
    done = command("train.py", *SMALL_RUN, "--config-dir", tmp_path, "model=copied", f"output_root={tmp_path / 'out'}")
    assert done.returncode == 2 and "let it say name: copied" in done.stderr and done.stderr.count("\n") == 1
    with pytest.raises(SystemExit):
        combinations(*SMALL_RUN, "--config-dir", str(tmp_path), "-m", "model=mine,copied")


@pytest.mark.parametrize("override", ["run_dir=a/b=c", "run_dir=d#1", "run_dir=d (1)", "run_dir=café", 'run_dir=it\'s "d"'])
def test_what_it_says_to_type_is_what_was_meant(override):
    with pytest.raises(UserError) as refused:
        compose("train", [override])
    (typed,) = shlex.split(str(refused.value).rpartition("type ")[2])
    assert f"run_dir={compose('train', [typed])['run_dir']}" == override


ENVIRONMENTS = [
    ({"WANDB_MODE": "Offline"}, ["logger=wandb"], "unknown WANDB_MODE=Offline: did you mean 'offline'?"),
    ({"RANK": "0", "WORLD_SIZE": "1"}, [], "LOCAL_RANK is not set: start the processes with torchrun"),
    ({"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0"}, [], "WORLD_SIZE=two is no number: start"),
    ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, [], "RANK=2 is not below WORLD_SIZE=2"),
    ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, [], "MASTER_PORT is not set: start"),
]


@pytest.mark.parametrize(("variables", "args", "message"), ENVIRONMENTS)
def test_a_mistake_in_the_environment_is_one_line(variables, args, message, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | variables
    done = command("train.py", *SMALL_RUN, f"output_root={tmp_path}", *args, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and message in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "run is missing: give run=<value>"),
        (["run=nowhere"], "nowhere is no run folder"),
        (["run={run}", "checkpoint=nowhere.pt"], "cannot read the checkpoint nowhere.pt"),
        (["run={run}", "checkpoint={run}/config.yaml"], "config.yaml is no checkpoint"),
        (["run={other}"], "holds the weights of another network"),
        (["run=2017"], "run: input should be a valid string, got 2017"),
        (["run={run}", "device=gpu"], "device: input should be 'auto', 'cpu' or 'cuda', got 'gpu'"),
        (["run={run}", "data.root=x"], "unknown key 'data.root': it goes with data=<name>"),
        (["-m", "run={run}"], "--multirun is for train.py"),
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


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("reproduce", "table=1 tier=smoke --jobs 0"),
        ("reproduce", "table=1 tier=smoke --jobs 99999999999999999999"),
        ("tune", "seed=0,1 --study s --trials -1"),
        ("tune", "seed=0,1 --study s --trials 1.5"),
        ("torture", "--kills -5"),
        ("benchmark", "layers --repeats 0"),
        ("benchmark", "layers --threads two"),
        ("benchmark_data", "images --count 0"),
        ("benchmark_data", "images --workers 1 -1"),
        ("prepare_imagenet", "a b --workers 0"),
        ("convert_digits", "--epochs 0"),
    ],
)
def test_a_script_says_which_number_cannot_be(script, args, monkeypatch, capsys):
    main = importlib.import_module(f"scripts.{script}").main
    monkeypatch.setattr(sys, "argv", [script, *args.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    option, number = args.split()[-2:] if "--workers 1" not in args else ("--workers", "-1")
    said = f"error: argument {option}: give a whole number from 1 to 1000000, not '{number}'\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize(
    ("script", "args"),
    [("reproduce", "table=1 tier=smoke --results"), ("complexity", "--output-dir"), ("benchmark", "layers --output-dir"),
     ("torture", "--output-dir")],
)  # fmt: skip
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(script, args, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", [script, *args.split(), str(tmp_path / "file" / "folder")])
    with pytest.raises(UserError, match="cannot make the folder .*/file/folder .*; choose another"):
        importlib.import_module(f"scripts.{script}").main()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-"])
def test_a_study_is_named_like_a_folder(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tune", "seed=0,1", "--trials", "1", f"--study={name}"])
    with pytest.raises(SystemExit):
        importlib.import_module("scripts.tune").main()
    assert f"argument --study: '{name}' names a folder: up to 100 letters, digits, . _ + and -" in capsys.readouterr().err


NO_RANGES = {
    "interval(0.1,inf)": "its ends must be finite",
    "range(1,1)": "it has no value",
    "tag(log,range(1,100))": "steps are not uniform in the logarithm; give an interval",
    "glob(*)": "give the names, with commas",
}


@pytest.mark.parametrize("given", NO_RANGES)
def test_what_is_no_range_is_refused(given):
    with pytest.raises(UserError, match=f"no range to search: {NO_RANGES[given]}"):
        split_ranges([f"optim.lr={given}"])


@pytest.mark.parametrize("given", ["range(4,12,2)", "range(10,2,-2)", "shuffle(range(4,12,2))"])
def test_the_order_of_steps_changes_no_range(given):
    for _ in range(5):
        assert split_ranges([f"seed={given}"])[1] == {"seed": IntDistribution(4, 10, step=2)}


ARGPARSED = [path.stem for path in (ROOT / "scripts").glob("*.py") if "parser_for(" in path.read_text()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb-workspaces
@pytest.mark.parametrize("script", ARGPARSED)
def test_help_of_a_script_says_what_it_is_for_and_does_nothing(script, monkeypatch, capsys):
    module = importlib.import_module(f"scripts.{script}")
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    said = capsys.readouterr().out
    about, shown = (" ".join(text.replace(" \\\n", " ").split()) for text in (module.__doc__, said))
    assert not ended.value.code and about in shown
    assert f"\n    python scripts/{script}.py" in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("script", "choices"),
    [("train.py", "cosine, onecycle, step"), ("eval.py", "cifar10, cifar100"), ("scripts/verify_data.py", "cifar10, "),
     ("scripts/visualize_kernels.py", ""), ("scripts/export.py", "onnx, or pt2"), ("scripts/roofline.py", "h200, h100")],
)  # fmt: skip
def test_help_of_a_command_has_examples_choices_settings_and_options_in_80_columns(script, choices, tmp_path):
    done = command(script, "--help", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr and not list(tmp_path.iterdir())
    assert f"    python {script} " in done.stdout and choices in done.stdout
    assert ("\n  -m  " in done.stdout) == (script == "train.py") and "\n  --hydra-help " in done.stdout
    given = set(yaml.safe_load((CONFIG_DIR / f"{Path(script).stem}.yaml").read_text())) - {"defaults", "hydra"}
    assert all(f"\n  {setting}: " in done.stdout or f"\n  {setting}:\n" in done.stdout for setting in given)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_tab_completes_and_what_installs_it(tmp_path):
    asked = os.environ | {"COMP_LINE": "python train.py tier=cifar_s"}
    done = command("train.py", "-sc", "query=bash", cwd=tmp_path, env=asked)
    assert done.stdout.split() == ["tier=cifar_small", "tier=cifar_small_48epochs", "tier=cifar_small_wide"]
    bare = command("train.py", "-sc", cwd=tmp_path)
    assert bare.returncode == 2
    assert bare.stderr == "error: -sc goes with install=<shell> or uninstall=<shell>: bash, fish, zsh\n"


def test_options_may_stand_anywhere_and_leave_nothing_behind(tmp_path):
    shown = command("train.py", "model=a", "--cfg", "job", "trainer.epochs=3", "--package", "trainer", cwd=tmp_path)
    assert shown.returncode == 0 and "epochs: 3\n" in shown.stdout, shown.stderr
    swept = command("train.py", "model=a", "-m", "seed=0,-1", cwd=tmp_path)
    assert swept.stderr == "error: seed: input should be greater than or equal to 0, got -1\n"
    assert not list(tmp_path.iterdir())


def test_it_runs_from_any_folder(tmp_path):
    done = command("train.py", *SMALL_RUN, "trainer.epochs=1", "output_root=runs", cwd=Path(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").iterdir())
