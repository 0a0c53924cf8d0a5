"""Whether a training state, whose bytes are sound, is one that a trainer can go on from."""

from __future__ import annotations

import torch
from torch import Tensor

_GROUP = ("lr", "momentum", "dampening", "weight_decay")  # numbers; what newer versions of torch add has defaults


def difference(state: object, like: object, where: str) -> str | None:
    """The first thing in which `state` is not built as `like` is: a key, a type, a tensor's shape; None: there is none."""
    if isinstance(like, Tensor):
        fits = isinstance(state, Tensor) and state.is_floating_point() == like.is_floating_point()
        if not fits:
            return f"{where} is no such tensor"
        return None if state.shape == like.shape else f"{where} is {list(state.shape)} and not {list(like.shape)}"
    if not isinstance(like, dict):
        return None if type(state) is type(like) else f"{where} is no {type(like).__name__}"
    if not isinstance(state, dict):
        return f"{where} is no dictionary"
    if odd := [key for key in {**like, **state} if (key in like) != (key in state)]:
        return f"{where}.{odd[0]} is {'missing' if odd[0] in like else 'unknown'}"
    return next(filter(None, (difference(state[key], like[key], f"{where}.{key}") for key in like)), None)


def optimizer_difference(state: object, optimizer: torch.optim.Optimizer) -> str | None:
    """As `difference`, for a state of an optimizer that may have made steps, and this one none."""
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
