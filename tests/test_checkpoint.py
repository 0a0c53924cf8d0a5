"""Checkpoints: whole or absent, believed only when sound, data and never code."""

from __future__ import annotations

import io
import os
import pickle
import signal
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from efficientconv.engine.checkpoint import (
    load_checkpoint,
    load_newest,
    load_weights,
    save_checkpoint,
)
from efficientconv.errors import UserError
from efficientconv.files import remove_leftovers, write_atomically
from efficientconv.weights import read_weights, write_weights
from test_trainer import Batches, make_trainer, small_model


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


def without(*keys: str):
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def with_(key: str, value: object):
    return lambda state: state | {key: value}


# by a fault of a state whose bytes are sound: as another version, another run or a careless hand would leave it
FAULTS = {
    "no step": without("step"),
    "no weights": without("model"),
    "no optimizer": without("optimizer"),
    "no meter": without("meter"),
    "nothing but weights": without("optimizer", "meter", "scaler", "lr_scale", "ema"),
    "step as text": with_("step", "2"),
    "step as a tensor": with_("step", torch.tensor(2)),
    "step as a fraction": with_("step", 2.0),
    "step before the first": with_("step", -1),
    "step after the last": with_("step", 9),
    "weights as a list": with_("model", [1, 2]),
    "weights as text": with_("model", {"stem.conv.weight": "much"}),
    "weights of another network": with_("model", {"weight": torch.ones(3)}),
    "weights of another width": lambda s: s | {"model": {name: torch.zeros(1) for name in s["model"]}},
    "an average that the run does not keep": lambda s: s | {"ema": s["model"]},
    "average as text": with_("ema", "mean"),
    "optimizer as a list": with_("optimizer", []),
    "optimizer without groups": lambda s: s | {"optimizer": {"state": {}}},
    "optimizer without momentum": lambda s: s | {"optimizer": without_momentum(s["optimizer"])},
    "optimizer of other parameters": with_("optimizer", {"state": {}, "param_groups": [{"params": [0], "lr": 0.1}]}),
    "momentum of another shape": lambda s: s | {"optimizer": with_momentum(s["optimizer"], torch.ones(1))},
    "momentum as text": lambda s: s | {"optimizer": with_momentum(s["optimizer"], "none")},
    "meter of other figures": with_("meter", {"loss": 1.0}),
    "records as a list": with_("records", [{"epoch": 1}]),
}


def with_momentum(optimizer: dict, buffer: object) -> dict:
    return optimizer | {"state": {0: {"momentum_buffer": buffer}}}


def without_momentum(optimizer: dict) -> dict:
    groups = [{key: value for key, value in group.items() if key != "momentum"} for group in optimizer["param_groups"]]
    return optimizer | {"param_groups": groups}


@pytest.mark.parametrize("fault", FAULTS)
def test_sound_bytes_of_an_unfit_state_are_named_and_the_one_before_is_used(fault, tmp_path):
    trainer = make_trainer(small_model())
    steps = trainer.train_epoch(Batches(4, 4), 0)
    for _ in range(2):
        next(steps)
        save_checkpoint(tmp_path, trainer.state_dict())
    newest, sound = load_newest(tmp_path, trainer.fault_in)
    assert sound["step"] == 2
    newest.unlink()
    unfit = FAULTS[fault](sound)
    data = io.BytesIO()
    torch.save(unfit, data)
    path = tmp_path / f"step-00000002-{sha256(data.getvalue()).hexdigest()[:16]}.pt"
    path.write_bytes(data.getvalue())
    with pytest.warns(UserWarning, match=f"{path} is no checkpoint of this .*; trying the one before"):
        _, used = load_newest(tmp_path, trainer.fault_in)
    assert used["step"] == 1
    make_trainer(small_model()).load_state_dict(used)


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, dangling_link])
def test_what_is_no_file_is_named_and_neither_waited_for_nor_counted(make, tmp_path):
    sound = save_checkpoint(tmp_path, state(1))
    odd = tmp_path / "step-00000009-0123456789abcdef.pt"
    make(odd)
    signal.alarm(10)
    with pytest.warns(UserWarning, match=odd.name):
        assert load_newest(tmp_path)[0] == sound
    signal.alarm(0)
    assert save_checkpoint(tmp_path, state(2)).exists()


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


# ------------------------------------------------------------------------------------------- a flipped bit, wherever it is


def flipped(content: bytes, bit: int) -> bytes:
    data = bytearray(content)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@pytest.fixture
def weights(tmp_path) -> Path:
    """A file of less than a kilobyte, so that each bit can be tried."""
    tensors = {"conv.weight": torch.randn(2, 3), "bn.num_batches_tracked": torch.tensor(3)}
    write_weights(tmp_path / "model.safetensors", tensors, {"data": {"image_size": None}}, ["cat", "dog"], 24)
    return tmp_path / "model.safetensors"


def test_weights_classes_and_configuration_come_back(weights, recwarn):
    tensors, classes, config, checked = read_weights(weights)
    assert checked and load_weights(weights)[""].keys() == tensors.keys() and not recwarn
    assert tensors["conv.weight"].shape == (2, 3) and tensors["bn.num_batches_tracked"] == 3
    assert classes == ["cat", "dog"] and config == {"data": {"image_size": 24}}


def test_no_bit_of_a_weight_file_can_flip_unseen(weights):
    content = weights.read_bytes()
    for bit in range(0, 8 * len(content), 3):
        weights.write_bytes(flipped(content, bit))
        with pytest.raises(UserError, match="model.safetensors"):
            read_weights(weights)


def test_weights_without_a_checksum_are_read_and_warned_of(weights):
    """Those of earlier versions, and of other programs."""
    tensors = read_weights(weights).tensors
    for metadata, classes in (({"config": "{}", "classes": '["a"]'}, ["a"]), (None, None), ({"format": "pt"}, None)):
        save_file(tensors, weights, metadata)
        with pytest.warns(UserWarning, match="model.safetensors has no checksum"):
            load_weights(weights)
        assert read_weights(weights).classes == classes and not read_weights(weights).checked
    save_file(tensors, weights, {"config": "{}", "classes": "["})
    with pytest.raises(UserError, match="model.safetensors are damaged"):
        read_weights(weights)


def test_no_bit_of_a_renamed_checkpoints_tensors_can_flip_unseen(tmp_path):
    path = save_checkpoint(tmp_path, state(1)).rename(tmp_path / "best.pt")
    content = path.read_bytes()
    assert torch.equal(load_weights(path)[""]["weight"], torch.ones(100))
    start = content.index(torch.ones(100).numpy().tobytes())
    for bit in range(8 * start, 8 * (start + 400), 7):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(UserError, match="best.pt is damaged"):
            load_weights(path)
    for bit in range(0, 8 * len(content), 501):  # elsewhere: refused, or of no consequence
        path.write_bytes(flipped(content, bit))
        try:
            assert torch.equal(load_weights(path)[""]["weight"], torch.ones(100))
        except UserError as error:
            assert "best.pt" in str(error)


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
