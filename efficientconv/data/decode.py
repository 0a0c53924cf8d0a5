"""Image files to pixels, with one line that names the file when that fails.

JPEGs go through libjpeg-turbo, bit for bit as PIL gives them and in less time; PIL judges all that is odd.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from efficientconv.data.damage import DamagedImage
from efficientconv.data.image_files import FORMATS, open_image
from efficientconv.errors import UserError

FAST_COLOURS = ("YCbCr", "Gray", "RGB")  # CMYK is PIL's: the two convert it differently
COPIED_AT_ONCE = 2**22  # pixels
JPEG_START = b"\xff\xd8\xff"


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


def rgb_pixels(content: bytes, name: str) -> np.ndarray:
    """An image file's content -> uint8 H x W x 3, as read_rgb reads it. `name` is for messages.

    Raises DamagedImage as read_rgb does: whatever libjpeg-turbo stumbles over, even where it could go on, is PIL's.
    """
    if content.startswith(JPEG_START):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
            if colours in FAST_COLOURS and height * width <= Image.MAX_IMAGE_PIXELS:
                return simplejpeg.decode_jpeg(content)
        except ValueError:
            pass
    return _copied(read_rgb(name, content))


def header_of(path: str) -> tuple[tuple[int, int], str]:
    """((width, height) in pixels, PIL's name of the colour mode); the pixels may yet be damaged."""
    with _opened(path) as image:
        return image.size, image.mode


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


def _copied(image: Image.Image) -> np.ndarray:
    """A copy, which may be written to; by rows, as numpy would copy a large image three times over."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, COPIED_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = image if rows >= image.height else image.crop((0, top, image.width, bottom))
    return pixels
