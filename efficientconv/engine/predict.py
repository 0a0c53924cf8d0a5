"""What a trained network takes pictures for: `load_run("outputs/<run>").predict("<file or folder>")`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from efficientconv.data.pictures import find_pictures, picture_loader
from efficientconv.engine.precision import autocast, choose_device
from efficientconv.engine.trained_run import TrainedRun, read_run
from efficientconv.errors import UserError


@dataclass(frozen=True)
class Prediction:
    """Of one picture. `damage`: why it could not be read; then there are no classes."""

    path: str
    classes: tuple[str, ...] = ()  # the most probable first
    probabilities: tuple[float, ...] = ()  # of all classes together: 1
    damage: str = ""


class Classifier:
    """A run's network in evaluation mode: with the moving average of its weights, where the run keeps one."""

    def __init__(self, run: TrainedRun, device: torch.device):
        self.run, self.device = run, device
        self.averaged = "ema_" in run.weights
        self.model = run.network("ema_" if self.averaged else "", device).eval()

    def predict(self, images: str | Path, topk: int = 5) -> list[Prediction]:
        """Of a file, or of all pictures in a folder and the folders in it, by folder and name.

        Raises UserError where there is no picture. A damaged one is in its place, with the reason.
        """
        paths, _ = find_pictures(Path(images))
        return [prediction for batch in self.batches(paths, topk) for prediction in batch]

    @torch.no_grad()
    def batches(self, paths: Sequence[str], topk: int = 5) -> Iterator[list[Prediction]]:
        """As predict, of files, a batch at a time; each picture is prepared as an evaluation prepares it."""
        if topk < 1:
            raise UserError(f"topk={topk} names no class; choose 1 or more")
        trainer = self.run.config.trainer
        loader = picture_loader(
            list(paths), self.run.config.data, self.run.image_size, trainer.global_batch_size // trainer.accumulation_steps,
            self.device, trainer.channels_last,
        )  # fmt: skip
        for made, pictures in loader.batches():
            with autocast(self.device, trainer.precision):
                logits = self.model(pictures)
            names = [paths[index] for index in made.task.indices.tolist()]
            yield self._named(names, made.damaged, logits.float().softmax(dim=1), topk)

    def _named(self, paths: list[str], damaged: dict[str, str], probabilities: Tensor, topk: int) -> list[Prediction]:
        best = probabilities.topk(min(topk, len(self.run.classes)), dim=1)
        found = zip(paths, best.indices.tolist(), best.values.tolist())
        return [
            Prediction(path, damage=damaged[path])
            if path in damaged
            else Prediction(path, tuple(self.run.classes[label] for label in labels), tuple(values))
            for path, labels, values in found
        ]


def load_run(run: str | Path, checkpoint: str | Path | None = None, device: str = "auto") -> Classifier:
    """The network of a run folder, with the newest weights in it or those of `checkpoint`, a .pt or .safetensors file.

    Raises UserError: no run, no sound weights, weights of another network.
    """
    return Classifier(read_run(Path(run), None if checkpoint is None else Path(checkpoint)), choose_device(device))
