"""What training and evaluation make alike from a run's configuration."""

from __future__ import annotations

import torch
from torch import nn

from efficientconv.config import RunConfig
from efficientconv.data import DataSet, MemorySplit, eval_loader
from efficientconv.data.dataset import FileSplit
from efficientconv.engine.evaluate import evaluate
from efficientconv.engine.metrics import Result
from efficientconv.models import build_model


def network(config: RunConfig, data: DataSet, device: torch.device) -> nn.Module:
    """The configuration's network for that data, on the device, in the memory format that training uses."""
    model = build_model(config.model, num_classes=data.num_classes, image_size=data.image_size)
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    return model.to(device, memory_format=memory_format)


def evaluate_split(
    model: nn.Module, split: MemorySplit | FileSplit, config: RunConfig, image_size: int, device: torch.device
) -> Result:
    """`model` on `split`, in the batches and the precision of the configuration, so that it gives one number always."""
    trainer = config.trainer
    loader = eval_loader(
        split, config.data, image_size=image_size, device=device, channels_last=trainer.channels_last,
        batch_size=trainer.global_batch_size // trainer.accumulation_steps,
    )  # fmt: skip
    result = evaluate(model, loader, device, trainer.precision)
    assert result.images == len(split), f"{result.images} of {len(split)} images were evaluated"
    return result
