"""Checkpoints: whole or absent, believed only when sound, data and never code."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from efficientconv.engine.checkpoint import (
    load_checkpoint,
    load_newest,
    load_weights,
    save_checkpoint,
)
from efficientconv.errors import UserError
from efficientconv.files import remove_leftovers, write_atomically


def state(step: int) -> dict:
    return {"step": step, "model": {"weight": torch.full((100,), float(step))}}


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    for step in (9, 10, 11):
        save_checkpoint(tmp_path, state(step))
    path, loaded = load_newest(tmp_path)
    assert loaded["step"] == 11 and torch.equal(loaded["model"]["weight"], torch.full((100,), 11.0))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, damage):
    save_checkpoint(tmp_path, state(1))
    newest = save_checkpoint(tmp_path, state(2))
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    newest.write_bytes({"truncate": data[:-10], "flip": data, "empty": b""}[damage])
    with pytest.warns(UserWarning, match=newest.name):
        assert load_newest(tmp_path)[1]["step"] == 1


def test_only_damaged_ones_are_an_error_and_none_at_all_is_a_fresh_start(tmp_path):
    assert load_newest(tmp_path) is None
    save_checkpoint(tmp_path, state(1)).write_bytes(b"x")
    with pytest.warns(UserWarning), pytest.raises(UserError, match="no checkpoint in .* can be read"):
        load_newest(tmp_path)


def test_a_checkpoint_can_run_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path = tmp_path / "foreign.pt"
    torch.save({"step": 1, "model": Malicious()}, path)
    with pytest.raises(UserError, match="foreign.pt is no checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError, match="foreign.pt is no checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def test_foreign_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "w.safetensors").write_text("nothing")
    for name in ("text.pt", "list.pt", "missing.pt", "w.safetensors", "missing.safetensors"):
        with pytest.raises(UserError, match=name):
            load_weights(tmp_path / name)


def test_what_a_killed_save_left_is_removed(tmp_path):
    path = save_checkpoint(tmp_path, state(1))
    (tmp_path / "step-00000002-0123456789abcdef.pt.tmp").write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
