"""The 1,797 handwritten digits of scikit-learn: real images, part of its package."""

from __future__ import annotations

import torch

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit, hold_out

TEST_FRACTION = 0.2  # scikit-learn has no official split; this split is the same for all runs


@DATA_SETS.register(
    "digits",
    image_size=32,  # pixels a side
    crop_padding=2,  # pixels; one pixel of the original is four here
    flip=False,  # a mirrored digit is another digit
    mean=[0.3047, 0.3047, 0.3047],  # of the training images, in 0..1
    std=[0.3233, 0.3233, 0.3233],
    val_fraction=0.1,  # 143 training images, watched during training
)
def digits(config: DataConfig) -> DataSet:
    """Images of 8 x 8 pixels with 17 greys, enlarged to 32 x 32 (or data.image_size). All three channels are the grey."""
    from sklearn.datasets import load_digits  # here: the import takes a second that other sets need not wait

    source = load_digits()
    grey = torch.from_numpy(source.images).mul(255 / 16).round().to(torch.uint8)
    images = grey[:, None].expand(-1, 3, -1, -1).contiguous()
    size = config.image_size or 32
    whole = MemorySplit(images, torch.from_numpy(source.target).long()).resized(size)
    train, test = hold_out(whole, TEST_FRACTION, num_classes=10)
    assert test is not None, "each digit has many images"
    return DataSet("digits", [str(name) for name in source.target_names], size, train, None, test)
