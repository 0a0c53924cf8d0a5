"""Image files to pixels, with one line that names the file when that fails."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.datasets.folder import pil_loader
from torchvision.transforms.functional import resize
from tqdm import tqdm

from efficientconv.data.dataset import FileSplit, MemorySplit
from efficientconv.errors import UserError

CHUNK = 256  # images a task of the pool


def available_cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def read_rgb(path: str) -> Image.Image:
    """The image as torchvision's ImageFolder reads it: grey, palette and CMYK become RGB."""
    try:
        return pil_loader(path)
    except Exception as error:  # PIL's decoders raise many kinds: OSError, SyntaxError, ValueError, zlib.error, ...
        raise _unreadable(path, error) from None


def size_of(path: str) -> tuple[int, int]:
    """(width, height) in pixels from the file's header."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:
        raise _unreadable(path, error) from None


def decode_all(split: FileSplit, size: int, resize_others: bool) -> MemorySplit:
    """All images as size x size pixels in memory. Others are resized, both sides; else UserError names the first."""
    chunks = [split.paths[first : first + CHUNK] for first in range(0, len(split), CHUNK)]
    decode = partial(_decode_chunk, size=size, resize_others=resize_others)
    images, done = torch.empty(len(split), 3, size, size, dtype=torch.uint8), 0
    # Processes, as most of a small image's time goes to PIL's Python code, which threads can't run side by side.
    with (
        ProcessPoolExecutor(min(available_cores(), len(chunks))) as pool,
        tqdm(total=len(split), desc="decoding", unit=" images", disable=None, leave=False) as bar,  # on a terminal
    ):
        for pixels in pool.map(decode, chunks):
            images[done : done + len(pixels)] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            done += len(pixels)
            bar.update(len(pixels))
    return MemorySplit(images, split.labels)


def _decode_chunk(paths: list[str], size: int, resize_others: bool) -> np.ndarray:
    return np.stack([np.asarray(_sized(read_rgb(path), path, size, resize_others)) for path in paths])


def _sized(image: Image.Image, path: str, size: int, resize_others: bool) -> Image.Image:
    if image.size == (size, size):
        return image
    if resize_others:
        return resize(image, [size, size])
    width, height = image.size
    raise UserError(f"'{path}' is {width} x {height}, others are {size} x {size}: data.image_size=N resizes them all")


def _unreadable(path: str, error: Exception) -> UserError:
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "not an image" if unknown else " ".join(str(error).split()) or type(error).__name__
    return UserError(f"cannot read the image '{path}' ({reason}): replace it or delete it")
