"""Puts names beside the points of a picture; places never change.

Names cover no points, lines or other names. A name stands nearest to its own point, or a line leads to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from efficientconv.text import printable

Place = tuple[float, float]
Array = np.ndarray
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
        taken.append(legend.get_window_extent().get_points())
    taken, names = np.array(taken), np.empty((0, 2, 2))
    points = axes.transData.transform([place for _, _, place in named])
    for number, (name, colour, place) in enumerate(named):
        text = axes.text(*place, shown(name), color=colour, fontsize=9, ha="center", va="center")
        point, others = points[number], np.delete(points, number, axis=0)
        boxes, covered = list(_boxes(point, text.get_window_extent().size)), np.concatenate([taken, names])
        free = [box for box in boxes if _inside(box, axes.bbox) and not _overlap(box, covered)]
        box = min(free or boxes[:1], key=lambda box: _misleading(box, point, others, names))
        names = np.concatenate([names, [box + [[-CLEAR], [CLEAR]]]])
        text.set_position(axes.transData.inverted().transform(box.mean(axis=0)))
        if leader := _leader(box, point):
            axes.plot(*axes.transData.inverted().transform(leader).T, color=FAINT, linewidth=0.7, zorder=2)


def shown(name: str) -> str:
    """The name as shown: a capital letter for the paper's models. `$` is escaped, because matplotlib reads formulas."""
    letter, *width = printable(name).split(" ", 1)
    return " ".join([letter.upper() if len(letter) == 1 else letter, *width]).replace("$", r"\$")


def _boxes(point: Array, size: Array) -> Iterator[Array]:
    """The possible places of a name of this size, the nearest first. A box is its lower and its upper corner."""
    for radius in RADII:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            direction = np.array([math.cos(angle), math.sin(angle)])
            centre = point + radius * direction + size / 2 * np.clip(1.5 * direction, -1, 1)
            yield np.array([centre - size / 2, centre + size / 2])


def _misleading(box: Array, point: Array, others: Array, names: Array) -> int:
    """2 if a name there seems to belong to another, nearer point; 1 if the line to it crosses a point or a name; else 0."""
    if not (leader := _leader(box, point)):
        return 2 * any(_distance(box, other) < _distance(box, point) for other in others)
    crossed = np.concatenate([names, np.stack([others, others], axis=1)])
    return int(any(_overlap(step, crossed) for step in _along(*leader)))


def _leader(box: Array, point: Array) -> list[Array]:
    """The ends of the line from a point to its name; empty if the name is so near that it needs none."""
    return [point, np.clip(point, *box)] if _distance(box, point) > NEAR else []


def _distance(box: Array, point: Array) -> float:
    return math.dist(point, np.clip(point, *box))


def _along(start: Array, end: Array) -> list[Array]:
    steps = 1 + int(math.dist(start, end) / CLEAR)
    points = (start + (end - start) * step / steps for step in range(steps + 1))
    return [np.array([point - CLEAR, point + CLEAR]) for point in points]


def _inside(box: Array, outer: Bbox) -> bool:
    return bool(np.all(box[0] >= outer.min) and np.all(box[1] <= outer.max))


def _overlap(box: Array, others: Array) -> bool:
    """Whether a box overlaps any of N others, N x 2 x 2."""
    return bool(np.any(np.all((box[0] < others[:, 1]) & (others[:, 0] < box[1]), axis=1)))
