"""A trained network, as its run folder alone says: its weights, its classes, how its images are prepared; and it at work.

    load_run("outputs/<run>").predict("<file or folder>")
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientconv.config import RunConfig
from efficientconv.data import find_data
from efficientconv.data.inference import find_pictures, picture_loader
from efficientconv.engine.checkpoint import load_newest, load_weights, weights_of
from efficientconv.engine.device import autocast, choose_device
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.training import network
from efficientconv.errors import UserError
from efficientconv.files import read_json
from efficientconv.models import image_size_of
from efficientconv.weights import find_weights, load_into, read_weights

REMEDY = "start the command that trained the run once more"


@dataclass(frozen=True)
class TrainedRun:
    """`weights` by their names: "" and, where the run keeps one, "ema_" for their moving average; `origin`: their file."""

    folder: RunFolder
    config: RunConfig
    facts: dict  # facts.json
    classes: list[str]  # by label
    image_size: int  # pixels a side fed to the network
    weights: dict[str, dict[str, Tensor]]
    origin: Path

    def network(self, name: str, device: torch.device) -> nn.Module:
        """With the weights of that name, on the device, as training has it. Raises UserError when they do not fit."""
        model = network(self.config, len(self.classes), self.image_size, device)
        load_into(model, self.weights[name], self.origin)
        return model


def read_run(path: Path, checkpoint: Path | None = None) -> TrainedRun:
    """A finished or unfinished run, whether its data are still there or not.

    Args:
        path: the run's folder, or a name of `list_weights()`.
        checkpoint: a .pt or .safetensors file; None: the newest of the run, or where those are gone its model.safetensors.
    Raises:
        UserError: no run, no sound weights, or a run that does not say its classes.
    """
    folder = RunFolder(find_weights(path))
    config, facts = folder.config(), folder.facts()
    weights, origin = _weights(folder) if checkpoint is None else (load_weights(checkpoint), checkpoint)
    classes, image_size = _classes(folder), facts.get("image_size")
    if classes is None or image_size is None:
        classes, image_size = _from_data(folder, config)
    if not _is_names(classes) or type(image_size) is not int or image_size < 1:
        raise UserError(f"{folder.classes_file} or facts.json is damaged: {REMEDY}")
    return TrainedRun(folder, config, facts, classes, image_size, weights, origin)


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
        for frames, pictures in loader.batches():
            with autocast(self.device, trainer.precision):
                logits = self.model(pictures)
            names = [paths[index] for index in frames.task.indices.tolist()]
            yield self._named(names, frames.damaged, logits.float().softmax(dim=1), topk)

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
    """The network of a run folder, with the newest weights in it or those of `checkpoint`, a .pt or .safetensors file;
    or published weights, by a name of `list_weights()`.

    Raises UserError: no run, no sound weights, weights of another network.
    """
    return Classifier(read_run(Path(run), None if checkpoint is None else Path(checkpoint)), choose_device(device))


def _weights(folder: RunFolder) -> tuple[dict[str, dict[str, Tensor]], Path]:
    try:
        found = load_newest(folder.checkpoints)
    except UserError as error:
        if not folder.weights_file.exists():
            raise
        warnings.warn(f"{error}; taking {folder.weights_file}", stacklevel=2)
        found = None
    if found is not None:
        path, state = found
        return weights_of(state), path
    if not folder.weights_file.exists():
        raise UserError(f"{folder.path} has no checkpoint yet; train it, or name one with checkpoint=<file>")
    return load_weights(folder.weights_file), folder.weights_file


def _classes(folder: RunFolder) -> list[str] | None:
    """As the run noted them at its start, or with its weights at its end, which is all that earlier versions did."""
    noted = read_json(folder.classes_file, list, REMEDY)
    if noted is None and folder.weights_file.exists():
        return read_weights(folder.weights_file).classes
    return noted


def _from_data(folder: RunFolder, config: RunConfig) -> tuple[list[str], int]:
    """Of a run that an earlier version has not finished."""
    try:
        data = find_data(config.data)
    except UserError as error:
        raise UserError(f"{folder.path} does not say its classes, and its data do not either ({error}): {REMEDY}") from None
    return data.classes, image_size_of(config.model, data.image_size)


def _is_names(values: object) -> bool:
    return isinstance(values, list) and len(values) > 0 and all(isinstance(value, str) for value in values)
