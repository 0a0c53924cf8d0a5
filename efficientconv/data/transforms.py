"""Makes the frames of a batch: uint8, of the same size for all images, so that the device can crop and flip the batch.

If all images are resized to squares, the frame is the whole image. Otherwise (images of several shapes, random resized
crops, RandAugment) the frame is a crop of the final size, and the device only flips it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from efficientconv.config import DataConfig
from efficientconv.data.damage import Damaged, DamagedImage, no_stand_in
from efficientconv.data.dataset import FileSplit
from efficientconv.data.pictures import Pictures
from efficientconv.data.prepared import PreparedSplit
from efficientconv.data.resize import Resize, resized
from efficientconv.data.sampling import Task, candidates, image_generator
from efficientconv.errors import UserError

if TYPE_CHECKING:  # to import torchvision takes as long as torch
    from torchvision.transforms.v2 import RandAugment

ASPECTS = (3 / 4, 4 / 3)  # width / height of a random resized crop, as in torchvision
ATTEMPTS = 10  # tries to find a crop that fits

Images = FileSplit | PreparedSplit | Pictures


class EvalTransform:
    """The whole image, or its centre."""

    def __init__(self, images: Images, resize: Resize, image_size: int):
        self.images, self.resize, self.image_size = images, resize, image_size
        self.size = resize.fixed_size or image_size

    def fill(self, target: np.ndarray, task: Task) -> tuple[np.ndarray, Damaged]:
        """Writes the frames to `target`, uint8 B x size x size x 3. Returns the labels, int64 B, and the damaged images.

        A damaged image becomes black; the loader decides what happens then. Raises UserError as `frame` does.
        """
        damaged: Damaged = {}
        for place, index in enumerate(task.indices.tolist()):
            try:
                target[place] = self.frame(index)
            except DamagedImage as error:
                target[place], damaged[error.path] = 0, error.reason
        return self.images.labels.numpy()[task.indices], damaged

    def frame(self, index: int) -> np.ndarray:
        """uint8 size x size x 3. Raises DamagedImage; UserError for an image smaller than `image_size`."""
        pixels = self.resize.apply(self.images.pixels(index))
        if pixels.shape[0] == pixels.shape[1] == self.size:
            return pixels
        _require_size(pixels, self.image_size, self.images.name(index))
        top, left = (round((side - self.image_size) / 2) for side in pixels.shape[:2])
        return _window(pixels, top, left, self.image_size)


class SmallTransform(EvalTransform):
    """The whole image, prepared as small images are for memory (load.py), for sets that are too large for memory."""

    def __init__(self, images: Images, image_size: int):
        super().__init__(images, Resize(image_size, "both"), image_size)

    def frame(self, index: int) -> np.ndarray:
        """uint8 size x size x 3. Raises DamagedImage."""
        from torchvision.transforms.functional import resize  # imported here: the import takes as long as torch's

        return np.asarray(resize(Image.fromarray(self.images.pixels(index)), [self.size, self.size]))


class TrainTransform:
    """The whole image, or a random crop by data.min_crop_area, data.crop_padding and data.randaugment_*."""

    def __init__(self, images: Images, resize: Resize, image_size: int, config: DataConfig, seed: int):
        self.images, self.resize, self.image_size, self.seed = images, resize, image_size, seed
        self.min_crop_area = config.min_crop_area
        self.randaugment = _randaugment(config)
        whole_size = resize.fixed_size if self.min_crop_area is None and self.randaugment is None else None
        self.whole = whole_size is not None
        self.size = whole_size or image_size
        self.padding_of_device, self.padding = (config.crop_padding, 0) if self.whole else (0, config.crop_padding)

    def fill(self, target: np.ndarray, task: Task) -> tuple[np.ndarray, Damaged]:
        """As of EvalTransform, but another image, with its own label, replaces a damaged image and gets its augmentation."""
        sound = task.indices.copy()
        damaged: Damaged = {}
        for place, index in enumerate(task.indices.tolist()):
            pixels, sound[place] = self._first_sound(index, damaged)
            target[place] = self.frame(pixels, index, task.numbers[place], task.epoch)  # type: ignore[index]  # of training
        return self.images.labels.numpy()[sound], damaged

    def _first_sound(self, index: int, damaged: Damaged) -> tuple[np.ndarray, int]:
        """The pixels and the index of image `index`, or of the image that replaces it. Adds damaged images to `damaged`."""
        for candidate in candidates(index, len(self.images)):
            try:
                return self.pixels(candidate), candidate
            except DamagedImage as error:
                damaged[error.path] = error.reason
        raise no_stand_in(*next(iter(damaged.items())))

    def pixels(self, index: int) -> np.ndarray:
        """The pixels that `frame` crops. Raises DamagedImage."""
        pixels = self.images.pixels(index)
        return self.resize.apply(pixels) if self.min_crop_area is None else pixels

    def frame(self, pixels: np.ndarray, index: int, numbers: np.ndarray, epoch: int) -> np.ndarray:
        """uint8 size x size x 3: a pure function of the arguments. Raises UserError for an image that is too small.

        Args:
            pixels: of image `index`, or of the image that replaces it.
            numbers: 3 in [0, 1). The first two choose the crop; resized crops draw their own numbers.
        """
        if self.whole:
            return pixels
        if self.min_crop_area is None and self.randaugment is None:
            return self._cropped(pixels, index, numbers)
        rng = image_generator(self.seed, epoch, index)
        if self.min_crop_area is None:
            pixels = self._cropped(pixels, index, numbers)
        else:
            pixels = _resized_crop(pixels, self.min_crop_area, self.image_size, rng)
        return pixels if self.randaugment is None else _augmented(pixels, self.randaugment, int(rng.integers(2**63)))

    def _cropped(self, pixels: np.ndarray, index: int, numbers: np.ndarray) -> np.ndarray:
        _require_size(pixels, self.image_size, self.images.name(index))
        if self.padding:
            pixels = np.pad(pixels, ((self.padding,) * 2, (self.padding,) * 2, (0, 0)))
        height, width, _ = pixels.shape
        top, left = (int(n * (side - self.image_size + 1)) for n, side in zip(numbers[:2], (height, width)))
        return _window(pixels, top, left, self.image_size)


Transform = TrainTransform | EvalTransform


def _resized_crop(pixels: np.ndarray, min_area: float, size: int, rng: np.random.Generator) -> np.ndarray:
    rows, columns, _ = pixels.shape
    top, left, height, width = random_box(rows, columns, min_area, rng)
    return resized(np.ascontiguousarray(pixels[top : top + height, left : left + width]), size, size)


def random_box(height: int, width: int, min_area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) as torchvision's RandomResizedCrop draws it, of min_area to all of the image."""
    for _ in range(ATTEMPTS):
        area = height * width * rng.uniform(min_area, 1)
        aspect = math.exp(rng.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, round(height * ASPECTS[1]))  # the largest central box of an allowed aspect
    h = min(height, round(width / ASPECTS[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def _randaugment(config: DataConfig) -> RandAugment | None:
    if not config.randaugment_ops:
        return None
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import RandAugment

    return RandAugment(config.randaugment_ops, config.randaugment_magnitude, interpolation=InterpolationMode.BILINEAR)


def _augmented(pixels: np.ndarray, randaugment: RandAugment, seed: int) -> np.ndarray:
    """torchvision draws from torch's global random generator, whose state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return np.array(randaugment(Image.fromarray(pixels)))


def _window(pixels: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    return pixels[top : top + size, left : left + size]


def _require_size(pixels: np.ndarray, size: int, name: str) -> None:
    height, width, _ = pixels.shape
    if min(height, width) < size:
        raise UserError(
            f"'{name}' is {width} x {height}, too small for crops of {size}: set data.resize_size={size} or more"
        )
