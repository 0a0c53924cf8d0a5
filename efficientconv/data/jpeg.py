"""JPEG bytes to pixels by libjpeg-turbo, bit for bit as PIL gives them and in less time; PIL judges all that is odd."""

from __future__ import annotations

import numpy as np
import simplejpeg
from PIL import Image

from efficientconv.data.decode import read_rgb

FAST_COLOURS = ("YCbCr", "Gray", "RGB")  # CMYK is PIL's: the two convert it differently
COPIED_AT_ONCE = 2**22  # pixels
JPEG_START = b"\xff\xd8\xff"


def rgb_pixels(content: bytes, name: str) -> np.ndarray:
    """An image file's content -> uint8 H x W x 3, as decode.read_rgb reads it. `name` is for messages.

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


def _copied(image: Image.Image) -> np.ndarray:
    """A copy, which may be written to; by rows, as numpy would copy a large image three times over."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, COPIED_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = image if rows >= image.height else image.crop((0, top, image.width, bottom))
    return pixels
