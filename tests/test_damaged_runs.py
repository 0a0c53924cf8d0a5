"""Run folders as crashes, disks and other users leave them: one line that names the file, and nothing waited for or lost."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import SMALL_RUN, train_here
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.results.kernels import kernels_of_run
from efficientconv.results.record import read_record, record_of, write_record
from efficientconv.results.times import FILE, Times, read_times, write_times

DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "NUL bytes": lambda path: path.write_bytes(bytes(200)),
    "garbage": lambda path: path.write_bytes(b"\xff\xfegarbage"),
    "a list": lambda path: path.write_text("[1]"),
    "other keys": lambda path: path.write_text('{"a": 1}'),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
}
WRITTEN_ANEW = ("environment.json", "status.json")  # by each start, whatever was in them
REWRITTEN = ("facts.json", "metrics.jsonl", *WRITTEN_ANEW)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(params=["finished", "unfinished"])
def run(request, finished_run, tmp_path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(f"run_dir: {finished_run}", f"run_dir: {folder}"))
    if request.param == "unfinished":
        (folder / "summary.json").unlink()
    return folder


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in REWRITTEN}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["summary.json", "facts.json", "config.yaml", *WRITTEN_ANEW, "damaged.json"])
def test_a_damaged_small_file_is_one_line_or_written_anew(name, damage, run):
    path, finished = run / name, (run / "summary.json").exists()
    path.touch()
    DAMAGES[damage](path)
    before = content(run)
    try:
        train_here(*SMALL_RUN, f"run_dir={run}")
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        assert content(run) == before
        assert name in ("config.yaml", "summary.json") or not finished
    else:
        harmless = damage == "other keys" or (name, damage) == ("damaged.json", "cut off")
        assert name in WRITTEN_ANEW or harmless or finished
        assert (run / "summary.json").stat().st_size > 500


@pytest.mark.parametrize("key", ["epochs", "top1", "loss"])
def test_a_summary_whose_numbers_are_none_is_one_line(key, finished_run, tmp_path):
    values = json.loads((finished_run / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(values | {key: None}))
    with pytest.raises(UserError, match="summary.json is damaged: it has no result"):
        RunFolder(tmp_path).records()


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("kind", ["a link", "a FIFO", "a folder"])
@pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl", "run.lock"])
def test_what_lies_in_the_way_of_an_unfinished_run_is_named(name, kind, finished_run, tmp_path):
    folder, target = tmp_path / "run", tmp_path / "target"
    shutil.copytree(finished_run, folder)
    (folder / "summary.json").unlink()
    target.write_text("precious")
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "a folder":
        path.touch() if name == "checkpoints" else path.mkdir()
    else:
        os.mkfifo(path) if kind == "a FIFO" else path.symlink_to(target)
    if (name, kind) == ("metrics.jsonl", "a link"):
        train_here(*SMALL_RUN, f"run_dir={folder}")  # a file takes its place
        assert not path.is_symlink()
    else:
        with pytest.raises(UserError, match=str(path)):
            train_here(*SMALL_RUN, f"run_dir={folder}")
    assert target.read_text() == "precious"


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


RECORD_DAMAGES = DAMAGES | {
    "nested": lambda path: path.write_text("[" * 100_000),
    "no configuration": lambda path: changed(path, config={}),
    "a configuration without data": lambda path: changed(path, config={"seed": 0, "model": {"name": "c"}}),
    "a list for a configuration": lambda path: changed(path, config=[1]),
    "a word for a figure": lambda path: changed(path, summary={**json.loads(path.read_text())["summary"], "macs": "many"}),
    "no figure": lambda path: changed(path, summary={"top1_percent": 99.0}),
    "words for epochs": lambda path: changed(path, metrics=["epoch 1"]),
}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("damage", RECORD_DAMAGES)
def test_a_damaged_record_is_one_line(damage, finished_run, tmp_path):
    path = write_record(record_of(RunFolder(finished_run)), tmp_path / "runs")
    assert read_record(path) == record_of(RunFolder(finished_run))
    RECORD_DAMAGES[damage](path)
    with pytest.raises(UserError) as caught:
        read_record(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_times_is_one_line(damage, tmp_path):
    path, times = tmp_path / FILE, Times("c", 0.091796875, 64, 0.1, 0.01, "0.30 memory", None, None, None, "a processor")
    write_times(tmp_path, [times])
    assert read_times(tmp_path) == {("c", 0.091796875): times}
    DAMAGES[damage](path)
    with pytest.raises(UserError) as caught:
        read_times(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_times_of_an_earlier_version_are_refused_with_the_remedy(tmp_path):
    (tmp_path / FILE).write_text("model,ms_per_image,ms_per_image_iqr,batch_size,measured_on\nc,0.1,0.01,64,a processor\n")
    with pytest.raises(UserError, match=r"of an earlier version \(width: .*--measure again"):
        read_times(tmp_path)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("values", [
    {"num_classes": None}, {"model_name": "../../evil"}, {"image_size": "large"}, {"limit_share": "much"},
    {"ms_per_image": math.inf}, {"top1_percent": math.nan},
])  # fmt: skip
def test_a_summary_of_odd_figures_draws_no_kernels(values, finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    changed(folder / "summary.json", **values)
    with pytest.raises(UserError, match="the summary of the finished run run (lacks|is of another model)"):
        kernels_of_run(folder)


# ------------------------------------------------------------------------------- places that this user may not look into


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def as_another_user(action: Callable[[], object]) -> str:
    """The text of the UserError that `action` ends with for a user who is not root."""
    receive, send = multiprocessing.Pipe()

    def child() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            action()
            send.send("done")
        except UserError as error:
            send.send(str(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    assert receive.poll(), "another exception"
    return receive.recv()


@pytest.mark.parametrize("key", ["run_dir", "output_root"])
def test_a_run_below_a_closed_folder_is_one_line(key, open_place):
    closed = open_place / "closed"
    closed.mkdir(mode=0o700)
    if os.getuid():
        closed.chmod(0)
    told = as_another_user(lambda: train_here(*SMALL_RUN, f"{key}={closed / 'c'}"))
    closed.chmod(0o700)
    assert told.startswith(f"cannot look at the run folder {closed}/c") and "Permission denied" in told and "choose" in told


def test_a_name_that_no_disk_takes_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot look at the run folder .*File name too long.*; choose another"):
        train_here(*SMALL_RUN, f"run_dir={tmp_path / ('x' * 300)}")


def test_a_run_folder_that_is_read_only_is_one_line(finished_run, open_place):
    folder = open_place / "run"
    shutil.copytree(finished_run, folder)
    (folder / "summary.json").unlink()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    told = as_another_user(lambda: train_here(*SMALL_RUN, f"run_dir={folder}"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    assert told == f"cannot take the lock {folder}/run.lock (Permission denied); make it a file that you may write to"


# ------------------------------------------------------------------------------------------------- names that become paths


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", ".hidden", "a/b", "-m", "", "a\nb", "x" * 101])
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="model.name: names a folder: up to 100 letters, digits"):
        train_here(*SMALL_RUN, f"output_root={tmp_path / 'out'}", f"model.name='{name}'")
    assert not list(tmp_path.iterdir())
