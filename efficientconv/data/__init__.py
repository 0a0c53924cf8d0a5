"""Images in, batches out. `load_data` finds a data set by name, `train_loader` and `eval_loader` cut it into batches.

A new data set is a file here with a function registered in DATA_SETS, imported below. One that lists image files is
also registered in FILE_SETS, so that scripts/verify_data.py can check them.
"""

from __future__ import annotations

from dataclasses import replace

from efficientconv.config import DataConfig
from efficientconv.data import (  # noqa: F401  they register
    cifar,
    cifar10_jpeg,
    digits,
    fashion_mnist,
    folder,
    imagenet,
    synthetic,
)
from efficientconv.data.damage import DamageLog
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, DataSet, FileSplit, MemorySplit, Split, hold_out
from efficientconv.data.decode import decode_for_evaluation, decode_for_training
from efficientconv.data.fingerprint import Images, fingerprint
from efficientconv.data.labelled import load_test_images
from efficientconv.data.loaders import EvalLoader, TrainLoader, eval_loader, train_loader
from efficientconv.data.prepared import PreparedSplit
from efficientconv.data.sampling import Shard

__all__ = [
    "DATA_SETS",
    "FILE_SETS",
    "DamageLog",
    "DataSet",
    "EvalLoader",
    "FileSplit",
    "Images",
    "MemorySplit",
    "PreparedSplit",
    "Shard",
    "Split",
    "TrainLoader",
    "eval_loader",
    "find_data",
    "fingerprint",
    "load_data",
    "load_test_images",
    "train_loader",
]


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
