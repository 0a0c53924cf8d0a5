"""Loss and accuracy: summed over images on the device, and evaluated on a set in which each image counts once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.config import RunConfig
from efficientconv.data import EvalLoader, Split, eval_loader
from efficientconv.engine.device import autocast
from efficientconv.engine.distributed import World

TOP = 5
RANKED_TOGETHER = 16  # batches: on a GPU the launches of a ranking cost more than its work


class Meter:
    """Sums of loss, top-1 and top-5 over images; seconds of work, and the part of them spent waiting for data.

    With fewer than five classes, top-5 is top-k, where k is the number of classes.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._hits = torch.zeros(TOP, dtype=torch.int64, device=self.device)
        self._unranked: list[tuple[Tensor, Tensor]] = []  # logits and labels of the last batches
        self.images = 0
        self.seconds = self.wait_seconds = 0.0

    @torch.no_grad()
    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """`loss` is the batch's mean; logits B x classes; labels B, or shares B x classes, of which the largest counts."""
        self.loss_sum.add_(loss.detach(), alpha=len(labels))  # exact: a float32 times a count fits into a float64
        self.images += len(labels)
        self._unranked.append((logits.detach().clone(), labels))  # a CUDA graph writes its next logits to the same place
        if len(self._unranked) == RANKED_TOGETHER:
            self._rank()

    def _rank(self) -> None:
        logits, labels = map(torch.cat, zip(*self._unranked))
        self._unranked.clear()
        labels = labels if labels.ndim == 1 else labels.argmax(dim=1)
        hits = logits.topk(min(TOP, logits.shape[1]), dim=1).indices == labels[:, None]
        self._hits[: hits.shape[1]] += hits.sum(0)

    @property
    def hits(self) -> Tensor:
        """Images by the place of their class among the five best: int64, 5."""
        if self._unranked:
            self._rank()
        return self._hits

    def reduce(self, add: Callable[[Tensor], Tensor]) -> Meter:
        """The sum over all processes; `add` sums a tensor over them. The seconds remain those of this process."""
        total = Meter(self.device)
        total.loss_sum, total._hits = add(self.loss_sum.clone()), add(self.hits.clone())
        total.images = int(add(torch.tensor(self.images)))
        total.seconds, total.wait_seconds = self.seconds, self.wait_seconds
        return total

    def result(self) -> Result:
        hits = self.hits.tolist()
        return Result(self.images, hits[0], sum(hits), self.loss_sum.item() / max(1, self.images))

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def wait_percent(self) -> float:
        return 100 * self.wait_seconds / self.seconds if self.seconds else 0.0

    def state_dict(self) -> dict:
        """Top-1 and top-5 are one tensor, `correct`, as in the checkpoints of earlier versions."""
        figures = {name: getattr(self, name) for name in ("loss_sum", "images", "seconds", "wait_seconds")}
        return figures | {"correct": torch.stack((self.hits[0], self.hits.sum()))}

    def load_state_dict(self, state: dict) -> None:
        self.reset()
        for name, value in state.items():
            setattr(self, name, value.to(self.device) if isinstance(value, Tensor) else value)
        top1, top5 = self.__dict__.pop("correct")
        self._hits[0], self._hits[1] = top1, top5 - top1


@dataclass(frozen=True)
class Result:
    """Counts over `images` images, and their mean loss."""

    images: int
    top1: int
    top5: int
    loss: float

    @property
    def top1_percent(self) -> float:
        return 100 * self.top1 / max(1, self.images)

    @property
    def top5_percent(self) -> float:
        return 100 * self.top5 / max(1, self.images)

    def record(self, prefix: str = "") -> dict[str, float | int]:
        """The figures as metrics.jsonl and summary.json have them."""
        return {
            f"{prefix}loss": self.loss,
            f"{prefix}top1_percent": self.top1_percent,
            f"{prefix}top5_percent": self.top5_percent,
            f"{prefix}top1": self.top1,
            f"{prefix}top5": self.top5,
            f"{prefix}images": self.images,
        }

    @staticmethod
    def from_record(record: dict, prefix: str = "") -> Result:
        return Result(**{key: record[prefix + key] for key in ("images", "top1", "top5", "loss")})


def evaluation_loader(split: Split, config: RunConfig, image_size: int, device: torch.device, world: World) -> EvalLoader:
    """A loader of `split` for `evaluate`, with the batch size of training. Each process of `world` has its own batches."""
    trainer = config.trainer
    return eval_loader(
        split, config.data, image_size=image_size, device=device, channels_last=trainer.channels_last,
        batch_size=trainer.global_batch_size // trainer.accumulation_steps, shard=world,
    )  # fmt: skip


@torch.no_grad()
def evaluate(model: nn.Module, loader: EvalLoader, precision: str, device: torch.device, world: World) -> Result:
    """Loss and accuracy on all images of `loader`, over all processes of `world`: the same every time.

    The loss is the cross-entropy without label smoothing. The model's mode, training or evaluation, does not change.
    """
    was_training = model.training
    model.eval()
    meter = Meter(device)
    for images, labels in loader:
        with autocast(device, precision):
            logits = model(images)
        meter.add(F.cross_entropy(logits.float(), labels), logits, labels)
    model.train(was_training)
    result = meter.reduce(world.add).result()
    assert result.images == loader.num_images, f"{result.images} of {loader.num_images} images were evaluated"
    return result
