"""CIFAR-10 and CIFAR-100, read by torchvision, which downloads missing files (170 MB each) and checks their MD5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit, root_of
from efficientconv.errors import UserError

if TYPE_CHECKING:  # the import of torchvision takes as long as torch's; other data sets do without
    from torchvision.datasets import CIFAR10


@DATA_SETS.register(
    "cifar10",
    root="data/cifar10",  # holds cifar-10-batches-py
    image_size=32,  # pixels a side; another value resizes the images at loading
    crop_padding=4,  # pixels of zeros on each side before the random crop
    flip=True,
    mean=[0.4914, 0.4822, 0.4465],  # of the training set, RGB, images in 0..1
    std=[0.2470, 0.2435, 0.2616],
    val_fraction=0.02,  # 1,000 training images, watched during training
)
def cifar10(config: DataConfig) -> DataSet:
    from torchvision.datasets import CIFAR10

    return _cifar(config, CIFAR10)


@DATA_SETS.register(
    "cifar100",
    root="data/cifar100",  # holds cifar-100-python
    image_size=32,  # pixels a side; another value resizes the images at loading
    crop_padding=4,  # pixels of zeros on each side before the random crop
    flip=True,
    mean=[0.5071, 0.4866, 0.4409],  # of the training set, RGB, images in 0..1
    std=[0.2673, 0.2564, 0.2762],
    val_fraction=0.02,  # 1,000 training images, watched during training
)
def cifar100(config: DataConfig) -> DataSet:
    from torchvision.datasets import CIFAR100

    return _cifar(config, CIFAR100)


def _cifar(config: DataConfig, source: type[CIFAR10]) -> DataSet:
    """50,000 training and 10,000 test images of 32 x 32. Raises UserError if they cannot be read or downloaded."""
    root = root_of(config)
    try:
        train, test = source(root, train=True, download=True), source(root, train=False)
    except (OSError, RuntimeError) as error:  # no network, no right to write, a checksum that does not match
        raise UserError(
            f"no intact {source.__name__}: looked for '{root / source.base_folder}' and could not download it "
            f"({error}); put {source.filename} from {source.url} in '{root}' or set data.root to where it is"
        ) from None
    size = config.image_size or 32
    return DataSet(config.name, train.classes, size, _split(train).resized(size), None, _split(test).resized(size))


def _split(part: CIFAR10) -> MemorySplit:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return MemorySplit(images, torch.tensor(part.targets))
