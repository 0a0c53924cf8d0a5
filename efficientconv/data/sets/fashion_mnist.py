"""Fashion-MNIST: torchvision's, or the four IDX files of its authors as Debian's package installs them.

torchvision downloads 31 MB when they are absent. On Debian also `apt-get install dataset-fashion-mnist` and
data.root=/usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit, root_of
from efficientconv.errors import UserError

PADDING = 2  # 28 x 28 pixels become 32 x 32, which the cifar layout halves to the end
# SHA-256 of the authors' files, uncompressed: MNIST, KMNIST and others have files of the same names and shapes
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@DATA_SETS.register(
    "fashion_mnist",
    root="data/fashion_mnist",  # holds the four *-ubyte or *-ubyte.gz files, or torchvision's FashionMNIST/raw
    image_size=32,  # pixels a side; another value resizes the images at loading
    crop_padding=2,  # pixels, beside the 2 that each side is padded with already
    flip=True,  # a mirrored shirt is a shirt
    mean=[0.2190, 0.2190, 0.2190],  # of the training set with its padding, images in 0..1
    std=[0.3318, 0.3318, 0.3318],
    val_fraction=0.02,  # 1,200 training images, watched during training
)
def fashion_mnist(config: DataConfig) -> DataSet:
    """60,000 training and 10,000 test images. Raises UserError if they cannot be read or downloaded."""
    from torchvision.datasets import FashionMNIST  # here, because the import takes as long as torch's

    folder, size = _idx_folder(root_of(config)), config.image_size or 32
    train, test = (_split(folder, part).resized(size) for part in ("train", "t10k"))
    return DataSet("fashion_mnist", FashionMNIST.classes, size, train, None, test)


def _idx_folder(root: Path) -> Path:
    """`root` when it holds the files itself, else torchvision's folder in it, filled when it is empty."""
    if _find(root, "train-images-idx3-ubyte"):
        return root
    from torchvision.datasets import FashionMNIST

    try:
        return Path(FashionMNIST(root, download=True).raw_folder)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"no Fashion-MNIST: looked for train-images-idx3-ubyte(.gz) in '{root}' and could not download it "
            f"({reason}); apt-get install dataset-fashion-mnist and set data.root=/usr/share/datasets/fashion-mnist"
        ) from None


def _split(folder: Path, part: str) -> MemorySplit:
    grey = torch.from_numpy(_read_idx(folder, f"{part}-images-idx3-ubyte"))
    labels = torch.from_numpy(_read_idx(folder, f"{part}-labels-idx1-ubyte")).long()
    return MemorySplit(pad(grey[:, None], (PADDING,) * 4).expand(-1, 3, -1, -1).contiguous(), labels)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """IDX of bytes: two zeros, the type, the number of dimensions, each dimension in 4 bytes, the values."""
    path = _find(folder, name)
    if path is None:
        raise UserError(f"no '{name}' or '{name}.gz' in '{folder}': put all four files of Fashion-MNIST there")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if sha256(content).hexdigest() != CHECKSUMS[name]:
            raise ValueError("a checksum that is not Fashion-MNIST's")
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()
    except (OSError, EOFError, IndexError, ValueError, struct.error, zlib.error) as error:
        raise UserError(f"'{path}' is damaged or another set's ({error}): delete it and get it again") from None


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
