"""The processes of one run: those that torchrun started, or this process alone."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from efficientconv.data import Shard
from efficientconv.errors import UserError
from efficientconv.signals import left_at_once

R = TypeVar("R")

_BY_TORCHRUN = "start the processes with torchrun, which sets them all, or unset RANK and WORLD_SIZE"


@dataclass(frozen=True)
class World(Shard):
    """This process among the processes that train together. With one process, every exchange does nothing."""

    local_rank: int = 0  # on this machine

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def add(self, tensor: Tensor) -> Tensor:
        """`tensor` in place becomes the sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> list[bool]:
        """Each flag becomes true in all processes if it is true in one, so that all processes do the same."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)  # on the CPU: the device's queue is not waited for
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]

    def gather(self, value: object) -> list:
        """The `value` of each process, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def share_buffers(self, model: nn.Module) -> None:
        """Copies the main process's batch norm statistics, which are saved, to all processes."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def averaging_gradients(self, model: nn.Module, device: torch.device, accumulation_steps: int) -> nn.Module:
        """`model`, whose gradients become the mean over the processes in the backward pass.

        Buffers are not exchanged in each step: training does not read batch norm's running statistics, and `share_buffers`
        copies them before they are saved or evaluated with.
        """
        if self.size == 1:
            return model
        new, old = "forward_sync_buffers", "broadcast_buffers"  # before torch 2.14
        buffers: dict[str, Any] = {new if new in inspect.signature(DistributedDataParallel).parameters else old: False}
        return DistributedDataParallel(
            model, **buffers,
            gradient_as_bucket_view=device.type == "cuda",  # no copy; a CPU's kernels give another memory order
            static_graph=accumulation_steps == 1,  # torch refuses one whose first pass is not exchanged
        )  # fmt: skip

    def main_first(self, action: Callable[[], R]) -> R:
        """Runs `action` in the main process, then in the others, which may read what the main process has written."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        result = action()
        if self.size > 1 and self.is_main:
            dist.barrier()
        return result


def start_world() -> World:
    """Joins the processes that torchrun started (RANK and WORLD_SIZE are set). Without them this process is alone.

    Raises UserError if only some of torchrun's variables are set.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World()
    world = World(*map(_number, ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if world.rank >= world.size:
        raise UserError(f"RANK={world.rank} is not below WORLD_SIZE={world.size}: {_BY_TORCHRUN}")
    if world.size > 1 and _number("MASTER_PORT") and "MASTER_ADDR" not in os.environ:
        raise UserError(f"MASTER_ADDR is not set: {_BY_TORCHRUN}")
    if world.size > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with left_at_once():  # the call waits for the other processes, up to half an hour
            dist.init_process_group(backend)
    return world


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not (value.isascii() and value.isdigit()):
        found = f"{name}={value} is no number" if value else f"{name} is not set"
        raise UserError(f"{found}: {_BY_TORCHRUN}")
    return int(value)


def leave_world() -> None:
    """Called after a run has ended well. A process that fails does not call this, so that torchrun ends the others."""
    if dist.is_initialized():
        dist.destroy_process_group()
