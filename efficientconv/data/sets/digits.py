"""The 1,797 handwritten digits that scikit-learn carries: real images that need no download."""

from __future__ import annotations

import torch

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit, hold_out

TEST_FRACTION = 0.2  # scikit-learn has no official split; this one is the same for all runs


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
    """8 x 8 pixels of 17 greys, enlarged to 32 x 32 (or data.image_size) with the grey in all three channels."""
    from sklearn.datasets import load_digits  # here: the import takes a second that other sets need not wait

    source = load_digits()
    grey = torch.from_numpy(source.images).mul(255 / 16).round().to(torch.uint8)
    images = grey[:, None].expand(-1, 3, -1, -1).contiguous()
    size = config.image_size or 32
    whole = MemorySplit(images, torch.from_numpy(source.target).long()).resized(size)
    train, test = hold_out(whole, TEST_FRACTION, num_classes=10)
    return DataSet("digits", [str(name) for name in source.target_names], size, train, None, test)
