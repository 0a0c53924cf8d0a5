"""Names beside points of a picture, where they cover neither points, lines nor each other; the same on every call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from efficientconv.text import printable

Place = tuple[float, float]
RADII, DIRECTIONS = (7, 11, 16, 24, 34, 46, 60, 80), 16  # pixels from a point to its name; and where to, from its right on
CLEAR, NEAR = 4, 16  # pixels that lines and points are kept free by; farther away, a line leads to the name
FAINT = "0.75"


def label(axes: Axes, named: Sequence[tuple[str, str, Place]], lines: Sequence[tuple[Place, Place]]) -> None:
    """Names in their colours beside their places. `lines`, from place to place, points among them, stay uncovered.

    The limits of the axes and their legend have to be there before.
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
    """The paper's models by their letter; `$` as it is: matplotlib would take what stands between two for a formula."""
    letter, *width = printable(name).split(" ", 1)
    return " ".join([letter.upper() if len(letter) == 1 else letter, *width]).replace("$", r"\$")


def _boxes(point: np.ndarray, size: np.ndarray) -> Iterator[Bbox]:
    """Where a name of that size may stand, the nearest places first."""
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
