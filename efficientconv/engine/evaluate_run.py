"""A finished or unfinished run's weights on its own test images, or on another set."""

from __future__ import annotations

from pathlib import Path

import torch

from efficientconv.config import DataConfig, RunConfig
from efficientconv.data import DataSet, load_test_data
from efficientconv.engine.checkpoint import load_newest, load_weights, weights_of
from efficientconv.engine.distributed import World
from efficientconv.engine.memory import keep_freed_memory
from efficientconv.engine.metrics import Result
from efficientconv.engine.parts import evaluate_split, network
from efficientconv.engine.precision import choose_device
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.models import image_size_of
from efficientconv.weights import load_into


def evaluate_run(
    run: str, checkpoint: str | None, data: DataConfig | None, device: str, world: World
) -> dict[str, Result]:
    """Results by the name of the weights: "" and, where the run keeps one, "ema_" for their moving average.

    Args:
        run: a run folder; its own config.yaml says which network and how its images are prepared.
        checkpoint: a .pt or .safetensors file; None: the newest of the run.
        data: another data set, whose test images are taken; None: the run's own.
        world: the processes that share the images.
    Raises:
        UserError: no run, no sound checkpoint, weights of another network, data of other classes.
    """
    folder = RunFolder(Path(run))
    config = folder.config()
    weights, origin = _weights(folder, checkpoint)
    test_data = load_test_data(config.data)
    if data is not None:
        test_data, config = _other_data(config, test_data, data)
    place = choose_device(device, world.local_rank)
    keep_freed_memory(place)
    image_size = image_size_of(config.model, test_data.image_size)
    results = {}
    for name, tensors in weights.items():
        model = network(config, test_data, place)
        load_into(model, tensors, origin)
        results[name] = evaluate_split(model, test_data.test, config, image_size, place, world)
    return results


def _weights(folder: RunFolder, checkpoint: str | None) -> tuple[dict[str, dict[str, torch.Tensor]], Path]:
    if checkpoint is not None:
        return load_weights(Path(checkpoint)), Path(checkpoint)
    found = load_newest(folder.checkpoints)
    if found is None:
        raise UserError(f"{folder.path} has no checkpoint yet; train it, or name one with checkpoint=<file>")
    path, state = found
    return weights_of(state), path


def _other_data(config: RunConfig, own: DataSet, other: DataConfig) -> tuple[DataSet, RunConfig]:
    """`other` prepared as the run's own images were: their size and normalisation belong to the weights."""
    prepared = ("image_size", "resize_size", "resize_rule", "mean", "std")
    prepare = {key: getattr(config.data, key) for key in prepared} | {"image_size": own.image_size}
    other = other.model_copy(update=prepare)
    data = load_test_data(other)
    if data.classes != own.classes:
        raise UserError(
            f"data={other.name} has other classes ({', '.join(data.classes[:3])}, ...: {data.num_classes}) than the run was "
            f"trained on ({', '.join(own.classes[:3])}, ...: {own.num_classes}); choose a set with the same classes"
        )
    return data, config.model_copy(update={"data": other})
