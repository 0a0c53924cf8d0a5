"""Decodes image files to pixels. An error names the file in one line.

libjpeg-turbo decodes JPEGs, faster than PIL and to the same bits. PIL decodes all other files, and every unusual JPEG.
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

FAST_COLOURS = ("YCbCr", "Gray", "RGB")  # PIL decodes CMYK, because the two libraries convert it differently
COPIED_AT_ONCE = 2**22  # pixels
JPEG_START = b"\xff\xd8\xff"


def read_rgb(path: str, content: bytes | None = None) -> Image.Image:
    """The image as torchvision's ImageFolder reads it: grey, palette and CMYK become RGB, alpha is left out.

    One difference: 16-bit greys keep their high byte, as 16-bit colours do. PIL would make nearly all of them white.
    `content` is the content of the file, if it was read before. Raises DamagedImage if the image cannot be decoded to its
    end, or has more than 179 million pixels (PIL's limit).
    """
    with _opened(path, content) as image:
        image.load()
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, as read_rgb gives it. Raises UserError for greys of 32 bits."""
    if image.mode == "RGB":
        return image  # convert would copy it: 400 MB for 12000 x 9000 pixels
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UserError("32-bit greys, whose range the file does not say: save it with 8 or 16 bits")
    return image.convert("RGB")


def rgb_pixels(content: bytes, name: str) -> np.ndarray:
    """Content of an image file -> uint8 H x W x 3, with the pixels of read_rgb. `name` is for messages.

    Raises DamagedImage as read_rgb does: PIL decodes every file of which libjpeg-turbo reports an error or a warning.
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
    """((width, height) in pixels, PIL's name of the colour mode). Reads the header only: the pixels may be damaged."""
    with _opened(path) as image:
        return image.size, image.mode


def whole_image(path: str, size: int, resize_others: bool) -> Image.Image:
    """The image with size x size pixels. An image of another size is resized, or refused. Raises DamagedImage, UserError."""
    image = read_rgb(path)
    if image.size == (size, size):
        return image
    if resize_others:
        from torchvision.transforms.functional import resize  # imported here: the import takes as long as torch's

        return resize(image, [size, size])
    width, height = image.size
    raise UserError(f"'{path}' is {width} x {height}, others are {size} x {size}: data.image_size=N resizes them all")


@contextmanager
def _opened(path: str, content: bytes | None = None) -> Iterator[Image.Image]:
    """The opened image. Every error inside the block becomes a DamagedImage."""
    try:
        # PIL warns of odd metadata, palettes with transparency and 90 million pixels, but reads such images.
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
        return error.strerror  # str(error) would repeat the path
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _copied(image: Image.Image) -> np.ndarray:
    """A writable copy of the pixels, made by groups of rows: numpy alone would copy a large image three times."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, COPIED_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image if rows >= image.height else image.crop((0, top, image.width, bottom)))
    return pixels
