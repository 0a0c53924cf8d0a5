"""Puts names beside the points of a picture. Names cover no points, lines or other names; places never change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from efficientconv.text import printable

Place = tuple[float, float]
RADII, DIRECTIONS = (7, 11, 16, 24, 34, 46, 60, 80), 16  # pixels from a point to its name; number of directions
CLEAR, NEAR = 4, 16  # pixels that stay free around lines and points; a line leads to a name farther away than NEAR
FAINT = "0.75"


def label(axes: Axes, named: Sequence[tuple[str, str, Place]], lines: Sequence[tuple[Place, Place]]) -> None:
    """Writes names in their colours beside their places. Names do not cover `lines`; a point is a line of no length.

    Set the limits of the axes and the legend before.
    """
    axes.figure.draw_without_rendering()
    taken = [box for line in lines for box in _along(*axes.transData.transform(line))]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent())
    for name, colour, place in named:
        text = axes.text(*place, shown(name), color=colour, fontsize=9, ha="center", va="center")
        point, size = axes.transData.transform(place), text.get_window_extent().size
        free = (box for box in _boxes(point, size) if _inside(box, axes.bbox) and not any(map(box.overlaps, taken)))
        box = next(free, next(_boxes(point, size)))
        taken.append(box)
        text.set_position(axes.transData.inverted().transform((box.min + box.max) / 2))
        end = np.clip(point, box.min, box.max)
        if math.dist(point, end) > NEAR:
            axes.plot(*axes.transData.inverted().transform([point, end]).T, color=FAINT, linewidth=0.7, zorder=2)


def shown(name: str) -> str:
    """The name as shown: a capital letter for the paper's models. `$` is escaped, because matplotlib reads formulas."""
    letter, *width = printable(name).split(" ", 1)
    return " ".join([letter.upper() if len(letter) == 1 else letter, *width]).replace("$", r"\$")


def _boxes(point: np.ndarray, size: np.ndarray) -> Iterator[Bbox]:
    """The possible places of a name of this size, the nearest first."""
    for radius in RADII:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            direction = np.array([math.cos(angle), math.sin(angle)])
            centre = point + radius * direction + size / 2 * np.clip(1.5 * direction, -1, 1)
            yield Bbox([centre - size / 2, centre + size / 2])


def _along(start: np.ndarray, end: np.ndarray) -> list[Bbox]:
    steps = 1 + int(math.dist(start, end) / CLEAR)
    points = (start + (end - start) * step / steps for step in range(steps + 1))
    return [Bbox([point - CLEAR, point + CLEAR]) for point in points]


def _inside(box: Bbox, outer: Bbox) -> bool:
    return bool(np.all(box.min >= outer.min) and np.all(box.max <= outer.max))
