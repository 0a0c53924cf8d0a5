"""Kernels as small framed images, and many of them as one."""

from __future__ import annotations

import matplotlib
import numpy as np

COLORS = {
    "identity": "#2f9e60", "low-pass": "#8e63b5", "high-pass": "#e69f00", "edge": "#4ba3c7", "other": "#d0d0d0",
    "dead": "#7a7a7a",
}  # fmt: skip
TILE = 30  # pixels a side: whole pixels for each entry of 2 x 2, 3 x 3 and 5 x 5
FRAME, GAP = 4, 6


def tile(kernel: np.ndarray, kind: str) -> np.ndarray:
    """A k x k kernel, scaled by its largest entry, in a frame of its kind's colour: S x S x 3, of 0 .. 1."""
    size = len(kernel)
    zoom = TILE // size
    scaled = kernel / max(np.abs(kernel).max(), np.finfo(float).tiny)
    pixels = matplotlib.colormaps["RdBu_r"](scaled.repeat(zoom, axis=0).repeat(zoom, axis=1) / 2 + 0.5)[..., :3]
    image = np.empty((TILE + 2 * FRAME, TILE + 2 * FRAME, 3))
    image[:] = matplotlib.colors.to_rgb(COLORS[kind])
    start = FRAME + (TILE - zoom * size) // 2
    image[start : start + zoom * size, start : start + zoom * size] = pixels
    return image


def mosaic(kernels: np.ndarray, kinds: np.ndarray, columns: int) -> np.ndarray:
    """n x k x k kernels row by row on white, `columns` a row: H x W x 3."""
    pitch = TILE + 2 * FRAME + GAP
    image = np.ones((-(-len(kernels) // columns) * pitch - GAP, columns * pitch - GAP, 3))
    for index, (kernel, kind) in enumerate(zip(kernels, kinds)):
        y, x = (pitch * place for place in divmod(index, columns))
        image[y : y + pitch - GAP, x : x + pitch - GAP] = tile(kernel, kind)
    return image
