"""Checkpoints: written whole or not at all, checked before use, and read as data, never as code.

A file is named step-<optimizer steps>-<start of its SHA-256>.pt. It is written under a temporary name, flushed to the disk
and renamed. The two newest are kept: if the newest is damaged, the one before takes its place.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from efficientconv.errors import UserError
from efficientconv.files import make_folder, read_bytes, write_atomically
from efficientconv.weights import load_checked

KEPT = 2
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.pt")
_GROUP = ("lr", "momentum", "dampening", "weight_decay")  # numbers; what newer versions of torch add has defaults


def save_checkpoint(folder: Path, state: dict) -> Path:
    """Writes `state` (its "step" names the file) and removes all but the newest checkpoints. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    make_folder(folder)
    path = folder / f"step-{state['step']:08d}-{_digest(data)}.pt"
    write_atomically(path, data)
    for old in [path for path in _newest_first(folder) if not path.is_dir()][KEPT:]:
        old.unlink()
    return path


def load_newest(folder: Path, fault_in: Callable[[dict], str | None] = lambda state: None) -> tuple[Path, dict] | None:
    """The newest sound checkpoint of `folder`; None if the folder has no checkpoint.

    A warning names each checkpoint that is damaged or in which `fault_in` finds a fault. Raises UserError if none is sound.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            state = load_checkpoint(path)
            if fault := fault_in(state):
                raise UserError(f"{path} is no checkpoint of this run: {fault}")
            return path, state
        except UserError as error:
            warnings.warn(f"{error}; trying the one before", stacklevel=2)
    if paths:
        raise UserError(f"no checkpoint in {folder} can be read; delete the folder {folder.parent} to train from the start")
    return None


def load_checkpoint(path: Path) -> dict:
    """A training state on the CPU. Raises UserError for a file that is missing, damaged or not of this project."""
    data = read_bytes(path)
    if data is None:
        raise UserError(f"cannot read the checkpoint {path}: the file does not exist")
    named = _NAME.fullmatch(path.name)
    if named and named[2] != _digest(data):
        raise UserError(f"the checkpoint {path} is damaged: its content does not match the checksum in its name")
    try:
        damaged = not named and zipfile.ZipFile(io.BytesIO(data)).testzip()  # torch does not look at its archive's checksums
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # for bytes that are no archive and no pickle, the two can raise nearly anything
        raise UserError(
            f"{path} is no checkpoint, or a damaged one: torch cannot read it as plain tensors and values"
        ) from None
    if damaged:
        raise UserError(f"the checkpoint {path} is damaged: its content does not match the checksums in it")
    if fault := _fault(state):
        raise UserError(f"{path} is no checkpoint of this project: {fault}")
    return state


def load_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """{"": weights} and, where there is a moving average, {"ema_": its weights}, of a .pt or .safetensors file."""
    if path.suffix != ".safetensors":
        return weights_of(load_checkpoint(path))
    return {"": load_checked(path).tensors}


def weights_of(state: dict) -> dict[str, dict[str, Tensor]]:
    """The weights of a training state, by the names of `load_weights`."""
    return {"": state["model"]} | ({"ema_": state["ema"]} if state.get("ema") else {})


def _fault(state: object) -> str | None:
    """Why `state` is not the training state of any run; None if it is one."""
    if not isinstance(state, dict) or not {"step", "model"} <= state.keys():
        return "it has no training state in it"
    if type(state["step"]) is not int or state["step"] < 0:
        return "its step is no count"
    if not _is_weights(state["model"]) or not _is_weights(state.get("ema") or {}):
        return "its weights are no tensors by name"
    return None if isinstance(state.get("records", ""), str) else "its records are no text"


def _is_weights(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


def _newest_first(folder: Path) -> list[Path]:
    steps = {path: int(named[1]) for path in folder.glob("step-*.pt") if (named := _NAME.fullmatch(path.name))}
    return sorted(steps, key=steps.__getitem__, reverse=True)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def difference(state: object, like: object, where: str) -> str | None:
    """The first difference in structure between `state` and `like`: a key, a type, a tensor's shape. None: no difference."""
    if isinstance(like, Tensor):
        if not isinstance(state, Tensor) or state.is_floating_point() != like.is_floating_point():
            return f"{where} is not a tensor of the same type"
        return None if state.shape == like.shape else f"{where} is {list(state.shape)} and not {list(like.shape)}"
    if not isinstance(like, dict):
        return None if type(state) is type(like) else f"{where} is no {type(like).__name__}"
    if not isinstance(state, dict):
        return f"{where} is no dictionary"
    if odd := [key for key in {**like, **state} if (key in like) != (key in state)]:
        return f"{where}.{odd[0]} is {'missing' if odd[0] in like else 'unknown'}"
    return next(filter(None, (difference(state[key], like[key], f"{where}.{key}") for key in like)), None)


def optimizer_difference(state: object, optimizer: torch.optim.Optimizer) -> str | None:
    """The same for the `state` of an optimizer that has made steps and for `optimizer`, which has made none."""
    like = optimizer.state_dict()
    if not isinstance(state, dict):
        return "optimizer is no dictionary"
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "optimizer.param_groups is no list of dictionaries"
    if [group.get("params") for group in groups] != [group["params"] for group in like["param_groups"]]:
        return "optimizer.param_groups is of other parameters"
    for key in _GROUP:
        if not all(isinstance(group.get(key), (int, float)) for group in groups):
            return f"optimizer.param_groups has no number {key}"
    return _buffers_difference(state.get("state"), [p for group in optimizer.param_groups for p in group["params"]])


def _buffers_difference(state: object, parameters: list[Tensor]) -> str | None:
    if not isinstance(state, dict):
        return "optimizer.state is no dictionary"
    for number, buffers in state.items():
        if number not in range(len(parameters)) or not isinstance(buffers, dict):
            return f"optimizer.state.{number} is of no parameter"
        for name, buffer in buffers.items():
            where = f"optimizer.state.{number}.{name}"
            if buffer is not None and (fault := difference(buffer, parameters[number], where)):
                return fault
    return None
