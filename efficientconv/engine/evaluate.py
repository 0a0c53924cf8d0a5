"""Loss and accuracy of a model on a set, each image counted once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.config import RunConfig
from efficientconv.data import Split, eval_loader
from efficientconv.engine.distributed import World
from efficientconv.engine.metrics import Meter, Result
from efficientconv.engine.precision import autocast


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, precision: str, world: World
) -> Result:
    """Batches are (images B x 3 x S x S, labels B) on `device`. The loss is the plain cross-entropy, without smoothing.

    Each process of `world` has its own batches; the result is of all of them. The model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    meter = Meter(device)
    for images, labels in batches:
        with autocast(device, precision):
            logits = model(images)
        meter.add(F.cross_entropy(logits.float(), labels), logits, labels)
    model.train(was_training)
    return meter.reduce(world.add).result()


def evaluate_split(
    model: nn.Module, split: Split, config: RunConfig, image_size: int, device: torch.device, world: World
) -> Result:
    """`model` on `split`, in the batches and the precision of the configuration, so that it gives one number always."""
    trainer = config.trainer
    loader = eval_loader(
        split, config.data, image_size=image_size, device=device, channels_last=trainer.channels_last,
        batch_size=trainer.global_batch_size // trainer.accumulation_steps, shard=world.shard,
    )  # fmt: skip
    result = evaluate(model, loader, device, trainer.precision, world)
    assert result.images == len(split), f"{result.images} of {len(split)} images were evaluated"
    return result
