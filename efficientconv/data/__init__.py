"""Images in, batches out. `load_data` finds a data set by name, `train_loader` and `eval_loader` cut it into batches.

A new data set is a file here with a function registered in DATA_SETS, imported below.
"""

from __future__ import annotations

from dataclasses import replace

from efficientconv.config import DataConfig
from efficientconv.data import cifar, digits, fashion_mnist, folder, imagenet, synthetic  # noqa: F401  they register
from efficientconv.data.dataset import DATA_SETS, DataSet, FileSplit, MemorySplit, hold_out
from efficientconv.data.loaders import EvalLoader, TrainLoader, eval_loader, train_loader
from efficientconv.data.sampling import Shard

__all__ = [
    "DATA_SETS",
    "DataSet",
    "EvalLoader",
    "FileSplit",
    "MemorySplit",
    "Shard",
    "TrainLoader",
    "eval_loader",
    "load_data",
    "train_loader",
]


def load_data(config: DataConfig) -> DataSet:
    """The data set `config.name`, with `config.val_fraction` of its training images held out as `val`.

    Raises UserError, of one line, when there is no such set or its files are missing or amiss.
    """
    data = DATA_SETS.get(config.name)(config)
    train, val = hold_out(data.train, config.val_fraction, data.num_classes)
    return replace(data, train=train, val=val)
