"""What a run is: its images wherever they lie, its number of processes; and that nobody else changes its folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, SMALL_RUN, train_here
from efficientconv.config import RunConfig
from efficientconv.data import find_data, fingerprint_of
from efficientconv.engine.epoch_log import EpochLog
from efficientconv.engine.identity import run_name
from efficientconv.engine.run_folder import TEST, TRAIN, RunFolder
from efficientconv.errors import UserError
from efficientconv.sweep.pool import write_configs
from test_data_helpers import config

TINY_RUN = (
    "model=c", "model.width=0.125", "trainer.epochs=1", "trainer.global_batch_size=8", "logger=jsonl", "data.val_fraction=0",
)  # fmt: skip
SETS = {"folder": "test", "imagenet": "val"}  # each a collection of the user's: its content says what it is


def make_set(root: Path, test: str, seed: int = 0) -> Path:
    chance = np.random.default_rng(seed)
    for part, number in (("train", 6), (test, 2)):
        for kind in ("cat", "dog"):
            (root / part / kind).mkdir(parents=True)
            for i in range(number):
                pixels = chance.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / kind / f"{i}.bmp")  # all of one size in bytes
    return root


def train_on(root: object, name: str, *args: object) -> dict:
    size = ("data.image_size=16", "data.resize_size=16", "data.workers=0", "model.layout=cifar")
    return train_here(*TINY_RUN, f"data={name}", f"data.root={root}", *size, *args)


def runs(outputs: Path) -> list[Path]:
    return sorted(outputs.iterdir())


@pytest.mark.parametrize("name", SETS)
def test_the_images_say_which_run_it_is_and_not_the_spelling_of_their_place(name, tmp_path, monkeypatch, capsys):
    root, outputs = make_set(tmp_path / "D", SETS[name]), f"output_root={tmp_path / 'out'}"
    train_on(root, name, outputs)
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    for spelling in (f"{root}/", f"{root}/../D", "D", "./D//", tmp_path / "copy", "link"):
        capsys.readouterr()
        train_on(spelling, name, outputs)
        assert "already trained" in capsys.readouterr().out, spelling
    assert len(runs(tmp_path / "out")) == 1
    train_on(make_set(tmp_path / "E", SETS[name], seed=1), name, outputs)  # names and sizes are D's
    assert len(runs(tmp_path / "out")) == 2 and "already trained" not in capsys.readouterr().out


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("name", SETS)
def test_other_images_are_refused_in_the_folder_of_a_run(finished, name, tmp_path):
    root, other = make_set(tmp_path / "D", SETS[name]), make_set(tmp_path / "E", SETS[name], seed=1)
    folder = tmp_path / "run"
    train_on(root, name, f"run_dir={folder}")
    if not finished:
        (folder / "summary.json").unlink()
    before = content(folder)
    with pytest.raises(UserError, match=f"{folder} was trained on other images than those at data.root={other}; "):
        train_on(other, name, f"run_dir={folder}")
    assert content(folder) == before
    train_on(root, name, f"run_dir={folder}")


def test_another_test_image_changes_no_training_but_is_not_a_finished_runs_result(tmp_path):
    root, folder = make_set(tmp_path / "D", "test"), tmp_path / "run"
    train_on(root, "folder", f"run_dir={folder}")
    (root / "test" / "cat" / "1.bmp").unlink()
    with pytest.raises(UserError, match="was tested on other images than those of data.root: python eval.py run="):
        train_on(root, "folder", f"run_dir={folder}")
    (folder / "summary.json").unlink()
    with pytest.warns(UserWarning, match="data.root has other test images than at the start of"):
        assert train_on(root, "folder", f"run_dir={folder}")["images"] == 3


def test_a_finished_run_is_reported_without_its_images_where_its_folder_is_named(tmp_path, capsys):
    root, folder = make_set(tmp_path / "D", "test"), tmp_path / "run"
    train_on(root, "folder", f"run_dir={folder}")
    shutil.rmtree(root)
    with pytest.warns(UserWarning, match="the images of a finished run are not there to be compared: no folder"):
        train_on(root, "folder", f"run_dir={folder}")
    assert "already trained" in capsys.readouterr().out


def as_of_earlier_versions(folder: Path) -> None:
    for name in ("facts.json", "summary.json"):
        if (folder / name).exists():
            values = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({k: v for k, v in values.items() if k not in (TRAIN, TEST, "processes")}))


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("name", SETS)
def test_a_folder_of_an_earlier_version_is_found_and_said_to_be_one(finished, name, tmp_path, capsys):
    root, outputs = make_set(tmp_path / "D", SETS[name]), tmp_path / "out"
    train_on(root, name, f"output_root={outputs}")
    (folder,) = runs(outputs)
    earlier = folder.with_name(f"c-{name}-s0-01234567")  # of a hash that has the spelling of data.root in it
    folder.rename(earlier)
    if not finished:
        (earlier / "summary.json").unlink()
    as_of_earlier_versions(earlier)
    with pytest.warns(UserWarning, match=f"{earlier} is of an earlier version and has no record of its images"):
        train_on(f"{root}/", name, f"output_root={outputs}")
    assert runs(outputs) == [earlier]
    train_on(make_set(tmp_path / "E", SETS[name], seed=1), name, f"output_root={outputs}")
    assert len(runs(outputs)) == 2
    with pytest.raises(UserError, match="data.root=.*/D, or choose another|trained on other images"):
        train_on(tmp_path / "E", name, f"run_dir={earlier}")


def test_the_names_of_earlier_versions_are_as_they_were():
    """Records of named sets are kept under them: results/*/runs."""
    paths = sorted((ROOT / "results").glob("*/runs/*.json"))
    for path in paths[::20]:
        record = json.loads(path.read_text())
        values = {"output_root": "outputs", "run_dir": None, "logger": {"name": "jsonl"}} | record["config"]
        values["data"] = {"root": "elsewhere"} | values["data"]
        assert run_name(RunConfig.model_validate(values)) == path.stem
    assert paths


def test_a_fingerprint_sees_names_sizes_and_content(tmp_path):
    root = make_set(tmp_path / "D", "test")
    settings = config("folder", root=str(root))

    def digest() -> str:
        return fingerprint_of(find_data(settings), settings).train

    digests = [digest()]
    image = root / "train" / "cat" / "0.bmp"
    pixels = bytearray(image.read_bytes())
    pixels[-1] ^= 1
    image.write_bytes(pixels)
    digests.append(digest())
    image.rename(image.with_name("z.bmp"))
    digests.append(digest())
    image.with_name("z.bmp").unlink()
    digests.append(digest())
    assert len(set(digests)) == 4


# --------------------------------------------------------------------------------------------------------- processes


@pytest.fixture
def cut_off(finished_run, tmp_path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "summary.json").unlink()
    return folder


def test_another_number_of_processes_is_refused_with_the_reason(cut_off):
    facts = json.loads((cut_off / "facts.json").read_text())
    (cut_off / "facts.json").write_text(json.dumps(facts | {"processes": 2}))
    before = content(cut_off)
    with pytest.raises(UserError, match="by 2 processes, and this start has 1: .*batch norm.*torchrun --nproc_per_node=2"):
        train_here(*SMALL_RUN, f"run_dir={cut_off}")
    assert content(cut_off) == before
    shutil.rmtree(cut_off / "checkpoints")  # nothing to go on from
    train_here(*SMALL_RUN, f"run_dir={cut_off}")


def test_a_run_that_does_not_say_its_number_of_processes_is_warned_of(cut_off):
    as_of_earlier_versions(cut_off)
    with pytest.warns(UserWarning, match="does not say how many processes trained it: 1 assumed"):
        train_here(*SMALL_RUN, f"run_dir={cut_off}")


# ------------------------------------------------------------------------------------------------------ two at a time


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def holder(folder: Path) -> subprocess.Popen:
    """Another process that has the run's lock."""
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True)"
    call = [sys.executable, "-c", f"{code}; time.sleep(100)", folder / "run.lock"]
    process = subprocess.Popen(call, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_second_start_changes_nothing_in_the_folder_of_the_first(cut_off):
    process = holder(cut_off)
    before = content(cut_off)
    try:
        with pytest.raises(UserError, match="is in use by another process"):
            train_here(*SMALL_RUN, f"run_dir={cut_off}", "logger=none", "trainer.checkpoint_minutes=1")
        planned = RunFolder(cut_off).config().model_copy(update={"run_dir": str(cut_off), "tier": "smoke"})
        assert [folder.path for folder in write_configs([planned])] == [cut_off]  # a start of that run will say so
        assert content(cut_off) == before
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def after_an_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """Does something when a run has written the record of its first epoch."""

    def patch(act: Callable[[], None]) -> None:
        real = EpochLog.add

        def add(log: EpochLog, record: dict) -> None:
            real(log, record)
            if record["epoch"] == 1:
                act()

        monkeypatch.setattr(EpochLog, "add", add)

    return patch


def test_a_folder_that_is_removed_during_the_training_is_made_anew(after_an_epoch, finished_run, tmp_path, capsys):
    folder = tmp_path / "run"
    after_an_epoch(lambda: shutil.rmtree(folder))
    with pytest.warns(UserWarning, match="run was removed during the training, and is made anew"):
        train_here(*SMALL_RUN, f"run_dir={folder}")
    assert {path.name for path in finished_run.iterdir()} <= {path.name for path in folder.iterdir()}
    assert len(RunFolder(folder).records()) == 2
    train_here(*SMALL_RUN, f"run_dir={folder}")
    assert "already trained" in capsys.readouterr().out


def test_a_run_whose_folder_was_removed_writes_nothing_into_that_of_another_process(after_an_epoch, tmp_path):
    folder, others = tmp_path / "run", []

    def another() -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        others.append(holder(folder))

    after_an_epoch(another)
    try:
        with pytest.warns(UserWarning, match="was removed"), pytest.raises(UserError, match="is in use by another process"):
            train_here(*SMALL_RUN, f"run_dir={folder}")
        assert [path.name for path in folder.iterdir()] == ["run.lock"]
    finally:
        others[0].kill()
        others[0].wait()
