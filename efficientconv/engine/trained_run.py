"""A trained network, read from its run folder alone: weights, classes, preparation of images; and its predictions.

    load_run("outputs/<run>").predict("<file or folder>")

The folder may have been moved since the training.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientconv.config import ModelConfig, RunConfig
from efficientconv.data import find_data
from efficientconv.data.dataset import FileSplit
from efficientconv.data.inference import find_images, image_loader
from efficientconv.data.pictures import Picture, Pictures
from efficientconv.data.workers import Frames
from efficientconv.engine.checkpoint import load_newest, load_weights, weights_of
from efficientconv.engine.device import autocast, choose_device
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.training import network
from efficientconv.errors import UserError
from efficientconv.files import read_json
from efficientconv.layers.geometry import is_whole
from efficientconv.models import image_size_of
from efficientconv.models.decisions import refuse_of_another
from efficientconv.text import listed
from efficientconv.validation import validate
from efficientconv.weights import find_weights, load_into, read_weights

REMEDY = "start the command that trained the run once more"


@dataclass(frozen=True)
class TrainedRun:
    """A run read from its folder. `weights` are by name: "", and "ema_" for their moving average. `origin` is their file."""

    folder: RunFolder
    config: RunConfig
    facts: dict  # facts.json
    classes: list[str]  # by label
    image_size: int  # pixels a side fed to the network
    weights: dict[str, dict[str, Tensor]]
    origin: Path

    def network(self, name: str, device: torch.device) -> nn.Module:
        """The network with the weights of that name, on `device`. Raises UserError if the weights do not fit."""
        model = network(self.config, len(self.classes), self.image_size, device)
        load_into(model, self.weights[name], self.origin)
        return model


def read_run(run: str | Path, checkpoint: str | Path | None = None) -> TrainedRun:
    """Reads a run, finished or not. The run's data may be gone.

    Args:
        run: the run's folder, or a name of `list_weights()`.
        checkpoint: a .pt or .safetensors file. None: the newest checkpoint, or model.safetensors if there is none.
    Raises:
        UserError: there is no run or no sound weights, the checkpoint is of another network or of other classes, or the
            classes of the run are not known.
    """
    folder, file = RunFolder(find_weights(run)), None if checkpoint is None else Path(checkpoint)
    config, facts = folder.config(), folder.facts()
    weights, origin = _weights(folder, config) if file is None else (load_weights(file), file)
    classes, image_size = _classes(folder), facts.get("image_size")
    if classes is None or image_size is None:
        classes, image_size = _from_data(folder, config)
    if not _is_names(classes) or type(image_size) is not int or image_size < 1:
        raise UserError(f"{folder.classes_file} or facts.json is damaged: {REMEDY}")
    if file is not None:
        _refuse_of_another(file, config.model, classes)
    return TrainedRun(folder, config, facts, classes, image_size, weights, origin)


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image. `damage` says why the image could not be read; there are no classes then."""

    path: str
    classes: tuple[str, ...] = ()  # the most probable first
    probabilities: tuple[float, ...] = ()  # those of all classes add up to 1
    damage: str = ""


class Classifier:
    """A run's network `model` in evaluation mode, with the moving average of its weights if the run keeps one."""

    def __init__(self, run: TrainedRun, device: torch.device):
        self.run, self.device = run, device
        self.averaged = "ema_" in run.weights
        self.model = run.network("ema_" if self.averaged else "", device).eval()

    def predict(self, images: str | Path, topk: int = 5) -> list[Prediction]:
        """Predictions for a file, or for all images in a folder and its subfolders, ordered by folder and name.

        A damaged image has a prediction with the reason. Raises UserError if there is no image.
        """
        if not isinstance(images, (str, os.PathLike)):
            raise UserError(
                "predict takes the path of a file or a folder; for images in memory call model(preprocess(images))"
            )
        paths, _ = find_images(Path(images))
        return [prediction for batch in self.batches(paths, topk) for prediction in batch]

    def preprocess(self, images: Picture | Sequence[Picture]) -> Tensor:
        """A batch for `model`, float32 B x 3 x S x S on its device: resized, cropped and normalised as `predict` does it.

        Args:
            images: one image, a list, or a batch of equal size: PIL images, uint8 arrays H x W x 3, uint8 tensors 3 x H x W.
        Raises:
            UserError: no image, or one of another kind.
        """
        pictures = Pictures(images)
        ((_, batch),) = self._prepared(pictures, len(pictures))
        return batch

    def _prepared(self, images: FileSplit | Pictures, batch_size: int) -> Iterator[tuple[Frames, Tensor]]:
        run, size = self.run.config, self.run.image_size
        return image_loader(images, run.data, size, batch_size, self.device, run.trainer.channels_last).batches()

    @torch.no_grad()
    def batches(self, paths: Sequence[str], topk: int = 5) -> Iterator[list[Prediction]]:
        """Predictions for the files `paths`, one batch at a time. Images are prepared as in an evaluation."""
        if not is_whole(topk) or topk < 1:
            raise UserError(f"topk={topk!r} is out of range; choose a whole number of classes, 1 or more")
        trainer = self.run.config.trainer
        files = FileSplit(paths, torch.zeros(len(paths), dtype=torch.int64))
        for frames, images in self._prepared(files, trainer.global_batch_size // trainer.accumulation_steps):
            with autocast(self.device, trainer.precision):
                logits = self.model(images)
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


def load_run(run: str | Path, checkpoint: str | Path | None = None, device: str | torch.device = "auto") -> Classifier:
    """The network of a run, ready to predict.

        for image in load_run("outputs/<run>").predict("<file or folder>", topk=3):
            print(image.path, image.classes, image.probabilities)

    Args:
        run: the run's folder, or the name of published weights (`list_weights()`).
        checkpoint: a .pt or .safetensors file; None: the newest weights of the run.
        device: cpu, cuda, or auto: a GPU if torch can use one.
    Raises:
        UserError: no run, no sound weights, weights of another network, or no such device.
    """
    return Classifier(read_run(run, checkpoint), choose_device(str(device)))


def _weights(folder: RunFolder, config: RunConfig) -> tuple[dict[str, dict[str, Tensor]], Path]:
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
    if config.trainer.ema_decay is not None:
        warnings.warn(f"{folder.path} has lost the moving average of its weights, which only checkpoints hold", stacklevel=2)
    return load_weights(folder.weights_file), folder.weights_file


def _refuse_of_another(checkpoint: Path, model: ModelConfig, classes: list[str]) -> None:
    """Raises UserError for weights of another network or of other classes: names and shapes of both may be the same."""
    other, trained_on = _origin_of(checkpoint)
    if other is not None:
        refuse_of_another(checkpoint, other, model)
    if trained_on not in (None, classes):
        raise UserError(f"{checkpoint} holds the weights of a network of other classes: {listed(trained_on)}")


def _origin_of(checkpoint: Path) -> tuple[ModelConfig | None, list[str] | None]:
    """The model and the classes of the run that wrote the file, as far as they are known."""
    if checkpoint.suffix == ".safetensors":
        noted = read_weights(checkpoint)
        model = noted.config and validate(ModelConfig, noted.config["model"], where=str(checkpoint))
        return model or None, noted.classes
    folder = RunFolder(checkpoint.absolute().parent.parent)  # a checkpoint has no configuration in it
    if checkpoint.absolute().parent != folder.checkpoints or not folder.config_file.exists():
        return None, None
    return folder.config().model, _classes(folder)


def _classes(folder: RunFolder) -> list[str] | None:
    """The classes in classes.json, or in model.safetensors, where earlier versions kept them."""
    noted = read_json(folder.classes_file, list, REMEDY)
    if noted is None and folder.weights_file.exists():
        return read_weights(folder.weights_file).classes
    return noted


def _from_data(folder: RunFolder, config: RunConfig) -> tuple[list[str], int]:
    """Classes and image size from the data set: an unfinished run of an earlier version does not note them."""
    try:
        data = find_data(config.data)
    except UserError as error:
        raise UserError(f"{folder.path} does not say its classes, and its data do not either ({error}): {REMEDY}") from None
    return data.classes, image_size_of(config.model, data.image_size)


def _is_names(values: object) -> bool:
    return isinstance(values, list) and len(values) > 0 and all(isinstance(value, str) for value in values)
