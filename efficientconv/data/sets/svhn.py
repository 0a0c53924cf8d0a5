"""SVHN, street view house numbers (cropped digits), as torchvision has it: train_32x32.mat and test_32x32.mat.

Downloaded when absent (250 MB), checked by md5 before it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit, root_of
from efficientconv.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import SVHN


@DATA_SETS.register(
    "svhn",
    root="data/svhn",  # holds the two .mat files
    image_size=32,  # pixels a side; another value resizes the images at loading
    crop_padding=2,  # pixels of zeros on each side before the random crop
    flip=False,  # a mirrored digit is another digit
    mean=[0.4377, 0.4438, 0.4728],  # of the training set as it is commonly given, RGB, images in 0..1
    std=[0.1980, 0.2010, 0.1970],
    val_fraction=0.02,  # 1,465 training images, watched during training
)
def svhn(config: DataConfig) -> DataSet:
    """73,257 training and 26,032 test images of 32 x 32; class 0 is the digit 0. Raises UserError if loading fails."""
    from torchvision.datasets import SVHN  # here, because the import takes as long as torch's

    root, size = root_of(config), config.image_size or 32
    try:
        train, test = (SVHN(root, split, download=True) for split in ("train", "test"))
    except (OSError, RuntimeError) as error:  # no network, no right to write, a checksum that does not match
        raise UserError(
            f"no intact SVHN: looked for train_32x32.mat and test_32x32.mat in '{root}' and could not download them "
            f"({error}); put them there from http://ufldl.stanford.edu/housenumbers/ or set data.root to where they are"
        ) from None
    return DataSet("svhn", [*"0123456789"], size, _split(train).resized(size), None, _split(test).resized(size))


def _split(part: SVHN) -> MemorySplit:
    return MemorySplit(torch.from_numpy(part.data).contiguous(), torch.from_numpy(part.labels))
