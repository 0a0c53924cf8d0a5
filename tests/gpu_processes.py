"""Processes on one GPU, as a program for torchrun: together they train as one process does.

    torchrun --standalone --nproc_per_node=2 tests/gpu_processes.py gloo

NCCL takes one process a GPU: alone in its group, a process shows that NCCL starts and that the gradients' mean runs over it.
Over gloo two processes exchange gradients and batch norm's statistics. Process 0 prints the distance between the weights and
those of one process without a group, over the distance that training moved them.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn

from efficientconv.engine.device import set_tf32
from efficientconv.engine.distributed import World
from efficientconv.engine.trainer import Trainer
from efficientconv.layers.backend import set_backend
from efficientconv.models import create_model
from test_trainer import OPTIM, SCHEDULE, STEPS, Batches, trainer_config

GPU = torch.device("cuda", 0)


class Shares(Batches):
    """The part of each batch that one of `processes` trains on."""

    def __init__(self, rank: int, processes: int):
        super().__init__(8, STEPS)
        self.rank, self.processes = rank, processes

    def epoch(self, epoch: int, start: int = 0):
        for images, labels in super().epoch(epoch, start):
            yield tuple(part[self.rank :: self.processes].to(GPU) for part in (images, labels))


def network() -> nn.Module:
    torch.manual_seed(0)
    model = set_backend(create_model("a", num_classes=10, layout="cifar", width=0.125), "reference")
    model.head.dropout.p = 0.0  # each process draws other numbers
    return model.to(GPU)


def trained(model: nn.Module, batches: Shares, world: World) -> Tensor:
    """Weights and running statistics after an epoch."""
    order = {"seed": 3, "steps_per_epoch": STEPS, "device": GPU, "world": world}
    trainer = Trainer(model, trainer_config(), OPTIM, SCHEDULE, **order)
    for _ in trainer.train_epoch(batches, 0):
        pass
    return flat(trainer.state_dict()["model"])


def flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([values.detach().double().flatten() for values in state.values() if values.is_floating_point()])


def main() -> None:
    set_tf32(False)
    dist.init_process_group(sys.argv[1])
    rank, processes = dist.get_rank(), dist.get_world_size()
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    world = World(rank, max(2, processes))  # a world of one process would leave DDP out
    together = trained(synchronized, Shares(rank, processes), world)
    alone = trained(network(), Shares(0, 1), World())
    if rank == 0:
        print(((together - alone).norm() / (alone - flat(network().state_dict())).norm()).item())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
