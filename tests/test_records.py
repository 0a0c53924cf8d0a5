"""metrics.jsonl: no record of a finished epoch is lost, whatever became of the file; readers never see half of one."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from conftest import SMALL_RUN, train_here
from efficientconv.engine.checkpoint import load_newest, save_checkpoint
from efficientconv.engine.epoch_log import EpochLog, read_records
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.results.record import record_of
from efficientconv.tracking.run_files import NewRecords

TIMINGS = ("train_seconds", "images_per_s", "data_wait_percent")


def untimed(records: list[dict]) -> list[dict]:
    return [{key: value for key, value in record.items() if key not in TIMINGS} for record in records]


@pytest.fixture
def cut_off(finished_run, tmp_path) -> Path:
    """A run of two epochs that was killed after its last step and checkpoint, before the second epoch's record."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (folder / "summary.json").unlink()
    records = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(records[0])
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


DAMAGES = {
    "nothing": lambda path: None,
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in mid-line": cut,
    "NUL bytes": lambda path: path.write_bytes(bytes(100)),
    "NUL bytes after it": lambda path: path.write_bytes(path.read_bytes() + bytes(100)),
    "garbage": lambda path: path.write_bytes(b"\xff\xfe\n[1]\n"),
    "another record": lambda path: path.write_text('{"epoch": 7}\n'),
    "a line of the epoch that is trained again": lambda path: path.write_bytes(2 * path.read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_resumed_run_has_all_records_whatever_became_of_the_file(damage, cut_off, finished_run, recwarn):
    DAMAGES[damage](cut_off / "metrics.jsonl")
    summary = train_here(*SMALL_RUN, f"run_dir={cut_off}")
    records = read_records(cut_off / "metrics.jsonl")
    assert untimed(records) == untimed(read_records(finished_run / "metrics.jsonl"))
    assert summary["train_seconds"] == sum(record["train_seconds"] for record in records)
    assert summary["best_val_top1_percent"] == max(record["val_top1_percent"] for record in records)
    told = any("lacked records or was damaged" in str(warning.message) for warning in recwarn)
    assert told == (damage not in ("nothing", "NUL bytes after it", "a line of the epoch that is trained again"))


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "a line of the epoch that is trained again"])
def test_a_finished_run_that_lost_records_is_not_reported_as_if_it_had_them(damage, finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    DAMAGES[damage](folder / "metrics.jsonl")
    whole = damage in ("nothing", "NUL bytes after it")
    for look in (lambda: train_here(*SMALL_RUN, f"run_dir={folder}"), lambda: record_of(RunFolder(folder))):
        with nullcontext() if whole else pytest.raises(UserError, match="metrics.jsonl.*summary.json.*restores both"):
            look()
    if not whole:  # as it says
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        (folder / "summary.json").unlink()
        train_here(*SMALL_RUN, f"run_dir={folder}")
        assert untimed(record_of(RunFolder(folder)).metrics) == untimed(read_records(finished_run / "metrics.jsonl"))


@pytest.mark.parametrize("damage", ["nothing", "deleted", "empty", "cut in mid-line", "garbage", "another record"])
def test_a_checkpoint_of_an_earlier_version_needs_the_file(damage, cut_off):
    path, state = load_newest(cut_off / "checkpoints")
    path.unlink()
    del state["records"]
    save_checkpoint(cut_off / "checkpoints", state)
    DAMAGES[damage](cut_off / "metrics.jsonl")
    before = (cut_off / "metrics.jsonl").read_bytes() if damage != "deleted" else None
    if damage == "nothing":
        train_here(*SMALL_RUN, f"run_dir={cut_off}")
        assert [record["epoch"] for record in read_records(cut_off / "metrics.jsonl")] == [1, 2]
        return
    with pytest.raises(UserError, match="lacks the record of epoch 1|line 1 of .*metrics.jsonl is damaged") as caught:
        train_here(*SMALL_RUN, f"run_dir={cut_off}")
    assert f"put the file back, or delete the folder {cut_off} to train from the start" in str(caught.value)
    assert "restores" not in str(caught.value)  # that checkpoint has none to restore
    assert before is None or (cut_off / "metrics.jsonl").read_bytes() == before


def test_a_record_is_added_at_the_end_of_the_file(tmp_path):
    records = EpochLog(tmp_path / "metrics.jsonl")
    records.add({"epoch": 1})
    file, size = os.stat(records.path).st_ino, os.stat(records.path).st_size
    assert records.add({"epoch": 2})
    assert os.stat(records.path).st_ino == file and os.stat(records.path).st_size == 2 * size
    assert read_records(records.path) == records.values


@pytest.mark.parametrize("change", ["deleted", "cut off", "half a line more"])
def test_what_becomes_of_the_file_meanwhile_is_mended_with_the_next_record(change, tmp_path):
    records = EpochLog(tmp_path / "metrics.jsonl")
    for epoch in (1, 2):
        records.add({"epoch": epoch})
    content = records.path.read_bytes()
    if change == "deleted":
        records.path.unlink()
    else:
        records.path.write_bytes(content[:-3] if change == "cut off" else content + b'{"epo')
    records.add({"epoch": 3})
    assert read_records(records.path) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]


def test_a_full_disk_cuts_no_line_off_for_good(tmp_path, monkeypatch):
    records = EpochLog(tmp_path / "metrics.jsonl")
    records.add({"epoch": 1})
    real = os.fsync

    def full(file: int) -> None:
        os.ftruncate(file, os.fstat(file).st_size - 3)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="could not be written .No space left"):
        assert not records.add({"epoch": 2})
    assert read_records(records.path) == [{"epoch": 1}]
    monkeypatch.setattr(os, "fsync", real)
    assert records.add({"epoch": 3})
    assert read_records(records.path) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]


@pytest.mark.parametrize("line", ["[1]", "{", "\0", "1", "", '{"a": 1} x'])
def test_a_damaged_line_is_named(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"epoch": 1}}\n{line}\n{{"epoch": 3}}\n')
    with pytest.raises(UserError, match=f"line 2 of {path} is damaged; .*restores both from the checkpoint"):
        read_records(path)


def test_the_follower_reads_each_line_once_and_a_new_file_from_its_start(tmp_path):
    records, follower = EpochLog(tmp_path / "metrics.jsonl"), NewRecords(tmp_path / "metrics.jsonl")
    assert follower.read() == []
    for epoch in (1, 2):
        records.add({"epoch": epoch})
    assert follower.read() == [{"epoch": 1}, {"epoch": 2}] and follower.read() == []
    with open(records.path, "a") as file:
        file.write('{"epo')
    assert follower.read() == []
    records.add({"epoch": 3})
    assert follower.read() == [{"epoch": 3}]
    records.continue_after(1, json.dumps({"epoch": 1, "train_seconds": 1, "train_images": 1}) + "\n")
    records.restore()
    assert [record["epoch"] for record in follower.read()] == [1]
