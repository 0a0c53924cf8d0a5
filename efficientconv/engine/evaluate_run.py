"""Evaluates the weights of a run, finished or not, on its own test images or on other images of its classes."""

from __future__ import annotations

import warnings

from efficientconv.config import DataConfig, EvalConfig
from efficientconv.data import Split, load_test_images
from efficientconv.data.inference import prepared_alike
from efficientconv.data_settings import data_settings
from efficientconv.engine.device import choose_device, keep_freed_memory, set_tf32
from efficientconv.engine.distributed import World
from efficientconv.engine.metrics import Result, evaluate, evaluation_loader
from efficientconv.engine.run_folder import TEST
from efficientconv.engine.trained_run import TrainedRun, read_run
from efficientconv.errors import UserError

PREPARATION = ("image_size", "resize_size", "resize_rule", "mean", "std")  # of images; a network needs those of its training
OF_TRAINING = (
    "crop_padding", "flip", "min_crop_area", "randaugment_ops", "randaugment_magnitude", "mixup_alpha", "cutmix_alpha",
    "val_fraction", "max_damaged_fraction",
)  # fmt: skip


def evaluate_run(asked: EvalConfig, world: World) -> dict[str, Result]:
    """The results by the name of the weights: "", and "ema_" for their moving average if the run keeps one.

    Network, classes and the preparation of images are those of the run. Without `asked.data`, the images are the run's own
    test images, which give the same numbers as at its end. The processes of `world` share the images.

    Raises UserError: no run, no sound checkpoint, weights of another network, images without labels or of other classes.
    """
    trained = read_run(asked.run, asked.checkpoint)
    device = choose_device(asked.device, world.local_rank)
    keep_freed_memory(device)
    set_tf32(trained.config.trainer.tf32)
    split, data = _own_images(trained) if asked.data is None else _other_images(trained, asked.data, world)
    config = trained.config.model_copy(update={"data": data})
    loader, precision = evaluation_loader(split, config, trained.image_size, device, world), config.trainer.precision
    return {name: evaluate(trained.network(name, device), loader, precision, device, world) for name in trained.weights}


def _own_images(trained: TrainedRun) -> tuple[Split, DataConfig]:
    """The run's own test images. Raises UserError if they have changed since the run was begun."""
    config, facts = trained.config.data, trained.facts
    images = load_test_images(config, trained.classes, trained.image_size)
    now = {"data_pixels": images.pixels, "num_test": len(images.split), TEST: images.digest}
    if any(facts.get(key, value) != value for key, value in now.items()):
        raise UserError(
            f"the test images of {trained.folder.path} were others ({facts.get('num_test')}, {facts.get('data_pixels')}) "
            f"than data.root={config.root} has now ({len(images.split)}, {images.pixels}); to evaluate on these, add "
            f"data={config.name} data.root={config.root}"
        )
    return images.split, config


def _other_images(trained: TrainedRun, data: DataConfig, world: World) -> tuple[Split, DataConfig]:
    config = prepared_alike(data, trained.config.data, trained.image_size)
    if world.is_main:
        _tell_of_unused(data, config)
    images = load_test_images(config, trained.classes, trained.image_size)
    if images.passed_over and world.is_main:
        warnings.warn(str(images.passed_over), stacklevel=3)
    return images.split, config


def _tell_of_unused(data: DataConfig, used: DataConfig) -> None:
    """Warns of settings that differ from the data set's own and have no effect."""
    own = data_settings().get(data.name, {})
    for key in (*PREPARATION, *OF_TRAINING):
        given, taken = getattr(data, key), getattr(used, key)
        if given == own.get(key, DataConfig.model_fields[key].default):
            continue
        if key in OF_TRAINING:
            warnings.warn(f"data.{key}={given} has no effect: it is a setting of training", stacklevel=4)
        elif given != taken:
            warnings.warn(f"data.{key}={given} has no effect: images are prepared as the run's, {key}={taken}", stacklevel=4)
