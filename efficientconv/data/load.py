"""A data set by its name: found, a part held out, and where its images are small decoded into memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from efficientconv.config import DataConfig
from efficientconv.data.damage import DamagedImage, DamageLog, no_stand_in
from efficientconv.data.dataset import DATA_SETS, DataSet, FileSplit, MemorySplit, hold_out
from efficientconv.data.decode import whole_image
from efficientconv.data.parallel import in_parallel
from efficientconv.data.sampling import candidates


def find_data(config: DataConfig) -> DataSet:
    """The data set `config.name` as it lies there: nothing held out, and where its images are files, none decoded.

    Raises UserError, of one line, when there is no such set or its files are missing or amiss.
    """
    return DATA_SETS.get(config.name)(config)


def load_data(config: DataConfig, found: DataSet | None = None) -> DataSet:
    """The data set `config.name`, with `config.val_fraction` of its training images held out as `val`.

    Raises UserError, of one line, when there is no such set or its files are missing or amiss. Damaged images that are
    trained on are replaced, here or by train_loader, and noted in `damage`.

    Args:
        found: what `find_data` gave, where it was asked before.
    """
    data = found or find_data(config)
    train, val = hold_out(data.train, config.val_fraction, data.num_classes)
    data = replace(data, train=train, val=val, damage=DamageLog(len(train), config.max_damaged_fraction))
    if not data.decode_at_load:
        return data
    # What is evaluated comes first: it is smaller, and nothing in it may be damaged.
    val, test = None if val is None else _evaluated(val, data, config), _evaluated(data.test, data, config)
    resize_others = config.image_size is not None
    return replace(data, train=decode_for_training(train, data.image_size, resize_others, data.damage), val=val, test=test)


def _evaluated(split: FileSplit, data: DataSet, config: DataConfig) -> MemorySplit:
    return decode_for_evaluation(split, data.image_size, resize_others=config.image_size is not None)


def decode_for_evaluation(split: FileSplit, size: int, resize_others: bool) -> MemorySplit:
    """All images as size x size pixels in memory. Others are resized, both sides; else UserError names the first.

    Raises DamagedImage for the first damaged one.
    """

    def refuse(path: str, reason: str) -> None:
        raise DamagedImage(path, reason)

    return _decode_all(split, size, resize_others, refuse)[0]


def decode_for_training(split: FileSplit, size: int, resize_others: bool, damage: DamageLog) -> MemorySplit:
    """As for evaluation, but another image, with its label, stands in for a damaged one (sampling.candidates)."""
    memory, damaged = _decode_all(split, size, resize_others, damage.add)
    for index in damaged:
        sound = next((other for other in candidates(index, len(split)) if other not in damaged), None)
        if sound is None:
            raise no_stand_in(split.paths[index], damage.reasons[split.paths[index]])
        memory.images[index], memory.labels[index] = memory.images[sound], memory.labels[sound]
    return memory


def _decode_all(
    split: FileSplit, size: int, resize_others: bool, on_damage: Callable[[str, str], None]
) -> tuple[MemorySplit, set[int]]:
    """(the images, the indices of the damaged ones, which are black)."""
    images, damaged, done = torch.empty(len(split), 3, size, size, dtype=torch.uint8), set(), 0
    with (
        closing(in_parallel(partial(_decode_chunk, size=size, resize_others=resize_others), split.paths)) as chunks,
        tqdm(total=len(split), desc="decoding", unit=" images", disable=None, leave=False) as bar,  # on a terminal
    ):
        for pixels, reasons in chunks:
            for offset, reason in reasons.items():
                damaged.add(done + offset)
                on_damage(split.paths[done + offset], reason)
            images[done : done + len(pixels)] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            done += len(pixels)
            bar.update(len(pixels))
    return MemorySplit(images, split.labels.clone()), damaged


def _decode_chunk(paths: list[str], size: int, resize_others: bool) -> tuple[np.ndarray, dict[int, str]]:
    """(pixels, why images could not be read by their place in `paths`)."""
    pixels, reasons = np.zeros((len(paths), size, size, 3), np.uint8), {}
    for place, path in enumerate(paths):
        try:
            pixels[place] = whole_image(path, size, resize_others)
        except DamagedImage as error:
            reasons[place] = error.reason
    return pixels, reasons
