"""Image files to pixels, with one line that names the file when that fails."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from efficientconv.data.damage import DamagedImage, DamageLog, no_stand_in
from efficientconv.data.dataset import FileSplit, MemorySplit
from efficientconv.data.image_files import FORMATS, open_image
from efficientconv.data.parallel import in_parallel
from efficientconv.data.sampling import candidates
from efficientconv.errors import UserError


def read_rgb(path: str, content: bytes | None = None) -> Image.Image:
    """The image as torchvision's ImageFolder reads it: grey, palette and CMYK become RGB, alpha is left out.

    Unlike there, 16-bit greys keep their high byte, as 16-bit colours do; PIL would make nearly all of them white.
    `content` is what the file holds, where that was read already.
    Raises DamagedImage for what cannot be decoded to its end, and for more than 179 million pixels (PIL's limit).
    """
    with _opened(path, content) as image:
        image.load()
        if image.mode == "RGB":
            return image  # convert would copy it: 400 MB for 12000 x 9000 pixels
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError("32-bit greys, whose range the file does not say: save it with 8 or 16 bits")
        return image.convert("RGB")


def header_of(path: str) -> tuple[tuple[int, int], str]:
    """((width, height) in pixels, PIL's name of the colour mode); the pixels may yet be damaged."""
    with _opened(path) as image:
        return image.size, image.mode


def decode_for_evaluation(split: FileSplit, size: int, resize_others: bool) -> MemorySplit:
    """All images as size x size pixels in memory. Others are resized, both sides; else UserError names the first.

    Raises DamagedImage for the first damaged one.
    """

    def refuse(path: str, reason: str) -> None:
        raise DamagedImage(path, reason)

    return _decode_all(split, size, resize_others, refuse)[0]


def decode_for_training(split: FileSplit, size: int, resize_others: bool, damage: DamageLog) -> MemorySplit:
    """As for evaluation, but another image, with its label, stands in for a damaged one (sampling.candidates)."""
    memory, damaged = _decode_all(split, size, resize_others, damage.add)
    for index in damaged:
        sound = next((other for other in candidates(index, len(split)) if other not in damaged), None)
        if sound is None:
            raise no_stand_in(split.paths[index], damage.reasons[split.paths[index]])
        memory.images[index], memory.labels[index] = memory.images[sound], memory.labels[sound]
    return memory


def _decode_all(
    split: FileSplit, size: int, resize_others: bool, on_damage: Callable[[str, str], None]
) -> tuple[MemorySplit, set[int]]:
    """(the images, the indices of the damaged ones, which are black)."""
    images, damaged, done = torch.empty(len(split), 3, size, size, dtype=torch.uint8), set(), 0
    with (
        closing(in_parallel(partial(_decode_chunk, size=size, resize_others=resize_others), split.paths)) as chunks,
        tqdm(total=len(split), desc="decoding", unit=" images", disable=None, leave=False) as bar,  # on a terminal
    ):
        for pixels, reasons in chunks:
            for offset, reason in reasons.items():
                damaged.add(done + offset)
                on_damage(split.paths[done + offset], reason)
            images[done : done + len(pixels)] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            done += len(pixels)
            bar.update(len(pixels))
    return MemorySplit(images, split.labels.clone()), damaged


def _decode_chunk(paths: list[str], size: int, resize_others: bool) -> tuple[np.ndarray, dict[int, str]]:
    """(pixels, why images could not be read by their place in `paths`)."""
    pixels, reasons = np.zeros((len(paths), size, size, 3), np.uint8), {}
    for place, path in enumerate(paths):
        try:
            pixels[place] = whole_image(path, size, resize_others)
        except DamagedImage as error:
            reasons[place] = error.reason
    return pixels, reasons


def whole_image(path: str, size: int, resize_others: bool) -> Image.Image:
    """size x size pixels; others are resized, both sides, or refused. Raises DamagedImage, UserError."""
    image = read_rgb(path)
    if image.size == (size, size):
        return image
    if resize_others:
        from torchvision.transforms.functional import resize  # here: it takes as long as torch

        return resize(image, [size, size])
    width, height = image.size
    raise UserError(f"'{path}' is {width} x {height}, others are {size} x {size}: data.image_size=N resizes them all")


@contextmanager
def _opened(path: str, content: bytes | None = None) -> Iterator[Image.Image]:
    """The image opened; whatever fails until it is closed makes it a DamagedImage."""
    try:
        # PIL warns of odd metadata, of palettes with transparency and of 90 million pixels: all are read all the same.
        with warnings.catch_warnings(), open_image(path) if content is None else io.BytesIO(content) as file:
            warnings.simplefilter("ignore")
            yield Image.open(file, formats=tuple(FORMATS))
    except Exception as error:  # PIL's decoders raise many kinds: OSError, SyntaxError, ValueError, zlib.error, ...
        size = os.path.getsize(path) if content is None and os.path.exists(path) else len(content or b"")
        raise DamagedImage(path, _reason(error, size)) from None


def _reason(error: Exception, size_bytes: int) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image" if size_bytes else "an empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the path, which str(error) has
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
