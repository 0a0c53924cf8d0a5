"""From images to batches. `load_data` finds a data set by name, `train_loader` and `eval_loader` make batches of it.

A new data set is a file in sets/ with a function that is registered in DATA_SETS, with its settings. A set of image files is
also registered in FILE_SETS, so that scripts/verify_data.py can check the files.
"""

from __future__ import annotations

from efficientconv.data import sets  # noqa: F401  they register
from efficientconv.data.damage import DamageLog
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, DataSet, FileSplit, MemorySplit, Split
from efficientconv.data.fingerprint import Fingerprint, fingerprint_of
from efficientconv.data.inference import load_test_images
from efficientconv.data.load import find_data, load_data
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
    "Fingerprint",
    "MemorySplit",
    "PreparedSplit",
    "Shard",
    "Split",
    "TrainLoader",
    "eval_loader",
    "find_data",
    "fingerprint_of",
    "load_data",
    "load_test_images",
    "train_loader",
]
