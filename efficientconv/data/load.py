"""Loads a data set by its name: finds it, holds out a part, and decodes small images into memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from efficientconv.config import DataConfig
from efficientconv.data.damage import DamagedImage, DamageLog, no_stand_in
from efficientconv.data.dataset import DATA_SETS, DataSet, FileSplit, MemorySplit, SmallFileSplit, hold_out
from efficientconv.data.decode import whole_image
from efficientconv.data.parallel import in_parallel
from efficientconv.data.sampling import candidates
from efficientconv.progress import Progress


def find_data(config: DataConfig) -> DataSet:
    """The data set `config.name`. Nothing is held out yet, and no image file is decoded.

    Raises UserError if there is no such set, or if its files are missing or wrong.
    """
    return DATA_SETS.get(config.name)(config)


def load_data(config: DataConfig, found: DataSet | None = None) -> DataSet:
    """The data set `config.name`, with `config.val_fraction` of its training images held out as `val`.

    Damaged training images are replaced, here or by train_loader, and listed in `damage`. Raises UserError as find_data.

    Args:
        found: the result of `find_data`, if it was called before.
    """
    data = found or find_data(config)
    train, val = hold_out(data.train, config.val_fraction, data.num_classes)
    test, damage = data.test, DamageLog(len(train), config.max_damaged_fraction)
    # val and test come first: they are smaller, and a damaged image in them is an error.
    if isinstance(val, SmallFileSplit):
        val = decode_for_evaluation(val, val.size, config)
    if isinstance(test, SmallFileSplit):
        test = decode_for_evaluation(test, test.size, config)
    if isinstance(train, SmallFileSplit):
        train = decode_for_training(train, train.size, config, damage)
    return replace(data, train=train, val=val, test=test, damage=damage)


def decode_for_evaluation(split: FileSplit, size: int, config: DataConfig) -> MemorySplit:
    """All images in memory, with size x size pixels. Raises DamagedImage for the first damaged one.

    With data.image_size, images of another size are resized; without it, a UserError names the first of them.
    """

    def refuse(path: str, reason: str) -> None:
        raise DamagedImage(path, reason)

    return _decode_all(split, size, config, refuse)[0]


def decode_for_training(split: FileSplit, size: int, config: DataConfig, damage: DamageLog) -> MemorySplit:
    """Like decode_for_evaluation, but another image and its label replace a damaged image (sampling.candidates)."""
    memory, damaged = _decode_all(split, size, config, damage.add)
    for index in damaged:
        sound = next((other for other in candidates(index, len(split)) if other not in damaged), None)
        if sound is None:
            raise no_stand_in(split.paths[index], damage.reasons[split.paths[index]])
        memory.images[index], memory.labels[index] = memory.images[sound], memory.labels[sound]
    return memory


def _decode_all(
    split: FileSplit, size: int, config: DataConfig, on_damage: Callable[[str, str], None]
) -> tuple[MemorySplit, set[int]]:
    """(the images, the indices of the damaged images, which are black)."""
    images, damaged, done = torch.empty(len(split), 3, size, size, dtype=torch.uint8), set(), 0
    decode = partial(_decode_chunk, size=size, resize_others=config.image_size is not None)
    with (
        closing(in_parallel(decode, split.paths, config.workers)) as chunks,
        Progress("decoding", len(split), "images") as progress,
    ):
        for pixels, reasons in chunks:
            for offset, reason in reasons.items():
                damaged.add(done + offset)
                on_damage(split.paths[done + offset], reason)
            images[done : done + len(pixels)] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            done += len(pixels)
            progress.update(len(pixels))
    return MemorySplit(images, split.labels.clone()), damaged


def _decode_chunk(paths: list[str], size: int, resize_others: bool) -> tuple[np.ndarray, dict[int, str]]:
    """(pixels, the reason for each image that could not be read, by its place in `paths`)."""
    pixels, reasons = np.zeros((len(paths), size, size, 3), np.uint8), {}
    for place, path in enumerate(paths):
        try:
            pixels[place] = np.asarray(whole_image(path, size, resize_others))
        except DamagedImage as error:
            reasons[place] = error.reason
    return pixels, reasons
